// SPDX-License-Identifier: BSD-2-Clause
//
// Stop tokens at the waits that std has without: semaphores, latches, barriers, events, wait groups, and the mutexes that know deadlines.  The same
// is asked of each: what can be had is had, a request ends the wait and nothing else, and neither gets lost.
// vcpus: 1 2 8
#include <lwp/lwp.hpp>

#include "../support/support.h"

#include <shared_mutex>
#include <stop_token>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::system_clock;

namespace {

const bool touched = touch_runtime();

/// Closed at first; open() is by who has made it.
struct semaphore_place {
	lwp::counting_semaphore<> s{0};
	bool wait(const std::stop_token &stop) { return s.acquire(stop); }
	bool wait_for(nanoseconds time, const std::stop_token &stop) { return s.try_acquire_for(time, stop); }
	bool wait_until(system_clock::time_point time, const std::stop_token &stop) { return s.try_acquire_until(time, stop); }
	void open() { s.release(); }
};

template <class Thing>
struct waitable_place {
	bool wait(const std::stop_token &stop) { return thing.wait(stop); }
	bool wait_for(nanoseconds time, const std::stop_token &stop) { return thing.wait_for(time, stop); }
	bool wait_until(system_clock::time_point time, const std::stop_token &stop) { return thing.wait_until(time, stop); }
	Thing thing;
};
struct event_place : waitable_place<lwp::event> {
	void open() { thing.set(); }
};
struct group_place : waitable_place<lwp::wait_group> {
	group_place() { thing.add(); }
	void open() { thing.done(); }
};

/// Those that std gives no time know none here either.
struct untimed {};
struct latch_place : untimed {
	lwp::latch l{1};
	bool wait(const std::stop_token &stop) { return l.wait(stop); }
	void open() { l.count_down(); }
};
struct barrier_place : untimed {
	lwp::barrier<> b{2};
	lwp::barrier<>::arrival_token token = b.arrive();
	bool wait(const std::stop_token &stop) { return b.wait(token, stop); }
	void open() { (void)b.arrive(); }
};

template <class Mutex>
struct mutex_place {
	Mutex m;
	mutex_place() { m.lock(); }
	bool through(bool has) {
		if (has) {
			m.unlock();
		}
		return has;
	}
	bool wait(const std::stop_token &stop) { return through(m.lock(stop)); }
	bool wait_for(nanoseconds time, const std::stop_token &stop) { return through(m.try_lock_for(time, stop)); }
	bool wait_until(system_clock::time_point time, const std::stop_token &stop) { return through(m.try_lock_until(time, stop)); }
	void open() { m.unlock(); }
};
struct reader_place {
	lwp::shared_timed_mutex m;
	reader_place() { m.lock(); }
	bool through(bool has) {
		if (has) {
			m.unlock_shared();
		}
		return has;
	}
	bool wait(const std::stop_token &stop) { return through(m.lock_shared(stop)); }
	bool wait_for(nanoseconds time, const std::stop_token &stop) { return through(m.try_lock_shared_for(time, stop)); }
	bool wait_until(system_clock::time_point time, const std::stop_token &stop) { return through(m.try_lock_shared_until(time, stop)); }
	void open() { m.unlock(); }
};

/// A sleep of some other kind, which nothing ends but its time.
int sleep_a_moment() {
	timespec moment{0, 1000};
	return error_of(_lwp_park(CLOCK_MONOTONIC, 0, &moment, 0, nullptr, nullptr));
}

template <class Place>
class StopWait : public testing::Test {};
using places = testing::Types<semaphore_place, event_place, group_place, latch_place, barrier_place, mutex_place<lwp::timed_mutex>,
    mutex_place<lwp::recursive_timed_mutex>, mutex_place<lwp::shared_timed_mutex>, reader_place>;
TYPED_TEST_SUITE(StopWait, places);

}  // namespace

TYPED_TEST(StopWait, WhatCanBeHadIsHadStopOrNot) {
	TypeParam place;
	std::stop_source source;
	place.open();
	source.request_stop();
	EXPECT_TRUE(place.wait(source.get_token()));
}

TYPED_TEST(StopWait, ARequestBeforeEndsItAtOnceAndNothingElse) {
	TypeParam place;
	std::stop_source source;
	source.request_stop();
	lwp::thread([&] {
		EXPECT_FALSE(place.wait(source.get_token()));
		EXPECT_EQ(sleep_a_moment(), ETIMEDOUT) << "a later sleep is nobody's business";
	}).join();
	place.open();
	EXPECT_TRUE(place.wait(std::stop_token())) << "nothing was taken";
}

