// SPDX-License-Identifier: BSD-2-Clause
//
// Timers: on a vCPU that nobody runs, with a clock that the test turns; and by LWPs with the real one.
// vcpus: 1 2 8
#include "sched/callout.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <algorithm>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace {

using namespace lwp::kern;
using lwp::test::dice;
using lwp::test::rounds;
using lwp::test::spawn;

const bool touched = lwp::test::touch_runtime();

/// A timer that keeps a diary.
struct noted : timer {
	explicit noted(std::vector<noted *> *diary = nullptr) : diary_(diary) {
		tm_fn = [](void *self) { static_cast<noted *>(static_cast<timer *>(self))->fire(); };
		tm_arg = static_cast<timer *>(this);
	}
	void fire() {
		fired.fetch_add(1);
		if (diary_ != nullptr) {
			diary_->push_back(this);
		}
	}
	std::atomic<unsigned> fired{0};

private:
	std::vector<noted *> *diary_;
};

}  // namespace

TEST(Callout, FiresAtItsDeadlineAndNotBefore) {
	const auto vc = std::make_unique<vcpu_t>();
	noted t;
	ASSERT_EQ(callout_schedule(vc.get(), &t, 1000), 0);
	EXPECT_EQ(vc->vc_deadline.load(), 1000U);
	callout_run(vc.get(), 0);
	callout_run(vc.get(), 999);
	EXPECT_EQ(t.fired, 0U);
	callout_run(vc.get(), 1000);
	EXPECT_EQ(t.fired, 1U);
	EXPECT_EQ(vc->vc_deadline.load(), never);
	callout_run(vc.get(), never - 1);
	EXPECT_EQ(t.fired, 1U) << "once";
}

TEST(Callout, FireInTheOrderOfTheirDeadlinesAndEqualsInTheOrderOfArming) {
	const auto vc = std::make_unique<vcpu_t>();
	std::vector<noted *> diary;
	std::vector<std::unique_ptr<noted>> t;
	for (nanotime deadline : {50U, 10U, 30U, 10U, 50U, 10U}) {
		t.push_back(std::make_unique<noted>(&diary));
		ASSERT_EQ(callout_schedule(vc.get(), t.back().get(), deadline), 0);
	}
	callout_run(vc.get(), 49);
	EXPECT_EQ(diary, (std::vector<noted *>{t[1].get(), t[3].get(), t[5].get(), t[2].get()}));
	EXPECT_EQ(vc->vc_deadline.load(), 50U);
	callout_run(vc.get(), 50);
	EXPECT_EQ(diary.size(), 6U);
	EXPECT_EQ(diary[4], t[0].get());
	EXPECT_EQ(diary[5], t[4].get());
}

TEST(Callout, HaltedOneNeverFiresAndMayBeArmedAgain) {
	const auto vc = std::make_unique<vcpu_t>();
	noted a;
	noted b;
	ASSERT_EQ(callout_schedule(vc.get(), &a, 10), 0);
	ASSERT_EQ(callout_schedule(vc.get(), &b, 20), 0);
	callout_halt(&a);
	EXPECT_EQ(vc->vc_deadline.load(), 20U) << "a halted timer wakes nobody up";
	callout_halt(&a);  // again: nothing
	callout_run(vc.get(), 15);
	EXPECT_EQ(a.fired, 0U);
	ASSERT_EQ(callout_schedule(vc.get(), &a, 17), 0);
	EXPECT_EQ(vc->vc_deadline.load(), 17U);
	callout_run(vc.get(), 20);
	EXPECT_EQ(a.fired, 1U);
	EXPECT_EQ(b.fired, 1U);
	callout_halt(&a);  // after it fired: nothing
	callout_halt(&b);
}

TEST(Callout, FunctionMayArmAnotherAndItFiresInTheSameRunIfItIsDue) {
	const auto vc = std::make_unique<vcpu_t>();
	noted second;
	struct arming : timer {
		vcpu_t *vc;
		timer *next;
		nanotime when;
	} first;
	first.vc = vc.get();
	first.next = &second;
	first.when = 5;
	first.tm_fn = [](void *self) {
		auto *me = static_cast<arming *>(static_cast<timer *>(self));
		EXPECT_EQ(callout_schedule(me->vc, me->next, me->when), 0);
	};
	first.tm_arg = static_cast<timer *>(&first);
	ASSERT_EQ(callout_schedule(vc.get(), &first, 10), 0);
	callout_run(vc.get(), 10);
	EXPECT_EQ(second.fired, 1U);
	first.when = 20;
	ASSERT_EQ(callout_schedule(vc.get(), &first, 10), 0);
	callout_run(vc.get(), 10);
	EXPECT_EQ(second.fired, 1U) << "not due yet";
	callout_run(vc.get(), 20);
	EXPECT_EQ(second.fired, 2U);
}

