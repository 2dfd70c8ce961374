// SPDX-License-Identifier: BSD-2-Clause
//
// Priorities that change by themselves: what computing takes, what sleeping gives back, who is not passed over for ever; and how the real-time classes
// take turns.  All on one vCPU, whichever number there is.  The accounting is told what the clocks say; what is left to a real one waits for it, and is never late.
// vcpus: 1 2 8
#include "sched/priority.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/mutex.hpp>
#include <lwp/sched.h>

#include <algorithm>
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

/// A call of the library that neither switches nor sleeps: it passes the boundary.
void pass_boundary() {
	lwp::mutex m;
	m.lock();
	m.unlock();
}

/// What sched_charge() makes of a vCPU whose kernel thread has had the CPU for `cpu` of the last `took`, with so many switches meanwhile, if the
/// caller ran when it looked at its clock last.  No call of the library between this and what it answers, so nobody else has charged.
unsigned charge(nanotime took, nanotime cpu, std::uint64_t switches, bool arrived) {
	constexpr nanotime since = 5'000'000'000;
	constexpr nanotime used = 1'000'000'000;
	lwp_t *self = curlwp();
	vcpu_t *vc = self->l_cpu;
	const unsigned before = self->l_decay;
	vc->vc_ran = self;
	vc->vc_ran_lid = lwp_lid(self);
	vc->vc_ran_switches = vc->vc_switches.load() - switches;
	vc->vc_cpu_used = used;
	vc->vc_cpu_when = since;
	sched_charge(vc, since, since + took, used + cpu, arrived);
	vc->vc_cpu_when = 0;  // of another time: the next real look begins anew
	return self->l_decay - before;
}

constexpr nanotime second = 1'000'000'000;

}  // namespace

TEST(Priority, ASliceOfABetterPriorityIsShorter) {
	EXPECT_EQ(sched_slice(sched_class::other, 0), slice_longest);
	EXPECT_EQ(sched_slice(sched_class::other, 63), slice_shortest);
	for (pri_t p = 1; p < pri_span; p++) {
		EXPECT_LT(sched_slice(sched_class::other, p), sched_slice(sched_class::other, static_cast<pri_t>(p - 1)));
	}
	EXPECT_EQ(sched_slice(sched_class::rr, pri_user_rt), slice_rt);
}

TEST(Priority, ASliceOfComputingIsCharged) {
	direct(lwp::sched_policy::other, 63, [] {
		lwp_t *self = curlwp();
		const unsigned none = charge(second, slice_shortest - 1, 0, false) + charge(second, 0, 0, false);
		const pri_t before = self->l_ownpri.load();
		const unsigned running = charge(second, slice_shortest, 0, false);
		const pri_t own = self->l_ownpri.load();
		const pri_t runs_with = self->l_priority.load();
		const unsigned just_left = charge(second, second, 1, true);
		const unsigned left_at_some_time = charge(second, second, 1, false);
		const unsigned others_ran = charge(second, second, 2, true);
		EXPECT_EQ(none, 0u);
		EXPECT_EQ(running, 1u);
		EXPECT_EQ(own, before - 1);
		EXPECT_EQ(runs_with, own);
		EXPECT_EQ(just_left, 1u);
		EXPECT_EQ(left_at_some_time, 0u) << "another has run for part of it";
		EXPECT_EQ(others_ran, 0u);
		sched_param p{};
		ASSERT_EQ(error_of(_sched_getparam(0, 0, nullptr, &p)), 0);
		EXPECT_EQ(p.sched_priority, 63) << "what it was given is not touched";
	});
}

TEST(Priority, AWorsePriorityPaysForLongerSlicesAndNothingBelowTheWorst) {
	direct(lwp::sched_policy::other, 1, [] {
		const nanotime slice = sched_slice(sched_class::other, 1);
		const unsigned less = charge(second, slice - 1, 0, false);
		unsigned all = curlwp()->l_decay;
		for (unsigned i = 0; i < 5; i++) {
			all += charge(second, slice, 0, false);
		}
		const pri_t own = curlwp()->l_ownpri.load();
		EXPECT_EQ(less, 0u);
		EXPECT_EQ(all, 1u);
		EXPECT_EQ(own, 0);
	});
}

TEST(Priority, AnLwpThatIsAnotherByNowIsNotCharged) {
	direct(lwp::sched_policy::other, 63, [] {
		lwp_t *self = curlwp();
		vcpu_t *vc = self->l_cpu;
		const unsigned before = self->l_decay;
		vc->vc_ran = self;
		vc->vc_ran_lid = lwp_lid(self) + 1;
		vc->vc_ran_switches = vc->vc_switches.load();
		vc->vc_cpu_used = 1;
		vc->vc_cpu_when = 1;
		sched_charge(vc, 1, second, second, false);
		vc->vc_cpu_when = 0;
		const unsigned after = self->l_decay;
		EXPECT_EQ(after, before);
	});
}

