// SPDX-License-Identifier: BSD-2-Clause
//
// Several procs in one process: each call and each error, what is a proc's own, and how one ends, whatever its LWPs are at.  What is left is looked at
// after each test: a proc that has ended leaves nothing.
// vcpus: 1 2 8
#include "../support/support.h"

#include <lwp/io.hpp>
#include <lwp/kauth.h>
#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/sched.h>
#include <lwp/signal.h>
#include <lwp/usage.h>

#include <algorithm>
#include <csignal>
#include <list>
#include <memory>
#include <span>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// Starts an LWP without memory of the heap, so that it leaves none if it is made to end.
template <class F>
lwpid_t begin(F f) {
	alignas(lwp::thread) std::byte room[sizeof(lwp::thread)];
	return (::new (static_cast<void *>(room)) lwp::thread(f))->native_handle();  // never destroyed: it may be joined by its id
}
template <class F>
void begin_detached(F f) {
	const lwp::thread t({.detached = true}, f);
}

/// Whose state outlives the frames of LWPs that were made to end: those that hold it are not unwound, so it is never freed.
std::stop_source &kept_stop() {
	static auto &all = *new std::list<std::stop_source>;
	return all.emplace_back();
}

/// The error number of what a call throws; 0 if it throws nothing.
template <class F>
int thrown(F call) {
	try {
		(void)call();
	} catch (const std::system_error &e) {
		return e.code().value();
	}
	return 0;
}

int return_7(void *) { return 7; }
int park_for_ever(void *) {
	for (;;) {
		(void)park();
	}
}

int until_orphan(void *) {
	while (lwp_proc_parent() != 1) {
		lwp_yield();
	}
	return 0;
}

pid_t create(int (*fn)(void *), void *arg = nullptr, const lwp_proc_attr *attr = nullptr) {
	const pid_t pid = lwp_proc_create(fn, arg, attr);
	EXPECT_GT(pid, 0);
	return pid;
}

/// Collects it; how it ended, or -1.
int how_ended(pid_t pid) {
	int status = -1;
	EXPECT_EQ(lwp_proc_wait(pid, &status, 0), pid);
	return status;
}

/// A child that says its first LWP's id and parks until it is killed.
struct idler {
	std::atomic<lwpid_t> lid{0};
	lwp::proc proc{[this] {
		lid = _lwp_self();
		(void)park_for_ever(nullptr);
	}};
	idler() {
		EXPECT_TRUE(wait_until([this] { return lid.load() != 0; }));
	}
};

pid_t proc_of(lwpid_t lid) {
	for (const kinfo_lwp &k : lwp::every_lwp()) {
		if (k.l_lid == lid) {
			return k.l_pid;
		}
	}
	return 0;
}

}  // namespace

// ---- made, waited for ------------------------------------------------------------------------------------------------

TEST(Proc, EndsWithItsLastLwp) {
	std::atomic<int> ended{0};
	lwp::proc p([&] {
		for (int i = 0; i < 3; i++) {
			(void)spawn([&ended] {
				for (int k = 0; k < 10; k++) {
					lwp_yield();
				}
				ended.fetch_add(1);
			});
		}
	});
	const lwp::exit_status how = p.wait();
	EXPECT_EQ(ended.load(), 3) << "it ended before its LWPs";
	EXPECT_TRUE(how.success());
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(p.wait(), how) << "said again";
}

