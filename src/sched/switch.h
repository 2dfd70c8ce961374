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

/// The same for an LWP that is LSZOMB and will be made anew, if ever, before it runs again.
[[noreturn]] void mi_switch_dead(lwp_t *l) noexcept;

/// What becomes of an LWP around its function; handed down by whoever knows (proc).
struct lwp_hooks {
	void (*begin)(lwp_t *);  ///< before it enters the application
	void (*end)(lwp_t *);    ///< after: leaves it LSZOMB, vc_lwplock held
};

/// The life of a context: arrives, runs l_func(l_arg), ends, and lies still until it is recycled and started again: LSIDL, "ceased executing a
/// unit of work and waiting to be started again".  Calls and returns pair up over the whole loop, because the switch is part of it: a new
/// LWP costs no mispredicted return.  Entered once for each context_make().
[[noreturn]] void lwp_run_units(lwp_t *l, const lwp_hooks &hooks) noexcept;

/// Runs fn(arg) on the stack of an LWP that is off its vCPU and locked by the caller: it unwinds, say, and returns.  It must not switch, nor take a
/// lock of the library.  False if there is too little room on that stack, or it is a kernel thread's.
bool lwp_look_at(lwp_t *me, lwp_t *target, void (*fn)(void *), void *arg) noexcept;

/// To the tail of its queue, and the best LWP queued runs, if that one is at least as good.  The vCPU has one look at the clock in a while.
void lwp_yield_cpu(lwp_t *l) noexcept;

/// Lets a better LWP run, if one is queued; the caller stays first of its own priority.  One whose round-robin slice is over goes behind its equals.
/// On a vCPU that is not on duty: takes its place back, or the caller goes on elsewhere.
void lwp_preempt_cpu(lwp_t *l) noexcept;

/// First thing on a context that was just switched to, by the LWP that arrives.
void lwp_arrived(lwp_t *l) noexcept;

/// At the boundary and at the end of a region, on a vCPU that may be off duty: returns on one that acts.
void lwp_to_duty(lwp_t *l) noexcept;

/// It may be on a vCPU where it may not run any more (LW_WMIGRATE): then it goes on on another.
void lwp_move_cpu(lwp_t *l) noexcept;

/// Once in `vc_ticks` switches: timers that are due, LWPs that others made runnable for us.  `arrived`: the caller has just been
/// switched to.  No lock held.
void vcpu_poll(vcpu_t *vc, bool arrived) noexcept;

/// A timer was armed that is the first of `vc`: its next look at the clock comes no later than that.  By `vc` itself.
void vcpu_look_by(vcpu_t *vc, nanotime deadline) noexcept;

/// Moves what others queued for `vc` to its run queue.  By `vc` itself, no lock held.
void vcpu_drain_inbox(vcpu_t *vc) noexcept;

/// What an idle LWP runs; returns when the runtime stops.  `entered_by_switch`: its context was made, not adopted.
void vcpu_idle_loop(vcpu_t *vc, bool entered_by_switch) noexcept;

}  // namespace lwp::kern
