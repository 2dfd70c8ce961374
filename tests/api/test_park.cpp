// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_park(), _lwp_unpark(), _lwp_unpark_all().
// vcpus: 1 2 8
#include "../support/support.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int unpark(lwpid_t lid, const void *hint = nullptr) { return error_of(_lwp_unpark(lid, hint)); }

timespec now(clockid_t clock) {
	timespec ts{};
	EXPECT_EQ(clock_gettime(clock, &ts), 0);
	return ts;
}

timespec after(timespec ts, long nanoseconds) {
	ts.tv_nsec += nanoseconds;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return ts;
}

bool before(const timespec &a, const timespec &b) { return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec; }

int park_with(clockid_t clock, int flags, timespec ts) { return error_of(_lwp_park(clock, flags, &ts, 0, nullptr, nullptr)); }

}  // namespace

TEST(Park, BlocksUntilUnparked) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_EQ(s.result(), -1);
	EXPECT_EQ(unpark(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), 0);
}

// Behaviour 20.
TEST(Park, UnparkThatCameFirstIsEalreadyOnce) {
	const lwpid_t self = _lwp_self();
	EXPECT_EQ(unpark(self), 0);
	EXPECT_EQ(park(), EALREADY);
	EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT);
}

// Behaviour 20.
TEST(Park, UnparksThatCameFirstAreOneToken) {
	const lwpid_t self = _lwp_self();
	for (int i = 0; i < 3; ++i) {
		EXPECT_EQ(unpark(self), 0);
	}
	EXPECT_EQ(park(), EALREADY);
	EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT);
}

// Q23: the unpark that ended a park leaves no token.
TEST(Park, UnparkThatWokeLeavesNothing) {
	subject s([](subject &self) {
		self.park_once();
		self.set_result(park_for(std::chrono::microseconds(100)));
	});
	s.await_blocked();
	EXPECT_EQ(unpark(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), ETIMEDOUT);
}

TEST(Park, SecondUnparkOfASleeperIsATokenOrNothing) {
	// The second finds the LWP either awake (token) or, on another vCPU, ended.
	subject s([](subject &self) {
		self.park_once();
		EXPECT_EQ(self.result(), 0);
		EXPECT_TRUE(wait_until([] { return park_for(std::chrono::nanoseconds(1)) == ETIMEDOUT; }));
	});
	s.await_blocked();
	EXPECT_EQ(unpark(s.lid()), 0);
	const int second = unpark(s.lid());
	EXPECT_TRUE(second == 0 || second == ESRCH) << second;
	collect(s.lid());
}

TEST(Park, RelativeTimeoutIsNeverEarly) {
	using clock = std::chrono::steady_clock;
	for (const auto time : {std::chrono::nanoseconds(1), std::chrono::nanoseconds(50000), std::chrono::nanoseconds(2000000)}) {
		for (int i = 0; i < 20; ++i) {
			const auto begin = clock::now();
			EXPECT_EQ(park_for(time), ETIMEDOUT);
			EXPECT_GE(clock::now() - begin, time);
		}
	}
}

// Behaviour 21.
TEST(Park, AbsoluteTimeoutIsNeverEarly) {
	for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
		for (int i = 0; i < 20; ++i) {
			const timespec deadline = after(now(clock), 500000);
			EXPECT_EQ(park_with(clock, TIMER_ABSTIME, deadline), ETIMEDOUT);
			EXPECT_FALSE(before(now(clock), deadline));
		}
	}
}

TEST(Park, RelativeTimeByTheRealtimeClock) { EXPECT_EQ(park_with(CLOCK_REALTIME, 0, {0, 100000}), ETIMEDOUT); }

TEST(Park, RelativeZeroIsEtimedout) {
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, 0, {0, 0}), ETIMEDOUT);
	EXPECT_EQ(park_with(CLOCK_REALTIME, 0, {0, 0}), ETIMEDOUT);
}

// Behaviour 21, Q25.
TEST(Park, PassedDeadlineIsEtimedoutAndKeepsTheToken) {
	EXPECT_EQ(unpark(_lwp_self()), 0);
	for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
		timespec past = now(clock);
		past.tv_sec -= 1;
		EXPECT_EQ(park_with(clock, TIMER_ABSTIME, past), ETIMEDOUT);
		EXPECT_EQ(park_with(clock, TIMER_ABSTIME, {0, 0}), ETIMEDOUT);
	}
	EXPECT_EQ(park(), EALREADY);
}

