// SPDX-License-Identifier: BSD-2-Clause
//
// _sched_setaffinity() and its neighbours: every error, and what a change does to an LWP in each state.
// vcpus: 1 2 8
#include <lwp/affinity.hpp>

#include "../support/support.h"

#include <lwp/blocking.hpp>
#include <lwp/proc.hpp>
#include <lwp/signal.h>

#include <cfenv>
#include <csignal>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

unsigned vcpus() { return lwp::runtime::vcpus(); }

/// The vCPU of the caller, asked afresh.
__attribute__((noinline)) int here() {
	lwpctl_t *block = nullptr;
	(void)_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block);
	return vcpu_of(block);
}

int set(lwpid_t lid, const lwp::vcpu_set &s) { return error_of(_sched_setaffinity(0, lid, sizeof(cpuset_t), &s.native())); }

lwp::vcpu_set get(lwpid_t lid) {
	cpuset_t s;
	cpuset_zero(&s);
	EXPECT_EQ(error_of(_sched_getaffinity(0, lid, sizeof(s), &s)), 0);
	return lwp::vcpu_set(s);
}

/// Computes, without any call of the library, until `ready` or, if something is broken, for a minute.
template <class Predicate>
bool compute_until(Predicate ready) {
	const auto end = std::chrono::steady_clock::now() + 60s;
	while (!ready()) {
		if (std::chrono::steady_clock::now() > end) {
			return false;
		}
	}
	return true;
}

/// In a real-time LWP that stays on the last vCPU; what it starts is queued behind it.
template <class Body>
void direct(const Body &body) {
	lwp::thread({.priority = 63, .vcpu = static_cast<int>(vcpus()) - 1, .policy = lwp::sched_policy::fifo}, body).join();
}

/// One that is queued behind whoever starts it, until that one calls the library.
lwp::thread queued(std::function<void()> body) { return lwp::thread({.priority = 10, .policy = lwp::sched_policy::fifo}, std::move(body)); }

}  // namespace

TEST(Affinity, WhatIsSetIsReadAndTakenBack) {
	const lwpid_t self = _lwp_self();
	EXPECT_TRUE(get(0).empty()) << "none is set at first";
	for (unsigned v = 0; v < vcpus(); v++) {
		EXPECT_EQ(set(self, {v}), 0);
		EXPECT_EQ(here(), static_cast<int>(v)) << "the caller has moved";
		EXPECT_EQ(get(0), lwp::vcpu_set{v});
		EXPECT_EQ(get(self), lwp::vcpu_set{v});
	}
	const lwp::vcpu_set all = lwp::vcpu_set::range(0, vcpus());
	EXPECT_EQ(set(self, all), 0);
	EXPECT_EQ(get(self), all);
	EXPECT_EQ(set(self, {}), 0);
	EXPECT_TRUE(get(0).empty());
	EXPECT_EQ(error_of(_sched_setaffinity(::getpid(), self, sizeof(cpuset_t), &lwp::vcpu_set().native())), 0);
}

TEST(Affinity, BadArgumentsAreRefused) {
	const lwpid_t self = _lwp_self();
	const cpuset_t none = lwp::vcpu_set().native();
	cpuset_t out;
	EXPECT_EQ(error_of(_sched_setaffinity(0, self, sizeof(none), nullptr)), EINVAL);
	EXPECT_EQ(error_of(_sched_setaffinity(0, self, sizeof(none) - 1, &none)), EINVAL);
	EXPECT_EQ(error_of(_sched_setaffinity(0, self, 0, &none)), EINVAL);
	EXPECT_EQ(error_of(_sched_getaffinity(0, self, sizeof(out), nullptr)), EINVAL);
	EXPECT_EQ(error_of(_sched_getaffinity(0, self, sizeof(out) + 1, &out)), EINVAL);
	EXPECT_EQ(set(self, {vcpus()}), EINVAL) << "there is no such vCPU";
	EXPECT_EQ(set(self, {0, LWP_VCPU_MAX - 1}), EINVAL) << "one that there is does not help";
	EXPECT_EQ(set(0, {vcpus()}), EINVAL);
	EXPECT_TRUE(get(0).empty());
	EXPECT_EQ(error_of(_sched_setaffinity(::getpid() + 1, self, sizeof(none), &none)), ESRCH);
	EXPECT_EQ(error_of(_sched_getaffinity(::getpid() + 1, self, sizeof(out), &out)), ESRCH);
}

