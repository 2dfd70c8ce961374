// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_suspend() and _lwp_continue() by the state of their target.
// vcpus: 1 2 8
#include "../support/support.h"

#include <cstdlib>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int suspend(lwpid_t lid) { return error_of(_lwp_suspend(lid)); }
int resume(lwpid_t lid) { return error_of(_lwp_continue(lid)); }

/// Counts its turns and yields until told to stop.
struct spinner {
	explicit spinner(unsigned long flags = 0)
	    : lid(spawn(
	          [this] {
		          while (!stop.load()) {
			          turns.fetch_add(1);
			          lwp_yield();
		          }
	          },
	          flags)) {}
	void finish() {
		stop = true;
		collect(lid);
	}
	/// It has moved on since we asked.
	void await_turn() const {
		const std::size_t before = turns.load();
		EXPECT_TRUE(wait_until([&] { return turns.load() != before; })) << "it does not run";
	}
	/// It stands still, for as long as we can tell.
	void expect_still() const {
		const std::size_t before = turns.load();
		for (int i = 0; i < 200; ++i) {
			lwp_yield();
		}
		EXPECT_EQ(turns.load(), before);
	}
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	lwpid_t lid;
};

/// Computes without ever calling the library, on vCPU 1: LWP 1 lives on vCPU 0, and nothing preempts in this version.
struct computer {
	computer() {
		EXPECT_TRUE(wait_until([this] { return computing.load(); }));
	}
	void finish() {
		leave = true;
		thread.join();
	}
	std::atomic<bool> computing{false};
	std::atomic<bool> leave{false};
	lwp::thread thread{lwp::attributes{.vcpu = 1}, [this] {
		                   computing = true;
		                   while (!leave.load()) {
		                   }
	                   }};
	lwpid_t lid = thread.native_handle();
};

}  // namespace

// Behaviour 19.
TEST(Suspend, UnknownIsEsrch) {
	for (const lwpid_t lid : {nobody, lwpid_t{0}, lwpid_t{-1}, INT32_MIN}) {
		EXPECT_EQ(suspend(lid), ESRCH) << lid;
		EXPECT_EQ(resume(lid), ESRCH) << lid;
	}
}

// Behaviour 19.
TEST(Suspend, ZombieIsEsrch) {
	const lwpid_t lid = make_zombie();
	EXPECT_EQ(suspend(lid), ESRCH);
	EXPECT_EQ(resume(lid), ESRCH);
	collect(lid);
	EXPECT_EQ(suspend(lid), ESRCH);
	EXPECT_EQ(resume(lid), ESRCH);
}

TEST(Suspend, StopsARunnableOneUntilItIsContinued) {
	spinner target;
	target.await_turn();
	const std::size_t runnable = lwp::runtime::stats().runnable;
	EXPECT_EQ(suspend(target.lid), 0);
	EXPECT_EQ(lwp::runtime::stats().runnable, runnable - 1);
	target.expect_still();
	EXPECT_TRUE(alive(target.lid));
	EXPECT_EQ(resume(target.lid), 0);
	EXPECT_EQ(lwp::runtime::stats().runnable, runnable);
	target.await_turn();
	target.finish();
}

TEST(Suspend, OneThatNeverRanYetDoesNotRun) {
	std::atomic<bool> ran{false};
	const lwpid_t lid = spawn([&ran] { ran = true; });
	const int r = suspend(lid);
	if (r == 0 && !ran) {  // else it was quicker, on another vCPU
		for (int i = 0; i < 100; ++i) {
			lwp_yield();
		}
		EXPECT_FALSE(ran);
	}
	EXPECT_TRUE(r == 0 || r == ESRCH) << r;
	EXPECT_EQ(resume(lid), alive(lid) ? 0 : ESRCH);
	collect(lid);
	EXPECT_TRUE(ran);
}

// Behaviour 14 (Q5: the second one does not wait for some unrelated event).
TEST(Suspend, DoesNotNest) {
	spinner target;
	target.await_turn();
	EXPECT_EQ(suspend(target.lid), 0);
	EXPECT_EQ(suspend(target.lid), 0);
	EXPECT_EQ(suspend(target.lid), 0);
	target.expect_still();
	EXPECT_EQ(resume(target.lid), 0);
	target.await_turn();
	target.finish();
}

