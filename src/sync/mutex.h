// SPDX-License-Identifier: BSD-2-Clause
//
// The mutex: one word that names its owner, and who waits for it.
//
// Free or taken without a wait: one compare-and-swap each way.  Who finds it taken spins while the owner runs on another vCPU, then sleeps
// among the waiters.  An unlock wakes the best of them and frees the word: who comes by before that one looks may be first, so a mutex that is
// busy all the time does not pay a switch for each turn, and as long as one is awake and has not looked no other is woken.  A waiter that
// looked and lost stands in front of its equals, and the next unlock hands the mutex over: so nobody is passed over for ever.
// A waiter that is better than the owner lends it its priority (sync/turnstile.h); then, too, the next unlock hands over.
//
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kmutex {
	static constexpr std::uintptr_t waited = 1;   // somebody sleeps: an unlock sees to it
	static constexpr std::uintptr_t woken = 2;    // one was woken and has not looked yet: it will, whatever happens to it
	static constexpr std::uintptr_t starved = 4;  // one was woken, looked and lost, or one lends to the owner: the next unlock hands over
	static constexpr std::uintptr_t flags = waited | woken | starved;

	atomic<std::uintptr_t> mtx_owner{
	    0};                         // a: the owner's lwp_t and the flags, which are set and cleared under the waiters' lock or by the owner
	waiters mtx_waiters;            // waiters_lock()
	pri_t mtx_wokenpri;             // waiters_lock(): of the one that was woken
	atomic<bool> mtx_known{false};  // a: the checker of lock orders is to be told of its end (sync/lockorder.h); debug builds
};

extern const syncobj mutex_syncobj;

/// 0 | ETIMEDOUT | EDEADLK the caller has it | ERESTART pass the boundary and call again | ENOMEM no timer
/// `ended` is negative if mutex_requeue_and_unlock() moved the caller in its sleep: then it is how that ended.
[[nodiscard]] int mutex_lock_slow(kmutex *, lwp_t *l, nanotime deadline, int ended = 0) noexcept;
void mutex_unlock_slow(kmutex *, lwp_t *l) noexcept;

// What a condition variable needs besides.  The lock is waiters_lock(&m->mtx_waiters).

/// Gives up the mutex, which `l` owns.  The lock is held and stays held.
void mutex_unlock_locked(kmutex *, lwp_t *l) noexcept;
/// The sleepers of `from`, whose lock is `held`, wait for the mutex from now on; one is woken if it is free.  Both locks held, both released.
void mutex_requeue_and_unlock(kmutex *, waiters *from, spinlock *held, spinlock *lock, vcpu_t *me) noexcept;

#if LWP_DEBUG
void mutex_acquired(const void *m, lwp_t *l) noexcept;  ///< `l` owns `m` from now on: it must not end before it gives it back
void mutex_released(const void *m, lwp_t *l) noexcept;
#else
inline void mutex_acquired(const void *, lwp_t *) noexcept {}
inline void mutex_released(const void *, lwp_t *) noexcept {}
#endif

inline lwp_t *mutex_owner(const kmutex *m) noexcept {
	// Exact for the owner itself, a hint for others; LWPs are type-stable.  acquire: pairs with the release of who put it there, since a
	// waiter writes to what it finds: its loan goes into the owner's list, which must have been made
	return reinterpret_cast<lwp_t *>(m->mtx_owner.load(std::memory_order_acquire) & ~kmutex::flags);
}

LWP_ALWAYS_INLINE bool mutex_trylock(kmutex *m, lwp_t *l) noexcept {
	std::uintptr_t word = 0;
	// acquire: pairs with the release in mutex_unlock(); release: with the acquire in mutex_owner()
	while (!m->mtx_owner.compare_exchange_weak(
	    word, word | reinterpret_cast<std::uintptr_t>(l), std::memory_order_acq_rel, std::memory_order_relaxed)) {
		if ((word & ~kmutex::flags) != 0) {
			return false;
		}
	}
	mutex_acquired(m, l);
	return true;
}

LWP_ALWAYS_INLINE void mutex_unlock(kmutex *m, lwp_t *l) noexcept {
	mutex_released(m, l);
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	const std::uintptr_t rest = word ^ reinterpret_cast<std::uintptr_t>(l);
	// Nobody to wake: nobody waits, or one is awake already.  The exchange is the last access: whoever takes it then may destroy it.
	// release: pairs with the acquire of the next owner
	if (LWP_LIKELY(rest == 0 || (rest & ~kmutex::waited) == kmutex::woken) &&
	    LWP_LIKELY(m->mtx_owner.compare_exchange_strong(word, rest, std::memory_order_release, std::memory_order_relaxed))) {
		return;
	}
	mutex_unlock_slow(m, l);
}

}  // namespace lwp::kern
