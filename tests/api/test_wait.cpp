// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_wait(): who is collected by whom, and every way in which waiting is refused.
// vcpus: 1 2 8
#include "../support/support.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int wait_for(lwpid_t lid, lwpid_t *departed = nullptr) { return error_of(_lwp_wait(lid, departed)); }

/// An LWP that waits for what `target` holds by then and stores the outcome.
struct waiter {
	explicit waiter(std::atomic<lwpid_t> &target, unsigned long flags = 0)
	    : s(
	          [this, &target](subject &self) {
		          self.about_to_block();
		          const int r = wait_for(target.load(), &departed);
		          self.set_result(r);
	          },
	          flags) {}
	lwpid_t departed = 0;
	subject s;
};

void unpark(const subject &s) { EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0); }

}  // namespace

TEST(Wait, CollectsAZombieAtOnce) {
	const lwpid_t lid = make_zombie();
	EXPECT_EQ(lwp::runtime::stats().zombies, 1U);
	collect(lid);
	EXPECT_EQ(lwp::runtime::stats().zombies, 0U);
	EXPECT_EQ(wait_for(lid), ESRCH) << "collected twice";
}

TEST(Wait, BlocksUntilTheTargetEnds) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	waiter w(lid);
	w.s.await_blocked();
	EXPECT_EQ(lwp::runtime::stats().waiting, 1U);
	EXPECT_EQ(w.s.result(), -1);
	unpark(target);
	collect(w.s.lid());
	EXPECT_EQ(w.s.result(), 0);
	EXPECT_EQ(w.departed, target.lid());
}

TEST(Wait, DepartedMayBeNull) {
	EXPECT_EQ(wait_for(make_zombie(), nullptr), 0);
	(void)make_zombie();
	EXPECT_EQ(wait_for(0, nullptr), 0);
}

TEST(Wait, AnyTakesEachOnce) {
	std::vector<lwpid_t> made;
	for (int i = 0; i < 50; ++i) {
		made.push_back(spawn([i] {
			for (int n = 0; n < i % 7; ++n) {
				lwp_yield();
			}
		}));
	}
	std::vector<lwpid_t> got(made.size());
	for (lwpid_t &lid : got) {
		ASSERT_EQ(wait_for(0, &lid), 0);
	}
	std::sort(got.begin(), got.end());
	EXPECT_EQ(got, made);
	EXPECT_EQ(wait_for(0), ESRCH);
}

// Behaviour 1.
TEST(Wait, ForOneselfIsEdeadlk) {
	EXPECT_EQ(wait_for(_lwp_self()), EDEADLK);
	std::atomic<int> result{-1};
	collect(spawn([&result] { result = wait_for(_lwp_self()); }));
	EXPECT_EQ(result.load(), EDEADLK);
}

// Behaviour 4.
TEST(Wait, WithNobodyThereIsEsrch) {
	EXPECT_EQ(wait_for(0), ESRCH);
	EXPECT_EQ(wait_for(nobody), ESRCH);
	EXPECT_EQ(wait_for(-1), ESRCH);
	EXPECT_EQ(wait_for(INT32_MIN), ESRCH);
}

// Behaviour 4.
TEST(Wait, ForADetachedOneIsEsrch) {
	subject target([](subject &s) { s.park_once(); }, LWP_DETACHED);
	target.await_blocked();
	EXPECT_EQ(wait_for(target.lid()), ESRCH);
	EXPECT_EQ(wait_for(0), ESRCH) << "nor does it count as any";
	unpark(target);
	await_end(target.lid());
}

// Behaviour 2.
TEST(Wait, MutualWaitRefusesTheSecond) {
	std::atomic<lwpid_t> a_waits_for{0};
	int second = -1;
	std::atomic<lwpid_t> a_id{0};
	gate go;
	subject b([&](subject &) {
		go.pass();
		second = wait_for(a_id.load());
	});
	a_waits_for = b.lid();
	waiter a(a_waits_for);
	a_id = a.s.lid();
	a.s.await_blocked();
	go.open();
	collect(a.s.lid());
	EXPECT_EQ(second, EDEADLK);
	EXPECT_EQ(a.s.result(), 0);
	EXPECT_EQ(a.departed, b.lid());
}

