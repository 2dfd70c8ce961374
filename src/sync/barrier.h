// SPDX-License-Identifier: BSD-2-Clause
//
// The barrier: phases, in each of which a number of arrivals is awaited, and who waits for the end of the phase.
//
// An arrival is one atomic subtraction.  Whoever makes the last one of a phase does the application's completion and then ends the phase, under
// the waiters' lock.  Nobody can arrive between the two: all have.
//
// Takes the waiters' lock (rank sleepq), then run queues.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kbarrier {
	atomic<std::int64_t> br_pending;   // a: arrivals of this phase that are still to come
	atomic<std::int64_t> br_expected;  // a: how many the next one awaits
	atomic<std::uint64_t> br_phase;    // a: counts up under the waiters' lock
	waiters br_waiters;                // waiters_lock()
};

extern const syncobj barrier_syncobj;

enum class arrival { early, last, too_many };

[[nodiscard]] inline arrival barrier_arrive(kbarrier *b, std::int64_t n) noexcept {
	// acq_rel: what was done before each arrival is seen by the last one, and through it by those who wait
	const std::int64_t pending = b->br_pending.fetch_sub(n, std::memory_order_acq_rel);
	return pending > n ? arrival::early : pending == n ? arrival::last : arrival::too_many;
}

/// By who arrived last, after the completion.
void barrier_end_phase(kbarrier *, vcpu_t *me) noexcept;

/// 0 the phase is over | ERESTART pass the boundary and call again
[[nodiscard]] int barrier_wait(kbarrier *, lwp_t *l, std::uint64_t phase) noexcept;

}  // namespace lwp::kern
