// SPDX-License-Identifier: BSD-2-Clause
//
// The process ends while LWPs run, sleep, are suspended, stopped and being made; shut down; and dies with a snapshot.  Each in a child process.
// Behaviours 29 and 48, quirks Q8 and Q13; the proc's operations and return hooks, Q14.
// vcpus: 1 2 8
#include "../support/support.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/signal.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

constexpr unsigned grace = 60'000;  // nobody in these tests computes for ever: it never comes to that

void say(const char *what) {
	std::fputs(what, stderr);
	std::fflush(stderr);
}

std::atomic<int> destroyed{0};

/// One LWP of every kind; static, since the frame that makes them may be left.
struct everybody {
	everybody() {
		lids.reserve(8);  // LWPs read it while it grows
		static specificdata_key_t key;
		(void)lwp_specific_key_create(&key, [](void *) { destroyed.fetch_add(1); });
		auto mark = [] { lwp_setspecific(key, &destroyed); };
		(void)spawn([=] {
			mark();
			for (;;) {
				lwp_yield();
			}
		});
		lids.push_back(spawn([=] {
			mark();
			(void)park();
			std::_Exit(20);
		}));
		(void)spawn([this, mark] {
			mark();
			(void)_lwp_wait(lids[0], nullptr);
			std::_Exit(21);
		});
		(void)spawn([this] {
			(void)channel.receive();
			std::_Exit(22);
		});
		(void)spawn([] { std::_Exit(23); }, LWP_SUSPENDED);
		lids.push_back(spawn([] {
			for (;;) {
				lwp_yield();
			}
		}));
		(void)_lwp_suspend(lids[1]);
		(void)spawn([this] {
			const std::lock_guard lock(mutex);
			(void)park();
		});
		(void)spawn([] {
			for (;;) {  // being made, all the time
				(void)spawn([] { (void)park_for(1ms); }, LWP_DETACHED);
				lwp_yield();
			}
		});
		for (int i = 0; i < 50; i++) {
			lwp_yield();
		}
	}
	std::vector<lwpid_t> lids;
	lwp::channel<int> channel;
	lwp::mutex mutex;
};

[[noreturn]] void exit_with_everybody(bool by_main) {
	std::atexit([] { say("bye"); });
	[[maybe_unused]] static everybody &all = *new everybody;  // never destroyed: an LWP that is made to end owns its mutex
	if (by_main) {
		lwp_proc_exit(3, grace);
	}
	(void)spawn([] { lwp_proc_exit(3, grace); });
	for (;;) {
		(void)park();
	}
}

[[noreturn]] void exit_from_a_stopped_proc() {
	[[maybe_unused]] static everybody &all = *new everybody;  // never destroyed: an LWP that is made to end owns its mutex
	(void)spawn([] {
		const lwp::stop_the_world world;  // held when the process ends, by an LWP that ends it
		lwp_proc_exit(4, grace);
	});
	for (;;) {
		lwp_yield();
	}
}

[[noreturn]] void exit_twice() {
	for (int i = 0; i < 4; i++) {
		(void)spawn([] { lwp_proc_exit(5, grace); });
	}
	for (;;) {
		lwp_yield();
	}
}

/// Procs with every kind of LWP, a stopped one, a zombie and an orphan.
[[noreturn]] void exit_with_procs() {
	static lwp::proc crowd([] {
		[[maybe_unused]] static everybody &all = *new everybody;
		(void)park_for(std::chrono::hours(1));
	});
	static lwp::proc stopped([] {
		for (;;) {
			lwp_yield();
		}
	});
	stopped.stop();
	static lwp::proc ended([] {});
	lwp::proc([] {
		for (;;) {
			(void)park();
		}
	}).detach();
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	lwp_proc_exit(8, grace);
}

/// The first proc is the process, and its last LWP ends it, whatever others do.
[[noreturn]] void leave_with_procs() {
	static lwp::proc other([] {
		for (;;) {
			lwp_yield();
		}
	});
	(void)spawn([] { (void)park_for(1ms); });
	_lwp_exit();
}

/// exit(3) in any proc is the process's.
[[noreturn]] void exit_in_another_proc() {
	static lwp::proc other([] { std::exit(9); });
	for (;;) {
		lwp_yield();
	}
}

[[noreturn]] void exit_although_one_computes() {
	static std::atomic<bool> computing{false};
	static lwp::thread computer{lwp::attributes{.vcpu = 1, .detached = true}, [] {
		                            computing = true;
		                            for (;;) {
			                            asm volatile("");
		                            }
	                            }};
	while (!computing.load()) {
		lwp_yield();
	}
	lwp_proc_exit(6, 50);
}