// Behaviour 3, and longer ones: only the LWP that closes the cycle is refused, the others come back one after the other.
TEST(Wait, CycleOfAnyLengthRefusesTheOneThatClosesIt) {
	for (const std::size_t length : {3U, 4U, 50U}) {
		std::vector<std::atomic<lwpid_t>> targets(length);
		std::atomic<int> closer{-1};
		gate go;
		std::atomic<lwpid_t> last{0};
		subject first([&](subject &) {
			go.pass();
			closer = wait_for(last.load());
		});
		std::vector<std::unique_ptr<waiter>> chain;
		lwpid_t previous = first.lid();
		for (std::size_t i = 0; i + 1 < length; ++i) {
			targets[i] = previous;
			chain.push_back(std::make_unique<waiter>(targets[i]));
			chain.back()->s.await_blocked();
			previous = chain.back()->s.lid();
		}
		last = previous;
		go.open();
		collect(previous);
		EXPECT_EQ(closer.load(), EDEADLK);
		for (const auto &w : chain) {
			EXPECT_EQ(w->s.result(), 0);
		}
	}
}

// A waiter refused for a cycle is not in the way of a later wait.
TEST(Wait, RefusedWaitLeavesNoTrace) {
	std::atomic<lwpid_t> main_id{_lwp_self()};
	std::atomic<int> refused{-1};
	gate go;
	const lwpid_t b = spawn([&] {
		go.pass();
		// main waits for us
		EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().waiting == 1; }));
		refused = wait_for(main_id.load());
	});
	go.open();
	collect(b);
	EXPECT_EQ(refused.load(), EDEADLK);
	collect(spawn([] {}));
}

// Behaviour 5.
TEST(Wait, LastOneInAnyWaitIsRefusedAlone) {
	std::atomic<lwpid_t> any{0};
	std::vector<std::unique_ptr<waiter>> waiters;
	for (int i = 0; i < 5; ++i) {
		waiters.push_back(std::make_unique<waiter>(any));
	}
	for (const auto &w : waiters) {
		w->s.await_blocked();
	}
	EXPECT_EQ(wait_for(0), EDEADLK);
	for (const auto &w : waiters) {
		EXPECT_EQ(w->s.result(), -1) << "only the last one is refused";
	}
	// One that ends is collected by a waiter, which ends and is collected by the next, up to the last.
	(void)spawn([] {});
	ASSERT_TRUE(wait_until([] { return lwp::runtime::stats().lwps == 2 && lwp::runtime::stats().waiting == 0; }));
	EXPECT_EQ(wait_for(0), 0);
	for (const auto &w : waiters) {
		EXPECT_EQ(w->s.result(), 0);
	}
}

// All wait for somebody else in particular, nobody in a circle: the last in the chain waits for any.
TEST(Wait, AllAsleepInWaitsIsEdeadlk) {
	std::atomic<lwpid_t> any{0};
	waiter a(any);
	a.s.await_blocked();
	// We wait for a, a waits for any: we are "any", and we do not end.
	EXPECT_EQ(wait_for(a.s.lid()), EDEADLK);
	(void)spawn([] {});
	collect(a.s.lid());
	EXPECT_EQ(a.s.result(), 0);
}

// Behaviour 6: D, detached or not, suspends the target of our wait and ends.  Nobody could end any more, so we are told.
TEST(Wait, SleepingWaiterIsRefusedWhenNobodyCanRunAnyMore) {
	for (const unsigned long flags : {LWP_DETACHED, 0UL}) {
		subject w([](subject &s) { s.park_once(); });
		w.await_blocked();
		const lwpid_t d = spawn(
		    [&w] {
			    EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().waiting == 1; }));
			    EXPECT_EQ(error_of(_lwp_suspend(w.lid())), 0);
		    },
		    flags);
		EXPECT_EQ(wait_for(w.lid()), EDEADLK);
		EXPECT_EQ(error_of(_lwp_continue(w.lid())), 0);
		unpark(w);
		collect(w.lid());
		if (flags == 0) {
			collect(d);
		}
	}
}

TEST(Wait, ForASuspendedOneWithNobodyElseIsEdeadlk) {
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	EXPECT_EQ(wait_for(lid), EDEADLK);
	EXPECT_EQ(wait_for(0), EDEADLK);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
}

// A detached LWP that runs could still continue the target (spec, Q9).
TEST(Wait, RunningDetachedLwpCountsAsHope) {
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	const lwpid_t helper = spawn(
	    [lid] {
		    EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().waiting == 1; }));
		    EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	    },
	    LWP_DETACHED);
	collect(lid);
	await_end(helper);
}

// Behaviour 7.
TEST(Wait, SuspendedDetachedLwpDoesNotMakeADeadlock) {
	const lwpid_t d = spawn([] {}, LWP_DETACHED | LWP_SUSPENDED);
	subject w([](subject &) {
		EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().waiting == 1; }));
		for (int i = 0; i < 100; ++i) {
			lwp_yield();
		}
	});
	collect(w.lid());
	EXPECT_EQ(error_of(_lwp_continue(d)), 0);
	await_end(d);
}

