// SPDX-License-Identifier: BSD-2-Clause
//
// The big lock: for code that was written for threads that take turns.  NetBSD's KERNEL_LOCK.
//
//     lwp::thread old({.mp = lwp::mp_safety::big_lock}, run_the_old_code);
//
// Of the LWPs made so at most one runs at a time, and others of them get in only where it blocks, yields or ends: as with threads of one kernel thread.
// LWPs that they make are so, too, unless they say otherwise.  All other LWPs run beside them; to meet them they take the lock:
//
//     std::lock_guard turn(lwp::the_big_lock);
#pragma once

#include <lwp/lwp.h>

namespace lwp {

/// BasicLockable and Lockable, recursive.  It is one lock, whatever object names it.  Unlike a mutex it is let go of while its LWP sleeps: what it
/// covers may have changed after every call that can block.
class big_lock {
public:
	/// Blocks until the caller has it.
	void lock() const noexcept { lwp_big_lock_enter(); }
	/// Never blocks; false if another has it.
	[[nodiscard]] bool try_lock() const noexcept { return lwp_big_lock_try() == 0; }
	/// One lock() less; with the last others may have it.  By one that has not got it: aborts with a message.
	void unlock() const noexcept { lwp_big_lock_exit(); }
};

/// A name for it.
inline constexpr big_lock the_big_lock;

}  // namespace lwp
