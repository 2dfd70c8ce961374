// SPDX-License-Identifier: BSD-2-Clause
//
// Who had a vCPU for how long, if somebody wants to know.  A clock costs as much as a yield, so time is counted only while it was switched on; how
// often an LWP was switched out is counted always.  A stretch begins as an LWP comes to its vCPU and is charged as it leaves; what of it was before
// counting began is nobody's.
//
// An LWP is charged with vc_lwplock of its vCPU held and with the lock that covers it next, if that is another: so whoever has it locked sees its account
// and the begin of its stretch agree.
//
// LWPs that are traced (sched/trace.h) have their stretches looked at in the same place: sd_account is the one word that a switch looks at.
// Takes watch_lock, a leaf, in sched_count() and sched_watch() alone.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

void sched_charge_stretch_slow(vcpu_t *vc, lwp_t *l) noexcept;

/// `l`, which runs on `vc`, leaves it, or its account is to be complete.  vc_lwplock held.
LWP_ALWAYS_INLINE void sched_charge_stretch(vcpu_t *vc, lwp_t *l) noexcept {
	if (LWP_UNLIKELY(sched.sd_account.load(std::memory_order_relaxed) != 0)) {  // relaxed: it may begin a moment later here than there
		sched_charge_stretch_slow(vc, l);
	}
}

/// Time is counted from now on, or no longer.  Whether it was before.
bool sched_count(bool on) noexcept;
/// One LWP more is traced, or one less.
void sched_watch(bool on) noexcept;

/// What `l`, locked, has used up to `when`, its stretch included if it runs.
cpu_account sched_account_of(const lwp_t *l, nanotime when) noexcept;

}  // namespace lwp::kern
