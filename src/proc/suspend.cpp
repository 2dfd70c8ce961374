// SPDX-License-Identifier: BSD-2-Clause
//
// Suspend and continue, and the boundary where a suspend takes effect.  A suspend only asks.  LW_WSUSPEND changes under pp_lock of the LWP's
// part and the LWP's lock; the LWP tests it under pp_lock and keeps that until it is LSSUSPENDED, so a continue that comes between is never
// lost (quirk Q3).
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <cerrno>

namespace lwp::kern {
namespace {

/// Stops the caller, whose LW_WSUSPEND is set.  Returns when it was continued.  False, and nothing done but all locks taken, if they are needed.
bool stop_and_unlock(proc_t *p, lwp_t *l, part_hold &hold) noexcept {
	vcpu_t *me = l->l_cpu;
	procpart *pp = l->l_part;
	part_add(pp->pp_nrlwps, minus_one);
	if (LWP_UNLIKELY(part_dry(pp) && !hold.all() && proc_dry(p))) {
		part_add(pp->pp_nrlwps, 1);
		hold.widen(me);
		return false;
	}
	if (hold.all()) {
		wait_recheck(p, me);
	}
	proc_cv_broadcast(p, me);  // who waits for us to stop needs pp_lock to look: by then we have
	me->vc_lwplock.lock(me);
	lwp_setstat(l, lwp_stat::suspended, &me->vc_lwplock);
	hold.unlock(me);
	// vc_lwplock is held across the switch: a continue that comes now waits until we are off our stack.
	mi_switch_and_unlock(l, nullptr);
	return true;
}

/// A sleeper in a wait, `wr`, that pp_lock does not cover: to kick it out takes all locks.  Its pp_lock and its own lock held.  `wr` is read
/// once: without all locks a far wait may end at any moment.
bool needs_all(const lwp_t *t, const waitrec *wr, const part_hold &hold) noexcept { return wr != nullptr && t->l_farwait && !hold.all(); }

/// Asks a locked target to stop; a sleeper that may be interrupted goes at once.  Lock of its part held.  Releases the target.  False, and
/// nothing done but that, if all locks are needed.
bool post_suspend(proc_t *p, lwp_t *t, spinlock *lock, const part_hold &hold, vcpu_t *me) noexcept {
	const lwp_stat s = lwp_state(t);
	const bool kick = s == lwp_stat::sleep && (lwp_flags(t) & LW_SINTR) != 0;
	waitrec *wr = t->l_wait.load(std::memory_order_relaxed);  // relaxed: begun under pp_lock
	if (kick && LWP_UNLIKELY(needs_all(t, wr, hold))) {
		lock->unlock(me);
		return false;
	}
	if (s != lwp_stat::suspended) {
		lwp_flag_set(t, LW_WSUSPEND);
	}
	if (kick) {
		if (wr != nullptr) {
			wait_take_back(p, wr, ERESTART);  // it no longer waits: it is going to stop
		}
		sleepq_unsleep_and_unlock(t, lock, 0);
	} else {
		lock->unlock(me);
	}
	return true;
}

int suspend_self(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, l->l_part, me);
	hold.widen(me);  // to look, and kept until we have stopped: two that suspend themselves must not both find the other running
	if (proc_count(p).nrlwps == 1 || (lwp_flags(l) & (LW_WEXIT | LW_WCORE)) != 0) {
		hold.unlock(me);
		return EDEADLK;
	}
	spinlock *lock = lwp_lock(l, me);
	lwp_flag_set(l, LW_WSUSPEND);
	lock->unlock(me);
	(void)stop_and_unlock(p, l, hold);
	return 0;
}

}  // namespace

LWP_NOINLINE void lwp_userret_slow(lwp_t *l) noexcept {
	while ((lwp_flags(l) & LW_WSUSPEND) != 0) {
		part_hold hold(l->l_proc, l->l_part, l->l_cpu);
		bool stopped = false;
		while (!stopped && (lwp_flags(l) & LW_WSUSPEND) != 0) {
			stopped = stop_and_unlock(l->l_proc, l, hold);
		}
		if (!stopped) {
			hold.unlock(l->l_cpu);  // a continue was first
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
	if ((lwp_flags(l) & (LW_WEXIT | LW_WCORE)) != 0) {  // quirk Q1: the flags, not the state
		return EDEADLK;
	}
	proc_t *p = l->l_proc;
	procpart *pp = proc_part(p, lid);
	part_hold hold(p, pp, l->l_cpu);
	lwp_t *t;
	while ((t = lwp_find(p, lid)) != nullptr && !post_suspend(p, t, lwp_lock(t, l->l_cpu), hold, l->l_cpu)) {
		hold.widen(l->l_cpu);
	}
	hold.narrow(l->l_cpu);
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
		error = proc_cv_wait(p, pp, l, "lwpsusp", sleep_catch::yes);
		if (error != 0) {
			break;
		}
	}
	hold.unlock(l->l_cpu);
	return error;
}

int lwp_continue(lwp_t *l, lwpid_t lid) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	lock_scope hold(proc_part(p, lid)->pp_lock, me);
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
		part_add(t->l_part->pp_nrlwps, 1);
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
	part_hold hold(p, proc_part(p, lid), me);
	int error;
	for (;;) {
		lwp_t *t = lwp_find(p, lid);
		if (t == nullptr) {
			error = ESRCH;
			break;
		}
		spinlock *lock = lwp_lock(t, me);
		waitrec *wr = t->l_wait.load(std::memory_order_relaxed);  // relaxed: begun under pp_lock
		if (lwp_state(t) != lwp_stat::sleep || (t->l_syncobj == &wait_syncobj && wr == nullptr)) {
			error = ENODEV;  // also if its wait has ended and whoever ended it is about to wake it
		} else if ((lwp_flags(t) & LW_SINTR) == 0) {
			error = EBUSY;
		} else if (LWP_UNLIKELY(needs_all(t, wr, hold))) {
			lock->unlock(me);
			hold.widen(me);
			continue;
		} else {
			if (wr != nullptr) {
				wait_take_back(p, wr, EINTR);
			}
			sleepq_unsleep_and_unlock(t, lock, EINTR);
			error = 0;
			break;
		}
		lock->unlock(me);
		break;  // and nothing is left behind (Q23)
	}
	hold.unlock(me);
	return error;
}

}  // namespace lwp::kern
