// SPDX-License-Identifier: BSD-2-Clause
//
// Procs and signals: each takes its own; and procs that are stopped, alone or with the world.
// vcpus: 1 2 8
#include "proc_support.h"

#include <csignal>
#include <sys/wait.h>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

}  // namespace

// ---- signals ---------------------------------------------------------------------------------------------------------------

namespace {

std::atomic<int> taken{0};
std::atomic<pid_t> taken_in{0};

void take(int) {
	taken.fetch_add(1);
	taken_in = lwp_proc_self();
}
}  // namespace

TEST(Proc, HandlersAreItsOwn) {
	taken = 0;
	handle(SIGUSR1, take);
	std::atomic<bool> ready{false};
	lwp::proc p([&] {
		struct sigaction inherited {};
		EXPECT_EQ(error_of(lwp_sigaction(SIGUSR1, nullptr, &inherited)), 0);
		EXPECT_EQ(inherited.sa_handler, &take);
		handle(SIGUSR1, SIG_IGN);
		handle(SIGUSR2, take);
		ready = true;
		while (taken.load() == 0) {
			(void)park_for(1s);
		}
		return 6;
	});
	EXPECT_TRUE(wait_until([&] { return ready.load(); }));
	p.kill(SIGUSR1);
	const pid_t pid = p.id();
	p.kill(SIGUSR2);
	EXPECT_EQ(p.wait().code(), 6);
	EXPECT_EQ(taken.load(), 1);
	EXPECT_EQ(taken_in.load(), pid);
	struct sigaction ours {};
	EXPECT_EQ(error_of(lwp_sigaction(SIGUSR2, nullptr, &ours)), 0);
	EXPECT_EQ(ours.sa_handler, SIG_DFL);
	EXPECT_EQ(lwp_proc_kill(SIGUSR1), 0);
	EXPECT_TRUE(wait_until([] { return taken.load() == 2; }));
	EXPECT_EQ(taken_in.load(), 1);
	handle(SIGUSR1, SIG_DFL);
}

TEST(Proc, PendingIsItsOwn) {
	sigset_t usr1;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigset_t before;
	EXPECT_EQ(lwp_sigprocmask(SIG_BLOCK, &usr1, &before), 0);
	std::atomic<bool> sent{false};
	lwp::proc p([&] {  // with its creator's mask
		EXPECT_EQ(lwp_proc_kill(SIGUSR1), 0);
		sent = true;
		int sig = 0;
		(void)lwp_sigwait(&usr1, &sig);
		return sig;
	});
	EXPECT_EQ(p.wait().code(), SIGUSR1);
	sigset_t pending;
	EXPECT_EQ(lwp_sigpending(&pending), 0);
	EXPECT_EQ(sigismember(&pending, SIGUSR1), 0);
	EXPECT_EQ(lwp_sigprocmask(SIG_SETMASK, &before, nullptr), 0);
}

TEST(Proc, SignalThatEndsTheProcessEndsOnlyIt) {
	for (const int sig : {SIGTERM, SIGQUIT, SIGSEGV, SIGKILL}) {
		idler child;
		child.proc.kill(sig);
		const lwp::exit_status how = child.proc.wait();
		EXPECT_TRUE(how.signaled());
		EXPECT_EQ(how.signal(), sig);
		EXPECT_FALSE(how.core_dumped());
	}
	idler child;
	EXPECT_EQ(error_of(_lwp_kill(child.lid.load(), SIGTERM)), ESRCH);
	lwp::proc suicide([] {
		(void)_lwp_kill(_lwp_self(), SIGTERM);
		(void)park_for_ever(nullptr);
	});
	EXPECT_EQ(suicide.wait().signal(), SIGTERM);
}

TEST(Proc, IgnoredSignalsDoNothing) {
	idler child;
	child.proc.kill(SIGCHLD);
	child.proc.kill(SIGCONT);
	child.proc.kill(0);
	EXPECT_FALSE(child.proc.try_wait_for(1ms).has_value());
	EXPECT_EQ(thrown([&] {
		child.proc.kill(65);
		return 0;
	}),
	    EINVAL);
	child.proc.kill();
	(void)child.proc.wait();
	EXPECT_EQ(thrown([&] {
		child.proc.kill();
		return 0;
	}),
	    ESRCH);
}

TEST(Proc, EndedOneTakesNoSignals) {
	const pid_t pid = create(return_7);
	EXPECT_TRUE(wait_until([pid] { return error_of(lwp_proc_signal(pid, 0)) == ESRCH; }));
	EXPECT_EQ(error_of(lwp_proc_signal(pid, SIGKILL)), ESRCH);
	EXPECT_EQ(WEXITSTATUS(how_ended(pid)), 7);
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(pid, nullptr, 0))), ECHILD) << "collected";
}

