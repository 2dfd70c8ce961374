// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2 8
//
// Deadlocks that are reported, and what only looks like one.  Each case is a program of its own: this one, run with the case's name.
#include "support/cases.h"
#include "support/support.h"

#include <lwp/deadlock.hpp>
#include <lwp/lwp.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <ostream>
#include <shared_mutex>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

// ---- the cases -----------------------------------------------------------------------------------------------------------------------------

void two_mutexes() {
	lwp::mutex a, b;
	lwp::latch both(2);
	lwp::thread one({.name = "one"}, [&] {
		std::lock_guard first(a);
		both.arrive_and_wait();
		std::lock_guard second(b);
	});
	lwp::thread two({.name = "two"}, [&] {
		std::lock_guard first(b);
		both.arrive_and_wait();
		std::lock_guard second(a);
	});
	one.join();
	two.join();
}

void ring_of(unsigned n) {
	std::vector<lwp::mutex> forks(n);
	lwp::latch all(n);
	std::vector<lwp::thread> diners;
	for (unsigned i = 0; i < n; i++) {
		diners.emplace_back(lwp::attributes{.name = "diner"}, [&, i] {
			std::lock_guard left(forks[i]);
			all.arrive_and_wait();
			std::lock_guard right(forks[(i + 1) % n]);
		});
	}
	for (auto &d : diners) {
		d.join();
	}
}

void join_under_mutex() {
	lwp::mutex m;
	std::lock_guard hold(m);
	lwp::thread child({.name = "child"}, [&] { std::lock_guard inner(m); });
	child.join();
}

void with_kernel_thread() {
	lwp::mutex a, b;
	lwp::latch both(2);
	std::thread other([&] {
		std::lock_guard first(a);
		both.arrive_and_wait();
		std::lock_guard second(b);
	});
	std::lock_guard first(b);
	both.arrive_and_wait();
	std::lock_guard second(a);
	other.join();
}

void suspended_owner() {
	lwp::mutex m;
	std::atomic<bool> has{false};
	lwp::thread owner({.name = "owner"}, [&] {
		std::lock_guard hold(m);
		has = true;
		for (;;) {
			lwp::this_thread::yield();
		}
	});
	while (!has) {
		lwp::this_thread::yield();
	}
	if (_lwp_suspend(owner.native_handle()) != 0) {
		std::exit(9);
	}
	std::lock_guard hold(m);
}

void park_for_ever() { _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); }

void nobody_notifies() {
	lwp::mutex m;
	lwp::condition_variable cv;
	std::unique_lock hold(m);
	cv.wait(hold, [] { return false; });
}

void nobody_releases() { lwp::binary_semaphore(0).acquire(); }

void nobody_sends() { (void)lwp::channel<int>().receive(); }

void both_send_first() {
	lwp::channel<int> there, back;
	lwp::thread other({.name = "other"}, [&] {
		back.send(1);
		(void)there.receive();
	});
	there.send(1);
	(void)back.receive();
	other.join();
}

void one_too_few() {
	lwp::barrier all(3);
	lwp::thread other({.name = "other"}, [&] { all.arrive_and_wait(); });
	all.arrive_and_wait();
	other.join();
}

void latch_of_two() {
	lwp::latch both(2);
	both.arrive_and_wait();
}

void promise_kept_by_nobody() {
	lwp::promise<int> p;
	(void)p.get_future().get();
}

void both_upgrade() {
	lwp::shared_mutex m;
	lwp::latch both(2);
	lwp::thread other({.name = "other"}, [&] {
		m.lock_shared();
		both.arrive_and_wait();
		m.lock();
	});
	m.lock_shared();
	both.arrive_and_wait();
	m.lock();
	other.join();
}

void two_writers() {
	lwp::shared_mutex a;
	lwp::mutex b;
	lwp::latch both(2);
	lwp::thread one({.name = "writer"}, [&] {
		std::lock_guard first(a);
		both.arrive_and_wait();
		std::lock_guard second(b);
	});
	lwp::thread two({.name = "reader"}, [&] {
		std::lock_guard first(b);
		both.arrive_and_wait();
		std::shared_lock second(a);
	});
	one.join();
	two.join();
}

void scope_of_one_that_waits() {
	lwp::event never_set;
	lwp::scope children;
	children.start([&] { never_set.wait(); });
	children.join();
}

