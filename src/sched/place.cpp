// SPDX-License-Identifier: BSD-2-Clause
#include "sched/place.h"

#include "base/assert.h"
#include "base/sys.h"
#include "sched/idle.h"
#include "sched/pageq.h"

#include <algorithm>

namespace lwp::kern {
namespace {

/// With vc_rqlock held, and released: `l` was put into the run queue of `me`.
LWP_ALWAYS_INLINE void queued_and_unlock(vcpu_t *me, lwp_t *l, spinlock *held) noexcept {
	const pri_t pri = l->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
	// A real-time one also behind its equals: the one that runs may have a slice to keep (round robin).
	if (LWP_UNLIKELY(pri > me->vc_curlwp->l_priority.load(std::memory_order_relaxed) || pri >= pri_user_rt)) {
		// relaxed: what is queued is our own; if the flag is set it stays so until we look
		if (!me->vc_resched.load(std::memory_order_relaxed)) {
			vcpu_need_resched(me);
		}
	}
	me->vc_rqlock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
	sched_work_queued(me);
}

LWP_ALWAYS_INLINE void queue_here(vcpu_t *me, lwp_t *l, spinlock *held, queue_end end) noexcept {
	me->vc_rqlock.lock(me);
	lwp_setstat(l, lwp_stat::run, &me->vc_rqlock);
	l->l_cpu = me;
	me->vc_rq.push(l, l->l_class == sched_class::other ? end : queue_end::line);
	queued_and_unlock(me, l, held);
}

/// A hand-over on `me` as most are.  True: done.  It calls nothing, so it keeps nothing on the stack: what a hand-over waits for is stores.
LWP_ALWAYS_INLINE bool hand_over_here(vcpu_t *me, lwp_t *l, spinlock *held) noexcept {
	// The same questions as in sched_wake_and_unlock() and sched_takecpu().
	const bool here = (lwp_flags(l) & LW_INMEM) != 0 && l->l_bound == bound_none && !sched_psets() && l->l_class == sched_class::other &&
	    !(l->l_adopted && l->l_cpu->vc_bound) && me->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts;
	if (LWP_UNLIKELY(!here) || LWP_UNLIKELY(!me->vc_rqlock.lock_own(me))) {
		return false;
	}
	if (LWP_UNLIKELY(!me->vc_rq.push_next(l))) {
		me->vc_rqlock.unlock(me);
		return false;
	}
	lwp_setstat(l, lwp_stat::run, &me->vc_rqlock);
	l->l_cpu = me;
	queued_and_unlock(me, l, held);
	return true;
}

LWP_NOINLINE void queue_there(vcpu_t *vc, lwp_t *l, spinlock *held, vcpu_t *me) noexcept {
	vc->vc_inlock.lock(me);
	inbox_put(vc, l, false);
	vc->vc_resched.store(true, std::memory_order_release);  // pairs with the exchange in lwp_preempt_cpu(): at its next boundary it looks
	vc->vc_inlock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
	vcpu_unhalt(vc);
}

/// Woken, but its stack is not in memory: it waits for the pager.
LWP_NOINLINE void queue_for_memory(lwp_t *l, spinlock *held, vcpu_t *me) noexcept {
	pageq.pq_lock.lock(me);
	lwp_setstat(l, lwp_stat::run, &pageq.pq_lock);
	pageq.pq_lwps.push_back(l);
	pageq.pq_lock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
	pageq_call();
}

/// On `vc`, which is one of the runtime's.
bool may_run_on(const lwp_t *l, const vcpu_t *vc) noexcept {
	return sched_may_run(l, static_cast<unsigned>(vc->vc_index.load(std::memory_order_relaxed)));  // relaxed: of one that acts it stays
}

/// relaxed: our own, or a guess: who is queued on one that goes away this moment is moved on (vcpu_unhalt())
bool acts(const vcpu_t *vc) noexcept { return vc->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts; }

/// Whose turn it is, of those that it may run on.
vcpu_t *next_in_turn(const lwp_t *l, unsigned count) noexcept {
	const unsigned turn = sched.sd_next.fetch_add(1, std::memory_order_relaxed);  // relaxed: any is right
	for (unsigned i = 0; i < count; i++) {
		const unsigned index = (turn + i) % count;
		if (sched_may_run(l, index)) {
			return sched.sd_vcpu[index];
		}
	}
	LWP_ASSERT(false);  // a processor set with LWPs has a vCPU, and an affinity names one that there is
	return sched.sd_vcpu[turn % count];
}

LWP_NOINLINE vcpu_t *from_outside(const lwp_t *l) noexcept {  // apart, so that the rest of sched_takecpu() is inlined
	const unsigned count = std::max(sched.sd_count.load(std::memory_order_acquire), 1U);  // pairs with the release in start()
	vcpu_t *last = l->l_cpu;
	const bool there = last != nullptr && acts(last) && may_run_on(l, last);
	if (there && last->vc_halted.load(std::memory_order_relaxed) != 0) {  // relaxed: a guess is enough
		return last;
	}
	if (sched.sd_halted.load(std::memory_order_relaxed) != 0) {
		for (unsigned i = 0; i < count; i++) {
			if (sched.sd_vcpu[i]->vc_halted.load(std::memory_order_relaxed) != 0 && sched_may_run(l, i)) {
				return sched.sd_vcpu[i];
			}
		}
	}
	if (there) {
		return last;
	}
	return next_in_turn(l, count);
}

/// It has an affinity, or there are processor sets.
LWP_NOINLINE vcpu_t *takecpu_among(const lwp_t *l, vcpu_t *me) noexcept {
	if (l->l_bound >= 0) {
		return sched.sd_vcpu[l->l_bound];
	}
	if (sched_outside(l)) {
		return l->l_cpu;
	}
	return acts(me) && may_run_on(l, me) ? me : from_outside(l);
}

}  // namespace

pageq_t pageq;

void pageq_call() noexcept {
	pageq.pq_calls.fetch_add(1, std::memory_order_release);  // pairs with the acquire in pager_main()
	sys::futex_wake(&pageq.pq_calls, 1);
}

void pageq_run_and_unlock(lwp_t *l, vcpu_t *me) noexcept {
	queue_there(sched_takecpu(l, me), l, &pageq.pq_lock,
	    me);  // by an inbox, also by one on its own vCPU: a run queue's lock is of the rank of pq_lock
}

vcpu_t *sched_takecpu(const lwp_t *l, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(l->l_bound != bound_none || sched_psets())) {
		return takecpu_among(l, me);
	}
	if (LWP_UNLIKELY(l->l_adopted && l->l_cpu->vc_bound)) {
		return l->l_cpu;  // a kernel thread of the application
	}
	// relaxed: our own.  One that the monitor takes for blocked just now queues on itself, and looks at the boundary.
	return LWP_LIKELY(me->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts) ? me : from_outside(l);
}

