// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::after and lwp::ticker: when the times come, how many, and that nothing of them is left when they go.
// vcpus: 1 2 8
#include <lwp/ticker.hpp>

#include "../support/support.h"

#include <lwp/select.hpp>
#include <lwp/thread.hpp>

#include <memory>
#include <system_error>
#include <thread>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

namespace {
const bool touched = touch_runtime();

/// A kernel thread of the application.  To join one outright would block the vCPU, and with it all that it may be waiting for.
class foreign_thread {
public:
	template <class F>
	explicit foreign_thread(F f)
	    : thread_([this, f] {
		      f();
		      done_ = true;
	      }) {}
	void join() {
		EXPECT_TRUE(wait_until([this] { return done_.load(); })) << "a kernel thread did not end";
		thread_.join();
	}

private:
	std::atomic<bool> done_{false};
	std::thread thread_;
};

}  // namespace

TEST(After, GivesTheTimeOnceAndNoSooner) {
	const auto begin = steady_clock::now();
	auto due = lwp::after(20ms);
	EXPECT_FALSE(due.try_receive());
	const auto when = due.receive();
	ASSERT_TRUE(when);
	EXPECT_GE(*when - begin, 20ms);
	EXPECT_LE(*when, steady_clock::now());
	EXPECT_FALSE(due.receive_for(50ms));
	EXPECT_FALSE(due.stop()) << "it is over";
}

TEST(After, AlreadyDueComesAtOnceAndFarAwayNever) {
	EXPECT_TRUE(lwp::after(-1s).receive());
	EXPECT_TRUE(lwp::after(0s).receive());
	auto far = lwp::after(std::chrono::hours::max());
	EXPECT_FALSE(far.receive_for(2ms));
	auto hour = lwp::after(1h);
	EXPECT_FALSE(hour.receive_for(2ms));
	EXPECT_TRUE(hour.stop());
	EXPECT_FALSE(hour.stop());
}

TEST(After, IsACaseOfASelect) {
	lwp::channel<int> silent;
	auto soon = lwp::after(5ms);
	auto late = lwp::after(1h);
	EXPECT_EQ(
	    lwp::select(lwp::on_receive(silent, [](auto) {}), lwp::on_receive(late, [](auto) {}), lwp::on_receive(soon, [](auto) {})), 2U);
}

// Dropped about when it is due: the timer goes with it, or has gone before.
TEST(After, MayBeDroppedAtAnyTime) {
	for (std::size_t n = rounds(5000); n != 0; n--) {
		auto t = std::make_unique<lwp::ticker>(std::chrono::nanoseconds(100 * (n % 50) + 1));
		const auto once = lwp::after(std::chrono::nanoseconds(100 * (n % 50)));
		for (std::size_t k = n % 7; k != 0; k--) {
			lwp_yield();
		}
	}
}

TEST(Ticker, ComesAgainAndAgainOnItsBeat) {
	const auto begin = steady_clock::now();
	lwp::ticker every(2ms);
	steady_clock::time_point last = begin;
	for (int i = 1; i <= 20; i++) {
		const auto when = every.receive();
		ASSERT_TRUE(when);
		EXPECT_GE(*when - begin, i * 2ms) << "no more times than have been due";
		EXPECT_GT(*when, last);
		last = *when;
	}
}

TEST(Ticker, DropsTimesForASlowReceiver) {
	lwp::ticker every(1ms);
	lwp::this_thread::sleep_for(30ms);
	EXPECT_TRUE(wait_until([&] { return every.size() == 1; }));
	const auto first = every.try_receive();
	ASSERT_TRUE(first);
	lwp::this_thread::sleep_for(10ms);
	EXPECT_TRUE(wait_until([&] { return every.size() == 1; })) << "it goes on, whatever was dropped";
	EXPECT_EQ(every.size(), 1U);
}

TEST(Ticker, StopsForEverAndDoesNotClose) {
	lwp::ticker every(1ms);
	EXPECT_TRUE(every.receive());
	EXPECT_TRUE(every.stop());
	EXPECT_FALSE(every.stop());
	(void)every.try_receive();
	EXPECT_EQ(every.receive_for(10ms).status(), lwp::channel_status::timeout);
	lwp::ticker closed(1ms);
	closed.close();
	while (closed.receive()) {
	}
	EXPECT_EQ(closed.try_receive().status(), lwp::channel_status::closed);
}

TEST(Ticker, RefusesAPeriodThatIsNotPositive) {
	EXPECT_THROW(lwp::ticker(0s), std::system_error);
	EXPECT_THROW(lwp::ticker(-1s), std::system_error);
	lwp::ticker never(std::chrono::hours::max());
	EXPECT_FALSE(never.receive_for(1ms));
}

// A kernel thread of the application does not look after timers: a vCPU does it for it.
TEST(Ticker, ServesKernelThreads) {
	foreign_thread foreign([] {
		lwp::ticker every(1ms);
		auto due = lwp::after(3ms);
		EXPECT_TRUE(due.receive());
		EXPECT_TRUE(every.receive());
		const auto until = steady_clock::now() + 10s;
		while (!every.try_receive() && steady_clock::now() < until) {  // without ever waiting in the library
		}
		EXPECT_LT(steady_clock::now(), until);
	});
	foreign.join();
}

TEST(Ticker, ManyAtOnce) {
	std::vector<std::unique_ptr<lwp::ticker>> tickers;
	for (int i = 0; i < 200; i++) {
		tickers.push_back(std::make_unique<lwp::ticker>(std::chrono::microseconds(500 + i)));
	}
	for (int round = 0; round < 5; round++) {
		for (const auto &t : tickers) {
			EXPECT_TRUE(t->receive());
		}
	}
}