TEST(Proc, FunctionThatReturnsANumberIsItsMain) {
	lwp::proc p([] {
		(void)begin([] { (void)park_for_ever(nullptr); });
		return 0x142;
	});
	EXPECT_EQ(p.wait().code(), 0x42) << "the lowest 8 bits, and nobody is waited for";
	const pid_t c = create(return_7);
	const int status = how_ended(c);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(Proc, ArgumentsAreCopiedAndDestroyed) {
	auto counted = std::make_shared<int>(5);
	lwp::proc p([](const std::shared_ptr<int> &n, int m) { return *n + m; }, counted, 4);
	EXPECT_EQ(p.wait().code(), 9);
	EXPECT_EQ(counted.use_count(), 1);
}

TEST(Proc, AnyOfItsLwpsMayEndIt) {
	lwp::proc p([] {
		(void)begin([] { lwp::this_proc::exit(3); });
		(void)park_for_ever(nullptr);
	});
	EXPECT_EQ(p.wait().code(), 3);
}

TEST(Proc, MayBeEndedByOneThatOwnsALock) {
	lwp::mutex mutex;
	lwp::proc p([&mutex] {
		mutex.lock();
		lwp::this_proc::exit(3);
	});
	EXPECT_EQ(p.wait().code(), 3);
	EXPECT_FALSE(mutex.try_lock());
	::new (static_cast<void *>(&mutex)) lwp::mutex;  // nobody will ever unlock it
}

TEST(Proc, FirstStatusCounts) {
	lwp::proc p([] {
		std::atomic<bool> both{false};
		(void)begin([&both] {
			while (!both.load()) {
				lwp_yield();
			}
			lwp::this_proc::exit(1);
		});
		both = true;
		lwp::this_proc::exit(2);
	});
	const int code = p.wait().code();
	EXPECT_TRUE(code == 1 || code == 2);
}

TEST(Proc, FirstLwpMayLeave) {
	gate leave;
	lwp::proc p([&] {
		(void)begin([&leave] {
			leave.pass();
			lwp::this_proc::exit(9);
		});
		_lwp_exit();
	});
	EXPECT_FALSE(p.try_wait().has_value());
	leave.open();
	EXPECT_EQ(p.wait().code(), 9);
}

TEST(Proc, Numbers) {
	EXPECT_EQ(lwp_proc_self(), 1);
	EXPECT_EQ(lwp_proc_parent(), 0);
	std::atomic<pid_t> self{0};
	std::atomic<pid_t> parent{0};
	std::atomic<pid_t> of_another{0};
	lwp::proc p([&] {
		self = lwp_proc_self();
		parent = lwp_proc_parent();
		collect(spawn([&of_another] { of_another = lwp_proc_self(); }));
	});
	const pid_t pid = p.id();
	EXPECT_GT(pid, 1);
	(void)p.wait();
	EXPECT_EQ(p.id(), 0);
	EXPECT_EQ(self.load(), pid);
	EXPECT_EQ(parent.load(), 1);
	EXPECT_EQ(of_another.load(), pid) << "LWPs make LWPs of their own proc";
}

TEST(Proc, TryAndTimedWaits) {
	gate leave;
	lwp::proc p([&] { leave.pass(); });
	EXPECT_FALSE(p.try_wait().has_value());
	EXPECT_FALSE(p.try_wait_for(2ms).has_value());
	EXPECT_FALSE(p.try_wait_until(std::chrono::system_clock::now() + 2ms).has_value());
	EXPECT_FALSE(p.try_wait_until(std::chrono::steady_clock::now() - 1s).has_value());
	std::stop_source stop;
	lwpid_t stopper = spawn([&stop] { stop.request_stop(); });
	EXPECT_FALSE(p.wait(stop.get_token()).has_value());
	collect(stopper);
	EXPECT_FALSE(p.try_wait_for(1h, stop.get_token()).has_value()) << "requested before";
	leave.open();
	EXPECT_TRUE(wait_until([&] { return p.try_wait().has_value(); }));
	EXPECT_TRUE(p.wait(stop.get_token()).has_value()) << "one that has ended, in any case";
}

TEST(Proc, OneThatHasEndedIsCollectedInAnyCase) {
	std::stop_source stop;
	stop.request_stop();
	std::atomic<bool> ran{false};
	lwp::proc p([&ran] { ran = true; });
	EXPECT_TRUE(wait_until([&] {
		lwp_yield();
		return p.try_wait_for(0s, stop.get_token()).has_value();
	}));
	EXPECT_TRUE(ran.load());
}

TEST(Proc, WaitForAny) {
	int status = 0;
	EXPECT_EQ(lwp_proc_wait(-1, &status, 0), -1);
	EXPECT_EQ(get_errno(), ECHILD);
	const pid_t parked = create(park_for_ever);
	EXPECT_EQ(lwp_proc_wait(-1, &status, WNOHANG), 0);
	const pid_t seven = create(return_7);
	EXPECT_EQ(lwp_proc_wait(-1, &status, 0), seven);
	EXPECT_EQ(WEXITSTATUS(status), 7);
	EXPECT_EQ(error_of(lwp_proc_signal(parked, SIGKILL)), 0);
	EXPECT_EQ(lwp_proc_wait(-1, &status, 0), parked);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	EXPECT_EQ(lwp_proc_wait(-1, nullptr, WNOHANG), -1);
	EXPECT_EQ(get_errno(), ECHILD);
}

TEST(Proc, OfTwoThatWaitOneGetsIt) {
	gate leave;
	gate *at = &leave;
	const pid_t pid = create(
	    [](void *a) {
		    static_cast<gate *>(a)->pass();
		    return 0;
	    },
	    at);
	std::atomic<int> got{0};
	std::atomic<int> none{0};
	auto waits = [&](subject &s) {
		s.about_to_block();
		lwp_proc_wait(pid, nullptr, 0) == pid ? got.fetch_add(1) : none.fetch_add(get_errno() == ECHILD ? 1 : 100);
	};
	subject a(waits);
	subject b(waits);
	a.await_blocked();
	b.await_blocked();
	leave.open();
	collect(a.lid());
	collect(b.lid());
	EXPECT_EQ(got.load(), 1);
	EXPECT_EQ(none.load(), 1);
}

TEST(Proc, WaitIsInterrupted) {
	idler child;
	const pid_t pid = child.proc.id();
	subject s([pid](subject &me) {
		me.about_to_block();
		me.set_result(error_of(static_cast<int>(lwp_proc_wait(pid, nullptr, 0))));
	});
	s.await_blocked();
	EXPECT_EQ(error_of(_lwp_wakeup(s.lid())), 0);
	collect(s.lid());
	EXPECT_EQ(s.result(), EINTR);
}

TEST(Proc, Errors) {
	EXPECT_EQ(error_of(lwp_proc_create(nullptr, nullptr, nullptr)), EINVAL);
	const lwp_proc_attr small = {nullptr, 1000, 0};
	EXPECT_EQ(error_of(lwp_proc_create(return_7, nullptr, &small)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_wait(0, nullptr, 0)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_wait(-2, nullptr, 0)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_wait(1, nullptr, WUNTRACED)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_wait(1, nullptr, 0)), ECHILD) << "it is no child of itself";
	EXPECT_EQ(error_of(lwp_proc_wait(nobody, nullptr, 0)), ECHILD);
	EXPECT_EQ(error_of(lwp_proc_detach(nobody)), ECHILD);
	EXPECT_EQ(error_of(lwp_proc_detach(1)), ECHILD);
	EXPECT_EQ(error_of(lwp_proc_signal(nobody, 0)), ESRCH);
	EXPECT_EQ(error_of(lwp_proc_signal(0, 0)), ESRCH);
	EXPECT_EQ(error_of(lwp_proc_signal(-1, SIGKILL)), ESRCH);
	EXPECT_EQ(error_of(lwp_proc_signal(1, 65)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_signal(1, -1)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_signal(1, 0)), 0);
	lwp::proc none;
	EXPECT_FALSE(none);
	EXPECT_EQ(thrown([&] { return none.wait(); }), ECHILD);
	EXPECT_EQ(thrown([&] { return none.try_wait(); }), ECHILD);
	EXPECT_EQ(thrown([&] {
		none.kill();
		return 0;
	}),
	    ESRCH);
	EXPECT_EQ(thrown([&] {
		none.detach();
		return 0;
	}),
	    ECHILD);
	EXPECT_FALSE(none.stopped());
	EXPECT_EQ(thrown([] { return lwp::proc({.first = {.stack_size = 1000}}, [] {}).wait(); }), EINVAL);
	EXPECT_EQ(thrown([] { return lwp::proc({.first = {.vcpu = 1000}}, [] {}).wait(); }), EINVAL);
}

TEST(Proc, OnlyItsParentWaitsForIt) {
	idler stranger;
	const pid_t pid = stranger.proc.id();
	std::atomic<int> waited{0};
	std::atomic<int> let_go{0};
	lwp::proc p([&] {
		waited = error_of(static_cast<int>(lwp_proc_wait(pid, nullptr, 0)));
		let_go = error_of(lwp_proc_detach(pid));
	});
	(void)p.wait();
	EXPECT_EQ(waited.load(), ECHILD);
	EXPECT_EQ(let_go.load(), ECHILD);
}

// One that cannot be started leaves nothing: no number, no child.
TEST(Proc, WhatCannotBeStartedIsNotThere) {
	struct throws {
		throws() = default;
		throws(const throws &) { throw std::runtime_error("copied"); }
		void operator()() const {}
	};
	EXPECT_THROW(lwp::proc(throws{}), std::runtime_error);
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(-1, nullptr, WNOHANG))), ECHILD);
}