TEST(Priority, SleepingGivesItBack) {
	direct(lwp::sched_policy::other, 63, [] {
		lwp_t *self = curlwp();
		const unsigned charged = charge(second, second, 0, false) + charge(second, second, 0, false);
		EXPECT_EQ(charged, 2u);
		EXPECT_TRUE(nap_until([&] { return self->l_decay == 0; }));
		EXPECT_EQ(self->l_ownpri.load(), 63);
		EXPECT_EQ(self->l_priority.load(), 63);
	});
}

TEST(Priority, AChildBeginsWithoutWhatItsCreatorHasUsedUp) {
	direct(lwp::sched_policy::other, 63, [] {
		const unsigned used = charge(second, second, 0, false) + charge(second, second, 0, false);
		EXPECT_EQ(used, 2u);
		unsigned decay = 0;
		pri_t own = 0;
		pri_t runs_with = 0;
		lwp::thread([&] {
			const lwp_t *l = curlwp();
			decay = l->l_decay;
			own = l->l_ownpri.load();
			runs_with = l->l_priority.load();
		}).join();
		EXPECT_GE(decay, 2u);
		EXPECT_LE(decay, 3u) << "and what it was charged itself, on a vCPU that others keep from its CPU";
		EXPECT_EQ(own, 63 - static_cast<pri_t>(decay));
		EXPECT_EQ(runs_with, own);
		// One more if a real look has come meanwhile: that finds a second of computing, and marks it as batch.
		EXPECT_GE(curlwp()->l_decay, 1) << "it has slept, and does not pay for it twice";
		EXPECT_LE(curlwp()->l_decay, 2);
	});
	direct(lwp::sched_policy::other, 63, [] {
		(void)(charge(second, second, 0, false) + charge(second, second, 0, false));
		unsigned decay = 99;
		lwp::thread({.priority = 1}, [&] { decay = curlwp()->l_decay; }).join();
		EXPECT_EQ(decay, 1u) << "nothing is worse than the worst";
	});
}

TEST(Priority, WhoCollectsPaysForWhatTheChildHasUsedUp) {
	direct(lwp::sched_policy::other, 63, [] {
		lwp::thread([] { EXPECT_EQ(charge(second, second, 0, false) + charge(second, second, 0, false), 2u); }).join();
		const int paid = curlwp()->l_decay;
		EXPECT_GE(paid, 2);
		EXPECT_LE(paid, 3) << "one more if a real look has come meanwhile";
		EXPECT_EQ(curlwp()->l_priority.load(), 63 - paid);
	});
	direct(lwp::sched_policy::fifo, 3, [] {
		lwp::thread({.priority = 63, .policy = lwp::sched_policy::other}, [] { (void)charge(second, second, 0, false); }).join();
		EXPECT_EQ(curlwp()->l_decay, 0) << "real time is not used up";
	});
}

TEST(Priority, AShortStretchIsCountedToo) {
	direct(lwp::sched_policy::other, 63, [] {
		const lwp_t *self = curlwp();
		const unsigned less = charge(second / 100, slice_shortest / 4, 0, false);
		const nanotime ran = self->l_run.ra_ran;
		EXPECT_EQ(less, 0u);
		EXPECT_EQ(ran, slice_shortest / 4);
	});
}

// More run than slept in a second, twice in a row.
TEST(Priority, BatchIsWhoRunsForLongerThanItSleeps) {
	direct(lwp::sched_policy::other, 63, [] {
		lwp_t *self = curlwp();
		constexpr nanotime tenth = second / 10;
		const auto run = [self](unsigned from, unsigned to, bool slept) {
			if (slept) {
				self->l_slept = self->l_run.ra_since;  // as a vCPU says that has not looked at its clock since
			}
			return sched_account_stretch(self, second + from * tenth, second + to * tenth, (to - from) * tenth);
		};
		const auto batch = [self] { return (lwp_flags(self) & LW_BATCH) != 0; };
		self->l_run = {};
		bool paid[4];
		bool is[4];
		(void)run(0, 6, false);
		paid[0] = run(10, 16, true);  // 1.2 s in 1.6
		is[0] = batch();
		paid[1] = run(20, 26, true);  // 0.6 s in 1
		is[1] = batch();
		self->l_decay = 2;
		self->l_slept = self->l_run.ra_since + tenth;
		sched_slept(self);
		const unsigned kept = self->l_decay;
		paid[2] = run(36, 37, true);  // 0.1 s in 1.1
		is[2] = batch();
		sched_slept(self);
		const unsigned given_back = self->l_decay;
		(void)run(37, 38, false);
		paid[3] = run(60, 61, false);  // queued for long, but not asleep: 0.2 s run, none slept
		is[3] = batch();
		self->l_decay = 1;
		self->l_slept = self->l_run.ra_second + 2 * second;
		sched_slept(self);
		const bool long_ago = batch();
		const unsigned at_last = self->l_decay;
		self->l_run = {};
		EXPECT_FALSE(paid[0]) << "once";
		EXPECT_TRUE(is[0]);
		EXPECT_TRUE(paid[1]) << "and again";
		EXPECT_TRUE(is[1]);
		EXPECT_EQ(kept, 2u) << "its sleeps give nothing back";
		EXPECT_FALSE(paid[2]);
		EXPECT_FALSE(is[2]);
		EXPECT_EQ(given_back, 1u);
		EXPECT_FALSE(paid[3]);
		EXPECT_TRUE(is[3]);
		EXPECT_FALSE(long_ago);
		EXPECT_EQ(at_last, 0u);
	});
}

