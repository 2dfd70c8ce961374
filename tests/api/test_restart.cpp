// SPDX-License-Identifier: BSD-2-Clause
//
// What one runtime leaves to the next, and to a process whose main thread is no LWP: nothing.
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sched.h>
#include <thread>

namespace {

void create_and_join(int n) {
	for (int i = 0; i < n; i++) {
		lwp::thread([] {}).join();
	}
}

std::size_t stacks() {
	const lwp::runtime_stats s = lwp::runtime::stats();
	return s.stacks_in_use + s.stacks_cached;
}

// A thread that is not main's starts the default runtime and ends; so does the LWP that it made.  Neither is the end of the process.
[[noreturn]] void others_come_and_go() {
	std::thread([] { (void)_lwp_self(); }).join();
	std::thread([] { lwp::thread({.detached = true}, [] {}); }).join();
	while (lwp::runtime::stats().lwps != 0) {
		sched_yield();
	}
	std::_Exit(3);
}

}  // namespace

// The structs of the first runtime's LWP 1 and idle LWPs stood on kernel threads' stacks.  In their next lives they have stacks of their own.
TEST(Restart, StructThatWasAdoptedKeepsTheStacksOfItsNextLives) {
	for (int i = 0; i < 3; i++) {
		const lwp::runtime rt({.vcpus = 2});
	}
	const lwp::runtime rt({.vcpus = 1});
	create_and_join(100);
	const std::size_t before = stacks();
	create_and_join(1000);
	EXPECT_EQ(stacks(), before);
}

TEST(Restart, DetachedFirstLwpIsNotCountedAfterItsEnd) {
	{
		const lwp::runtime rt({.vcpus = 1});
		EXPECT_EQ(_lwp_detach(_lwp_self()), 0);
		EXPECT_EQ(lwp::runtime::stats().detached, 1U);
	}
	const lwp::runtime rt({.vcpus = 1});
	EXPECT_EQ(lwp::runtime::stats().detached, 0U);
	ucontext_t context;
	lwpid_t child = 0;
	_lwp_makecontext(
	    &context, [](void *) {}, nullptr, nullptr, nullptr, 0);
	ASSERT_EQ(_lwp_create(&context, 0, &child), 0);
	lwpid_t departed = 0;
	EXPECT_EQ(_lwp_wait(0, &departed), 0) << "an undetached LWP was there";
	EXPECT_EQ(departed, child);
}

// The waiter is a kernel thread, which the end of the runtime does not wait for.
TEST(Restart, WaitForTheFirstLwpEndsWithItsRuntime) {
	std::thread waiter;
	std::atomic<int> result{-1};
	{
		const lwp::runtime rt({.vcpus = 1});
		const lwpid_t first = _lwp_self();
		waiter = std::thread([&result, first] { result = _lwp_wait(first, nullptr) == 0 ? 0 : errno; });
		while (lwp::runtime::stats().waiting == 0) {
			lwp_yield();
		}
	}
	waiter.join();
	EXPECT_EQ(result.load(), ESRCH);
}

TEST(RestartDeathTest, EndOfTheLastLwpIsNotTheEndOfAProcessWhoseMainThreadIsNone) {
	EXPECT_EXIT(others_come_and_go(), testing::ExitedWithCode(3), "");
}