void one_done_is_missing() {
	lwp::wait_group group;
	group.add(2);
	group.done();
	group.wait();
}

void once_and_mutex() {
	lwp::once_flag flag;
	lwp::mutex m;
	lwp::latch both(2);
	lwp::thread one({.name = "runner"}, [&] {
		lwp::call_once(flag, [&] {
			both.arrive_and_wait();
			std::lock_guard inside(m);
		});
	});
	lwp::thread two({.name = "caller"}, [&] {
		std::lock_guard hold(m);
		both.arrive_and_wait();
		lwp::call_once(flag, [] {});
	});
	one.join();
	two.join();
}

void two_flags() {
	lwp::once_flag a, b;
	lwp::latch both(2);
	const auto cross = [&](lwp::once_flag &first, lwp::once_flag &second) {
		lwp::call_once(first, [&] {
			both.arrive_and_wait();
			lwp::call_once(second, [] {});
		});
	};
	lwp::thread one({.name = "one"}, cross, std::ref(a), std::ref(b));
	lwp::thread two({.name = "two"}, cross, std::ref(b), std::ref(a));
	one.join();
	two.join();
}

/// Whoever is later of two closes the circle: the owner, who comes to wait for a waiter, or the notification, which makes that waiter wait for it.
void notified_and_still_stuck() {
	lwp::mutex m, kept;
	lwp::condition_variable cv;
	int inside = 0;
	std::atomic<bool> owned{false};
	const auto wait = [&] {
		std::unique_lock hold(m);
		inside++;
		cv.wait(hold);
	};
	lwp::thread one({.name = "waiter"}, [&] {
		std::lock_guard keep(kept);
		wait();
	});
	lwp::thread two({.name = "companion"}, wait);
	const auto waiting = [&] {
		const std::lock_guard hold(m);
		return inside;
	};
	while (waiting() != 2) {
		lwp::this_thread::yield();
	}
	lwp::thread owner({.name = "owner"}, [&] {
		std::lock_guard hold(m);
		owned = true;
		std::lock_guard second(kept);
	});
	while (!owned) {
		lwp::this_thread::yield();
	}
	cv.notify_all();
	one.join();
	two.join();
	owner.join();
}

/// A waiting writer keeps out a reader that another reader waits for.
void reader_behind_a_writer() {
	lwp::shared_mutex m;
	lwp::binary_semaphore shared(0), go(0);
	lwp::thread reader({.name = "reader"}, [&] {
		std::shared_lock hold(m);
		shared.release();
		go.acquire();
	});
	shared.acquire();
	lwp::thread writer({.name = "writer"}, [&] { std::lock_guard alone(m); });
	while (m.try_lock_shared()) {  // until the writer waits
		m.unlock_shared();
		lwp::this_thread::yield();
	}
	std::shared_lock late(m);
	go.release();
	reader.join();
	writer.join();
}

void semaphores_as_locks() {
	lwp::binary_semaphore a(1), b(1);
	lwp::latch both(2);
	const auto cross = [&](lwp::binary_semaphore &first, lwp::binary_semaphore &second) {
		first.acquire();
		both.arrive_and_wait();
		second.acquire();
	};
	lwp::thread one({.name = "one"}, cross, std::ref(a), std::ref(b));
	lwp::thread two({.name = "two"}, cross, std::ref(b), std::ref(a));
	one.join();
	two.join();
}

void select_of_nobody() {
	lwp::channel<int> a, b(3);
	lwp::select(lwp::on_receive(a, [](auto) {}), lwp::on_receive(b, [](auto) {}));
}

void siblings_wait_for_each_other() {
	lwp::promise<int> first, second;
	lwp::scope children;
	children.start({.name = "elder"}, [&] { first.set_value(second.get_future().get()); });
	children.start({.name = "younger"}, [&] { second.set_value(first.get_future().get()); });
	children.join();
}

// ---- what only looks like one -----------------------------------------------------------------------------------------------------------

void timed_circle() {
	lwp::timed_mutex a, b;
	lwp::latch both(2);
	lwp::thread one([&] {
		std::lock_guard first(a);
		both.arrive_and_wait();
		if (b.try_lock_for(600ms)) {
			b.unlock();
		}
	});
	lwp::thread two([&] {
		std::lock_guard first(b);
		both.arrive_and_wait();
		std::lock_guard second(a);
	});
	one.join();
	two.join();
}

