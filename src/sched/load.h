// SPDX-License-Identifier: BSD-2-Clause
//
// How many LWPs run or could, sampled for the load averages (core/load_average.h): on each acting vCPU the one that runs and those that are queued.
// Those who look at the clock anyway sample what is due: a vCPU at its turn() each millisecond, the monitor for vCPUs whose LWPs never call, and whoever
// asks.  So no idle process is woken for it, and a switch pays nothing.
//
// Not counted: kernel threads of the application, whose load is the OS's, and LWPs that block their kernel thread.
// Takes load_lock, a leaf.  Never waits for it but in sched_load().
#pragma once

#include "core/load_average.h"
#include "sched/vcpu.h"

namespace lwp::kern {

extern atomic<nanotime> sched_load_due;  // a: when the next sample is; `never`: there is no runtime

void sched_load_sample(const vcpu_t *waited, nanotime when) noexcept;

/// At a look at the clock.  `waited`: null, or the caller's vCPU, if it has only waited since its last look: what is queued there came after the sample was due.
LWP_ALWAYS_INLINE void sched_load_look(const vcpu_t *waited, nanotime when) noexcept {
	if (LWP_UNLIKELY(when >= sched_load_due.load(std::memory_order_relaxed))) {  // relaxed: asked again under load_lock
		sched_load_sample(waited, when);
	}
}

/// A runtime begins: nothing has run yet.  It ends, before its vCPUs are unmade: nobody samples any more.
void sched_load_begin(nanotime when) noexcept;
void sched_load_end() noexcept;

/// The averages as of `when`, which is now.
load_average sched_load(nanotime when) noexcept;

}  // namespace lwp::kern
