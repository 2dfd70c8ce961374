// SPDX-License-Identifier: BSD-2-Clause
#include "sync/mutex.h"

#include "base/assert.h"
#include "sched/priority.h"
#include "sync/turnstile.h"
#include "sync/waitgraph.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr unsigned spins_most = 200;  // pauses: some microseconds, about what sleeping and waking across two vCPUs costs
constexpr unsigned spin_gap = 16;     // pauses between two looks, at most: each look takes the word's cache line from the owner

// How a waiter's sleep ends by an unlock; errno values are everybody else's.
constexpr int by_wake = -1;  // look: the mutex was free a moment ago
constexpr int by_gift = -2;  // it is yours

lwp_t *owner_of(const void *wchan) noexcept { return mutex_owner(static_cast<const kmutex *>(wchan)); }

/// While somebody lends to the owner the next unlock hands over, and is not missed: it comes for the waiters' lock, which the caller holds.
bool lend_to(const void *wchan, const lwp_t *owner) noexcept {
	auto *m = static_cast<kmutex *>(const_cast<void *>(wchan));
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while ((word & ~kmutex::flags) == reinterpret_cast<std::uintptr_t>(owner)) {
		// relaxed: no news but the flags
		if (m->mtx_owner.compare_exchange_weak(word, word | kmutex::waited | kmutex::starved, std::memory_order_relaxed)) {
			return true;
		}
	}
	return false;
}

/// Takes it if it is free.  `clear` is kmutex::woken if the caller is the one that was woken, or 0.
bool take(kmutex *m, lwp_t *l, std::uintptr_t clear) noexcept {
	const auto self = reinterpret_cast<std::uintptr_t>(l);
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while ((word & ~kmutex::flags) == 0) {
		// acquire: pairs with the release in mutex_unlock(); release: with the acquire in mutex_owner()
		if (m->mtx_owner.compare_exchange_weak(word, (word & ~clear) | self, std::memory_order_acq_rel, std::memory_order_relaxed)) {
			return true;
		}
	}
	return false;
}

/// While the owner runs, which is on another vCPU since we run on ours, it will soon be through.
bool spin(kmutex *m, lwp_t *l, std::uintptr_t clear) noexcept {
	unsigned gap = 1;
	for (unsigned i = 0; i < spins_most; i += gap) {
		const lwp_t *owner = mutex_owner(m);
		if (owner == nullptr) {
			if (take(m, l, clear)) {
				return true;
			}
		} else if (lwp_state(owner) != lwp_stat::onproc) {
			return false;
		}
		for (unsigned k = 0; k < gap; k++) {
			cpu_relax();
		}
		gap = gap < spin_gap ? gap * 2 : spin_gap;
	}
	return false;
}

/// With the waiters' lock held: takes the mutex, or leaves `set` with its owner.
bool take_or_flag_locked(kmutex *m, lwp_t *l, std::uintptr_t set, std::uintptr_t clear) noexcept {
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed, here and below: tested by the exchange
	for (;;) {
		if ((word & ~kmutex::flags) == 0) {
			if (take(m, l, clear)) {
				return true;
			}
			word = m->mtx_owner.load(std::memory_order_relaxed);
			continue;
		}
		if (m->mtx_owner.compare_exchange_weak(word, (word & ~clear) | set, std::memory_order_relaxed)) {  // relaxed: no news but the flags
			return false;
		}
	}
}

}  // namespace

const syncobj mutex_syncobj = {"mutex", owner_of, lend_to};

#if LWP_DEBUG
void mutex_acquired(const void *m, lwp_t *l) noexcept {
	l->l_nheld++;
	for (const void *&held : l->l_held) {
		if (held == nullptr) {
			held = m;
			return;
		}
	}
}

void mutex_released(const void *m, lwp_t *l) noexcept {
	if (l->l_nheld != 0) {  // 0: misuse, which the caller is about to report
		l->l_nheld--;
	}
	for (const void *&held : l->l_held) {
		if (held == m) {
			held = nullptr;
			return;
		}
	}
}
#endif

LWP_NOINLINE int mutex_lock_slow(kmutex *m, lwp_t *l, nanotime deadline, int ended) noexcept {
	if (ended == by_gift) {
		mutex_acquired(m, l);
		return 0;
	}
	if (mutex_owner(m) == l) {
		return EDEADLK;
	}
	spinlock *lock = waiters_lock(&m->mtx_waiters);
	bool lost = ended == by_wake;
	std::uintptr_t clear = lost ? kmutex::woken : 0;
	for (;;) {
		if (spin(m, l, clear)) {
			break;
		}
		if (deadline == never) {
			waitgraph_announce(l, &mutex_syncobj, m);
		}
		vcpu_t *me = l->l_cpu;
		lock->lock(me);
		// The one that was woken may be worse than we are and wait for its vCPU: then the next unlock wakes us as well.
		const bool better = l->l_priority.load(std::memory_order_relaxed) > m->mtx_wokenpri;  // relaxed: our own
		if (take_or_flag_locked(m, l, kmutex::waited | (lost ? kmutex::starved : 0), better ? kmutex::woken : clear)) {
			lock->unlock(me);
			waitgraph_done(l);
			break;
		}
		// The owner's unlock fails to find the plain word; it comes for the lock, which we hold until we are asleep.
		const int error = waiters_block_and_unlock(l, &m->mtx_waiters, lock,
		    {.wchan = m, .wmesg = "mutex", .sobj = &mutex_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline, .first = lost});
		waitgraph_done(l);
		if (error == by_gift) {
			break;
		}
		if (error != by_wake) {
			return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
		}
		// Who was woken and loses does not leave, be it late or to be suspended: first it takes back kmutex::woken above, with an owner there to
		// see that.  Otherwise all would wait for it.
		clear = kmutex::woken;
		if (take(m, l, clear)) {
			break;
		}
		lost = true;
	}
	if (clear != 0 && (m->mtx_owner.load(std::memory_order_relaxed) & kmutex::waited) != 0) {  // relaxed: ours
		// One that was woken has it.  Of those behind it one may have become better meanwhile.
		spinlock *line = waiters_lock(&m->mtx_waiters);
		line->lock(l->l_cpu);
		turnstile_owned(&m->mtx_waiters, l, l->l_cpu);
		line->unlock(l->l_cpu);
		sched_settle_owed(l->l_cpu);
	}
	mutex_acquired(m, l);
	return 0;
}

