// SPDX-License-Identifier: BSD-2-Clause
//
// Suspend and continue, and the boundary where a suspend takes effect.  A suspend only asks.  LW_WSUSPEND changes under p_lock and the LWP's
// lock; the LWP tests it under p_lock and keeps that until it is LSSUSPENDED, so a continue that comes between is never lost (quirk Q3).
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <cerrno>

namespace lwp::kern {
namespace {

/// Stops the caller, whose LW_WSUSPEND is set.  p_lock held, released.  Returns when it was continued.
void stop_and_unlock(proc_t *p, lwp_t *l) noexcept {
	vcpu_t *me = l->l_cpu;
	p->p_nrlwps--;
	wait_recheck(p, me);
	proc_cv_broadcast(p, me);  // who waits for us to stop needs p_lock to look: by then we have
	me->vc_lwplock.lock(me);
	lwp_setstat(l, lwp_stat::suspended, &me->vc_lwplock);
	p->p_lock.unlock(me);
	// vc_lwplock is held across the switch: a continue that comes now waits until we are off our stack.
	mi_switch_and_unlock(l, nullptr);
}

/// Asks a locked target to stop; a sleeper that may be interrupted goes at once.  p_lock held.  Releases the target.
void post_suspend(proc_t *p, lwp_t *t, spinlock *lock, vcpu_t *me) noexcept {
	const lwp_stat s = lwp_state(t);
	if (s == lwp_stat::suspended) {
		lock->unlock(me);
		return;
	}
	lwp_flag_set(t, LW_WSUSPEND);
	if (s == lwp_stat::sleep && (lwp_flags(t) & LW_SINTR) != 0) {
		if (t->l_wait != nullptr) {
			wait_take_back(p, t->l_wait, ERESTART);  // it no longer waits: it is going to stop
		}
		sleepq_unsleep_and_unlock(t, lock, 0);
		return;
	}
	lock->unlock(me);
}

int suspend_self(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	p->p_lock.lock(me);
	if (p->p_nrlwps == 1 || (lwp_flags(l) & (LW_WEXIT | LW_WCORE)) != 0) {
		p->p_lock.unlock(me);
		return EDEADLK;
	}
	spinlock *lock = lwp_lock(l, me);
	lwp_flag_set(l, LW_WSUSPEND);
	lock->unlock(me);
	stop_and_unlock(p, l);  // without letting go of p_lock: two that suspend themselves must not both find the other running
	return 0;
}

}  // namespace

LWP_NOINLINE void lwp_userret_slow(lwp_t *l) noexcept {
	while ((lwp_flags(l) & LW_WSUSPEND) != 0) {
		proc_t *p = l->l_proc;
		p->p_lock.lock(l->l_cpu);
		if ((lwp_flags(l) & LW_WSUSPEND) != 0) {
			stop_and_unlock(p, l);
		} else {
			p->p_lock.unlock(l->l_cpu);  // a continue was first
		}
	}
	if (l->l_cpu->vc_resched.load(std::memory_order_relaxed)) {  // relaxed: a hint; lwp_preempt_cpu() takes it back and looks
		lwp_preempt_cpu(l);
	}
}

int lwp_suspend(lwp_t *l, lwpid_t lid) noexcept {
	if (lid == lwp_lid(l)) {
		return suspend_self(l);
	}
	proc_t *p = l->l_proc;
	p->p_lock.lock(l->l_cpu);
	if ((lwp_flags(l) & (LW_WEXIT | LW_WCORE)) != 0) {  // quirk Q1: the flags, not the state
		p->p_lock.unlock(l->l_cpu);
		return EDEADLK;
	}
	lwp_t *t = lwp_find(p, lid);
	if (t == nullptr) {
		p->p_lock.unlock(l->l_cpu);
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, l->l_cpu);
	post_suspend(p, t, lock, l->l_cpu);
	// Tested before the first wait (Q5), and the target found again each time, since it may end meanwhile (Q21).
	int error = 0;
	for (;;) {
		t = lwp_find(p, lid);
		if (t == nullptr) {
			error = ESRCH;
			break;
		}
		if (lwp_state(t) == lwp_stat::suspended || (lwp_flags(t) & LW_WSUSPEND) == 0) {  // stopped, or continued meanwhile
			break;
		}
		if ((lwp_flags(l) & LW_USERRET) != 0) {
			error = ERESTART;  // we are to stop ourselves; only after a look at the target, which a restart would stop a second time
			break;
		}
		error = proc_cv_wait(p, l, "lwpsusp", sleep_catch::yes);
		if (error != 0) {
			break;
		}
	}
	p->p_lock.unlock(l->l_cpu);
	return error;
}

int lwp_continue(lwp_t *l, lwpid_t lid) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	lock_scope hold(p->p_lock, me);
	lwp_t *t = lwp_find(p, lid);
	if (t == nullptr) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, me);
	if ((lwp_flags(t) & LW_WREBOOT) != 0) {  // the runtime is ending: nothing changes
		lock->unlock(me);
		return 0;
	}
	lwp_flag_clear(t, LW_WSUSPEND);
	if (lwp_state(t) == lwp_stat::suspended) {
		p->p_nrlwps++;
		sched_wake_and_unlock(t, lock);
	} else {
		lock->unlock(me);
	}
	proc_cv_broadcast(p, me);  // also when it only cancelled a suspend: its suspender is waiting (Q4)
	return 0;
}

int lwp_wakeup(lwp_t *l, lwpid_t lid) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	lock_scope hold(p->p_lock, me);
	lwp_t *t = lwp_find(p, lid);
	if (t == nullptr) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, me);
	int error = lwp_state(t) != lwp_stat::sleep ? ENODEV : (lwp_flags(t) & LW_SINTR) == 0 ? EBUSY : 0;
	if (error != 0) {
		lock->unlock(me);
		return error;  // and nothing is left behind (Q23)
	}
	if (t->l_wait != nullptr) {
		wait_take_back(p, t->l_wait, EINTR);
	}
	sleepq_unsleep_and_unlock(t, lock, EINTR);
	return 0;
}

}  // namespace lwp::kern
