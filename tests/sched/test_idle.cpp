// SPDX-License-Identifier: BSD-2-Clause
//
// vCPUs without work: no wake-up is lost on the way into or out of a halt, and one LWP that computes or many that yield keep neither the
// others nor timers waiting.
// vcpus: 1 2 8
#include "sched/idle.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/callout.h"

#include "../support/support.h"

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

using lwp::kern::callout_halt;
using lwp::kern::callout_schedule;
using lwp::kern::cpu_relax;
using lwp::kern::curlwp;
using lwp::kern::lwp_sleep_until;
using lwp::kern::now;
using lwp::kern::sched;
using lwp::kern::timer;
using lwp::kern::vcpu_t;

const bool touched = touch_runtime();

int vcpus() { return static_cast<int>(lwp::runtime::vcpus()); }

bool halted(int v) { return sched.sd_vcpu[v]->vc_halted.load() == lwp::kern::vc_waits; }

/// A lost wake-up is a program that stands still.  This kernel thread, no LWP, ends it with a message when a count has not moved for a minute.
class watchdog {
public:
	explicit watchdog(const std::atomic<std::size_t> &progress) : progress_(progress), thread_([this] { watch(); }) {}
	~watchdog() {
		{
			std::lock_guard hold(mutex_);
			done_ = true;
		}
		cv_.notify_one();
		thread_.join();
	}
	watchdog(const watchdog &) = delete;
	watchdog &operator=(const watchdog &) = delete;

private:
	void watch() {
		std::unique_lock hold(mutex_);
		std::size_t seen = progress_;
		while (!cv_.wait_for(hold, std::chrono::minutes(1), [this] { return done_; })) {
			if (progress_ == seen) {
				std::fprintf(stderr, "a wake-up was lost after %zu\n", seen);
				std::abort();
			}
			seen = progress_;
		}
	}
	const std::atomic<std::size_t> &progress_;
	std::mutex mutex_;
	std::condition_variable cv_;
	bool done_ = false;
	std::thread thread_;
};

/// Now and then nothing, else a little or some time: to hit a vCPU in every stage of its way to a halt.
void dawdle(dice &r) {
	for (unsigned n = r.one_in(4) ? 0 : r.below(r.one_in(8) ? 20000 : 1000); n > 0; n--) {
		cpu_relax();
	}
}

/// Computes, without any call of the library, until `ready` or, if something is broken, for 20 seconds.
template <class Predicate>
bool compute_until(Predicate ready) {
	const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
	while (!ready()) {
		if (std::chrono::steady_clock::now() > end) {
			return false;
		}
	}
	return true;
}

}  // namespace

// Two LWPs, each the only one of its vCPU, wake each other and park: in every round each vCPU runs out of work and looks once more before
// it halts, while the other one queues and looks whether it halts.
TEST(Idle, NoWakeUpByAnotherVcpuIsLost) {
	const std::size_t n = race_rounds(100000);
	std::atomic<std::size_t> round{0};
	std::array<std::atomic<lwpid_t>, 2> lid{};
	const watchdog w(round);
	const auto player = [&](unsigned me) {
		dice r(me);
		const int other_vcpu = me == 0 ? vcpus() - 1 : 0;
		lid[me] = _lwp_self();
		while (lid[1 - me] == 0) {
			lwp_yield();
		}
		while (round < n) {
			if (round % 2 == me) {
				if (vcpus() > 1 && r.one_in(16)) {
					// At the bottom of its halt, or already on the way out to look around: for some time, not for ever.
					for (unsigned k = 0; k < 100000 && !halted(other_vcpu); k++) {
						cpu_relax();
					}
				} else if (vcpus() > 1) {
					dawdle(r);
				}
				round++;
				(void)_lwp_unpark(lid[1 - me], nullptr);
			} else {
				(void)park();
			}
		}
		(void)_lwp_unpark(lid[1 - me], nullptr);
	};
	lwp::thread a({.vcpu = 0}, [&player] { player(0); });
	lwp::thread b({.vcpu = vcpus() - 1}, [&player] { player(1); });
	a.join();
	b.join();
	EXPECT_EQ(round, n);
}

