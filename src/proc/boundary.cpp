// SPDX-License-Identifier: BSD-2-Clause
//
// The slow half of the boundary: an LWP on its way back to the application has a bit of LW_USERRET set and honours it.
//
//   bit                 what it does                                            in this order
//   LW_WEXIT            ends, unless LW_WCORE is set too                        first: no suspend can hold up an exit (quirk Q8)
//   LW_WLEAVE           with it, where it cannot end in the middle of a wait:   (below)
//                       goes on, takes the wait back and ends then
//   LW_WSTOP            LSSTOP until the proc, or the world, goes on            before signals: a stopped proc handles none
//   LW_PENDSIG          runs the handlers of signals that wait for it           before a suspend, as in 1.73
//   LW_WSUSPEND         LSSUSPENDED until it is continued
//   LW_WCORE, LW_WREBOOT  LSSUSPENDED for good (Q13): whoever set it ends the process
//   LW_WUSERRET         calls its return hook, once; a hook is an LWP's, not the proc's (Q14)
//   LW_CRMOD            takes the proc's credential (cred.h)                    nothing waits for it, and a hook's calls take it first
//   LW_WMIGRATE         goes on on a vCPU where it may run                      last; set and cleared with the LWP locked, see sched/place.h
//
// Each bit is set under pp_lock of the LWP's part and the LWP's lock.  The LWP tests it again under pp_lock and keeps that until it has left
// LSONPROC, so what undoes the bit in between is never lost (Q3).  After each that made it wait it begins again from the first.
#include "base/assert.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "proc/outside.h"
#include "proc/signal.h"
#include "sched/frozen.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace lwp::kern {
namespace {

void call_hook(lwp_t *l) noexcept {
	void (*fn)(void *);
	void *arg;
	{
		vcpu_t *me = l->l_cpu;
		lock_scope hold(l->l_part->pp_lock, me);
		fn = l->l_hook;
		arg = l->l_hookarg;
		l->l_hook = nullptr;
		spinlock *lock = lwp_lock(l, me);
		lwp_flag_clear(l, LW_WUSERRET);
		lock->unlock(me);
	}
	if (fn != nullptr) {
		const nested_call nested(l);
		const outside_library out(l);
		fn(arg);  // may call the library, switch, and find itself on another vCPU
	}
}

/// Whether it may end here.  Not in the middle of a wait whose record others can reach; nor if its stack is a kernel thread's of the
/// application, whose frames only it may leave.  Those stand still for good instead: the process ends.  If it is only their proc that does, LW_WLEAVE says
/// so, and they take their waits back.
bool may_end(const lwp_t *l) noexcept { return l->l_pins == 0 && !l->l_adopted; }

/// By the LWP itself: from here on it is to end, or for the time being it is not.
void set_leaving(lwp_t *l, bool leaving) noexcept {
	constexpr std::uint32_t bits = LW_WEXIT | LW_WLEAVE;
	vcpu_t *me = l->l_cpu;
	lock_scope hold(l->l_part->pp_lock, me);
	if (leaving && (l->l_proc->p_post & LW_WLEAVE) == 0) {
		return;
	}
	spinlock *lock = lwp_lock(l, me);
	leaving ? lwp_flag_set(l, bits) : lwp_flag_clear(l, bits);
	lock->unlock(me);
}

}  // namespace

void lwp_leave(lwp_t *l) noexcept {
	if (l->l_pins == 0) {
		lwp_userret(l);
	}
}

void nested_call::end() noexcept {
	if (--l_->l_nested == 0) {
		set_leaving(l_, true);  // it may have been put off
	}
}

void lwp_stand_still(lwp_t *l, std::uint32_t bits, lwp_stat to) noexcept {
	if (LWP_UNLIKELY(l->l_cpu->vc_watched.load(std::memory_order_relaxed))) {  // relaxed: written by this kernel thread
		outside_forget(l->l_cpu);                                              // it has come out here
	}
	part_hold hold(l->l_proc, l->l_part, l->l_cpu);
	while ((lwp_flags(l) & bits) != 0) {
		if (lwp_halt_and_unlock(l->l_proc, l, hold, to)) {
			return;  // to the first of the bits again
		}
	}
	hold.unlock(l->l_cpu);  // a continue was first
}

bool lwp_halt_and_unlock(proc_t *p, lwp_t *l, part_hold &hold, lwp_stat to) noexcept {
	vcpu_t *me = l->l_cpu;
	procshare *pp = proc_share(p, l->l_part);
	part_add(pp->pp_nrlwps, minus_one);
	// While the proc is held somebody will let others go on: nobody waits in vain.  Who lets them go looks then.
	if (LWP_UNLIKELY(!p->p_held && part_dry(pp) && !hold.all() && proc_dry(p))) {
		part_add(pp->pp_nrlwps, 1);
		hold.widen(me);
		return false;
	}
	if (hold.all()) {
		wait_recheck(p, me);
	}
	proc_cv_broadcast(p, me);  // who waits for us to stop needs pp_lock to look: by then we have
	me->vc_lwplock.lock(me);
	lwp_setstat(l, to, &me->vc_lwplock);
	biglock_leave_locked(l);
	hold.unlock(me);
	// vc_lwplock is held across the switch: a continue that comes now waits until we are off our stack.
	if (LWP_UNLIKELY(l->l_frozen != nullptr)) {
		frozen_wait_and_unlock(l);  // without the big lock: who has that is not frozen
	} else {
		mi_switch_and_unlock(l, nullptr);
		biglock_return(l);
	}
	return true;
}

