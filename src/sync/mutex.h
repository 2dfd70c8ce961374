// SPDX-License-Identifier: BSD-2-Clause
//
// The mutex: one word that names its owner, and who waits for it.
//
// Free or taken without a wait: one compare-and-swap each way.  Who finds it taken spins while the owner runs on another vCPU, then sleeps
// among the waiters.  An unlock with waiters wakes the best of them, which must still win the word: who comes by just then may be
// first, so a mutex that is busy all the time does not pay a switch for each turn.  But a waiter that lost that race once stands in front and is
// handed the mutex by the next unlock, so nobody is passed over for ever.
//
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kmutex {
	static constexpr std::uintptr_t waited = 1;   // somebody sleeps: unlock takes the long way
	static constexpr std::uintptr_t starved = 2;  // the first of them was woken and lost: unlock hands over

	atomic<std::uintptr_t> mtx_owner{0};  // a: the owner's lwp_t, and the flags above, which change under the waiters' lock
	waiters mtx_waiters;                  // waiters_lock()
};

extern const syncobj mutex_syncobj;

/// 0 | ETIMEDOUT | EDEADLK the caller has it | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int mutex_lock_slow(kmutex *, lwp_t *l, nanotime deadline) noexcept;
void mutex_unlock_slow(kmutex *, lwp_t *l) noexcept;

inline lwp_t *mutex_owner(const kmutex *m) noexcept {
	// relaxed: exact for the owner itself, a hint for others; LWPs are type-stable
	return reinterpret_cast<lwp_t *>(m->mtx_owner.load(std::memory_order_relaxed) & ~(kmutex::waited | kmutex::starved));
}

LWP_ALWAYS_INLINE bool mutex_trylock(kmutex *m, lwp_t *l) noexcept {
	std::uintptr_t word = 0;
	// acquire: pairs with the release in mutex_unlock()
	while (!m->mtx_owner.compare_exchange_weak(
	    word, word | reinterpret_cast<std::uintptr_t>(l), std::memory_order_acquire, std::memory_order_relaxed)) {
		if ((word & ~kmutex::waited) != 0) {
			return false;
		}
	}
	return true;
}

/// The short way of a lock: free, and nobody waits.
LWP_ALWAYS_INLINE bool mutex_take(kmutex *m, lwp_t *l) noexcept {
	std::uintptr_t word = 0;
	return m->mtx_owner.compare_exchange_strong(word, reinterpret_cast<std::uintptr_t>(l),
	    std::memory_order_acquire,  // pairs with the release in mutex_unlock()
	    std::memory_order_relaxed);
}

LWP_ALWAYS_INLINE void mutex_unlock(kmutex *m, lwp_t *l) noexcept {
	auto word = reinterpret_cast<std::uintptr_t>(l);
	if (LWP_UNLIKELY(!m->mtx_owner.compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed))) {
		mutex_unlock_slow(m, l);
	}
}

}  // namespace lwp::kern
