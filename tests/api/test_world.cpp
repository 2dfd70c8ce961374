// SPDX-License-Identifier: BSD-2-Clause
//
// The world stopped by one LWP: that nobody else runs meanwhile, and what is seen of the others.
// vcpus: 1 2 8
#include "../support/support.h"

#include <lwp/proc.hpp>
#include <lwp/sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

struct crowd {
	explicit crowd(int n) {
		for (int i = 0; i < n; i++) {
			lids.push_back(spawn([this] {
				while (!leave.load()) {
					turns.fetch_add(1);
					lwp_yield();
				}
			}));
		}
	}
	void await_turns() {
		const std::size_t before = turns.load();
		EXPECT_TRUE(wait_until([&] { return turns.load() > before + 10; })) << "they do not run";
	}
	void finish() {
		leave = true;
		for (const lwpid_t lid : lids) {
			collect(lid);
		}
	}
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> turns{0};
	std::vector<lwpid_t> lids;
};

const lwp::stopped_lwp *find(const std::vector<lwp::stopped_lwp> &all, lwpid_t lid) {
	const auto it = std::find_if(all.begin(), all.end(), [lid](const auto &s) { return s.lid == lid; });
	return it == all.end() ? nullptr : &*it;
}

/// As a conservative collector looks for it.
__attribute__((no_sanitize("address", "thread"))) bool keeps(const lwp::stopped_lwp &s, std::uintptr_t what) {
	for (auto at = (reinterpret_cast<std::uintptr_t>(s.sp) + 7) / 8 * 8; at + 8 <= reinterpret_cast<std::uintptr_t>(s.stack_high);
	     at += 8) {
		if (*reinterpret_cast<const volatile std::uintptr_t *>(at) == what) {
			return true;
		}
	}
	return false;
}

/// Not written as it is anywhere else, so that it is found only where it is kept.
std::uintptr_t secret(std::uintptr_t i) { return (i * 0x9e3779b97f4a7c15U) | 1; }

/// Calls `then` while the caller's stack keeps the secret: that stack, and none that AddressSanitizer has for locals.
template <class Fn>
__attribute__((no_sanitize("address"), noinline)) void keep_and(std::uintptr_t i, Fn then) {
	volatile std::uintptr_t kept = secret(i);
	then();
	if (kept != secret(i)) {
		std::abort();
	}
}

}  // namespace

TEST(World, NobodyElseRuns) {
	crowd c(20);
	c.await_turns();
	for (std::size_t i = 0; i < rounds(50); i++) {
		lwp::stop_the_world world;
		ASSERT_TRUE(world.stopped());
		const std::size_t before = c.turns.load();
		for (int k = 0; k < 20; k++) {
			lwp_yield();
		}
		ASSERT_EQ(c.turns.load(), before);
		for (const auto &s : world.lwps()) {
			ASSERT_STREQ(s.state, s.lid == _lwp_self() ? "LSONPROC" : "LSSTOP") << s.lid;
		}
	}
	c.await_turns();
	c.finish();
}