// The function has begun on one kernel thread; the owner halts the timer on another and then takes its memory away.
TEST(Callout, HaltWaitsForARunningFunction) {
	struct slow : timer {
		std::atomic<bool> inside{false};
		std::atomic<bool> halter_at_the_door{false};
		std::atomic<bool> through{false};
	};
	const std::size_t n = rounds(30);
	const auto vc = std::make_unique<vcpu_t>();
	for (std::size_t k = 0; k < n; k++) {
		auto t = std::make_unique<slow>();
		t->tm_fn = [](void *self) {
			auto *me = static_cast<slow *>(static_cast<timer *>(self));
			me->inside = true;
			while (!me->halter_at_the_door) {
				std::this_thread::yield();
			}
			for (int i = 0; i < 20; i++) {
				std::this_thread::yield();
			}
			me->through = true;
		};
		t->tm_arg = static_cast<timer *>(t.get());
		ASSERT_EQ(callout_schedule(vc.get(), t.get(), 10), 0);
		std::thread runner([&] { callout_run(vc.get(), 10); });
		while (!t->inside) {
			std::this_thread::yield();
		}
		t->halter_at_the_door = true;
		callout_halt(t.get());
		ASSERT_TRUE(t->through) << "halted while its function ran";
		t.reset();
		runner.join();
	}
}

TEST(Callout, AHundredThousandFireOnceInTimeUnlessHalted) {
	const auto vc = std::make_unique<vcpu_t>();
	dice r(lwp::test::seed());
	const std::size_t n = rounds(100000);
	std::vector<noted *> diary;
	std::vector<std::unique_ptr<noted>> all;
	std::multiset<nanotime> armed;
	for (std::size_t i = 0; i < n; i++) {
		all.push_back(std::make_unique<noted>(&diary));
		const nanotime deadline = 1 + r.below(1000000);
		ASSERT_EQ(callout_schedule(vc.get(), all.back().get(), deadline), 0);
		armed.insert(deadline);
		ASSERT_EQ(vc->vc_deadline.load(), *armed.begin());
	}
	std::set<noted *> halted;
	for (nanotime when = 0; when <= 1000000; when += 10000) {
		for (std::size_t k = 0; k < n / 300; k++) {  // about a third of them all
			noted *victim = all[r.below(static_cast<unsigned>(n))].get();
			if (victim->fired == 0 && halted.insert(victim).second) {
				armed.erase(armed.find(victim->co_deadline));
				callout_halt(victim);
			}
		}
		const std::size_t before = diary.size();
		callout_run(vc.get(), when);
		for (std::size_t k = before; k < diary.size(); k++) {
			ASSERT_LE(diary[k]->co_deadline, when) << "early";
			ASSERT_TRUE(k == before || diary[k - 1]->co_deadline <= diary[k]->co_deadline) << "out of order";
			armed.erase(armed.find(diary[k]->co_deadline));
		}
		ASSERT_TRUE(armed.empty() || *armed.begin() > when) << "one that was due did not fire";
		ASSERT_EQ(vc->vc_deadline.load(), armed.empty() ? never : *armed.begin());
	}
	EXPECT_TRUE(armed.empty());
	EXPECT_EQ(diary.size() + halted.size(), n);
	for (const auto &t : all) {
		ASSERT_EQ(t->fired, halted.count(t.get()) != 0 ? 0U : 1U);
	}
}