TEST(Proc, ParentIsToldByASignal) {
	taken = 0;
	handle(SIGCHLD, take, SA_RESTART);
	const pid_t pid = create(return_7);
	EXPECT_EQ(WEXITSTATUS(how_ended(pid)), 7);
	EXPECT_TRUE(wait_until([] { return taken.load() == 1; }));
	handle(SIGCHLD, SIG_DFL);
}

// ---- stopped, and the world ------------------------------------------------------------------------------------------------

namespace {

/// A child whose LWPs count.
struct counting {
	std::atomic<std::size_t> turns{0};
	lwp::proc proc{[this] {
		for (int i = 0; i < 3; i++) {
			(void)begin([this] { count(); });
		}
		count();
	}};
	[[noreturn]] void count() {
		for (;;) {
			turns.fetch_add(1);
			lwp_yield();
		}
	}
	void await_turns() {
		const std::size_t before = turns.load();
		EXPECT_TRUE(wait_until([&] { return turns.load() > before + 10; })) << "they do not run";
	}
	/// Waits until they stand still.
	bool still() {
		return wait_until([this] {
			for (const kinfo_lwp &k : lwp::every_lwp()) {
				if (k.l_pid == proc.id() && k.l_stat != LSSTOP) {
					return false;
				}
			}
			return true;
		});
	}
};

}  // namespace

TEST(Proc, StopsAndGoesOnAlone) {
	counting a;
	counting b;
	a.await_turns();
	for (int i = 0; i < 5; i++) {
		a.proc.stop();
		EXPECT_TRUE(a.proc.stopped());
		EXPECT_FALSE(b.proc.stopped());
		EXPECT_EQ(lwp_proc_stopped(), 0);
		EXPECT_TRUE(a.still());
		const std::size_t at = a.turns.load();
		b.await_turns();
		EXPECT_EQ(a.turns.load(), at);
		a.proc.resume();
		EXPECT_FALSE(a.proc.stopped());
		a.await_turns();
	}
}

TEST(Proc, IsEndedWhileItIsStopped) {
	counting c;
	c.await_turns();
	c.proc.stop();
	EXPECT_TRUE(c.still());
	c.proc.kill(SIGTERM);
	EXPECT_FALSE(c.proc.try_wait_for(1ms).has_value()) << "a stopped proc takes no signals";
	c.proc.kill();
	EXPECT_EQ(c.proc.wait().signal(), SIGKILL);
}

TEST(Proc, StopsItself) {
	std::atomic<int> at{0};
	lwp::proc p([&] {
		at = 1;
		EXPECT_EQ(lwp_proc_stop(), 0);
		at = 2;
	});
	EXPECT_TRUE(wait_until([&] { return p.stopped(); }));
	EXPECT_EQ(at.load(), 1);
	p.resume();
	(void)p.wait();
	EXPECT_EQ(at.load(), 2);
}

TEST(Proc, WorldIsAllProcs) {
	counting a;
	counting b;
	a.await_turns();
	b.await_turns();
	b.proc.stop();
	for (std::size_t i = 0; i < rounds(30); i++) {
		lwp::stop_the_world world;
		ASSERT_TRUE(world.stopped());
		const std::size_t at = a.turns.load();
		for (int k = 0; k < 5; k++) {
			lwp_yield();
		}
		EXPECT_EQ(a.turns.load(), at);
		EXPECT_GE(world.lwps().size(), 3U);
	}
	a.await_turns();
	EXPECT_TRUE(b.proc.stopped()) << "the world goes on, it does not";
	b.proc.resume();
	b.await_turns();
}

TEST(Proc, WorldIsStoppedByAnyProc) {
	counting a;
	a.await_turns();
	lwp::proc stopper([&a] {
		for (std::size_t i = 0; i < rounds(30); i++) {
			lwp::stop_the_world world;
			const std::size_t at = a.turns.load();
			lwp_yield();
			if (a.turns.load() != at) {
				return 1;
			}
		}
		return 0;
	});
	EXPECT_TRUE(stopper.wait().success());
	a.await_turns();
}

TEST(Proc, IsKilledWhileItHasStoppedTheWorld) {
	lwp::proc stopper([] {
		lwp::stop_the_world world;
		lwp::this_proc::exit(4);
	});
	EXPECT_EQ(stopper.wait().code(), 4);
}