TEST(Proc, LimitOfItsLwps) {
	std::atomic<int> refused{0};
	lwp::proc p({.first = {.name = "limited"}, .max_lwps = 2}, [&] {
		gate leave;
		const lwpid_t second = spawn([&leave] { leave.pass(); });
		try {
			lwp::thread third([] {});
			third.join();
		} catch (const std::system_error &e) {
			refused = e.code().value();
		}
		leave.open();
		collect(second);
		collect(spawn([] {}));  // there is room again
		return 5;
	});
	EXPECT_EQ(p.wait().code(), 5);
	EXPECT_EQ(refused.load(), EAGAIN);
}

// ---- what is its own ----------------------------------------------------------------------------------------------------

namespace {

/// What calls by id say of an LWP of another proc.
void reaches_nothing(lwpid_t lid) {
	EXPECT_EQ(error_of(_lwp_wait(lid, nullptr)), ESRCH);
	EXPECT_EQ(error_of(_lwp_detach(lid)), ESRCH);
	EXPECT_EQ(error_of(_lwp_suspend(lid)), ESRCH);
	EXPECT_EQ(error_of(_lwp_continue(lid)), ESRCH);
	EXPECT_EQ(error_of(_lwp_wakeup(lid)), ESRCH);
	EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), ESRCH);
	EXPECT_EQ(error_of(_lwp_kill(lid, 0)), ESRCH);
	EXPECT_EQ(error_of(_lwp_kill(lid, SIGUSR1)), ESRCH);
	EXPECT_EQ(error_of(_lwp_setname(lid, "mine")), ESRCH);
	char name[LWP_MAXNAME];
	EXPECT_EQ(error_of(_lwp_getname(lid, name, sizeof name)), ESRCH);
	EXPECT_EQ(error_of(lwp_hold(lid)), ESRCH);
	EXPECT_EQ(error_of(lwp_rele(lid)), ESRCH);
	EXPECT_EQ(error_of(lwp_need_userret(
	              lid, [](void *) {}, nullptr)),
	    ESRCH);
}

}  // namespace

