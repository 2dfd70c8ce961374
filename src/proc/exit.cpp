// SPDX-License-Identifier: BSD-2-Clause
#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_pool.h"
#include "core/lwpctl.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "proc/signal.h"
#include "sched/account.h"
#include "sched/switch.h"
#include "sched/trace.h"

#include <cstdlib>

namespace lwp::kern {
namespace {

constexpr unsigned dead_most = 1024;  // dead LWPs that a vCPU keeps

LWP_NOINLINE void wait_off_cpu_slow(const lwp_t *dead) noexcept {
	// acquire: pairs with the release in the arriving LWP
	for (unsigned spins = 0; dead->l_oncpu.load(std::memory_order_acquire); spins++) {
		spins % 100 == 99 ? sys::yield() : cpu_relax();
	}
}

/// Waits until a dead LWP is off its stack: the switch is under way on another vCPU, whose kernel thread may have lost its CPU.
LWP_ALWAYS_INLINE void wait_off_cpu(const lwp_t *dead) noexcept {
	if (LWP_UNLIKELY(dead->l_oncpu.load(std::memory_order_acquire))) {  // same pair
		wait_off_cpu_slow(dead);
	}
}

/// A zombie goes to who waited for it first, or to who waits for any (`wr`; what covers that wait is held), or waits itself.  It may be freed
/// the moment the lock of its part is released, but not before it is off its stack.
LWP_ALWAYS_INLINE void hand_to_waiter(proc_t *p, lwp_t *l, waitrec *wr, vcpu_t *me) noexcept {
	if (wr == nullptr) {
		lwp_share(l)->pp_zombies.push_back(l);
		return;
	}
	l->l_prflag |= LPR_CLAIMED;
	wait_end(p, wr, 0, l, me);
	while (l->l_waiters != nullptr) {  // others came later for the same one
		wait_end(p, l->l_waiters, ESRCH, nullptr, me);
	}
}

/// If the caller is the last LWP of all, ends the process.  pp_lock held, and again on return: between that and the look it is not released.
LWP_NOINLINE void end_if_last(proc_t *p, lwp_t *l, vcpu_t *me) noexcept {
	l->l_part->pp_lock.unlock(me);
	proc_lock_all(p, me);
	p->p_mainleft |= l->l_adopted;  // only the LWP of a kernel thread that is a vCPU comes here
	const proc_counts c = proc_count(p);
	if (c.nlwps - c.nzlwps == 1 && p->p_mainleft) {
		proc_unlock_all(p, me);
		specific_fini(l->l_specific);
		std::exit(0);  // the last LWP ends the process
	}
	proc_unlock_all(p, me, l->l_part);
}

/// Counts the caller as one that does not run any more.  *wr: who is to be given its zombie.  False: not done, all locks are needed.
LWP_ALWAYS_INLINE bool leave_running(proc_t *p, lwp_t *l, bool all, waitrec **wr, lwp_t **older, vcpu_t *me) noexcept {
	procpart *pp = l->l_part;
	procshare *sh = proc_share(p, pp);
	*wr = l->l_waiters;  // none if it is detached
	if ((l->l_prflag & LPR_DETACHED) != 0) {
		if (lwp_t *dead = pp->pp_zomblwp.load(std::memory_order_relaxed); dead != nullptr) {
			if (LWP_UNLIKELY(*older != nullptr)) {
				lwp_bury(*older, me);  // the slot was taken while we waited for all locks
			}
			*older = dead;
			pp->pp_zomblwp.store(nullptr, std::memory_order_relaxed);
			lwp_forget(dead);
		}
	} else if (LWP_UNLIKELY(*wr == nullptr && p->p_nanywaits.load(std::memory_order_relaxed) != 0)) {
		// Who waits for any has entered with all locks held, ours too: it is not missed.
		if (!all) {
			return false;
		}
		*wr = p->p_anywaits.front();
	}
	part_add(sh->pp_nrlwps, minus_one);
	// A waiter whom we wake runs, and will ask when it stops: see proc_dry().
	if (LWP_UNLIKELY(*wr == nullptr && part_dry(sh) && !all && proc_dry(p))) {
		part_add(sh->pp_nrlwps, 1);
		return false;
	}
	return true;
}

}  // namespace

void lwp_keep_dead(lwp_t *dead, vcpu_t *me) noexcept {
	if (dead->l_adopted) {
		lwp_pool_put(dead);
	} else if (dead->l_stack.s_foreign || dead->l_stack.s_size / 2 >= runtime_default_stack() ||
	    dead->l_stack.s_size < runtime_default_stack() || me->vc_ndead.load(std::memory_order_relaxed) >= dead_most) {
		context_destroy(dead->l_ctx);
		stack_free(dead->l_stack);
		lwp_pool_put(dead);
	} else {
		me->vc_dead.push_front(dead);
		me->vc_ndead.store(me->vc_ndead.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: a number for others
	}
}

void lwp_drop_dead(vcpu_t *vc) noexcept {
	while (lwp_t *dead = vc->vc_dead.pop_front()) {
		context_destroy(dead->l_ctx);
		stack_free(dead->l_stack);
		lwp_pool_put(dead);
	}
	vc->vc_ndead.store(0, std::memory_order_relaxed);
}

void lwp_forget(lwp_t *dead) noexcept {
	proc_t *const p = dead->l_proc;
	procpart *pp = dead->l_part;
	procshare *sh = proc_share(p, pp);
	LWP_ASSERT(pp->pp_lock.held());
	LWP_ASSERT(lwp_state(dead) == lwp_stat::zomb);
	LWP_ASSERT(dead->l_waiters == nullptr);
	part_keep_usage(sh, dead);
	pp->pp_lwps.erase(dead);
	sh->pp_nlwps--;
	sh->pp_nzlwps--;
	pp->pp_allowance++;
	if ((dead->l_prflag & LPR_DETACHED) != 0) {
		sh->pp_ndlwps--;
	}
	part_check(pp);
	if (LWP_UNLIKELY(p != &proc0)) {
		sh->pp_own.remove(dead);
		proc_rele(p);
	}
}

void lwp_lay_out(lwp_t *dead) noexcept {
	wait_off_cpu(dead);
	lwpctl_put(dead);
	trace_put(dead);
}

void lwp_bury(lwp_t *dead, vcpu_t *me) noexcept {
	lwp_lay_out(dead);
	lwp_keep_dead(dead, me);
}

void lwp_bury_all(ended_lwps &dead, vcpu_t *me) noexcept {
	while (lwp_t *l = dead.pop_front()) {
		lwp_bury(l, me);
	}
}

void lwp_free_and_unlock(proc_t *p, lwp_t *dead, vcpu_t *me) noexcept {
	const bool candidate = (dead->l_prflag & LPR_DETACHED) == 0;
	lwp_forget(dead);
	proc_cv_broadcast(p, me);
	dead->l_part->pp_lock.unlock(me);
	if (candidate) {
		wait_candidate_gone(p, me);
	}
	lwp_bury(dead, me);
}

void lwp_end(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	procpart *pp = l->l_part;
	procshare *sh = proc_share(p, pp);
	vcpu_t *me = l->l_cpu;
	LWP_ASSERT(!lockrank_holds_any());
	part_hold hold(p, pp, me);
	// From here on it calls destructors, which may sleep and pass boundaries: nothing there may make it end once more.  If one calls _lwp_exit() we come here
	// again, on top of that one's frames, and go on with what is left.
	const bool again = (l->l_prflag & LPR_ENDING) != 0;
	l->l_prflag |= LPR_ENDING;
	if (LWP_UNLIKELY((lwp_flags(l) & LW_WEXIT) != 0)) {
		spinlock *lock = lwp_lock(l, me);
		lwp_flag_clear(l, LW_WEXIT | LW_WLEAVE);
		lock->unlock(me);
	}
	if (LWP_UNLIKELY(proc0.p_world == l)) {  // it leaves by _lwp_exit(), which does not unwind: the others must go on
		hold.unlock(me);
		world_continue(l, true);
		hold.lock(me);
	}
	const proc_ops *ops = p->p_ops.load(std::memory_order_acquire);  // pairs with the release of who set it
	if (LWP_UNLIKELY(ops != nullptr && !again)) {
		hold.unlock(me);
		if (ops->on_lwp_exit != nullptr) {
			ops->on_lwp_exit(lwp_lid(l));  // the application's: it may sleep, and wake up on another vCPU
		}
		me = l->l_cpu;
		hold.lock(me);
	}
	if (const lwp_event_calls *e = lwp_events.load(std::memory_order_acquire);
	    LWP_UNLIKELY(e != nullptr && (l->l_prflag & LPR_TOLD) == 0)) {  // as in enter_application()
		l->l_prflag |= LPR_TOLD;
		hold.unlock(me);
		e->ends(l);
		me = l->l_cpu;
		hold.lock(me);
	}
	// While another of our part has not begun to end, that one will look itself.  p_mainleft is written under all locks: if we do not see it,
	// the main thread will see us.
	if (LWP_LIKELY((l->l_prflag & LPR_COUNTED) == 0)) {
		if (LWP_UNLIKELY(l->l_adopted || (p->p_mainleft && sh->pp_nlwps - sh->pp_nzlwps == 1))) {
			end_if_last(p, l, me);
		}
		l->l_prflag |= LPR_COUNTED;
		sh->pp_nzlwps++;
	}
	if (LWP_UNLIKELY(!specific_empty(l->l_specific) || l->l_cred != &cred0)) {
		// Destructors are the application's: they may sleep, and wake up on another vCPU.
		hold.unlock(me);
		specific_fini(l->l_specific);
		lwp_drop_creds(l);
		me = l->l_cpu;
		hold.lock(me);
	}
	if (LWP_UNLIKELY(l->l_biglocks != 0)) {
		hold.unlock(me);
		biglock_drop(l);  // no code of the application runs in it any more
		me = l->l_cpu;
		hold.lock(me);
	}
	if (LWP_UNLIKELY(l->l_refcnt > 1)) {
		lwp_drainrefs(p, l);
		me = l->l_cpu;
	}
	l->l_prflag |= LPR_DRAINING;
	if (LWP_UNLIKELY((lwp_flags(l) & LW_PENDSIG) != 0)) {
		// Nobody chooses us any more.  Signals of the proc for which we were chosen go to another (Q16); those sent to us die with us.
		hold.unlock(me);
		signal_repost(p, me);
		hold.lock(me);
	}
	lwp_t *older = nullptr;  // the dead detached one that lay in the slot before us
	waitrec *wr;
	bool stays = false;    // with its proc, whose last it is
	ended_lwps with_proc;  // what goes with the proc
	// relaxed, here and below: see procs.cpp
	bool last = p != &proc0 && p->p_nliving.load(std::memory_order_relaxed) == 1;
	for (;;) {
		if (LWP_UNLIKELY(last)) {
			if (p->p_cred != &cred0) {
				hold.unlock(me);
				proc_last_begin(p, me);
				me = l->l_cpu;
				hold.lock(me);
			}
			if (!hold.all()) {
				hold.widen(me);
			}
			stays = proc_last_exit(p, l, with_proc, hold, me);
		}
		if (LWP_UNLIKELY(!leave_running(p, l, hold.all(), &wr, &older, me))) {
			hold.widen(me);
			(void)leave_running(p, l, true, &wr, &older, me);
		}
		if (LWP_LIKELY(p == &proc0) || p->p_nliving.fetch_sub(1, std::memory_order_relaxed) != 1 || last) {
			break;
		}
		// All others have counted themselves out since we looked.  Nobody else is there to have seen that we did.
		p->p_nliving.store(1, std::memory_order_relaxed);
		part_add(sh->pp_nrlwps, 1);
		last = true;
	}
	if ((l->l_prflag & LPR_DETACHED) != 0) {
		pp->pp_zomblwp.store(l, std::memory_order_relaxed);
	} else if (LWP_LIKELY(!stays)) {
		hand_to_waiter(p, l, wr, me);
	}
	if (LWP_UNLIKELY(hold.all())) {
		wait_recheck(p, me);
	}
	proc_cv_broadcast(p, me);
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); ctl != nullptr) {
		lwpctl_show(ctl, LWPCTL_CPU_EXITED);
	}
	l->l_fresh = !context_may_loop();
	// It owns nothing that others wait for; but one that was made to end has no say in it, and another in its destructors may wait for it.  Loans
	// to the dead do no harm (sync/turnstile.h).
	LWP_ASSERT((p->p_post & LW_WEXIT) != 0 || procs_made_to_end.load(std::memory_order_relaxed) || l->l_lenders.empty());
	me->vc_lwplock.lock(me);
	sched_charge_stretch(me, l);  // now, not as we switch: by then it may have been forgotten
	lwp_setstat(l, lwp_stat::zomb, &me->vc_lwplock);
	hold.unlock(me);
	if (older != nullptr) {
		lwp_bury(older, me);
	}
	lwp_bury_all(with_proc, me);
	// From here a waiter may collect us; it will not touch the stack before l_oncpu is false, which whoever runs next here says.
}

void lwp_exit(lwp_t *l) noexcept {
	LWP_CHECK(l->l_pins == 0, "_lwp_exit: called by a handler that interrupted a wait whose record others can reach");
	lwp_end(l);
	l->l_fresh = true;  // whoever recycles us waits for l_oncpu first; our frames, wherever we stand in them, are abandoned
	mi_switch_dead(l);
}

}  // namespace lwp::kern
