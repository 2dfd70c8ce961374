// SPDX-License-Identifier: BSD-2-Clause
//
// The world stopped by one LWP: what a garbage collector, a profiler or a debugger needs.  See proc.h for the proc stopped as a whole.
#pragma once

#include <lwp/lwp.h>
#include <lwp/proc.h>

#include <chrono>
#include <string>
#include <vector>

namespace lwp {

/// Every LWP, by rising id: lwp_proc_list().  Throws std::bad_alloc.
LWP_API std::vector<kinfo_lwp> every_lwp();

/// One LWP of a stopped world.
struct stopped_lwp {
	lwpid_t lid;
	std::string name;
	/// NetBSD's name of its state: "LSSTOP", "LSSUSPENDED", "LSONPROC" the caller; "LSSLEEP" one that sleeps and is not woken before the world goes on.
	const char *state;
	/// Its whole stack, lowest byte and one beyond the highest.
	const void *stack_low;
	const void *stack_high;
	/// What it keeps there is in [sp, stack_high): its frames, and above them nothing; its saved registers are in it too.  At most lower than need be.
	/// Of the caller: about where it called lwps().
	const void *sp;
};

/// While it lives the calling LWP runs alone: all others are off their vCPUs and stand still, in their own code or its last call of the library, not
/// inside malloc or any lock of the C library (one that computes: <lwp/preempt.hpp>).  Sleeps end meanwhile and deadlines pass; who is woken so runs when the world goes on.  LWPs made
/// meanwhile are born stopped.
///
/// The caller must not wait for another LWP: it would wait for ever.  May be nested.  Two that stop the world at once take turns.
///
/// Kernel threads of the application that have called the library stop at their next call: the constructor waits for them.
/// Kernel threads that have not are not part of this world.
class LWP_API stop_the_world {
public:
	/// Blocks until everybody stands still.
	stop_the_world();
	/// The same for at most `limit`: then nobody is stopped and stopped() is false.
	explicit stop_the_world(std::chrono::nanoseconds limit);
	~stop_the_world();
	stop_the_world(const stop_the_world &) = delete;
	stop_the_world &operator=(const stop_the_world &) = delete;

	[[nodiscard]] bool stopped() const noexcept { return stopped_; }
	/// Every LWP, the caller too, in no order.  Throws std::bad_alloc, or std::system_error: EPERM the world is not stopped.
	[[nodiscard]] std::vector<stopped_lwp> lwps() const;

private:
	bool stopped_ = false;
};

}  // namespace lwp
