// SPDX-License-Identifier: BSD-2-Clause
#include "sched/account.h"

#include "core/lwp_lock.h"
#include "core/lwp_state.h"

#include <algorithm>

namespace lwp::kern {

LWP_NOINLINE void sched_charge_stretch_slow(vcpu_t *vc, lwp_t *l) noexcept {
	const nanotime counted_since = sched.sd_account.load(std::memory_order_relaxed);
	const nanotime when = now();
	const nanotime since = std::max(vc->vc_since, counted_since);
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
