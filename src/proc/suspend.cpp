// SPDX-License-Identifier: BSD-2-Clause
//
// Suspend and continue.  A suspend only asks: it takes effect at the boundary (boundary.cpp).  LW_WSUSPEND changes under pp_lock of the LWP's
// part and the LWP's lock; the LWP tests it under pp_lock and keeps that until it is LSSUSPENDED, so a continue that comes between is never
// lost (quirk Q3).
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/preempt.h"
#include "sched/place.h"

#include <cerrno>

namespace lwp::kern {
namespace {

/// A sleeper in a wait, `wr`, that pp_lock does not cover: to kick it out takes all locks.  Its pp_lock and its own lock held.  `wr` is read
/// once: without all locks a far wait may end at any moment.
bool needs_all(const lwp_t *t, const waitrec *wr, const part_hold &hold) noexcept { return wr != nullptr && t->l_farwait && !hold.all(); }

int suspend_self(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, l->l_part, me);
	hold.widen(me);  // to look, and kept until we have stopped: two that suspend themselves must not both find the other running
	if ((lwp_flags(l) & LW_WSTOP) != 0) {
		hold.unlock(me);
		return ERESTART;  // first we stop: who runs then may go on
	}
	if (proc_count(p).nrlwps == 1 || (lwp_flags(l) & (LW_WEXIT | LW_WCORE)) != 0) {
		hold.unlock(me);
		return EDEADLK;
	}
	spinlock *lock = lwp_lock(l, me);
	lwp_flag_set(l, LW_WSUSPEND);
	lock->unlock(me);
	(void)lwp_halt_and_unlock(p, l, hold, lwp_stat::suspended);  // all locks are held: it does not ask for more
	return 0;
}

}  // namespace

bool lwp_post(proc_t *p, lwp_t *t, spinlock *lock, const part_hold &hold, std::uint32_t bits, int error, vcpu_t *me) noexcept {
	const bool kick = lwp_state(t) == lwp_stat::sleep && (lwp_flags(t) & LW_SINTR) != 0;
	waitrec *wr = t->l_wait.load(std::memory_order_relaxed);  // relaxed: begun under pp_lock
	if (kick && LWP_UNLIKELY(needs_all(t, wr, hold))) {
		lock->unlock(me);
		return false;
	}
	lwp_flag_set(t, bits);
	if (kick) {
		if (wr != nullptr) {
			wait_take_back(p, wr, error == EINTR ? EINTR : ERESTART);  // it no longer waits: it comes to the boundary
		}
		sleepq_unsleep_and_unlock(t, lock, error);
	} else {
		lock->unlock(me);
	}
	return true;
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
	while ((t = lwp_find(p, lid)) != nullptr && lwp_state(t) != lwp_stat::suspended &&
	    !lwp_post(p, t, lwp_lock(t, l->l_cpu), hold, LW_WSUSPEND, 0, l->l_cpu)) {
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
		// Suspended, or continued meanwhile; or its proc is stopped: it will be suspended before it runs again.
		if (lwp_state(t) == lwp_stat::suspended || lwp_state(t) == lwp_stat::stop || (lwp_flags(t) & LW_WSUSPEND) == 0) {
			break;
		}
		if ((lwp_flags(l) & LW_USERRET) != 0) {
			error = ERESTART;  // we are to stop ourselves; only after a look at the target, which a restart would stop a second time
			break;
		}
		preempt_hurry();
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
	if ((lwp_flags(t) & (LW_WREBOOT | LW_WCORE)) != 0) {  // the process is ending: nothing changes
		lock->unlock(me);
		return 0;
	}
	lwp_flag_clear(t, LW_WSUSPEND);
	if (lwp_state(t) == lwp_stat::suspended) {
		part_add(proc_share(p, t->l_part)->pp_nrlwps, 1);
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
		if (!lwp_asleep(t) || (t->l_syncobj == &wait_syncobj && wr == nullptr)) {
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
