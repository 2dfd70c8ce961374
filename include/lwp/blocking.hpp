// SPDX-License-Identifier: BSD-2-Clause
//
// System calls that block the kernel thread, made by an LWP itself: a read(2) of the C library, flock(2), getaddrinfo(3), a std::mutex that a
// kernel thread of the application holds.
//
// Inside lwp::blocking() such a call keeps nobody waiting: a substitute vCPU, with a kernel thread of its own, runs the other LWPs meanwhile, also
// those that are bound to the caller's vCPU.  An LWP that does not say so is found out by the runtime's monitor, which looks every half millisecond to
// ten; to say so is quicker, and costs about a tenth of a microsecond if nobody waits.  LWP_BLOCKING=off in the environment switches the
// monitor's search off, LWP_DEBUG=blocking has it name the LWPs that it finds on standard error.  Both are counted in lwp::runtime::stats().
//
// What blocks only the LWP needs none of this: everything else in this library, <lwp/io.h> above all.
#pragma once

#include <lwp/lwp.h>

#include <functional>
#include <utility>

namespace lwp {

/// Calls fn() in the calling LWP, on its kernel thread, and lets others run on its vCPU meanwhile.  Returns what fn returns; exceptions pass.
/// May be called by any LWP and kernel thread (one of the application's own just calls fn), and inside itself.  Never blocks by itself.
/// Until fn returns the LWP stays on its kernel thread, and is not suspended, unless fn makes a call of this library that blocks the LWP: after that it is an LWP
/// like others again, and may be on another kernel thread.  A suspend takes effect when fn returns.  If 256 vCPUs are blocked already, fn is called
/// all the same, and the LWPs of this vCPU wait for it, or are taken by others that may run them.
template <class Fn>
decltype(auto) blocking(Fn &&fn) {
	class region {
	public:
		region() noexcept { lwp_blocking_enter(); }
		~region() { lwp_blocking_leave(); }
		region(const region &) = delete;
		region &operator=(const region &) = delete;
	};
	const region here;
	return std::invoke(std::forward<Fn>(fn));
}

}  // namespace lwp
