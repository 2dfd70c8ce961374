// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2
//
// Misuse of the blocking primitives is named by debug builds of the library: what, which object, who, and who should have done it.  Each case is a
// program of its own: this one, run with the case's name.  Release builds leave most of it undefined, so there the cases are not run.
#include "support/cases.h"
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <cstring>
#include <memory>
#include <mutex>
#include <ostream>
#include <regex.h>
#include <string>
#include <thread>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

// ---- the cases -----------------------------------------------------------------------------------------------------------------------------

/// `wait(object)` blocks an LWP named "waiter"; then the object is destroyed.
template <class T, class Wait, class... Args>
void destroy_waited(Wait wait, Args... args) {
	auto *object = new T(args...);
	subject waiter([object, &wait](subject &s) {
		_lwp_setname(0, "waiter");
		s.about_to_block();
		wait(*object);
	});
	waiter.await_blocked();
	delete object;
}

/// `take(m)` by one LWP named "owner", which lives on, then `give(m)` by the caller.
template <class M, class Take, class Give>
void give_anothers(Take take, Give give) {
	auto *m = new M;
	subject owner([m, &take](subject &s) {
		_lwp_setname(0, "owner");
		take(*m);
		s.about_to_block();
		park();
	});
	owner.await_blocked();
	give(*m);
}

template <class M>
void unlock_anothers() {
	give_anothers<M>([](M &m) { m.lock(); }, [](M &m) { m.unlock(); });
}

/// While another shares it too: the count alone would not tell.
template <class M>
void unlock_shared_anothers() {
	give_anothers<M>([](M &m) { m.lock_shared(); }, [](M &m) { m.unlock_shared(); });
}

template <class M, class Take>
void end_with(Take take) {
	auto *m = new M;
	lwp::thread({.name = "forgetful"}, [m, &take] { take(*m); }).join();
}

void wait_any(lwp::condition_variable_any &cv) {
	lwp::mutex m;
	std::unique_lock hold(m);
	cv.wait(hold);
}

void wait_plain(lwp::condition_variable &cv) {
	lwp::mutex m;
	std::unique_lock hold(m);
	cv.wait(hold);
}

/// std leaves it undefined; here it is std's error for a deadlock that is seen.
template <class M>
void lock_twice() {
	M m;
	std::lock_guard hold(m);
	try {
		m.lock();
	} catch (const std::system_error &e) {
		std::fprintf(stderr, "%s: %s\n", e.code() == std::errc::resource_deadlock_would_occur ? "EDEADLK" : "?", e.what());
		std::abort();
	}
}

const char *const destroyed = "is destroyed while LWPs wait for it, LWP [0-9]+ 'waiter' first";

struct scenario {
	const char *name;
	void (*run)();
	const char *type;  // in the message
	const char *says;  // a regular expression
	bool in_release;   // named there as well
};