TEST(Affinity, NobodyIsNotFoundNorIsAZombie) {
	cpuset_t out;
	const lwpid_t zombie = make_zombie();
	for (lwpid_t lid : {nobody, lwpid_t{-1}, zombie}) {
		EXPECT_EQ(set(lid, {0}), ESRCH);
		EXPECT_EQ(error_of(_sched_getaffinity(0, lid, sizeof(out), &out)), ESRCH);
	}
	collect(zombie);
}

TEST(Affinity, KernelThreadsAreTheOssToPlace) {
	std::atomic<lwpid_t> lid{0};
	gate leave;
	std::thread outside([&] {
		lid = _lwp_self();
		EXPECT_EQ(set(_lwp_self(), {0}), EPERM);
		while (!leave.is_open()) {
			std::this_thread::yield();
		}
		EXPECT_TRUE(get(0).empty());
		lwp::thread([] { EXPECT_TRUE(get(0).empty()); }).join();
	});
	ASSERT_TRUE(wait_until([&] { return lid.load() != 0; }));
	EXPECT_EQ(set(lid, {0}), EPERM);
	EXPECT_EQ(set(lid, {}), EPERM);
	EXPECT_EQ(set(0, {0}), 0) << "among all they are left out";
	EXPECT_EQ(get(0), lwp::vcpu_set{0});
	EXPECT_TRUE(get(lid).empty());
	EXPECT_EQ(set(0, {}), 0);
	leave.open();
	outside.join();
}

TEST(Affinity, AllAreSetAtOnce) {
	gate leave;
	const lwpid_t a = spawn([&] { leave.pass(); });
	const lwpid_t b = spawn([&] { leave.pass(); }, LWP_SUSPENDED);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(set(0, {0}), 0);
	for (lwpid_t lid : {a, b, _lwp_self()}) {
		EXPECT_EQ(get(lid), lwp::vcpu_set{0});
	}
	EXPECT_EQ(here(), 0);
	EXPECT_EQ(set(0, {}), 0);
	EXPECT_TRUE(get(b).empty());
	leave.open();
	EXPECT_EQ(error_of(_lwp_continue(b)), 0);
	collect(a);
	collect(b);
	collect(zombie);
}

// Its maker computes and does not look into its queue again before the LWP has run elsewhere.
TEST(Affinity, AQueuedOneMovesAtOnce) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "there is nowhere to go";
	}
	direct([] {
		for (unsigned to = 0; to + 1 < vcpus(); to++) {
			std::atomic<int> ran{-1};
			lwp::thread t = queued([&] { ran = here(); });
			EXPECT_EQ(set(t.native_handle(), {to}), 0);
			EXPECT_TRUE(compute_until([&] { return ran >= 0; }));
			EXPECT_EQ(ran, static_cast<int>(to));
			t.join();
		}
	});
}

TEST(Affinity, AQueuedOneThatMayStayKeepsItsPlaceInLine) {
	direct([] {
		std::string order;
		lwp::thread a = queued([&] { order += 'a'; });
		lwp::thread b = queued([&] { order += 'b'; });
		EXPECT_EQ(set(a.native_handle(), lwp::vcpu_set::range(0, vcpus())), 0);
		EXPECT_EQ(set(a.native_handle(), {vcpus() - 1}), 0);
		a.join();
		b.join();
		EXPECT_EQ(order, "ab");
	});
}

// It computes until its affinity is set; the first call after that takes it there.
TEST(Affinity, ARunningOneMovesAtItsNextCall) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "whoever sets it would have to run at the same time";
	}
	void (*const calls[])() = {[] { (void)lwp_yield(); }, [] { (void)park_for(1ns); }, [] { (void)_lwp_unpark(nobody, nullptr); },
	    [] { (void)_lwp_continue(_lwp_self()); }};
	for (void (*const call)() : calls) {
		std::atomic<bool> computes{false};
		std::atomic<bool> is_set{false};
		std::atomic<int> then{-1};
		lwp::thread t({.vcpu = 1}, [&] {
			computes = true;
			EXPECT_TRUE(compute_until([&] { return is_set.load(); }));
			call();
			then = here();
		});
		lwp::thread({.vcpu = 0}, [&] {
			EXPECT_TRUE(wait_until([&] { return computes.load(); }));
			EXPECT_EQ(set(t.native_handle(), {0}), 0);
			is_set = true;
		}).join();
		t.join();
		EXPECT_EQ(then, 0);
	}
}

