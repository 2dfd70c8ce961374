// SPDX-License-Identifier: BSD-2-Clause
//
// sched_ask() is called in handlers of signals, in the middle of anything: it wakes who halts, and waits for no lock, since whoever it interrupts may have that.
#include "explore/world.h"
#include "sched/idle.h"
#include "sched/spare.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

// The vCPU that halts is woken between the look at it and its wake-up, and gives its place away.  Whoever was interrupted has a lock that comes after all others.
SCENARIO_SPARES(ask_with_a_lock_beside_a_hand_over, 3, 1) {
	kern::atomic<bool> what{false}, go{false};
	spinlock last{lock_rank::leaf, "last"};
	const lwpid_t sleeper = start(1,
	    [&] {
		    (void)park();
		    (void)spare_hand_over(me()->l_cpu, me()->l_cpu, spare_make::no);
	    },
	    {.pinned = true, .waits = false});
	const lwpid_t waker = start(2,
	    [&] {
		    while (!go.load()) {
			    let_others();
		    }
		    unpark(sleeper);
	    },
	    {.pinned = true});
	while (sched.sd_vcpu[1]->vc_halted.load() != vc_waits) {
		let_others();
	}
	race();
	go.store(true);
	{
		lock_scope hold(last, me()->l_cpu);
		sched_ask(what);
	}
	judge();
	EXPECT(what.load());
	join(waker);
	join(sleeper);
}