TEST(Proc, IdsReachOnlyItsOwn) {
	idler child;
	reaches_nothing(child.lid.load());
	const lwpid_t ours = _lwp_self();
	lwp::proc other([ours, &child] {
		reaches_nothing(ours);
		reaches_nothing(child.lid.load());
	});
	EXPECT_TRUE(other.wait().success());
	EXPECT_FALSE(child.proc.try_wait().has_value());
}

TEST(Proc, IdsAreOneRow) {
	std::vector<idler> children(8);
	std::vector<lwpid_t> ids = {_lwp_self()};
	for (const idler &c : children) {
		ids.push_back(c.lid.load());
	}
	std::sort(ids.begin(), ids.end());
	EXPECT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end());
}

TEST(Proc, ListShowsAll) {
	idler child;
	EXPECT_EQ(proc_of(_lwp_self()), 1);
	EXPECT_EQ(proc_of(child.lid.load()), child.proc.id());
}

TEST(Proc, WaitForAnyLwpCollectsItsOwn) {
	const lwpid_t ours = make_zombie();
	lwpid_t theirs = 0;
	lwpid_t departed = 0;
	lwp::proc p([&] {
		theirs = spawn([] {});
		EXPECT_EQ(error_of(_lwp_wait(0, &departed)), 0);
		EXPECT_EQ(error_of(_lwp_wait(0, nullptr)), ESRCH) << "nobody else is there";
	});
	(void)p.wait();
	EXPECT_EQ(departed, theirs);
	collect(ours);
}

// Nobody in the proc is left who could end, though others of the process run.
TEST(Proc, DeadlockRuleIsAskedOfItsOwn) {
	std::atomic<int> any{0};
	std::atomic<int> one{0};
	gate ready;
	lwp::proc p([&] {
		const lwpid_t first = _lwp_self();
		const lwpid_t second = spawn([&, first] {
			ready.pass();
			one = error_of(_lwp_wait(first, nullptr));
		});
		ready.open();
		any = error_of(_lwp_wait(second, nullptr));
	});
	(void)p.wait();
	EXPECT_TRUE((any.load() == EDEADLK) != (one.load() == EDEADLK)) << any.load() << ' ' << one.load();
}

TEST(Proc, ItsLastRunnerMaySuspendNobodyElse) {
	std::atomic<int> alone{-1};
	lwp::proc p([&] { alone = error_of(_lwp_suspend(_lwp_self())); });
	(void)p.wait();
	EXPECT_EQ(alone.load(), EDEADLK) << "nobody could continue it";
}

TEST(Proc, UsageIsItsOwn) {
	procinfo ours{};
	procinfo theirs{};
	std::vector<lwpid_t> many;
	gate leave;
	for (int i = 0; i < 5; i++) {
		many.push_back(spawn([&leave] { leave.pass(); }));
	}
	lwp::proc p([&] {
		collect(spawn([] {
			for (int i = 0; i < 50; i++) {
				lwp_yield();
			}
		}));
		(void)lwp_proc_info(&theirs);
	});
	(void)p.wait();
	(void)lwp_proc_info(&ours);
	EXPECT_EQ(theirs.pi_nlwps, 1U);
	EXPECT_EQ(ours.pi_nlwps, 6U);
	leave.open();
	for (const lwpid_t lid : many) {
		collect(lid);
	}
}

TEST(Proc, CredentialIsItsOwn) {
	std::atomic<unsigned> before{0};
	std::atomic<unsigned> after{1};
	std::atomic<int> destroyed{0};
	lwp::proc p([&] {
		before = kauth_cred_getprivs(kauth_cred_get());
		kauth_cred_t less = kauth_cred_dup(kauth_cred_get());
		(void)kauth_cred_setprivs(less, 0);
		(void)kauth_cred_setdata(less, &destroyed, [](void *d) { static_cast<std::atomic<int> *>(d)->fetch_add(1); });
		EXPECT_EQ(error_of(lwp_proc_setcred(less)), 0);
		kauth_cred_free(less);
		collect(spawn([&after] { after = kauth_cred_getprivs(kauth_cred_get()); }));
		lwp::proc child([] { return kauth_cred_getprivs(kauth_cred_get()) == 0 ? 1 : 2; });
		EXPECT_EQ(child.wait().code(), 1) << "inherited";
	});
	(void)p.wait();
	EXPECT_EQ(before.load(), LWP_PRIV_ALL);
	EXPECT_EQ(after.load(), 0U);
	EXPECT_EQ(destroyed.load(), 1) << "with the proc";
	EXPECT_EQ(kauth_cred_getprivs(kauth_cred_get()), LWP_PRIV_ALL);
}

namespace {

std::atomic<int> forks{0};
std::atomic<int> exits{0};

}  // namespace