// There and back before it has looked: it stays.
TEST(Affinity, OneThatMayStayAfterAllStays) {
	lwp::thread({.vcpu = 0}, [] {
		const lwpid_t self = _lwp_self();
		for (unsigned i = 0; i < 10; i++) {
			EXPECT_EQ(set(self, {vcpus() - 1}), 0);
			EXPECT_EQ(here(), static_cast<int>(vcpus()) - 1);
			EXPECT_EQ(set(self, {0, vcpus() - 1}), 0);
			EXPECT_EQ(here(), static_cast<int>(vcpus()) - 1) << "it need not move";
			EXPECT_EQ(set(self, {0}), 0);
			EXPECT_EQ(here(), 0);
		}
	}).join();
}

TEST(Affinity, ASleeperWakesUpThere) {
	for (unsigned to = 0; to < vcpus(); to++) {
		std::atomic<int> woke{-1};
		subject s([&](subject &me) {
			me.park_once();
			woke = here();
		});
		s.await_blocked();
		EXPECT_EQ(set(s.lid(), {to}), 0);
		EXPECT_EQ(get(s.lid()), lwp::vcpu_set{to});
		EXPECT_TRUE(s.blocked()) << "it sleeps on";
		EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
		collect(s.lid());
		EXPECT_EQ(woke, static_cast<int>(to));
		EXPECT_EQ(s.result(), 0);
	}
}

TEST(Affinity, OneThatATimerWakesIsThere) {
	for (unsigned to = 0; to < vcpus(); to++) {
		std::atomic<int> woke{-1};
		subject s([&](subject &me) {
			me.about_to_block();
			EXPECT_EQ(park_for(50ms), ETIMEDOUT);
			woke = here();
		});
		EXPECT_EQ(set(s.lid(), {to}), 0);
		collect(s.lid());
		EXPECT_EQ(woke, static_cast<int>(to));
	}
}

TEST(Affinity, ASuspendedOneGoesOnThere) {
	for (unsigned to = 0; to < vcpus(); to++) {
		int ran = -1;
		const lwpid_t lid = spawn([&] { ran = here(); }, LWP_SUSPENDED);
		EXPECT_EQ(set(lid, {to}), 0);
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		collect(lid);
		EXPECT_EQ(ran, static_cast<int>(to));
	}
}

TEST(Affinity, AStoppedOneGoesOnThere) {
	for (unsigned to = 0; to < vcpus(); to++) {
		gate leave;
		std::atomic<bool> about{false};
		std::atomic<int> asleep{-1};
		const lwpid_t yields = spawn([&] {
			about = true;
			leave.pass();
		});
		subject sleeps([&](subject &me) {
			me.park_once();
			asleep = here();
		});
		sleeps.await_blocked();
		ASSERT_TRUE(wait_until([&] { return about.load(); }));
		{
			const lwp::stop_the_world still;
			EXPECT_EQ(set(yields, {to}), 0);
			EXPECT_EQ(set(sleeps.lid(), {to}), 0);
			EXPECT_EQ(error_of(_lwp_unpark(sleeps.lid(), nullptr)), 0) << "its wait ends while it stands still";
		}
		leave.open();
		collect(yields);
		collect(sleeps.lid());
		EXPECT_EQ(asleep, static_cast<int>(to));
	}
}

// It keeps its kernel thread until the end of the region, and is there before lwp_blocking_leave() returns.
TEST(Affinity, OneInARegionMovesAtItsEnd) {
	std::atomic<bool> inside{false};
	std::atomic<bool> is_set{false};
	lwp::thread t({.vcpu = 0}, [&] {
		const pid_t before = ::gettid();
		lwp::blocking([&] {
			inside = true;
			while (!is_set.load()) {
				std::this_thread::sleep_for(100us);
			}
			EXPECT_EQ(::gettid(), before);
		});
		EXPECT_EQ(here(), static_cast<int>(vcpus()) - 1);
	});
	ASSERT_TRUE(wait_until([&] { return inside.load(); }));
	EXPECT_EQ(set(t.native_handle(), {vcpus() - 1}), 0);
	is_set = true;
	t.join();
}