TEST(Suspend, ContinueOfOneThatIsNotSuspendedDoesNothing) {
	spinner target;
	for (int i = 0; i < 10; ++i) {
		EXPECT_EQ(resume(target.lid), 0);
		target.await_turn();
	}
	EXPECT_EQ(suspend(target.lid), 0) << "continues are not saved up";
	target.expect_still();
	EXPECT_EQ(resume(target.lid), 0);
	EXPECT_EQ(resume(_lwp_self()), 0);
	target.finish();

	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	EXPECT_EQ(resume(parked.lid()), 0);
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(parked.result(), -1) << "nor does it wake a sleeper";
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	collect(parked.lid());
}

// Behaviour 18.
TEST(Suspend, ParkedOneComesBackFromParkWhenContinued) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	EXPECT_EQ(suspend(target.lid()), 0);
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(target.result(), -1);
	EXPECT_EQ(resume(target.lid()), 0);
	collect(target.lid());
	EXPECT_EQ(target.result(), 0);
}

// An unpark that comes while it is suspended must not make it run; that it returns from park is for the continue to bring about.
TEST(Suspend, UnparkDoesNotContinueASuspendedOne) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	EXPECT_EQ(suspend(target.lid()), 0);
	EXPECT_EQ(error_of(_lwp_unpark(target.lid(), nullptr)), 0);
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(target.result(), -1);
	EXPECT_EQ(resume(target.lid()), 0);
	collect(target.lid());
	EXPECT_EQ(target.result(), 0);
}

// The deadline of a park passes while the LWP is suspended: it must not run for that.
TEST(Suspend, TimeoutDoesNotContinueASuspendedOne) {
	subject target([](subject &s) {
		s.about_to_block();
		s.set_result(park_for(std::chrono::milliseconds(5)));
	});
	target.await_blocked();
	const int r = suspend(target.lid());
	if (r == 0 && target.result() == -1) {
		(void)park_for(std::chrono::milliseconds(20));
		EXPECT_EQ(target.result(), -1);
	}
	EXPECT_EQ(resume(target.lid()), alive(target.lid()) ? 0 : ESRCH);
	collect(target.lid());
	EXPECT_TRUE(target.result() == 0 || target.result() == ETIMEDOUT) << target.result();
}

// Behaviour 17, as far as the public calls show it: sleep_for() is not cut short, suspended meanwhile or not.
TEST(Suspend, DoesNotShortenSleepFor) {
	using clock = std::chrono::steady_clock;
	const auto duration = std::chrono::milliseconds(30);
	std::atomic<bool> early{false};
	subject target([&](subject &s) {
		const auto begin = clock::now();
		s.about_to_block();
		lwp::this_thread::sleep_for(duration);
		early = clock::now() - begin < duration;
	});
	target.await_blocked();
	const int r = suspend(target.lid());
	EXPECT_TRUE(r == 0 || r == ESRCH) << r;
	(void)resume(target.lid());
	collect(target.lid());
	EXPECT_FALSE(early);
}

// Behaviour 16.
TEST(Suspend, OneselfWithNobodyElseIsEdeadlk) {
	EXPECT_EQ(suspend(_lwp_self()), EDEADLK);
	EXPECT_EQ(lwp::runtime::stats().runnable, 1U);
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	EXPECT_EQ(suspend(_lwp_self()), EDEADLK) << "the other one is suspended itself";
	EXPECT_EQ(resume(lid), 0);
	collect(lid);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(suspend(_lwp_self()), EDEADLK) << "the other one has ended";
	collect(zombie);
	collect(spawn([] {}));  // the refusal has left nothing behind
}

// Behaviour 16.
TEST(Suspend, OneselfUntilContinued) {
	subject target([](subject &s) {
		s.about_to_block();
		s.set_result(suspend(_lwp_self()));
	});
	target.await_blocked();
	EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().runnable == 1; })) << "it is not SUSPENDED";
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(target.result(), -1);
	EXPECT_EQ(suspend(target.lid()), 0);
	EXPECT_EQ(error_of(_lwp_unpark(target.lid(), nullptr)), 0) << "leaves a token, wakes nobody";
	EXPECT_EQ(error_of(_lwp_wakeup(target.lid())), ENODEV) << "SUSPENDED is no sleep";
	EXPECT_EQ(target.result(), -1);
	EXPECT_EQ(resume(target.lid()), 0);
	collect(target.lid());
	EXPECT_EQ(target.result(), 0);
}

