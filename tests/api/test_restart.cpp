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
#include <system_error>
#include <thread>
#include <vector>

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

// A kernel thread that was adopted by the first runtime lives on through runtimes with more and with fewer vCPUs: it keeps its id, is found by
// it, makes LWPs and collects them.
TEST(Restart, KernelThreadFromOutsideLivesThroughRuntimesOfAnySize) {
	std::atomic<lwpid_t> outside{0};
	std::atomic<int> turn{0};
	std::atomic<int> done{0};
	std::thread thread;
	const auto life = [&] {
		outside = _lwp_self();
		for (int n = 1; n <= 5; n++) {
			while (turn.load() != n) {
				sched_yield();
			}
			EXPECT_EQ(_lwp_self(), outside.load());
			std::vector<lwpid_t> ids(1, n > 1 ? 0 : outside.load());
			for (int i = 0; i < 20; i++) {
				lwp::thread child([] { lwp_yield(); });
				EXPECT_GT(child.native_handle(), ids.back());
				ids.push_back(child.native_handle());
				child.join();
			}
			// EALREADY: of the unparks of the turn before one came late
			EXPECT_TRUE(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr) == 0 || errno == EALREADY);
			done = n;
		}
		while (turn.load() != 6) {
			sched_yield();
		}
	};
	int n = 0;
	for (const unsigned vcpus : {1U, 8U, 2U, 3U, 4U}) {
		const lwp::runtime rt({.vcpus = vcpus});
		if (n == 0) {
			thread = std::thread(life);
			while (outside.load() == 0) {
				sched_yield();
			}
		}
		turn = ++n;
		lwp::thread([vcpus] {
			for (unsigned v = 0; v < vcpus; v++) {
				lwp::thread({.vcpu = static_cast<int>(v)}, [] { create_and_join(10); }).join();
			}
		}).join();
		EXPECT_EQ(_lwp_kill(outside.load(), 0), 0);
		EXPECT_EQ(_lwp_setname(outside.load(), "outside"), 0);
		while (done.load() != n) {
			EXPECT_EQ(_lwp_unpark(outside.load(), nullptr), 0);
			lwp_yield();
		}
		EXPECT_EQ(lwp::runtime::stats().lwps, 2U);
		EXPECT_EQ(lwp::runtime::stats().detached, 1U);
		if (n == 5) {
			turn = 6;
			thread.join();
			EXPECT_EQ(_lwp_kill(outside.load(), 0), -1);
			EXPECT_EQ(errno, ESRCH);
		}
	}
}

// Creators on several vCPUs meet one limit, and what one gives back another may have.
TEST(Restart, LimitOfLwpsIsExactWhereverTheyAreMade) {
	constexpr std::size_t most = 37;
	for (const unsigned vcpus : {1U, 2U, 8U}) {
		const lwp::runtime rt({.vcpus = vcpus, .max_lwps = most});
		for (int round = 0; round < 20; round++) {
			std::atomic<bool> begin{false};
			std::atomic<bool> over{false};
			std::atomic<std::size_t> made{0};
			std::atomic<unsigned> refused{0};
			std::vector<lwp::thread> creators;
			for (unsigned v = 0; v < vcpus; v++) {
				creators.emplace_back(lwp::attributes{.vcpu = static_cast<int>(v)}, [&] {
					std::vector<lwp::thread> threads;
					while (!begin.load()) {
						lwp_yield();
					}
					try {
						for (;;) {
							threads.emplace_back([&over] {
								while (!over.load()) {
									lwp_yield();
								}
							});
							made++;
							lwp_yield();
						}
					} catch (const std::system_error &e) {
						EXPECT_EQ(e.code().value(), EAGAIN);
						refused++;
					}
					while (!over.load()) {
						lwp_yield();
					}
					for (lwp::thread &t : threads) {
						t.join();
					}
				});
			}
			begin = true;
			while (refused.load() != vcpus) {
				lwp_yield();
			}
			EXPECT_EQ(made.load(), most - 1 - vcpus);
			EXPECT_EQ(lwp::runtime::stats().lwps, most);
			over = true;
			for (lwp::thread &t : creators) {
				t.join();
			}
			EXPECT_EQ(lwp::runtime::stats().lwps, 1U);
		}
	}
}

TEST(RestartDeathTest, EndOfTheLastLwpIsNotTheEndOfAProcessWhoseMainThreadIsNone) {
	EXPECT_EXIT(others_come_and_go(), testing::ExitedWithCode(3), "");
}
