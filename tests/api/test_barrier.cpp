// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.barrier], clause by clause, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/barrier.hpp>

#include "../support/support.h"

#include <thread>
#include <vector>

#include <lwp/thread.hpp>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();
[[maybe_unused]] constinit lwp::barrier<> constant{1};
static_assert(std::is_move_constructible_v<lwp::barrier<>::arrival_token> && !std::is_copy_constructible_v<lwp::barrier<>::arrival_token>);

}  // namespace

TEST(Barrier, CompletionRunsOnceAPhaseBeforeAnybodyIsReleased) {
	constexpr int people = 40;
	const int phases = static_cast<int>(rounds(200));
	int completed = 0;
	std::atomic<int> arrived{0};
	auto complete = [&]() noexcept {
		EXPECT_GE(arrived, people * (completed + 1));
		lwp_yield();
		completed++;
	};
	lwp::barrier b(people, complete);
	std::atomic<int> ended{0};
	const auto work = [&](int who) {
		for (int phase = 1; phase <= phases; phase++) {
			arrived++;
			if ((who + phase) % 3 == 0) {
				auto token = b.arrive();
				lwp_yield();
				b.wait(std::move(token));
			} else {
				b.arrive_and_wait();
			}
			EXPECT_EQ(completed, phase) << "nobody ends the next phase without us";
		}
		ended++;
	};
	std::vector<lwp::thread> green;
	for (int i = 0; i < people - 2; i++) {
		green.emplace_back(work, i);
	}
	std::thread a(work, people - 2);
	std::thread c(work, people - 1);
	for (auto &t : green) {
		t.join();
	}
	EXPECT_TRUE(wait_until([&] { return ended == people; }));
	a.join();
	c.join();
	EXPECT_EQ(completed, phases);
}

TEST(Barrier, TokensAndSeveralArrivals) {
	int completed = 0;
	auto complete = [&]() noexcept { completed++; };
	lwp::barrier b(3, complete);
	auto first = b.arrive(2);
	EXPECT_EQ(completed, 0);
	auto second = b.arrive();
	EXPECT_EQ(completed, 1);
	b.wait(std::move(first));
	b.wait(std::move(second));
	b.wait(b.arrive(3));
	EXPECT_EQ(completed, 2);
}

TEST(Barrier, DroppedOnesAreNotAwaitedLater) {
	int completed = 0;
	auto complete = [&]() noexcept { completed++; };
	lwp::barrier b(3, complete);
	lwp::thread leaver([&] { b.arrive_and_drop(); });
	lwp::thread other([&] {
		b.arrive_and_wait();
		b.arrive_and_wait();
	});
	b.arrive_and_wait();
	b.arrive_and_wait();
	leaver.join();
	other.join();
	EXPECT_EQ(completed, 2);
	b.arrive_and_drop();
	b.arrive_and_drop();
	EXPECT_EQ(completed, 3);
}

TEST(Barrier, TenThousand) {
	const int people = static_cast<int>(rounds(10'000));
	lwp::barrier b(people);
	std::atomic<int> before{0};
	std::vector<lwp::thread> threads;
	for (int i = 0; i < people; i++) {
		threads.emplace_back([&] {
			for (int phase = 1; phase <= 3; phase++) {
				before++;
				b.arrive_and_wait();
				EXPECT_GE(before, people * phase);
			}
		});
	}
	for (auto &t : threads) {
		t.join();
	}
}

TEST(Barrier, SuspendAndWakeupOfAWaiter) {
	lwp::barrier b(2);
	subject a([&](subject &self) {
		self.about_to_block();
		b.arrive_and_wait();
		self.set_result(1);
	});
	a.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(a.lid()) == 0; }));
	EXPECT_EQ(error_of(_lwp_suspend(a.lid())), 0);
	EXPECT_EQ(a.result(), -1);
	b.arrive_and_wait();
	EXPECT_EQ(error_of(_lwp_continue(a.lid())), 0);
	collect(a.lid());
	EXPECT_EQ(a.result(), 1);
}

TEST(Barrier, MisuseIsNamed) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::barrier<> b(1);
		    (void)b.arrive(2);
	    },
	    "more arrive");
	volatile std::ptrdiff_t n = -1;
	EXPECT_DEATH(lwp::barrier<> b(n), "lwp::barrier begins with -1");
	EXPECT_DEATH(
	    {
		    lwp::barrier<> b(1);
		    (void)b.arrive(n);
	    },
	    "arrived at by less than 1");
	n = 0;
	EXPECT_DEATH(
	    {
		    lwp::barrier<> b(1);
		    (void)b.arrive(n);
	    },
	    "arrived at by less than 1");
	EXPECT_DEATH(
	    {
		    lwp::barrier<> b(0);
		    b.arrive_and_drop();
	    },
	    "more arrive");
}

TEST(Barrier, CountsAsFarAsItSays) {
	int completed = 0;
	lwp::barrier b(lwp::barrier<>::max(), [&]() noexcept { completed++; });
	(void)b.arrive(lwp::barrier<>::max() - 1);
	EXPECT_EQ(completed, 0);
	b.arrive_and_wait();
	EXPECT_EQ(completed, 1);
	b.wait(b.arrive(lwp::barrier<>::max()));
	EXPECT_EQ(completed, 2);
}
