// SPDX-License-Identifier: BSD-2-Clause
//
// Regions in which an LWP blocks its kernel thread.  See sched/spare.h for what becomes of its vCPU.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/spare.h"
#include "sched/switch.h"

#include <lwp/lwp.h>

#include <cerrno>

using namespace lwp::kern;

namespace {

/// The outermost region begins, on a vCPU of the runtime.
LWP_NOINLINE void begin(vcpu_t *vc) noexcept {
	vc->vc_regions.store(vc->vc_regions.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: statistics
	if (vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts) {                                 // relaxed: our own
		spare_blocks(vc);
		if (vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts) {  // else it was given its place back this moment
			return;
		}
	}
	if (vc->vc_pending.load(std::memory_order_relaxed) != 0) {
		// What our LWPs have asked for is given to the kernel now: nobody else does it for some time.
		vc->vc_parker.load(std::memory_order_relaxed)->poll(vc, now(), false);  // relaxed: our own
	}
	const int saved = errno;  // the same kernel thread's all the time; to make a kernel thread may set it
	(void)spare_hand_over(vc, vc);
	errno = saved;
}

}  // namespace

extern "C" {

void lwp_blocking_enter(void) {
	const in_library l;
	if (l->l_blocking++ != 0) {
		return;
	}
	biglock_out(l, big_hold::away);
	if (!l->l_cpu->vc_bound) {
		begin(l->l_cpu);
	}
}

void lwp_blocking_leave(void) {
	const in_library l;
	LWP_CHECK(l->l_blocking != 0, "lwp_blocking_leave: the LWP is in no region");
	if (--l->l_blocking != 0) {
		return;
	}
	if (l->l_cpu->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts) {  // relaxed: our own
		lwp_to_duty(l);
	}
	if (LWP_UNLIKELY(l->l_bighas == big_hold::away)) {
		l->l_bighas = big_hold::none;
		biglock_in(l);
	}
	lwp_userret(l);
}

}  // extern "C"
