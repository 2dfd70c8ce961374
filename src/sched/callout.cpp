// SPDX-License-Identifier: BSD-2-Clause
#include "sched/callout.h"

#include "base/assert.h"
#include "base/sys.h"
#include "sched/idle.h"
#include "sched/spare.h"
#include "sched/switch.h"

namespace lwp::kern {
namespace {

/// With vc_colock held.
void set_deadline(vcpu_t *vc) noexcept {
	callout *first = vc->vc_callouts.top();
	vc->vc_deadline.store(first == nullptr ? never : first->co_deadline, std::memory_order_relaxed);  // relaxed: see callout_schedule()
}

}  // namespace

int callout_schedule(vcpu_t *vc, timer *t, nanotime deadline) noexcept {
	vcpu_t *me = curcpu_or_null();
	t->co_deadline = deadline;
	t->tm_vcpu = vc;
	{
		lock_scope hold(vc->vc_colock, me);
		if (int error = vc->vc_callouts.insert(t)) {
			return error;
		}
		if (vc->vc_callouts.top() == t) {
			set_deadline(vc);
			if (LWP_LIKELY(vc == me)) {
				vcpu_look_by(vc, deadline);
			}
		}
	}
	// An adopted kernel thread does nothing else but wait for its timer.  Others may be busy when theirs is due: somebody must look.
	if (LWP_LIKELY(vc->vc_duty.load(std::memory_order_relaxed) == vcpu_duty::acts)) {  // relaxed: see spare_hand_over()
		fence(std::memory_order_seq_cst);  // pairs with the fence in vcpu_halt(): it sees our deadline, or we see it halt
		sched_timer_armed();
	} else if (!vc->vc_bound) {
		monitor_kick();
	}
	return 0;
}

void callout_halt(timer *t) noexcept {
	vcpu_t *me = curcpu_or_null();
	vcpu_t *vc = t->tm_vcpu;
	vc->vc_colock.lock(me);
	if (t->co_index != callout_idle) {
		vc->vc_callouts.remove(t);
		if (vc->vc_deadline.load(std::memory_order_relaxed) == t->co_deadline) {  // relaxed: written under the lock we hold
			set_deadline(vc);
		}
		vc->vc_colock.unlock(me);
		return;
	}
	vc->vc_colock.unlock(me);
	// It fired.  Its function may still run on another vCPU and look at us: not before it is through may this frame go away.
	// acquire: pairs with the release in callout_run()
	for (unsigned spins = 0; vc->vc_firing.load(std::memory_order_acquire) == t; spins++) {
		spins % 100 == 99 ? sys::yield() : cpu_relax();
	}
}

void callout_run(vcpu_t *vc, nanotime when) noexcept {
	vcpu_t *me = curcpu_or_null();
	if (vc->vc_deadline.load(std::memory_order_relaxed) > when) {  // relaxed: a timer armed this moment is seen next time
		return;
	}
	vc->vc_colock.lock(me);
	// One vCPU at a time fires the timers of a heap: another finds vc_firing set and leaves the rest to it.
	while (vc->vc_firing.load(std::memory_order_relaxed) == nullptr) {
		callout *first = vc->vc_callouts.top();
		if (first == nullptr || first->co_deadline > when) {
			break;
		}
		vc->vc_callouts.pop();
		set_deadline(vc);
		auto *t = static_cast<timer *>(first);
		vc->vc_firing.store(t, std::memory_order_release);  // pairs as below: who finds this one has seen the end of those before it
		void (*fn)(void *) = t->tm_fn;
		void *arg = t->tm_arg;
		const bool once = t->tm_once;
		vc->vc_colock.unlock(me);
		fn(arg);
		if (once) {
			// Nobody arms it anew, and who halts it waits for this or for vc_firing: it is still there, and gone after this.
			t->tm_over.store(true, std::memory_order_release);  // pairs with the acquire in callout_halt_once()
		}
		vc->vc_colock.lock(me);
		vc->vc_firing.store(nullptr, std::memory_order_release);  // pairs with the acquire in callout_halt(): `t` may be gone now
	}
	vc->vc_colock.unlock(me);
}

}  // namespace lwp::kern