TEST(Proc, OperationsAreItsOwn) {
	static const lwp_proc_ops ops = {[](lwpid_t, lwpid_t) { forks.fetch_add(1); }, [](lwpid_t) { exits.fetch_add(1); }};
	forks = 0;
	exits = 0;
	lwp::proc p([&] {
		EXPECT_EQ(lwp_proc_setops(&ops), 0);
		collect(spawn([] {}));
		lwp::proc child([] { collect(spawn([] {})); });
		(void)child.wait();
	});
	(void)p.wait();
	collect(spawn([] {}));
	EXPECT_EQ(forks.load(), 3) << "its own LWP, its child's first, and the child's own";
	EXPECT_EQ(exits.load(), 4);
}

TEST(Proc, BigLockIsItsOwn) {
	lwp_big_lock_enter();
	lwp::proc p([] {
		lwp_big_lock_enter();
		lwp_big_lock_exit();
		return 1;
	});
	EXPECT_EQ(p.wait().code(), 1);
	lwp_big_lock_exit();
}

TEST(Proc, ObjectsWorkAcrossProcs) {
	lwp::channel<int> ch;
	lwp::mutex mutex;
	int sum = 0;
	std::vector<lwp::proc> senders;
	for (int i = 1; i <= 4; i++) {
		senders.emplace_back([&, i] {
			ch.send(i);
			const std::lock_guard lock(mutex);
			sum += i;
		});
	}
	int got = 0;
	for (int i = 0; i < 4; i++) {
		got += ch.receive().value();
	}
	for (lwp::proc &p : senders) {
		EXPECT_TRUE(p.wait().success());
	}
	EXPECT_EQ(got, 10);
	EXPECT_EQ(sum, 10);
}

// ---- signals ---------------------------------------------------------------------------------------------------------------

namespace {

std::atomic<int> taken{0};
std::atomic<pid_t> taken_in{0};

void take(int) {
	taken.fetch_add(1);
	taken_in = lwp_proc_self();
}

void handle(int sig, void (*handler)(int), int flags = 0) {
	struct sigaction act {};
	act.sa_handler = handler;
	act.sa_flags = flags;
	EXPECT_EQ(error_of(lwp_sigaction(sig, &act, nullptr)), 0);
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

// ---- ended, whatever its LWPs are at -----------------------------------------------------------------------------------------

namespace {

/// Static: frames of LWPs that are made to end are not unwound.
struct stage {
	lwp::mutex mutex;
	lwp::shared_mutex shared;
	lwp::channel<int> empty;
	lwp::channel<int> other;
	lwp::condition_variable cond;
	lwp::condition_variable_any any;
	lwp::counting_semaphore<8> none{0};
	lwp::latch latch{1};
	lwp::barrier<> barrier{2};
	lwp::event event;
	lwp::wait_group group;
	lwpid_t peer = 0;
	int pipe[2] = {-1, -1};
};
stage *on;

struct pose {
	const char *name;
	void (*take)();
};

std::stop_token token() {
	static std::stop_source &never_requested = kept_stop();
	return never_requested.get_token();
}

void read_pipe(const lwp::io_limit &limit) {
	static char c;
	std::error_code error;
	lwp::pipe_read_end end(on->pipe[0]);
	(void)end.read(std::as_writable_bytes(std::span(&c, 1)), error, limit);
	(void)end.release();
}

const pose poses[] = {
    {"computes",
        [] {
	        for (;;) {
		        lwp_yield();
	        }
        }},
    {"parked", [] { (void)park(); }},
    {"parked for a time", [] { (void)park_for(1h); }},
    {"sleeps", [] { lwp::this_thread::sleep_for(1h); }},
    {"sleeps until it is asked to stop", [] { (void)lwp::this_thread::sleep_for(1h, token()); }},
    {"suspended", [] { (void)_lwp_suspend(_lwp_self()); }},
    {"waits for an LWP", [] { (void)_lwp_wait(on->peer, nullptr); }},
    {"waits for any LWP", [] { (void)_lwp_wait(0, nullptr); }},
    {"joins until it is asked to stop",
        [] {
	        lwp::thread t([] { (void)park_for_ever(nullptr); });
	        (void)t.join(token());
        }},
    {"mutex", [] { on->mutex.lock(); }},
    {"shared mutex", [] { on->shared.lock(); }},
    {"shared", [] { on->shared.lock_shared(); }},
    {"channel", [] { (void)on->empty.receive(); }},
    {"channel for a time", [] { (void)on->empty.receive_for(1h); }},
    {"channel until it is asked to stop", [] { (void)on->empty.receive(token()); }},
    {"sends", [] { on->empty.send(1); }},
    {"select", [] { lwp::select(lwp::on_receive(on->empty, [](auto &&) {}), lwp::on_receive(on->other, [](auto &&) {})); }},
    {"condition variable",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        on->cond.wait(lock);
        }},
    {"condition variable, any",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        on->any.wait(lock);
        }},
    {"condition variable, any, until it is asked to stop",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        (void)on->any.wait(lock, token(), [] { return false; });
        }},
    {"semaphore", [] { on->none.acquire(); }},
    {"latch", [] { on->latch.wait(); }},
    {"barrier", [] { on->barrier.arrive_and_wait(); }},
    {"event", [] { on->event.wait(); }},
    {"wait group", [] { on->group.wait(); }},
    {"signal",
        [] {
	        sigset_t set;
	        sigemptyset(&set);
	        sigaddset(&set, SIGUSR2);
	        int sig;
	        (void)lwp_sigwait(&set, &sig);
        }},
    {"reads", [] { read_pipe({}); }},
    {"reads for a time", [] { read_pipe(lwp::within(1h)); }},
    {"reads until it is asked to stop", [] { read_pipe({.stop = token()}); }},
    {"waits for a proc", [] { (void)lwp_proc_wait(create(until_orphan), nullptr, 0); }},
    {"makes LWPs",
        [] {
	        for (;;) {
		        begin_detached([] { (void)park_for(1ms); });
		        lwp_yield();
	        }
        }},
    {"makes suspended LWPs",
        [] {
	        for (int i = 0;; i++) {
		        ucontext_t context;
		        lwpid_t lid;
		        _lwp_makecontext(
		            &context, [](void *) {}, nullptr, nullptr, nullptr, 64 * 1024);
		        (void)_lwp_create(&context, LWP_SUSPENDED, &lid);
		        for (int k = 0; k < i; k++) {
			        lwp_yield();
		        }
	        }
        }},
    {"makes procs",
        [] {
	        for (;;) {
		        lwp::proc([] { lwp_yield(); }).detach();
		        lwp_yield();
	        }
        }},
};

