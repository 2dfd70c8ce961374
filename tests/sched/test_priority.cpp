// SPDX-License-Identifier: BSD-2-Clause
//
// Priorities that change by themselves: what computing takes, what sleeping gives back, who is not passed over for ever; and how the real-time classes
// take turns.  All on one vCPU, whichever number there is.  What depends on a clock waits for it, and is never late.
// vcpus: 1 2 8
#include "sched/priority.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/mutex.hpp>
#include <lwp/sched.h>

#include <atomic>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class Body>
void direct(lwp::sched_policy policy, int priority, const Body &body) {
	lwp::thread({.priority = priority, .vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1, .policy = policy}, body).join();
}

template <class Predicate>
bool nap_until(Predicate ready) {
	for (unsigned i = 0; i < 60'000; i++) {
		if (ready()) {
			return true;
		}
		(void)park_for(1ms);
	}
	return ready();
}

nanotime cpu_time() {
	timespec t{};
	::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return static_cast<nanotime>(t.tv_sec) * 1'000'000'000U + static_cast<nanotime>(t.tv_nsec);
}

/// Computes for so much CPU time, without a call of the library.
__attribute__((noinline)) void compute(nanotime cpu) {
	for (const nanotime end = cpu_time() + cpu; cpu_time() < end;) {
	}
}

/// A call of the library that neither switches nor sleeps: it passes the boundary.
void pass_boundary() {
	lwp::mutex m;
	m.lock();
	m.unlock();
}

/// A slice computed, then as many yields as a vCPU may let pass without a look at its clock, until something was used up.  Nobody else may run
/// there meanwhile, so no timer either.  A kernel thread that loses its CPU at the wrong moment is not charged: again, then.
testing::AssertionResult use_up() {
	const lwp_t *self = curlwp();
	for (unsigned i = 0; i < 300; i++) {
		compute(30'000'000);
		for (unsigned k = 0; k < 600; k++) {
			lwp_yield();
		}
		if (self->l_decay != 0) {
			return testing::AssertionSuccess();
		}
	}
	return testing::AssertionFailure() << "nothing was used up";
}

}  // namespace

TEST(Priority, ASliceOfABetterPriorityIsShorter) {
	EXPECT_EQ(sched_slice(sched_class::other, 0), slice_longest);
	EXPECT_EQ(sched_slice(sched_class::other, 63), slice_shortest);
	for (pri_t p = 1; p < pri_span; p++) {
		EXPECT_LT(sched_slice(sched_class::other, p), sched_slice(sched_class::other, static_cast<pri_t>(p - 1)));
	}
	EXPECT_EQ(sched_slice(sched_class::rr, pri_user_rt), slice_rt);
}

TEST(Priority, ComputingUsesItUpAndSleepingGivesItBack) {
	direct(lwp::sched_policy::other, 63, [] {
		ASSERT_TRUE(use_up());
		lwp_t *self = curlwp();
		EXPECT_LT(self->l_ownpri.load(), 63);
		sched_param p{};
		ASSERT_EQ(error_of(_sched_getparam(0, 0, nullptr, &p)), 0);
		EXPECT_EQ(p.sched_priority, 63) << "what it was given is not touched";
		EXPECT_TRUE(nap_until([&] { return self->l_decay == 0; }));
		EXPECT_EQ(self->l_ownpri.load(), 63);
		EXPECT_EQ(self->l_priority.load(), 63);
	});
}

TEST(Priority, RealTimeIsNotUsedUp) {
	direct(lwp::sched_policy::fifo, 3, [] {
		for (unsigned i = 0; i < 3; i++) {
			lwp_yield();
			compute(120'000'000);
			lwp_yield();
		}
		EXPECT_EQ(curlwp()->l_decay, 0);
		EXPECT_EQ(curlwp()->l_priority.load(), pri_user_rt + 3);
	});
}

// One that has used up some of its priority stands behind an LWP that only yields, which yields to equals and better ones.
TEST(Priority, OneThatUsedItsSlicesUpIsNotPassedOverForEver) {
	direct(lwp::sched_policy::other, 63, [] {
		gate used;
		gate again;
		const lwpid_t director = _lwp_self();
		lwp::thread hog([&] {
			EXPECT_TRUE(use_up());
			used.open();
			EXPECT_EQ(error_of(_lwp_unpark(director, nullptr)), 0);  // which is better now, and runs
			again.open();
		});
		while (!used.is_open()) {
			(void)park();
		}
		again.pass();  // yields, at a priority that was not used up: it slept
		hog.join();
	});
}

TEST(Priority, ABetterOneRunsAtTheBoundary) {
	direct(lwp::sched_policy::other, 63, [] {
		bool ran = false;
		gate sleeps;
		subject rt([&](subject &s) {
			const sched_param p{.sched_priority = 0};
			EXPECT_EQ(error_of(_sched_setparam(0, _lwp_self(), SCHED_FIFO, &p)), 0);
			sleeps.open();
			s.park_once();
			ran = true;
		});
		ASSERT_TRUE(nap_until([&] { return sleeps.is_open() && rt.blocked(); }));
		EXPECT_EQ(error_of(_lwp_unpark(rt.lid(), nullptr)), 0);
		EXPECT_TRUE(ran) << "before the unpark returns";
		collect(rt.lid());
	});
}

// Both compute and pass the boundary, neither yields.  Each waits for the other to have run.
TEST(Priority, RoundRobinTakesTurnsByTheSlice) {
	direct(lwp::sched_policy::rr, 10, [] {
		std::atomic<unsigned> arrived{0};
		std::vector<lwp::thread> pair;
		for (unsigned i = 0; i < 2; i++) {
			pair.emplace_back([&] {
				arrived++;
				for (const nanotime limit = now() + 60'000'000'000U; arrived < 2 && now() < limit;) {
					pass_boundary();
				}
				EXPECT_EQ(arrived, 2u);
			});
		}
		for (lwp::thread &t : pair) {
			t.join();
		}
	});
}

TEST(Priority, FifoDoesNotGiveWayToItsEquals) {
	direct(lwp::sched_policy::fifo, 10, [] {
		std::atomic<unsigned> arrived{0};
		std::vector<lwp::thread> pair;
		for (unsigned i = 0; i < 2; i++) {
			pair.emplace_back([&, i] {
				arrived++;
				for (const nanotime end = now() + 3 * slice_rt; now() < end;) {
					pass_boundary();
				}
				EXPECT_EQ(arrived, i + 1);
			});
		}
		for (lwp::thread &t : pair) {
			t.join();
		}
	});
}
