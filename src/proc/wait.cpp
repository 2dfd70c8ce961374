// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_wait1(): collecting the dead.  A waiter leaves a record, under p_lock; whoever ends its wait (the LWP that dies, a detach, the deadlock
// rule) takes the record off both lists and gives the result in the same breath, so p_nlwpwait counts exactly those that nobody has
// satisfied yet, and no two waiters ever stampede for one zombie.
//
// EDEADLK, in place of rev 1.73's formula (quirk Q9): nobody but unsatisfied waiters is RUN, ONPROC or SLEEP, detached ones included; or the
// LWP waited for waits, directly or along a chain, for the caller.
#include "base/assert.h"
#include "proc/lwp_life.h"

#include <cerrno>

namespace lwp::kern {
namespace {

using waits = list<waitrec, &waitrec::wr_for>;

void enter(proc_t *p, waitrec *wr) noexcept {
	p->p_waits.push_back(wr);
	p->p_nlwpwait++;
	wr->wr_lwp->l_wait = wr;
	if (wr->wr_target == nullptr) {
		p->p_anywaits.push_back(wr);
		return;
	}
	// Those that wait for one LWP hang in a chain from it; the first of them knows the last.
	waitrec *&first = wr->wr_target->l_waiters;
	wr->wr_for = {};
	if (first == nullptr) {
		first = wr;
	} else {
		wr->wr_for.prev = first->wr_last;
		first->wr_last->wr_for.next = wr;
	}
	first->wr_last = wr;
}

void leave(proc_t *p, waitrec *wr) noexcept {
	p->p_waits.remove(wr);
	p->p_nlwpwait--;
	wr->wr_lwp->l_wait = nullptr;
	wr->wr_done = true;
	if (wr->wr_target == nullptr) {
		p->p_anywaits.remove(wr);
		return;
	}
	waitrec *&first = wr->wr_target->l_waiters;
	waitrec *const next = wr->wr_for.next;
	waitrec *const prev = wr->wr_for.prev;
	if (next != nullptr) {
		next->wr_for.prev = prev;
	}
	if (prev != nullptr) {
		prev->wr_for.next = next;
		if (first->wr_last == wr) {
			first->wr_last = prev;
		}
	} else {
		if (next != nullptr) {
			next->wr_last = wr->wr_last;
		}
		first = next;
	}
}

/// Whether `t` waits, at the end of a chain of waits for one LWP each, for `l`.
bool waits_for(const lwp_t *t, const lwp_t *l) noexcept {
	if (l->l_waiters == nullptr) {
		return false;  // nobody waits for the caller: there is no chain to follow
	}
	while (t != nullptr && t != l) {
		t = t->l_wait != nullptr ? t->l_wait->wr_target : nullptr;  // no cycle without `l`: it would have been refused
	}
	return t == l;
}

std::size_t candidates(const proc_t *p, const lwp_t *waiter) noexcept {
	std::size_t undetached = p->p_nlwps - p->p_ndlwps;
	return undetached - ((waiter->l_prflag & LPR_DETACHED) == 0 ? 1 : 0);
}

/// p_lock held, released.
int collect_and_unlock(proc_t *p, lwp_t *dead, lwpid_t *departed, vcpu_t *me) noexcept {
	if (departed != nullptr) {
		*departed = lwp_lid(dead);
	}
	lwp_free_and_unlock(p, dead, me);
	return 0;
}

/// What can be said without sleeping; -1 if nothing.  On 0 *dead is the caller's, and claimed.  p_lock held.
int look(proc_t *p, lwp_t *l, lwpid_t lid, lwp_t **target, lwp_t **dead) noexcept {
	if (lid == 0) {
		*dead = p->p_zombies.pop_front();
		if (*dead == nullptr) {
			return candidates(p, l) == 0 ? ESRCH : -1;
		}
	} else {
		lwp_t *t = lwp_find_any(p, lid);
		if (t == l) {
			return EDEADLK;
		}
		if (t == nullptr || (t->l_prflag & (LPR_DETACHED | LPR_CLAIMED)) != 0 || lwp_state(t) == lwp_stat::idl) {
			return ESRCH;
		}
		if (lwp_state(t) != lwp_stat::zomb) {
			*target = t;
			return waits_for(t, l) ? EDEADLK : -1;
		}
		p->p_zombies.remove(t);
		*dead = t;
	}
	(*dead)->l_prflag |= LPR_CLAIMED;
	return 0;
}

}  // namespace

void wait_take_back(proc_t *p, waitrec *wr, int error) noexcept {
	leave(p, wr);
	wr->wr_error = error;
}

void wait_end(proc_t *p, waitrec *wr, int error, lwp_t *departed, vcpu_t *me) noexcept {
	LWP_ASSERT(p->p_lock.held());
	lwp_t *waiter = wr->wr_lwp;
	leave(p, wr);
	wr->wr_error = error;
	wr->wr_departed = departed;
	// It let go of p_lock, its interlock, with its own lock held: so it is asleep on wr, or awake for good (woken, or kicked before it slept)
	// and will find wr_done.
	spinlock *lock = lwp_lock(waiter, me);
	if (lwp_state(waiter) == lwp_stat::sleep && waiter->l_wchan == wr) {
		// Like a new LWP it goes first: its child's end may let it end too.
		sleepq_unsleep_and_unlock(waiter, lock, 0, queue_end::newest_first);
	} else {
		lock->unlock(me);
	}
}

void wait_recheck(proc_t *p, vcpu_t *me) noexcept {
	if (LWP_LIKELY(p->p_nlwpwait == 0)) {
		return;
	}
	// At most one LWP that anybody may wait for is left: those that wait for any may have none.
	if (LWP_UNLIKELY(!p->p_anywaits.empty() && p->p_nlwps - p->p_ndlwps <= 1)) {
		for (waitrec *wr = p->p_anywaits.front(), *next; wr != nullptr; wr = next) {
			next = waits::next(wr);
			if (candidates(p, wr->wr_lwp) == 0) {
				wait_end(p, wr, ESRCH, nullptr, me);
			}
		}
	}
	// Nobody is left who could end or make another end: the one that began to wait last is told, and may then do something about it.
	if (LWP_UNLIKELY(!p->p_waits.empty() && p->p_nrlwps == p->p_nlwpwait)) {
		wait_end(p, p->p_waits.back(), EDEADLK, nullptr, me);
	}
}

int lwp_wait1(lwp_t *l, lwpid_t lid, lwpid_t *departed) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	if (lid < 0) {
		return ESRCH;
	}
	lwp_t *target = nullptr;
	lwp_t *dead = nullptr;
	p->p_lock.lock(me);
	int error = look(p, l, lid, &target, &dead);
	if (error == 0) {
		return collect_and_unlock(p, dead, departed, me);
	}
	if (error < 0 && p->p_nrlwps == p->p_nlwpwait + 1) {  // + 1: we are about to wait as well
		error = EDEADLK;
	}
	if (error > 0) {
		p->p_lock.unlock(me);
		return error;
	}
	waitrec wr;
	wr.wr_lwp = l;
	wr.wr_target = target;
	enter(p, &wr);
	// p_lock is the interlock: it is released when our own lock is held, so whoever ends our wait finds us asleep, or awake for good.
	spinlock *lock = sleepq_enter_self(l);
	error = sleepq_block_self_and_unlock(l, lock,
	    {.wchan = &wr,
	        .wmesg = "lwpwait",
	        .sobj = &self_syncobj,
	        .interruptible = sleep_catch::yes,
	        .deadline = never,
	        .token = 0,
	        .interlock = &p->p_lock});
	me = l->l_cpu;
	p->p_lock.lock(me);
	if (!wr.wr_done) {  // kicked out: suspend, interrupt
		wait_take_back(p, &wr, error == 0 ? ERESTART : error);
	}
	if (wr.wr_departed != nullptr) {
		return collect_and_unlock(p, wr.wr_departed, departed, me);
	}
	p->p_lock.unlock(me);
	return wr.wr_error;
}

int lwp_detach(lwp_t *l, lwpid_t lid) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	p->p_lock.lock(me);
	lwp_t *t = lid > 0 ? lwp_find_any(p, lid) : nullptr;
	int error = 0;
	if (t == nullptr || lwp_state(t) == lwp_stat::idl || (t->l_prflag & LPR_CLAIMED) != 0) {
		error = ESRCH;
	} else if ((t->l_prflag & LPR_DETACHED) != 0) {
		error = EINVAL;
	} else if (lwp_state(t) == lwp_stat::zomb) {
		p->p_zombies.remove(t);
		lwp_free_and_unlock(p, t, me);  // the id is out of the table before it lets go of p_lock
		return 0;
	} else {
		t->l_prflag |= LPR_DETACHED;
		p->p_ndlwps++;
		while (t->l_waiters != nullptr) {
			wait_end(p, t->l_waiters, ESRCH, nullptr, me);
		}
		wait_recheck(p, me);
	}
	p->p_lock.unlock(me);
	return error;
}

}  // namespace lwp::kern
