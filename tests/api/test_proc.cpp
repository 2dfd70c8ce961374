// SPDX-License-Identifier: BSD-2-Clause
//
// Several procs in one process: made and waited for, each call and each error, and what is a proc's own.  What is left is looked at after each test: a proc
// that has ended leaves nothing.  Signals and stops are in test_proc_signal.cpp, the end of a proc in test_proc_end.cpp.
// vcpus: 1 2 8
#include "proc_support.h"

#include <lwp/kauth.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <sys/wait.h>
#include <system_error>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

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
