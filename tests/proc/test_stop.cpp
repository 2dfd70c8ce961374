// SPDX-License-Identifier: BSD-2-Clause
//
// The proc stopped and continued: who comes to stand still where, under which lock, counted how, and what becomes of sleeps meanwhile.
// Behaviours 27 and 28, quirk Q27.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/proc.h>

#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

struct view {
	lwp_stat state = lwp_stat::none;
	lock_rank covered_by = lock_rank::leaf;
	const void *wchan = nullptr;
};

view look_at(lwpid_t lid) {
	view v;
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	if (lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock); l != nullptr) {
		v = {lwp_state(l), lock->rank(), l->l_wchan};
		lock->unlock(me);
	}
	return v;
}

std::size_t running() {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	return proc_count(&proc0).nrlwps;
}

/// From a kernel thread that passes no boundary.
template <class Predicate>
void await(Predicate ready, const char *what) {
	const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
	while (!ready()) {
		if (std::chrono::steady_clock::now() > end) {
			ADD_FAILURE() << what;
			return;
		}
		std::this_thread::yield();
	}
}

/// Stops the proc, the caller with it.  `look` runs while all stand still, on a kernel thread from outside, which then continues the proc.
template <class Look>
void while_stopped(Look look) {
	std::thread outside([&look] {
		lwp_t *me = curlwp();
		await([me] { return proc_is_stopped(&proc0, me->l_cpu) && running() == 1; }, "somebody runs on in a stopped proc");
		look(me);
		EXPECT_EQ(lwp_proc_continue(), 0);
	});
	EXPECT_EQ(lwp_proc_stop(), 0);
	outside.join();
}

}  // namespace

