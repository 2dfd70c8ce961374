// SPDX-License-Identifier: BSD-2-Clause
//
// Events of both kinds, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/event.hpp>

#include "../support/support.h"

#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
constinit lwp::event constant{lwp::event_reset::automatic, true};

std::vector<std::unique_ptr<subject>> waiters_of(lwp::event &e, int n) {
	std::vector<std::unique_ptr<subject>> all;
	for (int i = 0; i < n; i++) {
		all.push_back(std::make_unique<subject>([&e](subject &s) {
			s.about_to_block();
			e.wait();
			s.set_result(1);
		}));
		all.back()->await_blocked();
	}
	return all;
}

}  // namespace

TEST(Event, ManualStaysSet) {
	lwp::event e;
	EXPECT_FALSE(e.is_set());
	EXPECT_FALSE(e.wait_for(0s));
	EXPECT_FALSE(e.wait_for(1ms));
	EXPECT_FALSE(e.wait_until(std::chrono::system_clock::now() - 1s));
	e.set();
	e.set();
	EXPECT_TRUE(e.is_set());
	e.wait();
	EXPECT_TRUE(e.wait_for(0s));
	e.reset();
	EXPECT_FALSE(e.is_set());
}

TEST(Event, AutomaticLetsOneThrough) {
	EXPECT_TRUE(constant.wait_for(0s));
	EXPECT_FALSE(constant.is_set());
	lwp::event e(lwp::event_reset::automatic);
	e.set();
	e.set();
	EXPECT_TRUE(e.wait_for(0s));
	EXPECT_FALSE(e.wait_for(0s));
	auto all = waiters_of(e, 3);
	const auto through = [&] {
		int n = 0;
		for (auto &s : all) {
			n += s->result() == 1 ? 1 : 0;
		}
		return n;
	};
	for (int i = 1; i <= 3; i++) {
		e.set();
		EXPECT_FALSE(e.is_set());
		EXPECT_TRUE(wait_until([&] { return through() == i; }));
	}
	for (auto &s : all) {
		collect(s->lid());
	}
	EXPECT_FALSE(e.is_set());
}

// set -> reset before the waiters run: they are let through.
TEST(Event, PulseIsNotLostForThoseWhoWait) {
	lwp::event e;
	auto all = waiters_of(e, 5);
	e.set();
	e.reset();
	for (auto &s : all) {
		collect(s->lid());
	}
	EXPECT_FALSE(e.is_set());
}

TEST(Event, SetIsSeenByAllAcrossKernelThreads) {
	lwp::event e;
	int plain = 0;
	std::atomic<int> ended{0};
	const auto work = [&] {
		e.wait();
		EXPECT_EQ(plain, 1);
		ended++;
	};
	lwp::thread a(work);
	std::thread b(work);
	std::thread c([&] {
		while (!e.wait_for(50us)) {
		}
		EXPECT_EQ(plain, 1);
		ended++;
	});
	lwp_yield();
	plain = 1;
	e.set();
	EXPECT_TRUE(wait_until([&] { return ended == 3; }));
	a.join();
	b.join();
	c.join();
}

// Sets that follow each other only when the last has been taken: none is lost to a deadline that passes at the same time.
TEST(Event, NoSetIsLostToATimeout) {
	const std::size_t n = rounds(3000);
	lwp::event e(lwp::event_reset::automatic);
	std::atomic<std::size_t> taken{0};
	const auto work = [&](unsigned who) {
		dice d(seed() + who);
		while (taken < n) {
			taken += e.wait_for(std::chrono::microseconds(d.below(40))) ? 1U : 0U;
			if (d.one_in(4)) {
				lwp_yield();
			}
		}
	};
	std::vector<lwp::thread> all;
	for (unsigned i = 0; i < 4; i++) {
		all.emplace_back(work, i);
	}
	for (std::size_t i = 0; i < n; i++) {
		e.set();
		EXPECT_TRUE(wait_until([&] { return taken == i + 1; })) << "lost";
	}
	for (auto &t : all) {
		t.join();
	}
	EXPECT_EQ(taken, n);
}

TEST(Event, SuspendAndWakeupOfAWaiter) {
	lwp::event e(lwp::event_reset::automatic);
	auto all = waiters_of(e, 1);
	const lwpid_t lid = all[0]->lid();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(lid) == 0; }));
	EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
	e.set();
	EXPECT_TRUE(e.is_set()) << "it is out of the line";
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_FALSE(e.is_set());
}

TEST(Event, WaiterDestroysItAtOnce) {
	const std::size_t n = rounds(4000);
	for (std::size_t i = 0; i < n; i++) {
		auto *e = new lwp::event(i % 2 == 0 ? lwp::event_reset::manual : lwp::event_reset::automatic);
		lwp::thread waiter([e, i] {
			if (i % 3 == 0) {
				e->wait();
			} else {
				while (!e->wait_for(1us * (i % 3 - 1))) {
					lwp_yield();
				}
			}
			delete e;
		});
		if (i % 4 == 0) {
			lwp_yield();
		}
		e->set();
		waiter.join();
	}
}
