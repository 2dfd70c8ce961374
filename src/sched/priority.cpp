// SPDX-License-Identifier: BSD-2-Clause
#include "sched/priority.h"

#include "base/assert.h"

namespace lwp::kern {
namespace {

constexpr nanotime lift_after = 100'000'000;  // how long an LWP may be passed over for what it has used up
constexpr unsigned lift_looks = 64;           // how many are looked at in one go

/// With the LWP locked: so much less, but it stays a priority.
bool wear(lwp_t *l, unsigned by) noexcept {
	const auto room = static_cast<unsigned>(l->l_basepri - l->l_decay);
	if (l->l_class != sched_class::other || std::min(by, room) == 0) {
		return false;
	}
	l->l_decay = static_cast<std::uint8_t>(l->l_decay + std::min(by, room));
	sched_set_ownpri(l);
	return true;
}

/// It has had a stretch with so much CPU time, if `l` is still the LWP that was meant.
void stretch(lwp_t *l, lwpid_t lid, nanotime since, nanotime when, nanotime used, vcpu_t *me) noexcept {
	const spinlock *covers = l->l_mutex.load(std::memory_order_relaxed);  // relaxed: a guess
	if (used < slice_shortest && covers != &me->vc_lwplock && covers != &me->vc_rqlock && covers != &me->vc_slplock) {
		return;  // it is elsewhere by now, under a lock that may be biased to another: that is not worth a barrier
	}
	spinlock *lock = lwp_lock(l, me);
	const lwp_stat s = lwp_state(l);
	bool pays = lwp_lid(l) == lid && s != lwp_stat::none && s != lwp_stat::zomb && s != lwp_stat::idl && l->l_class == sched_class::other;
	if (pays) {
		const unsigned slices = used >= sched_slice(l->l_class, l->l_basepri) ? 1 : 0;
		pays = wear(l, slices + (sched_account_stretch(l, since, when, used) ? 1 : 0));
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
	if (known && alone && vc->vc_ran != nullptr && vc->vc_ran != vc->vc_idle) {
		stretch(vc->vc_ran, vc->vc_ran_lid, since, when, in_all - before, vc);
	}
}

bool sched_account_stretch(lwp_t *l, nanotime since, nanotime when, nanotime ran) noexcept {
	run_account &a = l->l_run;
	if (a.ra_lid != lwp_lid(l)) {
		a = {.ra_lid = lwp_lid(l), .ra_second = since};
	} else if (l->l_slept >= a.ra_since && since > a.ra_until) {
		// It has slept since: what lies between was that, or short runs and turns of others, which are not told apart.  (A sleep begins, by its vCPU's last
		// look at the clock, no sooner than the stretch at whose end it began.)
		a.ra_slept += since - a.ra_until;
	}
	a.ra_since = since;
	a.ra_until = when;
	a.ra_ran += ran;
	if (when - a.ra_second < batch_second) {
		return false;
	}
	const bool more = a.ra_ran > a.ra_slept;
	const bool again = more && (lwp_flags(l) & LW_BATCH) != 0;
	more ? lwp_flag_set(l, LW_BATCH) : lwp_flag_clear(l, LW_BATCH);
	a.ra_second = when;
	a.ra_ran = 0;
	a.ra_slept = 0;
	return again;
}

std::uint8_t sched_inherited_decay(const lwp_t *l1, const lwp_t *l2) noexcept {
	return l2->l_class == sched_class::other ? static_cast<std::uint8_t>(std::min<int>(l1->l_decay, l2->l_basepri)) : 0;
}

LWP_NOINLINE void sched_collect(lwp_t *l, unsigned decay) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock = lwp_lock(l, me);
	const bool worse = wear(l, decay);
	lock->unlock(me);
	if (worse) {
		sched.sd_settle(l, me);
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
