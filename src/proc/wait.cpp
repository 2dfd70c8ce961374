// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_wait1(): collecting the dead.  A waiter leaves a record; whoever ends its wait (the LWP that dies, a detach, the deadlock rule) takes the
// record off both lists and gives the result in the same breath, so the counters count exactly the waits that nobody has satisfied yet, and no
// two waiters ever stampede for one zombie.
//
// What covers a wait:
//   for one LWP    pp_lock of the target's part.  To begin one takes that of the waiter's part too; if the two differ the wait is "far".
//   for any LWP    all locks
// It is the interlock of the sleep as well (for any: one of them, the waiter's).
//
// EDEADLK, in place of rev 1.73's formula (quirk Q9): nobody but unsatisfied waiters is RUN, ONPROC or SLEEP, detached ones included; or the
// LWP waited for waits, directly or along a chain, for the caller.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/priority.h"
#include "sync/waitgraph.h"

#include <cerrno>

namespace lwp::kern {
namespace {

lwp_t *target_of(const void *wchan) noexcept { return static_cast<const waitrec *>(wchan)->wr_target; }

/// What a caller of lwp_wait1() holds while it looks.
enum class held { target, both, all };

LWP_ALWAYS_INLINE bool same_part(const waitrec *wr) noexcept { return wr->wr_target->l_part == wr->wr_lwp->l_part; }

/// Takes it out of the counters, if it is in them.  What covers it is held.
LWP_ALWAYS_INLINE void wait_uncount(waitrec *wr) noexcept {
	procshare *pp = lwp_share(wr->wr_lwp);
	if (LWP_UNLIKELY(!wr->wr_counted)) {
		return;  // its LWP is stopped: neither counts
	}
	wr->wr_counted = false;
	if (LWP_LIKELY(wr->wr_target == nullptr || same_part(wr))) {
		part_add(pp->pp_nlwpwait, minus_one);
	} else {
		pp->pp_nfarwait.fetch_sub(1, std::memory_order_relaxed);  // relaxed: somebody runs more than was counted, no harm
	}
}

/// Begins a wait; `near`: for an LWP of the waiter's part.  What covers it and the waiter's pp_lock are held.
LWP_ALWAYS_INLINE void enter(proc_t *p, waitrec *wr, bool near) noexcept {
	lwp_t *l = wr->wr_lwp;
	lwp_t *target = wr->wr_target;
	procshare *mine = proc_share(p, l->l_part);
	wr->wr_began = l->l_cpu->vc_polled;
	l->l_farwait = !near;
	l->l_wait.store(wr, std::memory_order_relaxed);  // relaxed: who sees it has one of the locks that we hold
	if (!near && target == nullptr) {
		p->p_anywaits.push_back(wr);
		p->p_nanywaits.store(p->p_nanywaits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: all locks are held
		part_add(mine->pp_nlwpwait, 1);
		wr->wr_counted = true;
		return;
	}
	wr->wr_counted = true;
	if (near) {
		part_add(mine->pp_nlwpwait, 1);
	} else {
		mine->pp_nfarwait.fetch_add(1, std::memory_order_relaxed);  // relaxed: read with one of the locks that we hold, or see proc_dry()
	}
	proc_share(p, target->l_part)->pp_waits.push_back(wr);
	// Those that wait for one LWP hang in a chain from it; the first of them knows the last.
	waitrec *&first = target->l_waiters;
	wr->wr_for = {};
	if (first == nullptr) {
		first = wr;
	} else {
		wr->wr_for.prev = first->wr_last;
		first->wr_last->wr_for.next = wr;
	}
	first->wr_last = wr;
}

/// Ends one.  What covers it is held.
void leave(proc_t *p, waitrec *wr) noexcept {
	lwp_t *l = wr->wr_lwp;
	l->l_wait.store(nullptr, std::memory_order_relaxed);  // relaxed: see enter()
	wr->wr_done = true;
	if (wr->wr_target == nullptr) {
		LWP_ASSERT(proc_held_all(p));
		p->p_anywaits.remove(wr);
		p->p_nanywaits.store(p->p_nanywaits.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: all locks are held
		wait_uncount(wr);
		return;
	}
	LWP_ASSERT(wr->wr_target->l_part->pp_lock.held());
	wait_uncount(wr);
	proc_share(p, wr->wr_target->l_part)->pp_waits.remove(wr);
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

/// Whether `t` waits, at the end of a chain of waits for one LWP each, for `l`: EDEADLK if so, 0 if not; -1 if the chain leaves the part whose
/// lock is held and `have` is not all.
LWP_ALWAYS_INLINE int waits_for(const lwp_t *t, const lwp_t *l, held have) noexcept {
	if (l->l_waiters == nullptr) {
		return 0;  // nobody waits for the caller: there is no chain to follow
	}
	while (t != l) {
		// With the lock of its part held, who does not wait does not begin; a wait that is not far does not end either.  The chain stays
		// in one part as long as no wait is far.
		const waitrec *wr = t->l_wait.load(std::memory_order_relaxed);
		if (wr == nullptr) {
			return 0;
		}
		if (t->l_farwait && have != held::all) {
			return -1;
		}
		t = wr->wr_target;  // no cycle without `l`: it would have been refused
		if (t == nullptr) {
			return 0;
		}
	}
	return EDEADLK;
}

std::size_t candidates(const proc_counts &c, const lwp_t *waiter) noexcept {
	return c.nlwps - c.ndlwps - ((waiter->l_prflag & LPR_DETACHED) == 0 ? 1 : 0);
}

void take(proc_t *p, held have, lwpid_t lid, const lwp_t *l, vcpu_t *me) noexcept {
	procpart *pp = proc_part(p, lid);
	if (have == held::all) {
		proc_lock_all(p, me);
	} else if (have == held::both) {
		procpart *mine = l->l_part;
		(pp < mine ? pp : mine)->pp_lock.lock(me);
		(pp < mine ? mine : pp)->pp_lock.lock(me);
	} else {
		pp->pp_lock.lock(me);
	}
}

/// Releases what take() took, but not `keep`.
void let_go(proc_t *p, held have, lwpid_t lid, const lwp_t *l, const procpart *keep, vcpu_t *me) noexcept {
	procpart *pp = proc_part(p, lid);
	if (have == held::all) {
		proc_unlock_all(p, me, keep);
		return;
	}
	if (have == held::both && l->l_part != keep) {
		l->l_part->pp_lock.unlock(me);
	}
	if (pp != keep) {
		pp->pp_lock.unlock(me);
	}
}

/// Releases all locks but that of the dead one's part, then that too.
int collect_and_unlock(proc_t *p, lwp_t *dead, lwpid_t *departed, vcpu_t *me) noexcept {
	if (departed != nullptr) {
		*departed = lwp_lid(dead);
	}
	const int worn = dead->l_decay - dead->l_borndecay;  // the dead have no lock: nobody changes it any more
	lwp_free_and_unlock(p, dead, me);
	if (LWP_UNLIKELY(worn > 0)) {
		sched_collect(me->vc_curlwp, static_cast<unsigned>(worn));
	}
	return 0;
}

/// What can be said about one LWP without sleeping; -1 if nothing.  On 0 *target is dead, the caller's, and claimed.  Lock of its part held.
LWP_ALWAYS_INLINE int look(proc_t *p, const lwp_t *l, lwpid_t lid, lwp_t **target) noexcept {
	lwp_t *t = lwp_find_any(p, lid);
	if (t == l) {
		return EDEADLK;
	}
	if (t == nullptr || (t->l_prflag & (LPR_DETACHED | LPR_CLAIMED)) != 0 || lwp_state(t) == lwp_stat::idl) {
		return ESRCH;
	}
	*target = t;
	if (lwp_state(t) != lwp_stat::zomb) {
		return -1;
	}
	proc_share(p, t->l_part)->pp_zombies.remove(t);
	t->l_prflag |= LPR_CLAIMED;
	return 0;
}

/// The oldest zombie of a share, claimed, or null.  pp_lock held.
lwp_t *pop_zombie(procshare *pp) noexcept {
	lwp_t *dead = pp->pp_zombies.pop_front();
	if (dead != nullptr) {
		dead->l_prflag |= LPR_CLAIMED;
	}
	return dead;
}

/// A wait that was taken back before its sleep, because whom it is for waits as well: follow that first.
constexpr int follow_first = -2;

/// Sleeps until the wait ends, or somebody kicks us out of it.  `cover` is held, released; it or all locks cover the wait.
/// `follow`: null, or where to leave the target with follow_first.
LWP_ALWAYS_INLINE int sleep_and_leave(proc_t *p, lwp_t *l, waitrec *wr, procpart *cover, lwpid_t *departed, lwp_t **follow) noexcept {
	if (LWP_LIKELY(wr->wr_target != nullptr) && LWP_UNLIKELY(waitgraph_settle(l, wr->wr_target)) && follow != nullptr) {
		*follow = wr->wr_target;
		wait_take_back(p, wr, 0);
		cover->pp_lock.unlock(l->l_cpu);
		return follow_first;
	}
	// The interlock is released when our own lock is held, so whoever ends our wait finds us asleep, or awake for good.
	spinlock *lock = sleepq_enter_self(l);
	const int error = sleepq_block_self_and_unlock(l, lock,
	    {.wchan = wr,
	        .wmesg = "lwpwait",
	        .sobj = &wait_syncobj,
	        .interruptible = sleep_catch::yes,
	        .deadline = never,
	        .token = 0,
	        .interlock = &cover->pp_lock});
	waitgraph_done(l);
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, cover, me);
	if (LWP_UNLIKELY(!wr->wr_done)) {  // kicked out: suspend, interrupt
		if (wr->wr_target == nullptr) {
			hold.widen(me);
		}
		if (!wr->wr_done) {
			wait_take_back(p, wr, error == 0 ? ERESTART : error);
		}
		hold.narrow(me);
	}
	lwp_t *dead = wr->wr_departed;
	if (LWP_LIKELY(dead != nullptr)) {
		if (LWP_UNLIKELY(dead->l_part != cover)) {
			hold.unlock(me);
			dead->l_part->pp_lock.lock(me);  // it is claimed: nobody else frees it
		}
		return collect_and_unlock(p, dead, departed, me);
	}
	hold.unlock(me);
	return wr->wr_error;
}

LWP_NOINLINE int wait_one_slow(proc_t *p, lwp_t *l, lwpid_t lid, lwpid_t *departed, held have, lwp_t **follow) noexcept {
	vcpu_t *me = l->l_cpu;
	procpart *pp = proc_part(p, lid);
	for (;;) {
		lwp_t *target = nullptr;
		take(p, have, lid, l, me);
		int error = look(p, l, lid, &target);
		if (error == 0) {
			let_go(p, have, lid, l, pp, me);
			return collect_and_unlock(p, target, departed, me);
		}
		if (error < 0 && have == held::target && pp != l->l_part) {
			let_go(p, have, lid, l, nullptr, me);
			have = held::both;
			continue;
		}
		if (error < 0) {
			const int cycle = waits_for(target, l, have);
			if (cycle < 0) {
				let_go(p, have, lid, l, nullptr, me);
				have = held::all;
				continue;
			}
			error = cycle != 0 ? cycle : error;
		}
		waitrec wr;
		if (error < 0) {
			wr.wr_lwp = l;
			wr.wr_target = target;
			enter(p, &wr, same_part(&wr));
			if (LWP_UNLIKELY(part_dry(proc_share(p, l->l_part)) && proc_dry(p))) {  // after we have counted ourselves: see there
				leave(p, &wr);
				if (have != held::all) {
					let_go(p, have, lid, l, nullptr, me);
					have = held::all;
					continue;
				}
				error = proc_holds(p, l) ? ERESTART : EDEADLK;  // held: to the boundary, where we stop too
			}
		}
		let_go(p, have, lid, l, error < 0 ? pp : nullptr, me);
		return error < 0 ? sleep_and_leave(p, l, &wr, pp, departed, follow) : error;
	}
}

/// The same where nothing but the lock of the target's part is needed, as it is most often.
LWP_ALWAYS_INLINE int wait_one(proc_t *p, lwp_t *l, lwpid_t lid, lwpid_t *departed, lwp_t **follow) noexcept {
	vcpu_t *me = l->l_cpu;
	procpart *pp = proc_part(p, lid);
	lwp_t *target = nullptr;
	pp->pp_lock.lock(me);
	const int error = look(p, l, lid, &target);
	if (error == 0) {
		return collect_and_unlock(p, target, departed, me);
	}
	if (LWP_UNLIKELY(error > 0)) {
		pp->pp_lock.unlock(me);
		return error;
	}
	if (LWP_UNLIKELY(pp != l->l_part)) {
		pp->pp_lock.unlock(me);
		return wait_one_slow(p, l, lid, departed, held::both, follow);
	}
	const int cycle = waits_for(target, l, held::target);
	if (LWP_UNLIKELY(cycle != 0)) {
		pp->pp_lock.unlock(me);
		return cycle > 0 ? cycle : wait_one_slow(p, l, lid, departed, held::all, follow);
	}
	waitrec wr;
	wr.wr_lwp = l;
	wr.wr_target = target;
	enter(p, &wr, true);
	if (LWP_UNLIKELY(part_dry(proc_share(p, pp)) && proc_dry(p))) {  // after we have counted ourselves: see there
		leave(p, &wr);
		pp->pp_lock.unlock(me);
		return wait_one_slow(p, l, lid, departed, held::all, follow);
	}
	return sleep_and_leave(p, l, &wr, pp, departed, follow);
}

LWP_NOINLINE int wait_any(proc_t *p, lwp_t *l, lwpid_t *departed) noexcept {
	vcpu_t *me = l->l_cpu;
	procpart *mine = l->l_part;
	part_hold hold(p, mine, me);
	lwp_t *dead = pop_zombie(proc_share(p, mine));
	if (dead == nullptr) {
		hold.widen(me);
		if (const std::uint32_t n = proc_nparts(p); n != 1) {  // else nothing was let go of
			dead = pop_zombie(proc_share(p, mine));
			for (std::uint32_t i = 0; dead == nullptr && i < n; i++) {
				dead = pop_zombie(proc_share(p, &proc0_parts[i]));
			}
		}
	}
	if (dead != nullptr) {
		if (hold.all()) {
			proc_unlock_all(p, me, dead->l_part);
		}
		return collect_and_unlock(p, dead, departed, me);
	}
	const proc_counts c = proc_count(p);
	const bool stuck = c.nrlwps == c.nlwpwait + 1;  // + 1: we are about to wait as well
	const int error = candidates(c, l) == 0 ? ESRCH : !stuck ? 0 : proc_holds(p, l) ? ERESTART : EDEADLK;
	if (error != 0) {
		hold.unlock(me);
		return error;
	}
	waitrec wr;
	wr.wr_lwp = l;
	enter(p, &wr, false);
	hold.narrow(me);
	return sleep_and_leave(p, l, &wr, mine, departed, nullptr);
}

}  // namespace

const syncobj wait_syncobj = {"end of an LWP", target_of};

void wait_stand_still(waitrec *wr, bool stopped) noexcept {
	if (stopped) {
		wait_uncount(wr);
		return;
	}
	wr->wr_counted = true;
	procshare *pp = lwp_share(wr->wr_lwp);
	if (wr->wr_target == nullptr || same_part(wr)) {
		part_add(pp->pp_nlwpwait, 1);
	} else {
		pp->pp_nfarwait.fetch_add(1, std::memory_order_relaxed);  // relaxed: all locks are held
	}
}

void wait_take_back(proc_t *p, waitrec *wr, int error) noexcept {
	leave(p, wr);
	wr->wr_error = error;
}

void wait_end(proc_t *p, waitrec *wr, int error, lwp_t *departed, vcpu_t *me) noexcept {
	lwp_t *waiter = wr->wr_lwp;
	leave(p, wr);
	wr->wr_error = error;
	wr->wr_departed = departed;
	// It let go of its interlock with its own lock held: so it is asleep on wr, or awake for good (woken, or kicked before it slept) and will
	// find wr_done, once we have let go of what covers its wait.
	spinlock *lock = lwp_lock(waiter, me);
	if (lwp_asleep(waiter) && waiter->l_wchan == wr) {
		// Like a new LWP it goes first: its child's end may let it end too.
		sleepq_unsleep_and_unlock(waiter, lock, 0, queue_end::newest_first);
	} else {
		lock->unlock(me);
	}
}

namespace {

/// All locks held: each end with a wait for any under way asks, and most often that was the only one.
LWP_ALWAYS_INLINE bool nobody_waits(const proc_t *p) noexcept {
	for (std::uint32_t i = 0, n = proc_nparts(p); i < n; i++) {
		const procshare *pp = proc_share(p, &proc0_parts[i]);
		// relaxed: all locks are held
		if ((pp->pp_nlwpwait.load(std::memory_order_relaxed) | pp->pp_nfarwait.load(std::memory_order_relaxed)) != 0) {
			return false;
		}
	}
	return true;
}

LWP_NOINLINE void recheck(proc_t *p, vcpu_t *me) noexcept {
	proc_counts c = proc_count(p);
	// At most one LWP that anybody may wait for is left: those that wait for any may have none.
	if (c.nlwps - c.ndlwps <= 1) {
		for (waitrec *wr = p->p_anywaits.front(), *next; wr != nullptr; wr = next) {
			next = list<waitrec, &waitrec::wr_link>::next(wr);
			if (candidates(c, wr->wr_lwp) == 0) {
				wait_end(p, wr, ESRCH, nullptr, me);
				c.nlwpwait--;
			}
		}
	}
	if (c.nrlwps != c.nlwpwait || p->p_held) {
		return;
	}
	// Nobody is left who could end or make another end: the one that began to wait last is told, and may then do something about it.
	waitrec *last = p->p_anywaits.back();
	proc_each_share(p, [&last](procshare &pp) {
		waitrec *wr = pp.pp_waits.back();
		if (wr != nullptr && (last == nullptr || wr->wr_began > last->wr_began)) {
			last = wr;
		}
	});
	if (last != nullptr) {
		wait_end(p, last, EDEADLK, nullptr, me);
	}
}

}  // namespace

void wait_recheck(proc_t *p, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(!nobody_waits(p))) {
		recheck(p, me);
	}
}

void wait_candidate_gone_slow(proc_t *p, vcpu_t *me) noexcept {
	proc_scope hold(p, me);
	wait_recheck(p, me);
}

int lwp_wait1(lwp_t *l, lwpid_t lid, lwpid_t *departed) noexcept {
	if (LWP_UNLIKELY(lid <= 0)) {
		return lid < 0 ? ESRCH : wait_any(l->l_proc, l, departed);
	}
	lwp_t *target = nullptr;
	int error = wait_one(l->l_proc, l, lid, departed, &target);
	if (LWP_UNLIKELY(error == follow_first)) {
		waitgraph_follow(l, target, &wait_syncobj, nullptr);
		error = wait_one(l->l_proc, l, lid, departed, nullptr);
		waitgraph_done(l);
	}
	return error;
}

int lwp_detach(lwp_t *l, lwpid_t lid) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	spinlock &lock = proc_part(p, lid)->pp_lock;
	lock.lock(me);
	lwp_t *t = lid > 0 ? lwp_find_any(p, lid) : nullptr;
	int error = 0;
	if (t == nullptr || lwp_state(t) == lwp_stat::idl || (t->l_prflag & LPR_CLAIMED) != 0) {
		error = ESRCH;
	} else if ((t->l_prflag & LPR_DETACHED) != 0) {
		error = EINVAL;
	} else if (lwp_state(t) == lwp_stat::zomb) {
		proc_share(p, t->l_part)->pp_zombies.remove(t);
		lwp_free_and_unlock(p, t, me);  // the id is out of the table before it lets go of the lock
		return 0;
	} else {
		t->l_prflag |= LPR_DETACHED;
		proc_share(p, t->l_part)->pp_ndlwps++;
		while (t->l_waiters != nullptr) {
			wait_end(p, t->l_waiters, ESRCH, nullptr, me);
		}
	}
	lock.unlock(me);
	if (error == 0) {
		wait_candidate_gone(p, me);
	}
	return error;
}

}  // namespace lwp::kern
