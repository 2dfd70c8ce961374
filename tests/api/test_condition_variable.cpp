// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.condition], clause by clause, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/condition_variable.hpp>

#include "../support/support.h"

#include <array>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

namespace {

const bool touched = touch_runtime();

[[maybe_unused]] constinit lwp::condition_variable constant;
static_assert(sizeof(lwp::condition_variable) == 24 && std::is_nothrow_default_constructible_v<lwp::condition_variable>);
static_assert(!std::is_copy_constructible_v<lwp::condition_variable> && !std::is_copy_assignable_v<lwp::condition_variable>);

template <class Cv>
struct Condition : testing::Test {};
using kinds = testing::Types<lwp::condition_variable, lwp::condition_variable_any>;
TYPED_TEST_SUITE(Condition, kinds);

using lock = std::unique_lock<lwp::mutex>;

/// Joins without stopping our vCPU.
void join(std::vector<std::thread> &threads, const std::atomic<int> &ended, int all) {
	EXPECT_TRUE(wait_until([&] { return ended == all; }));
	for (auto &t : threads) {
		t.join();
	}
}

}  // namespace

TYPED_TEST(Condition, NotifyBeforeWaitIsNotKept) {
	TypeParam cv;
	lwp::mutex m;
	cv.notify_one();
	cv.notify_all();
	lock hold(m);
	EXPECT_EQ(cv.wait_for(hold, 1ms), std::cv_status::timeout);
	EXPECT_TRUE(hold.owns_lock());
}

TYPED_TEST(Condition, DeadlinesOfEveryKind) {
	TypeParam cv;
	lwp::mutex m;
	lock hold(m);
	EXPECT_EQ(cv.wait_for(hold, 0s), std::cv_status::timeout);
	EXPECT_EQ(cv.wait_for(hold, -1h), std::cv_status::timeout);
	EXPECT_EQ(cv.wait_until(hold, steady_clock::now() - 1s), std::cv_status::timeout);
	EXPECT_EQ(cv.wait_until(hold, system_clock::now() - 1s), std::cv_status::timeout);
	EXPECT_EQ(cv.wait_until(hold, system_clock::time_point::min()), std::cv_status::timeout);
	EXPECT_EQ(cv.wait_until(hold, system_clock::now() + 2ms), std::cv_status::timeout);
	const auto before = steady_clock::now();
	EXPECT_FALSE(cv.wait_for(hold, 5ms, [] { return false; }));
	EXPECT_GE(steady_clock::now() - before, 5ms);
	EXPECT_TRUE(cv.wait_for(hold, 0s, [] { return true; }));
	EXPECT_TRUE(hold.owns_lock());
	// Far ones do not wrap round.
	int turns = 0;
	lwp::thread other([&] {
		for (int i = 0; i < 4; i++) {
			EXPECT_TRUE(wait_until([&] {
				lock l(m);
				return turns == i + 1;
			}));
			lock l(m);
			turns = -turns;
			cv.notify_one();
		}
	});
	const auto turn = [&](int i, auto wait) {
		turns = i;
		EXPECT_TRUE(wait([&] { return turns < 0; }));
	};
	turn(1, [&](auto p) { return cv.wait_for(hold, std::chrono::hours::max(), p); });
	turn(2, [&](auto p) { return cv.wait_until(hold, steady_clock::time_point::max(), p); });
	turn(3, [&](auto p) { return cv.wait_until(hold, system_clock::time_point::max(), p); });
	turn(4, [&](auto p) { return cv.wait_for(hold, std::chrono::duration<double>(1e9), p); });
	hold.unlock();
	other.join();
}

