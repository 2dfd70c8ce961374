// SPDX-License-Identifier: BSD-2-Clause
//
// Standing still: a proc stopped and continued, and the world, all procs, stopped by one LWP that runs on.  Both are one thing, who is to be LSSTOP:
// everybody in the proc while p_stopped, everybody in all procs while proc0's p_world is set, but never that one.  Both change under all pp_locks, and each LWP is
// brought into line in the same breath:
//
//   it is            to stop                                      to go on
//   LSSLEEP          LSSTOP in place: still on its list, its       was it woken meanwhile, LSRUN; is there something for it to do at the
//                    timer still runs, its wait is not counted     boundary, LSRUN, kicked out of its sleep; else LSSLEEP as before
//   LSRUN, LSONPROC  LW_WSTOP: LSSTOP at its next boundary, and    LW_WSTOP is cleared
//                    no interruptible sleep before that
//   LSSUSPENDED      LW_WSTOP: if it is continued it runs to the boundary, where it stands, and stops
//   not yet made     born LSSTOP (proc/create.cpp)
//
// No wake-up is lost or made up: a sleep ends by whoever ends it, stopped or not (sync/sleepq.cpp), and who was stopped in it learns of it when it
// goes on.  Any sleeper is stopped in its sleep, also one that may not be interrupted: whoever would end that sleep is stopped too.  One that
// lends its priority goes on lending: loans are made and given back with the list that it is still on (sync/turnstile.h).
// Takes: all pp_locks, then the lock of each LWP.  These walk over all LWPs.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/preempt.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace lwp::kern {
namespace {

const syncobj world_syncobj = {"all to stand still"};

/// LSSLEEP to LSSTOP.  Locked by `lock`, released.
void stop_sleeper_and_unlock(lwp_t *l, spinlock *lock, vcpu_t *me) noexcept {
	if (waitrec *wr = l->l_wait.load(std::memory_order_relaxed)) {  // relaxed: all locks are held
		wait_stand_still(wr, true);
	}
	part_add(lwp_share(l)->pp_nrlwps, minus_one);
	lwp_setstat(l, lwp_stat::stop, lock);
	lock->unlock(me);
}

/// LSSTOP to where it was.  Locked by `lock`, released.
void start_again_and_unlock(proc_t *p, lwp_t *l, spinlock *lock, vcpu_t *me) noexcept {
	part_add(proc_share(p, l->l_part)->pp_nrlwps, 1);
	if (l->l_wchan == nullptr) {
		sched_wake_and_unlock(l, lock);
		return;
	}
	const std::uint32_t flags = lwp_flags(l);
	waitrec *wr = l->l_wait.load(std::memory_order_relaxed);  // relaxed: all locks are held
	if (wr != nullptr) {
		wait_stand_still(wr, false);
	}
	lwp_setstat(l, lwp_stat::sleep, lock);
	if ((flags & LW_SINTR) == 0 || (flags & (LW_USERRET | LW_CANCELLED)) == 0) {
		lock->unlock(me);
		return;
	}
	// Posted while it stood still: now is the time to come to the boundary.
	const int error = (flags & (LW_CANCELLED | LW_WEXIT | LW_WCORE)) != 0 ? EINTR : (flags & LW_PENDSIG) != 0 ? ERESTART : 0;
	lwp_flag_clear(l, LW_CANCELLED);
	if (wr != nullptr) {
		wait_take_back(p, wr, error == EINTR ? EINTR : ERESTART);
	}
	sleepq_unsleep_and_unlock(l, lock, error);
}

/// After p_stopped or p_world has changed.  All locks held.
void bring_lwp_into_line(proc_t *p, lwp_t *l, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(l, me);
	const lwp_stat s = lwp_state(l);
	if (s == lwp_stat::zomb || s == lwp_stat::idl) {
		lock->unlock(me);
	} else if (proc_holds(p, l)) {
		lwp_flag_set(l, LW_WSTOP);
		s == lwp_stat::sleep ? stop_sleeper_and_unlock(l, lock, me) : lock->unlock(me);
	} else {
		lwp_flag_clear(l, LW_WSTOP);
		s == lwp_stat::stop ? start_again_and_unlock(p, l, lock, me) : lock->unlock(me);
	}
}

/// All locks held.
void bring_into_line(proc_t *p, vcpu_t *me) noexcept {
	p->p_held = p->p_stopped || proc0.p_world != nullptr;
	proc_each_lwp(p, [&](lwp_t *l) { bring_lwp_into_line(p, l, me); });
	proc_check(p);
	if (!p->p_held) {
		wait_recheck(p, me);  // nobody has looked for deadlocks meanwhile
	}
	proc_cv_broadcast(p, me);
}

void set_stopped_locked(proc_t *p, bool stopped, vcpu_t *me) noexcept {
	if (p->p_stopped != stopped) {
		p->p_stopped = stopped;
		bring_into_line(p, me);
	}
}

void set_stopped(proc_t *p, bool stopped, vcpu_t *me) noexcept {
	const proc_scope hold(p, me);
	if (p->p_stat == proc_stat::active && (!stopped || (p->p_post & LW_WLEAVE) == 0)) {  // nothing holds up its end
		set_stopped_locked(p, stopped, me);
	}
}

/// Whether nobody but the caller runs, or is about to.  Stops those that fell asleep on their way to the boundary.  All locks held.
bool all_still(const lwp_t *l, vcpu_t *me) noexcept {
	if (proc_count(nullptr).nrlwps == 1) {
		return true;
	}
	bool still = true;
	proc_each_lwp(nullptr, [&](lwp_t *other) {
		spinlock *lock = lwp_lock(other, me);
		const lwp_stat s = lwp_state(other);
		if (s == lwp_stat::sleep && other != l) {
			stop_sleeper_and_unlock(other, lock, me);
			return;
		}
		still = still && (other == l || (s != lwp_stat::run && s != lwp_stat::onproc));
		lock->unlock(me);
	});
	return still;
}

/// All locks held.
void set_world(lwp_t *world, vcpu_t *me) noexcept {
	proc0.p_world = world;
	proc0.p_worlds = world != nullptr ? 1 : 0;
	procs_each([me](proc_t *p) { bring_into_line(p, me); });
}

}  // namespace

