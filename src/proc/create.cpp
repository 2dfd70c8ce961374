// SPDX-License-Identifier: BSD-2-Clause
#include "base/assert.h"
#include "core/lwp_pool.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/place.h"
#include "sched/priority.h"
#include "sched/switch.h"

#include <cerrno>
#include <cstring>

namespace lwp::kern {

atomic<const lwp_event_calls *> lwp_events{nullptr};

namespace {

// Kept free at the top of every stack for what the creator hands over: enough for a callable and a few arguments.
constexpr std::uint32_t room_usual = 64;

std::uint32_t room_for(std::size_t bytes) noexcept {
	return bytes <= room_usual ? room_usual : static_cast<std::uint32_t>((bytes + 63) / 64 * 64);
}

/// The first thing it does (NetBSD's lwp_startup).
void enter_application(lwp_t *l) noexcept {
	biglock_return(l);
	// pairs with the release of who set it
	if (const lwp_event_calls *e = lwp_events.load(std::memory_order_acquire); LWP_UNLIKELY(e != nullptr)) {
		e->begins(l);
	}
	lwp_userret(l);
	outside_library_begin(l);
}

void leave_application(lwp_t *l) noexcept {
	l->l_depth = 1;
	fence_compiler(std::memory_order_seq_cst);
	lwp_end(l);
}

void start_routine(void *arg) noexcept {
	asm volatile("" ::"r"(__builtin_frame_address(0)));  // a frame pointer: profilers come through here on their way to context_begin()
	static constexpr lwp_hooks hooks = {enter_application, leave_application};
	lwp_run_units(static_cast<lwp_t *>(arg), hooks);
}

/// Stack sizes are rounded up to classes, so equal is too much to ask.
bool fits(const lwp_t *l, std::size_t stack_size) noexcept { return l->l_stack.s_size >= stack_size && l->l_stack.s_size / 2 < stack_size; }

/// The dead detached LWP in the slot of a part, if there is one: off its stack and in no table.
LWP_ALWAYS_INLINE lwp_t *take_slot(proc_t *p, procpart *pp, vcpu_t *me) noexcept {
	pp->pp_lock.lock(me);
	lwp_t *dead = pp->pp_zomblwp.load(std::memory_order_relaxed);
	if (LWP_LIKELY(dead != nullptr)) {
		pp->pp_zomblwp.store(nullptr, std::memory_order_relaxed);
		lwp_forget(dead);
		proc_cv_broadcast(p, me);
	}
	pp->pp_lock.unlock(me);
	if (LWP_LIKELY(dead != nullptr)) {
		lwp_lay_out(dead);
	}
	return dead;
}

/// The dead detached LWP in our part's slot, or the newest that ended on this vCPU; off its stack and in no table.
lwp_t *recycle(proc_t *p, std::size_t stack_size, vcpu_t *me) noexcept {
	procpart *pp = me->vc_part;
	if (pp->pp_zomblwp.load(std::memory_order_relaxed) != nullptr) {  // relaxed: a hint, asked again under pp_lock
		if (lwp_t *dead = take_slot(p, pp, me); dead != nullptr) {
			if (LWP_LIKELY(!dead->l_adopted && !dead->l_stack.s_foreign && fits(dead, stack_size))) {
				return dead;
			}
			lwp_keep_dead(dead, me);
		}
	}
	lwp_t *l = me->vc_dead.front();
	if (l == nullptr || !fits(l, stack_size)) {
		return nullptr;
	}
	me->vc_dead.remove(l);
	me->vc_ndead.store(me->vc_ndead.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: a number for others
	return l;
}

/// 0 | EINVAL | ENOMEM
int build(const lwp_options &o, std::size_t stack_size, lwp_t **out) noexcept {
	lwp_t *l = lwp_pool_get();
	if (l == nullptr) {
		return ENOMEM;
	}
	if (o.stack_base != nullptr) {
		stack_foreign(l->l_stack, o.stack_base, stack_size);
	} else if (int error = stack_alloc(l->l_stack, stack_size)) {
		lwp_pool_put(l);
		return error;
	}
	*out = l;
	return 0;
}

void set_name(lwp_t *l, const char *name) noexcept {
	if (name == nullptr) {
		l->l_name[0] = '\0';
		return;
	}
	std::size_t n = ::strnlen(name, LWP_MAXNAME - 1);
	std::memcpy(l->l_name, name, n);
	l->l_name[n] = '\0';
}

/// Class and priority from the options or the template.  0 | EINVAL | EPERM better than the template's
int set_scheduling(lwp_t *l, lwp_t *l1, const lwp_options &o) noexcept {
	if (o.priority < -1 || o.priority > 63 || o.policy < -1 || o.policy > 2) {
		return EINVAL;
	}
	// An adopted kernel thread and LWP 1 are templates like any other.
	l->l_class = o.policy < 0 ? l1->l_class : static_cast<sched_class>(o.policy);
	const bool same_class = l->l_class == l1->l_class;
	if (o.priority >= 0) {
		l->l_basepri = static_cast<pri_t>((l->l_class == sched_class::other ? pri_user : pri_user_rt) + o.priority);
	} else if (same_class) {
		l->l_basepri = l1->l_basepri;  // what it was given: neither lent nor used up
	} else {
		l->l_basepri = l->l_class == sched_class::other ? pri_default : pri_user_rt;
	}
	const bool better = (o.priority >= 0 && l->l_basepri > l1->l_basepri) || (l->l_class != sched_class::other && !same_class);
	if (LWP_UNLIKELY(better) && lwp_authorize(l1, priv_sched) != 0) {
		return EPERM;
	}
	// What its creator has used up counts against it, too (sched_lwp_fork()).
	l->l_decay = LWP_LIKELY(l1->l_decay == 0) ? 0 : sched_inherited_decay(l1, l);
	l->l_borndecay = l->l_decay;
	l->l_protpri = pri_none;
	l->l_protdepth = 0;
	const auto own = static_cast<pri_t>(l->l_basepri - l->l_decay);
	l->l_ownpri.store(own, std::memory_order_relaxed);  // relaxed, both: nobody knows it yet
	l->l_priority.store(own, std::memory_order_relaxed);
	return 0;
}

/// Shares what is left up to max_lwps out anew.  All locks held.  False if nothing is, or there is no runtime.
bool share_out(proc_t *p, procpart *first) noexcept {
	if (!proc0.p_running) {
		return false;
	}
	std::int64_t left = static_cast<std::int64_t>(proc0.p_maxlwps);
	proc_each_part(p, [&left](const procpart &pp) { left -= static_cast<std::int64_t>(pp.pp_lwps.size()); });
	const std::int64_t share = left > 0 ? left / proc_nparts(p) : 0;
	proc_each_part(p, [share](procpart &pp) { pp.pp_allowance = share; });
	first->pp_allowance += left - share * proc_nparts(p);  // below 0 if more kernel threads came from outside
	return left > 0;
}

}  // namespace

int newlwp(lwp_t *l1, const lwp_options &o, lwp_t **out) noexcept {
	std::size_t stack_size = o.stack_size != 0 ? o.stack_size : runtime_default_stack();
	if ((o.stack_base != nullptr ? o.stack_size : stack_size) < stack_min || stack_size > stack_max) {
		return EINVAL;
	}
	if (LWP_UNLIKELY(sched.sd_count.load(std::memory_order_relaxed) == 0)) {  // relaxed: whoever ends a runtime is alone in it
		runtime_ensure();                                                     // we were adopted under one that has ended
	}
	if (o.vcpu < -1 || o.vcpu >= static_cast<int>(sched.sd_count.load(std::memory_order_relaxed))) {  // relaxed: fixed while LWPs live
		return EINVAL;
	}
	if (LWP_UNLIKELY(o.vcpu >= 0 && o.vcpu != l1->l_bound) && lwp_authorize(l1, priv_affinity) != 0) {
		return EPERM;
	}
	const std::uint32_t room = room_for(o.room);
	if (room > stack_size / 2) {
		return EINVAL;
	}
	vcpu_t *me = l1->l_cpu;
	lwp_t *l = o.stack_base == nullptr ? recycle(l1->l_proc, stack_size, me) : nullptr;
	if (l == nullptr) {
		if (int error = build(o, stack_size, &l)) {
			return error;
		}
	}
	if (int error = set_scheduling(l, l1, o)) {
		lwp_keep_dead(l, me);
		return error;
	}
	if (l->l_fresh || room > l->l_room) {
		l->l_room = room;
		if (l->l_room != 0) {
			context_destroy(l->l_ctx);  // the one it died in
		}
		l->l_ctx = context{};
		context_make(l->l_ctx, l->l_stack, room, start_routine, l);
		l->l_fresh = false;
	} else {
		l->l_ctx.c_errno = 0;
	}
	l->l_proc = l1->l_proc;
	l->l_bound = o.vcpu >= 0 ? static_cast<std::int16_t>(o.vcpu) : bound_none;  // then it is as its creator's when it starts
	l->l_ncsw = 0;
	l->l_nivcsw = 0;
	l->l_account = {};
	l->l_private = o.private_;
	l->l_pflag = o.mpsafe < 0 ? l1->l_pflag : static_cast<std::uint8_t>(o.mpsafe != 0 ? LP_MPSAFE : 0);
	l->l_biglock = &l->l_proc->p_biglock;
	l->l_biglocks = (l->l_pflag & LP_MPSAFE) != 0 ? 0 : 1;
	l->l_bighas = big_hold::none;
	l->l_prflag = o.detached ? LPR_DETACHED : 0;
	l->l_refcnt = 1;
	l->l_holdcnt = 0;
	l->l_blocking = 0;  // it may have ended inside a region
	l->l_pins = 0;      // as a handler's longjmp may have left it
	l->l_nested = 0;
	l->l_sigpend = 0;
	l->l_sigwait = 0;
	l->l_sigwaited = 0;
	l->l_interrupted = false;
	l->l_hook = nullptr;
	l->l_nopreempt = 0;
	l->l_depth = 1;
	set_name(l, o.name);
	*out = l;
	return 0;
}

void *lwp_room(const lwp_t *l) noexcept { return stack_top(l->l_stack) - l->l_room; }

void lwp_abandon(lwp_t *l) noexcept { lwp_keep_dead(l, curcpu_or_null()); }

namespace {

/// The affinity of `l1`, if `l2` was given none, and its processor set.  `l1` runs here, so vc_lwplock covers both; or it is a kernel thread from outside,
/// which never has either.
LWP_ALWAYS_INLINE void inherit_places(const lwp_t *l1, lwp_t *l2) noexcept {
	l2->l_psid = l1->l_psid;
	if (LWP_UNLIKELY(l1->l_bound != bound_none && l2->l_bound == bound_none)) {
		l2->l_bound = l1->l_bound;
		l2->l_affinity = l1->l_affinity;
	}
}

/// pp_lock held, so processor sets stand still.
bool bound_to_a_set(const lwp_t *l) noexcept {
	return sched_psets() && l->l_bound >= 0 && sched_psid(static_cast<unsigned>(l->l_bound)) != 0;
}

LWP_ALWAYS_INLINE int enter_and_run(lwp_t *l1, lwp_t *l2, void (*func)(void *), void *arg, bool suspended, lwpid_t *lid) noexcept {
	proc_t *p = l2->l_proc;  // its creator's; or a new one, and it is the first
	vcpu_t *me = l1->l_cpu;
	procpart *pp = me->vc_part;
	procshare *sh = proc_share(p, pp);
	l2->l_func = func;
	l2->l_arg = arg;
	l2->l_oncpu.store(true, std::memory_order_relaxed);  // relaxed: nobody knows it yet
	// LSIDL and LSSUSPENDED are covered by the vc_lwplock of a vCPU that lasts, so not by that of an adopted kernel thread.
	vcpu_t *home = me->vc_bound ? sched.sd_vcpu[0] : me;

	part_hold hold(p, pp, me);
	if (LWP_UNLIKELY(pp->pp_allowance <= 0 || !proc0.p_running)) {
		hold.widen(me);
		const bool room = share_out(p, pp);
		hold.narrow(me);
		if (!room) {
			hold.unlock(me);
			return EAGAIN;
		}
	}
	if (LWP_UNLIKELY(bound_to_a_set(l2))) {
		hold.unlock(me);
		return EPERM;
	}
	if (LWP_UNLIKELY(p != &proc0) && !proc_admit(p)) {
		hold.unlock(me);
		return EAGAIN;
	}
	const std::uint64_t number = part_next_number(p, pp, l1->l_made);
	l2->ln_lid.store(number_lid(number), std::memory_order_relaxed);  // relaxed: published by the table
	if (int error = pp->pp_lwps.insert(l2)) {
		if (p != &proc0) {
			proc_refuse(p);
		}
		hold.unlock(me);
		return error;
	}
	if (LWP_UNLIKELY(p != &proc0)) {
		sh->pp_own.push_back(l2);
	}
	l1->l_made = number;
	l2->l_made = number;
	l2->l_part = pp;
	// Locked from here until it can run: who finds it in the table finds it dead, LSIDL, or running.
	home->vc_lwplock.lock(me);
	l2->l_cpu = home;
	inherit_places(l1, l2);
	lwp_setstat(l2, lwp_stat::idl, &home->vc_lwplock);
	*lid = lwp_lid(l2);
	l2->l_cred = cred_hold(p->p_cred);
	sh->pp_nlwps++;
	pp->pp_allowance--;
	if ((l2->l_prflag & LPR_DETACHED) != 0) {
		sh->pp_ndlwps++;
	}
	// What was posted to all holds for it too, though its creator has not come to the boundary yet (Q8); a creator that is to be suspended itself
	// makes no running ones.  In a stopped proc it is born stopped, or, suspended, stops when it is continued (Q27).  (The first of a proc there would be
	// nobody to continue.)
	const std::uint32_t contagious = LWP_LIKELY(l1->l_proc == p) ? LW_WSUSPEND | LW_WREBOOT : LW_WREBOOT;
	// In a proc that ends it runs to its first boundary, where it ends: nobody would continue it.
	const bool asleep = (suspended || (lwp_flags(l1) & contagious) != 0) && LWP_LIKELY((p->p_post & LW_WLEAVE) == 0);
	const bool still = proc_holds(p, l2);
	// A signal of the proc that all others mask is for the new one, if it does not.
	l2->l_sigmask = l1->l_sigmask;
	const bool signalled = LWP_UNLIKELY((p->p_sigpend.load(std::memory_order_relaxed) & ~l2->l_sigmask) != 0);  // relaxed: under a pp_lock
	l2->l_flag.store(LW_INMEM | p->p_post | (signalled ? LW_PENDSIG : 0U) | (asleep ? LW_WSUSPEND : 0U) | (still ? LW_WSTOP : 0U),
	    std::memory_order_relaxed);  // relaxed: locked
	if (LWP_UNLIKELY(asleep)) {
		lwp_setstat(l2, lwp_stat::suspended, &home->vc_lwplock);
		home->vc_lwplock.unlock(me);
		hold.unlock(me);
		return 0;
	}
	if (LWP_UNLIKELY(still)) {
		lwp_setstat(l2, lwp_stat::stop, &home->vc_lwplock);
		home->vc_lwplock.unlock(me);
		hold.unlock(me);
		return 0;
	}
	part_add(sh->pp_nrlwps, 1);
	hold.unlock(me);
	sched_wake_and_unlock(l2, &home->vc_lwplock, queue_end::newest_first);
	return 0;
}

}  // namespace

int lwp_start(lwp_t *l1, lwp_t *l2, void (*func)(void *), void *arg, bool suspended, lwpid_t *lid) noexcept {
	const int error = enter_and_run(l1, l2, func, arg, suspended, lid);
	const proc_ops *ops = l1->l_proc->p_ops.load(std::memory_order_acquire);  // pairs with the release of who set it
	if (LWP_UNLIKELY(ops != nullptr) && error == 0 && ops->on_lwp_fork != nullptr) {
		ops->on_lwp_fork(lwp_lid(l1), *lid);
	}
	return error;
}

}  // namespace lwp::kern