// "Atomically calls lock.unlock() and blocks": a notifier that had the mutex after the waiter finds it waiting.
TYPED_TEST(Condition, NoNotificationIsLostBetweenUnlockAndSleep) {
	const std::size_t n = rounds(20'000);
	TypeParam cv;
	lwp::mutex m;
	std::size_t turn = 0;
	const auto play = [&](std::size_t mine) {
		for (std::size_t i = 0; i < n; i++) {
			lock hold(m);
			while (turn % 2 != mine) {
				cv.wait(hold);
			}
			turn++;
			if (i % 2 == 0) {
				hold.unlock();
			}
			cv.notify_one();
		}
	};
	lwp::thread a(play, 0U);
	lwp::thread b(play, 1U);
	a.join();
	b.join();
	EXPECT_EQ(turn, 2 * n);
	std::atomic<int> ended{0};
	const std::size_t some = n / 20;
	std::size_t left = some * 2;
	std::vector<std::thread> k;
	k.emplace_back([&] {
		for (std::size_t i = 0; i < some; i++) {
			lock hold(m);
			cv.wait(hold, [&] { return left % 2 == 0; });
			left--;
			cv.notify_one();
		}
		ended++;
	});
	for (std::size_t i = 0; i < some; i++) {
		lock hold(m);
		cv.wait(hold, [&] { return left % 2 == 1; });
		left--;
		cv.notify_one();
	}
	join(k, ended, 1);
	EXPECT_EQ(left, 0U);
}

// notify_all ends all waits that have begun, of LWPs and kernel threads, with the mutex held and without.
TYPED_TEST(Condition, BroadcastReachesEverybody) {
	for (const bool held : {true, false}) {
		TypeParam cv;
		lwp::mutex m;
		bool go = false;
		int waiting = 0;
		std::atomic<int> ended{0};
		int inside = 0;
		const auto work = [&](bool yields) {
			lock hold(m);
			waiting++;
			cv.wait(hold, [&] { return go; });
			EXPECT_EQ(inside++, 0);
			if (yields) {
				lwp::this_thread::yield();
			}
			inside--;
			ended++;
		};
		constexpr int lwps = 500;
		std::vector<lwp::thread> green;
		std::vector<std::thread> kernel;
		for (int i = 0; i < lwps; i++) {
			green.emplace_back(lwp::attributes{.priority = i % 7 + 28}, work, i % 5 == 0);
		}
		kernel.emplace_back(work, true);
		kernel.emplace_back(work, false);
		while (true) {
			lock hold(m);
			if (waiting == lwps + 2) {
				break;
			}
			hold.unlock();
			lwp::this_thread::sleep_for(1ms);
		}
		lock hold(m);
		go = true;
		if (!held) {
			hold.unlock();
		}
		cv.notify_all();
		if (held) {
			hold.unlock();
		}
		for (auto &t : green) {
			t.join();
		}
		join(kernel, ended, lwps + 2);
	}
}

// Each waiter returns exactly once, by a broadcast or by its time; a notification that met a waiter is never lost to a timeout.
TYPED_TEST(Condition, NotificationsAndTimeoutsAtOnceAddUp) {
	const int n = static_cast<int>(rounds(4000));
	TypeParam cv;
	lwp::mutex m;
	int tokens = 0;
	std::atomic<int> taken{0};
	std::atomic<int> ended{0};
	const auto consume = [&](unsigned who) {
		dice d(who + seed());
		while (taken < n) {
			lock hold(m);
			if (tokens == 0) {
				(void)cv.wait_for(hold, std::chrono::microseconds(d.below(60)));
			}
			if (tokens > 0) {
				tokens--;
				taken++;
			}
		}
		ended++;
	};
	std::vector<lwp::thread> green;
	std::vector<std::thread> kernel;
	for (unsigned i = 0; i < 8; i++) {
		green.emplace_back(consume, i);
	}
	kernel.emplace_back(consume, 8U);
	for (int i = 0; i < n; i++) {
		lock hold(m);
		tokens++;
		i % 64 == 0 ? cv.notify_all() : cv.notify_one();
		hold.unlock();
		if (i % 4 == 0) {
			lwp_yield();
		}
	}
	for (auto &t : green) {
		t.join();
	}
	join(kernel, ended, 9);
	EXPECT_EQ(taken, n);
	EXPECT_EQ(tokens, 0);
}

// Of two waiters one has a deadline that passes about when the only notification comes: it says timeout, and the other has it, or not.
TYPED_TEST(Condition, ANotificationGoesToExactlyOne) {
	const std::size_t n = rounds(300);
	dice d(seed());
	for (std::size_t i = 0; i < n; i++) {
		TypeParam cv;
		lwp::mutex m;
		bool over = false;
		std::atomic<int> notified{0};
		int waiting = 0;
		lwp::thread late([&] {
			lock hold(m);
			waiting++;
			notified += cv.wait_for(hold, std::chrono::microseconds(20 + d.below(30))) == std::cv_status::no_timeout ? 1 : 0;
		});
		lwp::thread patient([&] {
			lock hold(m);
			waiting++;
			cv.wait(hold);
			notified += over ? 0 : 1;
		});
		EXPECT_TRUE(wait_until([&] {
			lock hold(m);
			return waiting == 2;
		}));
		cv.notify_one();
		late.join();
		lwp_yield();
		EXPECT_TRUE(wait_until([&] { return notified == 1; })) << "lost";
		{
			lock hold(m);
			over = true;
			cv.notify_all();
		}
		patient.join();
		EXPECT_EQ(notified, 1);
	}
}

// A suspend or _lwp_wakeup() of a waiter is a spurious wake-up or nothing; it does not lose notifications to others, and the mutex stays usable.
TYPED_TEST(Condition, SuspendAndWakeupOfAWaiter) {
	TypeParam cv;
	lwp::mutex m;
	bool go = false;
	std::atomic<int> looks{0};
	subject waiter([&](subject &s) {
		lock hold(m);
		s.about_to_block();
		cv.wait(hold, [&] {
			looks++;
			return go;
		});
		s.set_result(1);
	});
	waiter.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(waiter.lid()) == 0; }));
	if constexpr (std::is_same_v<TypeParam, lwp::condition_variable>) {
		EXPECT_TRUE(wait_until([&] { return looks >= 2; }));
	}
	EXPECT_EQ(error_of(_lwp_suspend(waiter.lid())), 0);
	const int seen = looks;
	{
		lock hold(m);  // it does not have it
		go = true;
		cv.notify_all();
	}
	EXPECT_EQ(looks, seen);
	EXPECT_EQ(waiter.result(), -1);
	EXPECT_EQ(error_of(_lwp_continue(waiter.lid())), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 1);
}

