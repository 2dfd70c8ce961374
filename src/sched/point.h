// SPDX-License-Identifier: BSD-2-Clause
//
// Where something else than the scheduler decides who runs: lwp::testing (api/testing.cpp), in a process that was made for one schedule.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// Called in place of preemption, at each boundary of each LWP at which vc_resched is set; null in all other processes.  Set before the runtime starts,
/// which then has one vCPU, no monitor, no substitutes and no I/O: all happens on one kernel thread.
extern void (*sched_point)(lwp_t *);

/// `to`, which is queued on this vCPU, runs now, and the caller is queued.
void lwp_hand_to(lwp_t *l, lwp_t *to) noexcept;
/// A queued LWP comes before its equals.
void vcpu_put_first(vcpu_t *vc, lwp_t *l) noexcept;

}  // namespace lwp::kern