// What a garbage collector must find: a value that only the stack of a sleeping LWP keeps.
TEST(World, StacksAreSeen) {
	constexpr int count = 16;
	std::vector<std::unique_ptr<subject>> all;
	for (int i = 0; i < count; i++) {
		all.push_back(
		    std::make_unique<subject>([i](subject &s) { keep_and(static_cast<std::uintptr_t>(i) + 1, [&s] { s.park_once(); }); }));
	}
	for (const auto &s : all) {
		s->await_blocked();
	}
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	{
		lwp::stop_the_world world;
		const auto lwps = world.lwps();
		EXPECT_EQ(lwps.size(), static_cast<std::size_t>(count) + 2);
		for (int i = 0; i < count; i++) {
			const lwp::stopped_lwp *s = find(lwps, all[static_cast<std::size_t>(i)]->lid());
			ASSERT_NE(s, nullptr);
			EXPECT_LE(s->stack_low, s->sp);
			EXPECT_LT(s->sp, s->stack_high);
			EXPECT_TRUE(keeps(*s, secret(static_cast<std::uintptr_t>(i) + 1))) << i;
			EXPECT_FALSE(keeps(*s, secret(static_cast<std::uintptr_t>(i) + 1000)));
		}
		ASSERT_NE(find(lwps, suspended), nullptr);
		EXPECT_STREQ(find(lwps, suspended)->state, "LSSUSPENDED");
		const lwp::stopped_lwp *me = find(lwps, _lwp_self());
		ASSERT_NE(me, nullptr);
		const void *here = __builtin_frame_address(0);
		EXPECT_TRUE(me->stack_low < here && here < me->stack_high);
	}
	for (const auto &s : all) {
		EXPECT_EQ(error_of(_lwp_unpark(s->lid(), nullptr)), 0);
		collect(s->lid());
		EXPECT_EQ(s->result(), 0);
	}
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(suspended);
}

// LWP 1 stands on a kernel thread's own stack; so does a kernel thread of the application.
TEST(World, StacksOfKernelThreadsAreSeen) {
	std::atomic<lwpid_t> lid{0};
	std::atomic<bool> leave{false};
	std::thread outside([&] {
		keep_and(77, [&] {
			lid = _lwp_self();
			while (!leave.load()) {
				(void)park_for(10ms);
			}
		});
	});
	EXPECT_TRUE(wait_until([&] { return lid.load() != 0; }));
	keep_and(88, [&] {
		const lwpid_t main_lwp = _lwp_self();
		const lwpid_t collector = spawn([&] {
			lwp::stop_the_world world;
			const auto lwps = world.lwps();
			const lwp::stopped_lwp *foreign = find(lwps, lid.load());
			ASSERT_NE(foreign, nullptr);
			EXPECT_TRUE(keeps(*foreign, secret(77)));
			const lwp::stopped_lwp *first = find(lwps, main_lwp);
			ASSERT_NE(first, nullptr);
			EXPECT_TRUE(keeps(*first, secret(88)));
		});
		collect(collector);
	});
	leave = true;
	outside.join();
}

TEST(World, Nests) {
	crowd c(2);
	c.await_turns();
	{
		lwp::stop_the_world outer;
		{ lwp::stop_the_world inner; }
		const std::size_t before = c.turns.load();
		for (int k = 0; k < 20; k++) {
			lwp_yield();
		}
		EXPECT_EQ(c.turns.load(), before);
	}
	c.await_turns();
	c.finish();
}