TYPED_TEST(Condition, PredicateThatThrowsLeavesTheMutexHeld) {
	TypeParam cv;
	lwp::mutex m;
	lock hold(m);
	EXPECT_THROW(cv.wait(hold, []() -> bool { throw std::runtime_error("no"); }), std::runtime_error);
	EXPECT_TRUE(hold.owns_lock());
	EXPECT_THROW(cv.wait_for(hold, 1s, []() -> bool { throw std::runtime_error("no"); }), std::runtime_error);
	hold.unlock();
	EXPECT_TRUE(m.try_lock());
	m.unlock();
	cv.notify_all();
}

// The destructor: "all threads have been notified; they could subsequently block on the lock".
TYPED_TEST(Condition, DestroyedWhileTheNotifiedAreOnTheirWayOut) {
	const std::size_t n = rounds(200);
	for (std::size_t i = 0; i < n; i++) {
		auto cv = std::make_unique<TypeParam>();
		lwp::mutex m;
		int waiting = 0;
		std::atomic<int> out{0};
		std::vector<lwp::thread> all;
		for (unsigned k = 0; k < 4; k++) {
			all.emplace_back([&, k] {
				lock hold(m);
				waiting++;
				if (k % 2 == 0) {
					cv->wait(hold);
				} else {
					(void)cv->wait_for(hold, 50us * k + 1h * (i % 2));
				}
				out++;
			});
		}
		EXPECT_TRUE(wait_until([&] {
			lock hold(m);
			return waiting == 4;
		}));
		{
			lock hold(m);
			cv->notify_all();
			cv.reset();
		}
		for (auto &t : all) {
			t.join();
		}
		EXPECT_EQ(out, 4);
	}
}

// The woken one destroys it at once; the notifier does not touch it any more.
TYPED_TEST(Condition, WaiterDestroysItAtOnce) {
	const std::size_t n = rounds(2000);
	for (std::size_t i = 0; i < n; i++) {
		struct box {
			lwp::mutex m;
			TypeParam cv;
			bool go = false;
		};
		auto *b = new box;
		lwp::thread waiter([b] {
			{
				lock hold(b->m);
				b->cv.wait(hold, [b] { return b->go; });
			}
			delete b;
		});
		lock hold(b->m);
		b->go = true;
		b->cv.notify_all();
		hold.unlock();
		waiter.join();
	}
}

// ---- what only the first kind has ----------------------------------------------------------------------------------

TEST(ConditionVariable, MisuseIsNamed) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::condition_variable cv;
		    lwp::mutex m;
		    lock hold(m, std::defer_lock);
		    cv.wait(hold);
	    },
	    "mutex that it does not own");
}

// The notice comes after the specific data are destroyed, and the mutex is held until then.
TEST(ConditionVariable, NotifyAllAtThreadExit) {
	static std::atomic<bool> destroyed;
	struct witness {
		~witness() { destroyed = true; }
	};
	static lwp::specific<witness> data;
	for (const bool green : {true, false}) {
		destroyed = false;
		lwp::condition_variable cv;
		lwp::mutex m;
		bool ready = false;
		const auto work = [&] {
			(void)*data;
			lock hold(m);
			ready = true;
			lwp::notify_all_at_thread_exit(cv, std::move(hold));
			EXPECT_FALSE(destroyed);
		};
		lwp::thread lwp_thread;
		std::thread kernel_thread;
		lock hold(m);
		if (green) {
			lwp_thread = lwp::thread(work);
		} else {
			kernel_thread = std::thread(work);
		}
		cv.wait(hold, [&] { return ready; });
		EXPECT_TRUE(destroyed);
		hold.unlock();
		if (green) {
			lwp_thread.join();
		} else {
			kernel_thread.join();
		}
	}
}

