// SPDX-License-Identifier: BSD-2-Clause
//
// Where an LWP runs: on which vCPU a woken or new one is queued, and how it gets there.
//
// A hand-over stays on the vCPU of whoever wakes: what the two share is warm there, and a cache line costs a tenth of a microsecond where
// waking another core costs ten and more.  Others come and take work when some would otherwise wait (idle.h).
#pragma once

#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

namespace lwp::kern {

/// Makes a locked LWP runnable and queues it: LSIDL, LSSLEEP, LSSTOP or LSSUSPENDED -> LSRUN.  It must be on no list any more.  `held` is its
/// lock, which is released (null: the caller releases it).  The LWP may run, end and be another one by the time this returns.
void sched_wake_and_unlock(lwp_t *l, spinlock *held, queue_end end = queue_end::line) noexcept;

/// Which vCPU `l` should be queued on; `me` is the caller's.
vcpu_t *sched_takecpu(const lwp_t *l, vcpu_t *me) noexcept;

/// An adopted kernel thread yields: nobody else runs on its vCPU, so the kernel decides.
void sys_yield_bound() noexcept;

}  // namespace lwp::kern