const scenario scenarios[] = {
    {"semaphore_waited", [] { destroy_waited<lwp::counting_semaphore<>>([](auto &s) { s.acquire(); }, 0); }, "counting_semaphore",
        destroyed, false},
    {"latch_waited", [] { destroy_waited<lwp::latch>([](auto &l) { l.wait(); }, 1); }, "latch", destroyed, false},
    {"barrier_waited", [] { destroy_waited<lwp::barrier<>>([](auto &b) { b.arrive_and_wait(); }, 2); }, "barrier", destroyed, false},
    {"event_waited", [] { destroy_waited<lwp::event>([](auto &e) { e.wait(); }); }, "event", destroyed, false},
    {"automatic_event_waited", [] { destroy_waited<lwp::event>([](auto &e) { e.wait(); }, lwp::event_reset::automatic); }, "event",
        destroyed, false},
    {"condvar_waited", [] { destroy_waited<lwp::condition_variable>(wait_plain); }, "condition_variable", destroyed, false},
    {"condvar_any_waited", [] { destroy_waited<lwp::condition_variable_any>(wait_any); }, "condition_variable_any", destroyed, false},
    {"condvar_with_two_mutexes",
        [] {
	        auto *cv = new lwp::condition_variable;
	        subject waiter([cv](subject &s) {
		        lwp::mutex m;
		        std::unique_lock hold(m);
		        s.about_to_block();
		        cv->wait(hold);
	        });
	        waiter.await_blocked();
	        wait_plain(*cv);
        },
        "condition variable", "LWPs wait on one condition variable with different mutexes", true},
    {"wait_group_waited", [] { destroy_waited<lwp::wait_group>([](auto &g) { g.wait(); }, 1); }, "wait_group",
        "is destroyed with 1 of its work left", false},
    {"channel_waited", [] { destroy_waited<lwp::channel<int>>([](auto &c) { (void)c.receive(); }); }, "channel",
        "destroyed while somebody waits in it", true},
    {"mutex_owned",
        [] {
	        auto *m = new lwp::mutex;
	        subject owner([m](subject &s) {
		        _lwp_setname(0, "owner");
		        m->lock();
		        s.about_to_block();
		        park();
	        });
	        owner.await_blocked();
	        subject waiter([m](subject &s) {
		        s.about_to_block();
		        m->lock();
	        });
	        waiter.await_blocked();
	        delete m;
        },
        "mutex", "is destroyed while LWP [0-9]+ 'owner' owns it", false},

    {"mutex_of_another", unlock_anothers<lwp::mutex>, "mutex", "by LWP [0-9]+ '.*'; LWP [0-9]+ 'owner' owns it", false},
    {"timed_mutex_of_another", unlock_anothers<lwp::timed_mutex>, "mutex", "LWP [0-9]+ 'owner' owns it", false},
    {"recursive_mutex_of_another", unlock_anothers<lwp::recursive_mutex>, "recursive_mutex", "LWP [0-9]+ 'owner' owns it", false},
    {"shared_mutex_of_another", unlock_anothers<lwp::shared_mutex>, "shared_mutex", "LWP [0-9]+ 'owner' owns it", false},
    {"shared_by_another", unlock_shared_anothers<lwp::shared_mutex>, "shared_mutex",
        "by an LWP that does not share it: lwp::shared_mutex at 0x[0-9a-f]+, by LWP [0-9]+", false},
    {"mutex_of_nobody", [] { (new lwp::mutex)->unlock(); }, "mutex", "by LWP [0-9]+ '.*'; nobody owns it", false},
    {"shared_mutex_of_nobody", [] { (new lwp::shared_mutex)->unlock(); }, "shared_mutex", "nobody owns it", false},
    {"by_a_kernel_thread", [] { std::thread([] { (new lwp::mutex)->unlock(); }).join(); }, "mutex", "nobody owns it", false},

    {"ends_with_a_mutex", [] { end_with<lwp::mutex>([](auto &m) { m.lock(); }); }, "LWP",
        "LWP [0-9]+ 'forgetful' ends and still owns 1 mutex\\(es\\): one is at 0x", false},
    {"ends_with_a_tried_mutex", [] { end_with<lwp::mutex>([](auto &m) { (void)m.try_lock(); }); }, "LWP",
        "'forgetful' ends and still owns 1 mutex", false},
    {"ends_with_a_recursive_mutex",
        [] {
	        end_with<lwp::recursive_mutex>([](auto &m) {
		        m.lock();
		        m.lock();
		        m.unlock();
	        });
        },
        "LWP", "'forgetful' ends and still owns 1 mutex", false},
    {"ends_alone_in_a_shared_mutex", [] { end_with<lwp::shared_mutex>([](auto &m) { m.lock(); }); }, "LWP",
        "'forgetful' ends and still owns 1 mutex", false},
    {"ends_and_shares", [] { end_with<lwp::shared_mutex>([](auto &m) { m.lock_shared(); }); }, "LWP",
        "'forgetful' ends and still shares the shared mutex at 0x", false},

    {"mutex_once_more", lock_twice<lwp::mutex>, "mutex", "EDEADLK: .*the caller has it already", true},
    {"timed_mutex_once_more", lock_twice<lwp::timed_mutex>, "mutex", "EDEADLK: .*the caller has it already", true},
    {"shared_mutex_once_more", lock_twice<lwp::shared_mutex>, "shared_mutex", "EDEADLK: .*the caller has it already", true},
};

// ---- running them --------------------------------------------------------------------------------------------------------------------------

/// POSIX's: std::regex makes gcc 12 warn of itself under AddressSanitizer.
bool matches(const std::string &text, const char *expression) {
	regex_t compiled;
	if (::regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB | REG_NEWLINE) != 0) {
		return false;
	}
	const bool found = ::regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
	::regfree(&compiled);
	return found;
}

std::ostream &operator<<(std::ostream &out, const scenario &s) { return out << s.name; }

class Misuse : public testing::TestWithParam<scenario> {};

TEST_P(Misuse, IsNamed) {
	const scenario &s = GetParam();
#if !LWP_DEBUG
	if (!s.in_release) {
		GTEST_SKIP() << "debug builds of the library name it";
	}
#endif
	const outcome o = run_case(s.name, {{"LWP_LOCK_ORDER", "off"}, {"LWP_DEADLOCK", "off"}});
	EXPECT_TRUE(o.aborted()) << o.status << '\n' << o.text;
	EXPECT_TRUE(matches(o.text, s.says)) << s.says << " is not in\n" << o.text;
	EXPECT_NE(o.count(s.type), 0U) << o.text;
}

INSTANTIATE_TEST_SUITE_P(Catalogue, Misuse, testing::ValuesIn(scenarios), [](const auto &i) { return std::string(i.param.name); });

// What comes close to it and is none: whoever gave up, or was let through, waits no more.
TEST(NoMisuse, DestroyedAfterTheWaits) {
	for (int i = 0; i < 20; i++) {
		{
			lwp::counting_semaphore<> s(0);
			EXPECT_FALSE(s.try_acquire_for(1us));
		}
		{
			lwp::event e;
			EXPECT_FALSE(e.wait_for(1us));
		}
		{
			lwp::condition_variable_any cv;
			lwp::mutex m;
			std::unique_lock hold(m);
			EXPECT_EQ(cv.wait_for(hold, 1us), std::cv_status::timeout);
		}
		{
			lwp::condition_variable cv;
			lwp::mutex m;
			std::unique_lock hold(m);
			EXPECT_EQ(cv.wait_for(hold, 1us), std::cv_status::timeout);
		}
		{
			lwp::barrier<> b(3);
			(void)b.arrive();
			b.arrive_and_drop();  // nobody waits
		}
		{
			lwp::latch l(2);
			lwp::thread other([&] { l.wait(); });
			l.count_down(2);
			other.join();
		}
		{
			lwp::shared_mutex m;  // shared by a kernel thread and an LWP, given up in another order
			m.lock_shared();
			std::thread([&] {
				m.lock_shared();
				m.unlock_shared();
			}).join();
			m.unlock_shared();
		}
	}
}

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
