// SPDX-License-Identifier: BSD-2-Clause
//
// How an LWP ends, and how the process does: each of the latter in a child process that is started afresh.
// vcpus: 1 2 8
#include "../support/support.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

std::atomic<int> destroyed{0};

struct frame {
	frame() = default;
	frame(const frame &) = delete;
	frame &operator=(const frame &) = delete;
	~frame() { destroyed.fetch_add(1); }
};

__attribute__((noinline)) void exit_from_depth(int depth) {
	frame f;
	if (depth > 0) {
		exit_from_depth(depth - 1);
	} else if (depth == 0) {
		_lwp_exit();
	}
	destroyed.fetch_add(1);
}

// For children: says what happened on standard error, where the death test looks.
void say(const char *what) {
	std::fputs(what, stderr);
	std::fflush(stderr);
}

void say_bye() { say("bye"); }

}  // namespace

TEST(Exit, FromNestedFramesUnwindsNothing) {
	destroyed = 0;
	const lwpid_t lid = spawn([] {
		exit_from_depth(5);
		ADD_FAILURE() << "_lwp_exit() returned";
	});
	collect(lid);
	EXPECT_EQ(destroyed.load(), 0);
}

TEST(Exit, ByReturning) {
	destroyed = 0;
	collect(spawn([] { frame f; }));
	EXPECT_EQ(destroyed.load(), 1);
}

TEST(Exit, UndetachedOneKeepsItsIdUntilItIsCollected) {
	const lwpid_t lid = make_zombie();
	EXPECT_EQ(lwp::runtime::stats().zombies, 1U);
	for (int i = 0; i < 100; ++i) {
		const lwpid_t other = make_zombie();
		EXPECT_NE(other, lid);
		collect(other);
	}
	collect(lid);
}

TEST(Exit, DetachedOneIsReclaimedAtOnce) {
	const lwpid_t lid = spawn([] { _lwp_exit(); }, LWP_DETACHED);
	await_end(lid);
	EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().lwps == 1; }));
	EXPECT_EQ(lwp::runtime::stats().zombies, 0U);
}

// The call that looks an LWP up while it ends either still finds it or does not; it never comes upon something half gone.
TEST(Exit, RacesWithCallsThatNameIt) {
	for (std::size_t i = 0; i < rounds(2000); ++i) {
		const lwpid_t lid = spawn([] { lwp_yield(); }, LWP_DETACHED);
		char name[LWP_MAXNAME];
		while (alive(lid)) {
			int r = error_of(_lwp_setname(lid, "racer"));
			ASSERT_TRUE(r == 0 || r == ESRCH) << r;
			r = error_of(_lwp_getname(lid, name, sizeof(name)));
			ASSERT_TRUE(r == 0 || r == ESRCH) << r;
			r = error_of(_lwp_unpark(lid, nullptr));
			ASSERT_TRUE(r == 0 || r == ESRCH) << r;
			r = error_of(_lwp_continue(lid));
			ASSERT_TRUE(r == 0 || r == ESRCH) << r;
			lwp_yield();
		}
	}
}

namespace {

// Behaviour 29.
[[noreturn]] void last_lwp_exits() {
	std::atexit(say_bye);
	_lwp_exit();
}

[[noreturn]] void main_exits_before_the_others() {
	std::atexit(say_bye);
	for (int i = 0; i < 5; ++i) {
		(void)spawn(
		    [i] {
			    lwp::this_thread::sleep_for(std::chrono::milliseconds(i));
			    say(".");
		    },
		    i % 2 == 0 ? LWP_DETACHED : 0);
	}
	_lwp_exit();
}

[[noreturn]] void other_lwp_chooses_the_status_after_main_exited() {
	(void)spawn([] {
		lwp::this_thread::sleep_for(1ms);
		std::exit(3);
	});
	_lwp_exit();
}

// The id of main is collected by another, as any LWP's.
[[noreturn]] void main_is_collected() {
	const lwpid_t boss = _lwp_self();
	(void)spawn([boss] {
		lwpid_t departed = 0;
		const int r = error_of(_lwp_wait(boss, &departed));
		say(r == 0 && departed == boss && _lwp_kill(boss, 0) == -1 ? "collected" : "not collected");
	});
	_lwp_exit();
}

// Behaviour 29: others run, are ready, park, sleep, wait, are suspended, have ended, and are being made.
[[noreturn]] void exit_while_others_do_everything(int status, bool from_main) {
	static std::atomic<bool> spinning{false};
	static subject parked([](subject &s) { s.park_once(); });
	(void)spawn([] { lwp::this_thread::sleep_for(1h); });
	(void)spawn([] { (void)_lwp_wait(parked.lid(), nullptr); });
	(void)spawn([] {}, LWP_SUSPENDED);
	(void)spawn([] { (void)_lwp_suspend(_lwp_self()); });
	(void)make_zombie();
	for (int i = 0; i < 3; ++i) {
		(void)spawn([] {
			for (;;) {
				spinning = true;
				lwp_yield();
			}
		});
	}
	(void)spawn([] {
		for (;;) {
			collect(spawn([] {}));
		}
	});
	parked.await_blocked();
	(void)wait_until([] { return spinning.load(); });
	if (from_main) {
		std::exit(status);
	}
	(void)spawn([status] { std::exit(status); });
	(void)park();
	std::_Exit(99);
}

[[noreturn]] void compute_for_ever_and_exit() {
	if (lwp::runtime::vcpus() < 2) {
		std::exit(4);
	}
	static std::atomic<bool> computing{false};
	lwp::thread({.vcpu = 1, .detached = true}, [] {
		for (;;) {
			computing.store(true);
		}
	});
	(void)wait_until([] { return computing.load(); });
	std::exit(4);
}

// What the last LWP leaves in standard I/O's buffers and in its specific data is not lost.
[[noreturn]] void last_lwp_has_specific_data() {
	static lwp_tss_t key;
	(void)lwp_tss_create(&key, [](void *text) { say(static_cast<const char *>(text)); });
	static char text[] = "destroyed";
	(void)lwp_tss_set(key, text);
	_lwp_exit();
}

}  // namespace

TEST(ExitDeathTest, OfTheLastLwpEndsTheProcessWithStatusZero) { EXPECT_EXIT(last_lwp_exits(), testing::ExitedWithCode(0), "bye"); }
TEST(ExitDeathTest, OfMainLeavesTheOthersRunning) {
	EXPECT_EXIT(main_exits_before_the_others(), testing::ExitedWithCode(0), "\\.\\.\\.\\.\\.bye");
}
TEST(ExitDeathTest, StatusIsThatOfWhoeverCallsExit) {
	EXPECT_EXIT(other_lwp_chooses_the_status_after_main_exited(), testing::ExitedWithCode(3), "");
}
TEST(ExitDeathTest, MainIsAnLwpLikeAnyOther) { EXPECT_EXIT(main_is_collected(), testing::ExitedWithCode(0), "^collected"); }
TEST(ExitDeathTest, ProcessEndsWhateverTheOthersDo) {
	EXPECT_EXIT(exit_while_others_do_everything(5, true), testing::ExitedWithCode(5), "");
	EXPECT_EXIT(exit_while_others_do_everything(6, false), testing::ExitedWithCode(6), "");
}
TEST(ExitDeathTest, ProcessEndsThoughAnotherComputes) { EXPECT_EXIT(compute_for_ever_and_exit(), testing::ExitedWithCode(4), ""); }
TEST(ExitDeathTest, SpecificDataOfTheLastLwpIsDestroyed) {
	EXPECT_EXIT(last_lwp_has_specific_data(), testing::ExitedWithCode(0), "destroyed");
}