[[noreturn]] void shut_down() {
	[[maybe_unused]] static everybody &all = *new everybody;  // never destroyed: an LWP that is made to end owns its mutex
	static std::atomic<std::size_t> turns{0};
	const lwpid_t runner = spawn([] {
		for (;;) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	if (lwp_proc_shutdown(grace) != 0) {
		std::_Exit(30);
	}
	const std::size_t there = turns.load();
	(void)_lwp_continue(runner);
	(void)spawn([] { std::_Exit(31); });
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	std::_Exit(turns.load() == there ? 7 : 32);
}

[[noreturn]] void die_with_a_snapshot() {
	[[maybe_unused]] static everybody &all = *new everybody;  // never destroyed: an LWP that is made to end owns its mutex
	subject sleeper([](subject &s) { s.park_once(); });
	(void)_lwp_setname(sleeper.lid(), "sleeper");
	sleeper.await_blocked();
	lwp_proc_abort(SIGQUIT);
}

[[noreturn]] void die_of_a_signal_that_dumps() {
	subject sleeper([](subject &s) { s.park_once(); });
	(void)_lwp_setname(sleeper.lid(), "sleeper");
	sleeper.await_blocked();
	(void)_lwp_kill(sleeper.lid(), SIGXCPU);
	for (;;) {
		(void)park();
	}
}

}  // namespace

// Behaviour 29, quirk Q8.
TEST(ProcExitDeathTest, WithEveryKindOfLwp) {
	EXPECT_EXIT(exit_with_everybody(true), testing::ExitedWithCode(3), "bye");
	EXPECT_EXIT(exit_with_everybody(false), testing::ExitedWithCode(3), "bye");
}

TEST(ProcExitDeathTest, FromAStoppedWorld) { EXPECT_EXIT(exit_from_a_stopped_proc(), testing::ExitedWithCode(4), ""); }

TEST(ProcExitDeathTest, OneOfSeveralCoordinates) { EXPECT_EXIT(exit_twice(), testing::ExitedWithCode(5), ""); }

TEST(ProcExitDeathTest, WithOtherProcs) {
	EXPECT_EXIT(exit_with_procs(), testing::ExitedWithCode(8), "");
	EXPECT_EXIT(leave_with_procs(), testing::ExitedWithCode(0), "");
	EXPECT_EXIT(exit_in_another_proc(), testing::ExitedWithCode(9), "");
}

TEST(ProcExitDeathTest, WhoNeverComesIsLeftAlone) {
	if (lwp::runtime::vcpus() < 2) {
		GTEST_SKIP() << "needs an LWP that computes while others run";
	}
	EXPECT_EXIT(exit_although_one_computes(), testing::ExitedWithCode(6), "");
}

// Quirk Q13: suspended for good, no LWP spins at its boundary, and nobody continues it.
TEST(ProcExitDeathTest, ShutDown) { EXPECT_EXIT(shut_down(), testing::ExitedWithCode(7), ""); }

// Behaviour 48.
TEST(ProcExitDeathTest, Snapshot) {
	EXPECT_EXIT(die_with_a_snapshot(), testing::KilledBySignal(SIGQUIT), "LWP [0-9]+ 'sleeper' LSSTOP, waits for park .*parked");
	EXPECT_EXIT(die_with_a_snapshot(), testing::KilledBySignal(SIGQUIT), "LWP [0-9]+ '' LSSUSPENDED");
	EXPECT_EXIT(die_with_a_snapshot(), testing::KilledBySignal(SIGQUIT), "LSONPROC\n      [^\n]*\\(api_proc_exit\\+");
	EXPECT_EXIT(die_of_a_signal_that_dumps(), testing::KilledBySignal(SIGXCPU), "'sleeper'");
}

// Quirk Q14: a hook is one LWP's, is called once, and where that LWP leaves its call; a sleeper comes for it and sleeps on.
TEST(ReturnHook, IsCalledOnceInItsLwp) {
	static std::atomic<int> calls{0};
	static std::atomic<lwpid_t> by{0};
	calls = 0;
	auto hook = [](void *arg) {
		by = _lwp_self();
		calls.fetch_add(*static_cast<int *>(arg));
	};
	int one = 1;
	EXPECT_EQ(error_of(lwp_need_userret(0, hook, &one)), 0);
	EXPECT_EQ(calls.load(), 1);
	EXPECT_EQ(by.load(), _lwp_self());

	lwp::channel<int> channel;
	subject receives([&](subject &s) {
		s.about_to_block();
		s.set_result(channel.receive().value_or(-1));
	});
	receives.await_blocked();
	EXPECT_EQ(error_of(lwp_need_userret(receives.lid(), hook, &one)), 0);
	EXPECT_TRUE(wait_until([] { return calls.load() == 2; }));
	EXPECT_EQ(by.load(), receives.lid());
	receives.await_blocked();
	channel.send(9);
	collect(receives.lid());
	EXPECT_EQ(receives.result(), 9);

	const lwpid_t suspended = spawn([] { EXPECT_EQ(calls.load(), 3) << "before anything else"; }, LWP_SUSPENDED);
	EXPECT_EQ(error_of(lwp_need_userret(suspended, hook, &one)), 0);
	EXPECT_EQ(error_of(lwp_need_userret(suspended, hook, &one)), EBUSY);
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(suspended);
	EXPECT_EQ(calls.load(), 3);
	EXPECT_EQ(error_of(lwp_need_userret(nobody, hook, &one)), ESRCH);
	EXPECT_EQ(error_of(lwp_need_userret(0, nullptr, &one)), EINVAL);
}

TEST(ProcOps, AreCalledAroundALife) {
	static std::atomic<int> births{0};
	static std::atomic<int> deaths{0};
	static std::atomic<lwpid_t> last_parent{0};
	births = 0;
	deaths = 0;
	static const lwp_proc_ops ops = {[](lwpid_t parent, lwpid_t) {
		                                 last_parent = parent;
		                                 births.fetch_add(1);
	                                 },
	    [](lwpid_t lid) {
		    EXPECT_EQ(lid, _lwp_self());
		    lwp_yield();
		    deaths.fetch_add(1);
	    }};
	EXPECT_EQ(lwp_proc_setops(&ops), 0);
	for (int i = 0; i < 10; i++) {
		collect(spawn([] {}));
		lwp::thread([] {}).join();
	}
	EXPECT_EQ(lwp_proc_setops(nullptr), 0);
	EXPECT_EQ(births.load(), 20);
	EXPECT_EQ(deaths.load(), 20);
	EXPECT_EQ(last_parent.load(), _lwp_self());
	collect(spawn([] {}));
	EXPECT_EQ(births.load(), 20);
}
