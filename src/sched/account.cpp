// SPDX-License-Identifier: BSD-2-Clause
#include "sched/account.h"

#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/trace.h"

#include <algorithm>
#include <mutex>

namespace lwp::kern {
namespace {

constinit spinlock watch_lock(lock_rank::leaf, "accounts");
nanotime counting;  // watch_lock: since when; 0: not
unsigned watched;   // watch_lock: how many LWPs are traced

/// What switches look at.  `never`: at LWPs only, since no stretch began after that.
void publish() noexcept {
	sched.sd_account.store(counting != 0 ? counting
	        : watched != 0               ? never
	                                     : 0,
	    std::memory_order_relaxed);  // relaxed: others see it sooner or later
}

}  // namespace

bool sched_count(bool on) noexcept {
	std::lock_guard hold(watch_lock);
	const bool was = counting != 0;
	if (was != on) {  // a count that is under way goes on
		counting = on ? now() : 0;
		publish();
	}
	return was;
}

void sched_watch(bool on) noexcept {
	std::lock_guard hold(watch_lock);
	watched += on ? 1U : -1U;
	publish();
}

LWP_NOINLINE void sched_charge_stretch_slow(vcpu_t *vc, lwp_t *l) noexcept {
	const nanotime counted_since = sched.sd_account.load(std::memory_order_relaxed);
	const nanotime when = now();
	const nanotime since = std::max(vc->vc_since, counted_since);
	if (LWP_UNLIKELY(l->l_trace != nullptr)) {
		trace_leaves(vc, l, vc->vc_since, when);
	}
	vc->vc_since = when;
	if (counted_since != 0 && since < when && l != vc->vc_idle) {
		l->l_account.charge(since, when);
	}
}

cpu_account sched_account_of(const lwp_t *l, nanotime when) noexcept {
	LWP_ASSERT(lwp_locked(l));
	cpu_account a = l->l_account;
	const nanotime counted_since = sched.sd_account.load(std::memory_order_relaxed);
	if (counted_since != 0 && lwp_state(l) == lwp_stat::onproc) {
		const nanotime since = std::max(l->l_cpu->vc_since, counted_since);
		if (since < when) {
			a.charge(since, when);
		}
	}
	return a;
}

}  // namespace lwp::kern