LWP_NOINLINE void mutex_unlock_slow(kmutex *m, lwp_t *l) noexcept {
	LWP_CHECK(mutex_owner(m) == l, "a mutex is unlocked by an LWP that does not own it");
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&m->mtx_waiters);
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		if ((word & kmutex::waited) == 0 || (word & (kmutex::woken | kmutex::starved)) == kmutex::woken) {
			// The last access: whoever takes it then may destroy it.
			// release: pairs with the acquire of the next owner
			if (m->mtx_owner.compare_exchange_weak(word, word & kmutex::flags, std::memory_order_release, std::memory_order_relaxed)) {
				return;
			}
			continue;
		}
		lock->lock(me);
		// Owned by us, and the lock held: the word stands still.
		word = m->mtx_owner.load(std::memory_order_relaxed);
		lwp_t *heir = m->mtx_waiters.front();
		if (heir == nullptr) {
			// They have timed out or were suspended.
			word &= ~(kmutex::waited | kmutex::starved);
			m->mtx_owner.store(word, std::memory_order_release);  // the owner, ourselves, is in it: as mutex_trylock()
			lock->unlock(me);
			continue;
		}
		// With a waiter nobody may destroy it, and the waiter cannot leave before the lock is released, which outlives the mutex.
		const std::uintptr_t rest = (word & kmutex::woken) | (heir != m->mtx_waiters.back() ? kmutex::waited : 0);
		const bool gift = (word & kmutex::starved) != 0;
		if (!gift) {
			m->mtx_wokenpri = heir->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
		}
		// release: pairs with the acquire of the next owner; an heir's is that of the locks it is woken by
		m->mtx_owner.store(gift ? reinterpret_cast<std::uintptr_t>(heir) | rest : rest | kmutex::woken, std::memory_order_release);
		sleepq_unsleep_and_unlock(heir, lock, gift ? by_gift : by_wake);
		return;
	}
}

void mutex_unlock_locked(kmutex *m, lwp_t *l) noexcept {
	LWP_ASSERT(mutex_owner(m) == l);
	mutex_released(m, l);
	// Owned by us, and the lock held: the word stands still.
	const std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);
	lwp_t *heir = m->mtx_waiters.front();
	const std::uintptr_t more = heir != m->mtx_waiters.back() ? kmutex::waited : 0;
	if (heir == nullptr || (word & (kmutex::woken | kmutex::starved)) == kmutex::woken) {
		const std::uintptr_t rest = (word & kmutex::woken) | (heir != nullptr ? kmutex::waited : 0);
		m->mtx_owner.store(rest, std::memory_order_release);  // pairs with the acquire of the next owner
		return;
	}
	const bool gift = (word & kmutex::starved) != 0;
	if (!gift) {
		m->mtx_wokenpri = heir->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
	}
	const std::uintptr_t rest = (word & kmutex::woken) | more;
	m->mtx_owner.store(gift ? reinterpret_cast<std::uintptr_t>(heir) | rest : rest | kmutex::woken, std::memory_order_release);  // as above
	sleepq_unsleep_and_unlock(heir, nullptr, gift ? by_gift : by_wake);  // null: the lock stays ours
}

void mutex_requeue_and_unlock(kmutex *m, waiters *from, spinlock *held, spinlock *lock, vcpu_t *me) noexcept {
	lwp_t *first = m->mtx_waiters.front();
	waiters_move_locked(from, &m->mtx_waiters, lock, m, "mutex", &mutex_syncobj);
	if (held != lock) {
		held->unlock(me);
	}
	lwp_t *heir = m->mtx_waiters.front();
	const std::uintptr_t more = heir != m->mtx_waiters.back() ? kmutex::waited : 0;
	std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		// Owned: the unlock sees to them.  One is awake: it will look, and its unlock does.
		const bool wake = (word & ~(kmutex::waited | kmutex::starved)) == 0;
		// acq_rel: from the last owner by us to the one that is woken
		if (m->mtx_owner.compare_exchange_weak(
		        word, wake ? kmutex::woken | more : word | kmutex::waited, std::memory_order_acq_rel, std::memory_order_relaxed)) {
			if (wake) {
				m->mtx_wokenpri = heir->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
				sleepq_unsleep_and_unlock(heir, lock, by_wake);
			} else {
				lwp_t *owner = mutex_owner(m);
				turnstile_moved(&m->mtx_waiters, first, owner, me);
				lock->unlock(me);
				sched_settle_owed(me);
				waitgraph_moved(owner, me);
			}
			return;
		}
	}
}

}  // namespace lwp::kern