TEST(World, SeveralTakeTurns) {
	std::atomic<int> inside{0};
	std::vector<lwpid_t> all;
	for (int i = 0; i < 4; i++) {
		all.push_back(spawn([&inside] {
			for (std::size_t k = 0; k < rounds(50); k++) {
				lwp::stop_the_world world;
				EXPECT_EQ(inside.fetch_add(1), 0);
				lwp_yield();
				EXPECT_EQ(inside.fetch_sub(1), 1);
			}
		}));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
}

TEST(World, BirthsAndWakeUpsWaitForItsEnd) {
	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	std::atomic<bool> ran{false};
	lwpid_t child;
	{
		lwp::stop_the_world world;
		child = spawn([&ran] { ran = true; });
		EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
		for (int k = 0; k < 20; k++) {
			lwp_yield();
		}
		EXPECT_FALSE(ran.load());
		EXPECT_EQ(parked.result(), -1);
		EXPECT_EQ(error_of(_lwp_wait(child, nullptr)), EDEADLK) << "nobody else runs";
	}
	collect(child);
	collect(parked.lid());
	EXPECT_TRUE(ran.load());
	EXPECT_EQ(parked.result(), 0);
}

// An LWP that computes does not come; then nobody is stopped.
TEST(World, LimitIsOver) {
	if (lwp::runtime::vcpus() < 2) {
		GTEST_SKIP() << "needs an LWP that computes while others run";
	}
	std::atomic<bool> computing{false};
	std::atomic<bool> leave{false};
	lwp::thread computer{lwp::attributes{.vcpu = 1}, [&] {
		                     computing = true;
		                     while (!leave.load()) {
		                     }
	                     }};
	EXPECT_TRUE(wait_until([&] { return computing.load(); }));
	crowd c(2);
	{
		lwp::stop_the_world world(1ms);
		EXPECT_FALSE(world.stopped());
		EXPECT_THROW((void)world.lwps(), std::system_error);
	}
	c.await_turns();
	leave = true;
	{
		lwp::stop_the_world world;
		EXPECT_TRUE(world.stopped());
	}
	computer.join();
	c.finish();
}

// An unlock while those that wait stand still: the heir has not run yet, and what it is lent goes with the lock.  The heir is in front by what it is
// lent for another mutex, so the reader behind it, better than its own, lends to it from now on and to us no more.
TEST(World, WhatIsLentGoesWithTheLock) {
	lwp::mutex mutex;
	lwp::shared_mutex shared;
	shared.lock();
	subject heir([&](subject &s) {
		const std::lock_guard own(mutex);
		s.about_to_block();
		shared.lock();
		shared.unlock();
		s.set_result(0);
	});
	heir.await_blocked();
	const auto prefer = [](lwpid_t lid, int priority) {
		sched_param how{};
		how.sched_priority = priority;
		EXPECT_EQ(error_of(_sched_setparam(0, lid, SCHED_RR, &how)), 0);
	};
	gate ready;
	subject lender([&](subject &s) {
		prefer(_lwp_self(), 30);
		ready.open();
		EXPECT_EQ(park(), 0);
		s.about_to_block();
		mutex.lock();
		mutex.unlock();
		s.set_result(0);
	});
	ready.pass();  // before we are lent anything: on one vCPU it would not come to run
	subject reader([&](subject &s) {
		prefer(_lwp_self(), 10);
		s.about_to_block();
		shared.lock_shared();
		shared.unlock_shared();
		s.set_result(0);
	});
	reader.await_blocked();
	EXPECT_EQ(error_of(_lwp_unpark(lender.lid(), nullptr)), 0);
	lender.await_blocked();
	{
		const lwp::stop_the_world world;
		shared.unlock();
		for (int k = 0; k < 20; k++) {
			lwp_yield();
		}
		for (const subject *s : {&heir, &lender, &reader}) {
			EXPECT_EQ(s->result(), -1);
		}
	}
	for (const subject *s : {&heir, &lender, &reader}) {
		collect(s->lid());
		EXPECT_EQ(s->result(), 0);
	}
}

// Sleepers of every kind, stopped and let go on again and again: each sleeps on, and none is woken by it.
TEST(World, SleepsGoOn) {
	lwp::mutex mutex;
	lwp::condition_variable cv;
	bool go = false;
	lwp::channel<int> channel;
	std::atomic<int> done{0};
	std::vector<lwpid_t> all;
	for (int i = 0; i < 6; i++) {
		all.push_back(spawn([&, i] {
			if (i % 2 == 0) {
				std::unique_lock lock(mutex);
				cv.wait(lock, [&] { return go; });
			} else {
				EXPECT_EQ(channel.receive().value_or(-1), 5);
			}
			done.fetch_add(1);
		}));
	}
	for (std::size_t i = 0; i < rounds(100); i++) {
		{ lwp::stop_the_world world; }
		lwp_yield();
	}
	EXPECT_EQ(done.load(), 0);
	{
		const std::lock_guard lock(mutex);
		go = true;
	}
	cv.notify_all();
	for (int i = 0; i < 3; i++) {
		channel.send(5);
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(done.load(), 6);
}
