// SPDX-License-Identifier: BSD-2-Clause
//
// Suspend and continue below their public face: what is asked for, when it takes effect, in which state and under which lock, and which
// calls are boundaries.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <functional>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// What can be seen of a living LWP with its lock held.
struct view {
	lwp_stat state = lwp_stat::none;
	bool to_be_suspended = false;
	lock_rank covered_by = lock_rank::leaf;
	const void *wchan = nullptr;
};

view look_at(lwpid_t lid) {
	view v;
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	if (lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock); l != nullptr) {
		v = {lwp_state(l), (lwp_flags(l) & LW_WSUSPEND) != 0, lock->rank(), l->l_wchan};
		lock->unlock(me);
	}
	return v;
}

void ask_oneself_to_suspend(bool yes) {
	lwp_t *l = curlwp();
	spinlock *lock = lwp_lock(l, l->l_cpu);
	yes ? lwp_flag_set(l, LW_WSUSPEND) : lwp_flag_clear(l, LW_WSUSPEND);
	lock->unlock();
}

bool asked_to_suspend() { return (lwp_flags(curlwp()) & LW_WSUSPEND) != 0; }

int suspend(lwpid_t lid) { return lwp_suspend(curlwp(), lid); }
int go_on(lwpid_t lid) { return lwp_continue(curlwp(), lid); }

/// An LWP that goes through `pass` again and again until told.
struct runner {
	explicit runner(void (*pass)()) {
		lid = spawn([this, pass] {
			while (!stop) {
				turns++;
				pass();
			}
		});
		EXPECT_TRUE(wait_until([this] { return turns != 0; }));
	}
	void end() {
		stop = true;
		collect(lid);
	}
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	lwpid_t lid = 0;
};

}  // namespace

TEST(SuspendState, OfARunningOneIsCoveredByItsVcpuAndCountsNoMore) {
	runner r([] { lwp_yield(); });
	EXPECT_EQ(suspend(r.lid), 0);
	const view v = look_at(r.lid);
	EXPECT_EQ(v.state, lwp_stat::suspended);
	EXPECT_EQ(v.covered_by, lock_rank::vcpu_lwp);
	EXPECT_EQ(v.wchan, nullptr);
	const std::size_t turns = r.turns;
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	EXPECT_EQ(r.turns, turns);
	EXPECT_EQ(go_on(r.lid), 0);
	EXPECT_FALSE(look_at(r.lid).to_be_suspended);
	EXPECT_TRUE(wait_until([&] { return r.turns != turns; }));
	r.end();
}

TEST(SuspendState, OfAParkedOneIsReachedThroughTheEndOfItsSleep) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_EQ(look_at(s.lid()).state, lwp_stat::sleep);
	EXPECT_EQ(look_at(s.lid()).covered_by, lock_rank::sleepq);
	EXPECT_EQ(suspend(s.lid()), 0);
	const view v = look_at(s.lid());
	EXPECT_EQ(v.state, lwp_stat::suspended);
	EXPECT_EQ(v.covered_by, lock_rank::vcpu_lwp);
	EXPECT_EQ(v.wchan, nullptr) << "it sleeps on nothing any more";
	EXPECT_EQ(go_on(s.lid()), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), 0);
}

// Quirk Q5.
TEST(SuspendState, OfOneThatIsSuspendedIsThereAlreadyAndTheCallReturns) {
	runner r([] { lwp_yield(); });
	EXPECT_EQ(suspend(r.lid), 0);
	EXPECT_EQ(suspend(r.lid), 0);
	EXPECT_EQ(suspend(r.lid), 0);
	EXPECT_EQ(go_on(r.lid), 0);
	EXPECT_FALSE(look_at(r.lid).to_be_suspended) << "one continue for any number of suspends";
	r.end();
}

// Quirk Q4: the target never reaches a boundary; its continue tells the one who waits for it to stop.
TEST(SuspendState, AskedForAndTakenBackReleasesTheSuspender) {
	std::atomic<bool> stop{false};
	std::atomic<int> result{-1};
	subject target([&stop](subject &self) {
		// Uninterruptible, and no boundary before it ends.
		spinlock *lock = sleepq_enter_self(curlwp());
		self.about_to_block();
		EXPECT_EQ(sleepq_block_self_and_unlock(curlwp(), lock, {&stop, "test", &self_syncobj, sleep_catch::no}), 0);
		EXPECT_FALSE(asked_to_suspend());
	});
	target.await_blocked();
	const lwpid_t suspender = spawn([&] { result = suspend(target.lid()); });
	EXPECT_TRUE(wait_until([&] { return look_at(target.lid()).to_be_suspended && look_at(suspender).state == lwp_stat::sleep; }));
	EXPECT_EQ(look_at(target.lid()).state, lwp_stat::sleep);
	EXPECT_EQ(result, -1);
	EXPECT_EQ(go_on(target.lid()), 0);
	collect(suspender);
	EXPECT_EQ(result, 0);
	EXPECT_EQ(look_at(target.lid()).state, lwp_stat::sleep) << "and it sleeps on";
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, target.lid(), me, &lock);
	ASSERT_NE(l, nullptr);
	sleepq_unsleep_and_unlock(l, lock, 0);
	collect(target.lid());
}

