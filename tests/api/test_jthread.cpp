// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::jthread and lwp::this_thread by the clauses of the C++20 standard ([thread.jthread.class], [thread.thread.this]).
// vcpus: 1 2 8
#include "../support/support.h"

#include <cstdlib>
#include <stop_token>
#include <system_error>
#include <type_traits>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

}  // namespace

static_assert(!std::is_copy_constructible_v<lwp::jthread> && !std::is_copy_assignable_v<lwp::jthread>);
static_assert(std::is_nothrow_move_constructible_v<lwp::jthread> && std::is_nothrow_move_assignable_v<lwp::jthread>);
static_assert(std::is_nothrow_default_constructible_v<lwp::jthread>);

// [thread.jthread.class]
TEST(Jthread, StopsAndJoinsWhenDestroyed) {
	bool stopped = false;
	{
		lwp::jthread t([&stopped](std::stop_token token) {
			while (!token.stop_requested()) {
				lwp_yield();
			}
			stopped = true;
		});
		EXPECT_TRUE(t.joinable());
	}
	EXPECT_TRUE(stopped);
}

TEST(Jthread, StopTokenIsPassedBeforeTheArguments) {
	int sum = 0;
	bool possible = false;
	lwp::jthread t(
	    [&](std::stop_token token, int a, int b) {
		    possible = token.stop_possible();
		    sum = a + b;
	    },
	    1, 2);
	t.join();
	EXPECT_EQ(sum, 3);
	EXPECT_TRUE(possible);
}

TEST(Jthread, CallableThatTakesNoTokenGetsNone) {
	int value = 0;
	{
		lwp::jthread t([&value](int v) { value = v; }, 4);
	}
	EXPECT_EQ(value, 4);
}

TEST(Jthread, MoveAssignmentStopsAndJoinsTheOldOne) {
	std::atomic<int> stopped{0};
	auto until_stopped = [&stopped](std::stop_token token) {
		while (!token.stop_requested()) {
			lwp_yield();
		}
		stopped.fetch_add(1);
	};
	lwp::jthread t(until_stopped);
	const auto first = t.get_id();
	t = lwp::jthread(until_stopped);
	EXPECT_EQ(stopped.load(), 1);
	EXPECT_NE(t.get_id(), first);
	t = lwp::jthread();
	EXPECT_EQ(stopped.load(), 2);
	EXPECT_FALSE(t.joinable());
}

TEST(Jthread, SelfMoveAssignmentKeepsIt) {
	std::atomic<bool> stopped{false};
	lwp::jthread t([&stopped](std::stop_token token) {
		while (!token.stop_requested()) {
			lwp_yield();
		}
		stopped = true;
	});
	lwp::jthread &same = t;
	t = std::move(same);
	EXPECT_TRUE(t.joinable());
	EXPECT_FALSE(stopped);
}

TEST(Jthread, StopSourceTokenAndRequest) {
	lwp::jthread none;
	EXPECT_FALSE(none.get_stop_source().stop_possible());
	EXPECT_FALSE(none.get_stop_token().stop_possible());
	EXPECT_FALSE(none.request_stop());

	std::atomic<bool> called{false};
	lwp::jthread t([&called](std::stop_token token) {
		std::stop_callback callback(token, [&called] { called = true; });
		while (!token.stop_requested()) {
			lwp_yield();
		}
	});
	EXPECT_TRUE(t.get_stop_token().stop_possible());
	EXPECT_FALSE(t.get_stop_token().stop_requested());
	EXPECT_EQ(t.get_stop_source(), t.get_stop_source());
	EXPECT_TRUE(t.request_stop());
	EXPECT_FALSE(t.request_stop());
	EXPECT_TRUE(t.get_stop_token().stop_requested());
	t.join();
	EXPECT_FALSE(t.joinable());
}

TEST(Jthread, SwapDetachAndMove) {
	std::atomic<bool> leave{false};
	lwp::jthread a([&leave] {
		while (!leave.load()) {
			lwp_yield();
		}
	});
	lwp::jthread b;
	const auto id = a.get_id();
	const lwpid_t lid = a.native_handle();
	swap(a, b);
	EXPECT_EQ(b.get_id(), id);
	EXPECT_FALSE(a.joinable());
	EXPECT_FALSE(a.get_stop_token().stop_possible());
	lwp::jthread c(std::move(b));
	EXPECT_FALSE(b.joinable());
	EXPECT_EQ(c.get_id(), id);
	c.detach();
	EXPECT_FALSE(c.joinable());
	leave = true;
	await_end(lid);
	try {
		c.join();
		ADD_FAILURE() << "joined";
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code(), std::errc::invalid_argument);
	}
}

// [thread.thread.this]
TEST(ThisThread, SleepForIsNeverEarly) {
	using clock = std::chrono::steady_clock;
	for (const auto time : {std::chrono::nanoseconds(1), std::chrono::nanoseconds(1000), std::chrono::nanoseconds(700000)}) {
		for (int i = 0; i < 20; ++i) {
			const auto begin = clock::now();
			lwp::this_thread::sleep_for(time);
			ASSERT_GE(clock::now() - begin, time);
		}
	}
	const auto begin = clock::now();
	lwp::this_thread::sleep_for(std::chrono::duration<double, std::milli>(0.25));
	EXPECT_GE(clock::now() - begin, std::chrono::microseconds(250));
}

