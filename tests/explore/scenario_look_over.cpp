// SPDX-License-Identifier: BSD-2-Clause
//
// sched_look_over(): of two vCPUs neither ever is idle, so nobody watches.  The one computes and does not switch; what it waits for stands behind it, in
// one of three places.  The other has turns of a millisecond, and at one of them it must find that.
#include "explore/world.h"
#include "proc/lwp_life.h"
#include "sched/idle.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

void compute_until(const kern::atomic<bool> &ready) {
	while (!ready.load()) {
		cpu_relax();
	}
}

/// Never idle: it yields, and takes a millisecond until it does so again.
void be_busy_until(const kern::atomic<bool> &ready) {
	while (!ready.load()) {
		advance_clock(static_cast<std::uint64_t>(time_in(soon)));
		cpu_relax();
		yield();
	}
}

}  // namespace

SCENARIO_TSO(look_over_a_queue, 2) {
	kern::atomic<bool> ran{false};
	kern::atomic<int> times{0};
	lwpid_t computes = start(1, [&] {
		lwpid_t behind = start(anywhere, [&] {
			times.fetch_add(1);
			ran.store(true);
		});
		compute_until(ran);
		join(behind);
	});
	race();
	be_busy_until(ran);
	join(computes);
	EXPECT(times.load() == 1);
}

// It was bound to the vCPU that computes, so it came into the inbox there; then it may go anywhere.
SCENARIO_TSO(look_over_an_inbox, 2) {
	kern::atomic<bool> ran{false};
	kern::atomic<int> times{0};
	lwpid_t computes = start(1, [&] { compute_until(ran); }, {.pinned = true});
	race();
	lwpid_t queued = start(1,
	    [&] {
		    times.fetch_add(1);
		    ran.store(true);
	    },
	    {.pinned = true, .waits = false});
	EXPECT(lwp_setaffinity(me(), queued, {}) == 0);
	be_busy_until(ran);
	join(queued);
	join(computes);
	EXPECT(times.load() == 1);
}

// Its deadline is in the heap of the vCPU that computes.
SCENARIO_TSO(look_over_a_late_timer, 2) {
	kern::atomic<bool> woke{false};
	nanotime deadline = 0;
	lwpid_t sleeper = start(1, [&] {
		deadline = time_in(soon);
		lwp_sleep_until(me(), deadline);
		EXPECT(time_in(0) >= deadline);
		woke.store(true);
	});
	lwpid_t computes = start(1, [&] { compute_until(woke); }, {.pinned = true});
	race();
	be_busy_until(woke);
	join(sleeper);
	join(computes);
}

// The one that computed goes on just as it is looked over: those behind it run there or here, each once.
SCENARIO_TSO(look_over_one_that_goes_on, 2) {
	kern::atomic<int> times{0};
	kern::atomic<bool> all{false};
	lwpid_t computes = start(1, [&] {
		lwpid_t behind[3];
		for (lwpid_t &lid : behind) {
			lid = start(anywhere, [&] {
				if (times.fetch_add(1) == 2) {
					all.store(true);
				}
			});
		}
		for (int i = 0; i < 3; i++) {
			cpu_relax();
		}
		for (lwpid_t lid : behind) {
			join(lid);
		}
	});
	race();
	be_busy_until(all);
	join(computes);
	EXPECT(times.load() == 3);
}
