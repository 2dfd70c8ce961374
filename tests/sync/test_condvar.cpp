// SPDX-License-Identifier: BSD-2-Clause
//
// The kernel condition variable: whom a notification wakes, whom it moves to the mutex, and what becomes of those that were moved.
// vcpus: 1 2 8
#include "sync/condvar.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/condition_variable.hpp>

#include <deque>
#include <memory>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// A mutex, a condition variable, and LWPs that wait, all on one vCPU, so that nobody runs whom we do not let.
struct scene {
	lwp::mutex m;
	lwp::condition_variable cv;
	std::vector<int> order;      // m
	std::vector<bool> notified;  // m
	std::deque<lwp::thread> threads;

	kmutex &km() { return *reinterpret_cast<kmutex *>(&m); }
	kcondvar &kcv() { return *reinterpret_cast<kcondvar *>(&cv); }
	lwpid_t lid(unsigned i) { return threads[i].native_handle(); }

	void add(int name, int priority = 31, std::chrono::nanoseconds most = 1h) {
		notified.push_back(false);
		threads.emplace_back(lwp::attributes{.priority = priority}, [=, this] {
			std::unique_lock hold(m);
			const bool in_time = cv.wait_for(hold, most) == std::cv_status::no_timeout;
			EXPECT_EQ(mutex_owner(&km()), curlwp());
			order.push_back(name);
			notified[static_cast<unsigned>(name)] = in_time;
		});
		EXPECT_TRUE(wait_until([&] {
			const bool there = on(lid(static_cast<unsigned>(name)), &kcv());
			if (!there) {
				lwp::this_thread::sleep_for(100us);  // also the ones worse than us must run
			}
			return there;
		}));
	}
	/// Whether `lid` sleeps on `wchan`.
	static bool on(lwpid_t lid, const void *wchan) {
		vcpu_t *me = curlwp()->l_cpu;
		spinlock *lock = nullptr;
		lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
		if (l == nullptr) {
			return false;
		}
		const bool yes = lwp_state(l) == lwp_stat::sleep && l->l_wchan == wchan;
		lock->unlock(me);
		return yes;
	}
	void join() {
		for (auto &t : threads) {
			t.join();
		}
		EXPECT_EQ(km().mtx_owner.load(), 0U);
		EXPECT_TRUE(km().mtx_waiters.empty());
		EXPECT_TRUE(kcv().cv_waiters.empty());
	}
};

template <class Body>
void on_one_vcpu(const Body &body) {
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, body).join();
}

}  // namespace

TEST(KCondvar, NotifiesByPriorityThenFirstComeFirstServed) {
	on_one_vcpu([] {
		scene s;
		const int priorities[] = {20, 30, 20, 30, 10};
		for (int i = 0; i < 5; i++) {
			s.add(i, priorities[i]);
		}
		for (int i = 0; i < 5; i++) {
			s.cv.notify_one();
			EXPECT_TRUE(wait_until([&] {
				lwp::this_thread::sleep_for(100us);
				return s.order.size() == static_cast<unsigned>(i) + 1;
			}));
		}
		s.join();
		EXPECT_EQ(s.order, (std::vector<int>{1, 3, 0, 2, 4}));
		EXPECT_FALSE(condvar_waited(&s.kcv()));
	});
}

// With the mutex held nobody is woken: all stand in the mutex's line, by priority, and each unlock wakes one.
TEST(KCondvar, BroadcastMovesAllToAMutexThatIsHeld) {
	on_one_vcpu([] {
		scene s;
		const int priorities[] = {20, 30, 20, 31};
		for (int i = 0; i < 4; i++) {
			s.add(i, priorities[i]);
		}
		{
			std::unique_lock hold(s.m);
			s.cv.notify_all();
			for (unsigned i = 0; i < 4; i++) {
				EXPECT_TRUE(scene::on(s.lid(i), &s.km()));
			}
			EXPECT_TRUE(s.kcv().cv_waiters.empty());
			EXPECT_FALSE(condvar_waited(&s.kcv()));
		}
		s.join();
		EXPECT_EQ(s.order, (std::vector<int>{3, 1, 0, 2}));
	});
}

