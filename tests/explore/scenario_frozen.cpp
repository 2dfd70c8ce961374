// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that are interrupted and wait in the handler: dispatched before their kernel thread sleeps, brought home while their place changes hands, suspended
// and continued there, frozen again at once.  An LWP here interrupts itself: it calls what the signal handler calls.
#include "explore/world.h"
#include "sched/frozen.h"
#include "sched/spare.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

void prepare() {
	sched_each_vcpu([](vcpu_t *vc) {
		if (frozen_prepare(vc) != 0) {
			fail("no landing");
		}
	});
}

/// Interrupted here.  Afterwards it is where it was.
void interrupted() {
	lwp_t *l = me();
	vcpu_t *vc = l->l_cpu;
	(void)lwp_give_way(vc, l, nullptr, true, true);
	EXPECT(me() == l);
	EXPECT(l->l_cpu == vc);
	EXPECT(curcpu_or_null() == vc);
	EXPECT(l->l_frozen == nullptr);
	EXPECT(l->l_priority.load() == l->l_ownpri.load());
}

/// The same, until others have run.
template <class Ready>
void computes_until(Ready ready) {
	for (int i = 0; i < 2000 && !ready(); i++) {
		interrupted();
		let_others();
	}
	EXPECT(ready());
}

}  // namespace

// One vCPU: the other LWP can run on the substitute only, and the first comes home.
SCENARIO_SPARES(frozen_lets_another_run, 1, 2) {
	prepare();
	kern::atomic<bool> ran{false};
	race();
	lwpid_t a = start(anywhere, [&] { ran.store(true); });
	computes_until([&] { return ran.load(); });
	join(a);
}

// Two that compute on one vCPU, in turns: each freezes while the other is brought home.
SCENARIO_SPARES(frozen_two_in_turns, 1, 3) {
	prepare();
	kern::atomic<int> turns{0};
	race();
	auto hog = [&] {
		for (int i = 0; i < 2; i++) {
			turns.fetch_add(1);
			interrupted();
		}
	};
	lwpid_t a = start(anywhere, hog, {.pinned = true});
	lwpid_t b = start(anywhere, hog, {.pinned = true});
	computes_until([&] { return turns.load() >= 2; });
	join(a);
	join(b);
}

// The same while the monitor takes their vCPU for blocked: one passes its place on as it is lost.
SCENARIO_SPARES(frozen_passed_on_against_the_monitor, 2, 2) {
	prepare();
	auto hog = [&] {
		for (int i = 0; i < 3; i++) {
			interrupted();
		}
	};
	lwpid_t a = start(1, hog, {.pinned = true});
	lwpid_t b = start(1, hog, {.pinned = true});
	race();
	for (int i = 0; i < 3; i++) {
		(void)spare_hand_over(sched.sd_vcpu[1], me()->l_cpu, spare_make::no);
		let_others();
	}
	join(a);
	join(b);
}

// LSSUSPENDED in the handler; a continue may come before, in between, and after.
SCENARIO_SPARES(frozen_suspended_and_continued, 2, 2) {
	prepare();
	kern::atomic<bool> stop{false};
	kern::atomic<int> steps{0};
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 2000 && !stop.load(); i++) {
			    steps.fetch_add(1);
			    interrupted();
			    let_others();
		    }
	    },
	    {.pinned = true});
	race();
	EXPECT(suspend(a) == 0);
	const int before = steps.load();
	let_others();
	EXPECT(steps.load() == before);
	cont(a);
	stop.store(true);
	join(a);
}

// The LWP is continued by one while another suspends it.
SCENARIO_SPARES(frozen_suspend_against_continue, 2, 2) {
	prepare();
	kern::atomic<bool> stop{false};
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 2000 && !stop.load(); i++) {
			    interrupted();
			    let_others();
		    }
	    },
	    {.pinned = true});
	race();
	lwpid_t b = start(anywhere, [&] {
		(void)suspend(a);
		cont(a);
	});
	cont(a);
	(void)suspend(a);
	cont(a);
	join(b);
	cont(a);
	stop.store(true);
	join(a);
}

// It may move: whichever vCPU dispatches it, it comes home.
SCENARIO_SPARES(frozen_and_stolen, 2, 2) {
	prepare();
	kern::atomic<int> ran{0};
	lwpid_t a = start(1, [&] { computes_until([&] { return ran.load() >= 2; }); });
	race();
	lwpid_t b = start(1, [&] { ran.fetch_add(1); }, {.pinned = true});
	lwpid_t c = start(1, [&] { ran.fetch_add(1); });
	join(b);
	join(c);
	join(a);
}

// Taken for blocked by the monitor while it freezes, waits, or comes home.
SCENARIO_SPARES(frozen_against_the_monitor, 2, 2) {
	prepare();
	kern::atomic<bool> ran{false};
	lwpid_t a = start(1, [&] { computes_until([&] { return ran.load(); }); }, {.pinned = true});
	race();
	lwpid_t b = start(1, [&] { ran.store(true); }, {.pinned = true});
	for (int i = 0; i < 2; i++) {
		(void)spare_hand_over(sched.sd_vcpu[1], me()->l_cpu, spare_make::no);
		let_others();
	}
	join(b);
	join(a);
}

// A vCPU is blocked, perhaps by what a frozen LWP holds: those come there before others, while they are dispatched, stolen and brought home.
SCENARIO_SPARES(frozen_first_to_one_that_is_blocked, 2, 2) {
	prepare();
	kern::atomic<int> ran{0};
	lwpid_t a = start(1, [&] { computes_until([&] { return ran.load() >= 2; }); });
	race();
	lwpid_t b = start(1, [&] { ran.fetch_add(1); }, {.pinned = true});
	lwpid_t c = start(1, [&] { ran.fetch_add(1); });
	for (const unsigned blocked : {1U, 0U, 1U}) {
		frozen_first(sched.sd_vcpu[blocked], me()->l_cpu);
		if (blocked == 1) {
			(void)spare_hand_over(sched.sd_vcpu[1], me()->l_cpu, spare_make::no);
		}
		let_others();
	}
	join(b);
	join(c);
	join(a);
}

// A vCPU that looks around at a boundary loses its place between the look at its duty and that at its flag: it takes the word for it back without knowing.  What
// is queued there is run by the substitute meanwhile, and its LWP, which gives nobody way as long as it is off duty, comes to no harm by its next switch.
SCENARIO_SPARES(boundary_against_a_hand_over, 2, 2) {
	kern::atomic<int> ran{0};
	const auto runs = [&ran] { ran.fetch_add(1); };
	const lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 2000 && ran.load() < 3; i++) {
			    userret();
			    let_others();
			    if (me()->l_cpu->vc_duty.load() == vcpu_duty::acts) {
				    yield();
				    vcpu_need_resched(me()->l_cpu);  // it looks around each time
			    }
		    }
		    EXPECT(ran.load() == 3);
		    yield();
	    },
	    {.pinned = true});
	const lwpid_t b = start(1, runs, {.pinned = true});
	race();
	const lwpid_t c = start(1, runs, {.pinned = true});
	EXPECT(spare_hand_over(sched.sd_vcpu[1], me()->l_cpu, spare_make::no));
	const lwpid_t d = start(1, runs, {.pinned = true});
	for (const lwpid_t lid : {b, c, d, a}) {
		join(lid);
	}
}
