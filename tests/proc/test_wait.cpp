// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_wait1() below its public face: the records waiters leave, who is given a zombie, and when nobody is left who could end - compared with
// the formula of revision 1.73, which is wrong in both directions (quirk Q9).
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <memory>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// An LWP that waits for whatever `target` holds when it begins, and says how that went.
struct waiter {
	explicit waiter(std::atomic<lwpid_t> &target, unsigned long flags = 0)
	    : s(
	          [this, &target](subject &self) {
		          self.about_to_block();
		          const int r = lwp_wait1(curlwp(), target, &departed);
		          self.set_result(r);
		          lwp_userret(curlwp());
	          },
	          flags) {}
	lwpid_t departed = 0;
	subject s;
};

void unpark(lwpid_t lid) { EXPECT_EQ(lwp_unpark(curlwp(), lid), 0); }

struct counters {
	long nrlwps, nzlwps, ndlwps, nlwpwait;
};

counters count() {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	const auto number = [](std::size_t n) { return static_cast<long>(n); };
	const proc_counts c = proc_count(&proc0);
	return {number(c.nrlwps), number(c.nzlwps), number(c.ndlwps), number(c.nlwpwait)};
}

/// What 1.73 would say if the caller began to wait now.
bool refused_by_1_73() {
	const counters c = count();
	return wait_deadlock_1_73(c.nrlwps, c.nzlwps, c.ndlwps, c.nlwpwait + 1);
}

void empty_the_slot() {
	collect(spawn([] {}));
}

void expect_no_waits_left() {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	EXPECT_EQ(proc_count(&proc0).nlwpwait, 0U);
	proc_each_part(&proc0, [](const procpart &pp) {
		EXPECT_TRUE(pp.pp_waits.empty());
		EXPECT_EQ(pp.pp_nlwpwait.load(), 0U);
		EXPECT_EQ(pp.pp_nfarwait.load(), 0U);
	});
	EXPECT_TRUE(proc0.p_anywaits.empty());
	EXPECT_EQ(proc0.p_nanywaits.load(), 0U);
	proc_check(&proc0);
}

}  // namespace

// ---- records