LWP_NOINLINE static void wake_and_unlock(lwp_t *l, spinlock *held, queue_end end, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY((lwp_flags(l) & LW_INMEM) == 0)) {
		queue_for_memory(l, held, me);
		return;
	}
	vcpu_t *vc = sched_takecpu(l, me);
	if (LWP_LIKELY(vc == me)) {
		queue_here(me, l, held, end);
	} else {
		queue_there(vc, l, held, me);
	}
}

LWP_NOINLINE void sched_wake_and_unlock(lwp_t *l, spinlock *held, queue_end end) noexcept {
	vcpu_t *me = curcpu_or_null();
	if (end != queue_end::handed_over || !hand_over_here(me, l, held)) {
		wake_and_unlock(l, held, end, me);
	}
}

void sched_set_places(lwp_t *l, const spinlock *lock, const lwp_places &to) noexcept {
	LWP_ASSERT(lwp_locked(l, lock));
	vcpu_t *vc = l->l_cpu;
	const bool queued = lwp_state(l) == lwp_stat::run && lock != &pageq.pq_lock;  // the pager places it when it is served
	const bool inbox = queued && lock == &vc->vc_inlock;
	if (queued) {  // vc_incount stays as it is meanwhile: a vCPU that is about to halt looks at it without the lock
		inbox ? inbox_count(vc, l, -1) : vc->vc_rq.bound_changes(l);
	}
	l->l_bound = to.bound;
	l->l_psid = to.psid;
	l->l_affinity = to.affinity;
	if (queued) {
		inbox ? inbox_count(vc, l, 1) : vc->vc_rq.bound_changed(l);
	}
}

void sched_migrate_and_unlock(lwp_t *l, spinlock *lock, vcpu_t *me) noexcept {
	for (;; lock = lwp_lock(l, me)) {
		vcpu_t *from = l->l_cpu;
		const lwp_stat s = lwp_state(l);
		const bool here = from->vc_bound || may_run_on(l, from);
		if (here || s != lwp_stat::run || lock == &pageq.pq_lock) {
			if (!here && s == lwp_stat::onproc) {
				lwp_flag_set(l, LW_WMIGRATE);
			}
			lock->unlock(me);  // others: who makes it runnable places it
			if (s == lwp_stat::run) {
				sched_watch();  // it may be movable only now
			}
			return;
		}
		vcpu_t *to = sched_takecpu(l, me);
		if (lock == &from->vc_rqlock) {
			to->vc_inlock.lock(me);
			from->vc_rq.remove(l);
		} else if (to->vc_inlock.try_lock(me)) {  // of the same rank: never wait for it
			inbox_take(from, l);
		} else {
			lock->unlock(me);  // look at everything again: it may have been taken out, and run
			cpu_relax();
			continue;
		}
		inbox_put(to, l, false);
		to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
		to->vc_inlock.unlock(me);
		lock->unlock(me);
		vcpu_unhalt(to);
		sched_watch();
		return;
	}
}

void sys_yield_bound() noexcept { sys::yield(); }

}  // namespace lwp::kern