void long_sleeper() {
	lwp::mutex m;
	lwp::latch both(2);
	lwp::thread owner([&] {
		std::lock_guard hold(m);
		both.arrive_and_wait();
		lwp::this_thread::sleep_for(800ms);
	});
	both.arrive_and_wait();
	std::lock_guard hold(m);
	owner.join();
}

void kernel_thread_to_come() {
	lwp::mutex m;
	std::atomic<bool> has{false};
	std::thread other([&] {
		m.lock();
		has = true;
		::usleep(800'000);
		m.unlock();
	});
	while (!has) {
		lwp::this_thread::yield();
	}
	m.lock();
	m.unlock();
	other.join();
}

void stranger_to_come() {
	const lwpid_t self = _lwp_self();
	std::thread other([&] {  // meets the library only when it acts
		::usleep(800'000);
		_lwp_unpark(self, nullptr);
	});
	park_for_ever();
	other.join();
}

void busy_lwp() {
	lwp::mutex m;
	std::atomic<bool> has{false};
	lwp::thread owner([&] {
		std::lock_guard hold(m);
		has = true;
		const auto until = std::chrono::steady_clock::now() + 800ms;
		while (std::chrono::steady_clock::now() < until) {
		}
	});
	while (!has) {
		lwp::this_thread::yield();
	}
	std::lock_guard hold(m);
	owner.join();
}

void io_to_come() {
	int ends[2];
	if (::pipe2(ends, O_CLOEXEC) != 0) {
		std::exit(9);
	}
	const pid_t child = ::fork();
	if (child == 0) {
		::usleep(800'000);
		_exit(::write(ends[1], "x", 1) == 1 ? 0 : 1);
	}
	char c = 0;
	if (lwp_read(ends[0], &c, 1) != 1) {
		std::exit(9);
	}
	(void)::waitpid(child, nullptr, 0);
}

void tick_to_come() {
	auto late = lwp::after(800ms);
	(void)late.receive();
}

lwpid_t signalled;

void signal_to_come() {
	signalled = _lwp_self();
	std::signal(SIGALRM, [](int) {});
	std::thread([] {  // in the place of a handler that wakes: the program has one, so nobody can know
		::usleep(800'000);
		_lwp_unpark(signalled, nullptr);
	})
	    .detach();
	park_for_ever();
}

/// Many that contend for two mutexes in one order: circles must not be seen where there are none.
void busy_mutexes() {
	lwp::mutex a, b;
	std::vector<lwp::thread> all;
	for (int i = 0; i < 40; i++) {
		all.emplace_back([&, i] {
			for (int k = 0; k < 200; k++) {
				if ((i + k) % 3 == 0) {
					std::lock_guard only(b);
					lwp::this_thread::yield();
				} else {
					std::scoped_lock both(a, b);
					lwp::this_thread::yield();
				}
			}
		});
	}
	for (auto &t : all) {
		t.join();
	}
}

/// The owner of the mutex waits as those did that it moved, but for one that goes on.
void moved_waiters_go_on() {
	lwp::mutex m, kept;
	lwp::condition_variable cv;
	int inside = 0;
	bool go = false;
	const auto wait = [&] {
		std::unique_lock hold(m);
		inside++;
		cv.wait(hold, [&] { return go; });
	};
	lwp::thread one(wait);
	lwp::thread two(wait);
	lwp::thread keeper([&] {
		std::lock_guard keep(kept);
		lwp::this_thread::sleep_for(600ms);
	});
	const auto waiting = [&] {
		const std::lock_guard hold(m);
		return inside;
	};
	while (waiting() != 2) {
		lwp::this_thread::yield();
	}
	{
		std::lock_guard hold(m);
		go = true;
		cv.notify_all();
		std::lock_guard second(kept);
	}
	one.join();
	two.join();
	keeper.join();
}

void once_that_ends() {
	lwp::once_flag flag;
	lwp::mutex m;
	const auto slow = [&] {
		std::lock_guard inside(m);
		lwp::this_thread::sleep_for(600ms);
	};
	std::vector<lwp::thread> all;
	for (int i = 0; i < 4; i++) {
		all.emplace_back([&] { lwp::call_once(flag, slow); });
	}
	lwp::call_once(flag, slow);
	std::lock_guard after(m);
	for (auto &t : all) {
		t.join();
	}
}

/// A join with a deadline, under a mutex that the other wants: it ends by itself.
void timed_join_under_mutex() {
	lwp::mutex m;
	std::unique_lock hold(m);
	lwp::thread child([&] { std::lock_guard inner(m); });
	if (child.try_join_for(600ms)) {
		std::exit(9);
	}
	hold.unlock();
	child.join();
}

/// A circle that a stop request opens.
void stop_to_come() {
	lwp::timed_mutex a, b;
	lwp::latch both(2);
	std::stop_source source;
	lwp::thread one([&] {
		std::lock_guard first(a);
		both.arrive_and_wait();
		if (b.lock(source.get_token())) {
			std::exit(9);
		}
	});
	lwp::thread two([&] {
		std::lock_guard first(b);
		both.arrive_and_wait();
		std::lock_guard second(a);
	});
	lwp::this_thread::sleep_for(600ms);
	source.request_stop();
	one.join();
	two.join();
}

void wait_with_a_deadline() {
	lwp::mutex m;
	lwp::condition_variable cv;
	lwp::thread waiter([&] {
		std::unique_lock hold(m);
		(void)cv.wait_for(hold, 700ms);
	});
	waiter.join();
}

struct scenario {
	const char *name;
	void (*run)();
	bool circle;                     // seen the moment it closes; else some time after everything has come to rest
	std::vector<const char *> says;  // empty: nothing is reported, and it ends
};

const scenario scenarios[] = {
    {"two_mutexes", two_mutexes, true, {"2 LWPs wait in a circle", "'one'", "'two'", "mutex", "held by"}},
    {"three_mutexes", [] { ring_of(3); }, true, {"3 LWPs wait in a circle", "'diner'"}},
    {"five_diners", [] { ring_of(5); }, true, {"5 LWPs wait in a circle"}},
    {"join_under_mutex", join_under_mutex, true, {"2 LWPs wait in a circle", "'child'"}},
    {"with_kernel_thread", with_kernel_thread, true, {"2 LWPs wait in a circle", "held by LWP"}},
    {"suspended_owner", suspended_owner, false, {"every LWP sleeps", "LSSUSPENDED", "held by LWP", "'owner'"}},
    {"park_for_ever", park_for_ever, false, {"every LWP sleeps", "park"}},
    {"two_writers", two_writers, true, {"2 LWPs wait in a circle", "'writer'", "'reader'"}},
    {"both_upgrade", both_upgrade, false, {"every LWP sleeps", "rwlock", "'other'"}},
    {"nobody_notifies", nobody_notifies, false, {"every LWP sleeps", "condvar"}},
    {"nobody_releases", nobody_releases, false, {"every LWP sleeps", "sem"}},
    {"nobody_sends", nobody_sends, false, {"every LWP sleeps", "channel"}},
    {"both_send_first", both_send_first, false, {"every LWP sleeps", "channel", "'other'"}},
    {"one_too_few", one_too_few, false, {"every LWP sleeps", "barrier", "'other'"}},
    {"latch_of_two", latch_of_two, false, {"every LWP sleeps", "latch"}},
    {"promise_kept_by_nobody", promise_kept_by_nobody, false, {"every LWP sleeps", "future"}},
    {"scope_of_one_that_waits", scope_of_one_that_waits, false, {"every LWP sleeps", "event", "scope"}},
    {"one_done_is_missing", one_done_is_missing, false, {"every LWP sleeps", "wait_group"}},
    {"once_and_mutex", once_and_mutex, true, {"2 LWPs wait in a circle", "once 0x", "run by LWP", "'runner'", "'caller'"}},
    {"two_flags", two_flags, true, {"2 LWPs wait in a circle", "once 0x", "'one'", "'two'"}},
    {"notified_and_still_stuck", notified_and_still_stuck, true, {"2 LWPs wait in a circle", "'owner'", "'waiter'"}},
    {"reader_behind_a_writer", reader_behind_a_writer, false, {"every LWP sleeps", "rwlock, read", "rwlock, write", "'writer'"}},
    {"semaphores_as_locks", semaphores_as_locks, false, {"every LWP sleeps", "semaphore", "'one'", "'two'"}},
    {"select_of_nobody", select_of_nobody, false, {"every LWP sleeps", "select"}},
    {"siblings_wait_for_each_other", siblings_wait_for_each_other, false, {"every LWP sleeps", "future", "scope", "'elder'", "'younger'"}},

    {"timed_circle", timed_circle, false, {}},
    {"long_sleeper", long_sleeper, false, {}},
    {"kernel_thread_to_come", kernel_thread_to_come, false, {}},
    {"stranger_to_come", stranger_to_come, false, {}},
    {"busy_lwp", busy_lwp, false, {}},
    {"io_to_come", io_to_come, false, {}},
    {"tick_to_come", tick_to_come, false, {}},
    {"signal_to_come", signal_to_come, false, {}},
    {"busy_mutexes", busy_mutexes, false, {}},
    {"moved_waiters_go_on", moved_waiters_go_on, false, {}},
    {"once_that_ends", once_that_ends, false, {}},
    {"wait_with_a_deadline", wait_with_a_deadline, false, {}},
    {"timed_join_under_mutex", timed_join_under_mutex, false, {}},
    {"stop_to_come", stop_to_come, false, {}},
};

// ---- running them --------------------------------------------------------------------------------------------------------------------------

std::ostream &operator<<(std::ostream &out, const scenario &s) { return out << s.name; }

/// ThreadSanitizer has a kernel thread of its own, which might wake somebody for all the library knows: no standstill is one.
bool can_be_seen(const scenario &s) { return !LWP_TEST_TSAN || s.says.empty() || s.circle; }

class Deadlock : public testing::TestWithParam<scenario> {
protected:
	/// Runs all that are wanted, some at a time: what most of them do is wait.
	static void SetUpTestSuite() {
		constexpr std::size_t at_a_time = 6;
		std::deque<std::pair<const scenario *, running_case>> running;
		const auto end_first = [&running] {
			outcomes[running.front().first->name] = end_case(running.front().second);
			running.pop_front();
		};
		for (const scenario &s : scenarios) {
			if (!is_wanted(s) || !can_be_seen(s)) {
				continue;
			}
			if (running.size() == at_a_time) {
				end_first();
			}
			running.emplace_back(&s, begin_case(s.name, {{"LWP_DEADLOCK", "abort"}, {"LWP_LOCK_ORDER", "off"}}));
		}
		while (!running.empty()) {
			end_first();
		}
	}
	static void TearDownTestSuite() { outcomes.clear(); }

	static std::map<std::string, outcome> outcomes;

private:
	/// By --gtest_filter.
	static bool is_wanted(const scenario &s) {
		const testing::TestSuite *suite = testing::UnitTest::GetInstance()->current_test_suite();
		for (int i = 0; i < suite->total_test_count(); i++) {
			const testing::TestInfo *test = suite->GetTestInfo(i);
			if (test->name() == std::string("IsReportedOrNot/") + s.name) {
				return test->should_run();
			}
		}
		return false;
	}
};
std::map<std::string, outcome> Deadlock::outcomes;

TEST_P(Deadlock, IsReportedOrNot) {
	const scenario &s = GetParam();
	if (!can_be_seen(s)) {
		GTEST_SKIP() << "not under ThreadSanitizer";
	}
	ASSERT_EQ(outcomes.count(s.name), 1U);
	const outcome &o = outcomes[s.name];
	if (s.says.empty()) {
		EXPECT_TRUE(o.ended_well()) << o.status;
		EXPECT_EQ(o.text.find("deadlock"), std::string::npos) << o.text;
		return;
	}
	EXPECT_TRUE(o.aborted()) << o.status << '\n' << o.text;
	EXPECT_NE(o.text.find("lwp: deadlock"), std::string::npos) << o.text;
	for (const char *part : s.says) {
		EXPECT_NE(o.text.find(part), std::string::npos) << part << " is not in\n" << o.text;
	}
}

INSTANTIATE_TEST_SUITE_P(Catalogue, Deadlock, testing::ValuesIn(scenarios), [](const auto &i) { return std::string(i.param.name); });

const bool cases = offer_cases([](const char *wanted) {
	for (const scenario &s : scenarios) {
		if (std::strcmp(s.name, wanted) == 0) {
			s.run();
			return true;
		}
	}
	return false;
});

}  // namespace
