// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.latch], clause by clause, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/latch.hpp>

#include "../support/support.h"

#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();
[[maybe_unused]] constinit lwp::latch constant{1};
static_assert(lwp::latch::max() > 1'000'000 && !std::is_copy_constructible_v<lwp::latch>);

}  // namespace

TEST(Latch, OpensAtZeroAndStaysOpen) {
	lwp::latch l(5);
	EXPECT_FALSE(l.try_wait());
	l.count_down(0);
	l.count_down(3);
	l.count_down();
	EXPECT_FALSE(l.try_wait());
	l.arrive_and_wait();
	EXPECT_TRUE(l.try_wait());
	l.wait();
	lwp::latch none(0);
	none.wait();
	EXPECT_TRUE(none.try_wait());
}

TEST(Latch, LetsAllThroughAfterTheLast) {
	constexpr int lwps = 300;
	lwp::latch l(lwps + 2);
	std::vector<int> plain(lwps + 2);
	std::atomic<int> ended{0};
	const auto work = [&](unsigned i, bool waits) {
		plain[i] = 1;
		if (waits) {
			l.arrive_and_wait();
			for (const int p : plain) {
				EXPECT_EQ(p, 1);
			}
		} else {
			l.count_down();
		}
		ended++;
	};
	std::vector<lwp::thread> green;
	for (unsigned i = 0; i < lwps; i++) {
		green.emplace_back(work, i, i % 3 != 0);
	}
	std::thread a(work, lwps, true);
	std::thread b(work, lwps + 1, false);
	l.wait();
	EXPECT_TRUE(wait_until([&] { return ended == lwps + 2; }));
	for (auto &t : green) {
		t.join();
	}
	a.join();
	b.join();
}

TEST(Latch, SuspendAndWakeupOfAWaiter) {
	lwp::latch l(1);
	subject a([&](subject &self) {
		self.about_to_block();
		l.wait();
		self.set_result(l.try_wait() ? 1 : 0);
	});
	a.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(a.lid()) == 0; }));
	EXPECT_EQ(error_of(_lwp_suspend(a.lid())), 0);
	EXPECT_EQ(a.result(), -1);
	l.count_down();
	EXPECT_EQ(error_of(_lwp_continue(a.lid())), 0);
	collect(a.lid());
	EXPECT_EQ(a.result(), 1);
}

TEST(Latch, WaiterDestroysItAtOnce) {
	const std::size_t n = rounds(5000);
	for (std::size_t i = 0; i < n; i++) {
		auto *l = new lwp::latch(2);
		lwp::thread a([l] { l->count_down(); });
		lwp::thread b([l] { l->count_down(); });
		if (i % 2 == 0) {
			l->wait();
		} else {
			while (!l->try_wait()) {
				lwp_yield();
			}
		}
		delete l;
		a.join();
		b.join();
	}
}

TEST(Latch, MisuseIsNamed) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::latch l(1);
		    l.count_down(2);
	    },
	    "counted down by more");
	EXPECT_DEATH(
	    {
		    lwp::latch l(1);
		    l.count_down(-1);
	    },
	    "or by less than 0");
	volatile std::ptrdiff_t n = -1;
	EXPECT_DEATH(lwp::latch l(n), "lwp::latch begins with -1");
	n = PTRDIFF_MAX;
	EXPECT_DEATH(lwp::latch l(n), "lwp::latch begins with 9223372036854775807");
}

TEST(Latch, CountsAsFarAsItSays) {
	lwp::latch l(lwp::latch::max());
	l.count_down();
	EXPECT_FALSE(l.try_wait());
	l.count_down(lwp::latch::max() - 1);
	EXPECT_TRUE(l.try_wait());
	l.wait();
}
