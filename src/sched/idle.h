// SPDX-License-Identifier: BSD-2-Clause
//
// What a vCPU does without work: search for a moment, take work from others, halt; and who wakes it.
//
// Waking a halted core is the dearest thing there is (ten microseconds and more for the waker).  So:
//  - a vCPU is woken when LWPs pile up on another one and nobody is searching already, or when one is queued for it alone;
//  - a pile is worth coming for if it will take its own vCPU some ten microseconds or more, by the time its LWPs took until now; a smaller one
//    may hide large work (the root of a tree), so it is tried, but after a theft that did not keep the thief busy for a while it pauses,
//    twice as long each time, as thief and as watcher: LWPs of a few nanoseconds are best left where they are.  And the pile that is worth waking or
//    coming for at once is twice as large each time, up to some 1000 LWPs, until a theft does keep its thief busy (vc_worth): an LWP that makes others
//    and does not switch tells nothing of how long they will take;
//  - a single LWP queued behind a running one stays where it is: most often the running one blocks in a moment.  In case it does not, one
//    halted vCPU is the watcher: it looks up once in a while, takes LWPs that wait behind one which has not switched since its last look, and
//    fires timers whose vCPU is too busy to.  When everybody halts the watcher looks up a few times more and then halts for good.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// Search for work: begin once, steal and more in turns, end once.
void sched_search_begin(vcpu_t *) noexcept;
bool sched_steal(vcpu_t *) noexcept;        ///< true: something came into our inbox
bool sched_search_more(vcpu_t *) noexcept;  ///< whether searching a little longer is worth it
void sched_search_end(vcpu_t *, bool found) noexcept;

/// Waits until woken, the first timer is due, or the watch has found something.  True: woken to search, and already counted as searching.
bool vcpu_halt(vcpu_t *) noexcept;
void vcpu_halt_bound(vcpu_t *) noexcept;

/// Wakes it if it halts.  What it is to find must be stored before.
void vcpu_unhalt(vcpu_t *) noexcept;

/// On its kernel thread, when it stops: back to the default parker.
void vcpu_close_parker(vcpu_t *) noexcept;

/// Once in a millisecond by a vCPU that has something to run all the time, so that it never watches, and LWPs that only yield keep others from it: looks
/// after one neighbour in turn.  If that has not switched since the last look, what waits there comes here, and its timers that are late are fired.
/// No lock held.
void sched_look_over(vcpu_t *, nanotime when) noexcept;

void sched_work_queued_slow(unsigned queued) noexcept;
void sched_watch_slow() noexcept;

/// After an LWP was queued on `me`, the caller's own vCPU.
LWP_ALWAYS_INLINE void sched_work_queued(const vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(
	        sched.sd_halted.load(std::memory_order_relaxed) != 0)) {  // relaxed: what we miss the watcher or the thief's re-check finds
		sched_work_queued_slow(me->vc_rq.movable());
	}
}

/// Something waits on a vCPU that may stay busy: somebody must look after it.
LWP_ALWAYS_INLINE void sched_watch() noexcept {
	if (LWP_UNLIKELY(sched.sd_halted.load(std::memory_order_relaxed) != 0)) {
		sched_watch_slow();
	}
}
/// After a timer was armed.
LWP_ALWAYS_INLINE void sched_timer_armed() noexcept { sched_watch(); }

/// Sets sd_asked or sd_signalled: some vCPU calls what belongs to it soon, at its next look at the clock, or now if one halts.  Also from a signal
/// handler.
void sched_ask(atomic<bool> &what) noexcept;

}  // namespace lwp::kern
