// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::testing::explore(): bugs of applications are found, correct programs pass, and a seed says it all.
#include "support/support.h"

#include <lwp/testing.hpp>

#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace lwp::test {
namespace {

using namespace std::chrono_literals;
using testing::explore;
using testing::options;
using testing::outcome;
using testing::result;

/// A process for each schedule costs more under a sanitizer.
std::uint64_t many(std::uint64_t n) { return LWP_TEST_ASAN || LWP_TEST_TSAN ? (n + 4) / 5 : n; }

options quiet(std::uint64_t schedules) {
	options o;
	o.schedules = schedules;
	o.quiet = true;
	return o;
}

/// What a failure must be like whatever the bug: said with its seed, and repeated, here and by its seed alone.
void expect_found(const result &r, outcome how, const std::function<void()> &body) {
	ASSERT_EQ(r.how, how) << testing::to_string(r.how) << "\n" << r.text;
	EXPECT_TRUE(r.repeated) << r.text;
	EXPECT_NE(r.text.find("steps:"), std::string::npos) << r.text;
	options one = quiet(1);
	one.seed = r.seed;
	const result again = explore(body, one);
	EXPECT_EQ(again.how, how);
	EXPECT_EQ(again.seed, r.seed);
	const result once_more = explore(body, one);
	EXPECT_EQ(once_more.hash, again.hash);
	EXPECT_EQ(once_more.steps, again.steps);
	EXPECT_TRUE(again.repeated) << again.text;
}

// ---- planted bugs

// The flag is looked at, (the other sets it and notifies nobody), and the wait begins: without a predicate under the mutex nobody ever comes.
void lost_wakeup() {
	mutex m;
	condition_variable cv;
	std::atomic<bool> ready{false};
	thread waiter([&] {
		if (!ready) {
			std::unique_lock hold(m);
			cv.wait(hold);
		}
	});
	ready = true;
	cv.notify_one();
	waiter.join();
}

TEST(Explore, FindsALostWakeup) {
	const result r = explore(lost_wakeup, quiet(many(1000)));
	expect_found(r, outcome::deadlock, lost_wakeup);
	EXPECT_NE(r.text.find("waits for"), std::string::npos) << r.text;
	EXPECT_NE(r.text.find("condition_variable::notify_one"), std::string::npos) << r.text;
}

void two_orders() {
	mutex a;
	mutex b;
	thread other([&] {
		std::lock_guard first(b);
		std::lock_guard second(a);
	});
	{
		std::lock_guard first(a);
		std::lock_guard second(b);
	}
	other.join();
}

TEST(Explore, FindsTwoOrdersOfTwoMutexes) { expect_found(explore(two_orders, quiet(many(1000))), outcome::deadlock, two_orders); }

// Each section is locked, but what the first has seen need not hold in the second.
void check_then_act() {
	mutex m;
	int money = 1;
	const auto take = [&] {
		bool enough;
		{
			const std::lock_guard hold(m);
			enough = money > 0;
		}
		if (enough) {
			const std::lock_guard hold(m);
			money--;
		}
	};
	thread other(take);
	take();
	other.join();
	testing::check(money >= 0, "nobody takes what is not there");
}

TEST(Explore, FindsACheckThatNoLongerHolds) {
	const result r = explore(check_then_act, quiet(many(1000)));
	expect_found(r, outcome::check, check_then_act);
	EXPECT_NE(r.text.find("nobody takes what is not there"), std::string::npos) << r.text;
}

// The one that gave up by its deadline has taken the notification meant for the other with it: notify_one() where both must be told.
void missed_notify() {
	mutex m;
	condition_variable cv;
	bool done = false;
	thread patient([&] {
		std::unique_lock hold(m);
		cv.wait(hold, [&] { return done; });
	});
	thread hasty([&] {
		std::unique_lock hold(m);
		(void)cv.wait_for(hold, 10ms);
	});
	this_thread::sleep_for(5ms);
	{
		const std::lock_guard hold(m);
		done = true;
	}
	cv.notify_one();
	hasty.join();
	patient.join();
}

TEST(Explore, FindsANotificationThatATimedWaiterHasTaken) {
	expect_found(explore(missed_notify, quiet(many(2000))), outcome::deadlock, missed_notify);
}

// The answer is taken for granted after a time that "is always enough".
void too_late() {
	channel<int> answers(1);
	thread worker([&] {
		this_thread::sleep_for(1ms);
		answers.send(1);
	});
	const auto got = answers.receive_for(20ms);
	worker.join();
	testing::check(got.has_value(), "an answer in time");
}

TEST(Explore, FindsATimeThatIsNotAlwaysEnough) { expect_found(explore(too_late, quiet(many(2000))), outcome::check, too_late); }

TEST(Explore, FindsSemaphoresTakenInTwoOrders) {
	const auto body = [] {
		counting_semaphore<1> a(1);
		counting_semaphore<1> b(1);
		thread other([&] {
			b.acquire();
			a.acquire();
			a.release();
			b.release();
		});
		a.acquire();
		b.acquire();
		b.release();
		a.release();
		other.join();
	};
	expect_found(explore(body, quiet(many(1000))), outcome::deadlock, body);
}

TEST(Explore, FindsAnLwpThatIsLeftAsleep) {
	const auto body = [] {
		auto *never_sent = new channel<int>;
		thread([=] { (void)never_sent->receive(); }).detach();
	};
	expect_found(explore(body, quiet(3)), outcome::deadlock, body);
}

// ---- other ends

TEST(Explore, TellsAnExceptionThatLeavesTheBody) {
	const auto body = [] { throw std::runtime_error("out of ideas"); };
	const result r = explore(body, quiet(3));
	expect_found(r, outcome::exception, body);
	EXPECT_EQ(r.schedules, 1U);
	EXPECT_NE(r.text.find("out of ideas"), std::string::npos);
}

TEST(Explore, TellsADeathOfTheProcess) {
	const result r = explore(
	    [] {
		    thread other([] { ::_exit(3); });
		    other.join();
	    },
	    quiet(3));
	EXPECT_EQ(r.how, outcome::died);
	EXPECT_TRUE(r.repeated);
}

TEST(Explore, TellsALoopThatWaitsForNobody) {
	options o = quiet(3);
	o.steps = 2000;
	EXPECT_EQ(explore(
	              [] {
		              for (;;) {
			              this_thread::yield();
		              }
	              },
	              o)
	              .how,
	    outcome::livelock);
}

TEST(Explore, TellsATimeThatNeverEnds) {
	options o = quiet(3);
	o.time = 60s;
	EXPECT_EQ(explore([] { this_thread::sleep_for(1h); }, o).how, outcome::livelock);
}

TEST(Explore, TellsALoopOutsideTheLibrary) {
	options o = quiet(3);
	o.patience = 1s;
	EXPECT_EQ(explore(
	              [] {
		              for (std::atomic<bool> never{false}; !never;) {
		              }
	              },
	              o)
	              .how,
	    outcome::hung);
}

TEST(Explore, HasNoIo) {
	const auto body = [] {
		pipe p;
		std::byte byte;
		(void)p.read_end.read({&byte, 1});
	};
	const result r = explore(body, quiet(1));
	EXPECT_EQ(r.how, outcome::exception);
	EXPECT_NE(r.text.find("not supported"), std::string::npos) << r.text;
}

TEST(Explore, AsksATestLibraryWhatItThinks) {
	options o = quiet(3);
	o.failed = [] { return std::getenv("LWP_TEST_VERDICT") != nullptr; };
	const result r = explore([] { ::setenv("LWP_TEST_VERDICT", "bad", 1); }, o);
	EXPECT_EQ(r.how, outcome::check);
	EXPECT_EQ(std::getenv("LWP_TEST_VERDICT"), nullptr) << "a schedule has changed the memory of its parent";
	EXPECT_TRUE(explore([] {}, o));
}

// ---- correct programs

TEST(Explore, PassesAQueueWithTwoConditionVariables) {
	const result r = explore(
	    [] {
		    mutex m;
		    condition_variable more;
		    condition_variable room;
		    std::vector<int> queue;
		    int sum = 0;
		    std::vector<thread> all;
		    for (int p = 0; p < 2; p++) {
			    all.emplace_back([&] {
				    for (int i = 1; i <= 3; i++) {
					    std::unique_lock hold(m);
					    room.wait(hold, [&] { return queue.size() < 2; });
					    queue.push_back(i);
					    more.notify_one();
				    }
			    });
			    all.emplace_back([&] {
				    for (int i = 0; i < 3; i++) {
					    std::unique_lock hold(m);
					    more.wait(hold, [&] { return !queue.empty(); });
					    sum += queue.back();
					    queue.pop_back();
					    room.notify_one();
				    }
			    });
		    }
		    for (thread &t : all) {
			    t.join();
		    }
		    testing::check(sum == 12, "all was received once");
	    },
	    quiet(many(120)));
	EXPECT_TRUE(r) << r.text;
	EXPECT_EQ(r.schedules, many(120));
	EXPECT_GT(r.steps, r.schedules * 40);
}

TEST(Explore, PassesChannelsScopesTimersAndSemaphores) {
	const result r = explore(
	    [] {
		    channel<int> work(2);
		    counting_semaphore<3> slots(2);
		    std::atomic<int> sum{0};
		    scope s;
		    for (int w = 0; w < 3; w++) {
			    s.spawn([&] {
				    while (auto n = work.receive()) {
					    slots.acquire();
					    this_thread::sleep_for(1ms);
					    sum += *n;
					    slots.release();
				    }
			    });
		    }
		    for (int i = 1; i <= 5; i++) {
			    work.send(i);
		    }
		    work.close();
		    s.join();
		    testing::check(sum == 15, "all was done once");
		    recursive_mutex m;
		    shared_mutex sm;
		    latch l(2);
		    thread t([&] {
			    {
				    const std::shared_lock hold(sm);
				    const std::lock_guard mine(m);
			    }
			    l.arrive_and_wait();
		    });
		    {
			    const std::lock_guard hold(m);
			    const std::lock_guard twice(m);
			    const std::unique_lock other(sm, std::try_to_lock);
		    }
		    l.arrive_and_wait();
		    t.join();
	    },
	    quiet(many(100)));
	EXPECT_TRUE(r) << testing::to_string(r.how) << r.text;
}

// An hour takes no time, and all clocks agree.
TEST(Explore, HasAClockOfItsOwn) {
	const result r = explore(
	    [] {
		    const auto steady = std::chrono::steady_clock::now();
		    const auto system = std::chrono::system_clock::now();
		    this_thread::sleep_for(30min);
		    const auto passed = std::chrono::steady_clock::now() - steady;
		    testing::check(passed >= 30min && passed < 31min, "steady_clock");
		    testing::check(std::chrono::system_clock::now() - system == passed, "system_clock");
		    timespec ts;
		    ::clock_gettime(CLOCK_MONOTONIC, &ts);
		    testing::check(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec) ==
		            std::chrono::steady_clock::now().time_since_epoch(),
		        "clock_gettime()");
	    },
	    quiet(10));
	EXPECT_TRUE(r) << r.text;
}