TEST(ThisThread, SleepUntilIsNeverEarlyByItsClock) {
	for (int i = 0; i < 20; ++i) {
		const auto steady = std::chrono::steady_clock::now() + 300us;
		lwp::this_thread::sleep_until(steady);
		ASSERT_GE(std::chrono::steady_clock::now(), steady);
		const auto system = std::chrono::system_clock::now() + 300us;
		lwp::this_thread::sleep_until(system);
		ASSERT_GE(std::chrono::system_clock::now(), system);
	}
}

TEST(ThisThread, SleepOfNothingOrLessReturns) {
	lwp::this_thread::sleep_for(0s);
	lwp::this_thread::sleep_for(-1s);
	lwp::this_thread::sleep_for(std::chrono::nanoseconds::min());
	lwp::this_thread::sleep_for(std::chrono::hours::min());
	lwp::this_thread::sleep_for(std::chrono::duration<double>(-1e300));
	lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point::min());
	lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point{});
	lwp::this_thread::sleep_until(std::chrono::system_clock::time_point::min());
	lwp::this_thread::sleep_until(std::chrono::steady_clock::now() - 1h);
}

TEST(ThisThread, SleepsOverlap) {
	std::vector<lwp::thread> threads;
	std::atomic<int> order{0};
	std::atomic<int> shortest{0};
	std::atomic<int> longest{0};
	for (int i = 0; i < 100; ++i) {
		threads.emplace_back([&, i] {
			lwp::this_thread::sleep_for(std::chrono::milliseconds(i == 0 ? 1 : 20));
			const int place = order.fetch_add(1) + 1;
			if (i == 0) {
				shortest = place;
			} else {
				longest = place;
			}
		});
	}
	for (auto &t : threads) {
		t.join();
	}
	EXPECT_EQ(order.load(), 100);
	EXPECT_GT(shortest.load(), 0);
	EXPECT_GT(longest.load(), 0);
}

namespace {

// All of them must sleep until the process ends: none may come back for an overflow.
[[noreturn]] void sleep_for_ever() {
	std::atomic<int> back{0};
	auto start = [&back](auto sleep) {
		lwp::thread({.detached = true}, [&back, sleep] {
			sleep();
			back.fetch_add(1);
		});
	};
	start([] { lwp::this_thread::sleep_for(std::chrono::hours::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::nanoseconds::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::seconds::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::duration<double>(1e300)); });
	start([] { lwp::this_thread::sleep_for(std::chrono::duration<double>::max()); });
	start([] { lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point::max()); });
	start([] { lwp::this_thread::sleep_until(std::chrono::system_clock::time_point::max()); });
	for (int i = 0; i < 10; ++i) {
		lwp::this_thread::sleep_for(1ms);
	}
	std::exit(back.load() == 0 ? 0 : 10);
}

}  // namespace

TEST(ThisThreadDeathTest, LongestSleepsDoNotOverflow) { EXPECT_EXIT(sleep_for_ever(), testing::ExitedWithCode(0), ""); }

TEST(ThisThread, YieldLetsAnotherRun) {
	std::atomic<bool> ran{false};
	lwp::thread t([&ran] { ran = true; });
	EXPECT_TRUE(wait_until([&ran] {
		lwp::this_thread::yield();
		return ran.load();
	}));
	t.join();
}

// [thread.jthread.cons]/13: what it had is stopped and joined before it takes over the other's.
TEST(Jthread, AssignmentStopsAndJoinsWhatItHadFirst) {
	std::atomic<bool> ended{false};
	lwp::jthread a([&ended](std::stop_token stop) {
		EXPECT_TRUE(wait_until([&] { return stop.stop_requested(); }));
		ended = true;
	});
	std::atomic<bool> stopped{false};
	lwp::jthread b([&stopped](std::stop_token stop) {
		EXPECT_TRUE(wait_until([&] { return stop.stop_requested(); }));
		stopped = true;
	});
	const auto id = b.get_id();
	const auto source = b.get_stop_source();
	a = std::move(b);
	EXPECT_TRUE(ended);
	EXPECT_FALSE(stopped);
	EXPECT_EQ(a.get_id(), id);
	EXPECT_TRUE(a.get_stop_source() == source);
	EXPECT_FALSE(b.joinable());
	EXPECT_FALSE(b.get_stop_source().stop_possible()) << "moved from: no stop state";
	auto &same = a;
	a = std::move(same);
	EXPECT_TRUE(a.joinable()) << "nothing happens to itself";
	EXPECT_FALSE(stopped);
	a = lwp::jthread();
	EXPECT_TRUE(stopped);
	EXPECT_FALSE(a.get_stop_token().stop_possible());
}

// A callback that a jthread's function registers runs in whoever requests the stop.
TEST(Jthread, StopCallbackWakesAWait) {
	std::atomic<lwpid_t> asleep{0};
	lwp::jthread t([&](const std::stop_token &stop) {
		const std::stop_callback wake(stop, [lid = _lwp_self()] { _lwp_unpark(lid, nullptr); });
		asleep = _lwp_self();
		while (!stop.stop_requested()) {
			(void)park();
		}
	});
	EXPECT_TRUE(wait_until([&] { return asleep != 0; }));
	EXPECT_TRUE(t.request_stop());
	t.join();
}
