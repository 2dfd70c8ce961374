// SPDX-License-Identifier: BSD-2-Clause
//
// The wait group, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/wait_group.hpp>

#include "../support/support.h"

#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
constinit lwp::wait_group constant;

}  // namespace

TEST(WaitGroup, WaitsForAllAndIsUsedAgain) {
	lwp::wait_group g;
	g.wait();
	for (int round = 0; round < 20; round++) {
		std::vector<int> plain(50);
		for (int &p : plain) {
			g.add();
			lwp::thread([&p, &g] {
				p = 1;
				g.done();
			}).detach();
		}
		g.add();
		std::thread([&g] { g.done(); }).detach();
		g.wait();
		for (const int p : plain) {
			EXPECT_EQ(p, 1);
		}
	}
}

TEST(WaitGroup, Deadlines) {
	lwp::wait_group g(1);
	EXPECT_FALSE(g.wait_for(0s));
	EXPECT_FALSE(g.wait_for(1ms));
	EXPECT_FALSE(g.wait_until(std::chrono::system_clock::now() - 1s));
	g.done();
	EXPECT_TRUE(g.wait_for(0s));
	EXPECT_TRUE(g.wait_until(std::chrono::system_clock::now() - 1s));
}

// The number comes to 0 -> (more is added before the waiter runs) -> its wait is over all the same.
TEST(WaitGroup, WaitEndsAtZeroThoughMoreIsAddedAtOnce) {
	lwp::wait_group g(1);
	subject waiter([&](subject &s) {
		s.about_to_block();
		g.wait();
		s.set_result(1);
	});
	waiter.await_blocked();
	g.done();
	g.add();
	collect(waiter.lid());
	g.done();
}

TEST(WaitGroup, WaiterDestroysItAtOnce) {
	const std::size_t n = rounds(3000);
	for (std::size_t i = 0; i < n; i++) {
		auto g = std::make_unique<lwp::wait_group>(1);
		lwp::thread worker([p = g.get()] { p->done(); });
		while (!g->wait_for(1us * (i % 3))) {
			lwp_yield();
		}
		g.reset();
		worker.join();
	}
}

TEST(WaitGroup, MisuseIsNamed) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::wait_group g(1);
		    g.done(2);
	    },
	    "done more often");
	EXPECT_DEATH(constant.add(-1), "added to by less than 0");
	EXPECT_DEATH(constant.done(-1), "done more often");
	volatile std::ptrdiff_t n = -1;
	EXPECT_DEATH(lwp::wait_group g(n), "lwp::wait_group begins with -1");
	EXPECT_DEATH(
	    {
		    lwp::wait_group g(PTRDIFF_MAX / 2);
		    g.add();
	    },
	    "beyond its limit");
#if LWP_DEBUG
	EXPECT_DEATH({ lwp::wait_group g(3); }, "destroyed with 3 of its work left");
#endif
}