// Behaviour 21.
TEST(Park, MalformedTimeIsEinval) {
	for (const long nanoseconds : {1000000000L, -1L, std::numeric_limits<long>::max(), std::numeric_limits<long>::min()}) {
		for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
			for (const int flags : {0, TIMER_ABSTIME}) {
				EXPECT_EQ(park_with(clock, flags, {1, nanoseconds}), EINVAL) << nanoseconds;
			}
		}
	}
	timespec past = now(CLOCK_MONOTONIC);
	past.tv_sec -= 1;
	past.tv_nsec = 1000000000;
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, TIMER_ABSTIME, past), EINVAL) << "validated before it is found to have passed";
}

TEST(Park, UnknownClockOrFlagIsEinval) {
	EXPECT_EQ(park_with(CLOCK_PROCESS_CPUTIME_ID, 0, {0, 1000}), EINVAL);
	EXPECT_EQ(park_with(CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME, {0, 1000}), EINVAL);
	EXPECT_EQ(park_with(4711, 0, {0, 1000}), EINVAL);
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, 0x40, {0, 1000}), EINVAL);
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, TIMER_ABSTIME | 0x40, {0, 1000}), EINVAL);
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, -1, {0, 1000}), EINVAL);
}

TEST(Park, RefusedParkKeepsTheToken) {
	EXPECT_EQ(unpark(_lwp_self()), 0);
	EXPECT_EQ(park_with(CLOCK_MONOTONIC, 0, {0, -1}), EINVAL);
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, nobody, nullptr, nullptr)), ESRCH);
	EXPECT_EQ(park(), EALREADY);
}

// The largest times there are mean for ever, not at once.
TEST(Park, HugeTimesDoNotOverflow) {
	constexpr time_t most = std::numeric_limits<time_t>::max();
	for (const clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
		for (const int flags : {0, TIMER_ABSTIME}) {
			for (const time_t seconds : {most, most / 1000000000, time_t{10000000000}}) {
				subject s([=](subject &self) {
					timespec ts{seconds, 999999999};
					self.about_to_block();
					self.set_result(error_of(_lwp_park(clock, flags, &ts, 0, nullptr, nullptr)));
				});
				ASSERT_TRUE(wait_until([&s] { return s.blocked() || s.result() != -1; }));
				ASSERT_EQ(s.result(), -1);
				EXPECT_EQ(unpark(s.lid()), 0);
				collect(s.lid());
				EXPECT_EQ(s.result(), 0);
			}
		}
	}
}

TEST(Park, RestOfARelativeTimeIsWrittenBack) {
	timespec rest{};
	subject s([&rest](subject &self) {
		rest = {3600, 0};
		self.about_to_block();
		self.set_result(error_of(_lwp_park(CLOCK_MONOTONIC, 0, &rest, 0, nullptr, nullptr)));
	});
	s.await_blocked();
	EXPECT_EQ(unpark(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), 0);
	EXPECT_TRUE(before(rest, {3600, 0}));
	EXPECT_TRUE(before({1800, 0}, rest));

	timespec none{0, 1000};
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, &none, 0, nullptr, nullptr)), ETIMEDOUT);
	EXPECT_EQ(none.tv_sec, 0);
	EXPECT_EQ(none.tv_nsec, 0);
}

TEST(Park, AbsoluteTimeIsNotWritten) {
	const timespec deadline = after(now(CLOCK_MONOTONIC), 1000);
	timespec ts = deadline;
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, 0, nullptr, nullptr)), ETIMEDOUT);
	EXPECT_EQ(ts.tv_sec, deadline.tv_sec);
	EXPECT_EQ(ts.tv_nsec, deadline.tv_nsec);
}

TEST(Park, UnparksAnotherFirst) {
	subject other([](subject &s) { s.park_once(); });
	other.await_blocked();
	timespec ts{0, 1000};
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, &ts, other.lid(), nullptr, nullptr)), ETIMEDOUT);
	collect(other.lid());
	EXPECT_EQ(other.result(), 0);
}

TEST(Park, UnparkingItselfFirstIsEalready) {
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, _lwp_self(), nullptr, nullptr)), EALREADY);
}

TEST(Park, UnparkingNobodyFirstIsEsrchAndDoesNotPark) {
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, nobody, nullptr, nullptr)), ESRCH);
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, -1, nullptr, nullptr)), ESRCH);
	EXPECT_EQ(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, zombie, nullptr, nullptr)), ESRCH);
	collect(zombie);
}