// ---- what only the second kind has ---------------------------------------------------------------------------------

namespace {

/// BasicLockable and nothing more; may be told to throw.
struct strange_lock {
	lwp::mutex m;
	bool unlock_throws = false;
	bool lock_throws = false;
	void lock() {
		if (lock_throws) {
			throw std::runtime_error("lock");
		}
		m.lock();
	}
	void unlock() {
		if (unlock_throws) {
			throw std::runtime_error("unlock");
		}
		m.unlock();
	}
};

}  // namespace

TEST(ConditionVariableAny, AnyLockAndItsExceptions) {
	lwp::condition_variable_any cv;
	strange_lock l;
	l.lock();
	l.unlock_throws = true;
	EXPECT_THROW(cv.wait(l), std::runtime_error);
	EXPECT_THROW((void)cv.wait_for(l, 1s), std::runtime_error);
	l.unlock_throws = false;
	cv.notify_one();  // finds nobody
	EXPECT_EQ(cv.wait_for(l, 1ms), std::cv_status::timeout);
	l.unlock();
}

TEST(ConditionVariableAny, RelockThatThrowsTerminates) {
	testing::GTEST_FLAG(death_test_style) = "threadsafe";
	EXPECT_DEATH(
	    {
		    lwp::condition_variable_any cv;
		    strange_lock l;
		    l.lock();
		    l.lock_throws = true;
		    (void)cv.wait_for(l, 1ms);
	    },
	    "");
}

TEST(ConditionVariableAny, StopRequestEndsTheWait) {
	lwp::condition_variable_any cv;
	lwp::mutex m;
	std::stop_source before;
	before.request_stop();
	lock hold(m);
	EXPECT_FALSE(cv.wait(hold, before.get_token(), [] { return false; }));
	EXPECT_TRUE(cv.wait(hold, before.get_token(), [] { return true; }));
	EXPECT_FALSE(cv.wait_for(hold, before.get_token(), 1h, [] { return false; }));
	std::stop_source idle;
	EXPECT_FALSE(cv.wait_for(hold, idle.get_token(), 1ms, [] { return false; }));
	EXPECT_FALSE(cv.wait_until(hold, idle.get_token(), system_clock::now() - 1s, [] { return false; }));
	EXPECT_FALSE(cv.wait(hold, idle.get_token(), [&] {
		idle.request_stop();  // between the predicate's look and the sleep
		return false;
	}));
	std::stop_source later;
	lwp::thread stopper([&] {
		lock other(m);
		later.request_stop();
	});
	EXPECT_FALSE(cv.wait(hold, later.get_token(), [] { return false; }));
	EXPECT_TRUE(hold.owns_lock());
	hold.unlock();
	stopper.join();
	cv.notify_all();
}

// Stop, notification and deadline at once: each wait ends, and nothing stays in the line.
TEST(ConditionVariableAny, StopsAndNotificationsAtOnce) {
	const std::size_t n = rounds(1000);
	lwp::condition_variable_any cv;
	lwp::mutex m;
	dice d(seed());
	for (std::size_t i = 0; i < n; i++) {
		std::stop_source stop;
		const auto span = std::chrono::microseconds(d.below(50));
		lwp::thread waiter([&] {
			lock hold(m);
			(void)cv.wait_for(hold, stop.get_token(), span, [] { return false; });
		});
		std::thread killer([&] { stop.request_stop(); });
		cv.notify_all();
		waiter.join();
		killer.join();
	}
	lock hold(m);
	EXPECT_EQ(cv.wait_for(hold, 0s), std::cv_status::timeout);
}

// A wait leaves no record of itself behind, so its LWP may end anywhere after it.
TEST(ConditionVariableAny, WaiterMayEndAfterwards) {
	lwp::condition_variable_any cv;
	lwp::mutex m;
	for (const bool stoppable : {false, true}) {
		// It keeps nothing that its frames would have to free: they are not unwound.
		auto body = [&] {
			{
				lock hold(m);
				std::stop_source stop;
				stoppable ? (void)cv.wait_for(hold, stop.get_token(), 1us, [] { return false; }) : (void)cv.wait_for(hold, 1us);
			}
			_lwp_exit();  // aborts if a record is left
		};
		const lwpid_t lid = spawn(std::ref(body));
		collect(lid);
	}
}