// A kernel thread from outside wakes an LWP that may run anywhere; each unpark ends exactly one park, so the two stay in step.
TEST(Idle, NoWakeUpByAKernelThreadFromOutsideIsLost) {
	const std::size_t n = race_rounds(100000);
	std::atomic<std::size_t> parks{0};
	std::atomic<lwpid_t> lid{0};
	std::atomic<unsigned> wrong{0};
	const watchdog w(parks);
	lwp::thread sleeper([&] {
		lid = _lwp_self();
		while (parks < n) {
			const int r = park();
			wrong += r != 0 && r != EALREADY;
			parks++;
		}
	});
	std::thread waker([&] {
		dice r(1);
		while (lid == 0) {
			std::this_thread::yield();
		}
		for (std::size_t k = 0; k < n; k++) {
			for (unsigned spins = 0; parks != k; spins++) {
				spins % 1000 == 999 ? std::this_thread::yield() : cpu_relax();
			}
			dawdle(r);
			(void)_lwp_unpark(lid, nullptr);
		}
	});
	sleeper.join();
	waker.join();
	EXPECT_EQ(parks, n);
	EXPECT_EQ(wrong, 0U);
}

// New LWPs from outside: each is queued on a vCPU that may be halting just now.
TEST(Idle, NoLwpMadeByAKernelThreadFromOutsideIsForgotten) {
	const std::size_t n = race_rounds(20000);
	std::atomic<std::size_t> ran{0};
	const watchdog w(ran);
	std::thread maker([&] {
		dice r(2);
		for (std::size_t k = 0; k < n; k++) {
			lwp::thread([&ran] { ran++; }).join();
			dawdle(r);
		}
	});
	lwp::thread([&] {
		while (ran < n) {
			(void)park_for(std::chrono::milliseconds(1));
		}
	}).join();
	maker.join();
	EXPECT_EQ(ran, n);
}

