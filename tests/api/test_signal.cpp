// SPDX-License-Identifier: BSD-2-Clause
//
// Signals: who takes them, when, what becomes of the call that they interrupt.  Behaviours 23, 25 and 26, quirk Q16.
// vcpus: 1 2 8
#include "../support/support.h"

#include <lwp/io.h>
#include <lwp/proc.h>
#include <lwp/signal.h>

#include <csignal>
#include <cstring>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

std::atomic<int> handled{0};
std::atomic<lwpid_t> handled_by{0};

void note(int) {
	handled_by = _lwp_self();
	handled.fetch_add(1);
}

/// A handler for one signal, for as long as it lives.
struct handler {
	explicit handler(int sig, int flags = 0, void (*fn)(int) = note) : sig_(sig) {
		handled = 0;
		handled_by = 0;
		struct sigaction act {};
		act.sa_handler = fn;
		act.sa_flags = flags;
		EXPECT_EQ(error_of(lwp_sigaction(sig, &act, nullptr)), 0);
	}
	~handler() {
		struct sigaction plain {};
		EXPECT_EQ(error_of(lwp_sigaction(sig_, &plain, nullptr)), 0);
	}
	handler(const handler &) = delete;
	handler &operator=(const handler &) = delete;
	int sig_;
};

int send(lwpid_t lid, int sig) { return error_of(_lwp_kill(lid, sig)); }

sigset_t only(int sig) {
	sigset_t set;
	::sigemptyset(&set);
	::sigaddset(&set, sig);
	return set;
}

int mask(int how, int sig) {
	const sigset_t set = only(sig);
	return error_of(lwp_sigprocmask(how, &set, nullptr));
}

bool pending(int sig) {
	sigset_t set;
	EXPECT_EQ(error_of(lwp_sigpending(&set)), 0);
	return ::sigismember(&set, sig) == 1;
}

bool await_handled(int n) {
	return wait_until([n] { return handled.load() >= n; });
}

}  // namespace

TEST(Signal, ToOneselfIsTakenBeforeTheCallReturns) {
	const handler h(SIGUSR1);
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);
		EXPECT_EQ(handled.load(), i);
	}
	EXPECT_EQ(handled_by.load(), _lwp_self());
}

TEST(Signal, RunsInTheLwpThatItIsFor) {
	const handler h(SIGUSR1);
	std::atomic<bool> leave{false};
	std::vector<lwpid_t> all;
	for (int i = 0; i < 3; i++) {
		all.push_back(spawn([&] {
			while (!leave.load()) {
				lwp_yield();
			}
		}));
	}
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(send(all[static_cast<std::size_t>(i)], SIGUSR1), 0);
		EXPECT_TRUE(await_handled(i + 1));
		EXPECT_EQ(handled_by.load(), all[static_cast<std::size_t>(i)]);
	}
	leave = true;
	for (const lwpid_t lid : all) {
		collect(lid);
	}
}

// Behaviour 23: a park fails, whatever the flags say; a wait goes on with SA_RESTART, and fails without.
TEST(Signal, InterruptsParkAlwaysAndWaitUnlessRestarted) {
	for (const int flags : {0, SA_RESTART}) {
		const handler h(SIGUSR1, flags);
		subject parked([](subject &s) { s.park_once(); });
		parked.await_blocked();
		EXPECT_EQ(send(parked.lid(), SIGUSR1), 0);
		collect(parked.lid());
		EXPECT_EQ(parked.result(), EINTR);
		EXPECT_EQ(handled.load(), 1);
		EXPECT_EQ(handled_by.load(), parked.lid());

		const lwpid_t target = spawn([] { (void)park(); });
		subject waits([target](subject &s) {
			s.about_to_block();
			s.set_result(error_of(_lwp_wait(target, nullptr)));
		});
		waits.await_blocked();
		EXPECT_EQ(send(waits.lid(), SIGUSR1), 0);
		EXPECT_TRUE(await_handled(2));
		if (flags == SA_RESTART) {
			waits.await_blocked();
			EXPECT_EQ(waits.result(), -1);
		}
		EXPECT_EQ(error_of(_lwp_unpark(target, nullptr)), 0);
		collect(waits.lid());
		EXPECT_EQ(waits.result(), flags == SA_RESTART ? 0 : EINTR);
		if (flags == 0) {
			collect(target);
		}
	}
}

