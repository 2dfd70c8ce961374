// SPDX-License-Identifier: BSD-2-Clause
//
// Timers: a function to be called once a deadline has passed, never before it.  Each vCPU keeps its own in a heap and looks at the
// clock every few switches and whenever it has nothing to run; a vCPU that waits also looks after those of one that is busy for long.
// Takes vc_colock, a leaf; the function is called without any lock.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// Lives where it is used, normally on the stack of the LWP that sleeps.
struct timer : callout {
	void (*tm_fn)(void *) = nullptr;  // may take any lock; must not switch, nor arm its own timer again
	void *tm_arg = nullptr;
	vcpu_t *tm_vcpu = nullptr;    // whose heap it is in
	bool tm_once = false;         // it is armed once in its life, and halted by callout_halt_once()
	atomic<bool> tm_over{false};  // a: of such a one: its function is through; the last that who fired it does with it
};

/// Arms it on `vc`.  0 | ENOMEM.
[[nodiscard]] int callout_schedule(vcpu_t *vc, timer *, nanotime deadline) noexcept;

/// Disarms it.  On return its function does not run and will not: a timeout that comes too late cannot hit the next sleep.
/// Never call it with a lock that the function takes.
void callout_halt(timer *) noexcept;

/// The same for one with tm_once: of one that has fired it takes no lock, whichever vCPU it was armed on.
LWP_ALWAYS_INLINE void callout_halt_once(timer *t) noexcept {
	LWP_ASSERT(t->tm_once);
	if (LWP_LIKELY(t->tm_over.load(std::memory_order_acquire))) {  // pairs with the release in callout_run()
		return;
	}
	callout_halt(t);
}

/// Calls the functions of `vc`'s timers that are due.  By any vCPU, no lock held.
void callout_run(vcpu_t *vc, nanotime when) noexcept;

}  // namespace lwp::kern
