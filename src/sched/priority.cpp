// SPDX-License-Identifier: BSD-2-Clause
#include "sched/priority.h"

#include "base/assert.h"

namespace lwp::kern {
namespace {

constexpr nanotime lift_after = 100'000'000;  // how long an LWP may be passed over for what it has used up
constexpr unsigned lift_looks = 64;           // how many are looked at in one go

/// One priority less, if `l` is still the LWP that was meant.
void decay(lwp_t *l, lwpid_t lid, nanotime used, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(l, me);
	const lwp_stat s = lwp_state(l);
	const bool same = lwp_lid(l) == lid && s != lwp_stat::none && s != lwp_stat::zomb && s != lwp_stat::idl;
	const bool pays =
	    same && l->l_class == sched_class::other && l->l_decay < l->l_basepri && used >= sched_slice(l->l_class, l->l_basepri);
	if (pays) {
		l->l_decay++;
		sched_set_ownpri(l);
	}
	lock->unlock(me);
	if (pays) {
		sched.sd_settle(l, me);
	}
}

}  // namespace

void sched_changepri_locked(lwp_t *l, const spinlock *lock, pri_t pri) noexcept {
	LWP_ASSERT(lwp_locked(l, lock));
	vcpu_t *vc = l->l_cpu;
	// relaxed, all: locked; who looks at it without the lock takes it as a hint
	const pri_t before = l->l_priority.load(std::memory_order_relaxed);
	const lwp_stat s = lwp_state(l);
	if (s != lwp_stat::run || lock != &vc->vc_rqlock) {
		l->l_priority.store(pri, std::memory_order_relaxed);  // an inbox has no order
	} else {
		const queue_end end = l->l_stacked && l->l_class == sched_class::other ? queue_end::newest_first : queue_end::line;
		vc->vc_rq.remove(l);
		l->l_priority.store(pri, std::memory_order_relaxed);
		vc->vc_rq.push(l, end);
	}
	// Who waits may be better now than the one that runs, or the one that runs worse than those that wait.
	if ((s == lwp_stat::run && pri > before) || (s == lwp_stat::onproc && pri < before)) {
		vcpu_need_resched(vc);
	}
}

LWP_NOINLINE void sched_charge(vcpu_t *vc, nanotime since, nanotime when, nanotime used, bool arrived) noexcept {
	// A kernel thread that has lost its CPU for a while has not computed.  Its own clock costs a system call, so it is read here only, and
	// what it used before `since` is taken to be all it can have been.
	const nanotime before = since > vc->vc_cpu_when ? since - vc->vc_cpu_when : 0;
	const nanotime in_all = used - vc->vc_cpu_used;
	const bool known = vc->vc_cpu_when != 0 && used > vc->vc_cpu_used && in_all > before;
	vc->vc_cpu_used = used;
	vc->vc_cpu_when = when;
	// None: it still runs.  One, and just now: it has run until then; one at some time: part of it was another's.
	const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed) - vc->vc_ran_switches;  // relaxed: our own
	const bool alone = switches == 0 || (switches == 1 && arrived);
	if (known && alone && vc->vc_ran != nullptr && vc->vc_ran != vc->vc_idle && in_all - before >= slice_shortest) {
		decay(vc->vc_ran, vc->vc_ran_lid, in_all - before, vc);
	}
}

void sched_lift_locked(vcpu_t *vc, nanotime when) noexcept {
	if (LWP_LIKELY(when - vc->vc_lifted < lift_after)) {
		return;
	}
	vc->vc_lifted = when;
	const int top = vc->vc_rq.top();
	// relaxed, all: queued here, so locked; who runs is our own
	const int running = vc->vc_curlwp->l_priority.load(std::memory_order_relaxed);
	const int passed_over = std::max(top, running < pri_count ? running : 0);
	lwp_t *l = vc->vc_rq.find_below(passed_over, lift_looks, [](const lwp_t *queued) { return queued->l_decay != 0; });
	if (l == nullptr) {
		return;
	}
	l->l_decay = 0;
	sched_set_ownpri(l);
	const pri_t own = l->l_ownpri.load(std::memory_order_relaxed);
	if (own > l->l_priority.load(std::memory_order_relaxed)) {
		sched_changepri_locked(l, &vc->vc_rqlock, own);
	}
}

bool sched_slice_over(vcpu_t *vc, const lwp_t *l) noexcept {
	const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed);  // relaxed: our own
	if (l->l_class != sched_class::rr) {
		return l->l_class == sched_class::other &&
		    vc->vc_expired.load(std::memory_order_relaxed) == switches + 1;  // asked to go, and could not where it was
	}
	const nanotime when = now();
	if (vc->vc_slice_began == 0 || vc->vc_slice_switches != switches) {
		vc->vc_slice_switches = switches;
		vc->vc_slice_began = when;
		return false;
	}
	return when - vc->vc_slice_began >= slice_rt;
}

}  // namespace lwp::kern
