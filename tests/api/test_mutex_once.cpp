// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.once], clause by clause, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/mutex.hpp>

#include "../support/support.h"

#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

static_assert(std::is_nothrow_default_constructible_v<lwp::once_flag> && !std::is_copy_constructible_v<lwp::once_flag> &&
    !std::is_copy_assignable_v<lwp::once_flag> && !std::is_move_constructible_v<lwp::once_flag>);

constinit lwp::once_flag constant_flag;

struct only_movable {
	std::unique_ptr<int> value;
};
struct counter {
	int calls = 0;
	void add(int n) { calls += n; }
};

}  // namespace

TEST(Once, RunsOnce) {
	int calls = 0;
	for (int i = 0; i < 3; i++) {
		lwp::call_once(constant_flag, [&] { calls++; });
	}
	EXPECT_EQ(calls, 1);
}

// INVOKE(std::forward<Callable>(func), std::forward<Args>(args)...): members, references, what can only be moved; no copies.
TEST(Once, Invokes) {
	lwp::once_flag a;
	lwp::once_flag b;
	lwp::once_flag c;
	counter count;
	lwp::call_once(a, &counter::add, count, 3);
	EXPECT_EQ(count.calls, 3);
	int got = 0;
	only_movable argument{std::make_unique<int>(7)};
	lwp::call_once(
	    b, [&](only_movable &&m) { got = *m.value; }, std::move(argument));
	EXPECT_EQ(got, 7);
	lwp::call_once(
	    c, [](int &n) { n = 9; }, got);
	EXPECT_EQ(got, 9);
	lwp::call_once(
	    c, [](only_movable &&) { ADD_FAILURE(); }, std::move(argument));
}

// "If an exceptional execution, the exception is propagated to the caller"; then the next one is tried.
TEST(Once, ExceptionGoesToItsCallerAndTheNextTries) {
	lwp::once_flag flag;
	int calls = 0;
	for (int i = 0; i < 3; i++) {
		EXPECT_THROW(lwp::call_once(flag,
		                 [&] {
			                 calls++;
			                 throw i;
		                 }),
		    int);
	}
	lwp::call_once(flag, [&] { calls++; });
	lwp::call_once(flag, [&] { calls++; });
	EXPECT_EQ(calls, 4);
}

// The completion of an exceptional execution happens before the start of the next; passive ones wait, and one of them becomes active.
TEST(Once, OfThoseThatWaitTheNextTriesWhenOneFails) {
	lwp::once_flag flag;
	std::atomic<int> running{0};
	int calls = 0;  // one at a time
	std::atomic<int> thrown{0};
	std::atomic<int> returned{0};
	const auto work = [&] {
		try {
			lwp::call_once(flag, [&] {
				EXPECT_EQ(running.fetch_add(1), 0);
				lwp_yield();
				const int turn = ++calls;
				lwp_yield();
				running--;
				if (turn < 20) {
					throw turn;
				}
			});
			EXPECT_EQ(calls, 20) << "returned before it was done";
			returned++;
		} catch (int) {
			thrown++;
		}
	};
	std::vector<lwp::thread> lwps;
	std::vector<std::thread> kernel_threads;
	for (int i = 0; i < 40; i++) {
		lwps.emplace_back(work);
	}
	for (int i = 0; i < 3; i++) {
		kernel_threads.emplace_back(work);
	}
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : kernel_threads) {
		t.join();
	}
	EXPECT_EQ(thrown, 19);
	EXPECT_EQ(returned, 43 - 19);
}

TEST(Once, CalledByTheFunctionItRunsIsAnError) {
	lwp::once_flag flag;
	int calls = 0;
	lwp::call_once(flag, [&] {
		calls++;
		try {
			lwp::call_once(flag, [&] { calls++; });
			ADD_FAILURE() << "no exception";
		} catch (const std::system_error &e) {
			EXPECT_EQ(e.code(), std::errc::resource_deadlock_would_occur);
		}
		lwp::once_flag other;
		lwp::call_once(other, [&] { calls++; });
	});
	EXPECT_EQ(calls, 2);
}