// Hand-over in one call, round and round.
TEST(Park, PingPong) {
	const std::size_t turns = rounds(10000);
	std::atomic<std::size_t> ball{0};
	const lwpid_t boss = _lwp_self();
	auto play = [&ball, turns](std::size_t parity, lwpid_t other) {
		for (std::size_t turn = parity; turn < turns; turn += 2) {
			while (ball.load() != turn) {
				(void)park();
			}
			ball.store(turn + 1);
			(void)_lwp_unpark(other, nullptr);
		}
	};
	const lwpid_t lid = spawn([&] { play(1, boss); });
	play(0, lid);
	collect(lid);
	(void)park_for(std::chrono::nanoseconds(1));
	(void)unpark(_lwp_self());
	EXPECT_EQ(park(), EALREADY);
	EXPECT_EQ(ball.load(), turns);
}

// Behaviour 19.
TEST(Unpark, UnknownOrZombieIsEsrch) {
	for (const lwpid_t lid : {nobody, lwpid_t{0}, lwpid_t{-1}, INT32_MIN}) {
		EXPECT_EQ(unpark(lid), ESRCH) << lid;
	}
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(unpark(zombie), ESRCH);
	collect(zombie);
	EXPECT_EQ(unpark(zombie), ESRCH);
}

// Behaviour 22.
TEST(Unpark, WrongHintStillWakes) {
	int a = 0;
	int b = 0;
	subject s([&a](subject &self) {
		self.about_to_block();
		self.set_result(error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, &a, nullptr)));
	});
	s.await_blocked();
	EXPECT_EQ(unpark(s.lid(), &b), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), 0);
}

TEST(Unpark, OneThatSleepsInSomethingElseLeavesAToken) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	subject waiter([&target](subject &s) {
		s.about_to_block();
		EXPECT_EQ(error_of(_lwp_wait(target.lid(), nullptr)), 0);
		s.set_result(park());
	});
	waiter.await_blocked();
	EXPECT_EQ(unpark(waiter.lid()), 0);
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(waiter.result(), -1);
	EXPECT_EQ(unpark(target.lid()), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), EALREADY);
}

TEST(Unpark, OneThatIsSuspendedBeforeItRanGetsAToken) {
	std::atomic<int> result{-1};
	const lwpid_t lid = spawn([&result] { result = park(); }, LWP_SUSPENDED);
	EXPECT_EQ(unpark(lid), 0);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_EQ(result.load(), EALREADY);
}

// Behaviour 22.
TEST(UnparkAll, NullTellsTheMostItTakes) {
	EXPECT_EQ(_lwp_unpark_all(nullptr, 0, nullptr), LWP_UNPARK_MAX);
	EXPECT_EQ(_lwp_unpark_all(nullptr, 4711, nullptr), LWP_UNPARK_MAX);
	EXPECT_EQ(LWP_UNPARK_MAX, 1024);
}

// Behaviour 22.
TEST(UnparkAll, NoneOrTooManyIsEinval) {
	const std::vector<lwpid_t> lids(LWP_UNPARK_MAX + 1, _lwp_self());
	EXPECT_EQ(error_of(_lwp_unpark_all(lids.data(), 0, nullptr)), EINVAL);
	EXPECT_EQ(error_of(_lwp_unpark_all(lids.data(), lids.size(), nullptr)), EINVAL);
	EXPECT_EQ(error_of(_lwp_unpark_all(lids.data(), SIZE_MAX, nullptr)), EINVAL);
	EXPECT_EQ(park_for(std::chrono::nanoseconds(1)), ETIMEDOUT) << "a refused call unparks nobody";
}

// Behaviour 22.
TEST(UnparkAll, WakesAllAndSkipsTheUnknown) {
	std::vector<std::unique_ptr<subject>> sleepers;
	const lwpid_t zombie = make_zombie();
	std::vector<lwpid_t> lids{nobody, -1, 0, zombie};
	for (int i = 0; i < 100; ++i) {
		sleepers.push_back(std::make_unique<subject>([](subject &s) { s.park_once(); }));
		lids.push_back(sleepers.back()->lid());
		lids.push_back(nobody - i);
	}
	for (const auto &s : sleepers) {
		s->await_blocked();
	}
	lids.push_back(_lwp_self());
	EXPECT_EQ(error_of(_lwp_unpark_all(lids.data(), lids.size(), nullptr)), 0);
	for (const auto &s : sleepers) {
		collect(s->lid());
		EXPECT_EQ(s->result(), 0);
	}
	EXPECT_EQ(park(), EALREADY) << "our own token";
	collect(zombie);
}

TEST(UnparkAll, TakesTheMost) {
	const std::vector<lwpid_t> lids(LWP_UNPARK_MAX, _lwp_self());
	EXPECT_EQ(error_of(_lwp_unpark_all(lids.data(), lids.size(), nullptr)), 0);
	EXPECT_EQ(park(), EALREADY);
	EXPECT_EQ(park_for(std::chrono::nanoseconds(1)), ETIMEDOUT);
}