// What is shaped like std's goes on; the handler runs in the middle of its wait, and may wait by itself.
TEST(Signal, WaitsOfTheCppFaceGoOn) {
	static lwp::channel<int> *nested;
	lwp::channel<int> inner;
	nested = &inner;
	const handler h(SIGUSR1, 0, [](int) {
		handled.fetch_add(1);
		EXPECT_EQ(nested->receive().value_or(-1), 1);
		handled.fetch_add(1);
	});
	lwp::mutex mutex;
	lwp::counting_semaphore<> semaphore(0);
	lwp::condition_variable cv;
	lwp::channel<int> channel;
	lwp::event event;
	bool go = false;
	std::stop_source stop;
	mutex.lock();
	const std::function<void()> waits[] = {
	    [&] {
		    mutex.lock();
		    mutex.unlock();
	    },
	    [&] { semaphore.acquire(); },
	    [&] {
		    std::unique_lock lock(mutex);
		    cv.wait(lock, [&] { return go; });
	    },
	    [&] { EXPECT_EQ(channel.receive().value_or(-1), 7); },
	    [&] { event.wait(); },
	    [&] { (void)lwp::this_thread::sleep_for(1h, stop.get_token()); },
	};
	std::vector<std::unique_ptr<subject>> all;
	for (const auto &w : waits) {
		all.push_back(std::make_unique<subject>([&w](subject &s) {
			s.about_to_block();
			w();
			s.set_result(0);
		}));
	}
	for (const auto &s : all) {
		s->await_blocked();
	}
	for (std::size_t i = 0; i < all.size(); i++) {
		EXPECT_EQ(send(all[i]->lid(), SIGUSR1), 0);
		inner.send(1);
		EXPECT_TRUE(await_handled(static_cast<int>(i) * 2 + 2));
	}
	for (const auto &s : all) {
		s->await_blocked();
		EXPECT_EQ(s->result(), -1);
	}
	go = true;
	mutex.unlock();
	semaphore.release();
	cv.notify_all();
	channel.send(7);
	event.set();
	stop.request_stop();
	for (const auto &s : all) {
		collect(s->lid());
		EXPECT_EQ(s->result(), 0);
	}
}

// A value given while the handler runs, which waits itself: neither takes the other's.
TEST(Signal, GivenWhileTheHandlerWaits) {
	static lwp::channel<int> *nested;
	lwp::channel<int> inner;
	nested = &inner;
	const handler h(SIGUSR1, 0, [](int) {
		handled.fetch_add(1);
		EXPECT_EQ(nested->receive().value_or(-1), 1);
	});
	for (std::size_t i = 0; i < rounds(200); i++) {
		lwp::channel<int> outer;
		handled = 0;
		subject s([&](subject &me) {
			me.about_to_block();
			me.set_result(outer.receive().value_or(-1));
		});
		s.await_blocked();
		EXPECT_EQ(send(s.lid(), SIGUSR1), 0);
		EXPECT_TRUE(await_handled(1));
		outer.send(2);  // to the wait that the handler interrupted
		inner.send(1);
		collect(s.lid());
		EXPECT_EQ(s.result(), 2);
	}
}

TEST(Signal, IoIsInterruptedUnlessRestarted) {
	for (const int flags : {0, SA_RESTART}) {
		const handler h(SIGUSR1, flags);
		int pair[2];
		ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		subject reads([&pair](subject &s) {
			char c = 0;
			s.about_to_block();
			const ssize_t n = lwp_read(pair[0], &c, 1);
			s.set_result(n == 1 ? 0 : get_errno());
		});
		reads.await_blocked();
		EXPECT_EQ(send(reads.lid(), SIGUSR1), 0);
		EXPECT_TRUE(await_handled(1));
		if (flags == SA_RESTART) {
			reads.await_blocked();
			EXPECT_EQ(::write(pair[1], "x", 1), 1);
		}
		collect(reads.lid());
		EXPECT_EQ(reads.result(), flags == SA_RESTART ? 0 : EINTR);
		::close(pair[0]);
		::close(pair[1]);
	}
}

