// SPDX-License-Identifier: BSD-2-Clause
//
// What is pending: a number of things that are still to be done, and who waits until none is.  A future's result is one such thing, a scope has one
// for each child.
//
// Done or asked about without a waiter: one atomic access.  Whoever does the last thing while somebody waits does it under the waiters' lock.  The
// one that finds none pending may destroy the object at once: a plain 0 says that nobody touches it any more; 0 with `waited` says that the
// one who did the last may still be busy under the lock, so take that once and then it is over.
//
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kpending {
	static constexpr std::uint64_t waited = 1;  // somebody sleeps or did: set under the waiters' lock, cleared when none is pending
	static constexpr std::uint64_t one = 2;

	atomic<std::uint64_t> pd_word{0};  // a: how many are pending, times `one`, and the flag
	waiters pd_waiters;                // waiters_lock()
};

extern const syncobj pending_syncobj;

/// By whoever keeps the number above 0 meanwhile, or by the only one who waits.
inline void pending_add(kpending *p, std::uint64_t count) noexcept {
	p->pd_word.fetch_add(count * kpending::one, std::memory_order_relaxed);  // relaxed: no news in it
}

/// One less.  Wakes all waiters if it was the last; then the object may be gone on return.
void pending_done(kpending *, vcpu_t *me) noexcept;

/// Whether none is pending: then all that was done before each pending_done() is seen, and the object may be destroyed.
[[nodiscard]] bool pending_none(kpending *, vcpu_t *me) noexcept;

/// 0 none is pending | ETIMEDOUT | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int pending_wait(kpending *, lwp_t *l, const char *wmesg, nanotime deadline = never) noexcept;

}  // namespace lwp::kern