TYPED_TEST(StopWait, ARequestEndsTheWait) {
	for (const bool by_kernel_thread : {false, true}) {
		TypeParam place;
		std::stop_source source;
		subject waiter([&](subject &s) {
			s.about_to_block();
			s.set_result(place.wait(source.get_token()) ? 1 : 0);
			EXPECT_EQ(sleep_a_moment(), ETIMEDOUT);
		});
		waiter.await_blocked();
		if (by_kernel_thread) {
			std::thread([&] { source.request_stop(); }).join();
		} else {
			source.request_stop();
		}
		collect(waiter.lid());
		EXPECT_EQ(waiter.result(), 0);
		place.open();
		EXPECT_TRUE(place.wait(source.get_token()));
	}
}

TYPED_TEST(StopWait, SuspendAndWakeupDoNotEndIt) {
	TypeParam place;
	std::stop_source source;
	subject waiter([&](subject &s) {
		s.about_to_block();
		s.set_result(place.wait(source.get_token()) ? 1 : 0);
	});
	waiter.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(waiter.lid()) == 0; }));
	EXPECT_EQ(error_of(_lwp_suspend(waiter.lid())), 0);
	EXPECT_EQ(waiter.result(), -1);
	EXPECT_EQ(error_of(_lwp_continue(waiter.lid())), 0);
	place.open();
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 1);
}

TYPED_TEST(StopWait, TimesOutAndIsStopped) {
	if constexpr (!std::is_base_of_v<untimed, TypeParam>) {
		TypeParam place;
		std::stop_source source;
		lwp::thread([&] {
			const std::stop_token token = source.get_token();
			const auto before = std::chrono::steady_clock::now();
			EXPECT_FALSE(place.wait_for(0s, token));
			EXPECT_FALSE(place.wait_for(-1h, token));
			EXPECT_FALSE(place.wait_until(system_clock::now() - 1h, token));
			EXPECT_FALSE(place.wait_for(3ms, token));
			EXPECT_FALSE(place.wait_until(system_clock::now() + 2ms, token));
			EXPECT_GE(std::chrono::steady_clock::now() - before, 4ms);
			EXPECT_FALSE(token.stop_requested());
		}).join();
		int round = 0;
		for (const bool by_duration : {false, true}) {
			subject waiter([&](subject &s) {
				s.about_to_block();
				const bool has =
				    by_duration ? place.wait_for(1h, source.get_token()) : place.wait_until(system_clock::now() + 1h, source.get_token());
				s.set_result(has ? 1 : 0);
			});
			if (round++ == 0) {
				waiter.await_blocked();
			}
			source.request_stop();  // by the second round: at once
			collect(waiter.lid());
			EXPECT_EQ(waiter.result(), 0);
		}
		place.open();
		EXPECT_TRUE(place.wait_for(0s, source.get_token()));
	}
}

// The thing opens while a stop is requested: one of the two ends the wait, and what was not taken is there.
TYPED_TEST(StopWait, ARequestAgainstWhatIsWaitedFor) {
	const std::size_t n = rounds(1500);
	for (std::size_t i = 0; i < n; i++) {
		TypeParam place;
		std::stop_source source;
		bool has = false;
		lwp::thread waiter([&] {
			has = place.wait(source.get_token());
			if (i % 16 == 0) {
				EXPECT_EQ(sleep_a_moment(), ETIMEDOUT);
			}
		});
		lwp::thread stopper([&] { source.request_stop(); });
		if (i % 3 == 0) {
			lwp_yield();
		}
		place.open();
		waiter.join();
		stopper.join();
		if (!has) {
			EXPECT_TRUE(place.wait(std::stop_token()));
		}
	}
}

// Other waiters are not passed over, and units not lost, for one that was stopped.
TEST(StopWaitRace, UnitsAddUpWithStopsAndDeadlines) {
	const int n = static_cast<int>(rounds(2000));
	lwp::counting_semaphore<> s(0);
	std::atomic<int> taken{0};
	std::vector<lwp::thread> takers;
	for (unsigned i = 0; i < 6; i++) {
		takers.emplace_back([&, i] {
			dice d(seed() + i);
			while (taken < n) {
				std::stop_source source;
				lwp::thread stopper([&] {
					if (d.one_in(2)) {
						lwp_yield();
					}
					source.request_stop();
				});
				const bool has = i % 2 == 0 ? s.acquire(source.get_token()) : s.try_acquire_for(20us, source.get_token());
				taken += has ? 1 : 0;
				stopper.join();
			}
		});
	}
	for (int i = 0; i < n; i++) {
		s.release();
		lwp_yield();
	}
	for (lwp::thread &t : takers) {
		t.join();
	}
	EXPECT_EQ(taken, n);
	EXPECT_FALSE(s.try_acquire());
}