// A vCPU that is about to halt is given an earlier timer than the one it has seen; a halted one fires its own.
TEST(Idle, NoTimerIsForgotten) {
	const std::size_t n = rounds(2000);
	std::atomic<std::size_t> sleeps{0};
	const watchdog w(sleeps);
	std::vector<lwp::thread> threads;
	for (int i = 0; i < 2 * vcpus(); i++) {
		threads.emplace_back(lwp::attributes{.vcpu = i % vcpus()}, [&, i] {
			dice r(static_cast<std::uint64_t>(i));
			for (std::size_t k = 0; k < n; k++) {
				const auto deadline = now() + r.below(r.one_in(10) ? 300'000 : 20'000);
				lwp_sleep_until(curlwp(), deadline);
				EXPECT_GE(now(), deadline);
				sleeps++;
			}
		});
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(sleeps, n * threads.size());
}

namespace {

struct flagged : timer {
	flagged() {
		tm_fn = [](void *self) { static_cast<flagged *>(self)->fired = true; };
		tm_arg = this;
	}
	std::atomic<bool> fired{false};
};

}  // namespace

// An LWP queues others, has one fall asleep with a timer, arms a timer of its own, and then computes without a call until all of that has
// happened: its vCPU will not do any of it.
TEST(Idle, WhatWaitsBehindAComputingLwpIsDoneByOthers) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "nobody else is there to do it";
	}
	const std::size_t n = rounds(200);
	std::atomic<std::size_t> progress{0};
	const watchdog w(progress);
	for (std::size_t k = 0; k < n; k++) {
		std::atomic<unsigned> behind{0};
		std::atomic<bool> woken{false};
		std::atomic<bool> slept{false};
		bool all_done = false;
		const unsigned queued = 1 + static_cast<unsigned>(k % 3);
		lwp::thread hog([&] {
			subject parked([&woken](subject &self) {
				self.park_once();
				woken = true;
			});
			subject sleeper([&slept](subject &self) {
				self.about_to_block();
				lwp_sleep_until(curlwp(), now() + 300'000);
				slept = true;
			});
			parked.await_blocked();
			EXPECT_TRUE(wait_until([&] { return sleeper.blocked() || slept; }));  // it may be through already
			std::vector<lwp::thread> others;
			for (unsigned i = 0; i < queued; i++) {
				others.emplace_back([&behind] { behind++; });
			}
			(void)_lwp_unpark(parked.lid(), nullptr);
			flagged t;
			ASSERT_EQ(callout_schedule(curlwp()->l_cpu, &t, now() + 100'000), 0);
			all_done = compute_until([&] { return behind == queued && woken && slept && t.fired; });
			callout_halt(&t);
			if (!all_done) {
				ADD_FAILURE() << behind << " of " << queued << " ran, woken " << woken << ", slept " << slept << ", fired " << t.fired;
			}
			for (lwp::thread &t2 : others) {
				t2.join();
			}
			collect(parked.lid());
			collect(sleeper.lid());
		});
		hog.join();
		progress++;
		ASSERT_TRUE(all_done) << "round " << k;
	}
}

// The other vCPUs have halted for good before the one that computes begins: nobody watches it, so its queueing has to wake somebody.
TEST(Idle, WhatWaitsBehindAComputingLwpIsDoneByOthersAlsoAfterALongSilence) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "nobody else is there to do it";
	}
	const std::size_t n = rounds(50);
	std::atomic<std::size_t> progress{0};
	const watchdog w(progress);
	for (std::size_t k = 0; k < n; k++) {
		std::atomic<bool> ran{false};
		bool in_time = false;
		lwp::thread hog([&] {
			// Its timer is the only thing in the runtime; until then everybody halts, watches for a while and stops watching.
			lwp_sleep_until(curlwp(), now() + (k % 2 == 0 ? 60'000'000 : 1'000'000));
			lwp::thread other([&ran] { ran = true; });
			in_time = compute_until([&] { return ran.load(); });
			other.join();
		});
		hog.join();
		progress++;
		ASSERT_TRUE(in_time) << "round " << k;
	}
}

// Nobody halts, so nobody watches: all other vCPUs have LWPs that yield until what waits behind the computing one has run.
TEST(Idle, WhatWaitsBehindAComputingLwpIsDoneByThoseThatYield) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "nobody else is there to do it";
	}
	std::atomic<std::size_t> progress{0};
	const watchdog w(progress);
	for (std::size_t k = 0; k < rounds(20); k++) {
		std::atomic<bool> computes{false}, ran{false}, over{false};
		lwp::thread late([&ran] {
			lwp_sleep_until(curlwp(), now() + 2'000'000);  // a timer of the vCPU that computes then
			ran = true;
		});
		lwp::this_thread::yield();
		lwp::thread hog([&] {
			computes = true;
			while (!over) {
			}
		});
		std::vector<lwp::thread> others;
		for (int i = 2; i < vcpus(); i++) {
			others.emplace_back([&ran] {
				while (!ran) {
					lwp::this_thread::yield();
				}
			});
		}
		while (!computes) {
			lwp::this_thread::yield();
		}
		while (!ran) {
			lwp::this_thread::yield();
		}
		over = true;
		hog.join();
		late.join();
		for (lwp::thread &t : others) {
			t.join();
		}
		progress++;
	}
}

// What a vCPU takes the speed of the CPU's counter for, from its first looks at the clock on.
TEST(Idle, TheCounterIsMeasuredFromTheStart) {
	const lwp::kern::nanotime began = lwp::kern::now();
	const std::uint64_t at = lwp::kern::cycles();
	while (lwp::kern::now() < began + 3'000'000) {
		lwp::this_thread::yield();
	}
	const std::uint64_t speed = (lwp::kern::cycles() - at) * lwp::kern::cycles_unit / (lwp::kern::now() - began);
	const std::uint64_t taken_for = lwp::kern::curlwp()->l_cpu->vc_speed;
	EXPECT_GT(taken_for, speed / 4);
	EXPECT_LT(taken_for, speed * 4);
}

