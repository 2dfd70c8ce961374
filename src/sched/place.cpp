// SPDX-License-Identifier: BSD-2-Clause
#include "sched/place.h"

#include "base/assert.h"
#include "base/sys.h"
#include "sched/idle.h"

#include <algorithm>

namespace lwp::kern {
namespace {

LWP_ALWAYS_INLINE void queue_here(vcpu_t *me, lwp_t *l, spinlock *held, queue_end end) noexcept {
	unsigned queued;
	me->vc_rqlock.lock(me);
	lwp_setstat(l, lwp_stat::run, &me->vc_rqlock);
	l->l_cpu = me;
	me->vc_rq.push(l, l->l_class == sched_class::other ? end : queue_end::line);
	const pri_t pri = l->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
	// A real-time one also behind its equals: the one that runs may have a slice to keep (round robin).
	if (LWP_UNLIKELY(pri > me->vc_curlwp->l_priority.load(std::memory_order_relaxed) || pri >= pri_user_rt)) {
		me->vc_resched.store(true, std::memory_order_relaxed);  // relaxed: under vc_rqlock, read by this vCPU
	}
	queued = me->vc_rq.movable();
	me->vc_rqlock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
	sched_work_queued(queued);
}

LWP_NOINLINE void queue_there(vcpu_t *vc, lwp_t *l, spinlock *held, vcpu_t *me) noexcept {
	vc->vc_inlock.lock(me);
	lwp_setstat(l, lwp_stat::run, &vc->vc_inlock);
	l->l_cpu = vc;
	vc->vc_inbox.push_back(l);
	vc->vc_incount.store(vc->vc_incount.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: under vc_inlock
	if (l->l_bound < 0) {
		vc->vc_inmovable.store(vc->vc_inmovable.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
	}
	vc->vc_resched.store(true, std::memory_order_release);  // pairs with the exchange in lwp_preempt_cpu(): at its next boundary it looks
	vc->vc_inlock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
	vcpu_unhalt(vc);
}

LWP_NOINLINE vcpu_t *from_outside(const lwp_t *l) noexcept {  // apart, so that the rest of sched_takecpu() is inlined
	const unsigned count = std::max(sched.sd_count.load(std::memory_order_acquire), 1U);  // pairs with the release in start()
	vcpu_t *last = l->l_cpu;
	// relaxed: a guess is enough; who is queued on one that goes away this moment is moved on (vcpu_unhalt())
	bool there = last != nullptr && last->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts;
	if (there && last->vc_halted.load(std::memory_order_relaxed) != 0) {  // relaxed: a guess is enough
		return last;
	}
	if (sched.sd_halted.load(std::memory_order_relaxed) != 0) {
		for (unsigned i = 0; i < count; i++) {
			if (sched.sd_vcpu[i]->vc_halted.load(std::memory_order_relaxed) != 0) {
				return sched.sd_vcpu[i];
			}
		}
	}
	if (there) {
		return last;
	}
	return sched.sd_vcpu[sched.sd_next.fetch_add(1, std::memory_order_relaxed) % count];  // relaxed: any is right
}

}  // namespace

vcpu_t *sched_takecpu(const lwp_t *l, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(l->l_bound >= 0)) {
		return sched.sd_vcpu[l->l_bound];
	}
	if (LWP_UNLIKELY(l->l_adopted && l->l_cpu->vc_bound)) {
		return l->l_cpu;  // a kernel thread of the application
	}
	// relaxed: our own.  One that the monitor takes for blocked just now queues on itself, and looks at the boundary.
	return LWP_LIKELY(me->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts) ? me : from_outside(l);
}

LWP_NOINLINE void sched_wake_and_unlock(lwp_t *l, spinlock *held, queue_end end) noexcept {
	vcpu_t *me = curcpu_or_null();
	vcpu_t *vc = sched_takecpu(l, me);
	if (LWP_LIKELY(vc == me)) {
		queue_here(me, l, held, end);
	} else {
		queue_there(vc, l, held, me);
	}
}

void sys_yield_bound() noexcept { sys::yield(); }

}  // namespace lwp::kern
