// SPDX-License-Identifier: BSD-2-Clause
//
// Once: of all who come one runs the function, the others wait for its end; if it fails, the next one tries.
//
// The last access to the object by who ran the function is the one that says it is done, unless somebody waits: then the first waiters are
// woken, and each wakes some more on its way out, so no lock is held for long however many there are.
// Whoever waits lends its priority to the one that runs the function (sync/turnstile.h).
//
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct konce {
	static constexpr std::uintptr_t waited = 1;  // somebody sleeps
	static constexpr std::uintptr_t done = 2;    // for good; include/lwp/mutex.hpp tests it

	atomic<std::uintptr_t> on_word{0};  // a: the LWP that runs the function, or 0, and the flags
	waiters on_waiters;                 // waiters_lock()
};

extern const syncobj once_syncobj;

/// 0 the caller runs the function, and then calls once_end() | EALREADY it is done | EDEADLK the caller runs it already | ERESTART pass the
/// boundary and call again
[[nodiscard]] int once_begin(konce *, lwp_t *l) noexcept;
void once_end(konce *, lwp_t *l, bool done) noexcept;

}  // namespace lwp::kern