// More LWPs than vCPUs do nothing but yield.
TEST(Idle, YieldStormStarvesNeitherTimersNorOtherLwps) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> wakes{0};
	const watchdog w(wakes);
	std::vector<lwp::thread> storm;
	for (int i = 0; i < 2 * vcpus(); i++) {
		storm.emplace_back([&stop] {
			while (!stop) {
				lwp_yield();
			}
		});
	}
	std::vector<lwp::thread> sleepers;
	for (int v = 0; v < vcpus(); v++) {
		sleepers.emplace_back(lwp::attributes{.vcpu = v}, [&wakes] {
			for (int k = 0; k < 20; k++) {
				lwp_sleep_until(curlwp(), now() + 200'000);
				wakes++;
			}
			lwp::thread([&wakes] { wakes++; }).join();
		});
	}
	for (lwp::thread &t : sleepers) {
		t.join();
	}
	stop = true;
	for (lwp::thread &t : storm) {
		t.join();
	}
	EXPECT_EQ(wakes, sleepers.size() * 21);
}

// Pairs that wake each other as fast as they can on every vCPU.
TEST(Idle, FloodOfWakeUpsStarvesNeitherTimersNorOtherLwps) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> wakes{0};
	const watchdog w(wakes);
	struct pair_t {
		std::array<std::atomic<lwpid_t>, 2> lid{};
	};
	std::vector<std::unique_ptr<pair_t>> pairs;
	std::vector<lwp::thread> flood;
	for (int v = 0; v < vcpus(); v++) {
		pairs.push_back(std::make_unique<pair_t>());
		for (unsigned me : {0U, 1U}) {
			flood.emplace_back(lwp::attributes{.vcpu = v}, [&stop, me, &p = *pairs.back()] {
				p.lid[me] = _lwp_self();
				while (p.lid[1 - me] == 0) {
					lwp_yield();
				}
				while (!stop) {
					(void)_lwp_unpark(p.lid[1 - me], nullptr);
					(void)park();
				}
				(void)_lwp_unpark(p.lid[1 - me], nullptr);
			});
		}
	}
	std::vector<lwp::thread> sleepers;
	for (int v = 0; v < vcpus(); v++) {
		sleepers.emplace_back(lwp::attributes{.vcpu = v}, [&wakes] {
			for (int k = 0; k < 20; k++) {
				lwp_sleep_until(curlwp(), now() + 200'000);
				wakes++;
			}
			lwp::thread([&wakes] { wakes++; }).join();
		});
	}
	for (lwp::thread &t : sleepers) {
		t.join();
	}
	stop = true;
	for (lwp::thread &t : flood) {
		t.join();
	}
	EXPECT_EQ(wakes, sleepers.size() * 21);
}

