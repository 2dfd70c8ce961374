// SPDX-License-Identifier: BSD-2-Clause
#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_pool.h"
#include "core/lwpctl.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"

#include <cstdlib>

namespace lwp::kern {
namespace {

constexpr unsigned dead_most = 1024;  // dead LWPs that a vCPU keeps

/// Waits until a dead LWP is off its stack: the switch is under way on another vCPU, whose kernel thread may have lost its CPU.
void wait_off_cpu(const lwp_t *dead) noexcept {
	// acquire: pairs with the release in the arriving LWP
	for (unsigned spins = 0; dead->l_oncpu.load(std::memory_order_acquire); spins++) {
		spins % 100 == 99 ? sys::yield() : cpu_relax();
	}
}

/// A zombie goes to who waited for it first, or to who waits for any, or waits itself.  p_lock held; it may be freed the moment p_lock is
/// released, but not before it is off its stack.
void hand_to_waiter(proc_t *p, lwp_t *l, vcpu_t *me) noexcept {
	waitrec *wr = l->l_waiters != nullptr ? l->l_waiters : p->p_anywaits.front();
	if (wr == nullptr) {
		p->p_zombies.push_back(l);
		return;
	}
	l->l_prflag |= LPR_CLAIMED;
	wait_end(p, wr, 0, l, me);
	while (l->l_waiters != nullptr) {  // others came later for the same one
		wait_end(p, l->l_waiters, ESRCH, nullptr, me);
	}
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

void lwp_free_and_unlock(proc_t *p, lwp_t *dead, vcpu_t *me) noexcept {
	LWP_ASSERT(p->p_lock.held());
	LWP_ASSERT(lwp_state(dead) == lwp_stat::zomb);
	LWP_ASSERT(dead->l_waiters == nullptr);
	p->p_lwps.erase(dead);
	p->p_nlwps--;
	p->p_nzlwps--;
	if ((dead->l_prflag & LPR_DETACHED) != 0) {
		p->p_ndlwps--;
	}
	proc_check(p);
	wait_recheck(p, me);
	proc_cv_broadcast(p, me);
	p->p_lock.unlock(me);
	wait_off_cpu(dead);
	lwpctl_put(dead);
	lwp_keep_dead(dead, me);
}

void lwp_end(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	LWP_ASSERT(!lockrank_holds_any());
	p->p_lock.lock(me);
	p->p_mainleft |= l->l_adopted;  // only the LWP of a kernel thread that is a vCPU comes here
	if (LWP_UNLIKELY(p->p_nlwps - p->p_nzlwps == 1 && p->p_mainleft)) {
		p->p_lock.unlock(me);
		specific_fini(l->l_specific);
		std::exit(0);  // the last LWP ends the process
	}
	p->p_nzlwps++;
	if (LWP_UNLIKELY(!specific_empty(l->l_specific))) {
		// Destructors are the application's: they may sleep, and wake up on another vCPU.
		p->p_lock.unlock(me);
		specific_fini(l->l_specific);
		me = l->l_cpu;
		p->p_lock.lock(me);
	}
	if (LWP_UNLIKELY(l->l_refcnt > 1)) {
		lwp_drainrefs(p, l);
		me = l->l_cpu;
	}
	l->l_prflag |= LPR_DRAINING;
	// A detached one takes the proc's slot; who lay there before is freed, which drops p_lock, so the slot is looked at again.
	while ((l->l_prflag & LPR_DETACHED) != 0) {
		lwp_t *older = p->p_zomblwp.load(std::memory_order_relaxed);
		p->p_zomblwp.store(older == nullptr ? l : nullptr, std::memory_order_relaxed);
		if (older == nullptr) {
			break;
		}
		lwp_free_and_unlock(p, older, me);
		p->p_lock.lock(me);
	}
	if ((l->l_prflag & LPR_DETACHED) == 0) {
		hand_to_waiter(p, l, me);
	}
	p->p_nrlwps--;
	wait_recheck(p, me);
	proc_cv_broadcast(p, me);
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); ctl != nullptr) {
		lwpctl_show(ctl, LWPCTL_CPU_EXITED);
	}
	l->l_fresh = !context_may_loop();
	me->vc_lwplock.lock(me);
	lwp_setstat(l, lwp_stat::zomb, &me->vc_lwplock);
	p->p_lock.unlock(me);
	// From here a waiter may collect us; it will not touch the stack before l_oncpu is false, which whoever runs next here says.
}

void lwp_exit(lwp_t *l) noexcept {
	lwp_end(l);
	l->l_fresh = true;  // whoever recycles us waits for l_oncpu first; our frames, wherever we stand in them, are abandoned
	mi_switch_dead(l);
}

}  // namespace lwp::kern
