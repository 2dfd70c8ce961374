// SPDX-License-Identifier: BSD-2-Clause
#include "core/lwp_lock.h"

#include "core/lwp_state.h"

namespace lwp::kern {

LWP_NOINLINE spinlock *lwp_lock_retry(lwp_t *l, spinlock *old, vcpu_t *me) noexcept {
	for (;;) {
		old->unlock(me);
		spinlock *lock = l->l_mutex.load(std::memory_order_acquire);  // pairs with the release in lwp_setstat()
		lock->lock(me);
		if (l->l_mutex.load(std::memory_order_acquire) == lock) {
			return lock;
		}
		old = lock;
	}
}

spinlock *lwp_trylock(lwp_t *l, vcpu_t *me) noexcept {
	for (;;) {
		spinlock *lock = l->l_mutex.load(std::memory_order_acquire);  // pairs with the release in lwp_setstat()
		if (!lock->try_lock(me)) {
			return nullptr;
		}
		if (l->l_mutex.load(std::memory_order_acquire) == lock) {
			return lock;
		}
		lock->unlock(me);
	}
}

bool lwp_locked(const lwp_t *l, const spinlock *lock) noexcept {
	const spinlock *covers = l->l_mutex.load(std::memory_order_relaxed);  // relaxed: if held, it does not change
	return covers->held() && (lock == nullptr || covers == lock);
}

void lwp_setlock(lwp_t *l, spinlock *lend) noexcept {
	LWP_ASSERT(lwp_locked(l));
	LWP_ASSERT(lwp_lock_covers(lend->rank(), lwp_state(l)));
	l->l_mutex.store(lend, std::memory_order_release);  // pairs with the acquires in lwp_lock(): what was done under the old lock is seen
}

void lwp_unlock_to(lwp_t *l, spinlock *lend, vcpu_t *me) noexcept {
	spinlock *old = l->l_mutex.load(std::memory_order_relaxed);  // relaxed: held, so it does not change
	lwp_setlock(l, lend);
	old->unlock(me);
}

bool lwp_relock(lwp_t *l, spinlock *next, vcpu_t *me) noexcept {
	LWP_ASSERT(lwp_locked(l));
	spinlock *old = l->l_mutex.load(std::memory_order_relaxed);  // relaxed: held, so it does not change
	if (old == next) {
		return true;
	}
	if (!next->try_lock(me)) {
		// Waiting for `next` with `old` held could meet somebody who does the opposite.  So let go, wait in the legal way, and take the
		// LWP again; between the two anybody may have moved it.
		old->unlock(me);
		next->lock(me);
		spinlock *now = l->l_mutex.load(std::memory_order_acquire);  // pairs with the release in lwp_setstat()
		if (now != old || !old->try_lock(me)) {
			next->unlock(me);
			lwp_lock(l, me);
			return false;
		}
		if (l->l_mutex.load(std::memory_order_acquire) != old) {
			old->unlock(me);
			next->unlock(me);
			lwp_lock(l, me);
			return false;
		}
	}
	lwp_unlock_to(l, next, me);
	return true;
}

}  // namespace lwp::kern