TEST(WaitRecord, HangsFromItsTargetInTheOrderOfComing) {
	subject target([](subject &self) { self.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	std::vector<std::unique_ptr<waiter>> w;
	for (int i = 0; i < 3; i++) {
		w.push_back(std::make_unique<waiter>(lid));
		w.back()->s.await_blocked();
	}
	{
		const proc_scope hold(&proc0, curlwp()->l_cpu);
		const lwp_t *t = lwp_find(&proc0, target.lid());
		ASSERT_NE(t, nullptr);
		std::size_t i = 0;
		for (const waitrec *wr = t->l_waiters; wr != nullptr; wr = wr->wr_for.next) {
			ASSERT_LT(i, w.size());
			EXPECT_EQ(lwp_lid(wr->wr_lwp), w[i]->s.lid());
			EXPECT_EQ(wr->wr_lwp->l_wait, wr);
			EXPECT_EQ(wr->wr_target, t);
			i++;
		}
		EXPECT_EQ(i, w.size());
		EXPECT_EQ(proc_count(&proc0).nlwpwait, w.size());
		EXPECT_TRUE(proc0.p_anywaits.empty());
	}
	// The middle one goes away: the chain closes behind it.
	EXPECT_EQ(lwp_wakeup(curlwp(), w[1]->s.lid()), 0);
	collect(w[1]->s.lid());
	EXPECT_EQ(w[1]->s.result(), EINTR);
	unpark(target.lid());
	collect(w[0]->s.lid());
	collect(w[2]->s.lid());
	EXPECT_EQ(w[0]->s.result(), 0) << "the first that came";
	EXPECT_EQ(w[0]->departed, target.lid());
	EXPECT_EQ(w[2]->s.result(), ESRCH);
	expect_no_waits_left();
}

TEST(WaitRecord, AnyWaitersAreServedInTheOrderOfComing) {
	std::vector<lwpid_t> targets;
	for (int i = 0; i < 2; i++) {
		targets.push_back(spawn([] { (void)park(); }));
	}
	std::atomic<lwpid_t> any{0};
	waiter first(any, LWP_DETACHED);
	first.s.await_blocked();
	waiter second(any, LWP_DETACHED);
	second.s.await_blocked();
	unpark(targets[1]);
	await_end(first.s.lid());
	EXPECT_EQ(first.departed, targets[1]);
	EXPECT_TRUE(second.s.blocked());
	unpark(targets[0]);
	await_end(second.s.lid());
	EXPECT_EQ(second.departed, targets[0]);
	expect_no_waits_left();
}

TEST(WaitRecord, IsTakenBackByASuspendAndTheCallIsToBeMadeAgain) {
	subject target([](subject &self) { self.park_once(); });
	target.await_blocked();
	std::atomic<lwpid_t> lid{target.lid()};
	waiter w(lid);
	w.s.await_blocked();
	EXPECT_EQ(lwp_suspend(curlwp(), w.s.lid()), 0);
	EXPECT_EQ(w.s.result(), ERESTART) << "it stopped at the boundary after that";
	expect_no_waits_left();
	EXPECT_EQ(lwp_continue(curlwp(), w.s.lid()), 0);
	unpark(target.lid());
	collect(target.lid());
	collect(w.s.lid());
}

// The target has ended and been given to its waiter, which has not run yet: nobody else gets at it.  One vCPU, and priorities that say who
// runs when: the target, then we, then the waiter.
TEST(WaitRecord, ZombieThatWasGivenAwayIsNobodyElses) {
	const int v = static_cast<int>(lwp::runtime::vcpus()) - 1;
	lwp::thread({.priority = 25, .vcpu = v}, [] {
		lwp_t *target = nullptr;
		lwpid_t lid = 0;
		const lwp_options better = {.priority = 30};
		ASSERT_EQ(newlwp(curlwp(), better, &target), 0);
		ASSERT_EQ(lwp_start(
		              curlwp(), target, [](void *) { (void)park(); }, nullptr, better, &lid),
		    0);
		int result = -1;
		lwpid_t departed = 0;
		bool waiting = false;
		lwp::thread waiter({.priority = 20}, [&] {
			waiting = true;
			result = lwp_wait1(curlwp(), lid, &departed);
		});
		while (!waiting) {
			(void)park_for(std::chrono::microseconds(10));
		}
		EXPECT_EQ(lwp_unpark(curlwp(), lid), 0);
		lwp_userret(curlwp());  // the target runs and ends; the waiter is worse than we
		EXPECT_FALSE(alive(lid));
		EXPECT_EQ(result, -1);
		lwpid_t stolen = 0;
		EXPECT_EQ(lwp_wait1(curlwp(), lid, &stolen), ESRCH);
		EXPECT_EQ(lwp_detach(curlwp(), lid), ESRCH);
		{
			const proc_scope hold(&proc0, curlwp()->l_cpu);
			lwp_t *dead = lwp_find_any(&proc0, lid);
			ASSERT_NE(dead, nullptr);
			EXPECT_EQ(lwp_state(dead), lwp_stat::zomb);
			EXPECT_FALSE(lwp_addref(dead));
			EXPECT_TRUE(dead->l_part->pp_zombies.empty());
		}
		waiter.join();
		EXPECT_EQ(result, 0);
		EXPECT_EQ(departed, lid);
		EXPECT_EQ(stolen, 0);
		EXPECT_EQ(lwp_wait1(curlwp(), lid, nullptr), ESRCH);
	}).join();
}

// ---- nobody is left

TEST(WaitDeadlock, FormulaOf1_73IsKeptAsItWas) {
	static_assert(wait_deadlock_1_73(1, 0, 0, 1));
	static_assert(!wait_deadlock_1_73(2, 0, 0, 1));
	static_assert(wait_deadlock_1_73(2, 0, 1, 1));
	static_assert(!wait_deadlock_1_73(1, 1, 0, 1));
	static_assert(wait_deadlock_1_73(3, 0, 0, 3));
	static_assert(wait_deadlock_1_73(0, 0, 1, 0), "it is never negative");
}

// Behaviour 5.
TEST(WaitDeadlock, LastOneOutsideAWaitIsRefusedAlone) {
	empty_the_slot();
	std::atomic<lwpid_t> any{0};
	std::vector<std::unique_ptr<waiter>> w;
	for (int i = 0; i < 5; i++) {
		w.push_back(std::make_unique<waiter>(any));
		w.back()->s.await_blocked();
	}
	EXPECT_TRUE(refused_by_1_73());
	EXPECT_EQ(lwp_wait1(curlwp(), 0, nullptr), EDEADLK);
	for (const auto &each : w) {
		EXPECT_TRUE(each->s.blocked()) << "told as well, though we are still there";
	}
	// One that ends is collected by the first, which ends and is collected by the next...; the last finds nobody but main.
	collect(spawn([] {}));
	const lwpid_t spark = spawn([] {});
	await_end(spark);
	std::size_t collected = 0;
	for (const auto &each : w) {
		await_end(each->s.lid());
		collected += each->s.result() == 0;
	}
	EXPECT_EQ(collected, w.size());
	collect(w.back()->s.lid());
	expect_no_waits_left();
}

// Behaviour 6: main waits for W; W is suspended by D, which then ends.
TEST(WaitDeadlock, SleepingWaiterIsToldWhenTheLastOtherEnds) {
	for (const unsigned long flags : {LWP_DETACHED, 0UL}) {
		empty_the_slot();
		subject w([](subject &self) { self.park_once(); });
		w.await_blocked();
		const long before = count().nlwpwait;
		bool said_by_1_73 = false;
		const lwpid_t d = spawn(
		    [&] {
			    EXPECT_TRUE(wait_until([&] { return count().nlwpwait == before + 1; }));
			    EXPECT_EQ(lwp_suspend(curlwp(), w.lid()), 0);
			    // As it will be for main once we have ended: one more zombie, one fewer that runs.
			    const counters c = count();
			    said_by_1_73 = wait_deadlock_1_73(c.nrlwps - 1, c.nzlwps + 1, c.ndlwps, c.nlwpwait);
		    },
		    flags);
		EXPECT_EQ(lwp_wait1(curlwp(), w.lid(), nullptr), EDEADLK);
		EXPECT_EQ(said_by_1_73, flags == LWP_DETACHED) << "1.73 counts the zombie of another and would sleep for ever";
		EXPECT_EQ(lwp_continue(curlwp(), w.lid()), 0);
		collect(w.lid());
		if (flags == 0) {
			collect(d);
		}
		expect_no_waits_left();
	}
}

// Behaviour 7: a suspended detached LWP is no reason to give up.
TEST(WaitDeadlock, SuspendedDetachedLwpIsNotSubtracted) {
	empty_the_slot();
	subject d([](subject &self) { self.park_once(); }, LWP_DETACHED);
	d.await_blocked();
	EXPECT_EQ(lwp_suspend(curlwp(), d.lid()), 0);
	const lwpid_t w = spawn([] { EXPECT_TRUE(wait_until([] { return count().nlwpwait == 1; })); });
	EXPECT_TRUE(refused_by_1_73()) << "where 1.73 is wrong";
	EXPECT_EQ(lwp_wait1(curlwp(), w, nullptr), 0);
	EXPECT_EQ(lwp_continue(curlwp(), d.lid()), 0);
	await_end(d.lid());
}

// A detached LWP that runs may continue the one that is waited for.
TEST(WaitDeadlock, RunningDetachedLwpIsHope) {
	empty_the_slot();
	subject w([](subject &self) { self.park_once(); });
	w.await_blocked();
	EXPECT_EQ(lwp_suspend(curlwp(), w.lid()), 0);
	const lwpid_t d = spawn(
	    [&w] {
		    EXPECT_TRUE(wait_until([] { return count().nlwpwait == 1; }));
		    EXPECT_EQ(lwp_continue(curlwp(), w.lid()), 0);
	    },
	    LWP_DETACHED);
	EXPECT_TRUE(refused_by_1_73()) << "where 1.73 is wrong";
	EXPECT_EQ(lwp_wait1(curlwp(), w.lid(), nullptr), 0);
	await_end(d);
}

// A zombie of another id is no help to one who waits for a suspended LWP.
TEST(WaitDeadlock, ZombieOfAnotherIsNoHope) {
	empty_the_slot();
	const lwpid_t zombie = make_zombie();
	subject w([](subject &self) { self.park_once(); });
	w.await_blocked();
	EXPECT_EQ(lwp_suspend(curlwp(), w.lid()), 0);
	EXPECT_FALSE(refused_by_1_73()) << "where 1.73 is wrong the other way: it would sleep for ever";
	EXPECT_EQ(lwp_wait1(curlwp(), w.lid(), nullptr), EDEADLK);
	lwpid_t departed = 0;
	EXPECT_EQ(lwp_wait1(curlwp(), 0, &departed), 0) << "and to one who waits for any it is what he waits for";
	EXPECT_EQ(departed, zombie);
	EXPECT_EQ(lwp_continue(curlwp(), w.lid()), 0);
	collect(w.lid());
}

TEST(WaitDeadlock, BothAgreeOnTheUsualCases) {
	empty_the_slot();
	EXPECT_TRUE(refused_by_1_73()) << "alone";
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_FALSE(refused_by_1_73()) << "somebody could end";
	EXPECT_EQ(lwp_suspend(curlwp(), s.lid()), 0);
	EXPECT_TRUE(refused_by_1_73()) << "nobody runs";
	EXPECT_EQ(lwp_wait1(curlwp(), s.lid(), nullptr), EDEADLK);
	EXPECT_EQ(lwp_continue(curlwp(), s.lid()), 0);
	collect(s.lid());
}

// Behaviours 2 and 3: in a ring of n the one that closes it is refused; the others are asleep, and resolve one after the other once it ends.
TEST(WaitDeadlock, RingOfAnyLengthRefusesTheOneThatClosesIt) {
	for (const std::size_t n : {2U, 3U, 10U, 100U}) {
		std::vector<std::atomic<lwpid_t>> next(n);
		std::vector<std::unique_ptr<waiter>> ring;
		gate close;
		std::atomic<int> closing{-1};
		// LWP 0 closes the ring: it waits for the last, which waits for the one before it, and so on down to LWP 0.
		const lwpid_t closer = spawn([&] {
			close.pass();
			closing = lwp_wait1(curlwp(), ring.back()->s.lid(), nullptr);
		});
		lwpid_t before = closer;
		for (std::size_t i = 1; i < n; i++) {
			next[i] = before;
			ring.push_back(std::make_unique<waiter>(next[i]));
			ring.back()->s.await_blocked();
			before = ring.back()->s.lid();
		}
		close.open();
		collect(ring.back()->s.lid());
		EXPECT_EQ(closing, EDEADLK);
		for (std::size_t i = 1; i < n; i++) {
			EXPECT_EQ(ring[i - 1]->s.result(), 0);
			EXPECT_EQ(ring[i - 1]->departed, next[i]);
		}
		expect_no_waits_left();
	}
}
