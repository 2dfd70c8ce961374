// SPDX-License-Identifier: BSD-2-Clause
#include "sched/load.h"

#include "core/lwp_state.h"

namespace lwp::kern {

atomic<nanotime> sched_load_due{never};

namespace {

spinlock load_lock(lock_rank::leaf, "load averages");
load_average load;  // load_lock

/// load_lock: who acted as a vCPU at the last sample, and how often it had switched by then.
struct {
	const vcpu_t *vc;
	std::uint64_t switches;
} seen[vcpu_max];

/// Whether it runs an LWP of the runtime's.
bool runs(const vcpu_t *vc) noexcept {
	// relaxed: all of this is a sample
	return vc->vc_halted.load(std::memory_order_relaxed) == vc_running && lwp_state(vc->vc_idle) != lwp_stat::onproc;
}

/// load_lock held.
void sample_locked(const vcpu_t *waited, nanotime when) noexcept {
	if (when < load.la_due) {
		return;
	}
	std::uint64_t running = 0;
	std::uint64_t throughout = 0;
	for (unsigned i = 0, n = sched.sd_count.load(std::memory_order_acquire); i < n; i++) {  // pairs with the release in start()
		const vcpu_t *vc = sched.sd_vcpu[i];
		const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed);  // relaxed, here and below: a sample
		if (vc != waited) {
			const unsigned lwps = (runs(vc) ? 1U : 0U) + vc->vc_rq.count() + vc->vc_incount.load(std::memory_order_relaxed);
			running += lwps;
			if (runs(vc) && seen[i].vc == vc && seen[i].switches == switches) {
				throughout += lwps;  // the same LWP all the time, and those behind it
			}
		}
		seen[i] = {vc, switches};
	}
	load.sample(when, running, throughout);
	sched_load_due.store(load.la_due, std::memory_order_relaxed);  // relaxed: a hint
}

}  // namespace

LWP_NOINLINE void sched_load_sample(const vcpu_t *waited, nanotime when) noexcept {
	vcpu_t *me = curcpu_or_null();
	if (load_lock.try_lock(me)) {  // else another is at it
		sample_locked(waited, when);
		load_lock.unlock(me);
	}
}

void sched_load_begin(nanotime when) noexcept {
	lock_scope hold(load_lock, curcpu_or_null());
	load.begin(when);
	for (auto &s : seen) {
		s = {nullptr, 0};
	}
	sched_load_due.store(load.la_due, std::memory_order_relaxed);  // relaxed: a hint
}

void sched_load_end() noexcept {
	lock_scope hold(load_lock, curcpu_or_null());
	load.la_due = never;
	sched_load_due.store(never, std::memory_order_relaxed);  // relaxed: a hint
}

load_average sched_load(nanotime when) noexcept {
	lock_scope hold(load_lock, curcpu_or_null());
	sample_locked(nullptr, when);
	return load;
}

}  // namespace lwp::kern