TEST(Suspend, MainByAnother) {
	const lwpid_t boss = _lwp_self();
	std::atomic<int> suspended{-1};
	std::atomic<bool> continued{false};
	const lwpid_t helper = spawn([&] {
		suspended = suspend(boss);
		for (int i = 0; i < 50; ++i) {
			lwp_yield();
		}
		continued = true;
		EXPECT_EQ(resume(boss), 0);
	});
	EXPECT_TRUE(wait_until([&] { return suspended.load() != -1; }));
	EXPECT_TRUE(continued) << "main ran while it was suspended";
	EXPECT_EQ(suspended.load(), 0);
	collect(helper);
}

// Behaviour 15 (Q4): the target never calls the library, so the suspend cannot take effect; a continue must release the suspender.
TEST(Suspend, ContinueCancelsOneThatHasNotTakenEffect) {
	if (lwp::runtime::vcpus() < 2) {
		GTEST_SKIP() << "needs an LWP that computes while others run";
	}
	computer target;
	subject suspender([&target](subject &s) {
		s.about_to_block();
		s.set_result(suspend(target.lid));
	});
	suspender.await_blocked();
	EXPECT_EQ(suspender.result(), -1);
	EXPECT_EQ(resume(target.lid), 0);
	EXPECT_TRUE(wait_until([&] { return suspender.result() != -1; }));
	EXPECT_EQ(suspender.result(), 0);
	target.finish();
	collect(suspender.lid());
}

TEST(Suspend, WakeupOfTheSuspenderIsEintr) {
	if (lwp::runtime::vcpus() < 2) {
		GTEST_SKIP() << "needs an LWP that computes while others run";
	}
	computer target;
	subject suspender([&target](subject &s) {
		s.about_to_block();
		s.set_result(suspend(target.lid));
	});
	suspender.await_blocked();
	EXPECT_EQ(error_of(_lwp_wakeup(suspender.lid())), 0);
	collect(suspender.lid());
	EXPECT_EQ(suspender.result(), EINTR);
	EXPECT_EQ(resume(target.lid), 0);  // the suspend itself is still asked for
	target.finish();
}

// The target ends before it comes to the edge where it would stop.
TEST(Suspend, TargetThatEndsFirstIsEsrch) {
	if (lwp::runtime::vcpus() < 2) {
		GTEST_SKIP() << "needs an LWP that computes while others run";
	}
	computer target;
	subject suspender([&target](subject &s) {
		s.about_to_block();
		s.set_result(suspend(target.lid));
	});
	suspender.await_blocked();
	target.leave = true;
	collect(suspender.lid());
	EXPECT_EQ(suspender.result(), ESRCH);
	target.finish();
}

// Two that suspend each other: one of them stops, and whoever goes on can continue the other.
TEST(Suspend, EachOther) {
	for (std::size_t i = 0; i < rounds(200); ++i) {
		std::atomic<lwpid_t> ids[2] = {};
		std::atomic<int> done{0};
		gate go;
		auto body = [&](int other) {
			go.pass();
			const int r = suspend(ids[other].load());
			EXPECT_TRUE(r == 0 || r == ESRCH || r == EDEADLK) << r;
			done.fetch_add(1);
		};
		ids[0] = spawn([&body] { body(1); });
		ids[1] = spawn([&body] { body(0); });
		go.open();
		// We are neither of the two: whatever they did to each other, this ends it.
		EXPECT_TRUE(wait_until([&] {
			(void)resume(ids[0].load());
			(void)resume(ids[1].load());
			return done.load() == 2;
		}));
		EXPECT_TRUE(wait_until([&] {
			(void)resume(ids[0].load());
			(void)resume(ids[1].load());
			return !alive(ids[0].load()) && !alive(ids[1].load());
		}));
		collect(ids[0].load());
		collect(ids[1].load());
	}
}

namespace {

[[noreturn]] void exit_with_suspended_ones() {
	for (int i = 0; i < 10; ++i) {
		(void)spawn([] { std::_Exit(9); }, LWP_SUSPENDED);
	}
	std::exit(5);
}

}  // namespace

TEST(SuspendDeathTest, SuspendedLwpsDoNotHoldUpTheExitOfTheProcess) {
	EXPECT_EXIT(exit_with_suspended_ones(), testing::ExitedWithCode(5), "");
}