/// One LWP in this pose and one that is parked; then `end`.
template <class End>
void end_in(const pose &p, End end) {
	stage st;
	on = &st;
	ASSERT_EQ(::pipe(st.pipe), 0);
	st.mutex.lock();
	st.shared.lock();
	st.group.add(1);
	std::atomic<bool> posed{false};
	std::atomic<bool> ran_on{false};
	struct pair {
		const pose *p;
		std::atomic<bool> *posed, *ran_on;
	} both{&p, &posed, &ran_on};
	lwp::proc child([&both] {
		on->peer = begin([] { (void)park_for_ever(nullptr); });
		(void)begin([at = &both] {
			at->posed->store(true);
			at->p->take();
			at->ran_on->store(true);
			(void)park_for_ever(nullptr);
		});
		(void)park_for_ever(nullptr);
	});
	EXPECT_TRUE(wait_until([&] { return posed.load(); })) << p.name;
	for (int i = 0; i < 30; i++) {
		lwp_yield();
	}
	end(child);
	EXPECT_FALSE(child.is_open());
	EXPECT_FALSE(ran_on.load()) << p.name << ": it came out of the call and ran on";
	st.group.done();
	st.shared.unlock();
	st.mutex.unlock();
	::close(st.pipe[0]);
	::close(st.pipe[1]);
}

}  // namespace

TEST(ProcEnd, InEachPose) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			child.kill();
			EXPECT_EQ(child.wait().signal(), SIGKILL) << p.name;
		});
	}
}

TEST(ProcEnd, InEachPoseWhileStopped) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			child.stop();
			for (int i = 0; i < 10; i++) {
				lwp_yield();
			}
			child.kill();
			EXPECT_EQ(child.wait().signal(), SIGKILL) << p.name;
		});
	}
}

TEST(ProcEnd, ByDestructor) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			const pid_t pid = child.id();
			child = lwp::proc();
			EXPECT_EQ(error_of(lwp_proc_signal(pid, 0)), ESRCH) << p.name;
		});
	}
}

// What others can reach was taken back before the stack went: whoever comes later finds nobody.
TEST(ProcEnd, RecordsAreTakenBack) {
	lwp::channel<int> ch;
	std::stop_source &stop = kept_stop();
	for (std::size_t i = 0; i < rounds(20); i++) {
		lwp::proc child([&] {
			(void)begin([&ch] { (void)ch.receive(); });
			(void)begin([&ch, &stop] { (void)ch.receive(stop.get_token()); });
			(void)ch.receive_for(1h);
		});
		for (std::size_t k = 0; k < i; k++) {
			lwp_yield();
		}
		child.kill();
		EXPECT_EQ(child.wait().signal(), SIGKILL);
		EXPECT_FALSE(ch.try_send(1)) << "somebody dead still waits";
	}
	stop.request_stop();
}

TEST(ProcEnd, WhatNobodyCollectedGoesWithIt) {
	lwp::proc p([] {
		for (int i = 0; i < 20; i++) {
			await_end(spawn([] {}, i % 2 == 0 ? 0UL : static_cast<unsigned long>(LWP_DETACHED)));
		}
		return 1;
	});
	EXPECT_EQ(p.wait().code(), 1);
}

TEST(ProcEnd, DestructorsOfSpecificDataRun) {
	static std::atomic<int> destroyed{0};
	specificdata_key_t key;
	ASSERT_EQ(lwp_specific_key_create(&key,
	              [](void *) {
		              lwp_yield();
		              destroyed.fetch_add(1);
	              }),
	    0);
	destroyed = 0;
	lwp::proc p([key] {
		for (int i = 0; i < 3; i++) {
			(void)begin([key] {
				lwp_setspecific(key, &destroyed);
				(void)park_for_ever(nullptr);
			});
		}
		lwp_setspecific(key, &destroyed);
		for (int i = 0; i < 50; i++) {
			lwp_yield();
		}
	});
	(void)wait_until([&] { return lwp::runtime::stats().lwps >= 4; });
	p.kill();
	(void)p.wait();
	EXPECT_GE(destroyed.load(), 1);
	lwp_specific_key_delete(key);
}