TEST(KCondvar, BroadcastWakesOneIfTheMutexIsFree) {
	on_one_vcpu([] {
		scene s;
		for (int i = 0; i < 4; i++) {
			s.add(i);
		}
		condvar_notify_all_slow(&s.kcv(), curlwp());
		EXPECT_FALSE(scene::on(s.lid(0), &s.km()));
		for (unsigned i = 1; i < 4; i++) {
			EXPECT_TRUE(scene::on(s.lid(i), &s.km()));
		}
		EXPECT_EQ(s.km().mtx_owner.load(), kmutex::waited | kmutex::woken);
		s.join();
		EXPECT_EQ(s.order, (std::vector<int>{0, 1, 2, 3}));
	});
}

// Moved -> (its deadline passes in the mutex's line) -> it was notified, keeps its place and says so.
TEST(KCondvar, DeadlineOfOneThatWasMovedIsNoTimeout) {
	on_one_vcpu([] {
		scene s;
		for (int i = 0; i < 3; i++) {
			s.add(i, 31, i == 1 ? 30ms : 1h);
		}
		{
			std::unique_lock hold(s.m);
			s.cv.notify_all();
			if (scene::on(s.lid(1), &s.km())) {
				lwp::this_thread::sleep_for(60ms);
				EXPECT_TRUE(scene::on(s.lid(1), &s.km()));
			}
		}
		s.join();
		EXPECT_TRUE(s.notified[0] && s.notified[2]);
		EXPECT_TRUE(s.notified[1] || s.order != (std::vector<int>{0, 1, 2}));
	});
}

// Moved -> (suspended or interrupted in the mutex's line) -> it was notified, does not hold the others up, and takes the mutex later.
TEST(KCondvar, SuspendAndWakeupOfOneThatWasMoved) {
	on_one_vcpu([] {
		scene s;
		for (int i = 0; i < 4; i++) {
			s.add(i);
		}
		{
			std::unique_lock hold(s.m);
			s.cv.notify_all();
			EXPECT_EQ(lwp_suspend(curlwp(), s.lid(0)), 0);
			EXPECT_EQ(lwp_wakeup(curlwp(), s.lid(1)), 0);
		}
		EXPECT_TRUE(wait_until([&] { return s.order.size() == 3; }));
		EXPECT_EQ(lwp_continue(curlwp(), s.lid(0)), 0);
		s.join();
		EXPECT_EQ(s.order.back(), 0);
		EXPECT_EQ(s.notified, (std::vector<bool>{true, true, true, true}));
	});
}

// A waiter gives up a mutex that others wait for: it wakes one of them in the same breath.
TEST(KCondvar, WaitHandsAContendedMutexOn) {
	on_one_vcpu([] {
		lwp::mutex m;
		lwp::condition_variable cv;
		bool go = false;
		std::unique_lock hold(m);
		std::vector<lwp::thread> others;
		for (int i = 0; i < 3; i++) {
			others.emplace_back([&] {
				std::unique_lock l(m);
				lwp_yield();
				go = true;
				cv.notify_all();
			});
			EXPECT_TRUE(wait_until([&] { return scene::on(others.back().native_handle(), &m); }));
		}
		cv.wait(hold, [&] { return go; });
		hold.unlock();
		for (auto &t : others) {
			t.join();
		}
	});
}

// Two lists whose locks are one, or are taken in either order by two LWPs at once: no deadlock, nobody is lost.
TEST(KCondvar, AnyTwoObjectsAnywhere) {
	struct pair {
		lwp::mutex m;
		lwp::condition_variable cv;
		int generation = 0;
		int waiting = 0;
	};
	constexpr unsigned objects = 600;  // more than there are locks
	auto pairs = std::make_unique<pair[]>(objects);
	const auto play = [&](unsigned from) {
		for (unsigned i = 0; i < objects; i++) {
			pair &p = pairs[(i + from) % objects];
			std::unique_lock hold(p.m);
			if (p.waiting == 2) {
				p.generation++;
				p.waiting = 0;
				p.cv.notify_all();
			} else {
				p.waiting++;
				const int g = p.generation;
				p.cv.wait(hold, [&] { return p.generation != g; });
			}
		}
	};
	std::vector<lwp::thread> threads;
	for (unsigned i = 0; i < 3; i++) {
		threads.emplace_back(play, 0U);
	}
	for (auto &t : threads) {
		t.join();
	}
	for (unsigned i = 0; i < objects; i++) {
		EXPECT_EQ(pairs[i].generation, 1);
	}
}