// The whole way: computes, then passes what has looks at the clock in it, until a look has found that.  A kernel thread that loses its CPU at the wrong
// moment is not charged: again, then.
TEST(Priority, ComputingIsFoundAtALookAtTheClock) {
	direct(lwp::sched_policy::other, 63, [] {
		const lwp_t *self = curlwp();
		bool found = false;
		for (const nanotime limit = now() + 100 * second; !found && now() < limit;) {
			for (const nanotime end = cpu_time() + 3 * slice_shortest; cpu_time() < end && now() < limit;) {
			}
			for (unsigned k = 0; k < 600 && !found; k++) {
				lwp_yield();
				found = self->l_decay != 0;
			}
		}
		EXPECT_TRUE(found);
	});
}

TEST(Priority, RealTimeIsNotUsedUp) {
	for (lwp::sched_policy policy : {lwp::sched_policy::fifo, lwp::sched_policy::rr}) {
		direct(policy, 3, [] {
			EXPECT_EQ(charge(second, second, 0, false), 0u);
			EXPECT_EQ(charge(second, second, 1, true), 0u);
			EXPECT_EQ(curlwp()->l_decay, 0);
			EXPECT_EQ(curlwp()->l_priority.load(), pri_user_rt + 3);
		});
	}
}

// Queued behind one that is better since it has used up what it had: a tenth of a second later it has all of it again.  So has one that stands in the
// stack, as who was woken by an end that it waited for.
TEST(Priority, OneThatUsedItsSlicesUpIsNotPassedOverForEver) {
	for (queue_end end : {queue_end::line, queue_end::newest_first}) {
		direct(lwp::sched_policy::fifo, 0, [end] {
			vcpu_t *vc = curlwp()->l_cpu;
			lwp::thread hog({.priority = 60, .policy = lwp::sched_policy::other}, [] {});
			spinlock *lock = nullptr;
			lwp_t *l = lwp_find_and_lock(&proc0, hog.native_handle(), vc, &lock);
			ASSERT_NE(l, nullptr);
			ASSERT_EQ(lock, &vc->vc_rqlock) << "not queued here";
			vc->vc_rq.remove(l);
			vc->vc_rq.push(l, end);
			l->l_decay = 7;
			sched_set_ownpri(l);
			sched_changepri_locked(l, lock, l->l_ownpri.load());
			const pri_t used_up = l->l_priority.load();
			const nanotime when = now();
			vc->vc_lifted = when;
			sched_lift_locked(vc, when + second / 100);
			const pri_t too_early = l->l_priority.load();
			sched_lift_locked(vc, when + second / 10);
			const pri_t lifted = l->l_priority.load();
			const pri_t own = l->l_ownpri.load();
			lock->unlock(vc);
			EXPECT_EQ(used_up, 53);
			EXPECT_EQ(too_early, 53);
			EXPECT_EQ(lifted, 60);
			EXPECT_EQ(own, 60);
			hog.join();
		});
	}
}

TEST(Priority, AQueueOfThoseThatUsedUpNothingIsLeftAsItIs) {
	direct(lwp::sched_policy::fifo, 0, [] {
		vcpu_t *vc = curlwp()->l_cpu;
		lwp::thread other({.priority = 60, .policy = lwp::sched_policy::other}, [] {});
		spinlock *lock = nullptr;
		lwp_t *l = lwp_find_and_lock(&proc0, other.native_handle(), vc, &lock);
		ASSERT_NE(l, nullptr);
		sched_lift_locked(vc, vc->vc_lifted + second);
		const pri_t pri = l->l_priority.load();
		lock->unlock(vc);
		EXPECT_EQ(pri, 60);
		other.join();
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

// Behaviour 38.  The end of a slice is told, as by an interruption that could not take the LWP off: so each turn is exactly one slice, however long the OS
// made it.
TEST(Priority, TimeSharingEqualsHaveSlicesInEqualNumber) {
	direct(lwp::sched_policy::other, 40, [] {
		constexpr unsigned equals = 3;
		std::vector<unsigned> order;
		std::vector<lwp::thread> threads;
		for (unsigned i = 0; i < equals; i++) {
			threads.emplace_back([&order, i] {
				for (unsigned slice = 0; slice < 50; slice++) {
					order.push_back(i);
					vcpu_t *vc = curlwp()->l_cpu;
					vc->vc_expired.store(vc->vc_switches.load() + 1);
					vc->vc_resched.store(true);
					pass_boundary();
				}
			});
		}
		for (lwp::thread &t : threads) {
			t.join();
		}
		unsigned had[equals] = {};
		for (const unsigned i : order) {
			had[i]++;
			const auto [least, most] = std::minmax_element(had, had + equals);
			EXPECT_LE(*most - *least, 1U);
		}
		EXPECT_EQ(order.size(), 50U * equals);
	});
}
