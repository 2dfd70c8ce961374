// SPDX-License-Identifier: BSD-2-Clause
//
// An LWP that does nothing but take and give back a lock passes a boundary each time, though in a release build it calls nothing: it can be suspended, and
// gives way to a better LWP.  Who acts is a kernel thread, so that one vCPU is enough.
#pragma once

#include <lwp/sched.h>

#include "../support/support.h"

#include <atomic>
#include <thread>

namespace lwp::test {

template <class Round>
void suspend_takes_effect_in_a_loop_of(const Round &round) {
	std::atomic<bool> over{false};
	std::atomic<std::uint64_t> rounds{0};
	std::atomic<lwpid_t> lid{0};
	lwp::thread loop([&] {
		lid.store(_lwp_self());
		while (!over.load(std::memory_order_relaxed)) {
			round();
			rounds.store(rounds.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
	});
	std::thread actor([&] {
		EXPECT_TRUE(wait_until([&] { return rounds.load() != 0; }));
		EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
		const std::uint64_t stopped = rounds.load();
		for (int i = 0; i < 1000; i++) {
			lwp_yield();
		}
		EXPECT_EQ(rounds.load(), stopped);
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		EXPECT_TRUE(wait_until([&] { return rounds.load() > stopped; }));
		over.store(true);
	});
	loop.join();
	actor.join();
}

template <class Round>
void a_better_one_runs_in_a_loop_of(const Round &round) {
	std::atomic<lwpid_t> better{0};
	std::atomic<bool> ran{false};
	const int last = static_cast<int>(lwp::runtime::vcpus()) - 1;
	lwp::thread waiter({.priority = 10, .vcpu = last, .policy = lwp::sched_policy::fifo}, [&] {
		better.store(_lwp_self());
		_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
		ran.store(true);
	});
	ASSERT_TRUE(wait_until([&] { return better.load() != 0; }));
	std::atomic<bool> looping{false};
	lwp::thread loop({.vcpu = last}, [&] {
		while (!ran.load(std::memory_order_relaxed)) {
			round();
			looping.store(true, std::memory_order_relaxed);
		}
	});
	std::thread actor([&] {
		EXPECT_TRUE(wait_until([&] { return looping.load(); }));
		EXPECT_EQ(error_of(_lwp_unpark(better.load(), nullptr)), 0);
	});
	loop.join();
	waiter.join();
	actor.join();
}

}  // namespace lwp::test
