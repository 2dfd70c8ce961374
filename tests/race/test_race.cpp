// SPDX-License-Identifier: BSD-2-Clause
//
// Short loops, each aimed at one race.  LWP_SEED repeats their choices (not their timing), LWP_STRESS makes them that many times longer, and 100,000 rounds
// at least.  A debug build checks the process counters and the lock ranks all along; here we check results and that nothing is left.
// vcpus: 1 2 8
#include "../support/support.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

int wait_for(lwpid_t lid, lwpid_t *departed = nullptr) { return error_of(_lwp_wait(lid, departed)); }

}  // namespace

// Behaviours 36 and 37.  Each round has one unpark and two parks.  The first park has a deadline about when the unpark comes: it gets
// exactly one of the two.  If it was the deadline, the unpark ends the second park; if not, only the second unpark does.  A
// timeout of the first park that hit the second would show as ETIMEDOUT after an hour that did not pass.
TEST(Race, UnparkAgainstTimeoutGivesExactlyOneOfThem) {
	dice r(seed());
	std::atomic<std::size_t> round{0};    // the sleeper has begun it
	std::atomic<std::size_t> settled{0};  // the sleeper has had the first unpark of it
	const std::size_t all = race_rounds(20000);
	std::atomic<unsigned> nap{0};
	std::size_t timeouts = 0;
	std::size_t wakeups = 0;
	const lwpid_t sleeper = spawn([&] {
		for (std::size_t n = 1; n <= all; ++n) {
			round.store(n);
			const int first = park_for(std::chrono::nanoseconds(nap.load()));
			if (first == ETIMEDOUT) {
				++timeouts;
				const int rest = park_for(1h);
				ASSERT_TRUE(rest == 0 || rest == EALREADY) << rest;
			} else {
				++wakeups;
				ASSERT_TRUE(first == 0 || first == EALREADY) << first;
			}
			settled.store(n);
			const int second = park_for(1h);
			ASSERT_TRUE(second == 0 || second == EALREADY) << second;
		}
	});
	bool fine = true;
	for (std::size_t n = 1; n <= all && fine; ++n) {
		nap.store(1 + r.below(30000));
		fine = wait_until([&] { return round.load() >= n || !alive(sleeper); }) && alive(sleeper);
		const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(r.below(40000));
		while (std::chrono::steady_clock::now() < until) {
			lwp_yield();
		}
		(void)_lwp_unpark(sleeper, nullptr);
		fine = fine && wait_until([&] { return settled.load() >= n || !alive(sleeper); }) && alive(sleeper);
		(void)_lwp_unpark(sleeper, nullptr);
	}
	EXPECT_TRUE(fine) << "an unpark was lost in round " << round.load();
	collect(sleeper);
	EXPECT_EQ(timeouts + wakeups, all);
	std::printf("%zu timeouts, %zu wakeups\n", timeouts, wakeups);
}