// The suspender is asked to stop itself while it waits for its target: it goes to the boundary first and begins again after that.
TEST(SuspendState, SuspenderThatIsToStopItselfHasToAskAgain) {
	char wchan = 0;
	subject target([&wchan](subject &self) {
		spinlock *lock = sleepq_enter_self(curlwp());
		self.about_to_block();
		EXPECT_EQ(sleepq_block_self_and_unlock(curlwp(), lock, {&wchan, "test", &self_syncobj, sleep_catch::no}), 0);
	});
	target.await_blocked();
	std::atomic<int> result{-1};
	const lwpid_t suspender = spawn([&] {
		result = suspend(target.lid());
		lwp_userret(curlwp());
	});
	EXPECT_TRUE(wait_until([&] { return look_at(suspender).state == lwp_stat::sleep; }));
	EXPECT_EQ(suspend(suspender), 0);
	EXPECT_EQ(result, ERESTART);
	EXPECT_EQ(look_at(suspender).state, lwp_stat::suspended);
	EXPECT_EQ(go_on(suspender), 0);
	collect(suspender);
	EXPECT_TRUE(look_at(target.lid()).to_be_suspended) << "what it asked for still holds";
	EXPECT_EQ(go_on(target.lid()), 0);
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, target.lid(), me, &lock);
	ASSERT_NE(l, nullptr);
	sleepq_unsleep_and_unlock(l, lock, 0);
	collect(target.lid());
}

// The target stops, which wakes its suspender; before that one runs it is itself told to stop.  Its call is done: to ask again, after it was
// continued, would stop a target that somebody may have continued meanwhile.
TEST(SuspendState, OfATargetThatHasStoppedIsNotAskedForAgain) {
	if (lwp::runtime::vcpus() != 1) {
		GTEST_SKIP() << "who runs next is known on one vCPU only";
	}
	std::atomic<bool> end{false};
	const lwpid_t target = spawn([&] {
		while (!end) {
			lwp_yield();
		}
	});
	std::atomic<int> result{-1};
	const lwpid_t suspender = spawn([&] {
		result = suspend(target);
		lwp_userret(curlwp());
	});
	// One yield after the suspender has gone to sleep the target comes to its boundary; we stood in line before the suspender.
	EXPECT_TRUE(wait_until([&] { return look_at(target).state == lwp_stat::suspended; }));
	EXPECT_EQ(result, -1);
	EXPECT_EQ(suspend(suspender), 0);
	EXPECT_EQ(result, 0);
	EXPECT_EQ(go_on(target), 0);
	EXPECT_EQ(go_on(suspender), 0);
	end = true;
	collect(suspender);
	collect(target);
}

// A request posted to oneself: nothing stops until the boundary, which tests it again (quirk Q3).
TEST(SuspendState, TakesEffectAtTheBoundaryAndNotBefore) {
	std::atomic<int> stage{0};
	const lwpid_t lid = spawn([&stage] {
		ask_oneself_to_suspend(true);
		stage = 1;
		ask_oneself_to_suspend(false);
		lwp_userret(curlwp());  // taken back in time
		stage = 2;
		ask_oneself_to_suspend(true);
		lwp_userret(curlwp());
		stage = 3;
	});
	EXPECT_TRUE(wait_until([&] { return look_at(lid).state == lwp_stat::suspended; }));
	EXPECT_EQ(stage, 2);
	EXPECT_EQ(go_on(lid), 0);
	collect(lid);
	EXPECT_EQ(stage, 3);
}

TEST(SuspendState, NobodyAndTheDeadAreEsrch) {
	EXPECT_EQ(suspend(nobody), ESRCH);
	EXPECT_EQ(go_on(nobody), ESRCH);
	EXPECT_EQ(suspend(0), ESRCH);
	EXPECT_EQ(suspend(-1), ESRCH);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(suspend(zombie), ESRCH);
	EXPECT_EQ(go_on(zombie), ESRCH);
	collect(zombie);
}