TEST(Affinity, IsInherited) {
	const lwp::vcpu_set first{0};
	const lwp::vcpu_set both = first | lwp::vcpu_set{vcpus() - 1};
	lwp::thread([&] {
		lwp::this_thread::affinity(both);
		lwp::thread([&] {
			EXPECT_EQ(lwp::this_thread::affinity(), both);
			lwp::thread({.vcpu = 0}, [&] { EXPECT_EQ(lwp::this_thread::affinity(), first) << "it was given another"; }).join();
		}).join();
		const lwpid_t later = spawn([&] { EXPECT_EQ(lwp::this_thread::affinity(), both); }, LWP_SUSPENDED);
		lwp::this_thread::affinity({});
		EXPECT_EQ(get(later), both) << "what its creator had then";
		EXPECT_EQ(error_of(_lwp_continue(later)), 0);
		collect(later);
	}).join();
	lwp::thread([] { EXPECT_TRUE(lwp::this_thread::affinity().empty()) << "nothing is left in what is recycled"; }).join();
}

// Behind one that computes, with somewhere else to go: somebody comes, or sends it, whoever looks.
TEST(Affinity, OneOfSeveralIsNotLeftBehindOneThatComputes) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "there is nowhere to go";
	}
	for (unsigned other = 0; other + 1 < vcpus(); other++) {
		direct([&] {
			std::atomic<int> ran{-1};
			lwp::thread t = queued([&] { ran = here(); });
			EXPECT_EQ(set(t.native_handle(), {other, vcpus() - 1}), 0);
			EXPECT_TRUE(compute_until([&] { return ran >= 0; }));
			EXPECT_EQ(ran, static_cast<int>(other));
			t.join();
		});
	}
}