TEST(Signal, InterruptsNanosleepAlways) {
	for (const int flags : {0, SA_RESTART}) {
		const handler h(SIGUSR1, flags);
		timespec left = {0, 0};
		subject sleeps([&left](subject &s) {
			const timespec hour = {3600, 0};
			s.about_to_block();
			s.set_result(error_of(lwp_nanosleep(&hour, &left)));
		});
		sleeps.await_blocked();
		EXPECT_EQ(send(sleeps.lid(), SIGUSR1), 0);
		collect(sleeps.lid());
		EXPECT_EQ(sleeps.result(), EINTR);
		EXPECT_GT(left.tv_sec, 0);
		EXPECT_EQ(handled_by.load(), sleeps.lid());
	}
}

// Behaviour 25.
TEST(Signal, SuspendedOneTakesItWhenItIsContinued) {
	const handler h(SIGUSR1);
	const lwpid_t lid = spawn([] { EXPECT_EQ(handled.load(), 1) << "before anything else"; }, LWP_SUSPENDED);
	EXPECT_EQ(send(lid, SIGUSR1), 0);
	for (int i = 0; i < 50; i++) {
		lwp_yield();
	}
	EXPECT_EQ(handled.load(), 0);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_EQ(handled.load(), 1);
	EXPECT_EQ(handled_by.load(), lid);
}

TEST(Signal, MaskedIsTakenWhenItIsOpened) {
	const handler h(SIGUSR1);
	EXPECT_EQ(mask(SIG_BLOCK, SIGUSR1), 0);
	EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);
	EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);  // they do not queue
	EXPECT_EQ(handled.load(), 0);
	EXPECT_TRUE(pending(SIGUSR1));
	EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR1), 0);
	EXPECT_EQ(handled.load(), 1);
	EXPECT_FALSE(pending(SIGUSR1));
}

TEST(Signal, MaskIsInheritedAndMasksItselfInItsHandler) {
	static std::atomic<int> depth{0};
	static std::atomic<int> deepest{0};
	const handler h(SIGUSR1, 0, [](int) {
		const int d = ++depth;
		deepest = std::max(deepest.load(), d);
		if (handled.fetch_add(1) == 0) {
			EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);  // after this one, not in it
		}
		--depth;
	});
	EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);
	EXPECT_EQ(handled.load(), 2);
	EXPECT_EQ(deepest.load(), 1);

	EXPECT_EQ(mask(SIG_BLOCK, SIGUSR2), 0);
	collect(spawn([] {
		sigset_t set;
		EXPECT_EQ(error_of(lwp_sigprocmask(SIG_BLOCK, nullptr, &set)), 0);
		EXPECT_EQ(::sigismember(&set, SIGUSR2), 1);
	}));
	EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR2), 0);
}

// Behaviour 26, first half.
TEST(Signal, OfTheProcWaitsForAnybodyWhoOpensIt) {
	const handler h(SIGUSR1);
	EXPECT_EQ(mask(SIG_BLOCK, SIGUSR1), 0);
	gate go;
	const lwpid_t other = spawn([&go] {
		go.pass();
		EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR1), 0);
	});
	EXPECT_EQ(error_of(lwp_proc_kill(SIGUSR1)), 0);
	EXPECT_EQ(handled.load(), 0);
	EXPECT_TRUE(pending(SIGUSR1));
	go.open();
	collect(other);
	EXPECT_EQ(handled.load(), 1);
	EXPECT_EQ(handled_by.load(), other);
	EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR1), 0);
	EXPECT_EQ(handled.load(), 1);
}