// Quirk Q1: the flags of the caller decide, whoever the target is; nothing is asked of the target.
TEST(SuspendState, CallerThatIsToExitMaySuspendNobody) {
	subject target([](subject &self) { self.park_once(); });
	target.await_blocked();
	for (const std::uint32_t doom : {LW_WEXIT, LW_WCORE}) {
		collect(spawn([&target, doom] {
			lwp_t *l = curlwp();
			spinlock *lock = lwp_lock(l, l->l_cpu);
			lwp_flag_set(l, doom);
			lock->unlock();
			EXPECT_EQ(suspend(target.lid()), EDEADLK);
			lock = lwp_lock(l, l->l_cpu);
			lwp_flag_clear(l, doom);
			lock->unlock();
		}));
	}
	EXPECT_FALSE(look_at(target.lid()).to_be_suspended);
	EXPECT_TRUE(target.blocked());
	EXPECT_EQ(lwp_unpark(curlwp(), target.lid()), 0);
	collect(target.lid());
}

// WREBOOT: the runtime is ending, a continue changes nothing and is no error.
TEST(SuspendState, ContinueIsRefusedSilentlyWhenTheRuntimeIsEnding) {
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	const auto flag = [lid](bool set) {
		vcpu_t *me = curlwp()->l_cpu;
		spinlock *lock = nullptr;
		lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
		ASSERT_NE(l, nullptr);
		set ? lwp_flag_set(l, LW_WREBOOT) : lwp_flag_clear(l, LW_WREBOOT);
		lock->unlock(me);
	};
	flag(true);
	EXPECT_EQ(go_on(lid), 0);
	EXPECT_EQ(look_at(lid).state, lwp_stat::suspended);
	flag(false);
	EXPECT_EQ(go_on(lid), 0);
	collect(lid);
}

// ---- boundaries

namespace {

/// Whether an LWP that is to be suspended stops before `call` returns.
void expect_boundary(const char *name, const std::function<void()> &call) {
	std::atomic<bool> returned{false};
	std::atomic<bool> ran_on{false};
	std::atomic<bool> looked{false};
	const lwpid_t lid = spawn([&] {
		ask_oneself_to_suspend(true);
		call();
		ran_on = asked_to_suspend();
		ask_oneself_to_suspend(false);
		returned = true;
		EXPECT_TRUE(wait_until([&] { return looked.load(); }));
	});
	bool stopped = false;
	EXPECT_TRUE(wait_until([&] {
		if (look_at(lid).state == lwp_stat::suspended) {
			stopped = true;
			(void)go_on(lid);
		}
		return returned.load();
	}));
	looked = true;
	EXPECT_TRUE(stopped && !ran_on) << name << " returned and the LWP ran on";
	collect(lid);
}

}  // namespace

// A running target stops at its next library call: at the end of every call that may block, yield or wake somebody.
TEST(Boundary, IsTheEndOfEveryCallThatMayBlockYieldOrWakeSomebody) {
	expect_boundary("lwp_yield", [] { lwp_yield(); });
	expect_boundary("_lwp_park", [] { (void)park_for(std::chrono::microseconds(1)); });
	expect_boundary("_lwp_park, token", [] {
		(void)_lwp_unpark(_lwp_self(), nullptr);
		(void)park();
	});
	expect_boundary("_lwp_unpark", [] { (void)_lwp_unpark(_lwp_self(), nullptr); });
	expect_boundary("_lwp_unpark_all", [] {
		const lwpid_t self = _lwp_self();
		(void)_lwp_unpark_all(&self, 1, nullptr);
	});
	expect_boundary("_lwp_wakeup", [] { (void)_lwp_wakeup(_lwp_self()); });
	expect_boundary("_lwp_wait", [] { (void)_lwp_wait(nobody, nullptr); });
	expect_boundary("_lwp_suspend", [] { (void)_lwp_suspend(nobody); });
	expect_boundary("_lwp_continue", [] { (void)_lwp_continue(nobody); });
	expect_boundary("_lwp_detach", [] { (void)_lwp_detach(nobody); });
	expect_boundary("sleep_for", [] { lwp::this_thread::sleep_for(std::chrono::microseconds(1)); });
	expect_boundary("this_thread::yield", [] { lwp::this_thread::yield(); });
}

// What they make is born suspended, since they are to stop themselves; so it is continued by who continues them.
TEST(Boundary, IsTheEndOfACreation) {
	std::atomic<lwpid_t> child{0};
	const auto finish = [&child] {
		EXPECT_EQ(go_on(child), 0);
		collect(child);
	};
	expect_boundary("_lwp_create", [&child] { child = spawn([] {}); });
	finish();
	expect_boundary("lwp::thread", [&child] {
		lwp::thread t([] {});
		child = t.native_handle();
		EXPECT_EQ(go_on(child), 0);
		t.join();
	});
}