// Behaviour 37 without any unpark: many short deadlines in a row, from many LWPs; none of them ends early.
TEST(Race, TimeoutOfOneSleepNeverEndsTheNext) {
	std::vector<lwpid_t> lids;
	dice r(seed());
	for (int n = 0; n < 8; ++n) {
		lids.push_back(spawn([s = r.next()] {
			dice own(s);
			using clock = std::chrono::steady_clock;
			for (std::size_t i = 0; i < race_rounds(3000); ++i) {
				const std::chrono::nanoseconds time(own.below(20000));
				const auto begin = clock::now();
				ASSERT_EQ(park_for(time), ETIMEDOUT);
				ASSERT_GE(clock::now() - begin, time);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
}

// Sleepers that are woken just before their deadline, over and over: the late timeout must find nobody.
TEST(Race, WakeUpJustBeforeTheDeadline) {
	constexpr std::size_t pairs = 4;
	std::vector<lwpid_t> lids;
	std::vector<std::atomic<lwpid_t>> sleepers(pairs);
	std::vector<std::atomic<bool>> done(pairs);
	dice r(seed());
	for (std::size_t n = 0; n < pairs; ++n) {
		lids.push_back(spawn([&, n, s = r.next()] {
			dice own(s);
			sleepers[n].store(_lwp_self());
			for (std::size_t i = 0; i < race_rounds(5000); ++i) {
				const int e = park_for(std::chrono::nanoseconds(own.below(3000)));
				ASSERT_TRUE(e == 0 || e == EALREADY || e == ETIMEDOUT) << e;
			}
			done[n].store(true);
		}));
		lids.push_back(spawn([&, n] {
			while (!done[n].load()) {
				if (const lwpid_t lid = sleepers[n].load()) {
					(void)_lwp_unpark(lid, nullptr);
				}
				lwp_yield();
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
}

// Behaviour 15 (Q3): a continue that comes while the target is about to suspend itself is never lost.
TEST(Race, ContinueIsNeverLost) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	const lwpid_t target = spawn([&] {
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	const std::size_t all = race_rounds(100000);
	bool fine = true;
	for (std::size_t i = 0; i < all && fine; ++i) {
		fine = error_of(_lwp_suspend(target)) == 0 && error_of(_lwp_continue(target)) == 0;
		if (i % 100 == 0) {
			const std::size_t before = turns.load();
			fine = fine && wait_until([&] { return turns.load() != before; });
		}
	}
	EXPECT_TRUE(fine);
	stop = true;
	collect(target);
}

// The same with the continue from elsewhere, so that it may come at any moment of the suspend; the suspender always comes back.
TEST(Race, ContinueByAnotherReleasesTheSuspenderOrTheTarget) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	const lwpid_t target = spawn([&] {
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	const std::size_t all = race_rounds(20000);
	std::atomic<std::size_t> suspended{0};
	const lwpid_t suspender = spawn([&] {
		for (std::size_t i = 1; i <= all; ++i) {
			ASSERT_EQ(error_of(_lwp_suspend(target)), 0);
			suspended.store(i);
		}
	});
	EXPECT_TRUE(wait_until([&] {
		EXPECT_EQ(error_of(_lwp_continue(target)), 0);
		return suspended.load() == all || !alive(suspender);
	}));
	collect(suspender);
	EXPECT_EQ(error_of(_lwp_continue(target)), 0);
	const std::size_t before = turns.load();
	EXPECT_TRUE(wait_until([&] { return turns.load() != before; }));
	stop = true;
	EXPECT_EQ(error_of(_lwp_continue(target)), 0);
	collect(target);
}

// Suspend and continue of one that parks all the time: every unpark still arrives.
TEST(Race, SuspendAgainstParkAndUnpark) {
	std::atomic<std::size_t> asked{0};
	std::atomic<std::size_t> seen{0};
	std::atomic<bool> stop{false};
	const std::size_t all = race_rounds(10000);
	const lwpid_t target = spawn([&] {
		while (seen.load() < all) {
			const int e = park();
			ASSERT_TRUE(e == 0 || e == EALREADY) << e;
			seen.store(asked.load());
		}
	});
	const lwpid_t suspender = spawn([&] {
		while (!stop.load()) {
			const int e = error_of(_lwp_suspend(target));
			ASSERT_TRUE(e == 0 || e == ESRCH) << e;
			lwp_yield();
			(void)_lwp_continue(target);
			lwp_yield();
		}
	});
	bool fine = true;
	for (std::size_t i = 1; i <= all && fine; ++i) {
		asked.store(i);
		(void)_lwp_unpark(target, nullptr);
		fine = wait_until([&] { return seen.load() >= i; });
	}
	EXPECT_TRUE(fine) << "unpark " << asked.load() << " was lost";
	stop = true;
	collect(suspender);
	(void)_lwp_continue(target);
	collect(target);
}

// Behaviour 9.
TEST(Race, TwoWaitersOneTarget) {
	for (std::size_t i = 0; i < race_rounds(3000); ++i) {
		const lwpid_t target = spawn([i] {
			for (std::size_t n = 0; n < i % 4; ++n) {
				lwp_yield();
			}
		});
		int results[2] = {-1, -1};
		lwpid_t waiters[2];
		for (int n = 0; n < 2; ++n) {
			waiters[n] = spawn([&, n] { results[n] = wait_for(target); });
		}
		collect(waiters[0]);
		collect(waiters[1]);
		ASSERT_EQ(std::min(results[0], results[1]), 0);
		ASSERT_EQ(std::max(results[0], results[1]), ESRCH);
	}
}

TEST(Race, DetachAgainstExit) {
	for (std::size_t i = 0; i < race_rounds(5000); ++i) {
		const lwpid_t target = spawn([i] {
			if (i % 2 == 0) {
				lwp_yield();
			}
		});
		for (std::size_t n = 0; n < i % 3; ++n) {
			lwp_yield();
		}
		ASSERT_EQ(error_of(_lwp_detach(target)), 0) << "it keeps its id until it is detached";
	}
	EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().lwps == 1; }));
}

TEST(Race, TwoDetachersAgainstExit) {
	for (std::size_t i = 0; i < race_rounds(2000); ++i) {
		const lwpid_t target = spawn([] { lwp_yield(); });
		int results[2] = {-1, -1};
		lwpid_t detachers[2];
		for (int n = 0; n < 2; ++n) {
			detachers[n] = spawn([&, n] { results[n] = error_of(_lwp_detach(target)); });
		}
		collect(detachers[0]);
		collect(detachers[1]);
		ASSERT_EQ(std::min(results[0], results[1]), 0);
		const int other = std::max(results[0], results[1]);
		ASSERT_TRUE(other == EINVAL || other == ESRCH) << other;
	}
}

TEST(Race, DetachAgainstWait) {
	for (std::size_t i = 0; i < race_rounds(2000); ++i) {
		const lwpid_t target = spawn([] { lwp_yield(); });
		int waited = -1;
		int detached = -1;
		const lwpid_t waiter = spawn([&] { waited = wait_for(target); });
		const lwpid_t detacher = spawn([&] { detached = error_of(_lwp_detach(target)); });
		collect(waiter);
		collect(detacher);
		// One of them got it.
		ASSERT_TRUE((waited == 0 && detached == ESRCH) || (waited == ESRCH && detached == 0)) << waited << ' ' << detached;
	}
}

TEST(Race, SuspendAgainstExit) {
	for (std::size_t i = 0; i < race_rounds(3000); ++i) {
		const lwpid_t target = spawn([i] {
			for (std::size_t n = 0; n < i % 4; ++n) {
				lwp_yield();
			}
		});
		const int e = error_of(_lwp_suspend(target));
		ASSERT_TRUE(e == 0 || e == ESRCH) << e;
		const int c = error_of(_lwp_continue(target));
		ASSERT_TRUE(c == 0 || c == ESRCH) << c;
		collect(target);
	}
}

TEST(Race, AnyWaitByManyTakesEachOnce) {
	constexpr std::size_t waiters = 6;
	const std::size_t all = race_rounds(6000);
	std::atomic<std::size_t> taken{0};
	std::vector<std::atomic<int>> times(16 * all);  // by id less the first: one in so many as there are parts is used
	std::atomic<lwpid_t> first{0};
	std::vector<lwpid_t> lids;
	for (std::size_t n = 0; n < waiters; ++n) {
		lids.push_back(spawn(
		    [&] {
			    while (taken.load() < all) {
				    lwpid_t departed = 0;
				    const int e = wait_for(0, &departed);
				    if (e == EINTR) {
					    continue;
				    }
				    ASSERT_EQ(e, 0);
				    taken.fetch_add(1);
				    const auto at = static_cast<std::size_t>(departed - first.load());
				    ASSERT_LT(at, times.size());
				    ASSERT_EQ(times[at].fetch_add(1), 0);
			    }
		    },
		    LWP_DETACHED));
	}
	for (std::size_t i = 0; i < all; ++i) {
		// Known before the LWP can end: the first one starts suspended.
		const lwpid_t lid = spawn([] {}, i == 0 ? LWP_SUSPENDED : 0);
		if (i == 0) {
			first.store(lid);
			EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		}
		if (i % 16 == 0) {
			lwp_yield();
		}
	}
	EXPECT_TRUE(wait_until([&] { return taken.load() == all; }));
	// Those that sleep in a wait for which nothing is left are told to look again.
	for (const lwpid_t lid : lids) {
		EXPECT_TRUE(wait_until([lid] {
			(void)_lwp_wakeup(lid);
			return !alive(lid);
		}));
	}
}

// Creation and end from many sides at once, by LWPs and kernel threads.
TEST(Race, CreateAndExitEverywhere) {
	std::atomic<std::size_t> ran{0};
	std::atomic<int> done{0};
	const std::size_t each = race_rounds(12000) / 6;
	auto body = [&] {
		for (std::size_t i = 0; i < each; ++i) {
			const lwpid_t lid = spawn([&ran] { ran.fetch_add(1); }, i % 2 == 0 ? LWP_DETACHED : 0);
			if (i % 2 != 0) {
				collect(lid);
			} else if (i % 32 == 0) {
				lwp_yield();
			}
		}
		done.fetch_add(1);
	};
	std::vector<lwpid_t> lids;
	std::vector<std::thread> kernel_threads;
	for (int n = 0; n < 4; ++n) {
		lids.push_back(spawn(body));
	}
	for (int n = 0; n < 2; ++n) {
		kernel_threads.emplace_back(body);
	}
	for (bool goes_on = true; goes_on && done.load() < 6;) {  // for long, perhaps, but never for a minute without one life
		const std::size_t before = ran.load();
		goes_on = wait_until([&] { return done.load() == 6 || ran.load() != before; });
		EXPECT_TRUE(goes_on);
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
	for (std::thread &t : kernel_threads) {
		t.join();
	}
	EXPECT_TRUE(wait_until([&] { return ran.load() == 6 * each; }));
}

// The wait graph changes while cycles are looked for: whatever happens, nobody hangs and at least one of a circle is refused.
TEST(Race, CirclesOfWaitersAlwaysBreak) {
	dice r(seed());
	for (std::size_t i = 0; i < race_rounds(500); ++i) {
		const std::size_t length = 2 + r.below(6);
		std::vector<std::atomic<lwpid_t>> ids(length);
		std::atomic<int> refused{0};
		gate go;
		for (std::size_t n = 0; n < length; ++n) {
			ids[n].store(spawn([&, n] {
				go.pass();
				const int e = wait_for(ids[(n + 1) % length].load());
				EXPECT_TRUE(e == 0 || e == EDEADLK) << e;
				refused.fetch_add(e == EDEADLK);
			}));
		}
		go.open();
		ASSERT_TRUE(wait_until([&] { return std::none_of(ids.begin(), ids.end(), [](const auto &id) { return alive(id.load()); }); }));
		ASSERT_EQ(refused.load(), 1);
		// All but the one whose waiter was refused have been collected.
		ASSERT_EQ(wait_for(0), 0);
		ASSERT_EQ(wait_for(0), ESRCH);
	}
}

// Of two that wait the first has a deadline at about the time of the notification.  It is woken; or it is too late, and the other one is: never both, never
// neither.  Behaviours 35 and 36.
TEST(Race, NotifyAgainstTimeoutReachesExactlyOneOfThem) {
	dice r(seed());
	lwp::mutex m;
	lwp::condition_variable cv;
	std::size_t waits[2] = {0, 0};  // m: the round in which it began to wait
	std::atomic<std::size_t> round{0};
	std::atomic<std::size_t> ended[2] = {};  // the round whose wait has ended
	std::atomic<unsigned> nap{0};
	std::atomic<bool> timed_out{false};
	const std::size_t all = race_rounds(5000);
	const auto waiter = [&](unsigned who, auto wait) {
		return spawn([&, who, wait] {
			for (std::size_t n = 1; n <= all; ++n) {
				ASSERT_TRUE(wait_until([&] { return round.load() >= n; }));
				std::unique_lock hold(m);
				waits[who] = n;
				wait(hold);
				ended[who].store(n);
			}
		});
	};
	const lwpid_t timed = waiter(0, [&](std::unique_lock<lwp::mutex> &hold) {
		timed_out = cv.wait_for(hold, std::chrono::nanoseconds(nap.load())) == std::cv_status::timeout;
	});
	const lwpid_t patient = waiter(1, [&](std::unique_lock<lwp::mutex> &hold) { cv.wait(hold); });
	std::size_t timeouts = 0;
	bool fine = true;
	for (std::size_t n = 1; n <= all && fine; ++n) {
		nap.store(1 + r.below(20000));
		round.store(n);
		fine = wait_until([&] {
			const std::lock_guard hold(m);
			return waits[0] == n && waits[1] == n;
		});
		const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(r.below(20000));
		while (std::chrono::steady_clock::now() < until) {
			lwp_yield();
		}
		cv.notify_one();
		fine = fine && wait_until([&] { return ended[0].load() == n; });
		if (timed_out.load()) {
			++timeouts;
		} else {
			EXPECT_LT(ended[1].load(), n) << "one notification has woken both";
			cv.notify_one();
		}
		fine = fine && wait_until([&] { return ended[1].load() == n; });
	}
	EXPECT_TRUE(fine) << "a notification was lost in round " << round.load();
	round.store(all);
	EXPECT_TRUE(wait_until([&] {
		cv.notify_all();
		return !alive(timed) && !alive(patient);
	}));
	collect(timed);
	collect(patient);
	std::printf("%zu of %zu rounds timed out\n", timeouts, all);
}