TEST(ProcEnd, DetachedOneIsCollectedByItself) {
	std::atomic<bool> leave{false};
	lwp::proc p([&leave] {
		while (!leave.load()) {
			lwp_yield();
		}
	});
	const pid_t pid = p.id();
	p.detach();
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(pid, nullptr, 0))), ECHILD);
	EXPECT_EQ(error_of(lwp_proc_signal(pid, 0)), 0);
	leave = true;
	EXPECT_TRUE(wait_until([pid] { return error_of(lwp_proc_signal(pid, 0)) == ESRCH; }));
	lwp::proc ended([] {});
	EXPECT_TRUE(wait_until([&ended] { return error_of(lwp_proc_signal(ended.id(), 0)) == ESRCH; }));
	ended.detach();  // a zombie goes at once
}

TEST(ProcEnd, WaiterIsToldOfADetach) {
	for (const bool any : {false, true}) {
		idler child;
		const pid_t pid = child.proc.id();
		subject s([which = any ? -1 : pid](subject &me) {
			me.about_to_block();
			me.set_result(error_of(static_cast<int>(lwp_proc_wait(which, nullptr, 0))));
		});
		s.await_blocked();
		child.proc.detach();
		collect(s.lid());
		EXPECT_EQ(s.result(), ECHILD);
		EXPECT_EQ(error_of(lwp_proc_signal(pid, SIGKILL)), 0);
		EXPECT_TRUE(wait_until([pid] { return error_of(lwp_proc_signal(pid, 0)) == ESRCH; }));
	}
}

TEST(ProcEnd, ChildrenLiveOnAsOrphans) {
	static std::atomic<pid_t> orphan{0};
	static std::atomic<pid_t> parent{0};
	static std::atomic<bool> leave{false};
	orphan = 0;
	leave = false;
	lwp::proc p([] {
		orphan = create([](void *) {
			while (!leave.load()) {
				lwp_yield();
			}
			parent = lwp_proc_parent();
			return 0;
		});
		(void)create(return_7);  // may be a zombie by then
		for (int i = 0; i < 20; i++) {
			lwp_yield();
		}
		return 2;
	});
	EXPECT_EQ(p.wait().code(), 2);
	EXPECT_EQ(error_of(lwp_proc_signal(orphan, 0)), 0);
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(orphan, nullptr, 0))), ECHILD) << "no child of ours";
	leave = true;
	EXPECT_TRUE(wait_until([] { return error_of(lwp_proc_signal(orphan, 0)) == ESRCH; }));
	EXPECT_EQ(parent.load(), 1);
}

// A handler that runs in the middle of a wait with a record comes first, whatever it waits for; then the wait is taken back.
TEST(ProcEnd, HandlerInTheMiddleOfAWaitComesFirst) {
	static lwp::counting_semaphore<1> *through;
	static std::atomic<int> at;
	lwp::counting_semaphore<1> s{0};
	through = &s;
	at = 0;
	lwp::channel<int> ch;
	lwp::proc p([&ch] {
		handle(SIGUSR1, [](int) {
			at = 1;
			through->acquire();
			at = 2;
		});
		at = -1;
		(void)ch.receive();
		at = 3;
	});
	EXPECT_TRUE(wait_until([] { return at.load() == -1; }));
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill(SIGUSR1);
	EXPECT_TRUE(wait_until([] { return at.load() == 1; }));
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill();
	EXPECT_FALSE(p.try_wait_for(1ms).has_value());
	EXPECT_EQ(at.load(), 1);
	s.release();
	EXPECT_EQ(p.wait().signal(), SIGKILL);
	EXPECT_EQ(at.load(), 2);
}

// A mutex whose owner was made to end stays locked; whoever waits for it in another proc is not harmed by that otherwise, nor is who gets the dead
// LWP's struct.
TEST(ProcEnd, LocksOfTheDeadStayLocked) {
	lwp::mutex mutex;
	gate locked;
	lwp::proc p([&] {
		mutex.lock();
		locked.open();
		(void)park_for_ever(nullptr);
	});
	locked.pass();
	lwp::proc waiter({.first = {.name = "waiter"}}, [&] { mutex.lock(); });
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill();
	EXPECT_EQ(p.wait().signal(), SIGKILL);
	for (int i = 0; i < 50; i++) {
		collect(spawn([] { lwp_yield(); }));
	}
	EXPECT_FALSE(mutex.try_lock());
	waiter.kill();
	EXPECT_EQ(waiter.wait().signal(), SIGKILL);
	::new (static_cast<void *>(&mutex)) lwp::mutex;  // nobody will ever unlock it
}