TEST(Once, HundredThousandLwps) {
	const std::size_t n = LWP_TEST_TSAN ? 1000 : LWP_TEST_ASAN ? 5000 : 100'000;
	lwp::once_flag flag;
	int plain = 0;
	std::atomic<std::size_t> through{0};
	std::atomic<std::size_t> there{0};
	std::vector<lwp::thread> lwps;
	for (std::size_t i = 0; i < n; i++) {
		lwps.emplace_back(lwp::attributes{.stack_size = 32 * 1024}, [&] {
			there++;
			lwp::call_once(flag, [&] {
				EXPECT_TRUE(wait_until([&] { return there == n; }));
				plain++;
			});
			through += plain == 1 ? 1 : 0;
		});
	}
	for (auto &t : lwps) {
		t.join();
	}
	EXPECT_EQ(through, n);
}

// A waiter that is suspended while the function runs or ends must not keep the news from the others.
TEST(Once, SuspendedWaiters) {
	for (std::size_t round = 0; round < rounds(200); round++) {
		lwp::once_flag flag;
		std::atomic<bool> finish{false};
		std::atomic<int> through{0};
		subject runner([&](subject &) {
			lwp::call_once(flag, [&] {
				while (!finish) {
					lwp_yield();
				}
			});
		});
		std::vector<std::unique_ptr<subject>> waiters;
		while (runner.control() == nullptr) {
			lwp_yield();
		}
		for (int i = 0; i < 12; i++) {
			waiters.push_back(std::make_unique<subject>([&](subject &s) {
				s.about_to_block();
				lwp::call_once(flag, [] {});
				through++;
			}));
			waiters.back()->await_blocked();
		}
		if (round % 2 == 0) {
			EXPECT_EQ(error_of(_lwp_suspend(waiters[0]->lid())), 0);
			EXPECT_EQ(error_of(_lwp_wakeup(waiters[2]->lid())), 0);
			finish = true;
		} else {
			finish = true;
			while (_lwp_suspend(waiters[0]->lid()) != 0 && get_errno() == EINTR) {
			}
		}
		EXPECT_TRUE(wait_until([&] { return through >= 11; })) << through;
		(void)_lwp_continue(waiters[0]->lid());
		for (auto &w : waiters) {
			collect(w->lid());
		}
		collect(runner.lid());
		EXPECT_EQ(through, 12);
	}
}

// Whoever is through last frees it.
TEST(Once, MayBeDestroyedByTheLastThatIsThrough) {
	struct object {
		lwp::once_flag flag;
		std::atomic<int> users{3};
	};
	for (std::size_t i = 0; i < rounds(3000); i++) {
		auto *o = new object;
		const auto use = [o] {
			lwp::call_once(o->flag, [] { lwp_yield(); });
			if (o->users.fetch_sub(1) == 1) {
				delete o;
			}
		};
		lwp::thread a(use);
		lwp::thread b(use);
		use();
		a.join();
		b.join();
	}
}

// Woken to try in the place of one that failed, and suspended before it has looked: it must not go away with the others asleep behind it.
TEST(Once, WaiterThatIsSuspendedAsItIsWokenLetsTheOthersThrough) {
	lwp::once_flag flag;
	gate all_wait;
	std::atomic<int> calls{0};
	const auto function = [&] {
		if (calls++ == 0) {
			all_wait.pass();
			throw 1;
		}
	};
	const auto wait = [&](subject &s) {
		s.about_to_block();
		lwp::call_once(flag, function);
		s.set_result(0);
	};
	std::atomic<lwpid_t> next{0};
	lwp::thread first([&] {
		EXPECT_THROW(lwp::call_once(flag, function), int);
		(void)_lwp_suspend(next);  // on one vCPU: woken, not run since.  Elsewhere it may be through.
	});
	EXPECT_TRUE(wait_until([&] { return calls == 1; }));
	subject second(wait);
	second.await_blocked();
	next = second.lid();
	subject third(wait);
	third.await_blocked();
	all_wait.open();
	EXPECT_TRUE(wait_until([&] { return third.result() == 0; }));
	first.join();
	(void)_lwp_continue(second.lid());
	collect(second.lid());
	collect(third.lid());
	EXPECT_EQ(calls, 2);
}