// Else nobody would be left to let the world go on.
TEST(ProcStop, OfAStoppedWorldComesWhenThatGoesOn) {
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> turns{0};
	const lwpid_t runner = spawn([&] {
		while (!leave.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	std::atomic<bool> returned{false};
	std::thread outside;
	{
		const lwp::stop_the_world world;
		const std::size_t before = turns;
		outside = std::thread([&] {
			lwp_t *me = curlwp();
			await([me] { return proc_is_stopped(&proc0, me->l_cpu) && running() == 1; }, "somebody runs on in a stopped proc");
			EXPECT_TRUE(returned) << "who has stopped the world stands still with it";
			EXPECT_EQ(lwp_proc_continue(), 0);
		});
		EXPECT_EQ(lwp_proc_stop(), 0);
		returned = true;
		EXPECT_EQ(lwp_proc_stopped(), 1);
		EXPECT_EQ(turns, before);
	}
	EXPECT_EQ(lwp_proc_stopped(), 0) << "we have stood still until it was continued";
	outside.join();
	leave = true;
	collect(runner);
}

// Behaviour 27.
TEST(ProcStop, EverybodyStandsStillAndGoesOn) {
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> turns{0};
	lwp::mutex mutex;
	lwp::counting_semaphore<> semaphore(0);
	lwp::channel<int> channel;
	std::vector<lwpid_t> all;
	auto runs = [&] {
		while (!leave.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	};
	for (int i = 0; i < 3; i++) {
		all.push_back(spawn(runs));
	}
	const lwpid_t runner = all[0];
	subject parked([](subject &s) { s.park_once(); });
	all.push_back(parked.lid());
	subject joins([runner](subject &s) {
		s.about_to_block();
		s.set_result(error_of(_lwp_wait(runner, nullptr)));
	});
	all.push_back(joins.lid());
	subject waits([&](subject &s) {
		s.about_to_block();
		semaphore.acquire();
		s.set_result(0);
	});
	all.push_back(waits.lid());
	mutex.lock();
	subject locks([&](subject &s) {
		s.about_to_block();
		mutex.lock();
		mutex.unlock();
		s.set_result(0);
	});
	all.push_back(locks.lid());
	subject receives([&](subject &s) {
		s.about_to_block();
		s.set_result(channel.receive().value_or(-2));
	});
	all.push_back(receives.lid());
	lwp::mutex of_condition;
	lwp::condition_variable condition;
	bool told = false;
	subject notified([&](subject &s) {
		std::unique_lock hold(of_condition);
		s.about_to_block();
		while (!told) {
			condition.wait(hold);
		}
		s.set_result(0);
	});
	all.push_back(notified.lid());
	const auto sleepers = {&parked, &joins, &waits, &locks, &receives, &notified};
	for (const subject *s : sleepers) {
		s->await_blocked();
	}
	const std::size_t before = running();

	for (int round = 0; round < 3; round++) {
		while_stopped([&](lwp_t *me) {
			const std::size_t there = turns.load();
			for (const lwpid_t lid : all) {
				const view v = look_at(lid);
				EXPECT_EQ(v.state, lwp_stat::stop) << lid << ' ' << lwp_stat_name(v.state);
				EXPECT_EQ(v.covered_by, v.wchan != nullptr ? lock_rank::sleepq : lock_rank::vcpu_lwp) << lid;
			}
			EXPECT_EQ(turns.load(), there);
			const proc_scope hold(&proc0, me->l_cpu);
			EXPECT_EQ(proc_count(&proc0).nlwpwait, 0U) << "who is stopped does not count as one that waits";
			proc_check(&proc0);
		});
		const std::size_t there = turns.load();
		EXPECT_TRUE(wait_until([&] { return turns.load() > there + 100; })) << "they do not go on";
		for (const subject *s : sleepers) {
			s->await_blocked();
			EXPECT_EQ(s->result(), -1) << "a wake-up was made up";
		}
		EXPECT_EQ(running(), before);
	}

	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	semaphore.release();
	mutex.unlock();
	channel.send(0);
	{
		const std::lock_guard hold(of_condition);
		told = true;
	}
	condition.notify_one();
	leave = true;
	for (const lwpid_t lid : all) {
		if (lid != runner) {
			collect(lid);
		}
	}
	for (const subject *s : sleepers) {
		EXPECT_EQ(s->result(), 0);
	}
}

// Woken while it is stopped: it stays stopped, its lock moves, and it learns of it when it goes on.
TEST(ProcStop, WakeUpsThatComeMeanwhileAreNotLost) {
	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	lwp::counting_semaphore<> semaphore(0);
	subject waits([&](subject &s) {
		s.about_to_block();
		semaphore.acquire();
		s.set_result(semaphore.try_acquire() ? 1 : 0);  // one unit, not two
	});
	waits.await_blocked();
	lwp::channel<int> channel;
	subject receives([&](subject &s) {
		s.about_to_block();
		s.set_result(channel.receive().value_or(-2));
	});
	receives.await_blocked();

	while_stopped([&](lwp_t *me) {
		EXPECT_EQ(lwp_unpark(me, parked.lid()), 0);
		std::thread([&] {
			// As other kernel threads do: their first call, which ends at a boundary, so they stop there, after what they did.
			semaphore.release();
		}).detach();
		await([&] { return look_at(waits.lid()).wchan == nullptr; }, "the semaphore is not handed over");
		for (const lwpid_t lid : {parked.lid(), waits.lid()}) {
			const view v = look_at(lid);
			EXPECT_EQ(v.state, lwp_stat::stop);
			EXPECT_EQ(v.wchan, nullptr);
			EXPECT_EQ(v.covered_by, lock_rank::vcpu_lwp);
		}
		EXPECT_NE(look_at(receives.lid()).wchan, nullptr);
	});
	channel.send(7);
	collect(parked.lid());
	collect(waits.lid());
	collect(receives.lid());
	EXPECT_EQ(parked.result(), 0);
	EXPECT_EQ(waits.result(), 0);
	EXPECT_EQ(receives.result(), 7);
}

// The timer of a stopped LWP runs on, and ends its sleep; it learns of it when it goes on.  It sleeps again and again, so that each round meets it
// somewhere; the last of its sleeps was begun in a proc that runs.
TEST(ProcStop, DeadlinesPassMeanwhile) {
	std::atomic<bool> leave{false};
	std::atomic<int> ended{0};
	const lwpid_t sleeper = spawn([&] {
		while (!leave.load()) {
			const int error = park_for(std::chrono::milliseconds(2));
			EXPECT_TRUE(error == ETIMEDOUT || error == 0) << error;  // 0: it was to stop before it slept, and a park does not begin again
			ended.fetch_add(error == ETIMEDOUT ? 1 : 0);
		}
	});
	for (int round = 0; round < 5; round++) {
		while_stopped([&](lwp_t *) {
			const int before = ended.load();
			await([&] { return look_at(sleeper).wchan == nullptr; }, "the timer of a stopped LWP does not fire");
			const view v = look_at(sleeper);
			EXPECT_EQ(v.state, lwp_stat::stop);
			EXPECT_EQ(v.covered_by, lock_rank::vcpu_lwp);
			EXPECT_EQ(ended.load(), before);
		});
		const int before = ended.load();
		EXPECT_TRUE(wait_until([&] { return ended.load() > before; })) << "it does not go on";
	}
	leave = true;
	collect(sleeper);
}

// Behaviour 28; quirk Q27 is the second half: created suspended in a stopped proc and continued, it must not run before the proc does.
TEST(ProcStop, BornStopped) {
	std::atomic<int> ran{0};
	lwpid_t plain = 0;
	lwpid_t suspended = 0;
	auto body = [](void *arg) { static_cast<std::atomic<int> *>(arg)->fetch_add(1); };
	while_stopped([&](lwp_t *me) {
		for (lwpid_t *lid : {&plain, &suspended}) {
			lwp_options o;
			o.suspended = lid == &suspended;
			lwp_t *l = nullptr;
			ASSERT_EQ(newlwp(me, o, &l), 0);
			ASSERT_EQ(lwp_start(me, l, body, &ran, o, lid), 0);
		}
		EXPECT_EQ(look_at(plain).state, lwp_stat::stop);
		EXPECT_EQ(look_at(suspended).state, lwp_stat::suspended);
		EXPECT_EQ(lwp_continue(me, suspended), 0);
		await([&] { return look_at(suspended).state == lwp_stat::stop; }, "it does not stop");
		EXPECT_EQ(ran.load(), 0);
		EXPECT_EQ(running(), 1U);
	});
	collect(plain);
	collect(suspended);
	EXPECT_EQ(ran.load(), 2);
}

TEST(ProcStop, SuspendedMeanwhileItIsSuspendedWhenTheProcGoesOn) {
	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	std::atomic<bool> leave{false};
	const lwpid_t runner = spawn([&] {
		while (!leave.load()) {
			lwp_yield();
		}
	});
	while_stopped([&](lwp_t *me) {
		for (const lwpid_t lid : {parked.lid(), runner}) {
			EXPECT_EQ(lwp_suspend(me, lid), 0);
			EXPECT_EQ(look_at(lid).state, lwp_stat::stop);
		}
	});
	for (const lwpid_t lid : {parked.lid(), runner}) {
		EXPECT_TRUE(wait_until([lid] { return look_at(lid).state == lwp_stat::suspended; }));
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	}
	leave = true;
	collect(parked.lid());
	collect(runner);
	EXPECT_EQ(parked.result(), 0);  // spurious, as after any suspend
}

// A wait that ends while its LWP is stopped leaves the counters right, in its own part and in another.
TEST(ProcStop, WaitsEndMeanwhile) {
	const lwpid_t target = spawn([] { (void)park(); });
	subject joins([target](subject &s) {
		s.about_to_block();
		s.set_result(error_of(_lwp_wait(target, nullptr)));
	});
	joins.await_blocked();
	while_stopped([&](lwp_t *me) {
		EXPECT_EQ(lwp_detach(me, target), 0);
		EXPECT_EQ(look_at(joins.lid()).wchan, nullptr);
		const proc_scope hold(&proc0, me->l_cpu);
		proc_check(&proc0);
	});
	collect(joins.lid());
	EXPECT_EQ(joins.result(), ESRCH);
	EXPECT_EQ(error_of(_lwp_unpark(target, nullptr)), 0);
	await_end(target);
}

// All that do not stand still wait for each other: no deadlock, since the proc goes on again.
TEST(ProcStop, IsNoDeadlock) {
	gate stopped;
	const lwpid_t stopper = spawn([&] { while_stopped([&](lwp_t *) { stopped.open(); }); });
	EXPECT_EQ(error_of(_lwp_wait(stopper, nullptr)), 0);
	EXPECT_TRUE(stopped.is_open());
}

// Quirk Q3 for stops: a continue that comes between the look and the stop is not lost; nor is any hand-over.
TEST(ProcStop, ManyTimesWhileOthersHandOver) {
	const std::size_t wanted = rounds(300);
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> handed{0};
	lwp::channel<int> there;
	lwp::channel<int> back;
	const lwpid_t echo = spawn([&] {
		while (auto v = there.receive()) {
			back.send(*v);
		}
	});
	const lwpid_t asks = spawn([&] {
		for (int i = 0; !leave.load(); i++) {
			there.send(i);
			EXPECT_EQ(back.receive().value_or(-1), i);
			handed.fetch_add(1);
		}
		there.close();
	});
	std::atomic<std::size_t> parks{0};
	lwpid_t pair[2] = {};
	for (int i = 0; i < 2; i++) {
		pair[i] = spawn([&, i] {
			while (!leave.load()) {
				(void)_lwp_unpark(pair[1 - i], nullptr);
				(void)park_for(std::chrono::milliseconds(1));
				parks.fetch_add(1);
			}
		});
	}
	std::thread outside([&] {
		lwp_t *me = curlwp();
		for (std::size_t i = 0; i < wanted; i++) {
			proc_stop(&proc0, me->l_cpu);
			if (i % 4 == 0) {
				await([] { return running() == 1; }, "somebody runs on in a stopped proc");
			}
			proc_continue(&proc0, me->l_cpu);
			std::this_thread::yield();
		}
		const std::size_t h = handed.load();
		const std::size_t p = parks.load();
		await([&] { return handed.load() > h + 10 && parks.load() > p + 10; }, "they do not go on");
		leave = true;
	});
	collect(asks);
	collect(echo);
	collect(pair[0]);
	collect(pair[1]);
	outside.join();
}
