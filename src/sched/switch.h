// SPDX-License-Identifier: BSD-2-Clause
//
// The switch: how a vCPU goes from one LWP to the next.
//
// The LWP that leaves keeps its lock held across the switch; the one that arrives releases it.  While the two overlap, vc_lwplock is
// held as well, because it covers the arriving one.  So whoever holds an LWP's lock finds it fully on a vCPU or fully off it, and a wake-up
// that comes between "I sleep" and the switch waits on the lock until the stack is free.
// Takes vc_lwplock, vc_rqlock, vc_inlock.  Never allocates.
#pragma once

#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

namespace lwp::kern {

/// Gives the vCPU away.  The caller holds vc_lwplock and has already left LSONPROC; `handoff` is the lock that covers it now (null if that is
/// vc_lwplock).  Returns when it runs again, on whatever vCPU, with no lock held.
void mi_switch_and_unlock(lwp_t *l, spinlock *handoff) noexcept;

/// The same for an LWP that is LSZOMB.  Returns only if it is recycled and started anew with its context as it is.
void mi_switch_dead(lwp_t *l) noexcept;

/// To the tail of its queue, and the best LWP queued runs, if that one is at least as good.  The vCPU has one look at the clock in a while.
void lwp_yield_cpu(lwp_t *l) noexcept;

/// What a context does first when it is entered for the first time: releases the locks of the LWP that ran before.
void lwp_arrive(lwp_t *l) noexcept;

/// Once in `vc_ticks` switches: timers that are due, LWPs that others made runnable for us.  No lock held.
void vcpu_poll(vcpu_t *vc) noexcept;

/// Moves what others queued for `vc` to its run queue.  By `vc` itself, no lock held.
void vcpu_drain_inbox(vcpu_t *vc) noexcept;

/// What an idle LWP runs; returns when the runtime stops.
void vcpu_idle_loop(vcpu_t *vc) noexcept;

}  // namespace lwp::kern