// What came of a theft, told as if we had taken from ourselves: each one that was over at once makes the pile that is worth the next one larger, and one
// that was not is forgotten.  A kernel thread that loses its CPU at the wrong moment, or a thief that really comes, spoils it: again, then.
TEST(Idle, AfterThievesThatCameForNothingAPileMustBeLarger) {
	unsigned worth[4] = {};
	unsigned patience[4] = {};
	for (int i = 0; i < 100 && (worth[0] != 4 || worth[1] != 8 || worth[2] != 1024 || worth[3] != 0); i++) {
		lwp::thread({.vcpu = vcpus() - 1}, [&] {
			vcpu_t *vc = curlwp()->l_cpu;
			const auto judged = [vc](unsigned before, lwp::kern::nanotime ago) {
				vc->vc_worth = before;
				vc->vc_stole = now() - ago;
				vc->vc_stole_from = vc;
				vc->vc_stole_unjudged = 1;
				lwp::kern::sched_search_begin(vc);
				lwp::kern::sched_search_end(vc, true);
				return vc->vc_worth.load();
			};
			vc->vc_patience = 8;
			const unsigned before[] = {0, 4, 1000, 1000};
			for (unsigned k = 0; k < 4; k++) {
				worth[k] = judged(before[k], k < 3 ? 0 : 1'000'000'000);
				patience[k] = vc->vc_patience;
			}
			vc->vc_worth = 0;
			vc->vc_steal_pause = 0;
		}).join();
	}
	EXPECT_EQ(worth[0], 4U);
	EXPECT_EQ(worth[1], 8U);
	EXPECT_EQ(worth[2], 1024U) << "never more than that";
	EXPECT_EQ(worth[3], 0U) << "it kept the thief busy";
	EXPECT_GT(patience[3], patience[2]);
}

// Counters of the protocol, which no LWP sees: when nobody has work, all have halted and nobody searches.
TEST(Idle, EverybodyHaltsWhenNobodyHasWork) {
	const int n = vcpus();
	std::atomic<bool> all_halted{false};
	std::thread observer([&] {  // no call of the library: it stays outside
		const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
		while (!all_halted && std::chrono::steady_clock::now() < end) {
			int count = 0;
			for (int v = 0; v < n; v++) {
				count += halted(v);
			}
			all_halted = count == n && sched.sd_searching.load() == 0 && sched.sd_halted.load() == static_cast<unsigned>(n);
			std::this_thread::yield();
		}
		(void)_lwp_unpark(1, nullptr);
	});
	(void)park();
	observer.join();
	EXPECT_TRUE(all_halted);
}

// A storm of yields teaches a vCPU to look at the clock once in hundreds of switches.  When its LWPs then run for long, a timer must not wait
// for that count.
TEST(Idle, TimerIsOnTimeWhenLwpsRunLongAfterAYieldStorm) {
	std::atomic<bool> storm_over{false};
	std::atomic<bool> woken{false};
	unsigned turns = 0;  // of the long one while the sleeper slept
	lwp::thread other({.vcpu = 0}, [&] {
		while (!storm_over) {
			lwp_yield();
		}
	});
	lwp::thread sleeper({.vcpu = 0}, [&] {
		for (unsigned i = 0; i < 200'000; i++) {
			lwp_yield();
		}
		storm_over = true;
		lwp_sleep_until(curlwp(), now() + 1'000'000);
		woken = true;
	});
	lwp::thread computing({.vcpu = 0}, [&] {
		while (!storm_over) {
			lwp_yield();
		}
		while (!woken) {
			const auto until = now() + 100'000;
			while (now() < until) {
			}
			turns++;
			lwp_yield();
		}
	});
	other.join();
	sleeper.join();
	computing.join();
	EXPECT_LT(turns, 20U) << "turns of 100 us each while somebody slept for 1 ms";
}

// LWPs that may not move are no work for another vCPU: it must halt beside them, not search for ever.
TEST(Idle, HaltsBesideOneWhoseLwpsMayNotMove) {
	if (vcpus() < 2) {
		GTEST_SKIP() << "needs a second vCPU";
	}
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> bound;
	for (int i = 0; i < 8; i++) {
		bound.emplace_back(lwp::attributes{.vcpu = 0}, [&] {
			while (!stop) {
				lwp_yield();
			}
		});
	}
	const auto cpu_of = [](int v) {
		clockid_t clock;
		timespec t{};
		EXPECT_EQ(::pthread_getcpuclockid(sched.sd_vcpu[v]->vc_thread, &clock), 0);
		EXPECT_EQ(::clock_gettime(clock, &t), 0);
		return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
	};
	const double before = cpu_of(1);
	const auto begin = now();
	lwp_sleep_until(curlwp(), begin + 300'000'000);
	const double elapsed = static_cast<double>(now() - begin) * 1e-9;
	const double used = cpu_of(1) - before;
	stop = true;
	for (lwp::thread &t : bound) {
		t.join();
	}
	EXPECT_LT(used, elapsed / 8) << "vCPU 1 had nothing to run";
}
