// SPDX-License-Identifier: BSD-2-Clause
#include "sync/biglock.h"

#include "base/assert.h"

namespace lwp::kern {
namespace {

// No owner: it is not one that a waiter needs in the end, since it lets go wherever it sleeps.
const syncobj biglock_syncobj = {"big lock"};

}  // namespace

void biglock_let_go(biglock *b, vcpu_t *me) noexcept {
	spinlock *lock = waiters_lock(&b->bl_waiters);
	lock->lock(me);
	LWP_ASSERT(b->bl_owner != nullptr);
	lwp_t *heir = b->bl_waiters.front();
	b->bl_owner = heir;
	if (heir == nullptr) {
		lock->unlock(me);
		return;
	}
	heir->l_bighas = big_hold::held;  // it is asleep: locked by the line's lock
	sleepq_unsleep_and_unlock(heir, lock, 0);
}

void biglock_in(lwp_t *l) noexcept {
	biglock *b = l->l_biglock;
	LWP_ASSERT(l->l_bighas == big_hold::none);
	spinlock *lock = waiters_lock(&b->bl_waiters);
	lock->lock(l->l_cpu);
	if (b->bl_owner == nullptr) {
		b->bl_owner = l;
		l->l_bighas = big_hold::held;
		lock->unlock(l->l_cpu);
		return;
	}
	// The owner may be our own name: the vCPU that we left has not let go for us yet.  It will find us in the line.
	(void)waiters_block_and_unlock(
	    l, &b->bl_waiters, lock, {.wchan = b, .wmesg = "biglock", .sobj = &biglock_syncobj, .interruptible = sleep_catch::no});
	LWP_ASSERT(l->l_bighas == big_hold::held);
}

void biglock_enter(biglock *b, lwp_t *l) noexcept {
	LWP_CHECK(l->l_bighas != big_hold::away, "the big lock is asked for in a region that blocks the kernel thread");
	l->l_biglock = b;
	if (l->l_biglocks == 0) {
		biglock_in(l);
	}
	l->l_biglocks++;
}

bool biglock_try_enter(biglock *b, lwp_t *l) noexcept {
	LWP_CHECK(l->l_bighas != big_hold::away, "the big lock is asked for in a region that blocks the kernel thread");
	if (l->l_biglocks == 0) {
		l->l_biglock = b;
		lock_scope hold(*waiters_lock(&b->bl_waiters), l->l_cpu);
		if (b->bl_owner != nullptr) {
			return false;
		}
		b->bl_owner = l;
		l->l_bighas = big_hold::held;
	}
	l->l_biglocks++;
	return true;
}

void biglock_exit(lwp_t *l) noexcept {
	LWP_CHECK(l->l_biglocks != 0, "the big lock is let go of by an LWP that does not have it");
	if (l->l_biglocks == 1) {
		biglock_out(l);
	}
	l->l_biglocks--;
}

void biglock_drop(lwp_t *l) noexcept {
	biglock_keep(l, false);
	biglock_out(l);
	l->l_biglocks = 0;
	l->l_bighas = big_hold::none;
}

void biglock_out(lwp_t *l, big_hold as) noexcept {
	if (l->l_bighas == big_hold::held) {
		l->l_bighas = as;
		biglock_let_go(l->l_biglock, l->l_cpu);
	}
}

void biglock_yield(lwp_t *l) noexcept {
	biglock_out(l);
	lwp_yield_cpu(l);
	biglock_return(l);
}

}  // namespace lwp::kern
