// SPDX-License-Identifier: BSD-2-Clause
#include "sync/mutex.h"

#include "base/assert.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr unsigned spins_most = 200;  // pauses: some microseconds, about what sleeping and waking across two vCPUs costs

lwp_t *owner_of(const void *wchan) noexcept { return mutex_owner(static_cast<const kmutex *>(wchan)); }

bool runs_elsewhere(const lwp_t *owner, const lwp_t *l) noexcept {
	return lwp_state(owner) == lwp_stat::onproc && owner->l_cpu != l->l_cpu;  // l_cpu unlocked: a guess is enough
}

/// While the owner runs on another vCPU it will soon be through.
bool spin(kmutex *m, lwp_t *l) noexcept {
	for (unsigned i = 0; i < spins_most; i++) {
		lwp_t *owner = mutex_owner(m);
		if (owner == nullptr) {
			if (mutex_trylock(m, l)) {
				return true;
			}
		} else if (!runs_elsewhere(owner, l)) {
			return false;
		}
		cpu_relax();
	}
	return false;
}

}  // namespace

const syncobj mutex_syncobj = {"mutex", owner_of};

LWP_NOINLINE int mutex_lock_slow(kmutex *m, lwp_t *l, nanotime deadline) noexcept {
	if (mutex_owner(m) == l) {
		return EDEADLK;
	}
	const auto self = reinterpret_cast<std::uintptr_t>(l);
	bool lost = false;
	for (;;) {
		if (spin(m, l)) {
			return 0;
		}
		vcpu_t *me = l->l_cpu;
		spinlock *lock = waiters_lock(&m->mtx_waiters);
		lock->lock(me);
		// With the lock held the flags are ours, so this ends with the mutex taken, or with an owner whose unlock must come here.
		const std::uintptr_t flag = kmutex::waited | (lost ? kmutex::starved : 0);
		std::uintptr_t word = m->mtx_owner.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
		for (;;) {
			const bool is_free = (word & ~(kmutex::waited | kmutex::starved)) == 0;
			// acquire: pairs with the release in mutex_unlock()
			if (m->mtx_owner.compare_exchange_weak(
			        word, is_free ? word | self : word | flag, std::memory_order_acquire, std::memory_order_relaxed)) {
				if (is_free) {
					lock->unlock(me);
					return 0;
				}
				break;
			}
		}
		const int error = waiters_block_and_unlock(l, &m->mtx_waiters, lock,
		    {.wchan = m, .wmesg = "mutex", .sobj = &mutex_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline, .first = lost});
		if (mutex_owner(m) == l || mutex_trylock(m, l)) {  // handed over, or won
			return 0;
		}
		if (error == ETIMEDOUT || error == ENOMEM) {
			return error;
		}
		if (error != 0 || (lwp_flags(l) & LW_USERRET) != 0) {
			return ERESTART;
		}
		lost = true;
	}
}

LWP_NOINLINE void mutex_unlock_slow(kmutex *m, lwp_t *l) noexcept {
	LWP_CHECK(mutex_owner(m) == l, "a mutex is unlocked by an LWP that does not own it");
	const auto self = reinterpret_cast<std::uintptr_t>(l);
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&m->mtx_waiters);
	for (;;) {
		lock->lock(me);
		lwp_t *heir = m->mtx_waiters.front();
		if (heir == nullptr) {
			// They have all timed out.  Back to the plain form first: the word is freed by the very last access, since whoever takes it
			// then may destroy the mutex.
			m->mtx_owner.store(self, std::memory_order_relaxed);  // relaxed: no news in it
			lock->unlock(me);
			std::uintptr_t word = self;
			if (m->mtx_owner.compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed)) {
				return;
			}
			continue;
		}
		// With a waiter nobody may destroy it, and the waiter cannot run before the lock is released.
		const bool hand_over = (m->mtx_owner.load(std::memory_order_relaxed) & kmutex::starved) != 0;
		const std::uintptr_t rest = heir != m->mtx_waiters.back() ? kmutex::waited : 0;
		// release: pairs with the acquire of the next owner; an heir's is that of the lock it is woken by
		m->mtx_owner.store((hand_over ? reinterpret_cast<std::uintptr_t>(heir) : 0) | rest, std::memory_order_release);
		waiters_wake_and_unlock(&m->mtx_waiters, lock, 1, me);
		return;
	}
}

}  // namespace lwp::kern
