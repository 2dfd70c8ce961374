// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.sema], clause by clause, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/semaphore.hpp>

#include "../support/support.h"

#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

namespace {

const bool touched = touch_runtime();

constinit lwp::counting_semaphore<10> constant{3};
static_assert(
    lwp::counting_semaphore<10>::max() >= 10 && lwp::binary_semaphore::max() >= 1 && lwp::counting_semaphore<>::max() > 1'000'000);
static_assert(!std::is_copy_constructible_v<lwp::binary_semaphore> && !std::is_default_constructible_v<lwp::binary_semaphore>);

}  // namespace

TEST(Semaphore, CountsUnits) {
	lwp::counting_semaphore<> s(2);
	EXPECT_TRUE(s.try_acquire());
	s.acquire();
	EXPECT_FALSE(s.try_acquire());
	s.release(3);
	s.release(0);
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(s.try_acquire());
	}
	EXPECT_FALSE(s.try_acquire());
	EXPECT_TRUE(constant.try_acquire());
	constant.release();
}

TEST(Semaphore, Deadlines) {
	lwp::binary_semaphore s(0);
	EXPECT_FALSE(s.try_acquire_for(0s));
	EXPECT_FALSE(s.try_acquire_for(-1h));
	EXPECT_FALSE(s.try_acquire_until(steady_clock::now() - 1s));
	EXPECT_FALSE(s.try_acquire_until(system_clock::time_point::min()));
	const auto before = steady_clock::now();
	EXPECT_FALSE(s.try_acquire_for(5ms));
	EXPECT_FALSE(s.try_acquire_until(system_clock::now() + 2ms));
	EXPECT_GE(steady_clock::now() - before, 5ms);
	s.release();
	EXPECT_TRUE(s.try_acquire_for(0s)) << "after waiters whose time was over";
	lwp::thread other([&] {
		lwp::this_thread::sleep_for(1ms);
		s.release();
	});
	EXPECT_TRUE(s.try_acquire_for(std::chrono::hours::max()));
	other.join();
	s.release();
	EXPECT_TRUE(s.try_acquire());
}

// By priority, then first come first served; whoever comes by is not before those that wait.
TEST(Semaphore, HandsUnitsToTheBestAndNobodyIsBeforeThem) {
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, [] {
		lwp::counting_semaphore<> s(0);
		std::vector<int> order;
		std::vector<std::unique_ptr<subject>> waiters;
		for (int i = 0; i < 4; i++) {
			waiters.push_back(std::make_unique<subject>([&, i](subject &self) {
				self.about_to_block();
				s.acquire();
				order.push_back(i);
			}));
			waiters.back()->await_blocked();
		}
		s.release(2);
		EXPECT_FALSE(s.try_acquire()) << "both are spoken for";
		s.release(3);
		EXPECT_TRUE(s.try_acquire()) << "the rest is counted";
		EXPECT_FALSE(s.try_acquire());
		for (auto &w : waiters) {
			collect(w->lid());
		}
		EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
	}).join();
}

TEST(Semaphore, SuspendAndWakeupOfAWaiter) {
	lwp::binary_semaphore s(0);
	subject a([&](subject &self) {
		self.about_to_block();
		s.acquire();
		self.set_result(1);
	});
	a.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(a.lid()) == 0; }));
	EXPECT_EQ(error_of(_lwp_suspend(a.lid())), 0);
	s.release();
	EXPECT_TRUE(s.try_acquire()) << "it is out of the line";
	EXPECT_EQ(a.result(), -1);
	EXPECT_EQ(error_of(_lwp_continue(a.lid())), 0);
	s.release();
	collect(a.lid());
	EXPECT_EQ(a.result(), 1);
}

// Units are neither lost nor made, with deadlines that pass about when units come, suspends, and kernel threads.
TEST(Semaphore, UnitsAddUp) {
	const long n = static_cast<long>(rounds(4000));
	lwp::counting_semaphore<> s(0);
	std::atomic<long> taken{0};
	std::atomic<int> ended{0};
	const auto consume = [&](unsigned who) {
		dice d(seed() + who);
		while (taken < n) {
			const bool got = d.one_in(3) ? s.try_acquire() : s.try_acquire_for(std::chrono::microseconds(d.below(60)));
			taken += got ? 1 : 0;
			if (!got && d.one_in(4)) {
				lwp_yield();
			}
		}
		ended++;
	};
	std::vector<lwp::thread> green;
	for (unsigned i = 0; i < 8; i++) {
		green.emplace_back(consume, i);
	}
	std::thread kernel(consume, 9U);
	dice d(seed());
	for (long i = 0; i < n;) {
		const long k = std::min<long>(n - i, 1 + d.below(4));
		s.release(k);
		i += k;
		const lwpid_t lid = green[d.below(8)].native_handle();
		if (d.one_in(8) && _lwp_suspend(lid) == 0) {
			(void)_lwp_continue(lid);
		}
		lwp_yield();
	}
	for (auto &t : green) {
		t.join();
	}
	EXPECT_TRUE(wait_until([&] { return ended == 9; }));
	kernel.join();
	EXPECT_EQ(taken, n);
	EXPECT_FALSE(s.try_acquire());
}

TEST(Semaphore, HandOverBetweenLwpAndKernelThread) {
	const std::size_t n = rounds(5000);
	lwp::binary_semaphore ping(0);
	lwp::binary_semaphore pong(0);
	gate over;
	std::thread kernel([&] {
		for (std::size_t i = 0; i < n; i++) {
			ping.acquire();
			pong.release();
		}
		over.open();
	});
	for (std::size_t i = 0; i < n; i++) {
		ping.release();
		pong.acquire();
	}
	over.pass();
	kernel.join();
}

// Whoever gets the unit destroys the semaphore at once: the release does not touch it any more.
TEST(Semaphore, AcquirerDestroysItAtOnce) {
	const std::size_t n = rounds(5000);
	for (std::size_t i = 0; i < n; i++) {
		auto *s = new lwp::binary_semaphore(0);
		lwp::thread taker([s, i] {
			if (i % 3 == 0) {
				s->acquire();
			} else if (i % 3 == 1) {
				while (!s->try_acquire_for(1us)) {
				}
			} else {
				while (!s->try_acquire()) {
					lwp_yield();
				}
			}
			delete s;
		});
		if (i % 2 == 0) {
			lwp_yield();
		}
		s->release();
		taker.join();
	}
}

TEST(Semaphore, MisuseIsNamed) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::binary_semaphore s(1);
		    s.release(lwp::binary_semaphore::max());
	    },
	    "beyond its max");
	volatile std::ptrdiff_t n = -1;
	EXPECT_DEATH(lwp::counting_semaphore<> s(n), "lwp::counting_semaphore begins with -1");
	n = PTRDIFF_MAX;
	EXPECT_DEATH(lwp::counting_semaphore<> s(n), "lwp::counting_semaphore begins with 9223372036854775807");
	EXPECT_DEATH(
	    {
		    lwp::counting_semaphore<> s(0);
		    s.release(-1);
	    },
	    "released by less than 0");
}

TEST(Semaphore, HoldsAsMuchAsItSays) {
	lwp::counting_semaphore<> s(lwp::counting_semaphore<>::max());
	s.acquire();
	EXPECT_TRUE(s.try_acquire());
	s.release(2);
	EXPECT_TRUE(s.try_acquire());
	s.release();
}