void proc_stop(proc_t *p, vcpu_t *me) noexcept { set_stopped(p, true, me); }

void proc_continue(proc_t *p, vcpu_t *me) noexcept { set_stopped(p, false, me); }

void proc_unstop_locked(proc_t *p, vcpu_t *me) noexcept { set_stopped_locked(p, false, me); }

bool proc_is_stopped(const proc_t *p, vcpu_t *me) noexcept {
	lock_scope hold(proc0_parts[0].pp_lock, me);
	return p->p_stopped;
}

void proc_let_go(proc_t *p, vcpu_t *me) noexcept {
	const proc_scope hold(p, me);
	procs_each([](proc_t *each) { each->p_stopped = false; });
	set_world(nullptr, me);
}

int world_stop(lwp_t *l, nanotime deadline) noexcept {
	proc_t *p = l->l_proc;
	for (;;) {
		proc_lock_all(p, l->l_cpu);
		if (proc0.p_world == l) {
			proc0.p_worlds++;
			proc_unlock_all(p, l->l_cpu);
			return 0;
		}
		if (!p->p_held) {
			set_world(l, l->l_cpu);
			proc_unlock_all(p, l->l_cpu);
			biglock_keep(l, true);
			break;
		}
		// Another was first, or the proc is stopped: we stand still as well, and try again when we go on.
		proc_unlock_all(p, l->l_cpu);
		lwp_userret(l);
	}
	// Those that are queued here come to their boundary while we yield; for others a look now and then, since nobody who stops should have to
	// wake us: there may be a hundred thousand of them.
	for (nanotime pause = 20'000;; pause = std::min<nanotime>(pause * 2, 2'000'000)) {
		lwp_yield_cpu(l);
		const nanotime when = now();
		{
			const proc_scope hold(p, l->l_cpu);
			if (all_still(l, l->l_cpu)) {
				return 0;
			}
			if (when >= deadline) {
				biglock_keep(l, false);
				set_world(nullptr, l->l_cpu);
				return ETIMEDOUT;
			}
		}
		preempt_hurry();
		spinlock *lock = sleepq_enter_self(l);
		(void)sleepq_block_self_and_unlock(
		    l, lock, {&proc0.p_world, "world", &world_syncobj, sleep_catch::no, std::min(when + pause, deadline)});
	}
}

void world_continue(lwp_t *l, bool all) noexcept {
	proc_t *p = l->l_proc;
	const proc_scope hold(p, l->l_cpu);
	LWP_CHECK(proc0.p_world == l, "the world is let go on by another LWP than the one that stopped it");
	if (--proc0.p_worlds == 0 || all) {
		biglock_keep(l, false);
		set_world(nullptr, l->l_cpu);
	}
}

void world_stack(world_member *m) noexcept {
	if (!m->adopted) {
		return;
	}
	pthread_attr_t attr;
	void *low = nullptr;
	std::size_t size = 0;
	if (::pthread_getattr_np(m->kthread, &attr) == 0) {
		::pthread_attr_getstack(&attr, &low, &size);
		::pthread_attr_destroy(&attr);
	}
	m->stack_low = low;
	m->stack_high = static_cast<const std::byte *>(low) + size;
	m->sp = m->sp != nullptr ? m->sp : low;
}

LWP_NOINLINE std::size_t world_members(lwp_t *l, world_member *members, std::size_t room) noexcept {
	vcpu_t *me = l->l_cpu;
	LWP_ASSERT(proc0.p_world == l);
	std::size_t n = 0;
	proc_for_each(nullptr, me, [&](lwp_t *t) {
		lwp_lock(t, me)->unlock(me);  // whoever has had its lock since it stood still sees it off its stack, and where that ends
		const lwp_stat s = lwp_state(t);
		if (s == lwp_stat::zomb || s == lwp_stat::idl) {
			return;  // they keep nothing
		}
		if (n++ >= room) {
			return;
		}
		world_member *m = &members[n - 1];
		m->lid = lwp_lid(t);
		std::memcpy(m->name, t->l_name, sizeof m->name);
		m->stat = s;
		m->adopted = t->l_adopted;
		m->kthread = t->l_kthread;
		m->stack_low = t->l_stack.s_base;
		m->stack_high = t->l_stack.s_base + t->l_stack.s_size;
		m->sp = t == l                                                       ? __builtin_frame_address(0)
		    : t->l_frozen != nullptr || (t->l_adopted && t->l_cpu->vc_bound) ? t->l_boundsp
		                                                                     : context_sp(t->l_ctx);
		m->sp = m->sp != nullptr ? m->sp : m->stack_low;
	});
	return n;
}

}  // namespace lwp::kern