// ---- storms --------------------------------------------------------------------------------------------------------------------

// Procs that make procs that make LWPs, ended by themselves, by their parent, by others and by nobody, all at once.
TEST(ProcStorm, ManyAtOnce) {
	static std::atomic<std::uint64_t> base{0};
	base = seed();
	static std::atomic<pid_t> known[16];
	struct actor {
		static void lwps(dice &d) {
			for (unsigned i = d.below(4); i > 0; i--) {
				switch (d.below(4)) {
				case 0:
					begin_detached([] { (void)park_for(std::chrono::microseconds(200)); });
					break;
				case 1:
					(void)begin([] {
						lwp::channel<int> none;
						(void)none.receive_for(std::chrono::microseconds(200));
					});
					break;
				case 2:
					(void)_lwp_wait(begin([] { lwp_yield(); }), nullptr);
					break;
				default:
					(void)begin([] { (void)park_for(1ms); });
					break;
				}
			}
		}
		static int live(unsigned depth) {
			dice d(base.fetch_add(0x9e3779b97f4a7c15U));
			known[d.below(16)] = lwp_proc_self();
			lwps(d);
			if (depth != 0 && d.one_in(2)) {
				lwp::proc child([depth] { return live(depth - 1); });
				switch (d.below(4)) {
				case 0:
					(void)child.wait();
					break;
				case 1:
					child.detach();
					break;
				case 2:
					(void)child.try_wait_for(std::chrono::microseconds(d.below(300)));
					break;  // and killed
				default:
					lwps(d);
					if (d.one_in(2)) {
						lwp::this_proc::exit(1);  // an orphan stays
					}
					break;
				}
			}
			if (d.one_in(3)) {
				const pid_t victim = known[d.below(16)].load();
				if (victim > 1) {
					(void)lwp_proc_signal(victim, d.one_in(3) ? SIGSTOP : d.one_in(2) ? SIGCONT : SIGKILL);
				}
			}
			if (d.one_in(20)) {
				lwp::stop_the_world world(std::chrono::milliseconds(1));
			}
			return static_cast<int>(d.below(3));
		}
	};
	std::atomic<bool> leave{false};
	const lwpid_t waker = spawn([&leave] {  // whoever was stopped goes on
		while (!leave.load()) {
			for (const std::atomic<pid_t> &k : known) {
				if (const pid_t pid = k.load(); pid > 1) {
					(void)lwp_proc_signal(pid, SIGCONT);
				}
			}
			(void)park_for(std::chrono::microseconds(100));
		}
	});
	std::vector<lwpid_t> makers;
	for (int m = 0; m < 4; m++) {
		makers.push_back(spawn([] {
			for (std::size_t i = 0; i < rounds(60); i++) {
				lwp::proc p([] { return actor::live(3); });
				(void)p.try_wait_for(2ms);
				if (p.is_open()) {
					(void)lwp_proc_signal(p.id(), SIGKILL);  // it may have ended
					(void)p.wait();
				}
			}
		}));
	}
	for (const lwpid_t lid : makers) {
		collect(lid);
	}
	// Orphans that were stopped are continued by the waker until none is left.
	EXPECT_TRUE(wait_until([] {
		for (const kinfo_lwp &k : lwp::every_lwp()) {
			if (k.l_pid != 1) {
				(void)lwp_proc_signal(k.l_pid, SIGKILL);
				return false;
			}
		}
		return true;
	}));
	leave = true;
	collect(waker);
}

// A proc that is killed just as it ends by itself and is waited for by two.
TEST(ProcStorm, EndMeetsKillAndWait) {
	for (std::size_t i = 0; i < rounds(300); i++) {
		const pid_t pid = create([](void *) {
			(void)_lwp_wait(begin([] { lwp_yield(); }), nullptr);
			return 1;
		});
		std::atomic<int> got{0};
		const auto waits = [&got, pid] {
			int status;
			if (lwp_proc_wait(pid, &status, 0) == pid) {
				EXPECT_TRUE(status == 0x100 || status == SIGKILL) << status;
				got.fetch_add(1);
			}
		};
		const lwpid_t a = spawn(waits);
		const lwpid_t b = spawn(waits);
		for (std::size_t k = 0; k < i % 12; k++) {
			lwp_yield();
		}
		(void)lwp_proc_signal(pid, SIGKILL);
		collect(a);
		collect(b);
		EXPECT_EQ(got.load(), 1);
	}
}

// From kernel threads of the application, which are LWPs of the first proc.
TEST(ProcStorm, FromOutside) {
	std::vector<std::thread> threads;
	for (int t = 0; t < 3; t++) {
		threads.emplace_back([] {
			for (std::size_t i = 0; i < rounds(50); i++) {
				lwp::proc p([] {
					(void)begin([] { (void)park(); });
					(void)park_for_ever(nullptr);
				});
				EXPECT_EQ(lwp_proc_self(), 1);
				p.kill();
				EXPECT_EQ(p.wait().signal(), SIGKILL);
			}
		});
	}
	for (std::thread &t : threads) {
		t.join();
	}
}
