// SPDX-License-Identifier: BSD-2-Clause
//
// The readers/writer lock: one word that names the writer or counts the readers, and who waits, writers and readers each in a line.
//
// Who goes in, if a wait is needed, is decided by whoever goes out, and the lock is handed over, so nobody who comes by is first:
//   a waiting writer stops new readers that are not better than it (priority);
//   the last reader out lets the best writer in;
//   a writer out lets in all waiting readers that are not worse than the best waiting writer, if there are any, else that writer.
// So readers and writers alternate under load and neither starves the other.  A waiting writer that goes away (too late, suspended) lets
// those readers in that waited for it only.
// Two changes of mind never wait (NetBSD's rw_tryupgrade(9), rw_downgrade(9)): the only reader may become the writer, before those that wait; a writer
// may become a reader, and lets those readers in that it would have let in as it goes out.
//
// Takes the lock of its waiters (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/mutex.h"
#include "sync/sleepq.h"

namespace lwp::kern {

struct krwlock {
	static constexpr std::uintptr_t waited = 1;   // somebody sleeps: no short way in, and the last one out hands over
	static constexpr std::uintptr_t writer = 2;   // the rest is the writer's lwp_t; without it, the number of readers in units of `reader`
	static constexpr std::uintptr_t reader = 64;  // an LWP's alignment

	// a: with `waited` nobody comes in but under the waiters' lock, which also covers `waited`; readers go out without it while others stay
	atomic<std::uintptr_t> rw_word{0};
	waiters rw_writers;  // waiters_lock(&rw_writers), both
	waiters rw_readers;
	atomic<bool> rw_known{false};  // a: as mtx_known
};

extern const syncobj rwlock_read_syncobj, rwlock_write_syncobj;

/// 0 | ETIMEDOUT | EDEADLK the caller is the writer | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int rwlock_wrlock_slow(krwlock *, lwp_t *l, nanotime deadline) noexcept;
[[nodiscard]] int rwlock_rdlock_slow(krwlock *, lwp_t *l, nanotime deadline) noexcept;
[[nodiscard]] bool rwlock_tryrdlock_slow(krwlock *, lwp_t *l) noexcept;
[[nodiscard]] bool rwlock_tryupgrade_slow(krwlock *, lwp_t *l) noexcept;
void rwlock_downgrade_slow(krwlock *, lwp_t *l) noexcept;
void rwlock_wrunlock_slow(krwlock *, lwp_t *l) noexcept;
void rwlock_rdunlock_slow(krwlock *, lwp_t *l) noexcept;

/// The writer that holds it, or null.
inline lwp_t *rwlock_owner(const krwlock *rw) noexcept {
	const std::uintptr_t word = rw->rw_word.load(std::memory_order_acquire);  // acquire: as mutex_owner()
	return (word & krwlock::writer) != 0 ? reinterpret_cast<lwp_t *>(word & ~(krwlock::writer | krwlock::waited)) : nullptr;
}

LWP_ALWAYS_INLINE bool rwlock_trywrlock(krwlock *rw, lwp_t *l) noexcept {
	std::uintptr_t word = 0;
	// acquire: pairs with the releases of those who go out; release: with the acquire of who asks for the writer, to lend to it
	const bool taken = rw->rw_word.compare_exchange_strong(
	    word, reinterpret_cast<std::uintptr_t>(l) | krwlock::writer, std::memory_order_acq_rel, std::memory_order_relaxed);
	if (taken) {
		mutex_acquired(rw, l);
	}
	return taken;
}

/// The short way in: no writer, and nobody waits.
LWP_ALWAYS_INLINE bool rwlock_rdtake(krwlock *rw) noexcept {
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while ((word & (krwlock::writer | krwlock::waited)) == 0) {
		// acquire: pairs with the release of the writer before us
		if (rw->rw_word.compare_exchange_weak(word, word + krwlock::reader, std::memory_order_acquire, std::memory_order_relaxed)) {
			return true;
		}
	}
	return false;
}

LWP_ALWAYS_INLINE bool rwlock_tryrdlock(krwlock *rw, lwp_t *l) noexcept { return rwlock_rdtake(rw) || rwlock_tryrdlock_slow(rw, l); }

LWP_ALWAYS_INLINE void rwlock_wrunlock(krwlock *rw, lwp_t *l) noexcept {
	mutex_released(rw, l);
	std::uintptr_t word = reinterpret_cast<std::uintptr_t>(l) | krwlock::writer;
	if (LWP_UNLIKELY(!rw->rw_word.compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed))) {
		rwlock_wrunlock_slow(rw, l);
	}
}

LWP_ALWAYS_INLINE void rwlock_rdunlock(krwlock *rw, lwp_t *l) noexcept {
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	// Not the last one of a lock that is waited for, and not misuse.
	while (LWP_LIKELY((word & krwlock::writer) == 0 && word >= krwlock::reader && (word & ~krwlock::reader) != krwlock::waited)) {
		// release: pairs with the acquire of the next writer.  The last access.
		if (rw->rw_word.compare_exchange_weak(word, word - krwlock::reader, std::memory_order_release, std::memory_order_relaxed)) {
			return;
		}
	}
	rwlock_rdunlock_slow(rw, l);
}

/// The caller is a reader.  False if there are others: it is one still.
LWP_ALWAYS_INLINE bool rwlock_tryupgrade(krwlock *rw, lwp_t *l) noexcept {
	std::uintptr_t word = krwlock::reader;
	// acq_rel: as rwlock_trywrlock(), and from the readers that went out
	if (LWP_UNLIKELY(!rw->rw_word.compare_exchange_strong(
	        word, reinterpret_cast<std::uintptr_t>(l) | krwlock::writer, std::memory_order_acq_rel, std::memory_order_relaxed))) {
		return rwlock_tryupgrade_slow(rw, l);
	}
	mutex_acquired(rw, l);
	return true;
}

/// The caller is the writer, and a reader from now on.
LWP_ALWAYS_INLINE void rwlock_downgrade(krwlock *rw, lwp_t *l) noexcept {
	mutex_released(rw, l);
	std::uintptr_t word = reinterpret_cast<std::uintptr_t>(l) | krwlock::writer;
	// release: what we wrote is for the readers that come in
	if (LWP_UNLIKELY(!rw->rw_word.compare_exchange_strong(word, krwlock::reader, std::memory_order_release, std::memory_order_relaxed))) {
		rwlock_downgrade_slow(rw, l);
	}
}

}  // namespace lwp::kern