// Behaviour 26, second half; quirk Q16: those who run and could take it end, or mask it, without having come to a boundary.  One that sleeps was
// kicked for it in any case, so it is handled, and once.
TEST(Signal, OfTheProcIsHandledThoughWhoRunsEnds) {
	const handler h(SIGUSR2, SA_RESTART);
	for (std::size_t i = 0; i < rounds(200); i++) {
		handled = 0;
		EXPECT_EQ(mask(SIG_BLOCK, SIGUSR2), 0);
		subject sleeper([](subject &s) {
			EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR2), 0);
			while (handled.load() == 0) {
				(void)park();
			}
			s.set_result(0);
		});
		const lwpid_t ends = spawn([] {
			EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR2), 0);
			_lwp_exit();
		});
		const lwpid_t masks = spawn([] {
			for (int k = 0; k < 3; k++) {
				EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR2), 0);
				EXPECT_EQ(mask(SIG_BLOCK, SIGUSR2), 0);
			}
		});
		lwp_yield();
		EXPECT_EQ(error_of(lwp_proc_kill(SIGUSR2)), 0);
		EXPECT_TRUE(await_handled(1));
		(void)_lwp_unpark(sleeper.lid(), nullptr);  // it may have ended
		collect(ends);
		collect(masks);
		collect(sleeper.lid());
		EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR2), 0);
		EXPECT_EQ(handled.load(), 1);
	}
}

TEST(Signal, WaitedForIsGivenToWhoWaits) {
	EXPECT_EQ(mask(SIG_BLOCK, SIGUSR1), 0);
	subject waits([](subject &s) {
		const sigset_t set = only(SIGUSR1);
		int sig = 0;
		s.about_to_block();
		s.set_result(lwp_sigwait(&set, &sig) == 0 ? sig : -2);
	});
	waits.await_blocked();
	EXPECT_EQ(error_of(lwp_proc_kill(SIGUSR1)), 0);
	collect(waits.lid());
	EXPECT_EQ(waits.result(), SIGUSR1);

	// Already there, to oneself and to the proc.
	const sigset_t set = only(SIGUSR1);
	siginfo_t info;
	const timespec none = {0, 0};
	EXPECT_EQ(lwp_sigtimedwait(&set, &info, &none), -1);
	EXPECT_EQ(get_errno(), EAGAIN);
	EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);
	EXPECT_EQ(lwp_sigtimedwait(&set, &info, &none), SIGUSR1);
	EXPECT_EQ(info.si_signo, SIGUSR1);
	EXPECT_EQ(error_of(lwp_proc_kill(SIGUSR1)), 0);
	EXPECT_EQ(lwp_sigtimedwait(&set, nullptr, nullptr), SIGUSR1);
	const timespec little = {0, 1'000'000};
	EXPECT_EQ(lwp_sigtimedwait(&set, nullptr, &little), -1);
	EXPECT_EQ(get_errno(), EAGAIN);
	const timespec malformed = {0, 1'000'000'000};
	EXPECT_EQ(lwp_sigtimedwait(&set, nullptr, &malformed), -1);
	EXPECT_EQ(get_errno(), EINVAL);
	EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR1), 0);
}

TEST(Signal, SuspendOpensTheMaskForItsTimeOnly) {
	const handler h(SIGUSR1);
	EXPECT_EQ(mask(SIG_BLOCK, SIGUSR1), 0);
	EXPECT_EQ(send(_lwp_self(), SIGUSR1), 0);
	sigset_t none;
	::sigemptyset(&none);
	EXPECT_EQ(error_of(lwp_sigsuspend(&none)), EINTR);
	EXPECT_EQ(handled.load(), 1);
	subject pauses([&none](subject &s) {
		s.about_to_block();
		s.set_result(error_of(lwp_sigsuspend(&none)));
	});
	pauses.await_blocked();
	EXPECT_EQ(send(pauses.lid(), SIGUSR1), 0);
	collect(pauses.lid());
	EXPECT_EQ(pauses.result(), EINTR);
	EXPECT_EQ(handled.load(), 2);
	EXPECT_EQ(mask(SIG_UNBLOCK, SIGUSR1), 0);
}

