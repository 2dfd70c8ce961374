// SPDX-License-Identifier: BSD-2-Clause
//
// The semaphore: a number of units, and who waits for one.
//
// A unit taken or released without a waiter: one compare-and-swap.  While anybody waits the number is 0: a release hands its units to the best
// waiters and only the rest is counted, so nobody who comes by is before them.
//
// A unit that can be seen may be the last thing its releaser needs the semaphore for: it is not touched any more after that.
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct ksemaphore {
	static constexpr std::uint64_t waited = 1;  // somebody sleeps or did; then there are no units.  Changed under the waiters' lock only.
	static constexpr std::uint64_t one = 2;
	static constexpr std::uint64_t units_most = UINT64_MAX / 4;

	atomic<std::uint64_t> sem_word;  // a: how many units, times `one`, or the flag.  With the flag nobody changes it without the lock.
	waiters sem_waiters;             // waiters_lock()
};

extern const syncobj semaphore_syncobj;

inline bool semaphore_try(ksemaphore *s) noexcept {
	std::uint64_t word = s->sem_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while (word >= ksemaphore::one) {
		// acquire: pairs with the release in semaphore_release()
		if (s->sem_word.compare_exchange_weak(word, word - ksemaphore::one, std::memory_order_acquire, std::memory_order_relaxed)) {
			return true;
		}
	}
	return false;
}

/// 0 | ETIMEDOUT | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int semaphore_acquire_slow(ksemaphore *, lwp_t *l, nanotime deadline) noexcept;
/// The semaphore may be gone on return.
void semaphore_release(ksemaphore *, std::uint64_t units, vcpu_t *me) noexcept;

}  // namespace lwp::kern
