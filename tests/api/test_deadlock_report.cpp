// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2 8
//
// What a report says, on whose wish it is made, and what follows.  Which deadlocks are reported is test_deadlock.cpp's matter.
#include "support/cases.h"
#include "support/support.h"

#include <lwp/deadlock.hpp>
#include <lwp/lwp.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <gtest/gtest.h>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

__attribute__((noinline)) void stand_here(lwp::event &e) {
	e.wait();
	asm volatile("");  // not a jump: the frame is to be seen
}

/// A circle is told and the program goes on, as LWP_DEADLOCK=report has it.
void circle_and_on() {
	auto *a = new lwp::mutex;
	auto *b = new lwp::mutex;
	auto *both = new lwp::latch(2);
	const auto cross = [=](lwp::mutex *first, lwp::mutex *second) {
		first->lock();
		both->arrive_and_wait();
		second->lock();
	};
	lwp::thread({.name = "one", .detached = true}, cross, a, b);
	lwp::thread({.name = "two", .detached = true}, cross, b, a);
	while (lwp::deadlock_report().find("circle of 2: ") == std::string::npos) {
		lwp::this_thread::yield();
	}
	std::_Exit(0);  // without destructors: the mutexes are in use
}

/// What is written to standard error goes to a file; `until` is awaited in it, then it is passed on.
class captured {
public:
	captured() : file_(::memfd_create("stderr", MFD_CLOEXEC)), real_(::fcntl(2, F_DUPFD_CLOEXEC, 3)) { ::dup2(file_, 2); }
	bool await(const char *until) {
		std::string text;
		while (text.find(until) == std::string::npos) {
			lwp::this_thread::yield();
			text.resize(static_cast<std::size_t>(::lseek(file_, 0, SEEK_END)));
			text.resize(static_cast<std::size_t>(::pread(file_, text.data(), text.size(), 0)));
		}
		return ::write(real_, text.data(), text.size()) == static_cast<ssize_t>(text.size());
	}

private:
	int file_;
	int real_;
};

/// The first SIGQUIT is a report, the second one ends the program.
void quit_twice() {
	lwp::event never_set;
	lwp::thread sleeper({.name = "sleeper", .detached = true}, [&] { stand_here(never_set); });
	while (lwp::deadlock_report().find("'sleeper' LSSLEEP") == std::string::npos) {
		lwp::this_thread::yield();
	}
	captured out;
	::kill(::getpid(), SIGQUIT);
	if (!out.await("'sleeper' LSSLEEP")) {
		std::exit(9);
	}
	::kill(::getpid(), SIGQUIT);
	for (;;) {
		lwp::this_thread::yield();
	}
}

const std::pair<const char *, void (*)()> programs[] = {{"circle_and_on", circle_and_on}, {"quit_twice", quit_twice}};

TEST(DeadlockReport, ACircleIsToldAndTheProgramGoesOn) {
	const outcome o = run_case("circle_and_on", {{"LWP_DEADLOCK", "report"}, {"LWP_LOCK_ORDER", "off"}});
	EXPECT_TRUE(o.ended_well()) << o.status << '\n' << o.text;
	EXPECT_EQ(o.count("lwp: deadlock: 2 LWPs wait in a circle"), 1U) << o.text;
	// Both, each with what it waits for and who has that.
	EXPECT_EQ(o.count("is about to wait for mutex 0x"), 1U) << o.text;
	EXPECT_EQ(o.count("LSSLEEP, waits for mutex 0x"), 1U) << o.text;
	EXPECT_EQ(o.count(", held by LWP "), 2U) << o.text;
	EXPECT_NE(o.text.find("circle_and_on"), std::string::npos) << "functions have names, static ones too\n" << o.text;
}

TEST(DeadlockReport, AndNotTold) {
	const outcome o = run_case("circle_and_on", {{"LWP_DEADLOCK", "off"}, {"LWP_LOCK_ORDER", "off"}});
	EXPECT_TRUE(o.ended_well()) << o.status << '\n' << o.text;
	EXPECT_EQ(o.text, "");
}

TEST(DeadlockReport, FirstSigquitReportsAndTheNextEndsTheProgram) {
	const outcome o = run_case("quit_twice", {{"LWP_DEADLOCK", "abort"}});
	EXPECT_TRUE(WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGQUIT) << o.status << '\n' << o.text;
	EXPECT_NE(o.text.find("lwp: who does not run\n"), std::string::npos) << o.text;
	EXPECT_NE(o.text.find("stand_here"), std::string::npos) << o.text;
	EXPECT_EQ(o.text.find("deadlock"), std::string::npos) << o.text;
}