// Behaviour 8: the any-waiter was there first, but the zombie belongs to the one that waits for it by name.
TEST(Wait, AnyWaiterLeavesAZombieToItsSpecificWaiter) {
	for (int i = 0; i < 20; ++i) {
		subject target([](subject &s) { s.park_once(); });
		target.await_blocked();
		std::atomic<lwpid_t> any{0};
		std::atomic<lwpid_t> specific{target.lid()};
		waiter a(any, LWP_DETACHED);
		a.s.await_blocked();
		waiter s(specific);
		s.s.await_blocked();
		unpark(target);
		// s collects the target and ends; then a collects s.
		await_end(a.s.lid());
		EXPECT_EQ(s.s.result(), 0);
		EXPECT_EQ(s.departed, target.lid());
		EXPECT_EQ(a.s.result(), 0);
		EXPECT_EQ(a.departed, s.s.lid());
	}
}

namespace {

// Behaviour 8, the end of it: with nothing left to wait for, the any-waiter is told so.  We detach ourselves, so not in the test's process.
[[noreturn]] void any_waiter_is_left_with_nothing() {
	if (error_of(_lwp_detach(_lwp_self())) != 0) {
		std::_Exit(10);
	}
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> any{0};
	std::atomic<lwpid_t> specific{target.lid()};
	waiter a(any, LWP_DETACHED);
	a.s.await_blocked();
	waiter s(specific, LWP_DETACHED);
	s.s.await_blocked();
	unpark(target);
	await_end(a.s.lid());
	await_end(s.s.lid());
	const bool right = s.s.result() == 0 && s.departed == target.lid() && a.s.result() == ESRCH;
	std::_Exit(right && !testing::Test::HasFailure() ? 0 : 11);
}

}  // namespace

TEST(WaitDeathTest, AnyWaiterGetsEsrchWhenNothingIsLeft) { EXPECT_EXIT(any_waiter_is_left_with_nothing(), testing::ExitedWithCode(0), ""); }

TEST(Wait, AnyWaiterGetsEsrchWhenTheLastCandidateIsDetached) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	const lwpid_t d = spawn(
	    [&target] {
		    EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().waiting == 1; }));
		    EXPECT_EQ(error_of(_lwp_detach(target.lid())), 0);
	    },
	    LWP_DETACHED);
	EXPECT_EQ(wait_for(0), ESRCH);
	await_end(d);
	unpark(target);
	await_end(target.lid());
}

// Behaviour 9.
TEST(Wait, OfTwoSpecificWaitersOneCollects) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	waiter a(lid);
	waiter b(lid);
	a.s.await_blocked();
	b.s.await_blocked();
	unpark(target);
	collect(a.s.lid());
	collect(b.s.lid());
	EXPECT_EQ(std::min(a.s.result(), b.s.result()), 0);
	EXPECT_EQ(std::max(a.s.result(), b.s.result()), ESRCH);
}

TEST(Wait, WakeupEndsItWithEintrAndItMayBeTriedAgain) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	subject w([&target](subject &s) {
		s.about_to_block();
		s.set_result(wait_for(target.lid()));
		collect(target.lid());
	});
	w.await_blocked();
	EXPECT_EQ(error_of(_lwp_wakeup(w.lid())), 0);
	EXPECT_TRUE(wait_until([&w] { return w.result() != -1; }));
	EXPECT_EQ(w.result(), EINTR);
	unpark(target);
	collect(w.lid());
}

// Suspending a waiter and continuing it is no reason to stop waiting.
TEST(Wait, SuspendedWaiterGoesOnWaitingWhenContinued) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	waiter w(lid);
	w.s.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(w.s.lid())), 0);
	EXPECT_EQ(error_of(_lwp_continue(w.s.lid())), 0);
	for (int i = 0; i < 20; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(w.s.result(), -1);
	unpark(target);
	collect(w.s.lid());
	EXPECT_EQ(w.s.result(), 0);
}

TEST(Wait, TargetThatEndsWhileItsWaiterIsSuspendedIsStillCollectedByIt) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	waiter w(lid);
	w.s.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(w.s.lid())), 0);
	unpark(target);
	await_end(target.lid());
	EXPECT_EQ(w.s.result(), -1);
	EXPECT_EQ(error_of(_lwp_continue(w.s.lid())), 0);
	collect(w.s.lid());
	EXPECT_EQ(w.s.result(), 0);
}

TEST(Wait, ManyTargetsInAnyOrder) {
	std::vector<lwpid_t> lids;
	for (int i = 0; i < 1000; ++i) {
		lids.push_back(spawn([] { lwp_yield(); }));
	}
	for (auto lid = lids.rbegin(); lid != lids.rend(); ++lid) {
		collect(*lid);
	}
}