// Behaviour 45.
TEST(Affinity, WhatBelongsToAnLwpGoesAlong) {
	constexpr int signals[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGTERM};
	constexpr int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
	std::vector<lwp::thread> threads;
	for (unsigned i = 0; i < 4; i++) {
		threads.emplace_back([&signals, i, mode = modes[i], sig = signals[i]] {
			sigset_t mine;
			sigemptyset(&mine);
			sigaddset(&mine, sig);
			EXPECT_EQ(error_of(lwp_sigprocmask(SIG_SETMASK, &mine, nullptr)), 0);
			EXPECT_EQ(std::fesetround(mode), 0);
			for (unsigned k = 0; k < 60; k++) {
				const std::string text = std::to_string(100 * k + i);
				const unsigned v = (k + i) % vcpus();
				try {
					throw std::runtime_error(text);
				} catch (const std::runtime_error &caught) {
					set_errno(static_cast<int>(1 + i));
					const int moved = set(_lwp_self(), {v});
					const int error = get_errno();
					ASSERT_EQ(moved, 0);
					EXPECT_EQ(error, static_cast<int>(1 + i));
					EXPECT_EQ(here(), static_cast<int>(v));
					EXPECT_EQ(std::fegetround(), mode);
					EXPECT_EQ(caught.what(), text);
					EXPECT_NE(std::current_exception(), nullptr);
					sigset_t now;
					EXPECT_EQ(error_of(lwp_sigprocmask(SIG_BLOCK, nullptr, &now)), 0);
					for (const int s : signals) {
						EXPECT_EQ(sigismember(&now, s), s == sig ? 1 : 0);
					}
				}
				EXPECT_EQ(std::current_exception(), nullptr);
			}
		});
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(std::fegetround(), FE_TONEAREST);
}

// Many that are woken by anybody, in every way: none is ever where it may not be.
TEST(Affinity, NobodyStrays) {
	const unsigned last = vcpus() - 1;
	const lwp::vcpu_set sets[] = {{0}, {last}, {0, last}, lwp::vcpu_set::range(0, (vcpus() + 1) / 2)};
	std::atomic<std::size_t> strayed{0};
	std::vector<lwp::thread> threads;
	lwp::mutex m;
	std::vector<std::atomic<lwpid_t>> lids(24);
	const std::size_t n = rounds(300);
	for (std::size_t i = 0; i < lids.size(); i++) {
		threads.emplace_back([&, i] {
			const lwp::vcpu_set mine = sets[i % 4];
			lwp::this_thread::affinity(mine);
			lids[i] = _lwp_self();
			for (std::size_t k = 0; k < n; k++) {
				switch (k % 4) {
				case 0:
					lwp_yield();
					break;
				case 1:
					(void)park_for(20us);
					break;
				case 2: {
					const std::lock_guard hold(m);
					lwp_yield();
					break;
				}
				default:
					lwp::thread([&] { strayed += mine.contains(static_cast<unsigned>(here())) ? 0U : 1U; }).join();
				}
				if (const lwpid_t any = lids[(i + k) % lids.size()]; any != 0) {
					(void)_lwp_unpark(any, nullptr);
				}
				strayed += mine.contains(static_cast<unsigned>(here())) ? 0U : 1U;
			}
			lids[i] = 0;
		});
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(strayed, 0U);
}

TEST(Affinity, SetsAreNetBsds) {
	cpuset_t *s = cpuset_create();
	ASSERT_NE(s, nullptr);
	EXPECT_EQ(cpuset_size(s), sizeof(cpuset_t));
	EXPECT_EQ(cpuset_isset(3, s), 0);
	EXPECT_EQ(cpuset_set(3, s), 0);
	EXPECT_EQ(cpuset_set(LWP_VCPU_MAX - 1, s), 0);
	EXPECT_EQ(cpuset_isset(3, s), 1);
	EXPECT_EQ(cpuset_isset(LWP_VCPU_MAX - 1, s), 1);
	EXPECT_EQ(cpuset_set(LWP_VCPU_MAX, s), -1);
	EXPECT_EQ(cpuset_clr(LWP_VCPU_MAX, s), -1);
	EXPECT_EQ(cpuset_isset(LWP_VCPU_MAX, s), -1);
	EXPECT_EQ(cpuset_clr(3, s), 0);
	EXPECT_EQ(cpuset_isset(3, s), 0);
	cpuset_zero(s);
	EXPECT_EQ(cpuset_isset(LWP_VCPU_MAX - 1, s), 0);
	cpuset_destroy(s);
	cpuset_destroy(nullptr);

	lwp::vcpu_set a{1, 2, 200};
	EXPECT_EQ(a.size(), 3U);
	EXPECT_TRUE(a.contains(200));
	EXPECT_FALSE(a.contains(LWP_VCPU_MAX));
	EXPECT_EQ((a & lwp::vcpu_set{2, 3}), lwp::vcpu_set{2});
	EXPECT_EQ((a | lwp::vcpu_set{3}), (lwp::vcpu_set{1, 2, 3, 200}));
	EXPECT_EQ((a - lwp::vcpu_set{1}), (lwp::vcpu_set{2, 200}));
	EXPECT_EQ(a.erase(1).erase(2).erase(200), lwp::vcpu_set());
	EXPECT_TRUE(a.empty());
	EXPECT_THROW(a.insert(LWP_VCPU_MAX), std::out_of_range);
}

TEST(Affinity, ObjectsThrow) {
	const auto error = [](auto fn) {
		try {
			fn();
		} catch (const std::system_error &e) {
			return e.code().value();
		}
		return 0;
	};
	EXPECT_EQ(error([] { lwp::affinity(nobody, {0}); }), ESRCH);
	EXPECT_EQ(error([] { lwp::affinity(0, {0}); }), ESRCH) << "0 is not all of them here";
	EXPECT_EQ(error([] { (void)lwp::affinity(0); }), ESRCH);
	EXPECT_EQ(error([] { lwp::this_thread::affinity({vcpus()}); }), EINVAL);
	{
		const lwp::this_thread::affinity_scope there({vcpus() - 1});
		EXPECT_EQ(here(), static_cast<int>(vcpus()) - 1);
	}
	EXPECT_TRUE(lwp::this_thread::affinity().empty());
}

TEST(Affinity, LeavesErrnoAlone) {
	set_errno(EDOM);
	for (unsigned v = 0; v < vcpus(); v++) {
		EXPECT_EQ(set(_lwp_self(), {v}), 0);
	}
	EXPECT_EQ(set(_lwp_self(), {}), 0);
	EXPECT_EQ(get_errno(), EDOM);
}