LWP_NOINLINE void lwp_userret_slow(lwp_t *l) noexcept {
	for (std::uint32_t flags = lwp_flags(l); (flags & (LW_USERRET | LW_CRMOD)) != 0; flags = lwp_flags(l)) {
		if ((flags & (LW_WEXIT | LW_WCORE)) == LW_WEXIT && may_end(l)) {
#if LWP_DEBUG
			// Mutexes that it owns stay locked: it has no say in it.
			l->l_nheld = 0;
			std::fill(std::begin(l->l_order), std::end(l->l_order), held_lock{});
			l->l_ordermore = 0;
#endif
			lwp_exit(l);
		}
		if ((flags & LW_WSTOP) != 0) {
			lwp_stand_still(l, LW_WSTOP, lwp_stat::stop);
		} else if ((flags & LW_PENDSIG) != 0 && (flags & (LW_WEXIT | LW_WCORE)) == 0) {
			signal_deliver(l);
		} else if ((flags & (LW_WLEAVE | LW_WCORE | LW_WREBOOT)) == LW_WLEAVE) {
			if (l->l_nested == 0) {
				break;  // to the wait: it is lwp_leaving(), takes its record back, and comes here by lwp_leave()
			}
			set_leaving(l, false);  // first the handler that runs in the middle of the wait: it may sleep, in waits that are not left
		} else if ((flags & (LW_WSUSPEND | LW_WREBOOT | LW_WCORE | LW_WEXIT)) != 0) {
			// For LW_WEXIT only if it cannot end here: one that comes meanwhile is looked at anew.
			lwp_stand_still(l, LW_WSUSPEND | LW_WREBOOT | LW_WCORE | (flags & LW_WEXIT), lwp_stat::suspended);
		} else if ((flags & LW_WUSERRET) != 0) {
			call_hook(l);
		} else {
			lwp_update_creds(l);
		}
	}
	if ((lwp_flags(l) & LW_WMIGRATE) != 0 && l->l_blocking == 0) {  // inside a region it keeps its kernel thread
		lwp_move_cpu(l);
	}
	if (l->l_cpu->vc_resched.load(std::memory_order_relaxed)) {  // relaxed: a hint; lwp_preempt_cpu() takes it back and looks
		lwp_preempt_cpu(l);
	}
}

std::uint32_t lwp_to_stand_still(const lwp_t *l) noexcept {
	const std::uint32_t flags = lwp_flags(l);
	return (flags & (LW_WEXIT | LW_WCORE)) == LW_WEXIT ? 0 : flags & (LW_WSTOP | LW_WSUSPEND | LW_WREBOOT | LW_WCORE);
}

bool lwp_give_way(vcpu_t *vc, lwp_t *l, const void *sp, bool may_stand, bool turn) noexcept {
	freezer f(vc, l, sp);
	for (;; turn = false) {
		const std::uint32_t still = may_stand ? lwp_to_stand_still(l) : 0;
		const bool off_duty = vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts;  // relaxed: our own
		if (still == 0 && !off_duty && !(turn && frozen_wanted(vc, l))) {
			return may_stand || lwp_to_stand_still(l) == 0;
		}
		if (!(still == 0 && !off_duty && f.pass_on()) && !f.leave()) {
			return false;
		}
		vc->vc_preempted.store(vc->vc_preempted.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: statistics
		// Each returns when the LWP has been dispatched and brought back here; or, if it was let go on this moment, at once, off duty: then it is queued.
		if ((still & LW_WSTOP) != 0) {
			lwp_stand_still(l, LW_WSTOP, lwp_stat::stop);
		} else if (still != 0) {
			lwp_stand_still(l, LW_WSUSPEND | LW_WREBOOT | LW_WCORE, lwp_stat::suspended);
		} else {
			f.queue();
		}
	}
}

int lwp_need_userret(lwp_t *l, lwpid_t lid, void (*fn)(void *), void *arg) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, lid == 0 ? l->l_part : proc_part(p, lid), me);
	int error = ESRCH;
	while (lwp_t *t = lid == 0 ? l : lwp_find(p, lid)) {
		if (t->l_hook != nullptr) {
			error = EBUSY;
			break;
		}
		if (lwp_post(p, t, lwp_lock(t, me), hold, LW_WUSERRET, 0, me)) {
			t->l_hook = fn;  // it takes pp_lock to call it
			t->l_hookarg = arg;
			error = 0;
			break;
		}
		hold.widen(me);
	}
	hold.unlock(me);
	return error;
}

}  // namespace lwp::kern
