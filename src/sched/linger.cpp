// SPDX-License-Identifier: BSD-2-Clause
#include "sched/linger.h"

#include "base/spinlock.h"
#include "sched/vcpu.h"

#include <cstdlib>
#include <cstring>

namespace lwp::kern {
namespace {

atomic<bool> allowed{false};  // written before there are vCPUs

/// Whether a look at all that vcpu_idle_loop() looks at may find something.  Hints: a halt looks again, with a fence.
bool something(vcpu_t *vc, const parker *how) noexcept {
	// relaxed, all: hints
	return how->peek(vc) || vc->vc_incount.load(std::memory_order_relaxed) != 0 || vc->vc_stop.load(std::memory_order_relaxed) ||
	    vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts || sched.sd_signalled.load(std::memory_order_relaxed) ||
	    sched.sd_asked.load(std::memory_order_relaxed);
}

/// False: others want the CPU.
bool welcome(lingering &li, nanotime when) noexcept { return LWP_LIKELY(!li.is_to_ask(when)) || li.told(when, cpu_time()); }

}  // namespace

void linger_start(bool rationed) noexcept {
	const char *text = std::getenv("LWP_LINGER");
	allowed.store((text == nullptr || std::strcmp(text, "0") != 0) && !rationed, std::memory_order_relaxed);  // relaxed: before them
}

bool sched_linger(vcpu_t *vc) noexcept {
	lingering &li = vc->vc_linger;
	const parker *how = vc->vc_parker.load(std::memory_order_relaxed);  // relaxed: our own
	// relaxed, both: our own; said before there were vCPUs
	if (!li.may_pay() || how->peek == nullptr || vc->vc_pending.load(std::memory_order_relaxed) == 0 ||
	    !allowed.load(std::memory_order_relaxed)) {
		return false;
	}
	nanotime when = now();
	if (!li.may_begin(when) || !welcome(li, when)) {
		return false;
	}
	const nanotime first = vc->vc_deadline.load(std::memory_order_relaxed);  // only we arm timers here
	const nanotime until = std::min(when + lingering::moment, first);
	do {
		if (something(vc, how)) {
			li.paid();
			return true;
		}
		for (int i = 0; i < 8; i++) {
			cpu_relax();
		}
		when = now();
	} while (when < until);
	if (when >= first) {
		return true;  // to fire it: neither paid nor in vain
	}
	li.in_vain(when);
	return false;
}

}  // namespace lwp::kern
