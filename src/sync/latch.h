// SPDX-License-Identifier: BSD-2-Clause
//
// The countdown: a number that others count down, and who waits until it is 0.  A latch is one, a wait group is one that can go up again.
//
// Counted down without a waiter, or before the last: one compare-and-swap.  Whoever does the last while somebody waits does it under the
// waiters' lock.  A waiter that slept is told that the number was 0 and does not look again: it may be counting anew.
//
// Whoever sees 0 may destroy it: the one that counted the last touches nothing after that but waiters that have not returned yet.
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kcountdown {
	static constexpr std::uint64_t waited = 1;  // somebody sleeps or did: set under the waiters' lock, gone with the last count
	static constexpr std::uint64_t one = 2;
	static constexpr std::uint64_t count_most = UINT64_MAX / 4;

	atomic<std::uint64_t> cd_word;  // a: the number, times `one`, and the flag
	waiters cd_waiters;             // waiters_lock()
};

extern const syncobj countdown_syncobj;

inline std::uint64_t countdown_number(const kcountdown *c) noexcept {
	return c->cd_word.load(std::memory_order_acquire) /
	    kcountdown::one;  // pairs with the releases in countdown_down(): what was done before
}

/// False, and nothing is done: it would be beyond count_most.
[[nodiscard]] bool countdown_up(kcountdown *, std::uint64_t n) noexcept;
/// False, and nothing is done: there are fewer.  At 0 it may be gone on return.
[[nodiscard]] bool countdown_down(kcountdown *, std::uint64_t n, vcpu_t *me) noexcept;
/// 0 it is 0, or was | ETIMEDOUT | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int countdown_wait(kcountdown *, lwp_t *l, const char *wmesg, nanotime deadline) noexcept;

}  // namespace lwp::kern
