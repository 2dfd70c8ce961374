// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_wakeup() and _lwp_kill() by the state of their target.
// vcpus: 1 2 8
#include "../support/support.h"

#include <csignal>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int wakeup(lwpid_t lid) { return error_of(_lwp_wakeup(lid)); }
int send(lwpid_t lid, int sig) { return error_of(_lwp_kill(lid, sig)); }

}  // namespace

// Behaviour 19.
TEST(Wakeup, UnknownOrZombieIsEsrch) {
	for (const lwpid_t lid : {nobody, lwpid_t{0}, lwpid_t{-1}, INT32_MIN}) {
		EXPECT_EQ(wakeup(lid), ESRCH) << lid;
	}
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(wakeup(zombie), ESRCH);
	collect(zombie);
	EXPECT_EQ(wakeup(zombie), ESRCH);
}

// Behaviour 24.
TEST(Wakeup, EndsAParkWithEintr) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_EQ(wakeup(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), EINTR);
}

TEST(Wakeup, EndsATimedParkWithEintr) {
	subject s([](subject &self) {
		self.about_to_block();
		self.set_result(park_for(std::chrono::hours(1)));
	});
	s.await_blocked();
	EXPECT_EQ(wakeup(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), EINTR);
}

// Behaviour 24, Q23: what woke one sleep is used up by it.
TEST(Wakeup, LeavesNothingForTheNextSleep) {
	subject s([](subject &self) {
		self.park_once();
		EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT);
		collect(spawn([] { lwp_yield(); }));
	});
	s.await_blocked();
	EXPECT_EQ(wakeup(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), EINTR);
}

// Behaviour 24, Q23: neither a later park nor a later wait of the target notices.
TEST(Wakeup, OfOneThatDoesNotSleepIsEnodevAndLeavesNothing) {
	EXPECT_EQ(wakeup(_lwp_self()), ENODEV);
	EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT);
	collect(spawn([] { lwp_yield(); }));

	std::atomic<bool> running{false};
	gate go;
	const lwpid_t lid = spawn([&] {
		running = true;
		go.pass();
		EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT);
		collect(spawn([] { lwp_yield(); }));
	});
	EXPECT_TRUE(wait_until([&] { return running.load(); }));
	for (int i = 0; i < 10; ++i) {
		EXPECT_EQ(wakeup(lid), ENODEV);
		lwp_yield();
	}
	go.open();
	collect(lid);
}

TEST(Wakeup, OfASuspendedOneIsEnodevAndLeavesNothing) {
	std::atomic<int> result{-1};
	const lwpid_t lid = spawn([&result] { result = park_for(std::chrono::microseconds(100)); }, LWP_SUSPENDED);
	EXPECT_EQ(wakeup(lid), ENODEV);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_EQ(result.load(), ETIMEDOUT);
}

TEST(Wakeup, DoesNotTakeAnUnparkAway) {
	subject s([](subject &self) {
		self.park_once();
		EXPECT_EQ(self.result(), EINTR);
		const int r = park();  // the unpark may come first, or find it parked again
		EXPECT_TRUE(r == 0 || r == EALREADY) << r;
	});
	s.await_blocked();
	EXPECT_EQ(wakeup(s.lid()), 0);
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	collect(s.lid());
}

// sleep_for() goes on whatever comes; whether its sleep counts as interruptible (0) or not (EBUSY) is its own affair.
TEST(Wakeup, DoesNotShortenSleepFor) {
	using clock = std::chrono::steady_clock;
	const auto duration = std::chrono::milliseconds(30);
	bool early = false;
	subject s([&](subject &self) {
		const auto begin = clock::now();
		self.about_to_block();
		lwp::this_thread::sleep_for(duration);
		early = clock::now() - begin < duration;
	});
	s.await_blocked();
	for (int i = 0; i < 10; ++i) {
		const int r = wakeup(s.lid());
		EXPECT_TRUE(r == 0 || r == EBUSY || r == ENODEV || r == ESRCH) << r;
		lwp_yield();
	}
	collect(s.lid());
	EXPECT_FALSE(early);
}

// An uninterruptible sleep is none of _lwp_wakeup()'s business: it says EBUSY, and the sleep and the next one are as they were.
TEST(Wakeup, OfAnUninterruptibleSleeperIsEbusyAndLeavesNothing) {
	subject s([](subject &self) {
		self.about_to_block();
		lwp::this_thread::sleep_for(std::chrono::milliseconds(20));
		self.set_result(park_for(std::chrono::microseconds(100)));
	});
	s.await_blocked();
	const int r = wakeup(s.lid());
	collect(s.lid());
	if (r != EBUSY) {
		GTEST_SKIP() << "no call of this version sleeps uninterruptibly";
	}
	EXPECT_EQ(s.result(), ETIMEDOUT);
}

TEST(Wakeup, DoesNotEndJoin) {
	std::atomic<bool> joined{false};
	lwp::thread inner([] { (void)park(); });
	subject joiner([&](subject &s) {
		s.about_to_block();
		inner.join();
		joined = true;
	});
	joiner.await_blocked();
	for (int i = 0; i < 20; ++i) {
		const int r = wakeup(joiner.lid());
		EXPECT_TRUE(r == 0 || r == EBUSY || r == ENODEV) << r;
		lwp_yield();
	}
	EXPECT_FALSE(joined);
	EXPECT_EQ(error_of(_lwp_unpark(inner.native_handle(), nullptr)), 0);
	collect(joiner.lid());
	EXPECT_TRUE(joined);
}

// Behaviour 25.
TEST(Kill, RangeIsCheckedFirst) {
	for (const int sig : {-1, 999, NSIG, INT32_MAX, INT32_MIN}) {
		EXPECT_EQ(send(_lwp_self(), sig), EINVAL) << sig;
		EXPECT_EQ(send(nobody, sig), EINVAL) << sig;
	}
}

// Behaviours 19 and 25.
TEST(Kill, UnknownOrZombieIsEsrch) {
	const lwpid_t zombie = make_zombie();
	for (const lwpid_t lid : {nobody, lwpid_t{0}, lwpid_t{-1}, INT32_MIN, zombie}) {
		EXPECT_EQ(send(lid, 0), ESRCH) << lid;
		EXPECT_EQ(send(lid, SIGUSR1), ESRCH) << lid;
		EXPECT_EQ(send(lid, SIGKILL), ESRCH) << lid;
	}
	collect(zombie);
	EXPECT_EQ(send(zombie, 0), ESRCH);
}

// Behaviour 25.
TEST(Kill, SignalZeroAsksWhetherItLives) {
	EXPECT_EQ(send(_lwp_self(), 0), 0);

	gate leave;
	const lwpid_t runnable = spawn([&leave] { leave.pass(); });
	EXPECT_EQ(send(runnable, 0), 0);
	leave.open();
	collect(runnable);

	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	EXPECT_EQ(send(parked.lid(), 0), 0);
	EXPECT_EQ(parked.result(), -1) << "it must not wake it";
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	collect(parked.lid());
	EXPECT_EQ(parked.result(), 0);

	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	EXPECT_EQ(send(suspended, 0), 0);
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(suspended);

	const lwpid_t detached = spawn([] {}, LWP_SUSPENDED | LWP_DETACHED);
	EXPECT_EQ(send(detached, 0), 0);
	EXPECT_EQ(error_of(_lwp_continue(detached)), 0);
	await_end(detached);
}