TEST(Signal, OnceAndWithInfo) {
	static std::atomic<int> code{0};
	handled = 0;
	struct sigaction act {};
	act.sa_sigaction = [](int sig, siginfo_t *info, void *) {
		EXPECT_EQ(info->si_signo, sig);
		EXPECT_EQ(info->si_pid, ::getpid());
		code = info->si_code;
		handled.fetch_add(1);
	};
	act.sa_flags = SA_SIGINFO | static_cast<int>(SA_RESETHAND);
	EXPECT_EQ(error_of(lwp_sigaction(SIGURG, &act, nullptr)), 0);
	EXPECT_EQ(send(_lwp_self(), SIGURG), 0);
	EXPECT_EQ(code.load(), SI_TKILL);
	EXPECT_EQ(send(_lwp_self(), SIGURG), 0);  // ignored by default
	EXPECT_EQ(handled.load(), 1);
	struct sigaction old {};
	EXPECT_EQ(error_of(lwp_sigaction(SIGURG, nullptr, &old)), 0);
	EXPECT_EQ(old.sa_handler, SIG_DFL);
	EXPECT_EQ(error_of(lwp_sigaction(SIGKILL, &act, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_sigaction(SIGSTOP, &act, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_sigaction(0, &act, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_sigaction(999, nullptr, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_sigprocmask(99, nullptr, nullptr)), 0);
	const sigset_t set = only(SIGUSR1);
	EXPECT_EQ(error_of(lwp_sigprocmask(99, &set, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_kill(-1)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_kill(0)), 0);
}

// A signal of the OS: while all sleep, while all are busy, and to somebody who waits for it.
TEST(Signal, OfTheOsComesToTheProc) {
#if LWP_TEST_TSAN
	GTEST_SKIP() << "ThreadSanitizer holds signals back until a call that it intercepts; idle vCPUs make raw ones";
#endif
	const handler h(SIGUSR1);
	EXPECT_EQ(::kill(::getpid(), SIGUSR1), 0);
	EXPECT_TRUE(await_handled(1));

	subject parked([](subject &s) {
		while (handled.load() < 2) {
			(void)park();
		}
		s.set_result(0);
	});
	std::thread outside([] {
		std::this_thread::sleep_for(2ms);  // most often all sleep by then; it does not matter
		EXPECT_EQ(::kill(::getpid(), SIGUSR1), 0);
	});
	EXPECT_TRUE(wait_until([&] {
		(void)park_for(1ms);
		return handled.load() == 2;
	}));
	(void)_lwp_unpark(parked.lid(), nullptr);
	collect(parked.lid());
	outside.join();

	subject waits([](subject &s) {
		const sigset_t set = only(SIGUSR2);
		int sig = 0;
		s.about_to_block();
		s.set_result(lwp_sigwait(&set, &sig) == 0 ? sig : -2);
	});
	waits.await_blocked();
	EXPECT_EQ(::kill(::getpid(), SIGUSR2), 0);
	collect(waits.lid());
	EXPECT_EQ(waits.result(), SIGUSR2);
}

namespace {

/// Everybody sleeps without a deadline: only the OS's signal can end that.
[[noreturn]] void sleep_until_signalled() {
	struct sigaction act {};
	act.sa_handler = [](int) { std::_Exit(7); };
	(void)lwp_sigaction(SIGTERM, &act, nullptr);
	std::thread([] {
		std::this_thread::sleep_for(500ms);  // longer than the standstill's look takes
		::kill(::getpid(), SIGTERM);
		std::this_thread::sleep_for(1h);
	}).detach();
	(void)park();
	std::_Exit(8);
}

}  // namespace

TEST(SignalDeathTest, OfTheOsWakesASleepingProc) {
#if LWP_TEST_TSAN
	GTEST_SKIP() << "ThreadSanitizer holds signals back until a call that it intercepts; idle vCPUs make raw ones";
#endif
	EXPECT_EXIT(sleep_until_signalled(), testing::ExitedWithCode(7), "^$");
}

namespace {

/// Computes, and calls now and then, with so many seconds of CPU time from now on; the hard limit comes with the soft one, or later.
[[noreturn]] void compute_with_limit(bool hard) {
	struct sigaction act {};
	act.sa_handler = [](int sig) { std::_Exit(sig == SIGXCPU && _lwp_self() > 0 ? 9 : 10); };  // in the LWP that took it, at its boundary
	(void)lwp_sigaction(SIGXCPU, &act, nullptr);
	timespec used{};
	(void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	const auto soft = static_cast<rlim_t>(used.tv_sec) + 1;
	const rlimit limit{soft, hard ? soft : soft + 60};
	if (::setrlimit(RLIMIT_CPU, &limit) != 0) {
		std::_Exit(11);
	}
	lwp::thread([] {
		for (;;) {
			for (unsigned i = 0; i < 100'000; i++) {
				asm volatile("" : : : "memory");
			}
			lwp_yield();
		}
	}).join();
	std::_Exit(12);
}

}  // namespace

// RLIMIT_CPU: the OS keeps the time, and its signals come as all others do.
TEST(SignalDeathTest, LimitOfCpuTime) {
#if LWP_TEST_TSAN
	GTEST_SKIP() << "ThreadSanitizer holds signals back until a call that it intercepts; idle vCPUs make raw ones";
#endif
	EXPECT_EXIT(compute_with_limit(false), testing::ExitedWithCode(9), "^$");
	EXPECT_EXIT(compute_with_limit(true), testing::KilledBySignal(SIGKILL), "^$");
}

TEST(SignalDeathTest, DefaultEndsTheProcess) {
	EXPECT_EXIT((void)_lwp_kill(_lwp_self(), SIGTERM), testing::KilledBySignal(SIGTERM), "");
	EXPECT_EXIT((void)lwp_proc_kill(SIGKILL), testing::KilledBySignal(SIGKILL), "");
	EXPECT_EXIT(
	    {
		    const lwpid_t lid = spawn([] { (void)park(); });
		    (void)_lwp_kill(lid, SIGHUP);
		    (void)_lwp_wait(lid, nullptr);
	    },
	    testing::KilledBySignal(SIGHUP), "");
}

// Job control: a stop is for the whole proc, whoever it is sent to; SIGCONT continues it.
TEST(Signal, StopAndContinue) {
	for (const int sig : {SIGSTOP, SIGTSTP}) {
		std::atomic<bool> leave{false};
		std::atomic<std::size_t> turns{0};
		const lwpid_t runner = spawn([&] {
			while (!leave.load()) {
				turns.fetch_add(1);
				lwp_yield();
			}
		});
		std::atomic<bool> went_on{false};
		std::thread outside([&] {
			const auto end = std::chrono::steady_clock::now() + 1min;
			while (lwp_proc_stopped() == 0 && std::chrono::steady_clock::now() < end) {
				std::this_thread::yield();
			}
			EXPECT_EQ(lwp_proc_stopped(), 1);
			EXPECT_EQ(send(runner, SIGCONT), 0);
			went_on = true;
		});
		EXPECT_EQ(send(runner, sig), 0);
		EXPECT_TRUE(wait_until([&] { return went_on.load(); }));  // not by the join: the runner may need our vCPU to come to its boundary
		outside.join();
		EXPECT_EQ(lwp_proc_stopped(), 0);
		const std::size_t before = turns.load();
		EXPECT_TRUE(wait_until([&] { return turns.load() > before; }));
		leave = true;
		collect(runner);
	}
}

// Sent all the time to LWPs that sleep and wake each other: every one is handled or was merged into one that was pending, and no wake-up is lost.
TEST(Signal, ManyWhileOthersHandOver) {
	const handler h(SIGUSR1, SA_RESTART, [](int) {
		lwp_yield();
		handled.fetch_add(1);
	});
	const int wanted = static_cast<int>(rounds(2000));
	lwp::channel<int> there;
	lwp::channel<int> back(1);
	const lwpid_t echo = spawn([&] {
		while (auto v = there.receive()) {
			back.send(*v);
		}
	});
	const lwpid_t asks = spawn([&] {
		for (int i = 0; i < wanted; i++) {
			there.send(i);
			EXPECT_EQ(back.receive().value_or(-1), i);
		}
		there.close();
	});
	std::size_t sent = 0;
	while (alive(asks)) {
		for (const lwpid_t lid : {echo, asks}) {
			sent += send(lid, SIGUSR1) == 0 ? 1U : 0U;
		}
		sent += error_of(lwp_proc_kill(SIGUSR1)) == 0 ? 1U : 0U;
		lwp_yield();
	}
	collect(asks);
	collect(echo);
	EXPECT_GT(handled.load(), 0);
	EXPECT_LE(static_cast<std::size_t>(handled.load()), sent);
}