// ---- seeds

void busy() {
	mutex m;
	std::vector<thread> all;
	for (int i = 0; i < 4; i++) {
		all.emplace_back([&] {
			for (int n = 0; n < 5; n++) {
				const std::lock_guard hold(m);
				this_thread::yield();
			}
			this_thread::sleep_for(1ms);
		});
	}
	for (thread &t : all) {
		t.join();
	}
}

TEST(Explore, DoesTheSameForTheSameSeeds) {
	const result a = explore(busy, quiet(many(30)));
	const result b = explore(busy, quiet(many(30)));
	EXPECT_TRUE(a) << a.text;
	EXPECT_EQ(a.hash, b.hash);
	EXPECT_EQ(a.steps, b.steps);
	options other = quiet(many(30));
	other.seed = 1'000'000;
	EXPECT_NE(explore(busy, other).hash, a.hash);
}

TEST(Explore, DoesSomethingElseForEachSeed) {
	std::vector<std::uint64_t> hashes;
	for (std::uint64_t seed = 1; seed <= 40; seed++) {
		options o = quiet(1);
		o.seed = seed;
		hashes.push_back(explore(busy, o).hash);
	}
	std::sort(hashes.begin(), hashes.end());
	const auto different = std::unique(hashes.begin(), hashes.end()) - hashes.begin();
	EXPECT_GE(different, 20);
}

TEST(Explore, RunsOneSeedFromTheEnvironment) {
	::setenv("LWP_EXPLORE_SEED", "77", 1);
	const result r = explore(busy, quiet(100));
	::unsetenv("LWP_EXPLORE_SEED");
	EXPECT_EQ(r.schedules, 1U);
	EXPECT_EQ(r.seed, 77U);
}

TEST(Explore, KeepsToItsBudget) {
	options o = quiet(1'000'000'000);
	o.budget = 50ms;
	const result r = explore(busy, o);
	EXPECT_TRUE(r);
	EXPECT_GE(r.schedules, 1U);
	EXPECT_LT(r.schedules, 1'000'000'000U);
}

TEST(Explore, NeedsAProcessWithoutARuntime) {
	{
		const runtime here({.vcpus = 1});
		EXPECT_THROW((void)explore([] {}), std::system_error);
	}
	EXPECT_TRUE(explore([] {}, quiet(1)));
}

}  // namespace
}  // namespace lwp::test