// A vCPU that is late and the one that watches it run the same heap at the same moment, while a third party arms and halts.
TEST(Callout, TwoThatRunTheSameHeapFireEachOnce) {
	const auto vc = std::make_unique<vcpu_t>();
	std::atomic<nanotime> clock{1};
	std::atomic<bool> done{false};
	std::vector<std::thread> runners;
	for (int i = 0; i < 2; i++) {
		runners.emplace_back([&] {
			while (!done) {
				callout_run(vc.get(), clock.load());
			}
		});
	}
	dice r(lwp::test::seed());
	const std::size_t n = rounds(2000);
	for (std::size_t k = 0; k < n; k++) {
		std::vector<std::unique_ptr<noted>> batch;
		for (unsigned i = 0; i < 32; i++) {
			batch.push_back(std::make_unique<noted>());
			ASSERT_EQ(callout_schedule(vc.get(), batch.back().get(), clock.load() + r.below(40)), 0);
		}
		clock += 20;
		for (const auto &t : batch) {
			callout_halt(t.get());
			const unsigned fired = t->fired;
			ASSERT_LE(fired, 1U);
			ASSERT_TRUE(fired == 0 || t->co_deadline <= clock.load()) << "early";
		}
		batch.clear();  // a function that still ran would be seen by a sanitizer
	}
	done = true;
	for (std::thread &t : runners) {
		t.join();
	}
	EXPECT_TRUE(vc->vc_callouts.empty());
	EXPECT_EQ(vc->vc_deadline.load(), never);
}

// By many LWPs on all vCPUs, with the real clock: the sleep's own timer.
TEST(Callout, ManyLwpsAreWokenAtTheirDeadlinesAndNeverBefore) {
	const std::size_t lwps = rounds(2000);
	constexpr unsigned sleeps = 5;
	std::atomic<unsigned> early{0};
	std::atomic<std::size_t> done{0};
	for (std::size_t i = 0; i < lwps; i++) {
		spawn(
		    [&, i] {
			    dice r(i);
			    for (unsigned k = 0; k < sleeps; k++) {
				    const nanotime deadline = now() + r.below(20'000'000);
				    lwp_sleep_until(curlwp(), deadline);
				    early += now() < deadline;
			    }
			    done++;
		    },
		    LWP_DETACHED);
	}
	EXPECT_TRUE(lwp::test::wait_until([&] { return done == lwps; })) << done << " of " << lwps << " came back";
	EXPECT_EQ(early, 0U);
	for (unsigned i = 0; i < lwp::runtime::vcpus(); i++) {
		const vcpu_t *vc = sched.sd_vcpu[i];
		EXPECT_EQ(vc->vc_deadline.load(), never) << "a timer was left on vCPU " << i;
	}
}

namespace {

struct shot {
	timer t;
	std::atomic<unsigned> fired{0};
	std::atomic<bool> was_early{false};
};

void shoot(void *arg) {
	auto *s = static_cast<shot *>(arg);
	s->was_early = now() < s->t.co_deadline;
	s->fired++;
}

}  // namespace

// LWPs arm timers on their own vCPU, move on, and halt them from wherever they are by then: half before the deadline, half close to it.
TEST(Callout, ArmedByManyLwpsHaltedFromAnywhere) {
	const std::size_t lwps = rounds(1000);
	std::atomic<std::size_t> done{0};
	std::atomic<unsigned> wrong{0};
	std::atomic<unsigned> fired{0};
	for (std::size_t i = 0; i < lwps; i++) {
		spawn(
		    [&, i] {
			    dice r(i);
			    for (unsigned k = 0; k < 20; k++) {
				    shot s;  // on this very stack: a function that ran after the halt would find something else
				    s.t.tm_fn = shoot;
				    s.t.tm_arg = &s;
				    const bool far = r.one_in(2);
				    const nanotime deadline = far ? after(now(), 3'600'000'000'000U) : now() + r.below(200'000);
				    if (callout_schedule(curlwp()->l_cpu, &s.t, deadline) != 0) {
					    wrong++;
					    break;
				    }
				    for (unsigned n = r.below(4); n > 0; n--) {
					    lwp_yield();
				    }
				    callout_halt(&s.t);
				    const unsigned shots = s.fired;
				    fired += shots;
				    wrong += shots > 1 || (far && shots != 0) || s.was_early;
			    }
			    done++;
		    },
		    LWP_DETACHED);
	}
	EXPECT_TRUE(lwp::test::wait_until([&] { return done == lwps; })) << done << " of " << lwps;
	EXPECT_EQ(wrong, 0U);
	for (unsigned i = 0; i < lwp::runtime::vcpus(); i++) {
		EXPECT_EQ(sched.sd_vcpu[i]->vc_deadline.load(), never) << "a halted timer was left on vCPU " << i;
	}
}