TEST(DeadlockReport, WithoutReportsSigquitEndsTheProgram) {
	const outcome o = run_case("quit_twice", {{"LWP_DEADLOCK", "off"}});
	EXPECT_TRUE(WIFSIGNALED(o.status) && WTERMSIG(o.status) == SIGQUIT) << o.status << '\n' << o.text;
	EXPECT_EQ(o.text, "");
}

std::string hex(const void *p) {
	char text[32];
	std::snprintf(text, sizeof text, "%p", p);
	return text;
}

// Each kind of wait by the name of the thing, its address, and who has it.
TEST(DeadlockReport, SaysWhatEachWaitsForAndWhoHasIt) {
	lwp::mutex m;
	lwp::shared_mutex s;
	lwp::condition_variable cv;
	lwp::condition_variable_any any;
	lwp::counting_semaphore<> sem(0);
	lwp::latch l(1);
	lwp::event e;
	lwp::wait_group g(1);
	lwp::barrier<> b(2);
	lwp::channel<int> ch;
	lwp::promise<void> p;
	lwp::once_flag once;
	lwp::mutex free, free_too;
	bool done = false;
	std::unique_lock own(m);
	std::unique_lock own_alone(s);
	std::vector<std::string> wanted;
	std::vector<lwp::thread> all;
	all.reserve(20);  // one of them refers to another
	const auto wait = [&](const char *name, const std::string &what, std::function<void()> call) {
		all.emplace_back(lwp::attributes{.name = name}, std::move(call));
		wanted.push_back(std::string("'").append(name).append("' LSSLEEP, waits for ").append(what));
	};
	std::string text;
	const auto says = [&](const std::string &line) {
		text = lwp::deadlock_report();
		return text.find(line) != std::string::npos;
	};
	const std::string self = ", held by LWP " + std::to_string(_lwp_self()) + " '";
	wait("mutex", "mutex " + hex(&m) + self, [&] { std::lock_guard hold(m); });
	wait("writer", "rwlock, write " + hex(&s) + " (rwlock)" + self, [&] { std::lock_guard hold(s); });
	wait("reader", "rwlock, read " + hex(&s) + " (rwlock)" + self, [&] { std::shared_lock hold(s); });
	wait("condvar", "condvar " + hex(&cv), [&] {
		std::unique_lock hold(free);
		cv.wait(hold, [&] { return done; });
	});
	wait("any", "condvar " + hex(&any), [&] {
		std::unique_lock hold(free_too);
		any.wait(hold, [&] { return done; });
	});
	wait("semaphore", "semaphore " + hex(&sem), [&] { sem.acquire(); });
	wait("latch", "latch " + hex(&l), [&] { l.wait(); });
	wait("event", "event " + hex(&e), [&] { stand_here(e); });
	wait("group", "wait_group " + hex(&g), [&] { g.wait(); });
	wait("barrier", "barrier " + hex(&b), [&] { b.arrive_and_wait(); });
	wait("channel", "channel 0x", [&] { (void)ch.receive(); });
	wait("future", "future 0x", [&] { p.get_future().wait(); });
	wait("runner", "event " + hex(&e), [&] { lwp::call_once(once, [&] { stand_here(e); }); });
	const std::size_t runs = all.size() - 1;
	const std::string runner = std::to_string(all[runs].native_handle()).append(" 'runner'");
	ASSERT_TRUE(wait_until([&] { return says(wanted[runs]); })) << text;  // it runs the function: others may come
	wait("once", "once " + hex(&once) + ", run by LWP " + runner, [&] { lwp::call_once(once, [] {}); });
	wait("joiner", "the end of LWP " + runner, [&, runs] { all[runs].join(); });
	for (const std::string &line : wanted) {
		EXPECT_TRUE(wait_until([&] { return says(line); })) << line << " is not in\n" << text;
	}
	EXPECT_NE(text.find("stand_here"), std::string::npos) << text;
	EXPECT_EQ(text.find("circle"), std::string::npos) << text;
	own.unlock();
	own_alone.unlock();
	{
		const std::scoped_lock both(free, free_too);
		done = true;
	}
	cv.notify_all();
	any.notify_all();
	sem.release();
	l.count_down();
	e.set();
	g.done();
	b.arrive_and_wait();
	ch.send(1);
	p.set_value();
	for (std::size_t i = 0; i < all.size(); i++) {
		if (i != runs) {  // the joiner's
			all[i].join();
		}
	}
}

const bool cases = offer_cases([](const char *wanted) {
	for (const auto &[name, run] : programs) {
		if (std::strcmp(name, wanted) == 0) {
			run();
			return true;
		}
	}
	return false;
});

}  // namespace
