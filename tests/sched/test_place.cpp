// SPDX-License-Identifier: BSD-2-Clause
//
// Where LWPs run and in which order: binding, stealing, the order among equals and unequals, and that nobody is kept waiting for ever.
// vcpus: 1 2 8
#include "sched/place.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/callout.h"

#include "../support/support.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

using lwp::kern::curlwp;
using lwp::kern::lwp_sleep_until;
using lwp::kern::now;
using lwp::kern::sched_takecpu;

const bool touched = touch_runtime();

/// Asked afresh: an LWP may come back from any call on another vCPU.
__attribute__((noinline)) int here() { return curlwp()->l_cpu->vc_index; }

int vcpus() { return static_cast<int>(lwp::runtime::vcpus()); }

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

// Woken by a timer, by an LWP of any vCPU and by a kernel thread from outside; created by a bound one, which they follow, or told where.
TEST(Place, BoundLwpsStayOnTheirVcpu) {
	struct worker {
		int vcpu = 0;
		std::atomic<lwpid_t> lid{0};
		std::atomic<bool> done{false};
		std::atomic<int> strayed{0};
	};
	const std::size_t n = rounds(200);
	std::vector<std::unique_ptr<worker>> workers;
	for (int i = 0; i < 4 * vcpus(); i++) {
		workers.push_back(std::make_unique<worker>());
		workers.back()->vcpu = i % vcpus();
	}
	std::atomic<bool> all_done{false};
	const auto unpark_all = [&] {
		for (const auto &w : workers) {
			if (w->lid != 0 && !w->done) {
				(void)_lwp_unpark(w->lid, nullptr);
			}
		}
	};
	std::vector<lwp::thread> threads;
	for (const auto &w : workers) {
		threads.emplace_back(lwp::attributes{.vcpu = w->vcpu}, [&w = *w, n] {
			lwpctl_t *block = nullptr;
			(void)_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block);
			w.lid = _lwp_self();
			for (std::size_t k = 0; k < n; k++) {
				switch (k % 4) {
				case 0:
					lwp_yield();
					break;
				case 1:
					(void)park();
					break;
				case 2:
					(void)park_for(std::chrono::microseconds(20));
					break;
				default:
					lwp::thread([&w] { w.strayed += here() != w.vcpu; }).join();
				}
				w.strayed += here() != w.vcpu || vcpu_of(block) != w.vcpu;
			}
			w.done = true;
		});
	}
	std::thread from_outside([&] {
		while (!all_done) {
			unpark_all();
			std::this_thread::yield();
		}
	});
	lwp::thread from_anywhere([&] {
		while (!all_done) {
			unpark_all();
			lwp_yield();
		}
	});
	for (lwp::thread &t : threads) {
		t.join();
	}
	all_done = true;
	from_outside.join();
	from_anywhere.join();
	for (const auto &w : workers) {
		EXPECT_EQ(w->strayed, 0) << "one bound to vCPU " << w->vcpu;
	}
}

TEST(Place, IsChosenByBindingThenByWhoWakes) {
	lwp::thread([] {
		lwp::kern::lwp_t *l = curlwp();
		EXPECT_EQ(sched_takecpu(l, l->l_cpu), l->l_cpu) << "a free one stays with whoever wakes it";
		for (int v = 0; v < vcpus(); v++) {
			EXPECT_EQ(sched_takecpu(l, lwp::kern::sched.sd_vcpu[v]), lwp::kern::sched.sd_vcpu[v]);
		}
	}).join();
	for (int v = 0; v < vcpus(); v++) {
		lwp::thread({.vcpu = v}, [v] {
			for (int me = 0; me < vcpus(); me++) {
				EXPECT_EQ(sched_takecpu(curlwp(), lwp::kern::sched.sd_vcpu[me]), lwp::kern::sched.sd_vcpu[v]);
			}
		}).join();
	}
	std::thread([] {
		lwp::kern::lwp_t *l = curlwp();  // an adopted kernel thread is its own vCPU
		EXPECT_EQ(sched_takecpu(l, lwp::kern::sched.sd_vcpu[0]), l->l_cpu);
	}).join();
}

// As many LWPs that compute as there are vCPUs, all made by one: each of them waits for all of the others to compute at the same time.  An LWP
// left behind one that computes would wait for ever.
TEST(Place, ComputingLwpsSpreadOverAllVcpus) {
	const int n = vcpus();
	std::atomic<int> computing{0};
	std::atomic<int> met{0};
	std::vector<std::atomic<int>> on(static_cast<std::size_t>(n));
	std::vector<lwp::thread> threads;
	for (int i = 0; i < n; i++) {
		threads.emplace_back([&] {
			on[static_cast<std::size_t>(here())]++;
			computing++;
			met += compute_until([&] { return computing == n; });
		});
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(met, n);
	for (int v = 0; v < n; v++) {
		EXPECT_EQ(on[static_cast<std::size_t>(v)], 1) << "on vCPU " << v;
	}
}

namespace {

/// An LWP queues some that may run nowhere but on its own vCPU and one that may run anywhere, none of them better than itself; then it
/// computes until the free one has run.
void compute_until_the_free_one_has_run(int bound, int bound_priority, int free_priority) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "nobody else is there to run it";
	}
	std::atomic<bool> free_one_ran{false};
	bool in_time = false;
	lwp::thread hog({.priority = 40}, [&] {
		std::vector<lwp::thread> behind;
		for (int i = 0; i < bound; i++) {
			behind.emplace_back(lwp::attributes{.priority = bound_priority, .vcpu = here()}, [] {});
		}
		behind.emplace_back(lwp::attributes{.priority = free_priority}, [&free_one_ran] { free_one_ran = true; });
		in_time = compute_until([&] { return free_one_ran.load(); });
		for (lwp::thread &t : behind) {
			t.join();
		}
	});
	hog.join();
	EXPECT_TRUE(in_time) << "nobody came for the one that may go elsewhere";
}

}  // namespace

TEST(Place, OneThatWaitsBehindAComputingOneGoesElsewhere) { compute_until_the_free_one_has_run(0, 0, 40); }

// A thief looks at the best priority first; what it finds there may not move.
TEST(Place, BetterOnesThatMayNotMoveDoNotHideOneThatMay) { compute_until_the_free_one_has_run(3, 30, 20); }

// Nor do many of its own priority.
TEST(Place, ManyThatMayNotMoveDoNotHideOneThatMay) { compute_until_the_free_one_has_run(100, 30, 30); }

// Of a tree the oldest are the largest parts, and a thief takes those.  In its line they would all be begun in one turn, each with children of its own to
// be stolen back: a tree that goes down before it goes wide would be as wide as it is large.
TEST(Place, WhatIsStolenIsStillServedNewestFirst) {
	if (vcpus() != 2) {
		GTEST_SKIP() << "needs one thief";
	}
	constexpr int lwps = 40;
	constexpr std::size_t looked_at = 10;
	std::atomic<bool> made{false};
	std::atomic<bool> kept{false};
	std::atomic<std::size_t> begun{0};
	std::vector<int> order(lwps);
	bool in_time = false;
	lwp::thread([&] {
		lwp::thread keeps_the_thief_away({.vcpu = 1 - here()}, [&] {
			kept = true;
			compute_until([&] { return made.load(); });
		});
		in_time = compute_until([&] { return kept.load(); });
		std::vector<lwp::thread> behind;
		for (int i = 0; i < lwps; i++) {
			behind.emplace_back([&, i] { order[begun++] = i; });
		}
		made = true;
		in_time = in_time && compute_until([&] { return begun >= looked_at; });
		for (lwp::thread &t : behind) {
			t.join();
		}
		keeps_the_thief_away.join();
	}).join();
	ASSERT_TRUE(in_time) << "nobody came for them";
	int newer_first = 0;
	for (std::size_t i = 1; i < looked_at; i++) {
		newer_first += order[i] < order[i - 1] ? 1 : 0;
	}
	EXPECT_GE(newer_first, 6) << "of 9";
}

// ---- order on one vCPU

namespace {

/// Runs `body` in an LWP that stays on one vCPU; so do those that it makes, at its own priority unless they say otherwise.
template <class Body>
void on_one_vcpu(const lwp::attributes &attr, const Body &body) {
	lwp::attributes here_only = attr;
	here_only.vcpu = vcpus() - 1;
	lwp::thread(here_only, body).join();
}

}  // namespace

TEST(Place, RealTimeEqualsRunInTheOrderOfTheirCreationAndTakeTurnsWhenTheyYield) {
	for (const lwp::sched_policy policy : {lwp::sched_policy::fifo, lwp::sched_policy::rr}) {
		std::vector<int> order;
		on_one_vcpu({.priority = 10, .policy = policy}, [&order] {
			std::vector<lwp::thread> threads;
			for (int i = 0; i < 5; i++) {
				threads.emplace_back([&order, i] {
					for (int turn = 0; turn < 3; turn++) {
						order.push_back(i);
						lwp_yield();
					}
				});
			}
			EXPECT_TRUE(order.empty()) << "an equal does not go before the one that made it";
			for (lwp::thread &t : threads) {
				t.join();
			}
		});
		EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4}));
	}
}

// When new ones come first is not promised; from the moment that all have, until the first has ended, they take turns.
TEST(Place, TimeSharingEqualsTakeTurnsWhenTheyYield) {
	constexpr std::size_t lwps = 7;
	constexpr std::size_t turns = 200;
	std::vector<std::size_t> order;
	on_one_vcpu({}, [&order] {
		std::vector<lwp::thread> threads;
		for (std::size_t i = 0; i < lwps; i++) {
			threads.emplace_back([&order, i] {
				for (std::size_t turn = 0; turn < turns; turn++) {
					order.push_back(i);
					lwp_yield();
				}
			});
		}
		EXPECT_TRUE(order.empty());
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	ASSERT_EQ(order.size(), lwps * turns);
	std::vector<std::size_t> ran(lwps, 0);
	std::size_t compared = 0;
	std::size_t all_began = 0;
	for (std::size_t k = 0; k < order.size() && ran[order[k]] + 1 < turns; k++) {
		ran[order[k]]++;
		if (std::count(ran.begin(), ran.end(), 0U) != 0) {
			all_began = k + 1;
		} else if (k > all_began + lwps) {
			ASSERT_EQ(order[k], order[k - lwps]) << "turn " << k;
			compared++;
		}
	}
	EXPECT_GT(compared, 0U);
}

TEST(Place, BetterOnesRunFirstWhateverTheOrderOfTheirCreation) {
	std::vector<int> order;
	on_one_vcpu({.priority = 60}, [&order] {
		std::vector<lwp::thread> threads;
		for (const int priority : {10, 40, 20, 59, 0}) {
			threads.emplace_back(lwp::attributes{.priority = priority}, [&order, priority] { order.push_back(priority); });
		}
		lwp_yield();
		EXPECT_TRUE(order.empty()) << "a yield is for equals and better ones";
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	EXPECT_EQ(order, (std::vector<int>{59, 40, 20, 10, 0}));
}

TEST(Place, RealTimeRunsBeforeTimeSharing) {
	std::vector<int> order;
	on_one_vcpu({.priority = 63, .policy = lwp::sched_policy::fifo}, [&order] {
		std::vector<lwp::thread> threads;
		threads.emplace_back(lwp::attributes{.priority = 63, .policy = lwp::sched_policy::other}, [&order] { order.push_back(0); });
		threads.emplace_back(lwp::attributes{.priority = 0, .policy = lwp::sched_policy::rr}, [&order] { order.push_back(1); });
		threads.emplace_back(lwp::attributes{.priority = 1, .policy = lwp::sched_policy::fifo}, [&order] { order.push_back(2); });
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	EXPECT_EQ(order, (std::vector<int>{2, 1, 0}));
}

// A sleeper whose time is over is woken while others yield.  They stand in line; it is next, unless it is the turn of the line, which it is now and then.
TEST(Place, ASleeperWhoseTimeIsOverRunsBeforeThoseThatOnlyYield) {
	on_one_vcpu({}, [] {
		constexpr unsigned tries = 40;
		bool over = false;
		unsigned yields = 0;
		std::vector<lwp::thread> threads;
		for (int i = 0; i < 20; i++) {
			threads.emplace_back([&] {
				while (!over) {
					yields++;
					lwp_yield();
				}
			});
		}
		unsigned next = 0;
		for (unsigned i = 0; i < tries; i++) {
			unsigned yields_then = 0;
			bool sleeps = false;
			lwp::kern::nanotime deadline = 0;
			lwp::thread sleeper([&] {
				deadline = now() + 1'000'000;
				sleeps = true;
				lwp_sleep_until(curlwp(), deadline);
				yields_then = yields;
			});
			while (!sleeps) {
				lwp_yield();
			}
			EXPECT_TRUE(compute_until([&] { return now() > deadline; }));
			const unsigned before = yields;
			lwp::kern::callout_run(curlwp()->l_cpu, now());
			lwp_yield();
			sleeper.join();
			next += yields_then - before <= 1 ? 1U : 0U;
		}
		over = true;
		for (lwp::thread &t : threads) {
			t.join();
		}
		EXPECT_GE(next, tries / 4) << "of " << tries;
	});
}

// ---- a better one comes

// Each way to make an LWP runnable is a boundary of the one that does it.
TEST(Place, BetterOneRunsAtTheBoundaryOfWhoeverCreatesIt) {
	on_one_vcpu({.priority = 20}, [] {
		bool ran = false;
		lwp::thread better({.priority = 40}, [&ran] { ran = true; });
		EXPECT_TRUE(ran);
		better.join();
	});
}

TEST(Place, BetterOneRunsAtTheBoundaryOfWhoeverUnparksIt) {
	on_one_vcpu({.priority = 20}, [] {
		int stage = 0;
		lwp::thread better({.priority = 40}, [&stage] {
			stage = 1;
			(void)park();
			stage = 2;
			(void)park();
			stage = 3;
		});
		EXPECT_EQ(stage, 1);
		EXPECT_EQ(_lwp_unpark(better.native_handle(), nullptr), 0);
		EXPECT_EQ(stage, 2);
		const lwpid_t lid = better.native_handle();
		EXPECT_EQ(_lwp_unpark_all(&lid, 1, nullptr), 0);
		EXPECT_EQ(stage, 3);
		better.join();
	});
}

TEST(Place, BetterOneRunsAtTheBoundaryOfWhoeverWakesItUp) {
	on_one_vcpu({.priority = 20}, [] {
		int result = -1;
		lwp::thread better({.priority = 40}, [&result] { result = park(); });
		EXPECT_EQ(_lwp_wakeup(better.native_handle()), 0);
		EXPECT_EQ(result, EINTR);
		better.join();
	});
}

TEST(Place, BetterOneRunsAtTheBoundaryOfWhoeverContinuesIt) {
	on_one_vcpu({.priority = 20}, [] {
		bool ran = false;
		lwp::thread better({.priority = 40}, [&ran] {
			EXPECT_EQ(_lwp_suspend(_lwp_self()), 0);
			ran = true;
		});
		EXPECT_FALSE(ran);
		EXPECT_EQ(_lwp_continue(better.native_handle()), 0);
		EXPECT_TRUE(ran);
		better.join();
	});
}

TEST(Place, BetterOneRunsAtTheBoundaryOfWhoeverDetachesWhatItWaitsFor) {
	on_one_vcpu({.priority = 20}, [] {
		lwp::thread target([] { (void)park(); });
		int result = -1;
		lwp::thread better({.priority = 40}, [&] { result = error_of(_lwp_wait(target.native_handle(), nullptr)); });
		EXPECT_EQ(result, -1);
		const lwpid_t lid = target.native_handle();
		target.detach();
		EXPECT_EQ(result, ESRCH);
		better.join();
		EXPECT_EQ(_lwp_unpark(lid, nullptr), 0);
		await_end(lid);
	});
}

// An LWP on its own vCPU goes from boundary to boundary without blocking; one that is better, and may run only there, is woken from elsewhere.
TEST(Place, BetterOneQueuedByAnotherVcpuRunsAtTheNextBoundary) {
	struct {
		int worse, better;
	} const cases[] = {{20, 40}, {5, 25}};
	for (const auto &priority : cases) {
		const int there = vcpus() - 1;
		std::atomic<bool> busy{false};
		std::atomic<bool> ran{false};
		std::atomic<bool> parked{false};
		bool in_time = false;
		lwp::thread better({.priority = priority.better, .vcpu = there}, [&] {
			parked = true;
			(void)park();
			ran = true;
		});
		lwp::thread worse({.priority = priority.worse, .vcpu = there}, [&] {
			while (!parked) {
				lwp_yield();
			}
			busy = true;
			in_time = compute_until([&] {
				(void)_lwp_unpark(_lwp_self(), nullptr);
				return ran.load();
			});
		});
		std::thread waker([&] {
			while (!busy) {
				std::this_thread::yield();
			}
			(void)_lwp_unpark(better.native_handle(), nullptr);
		});
		worse.join();
		better.join();
		waker.join();
		EXPECT_TRUE(in_time) << "one of priority " << priority.better << " was kept waiting by one of " << priority.worse;
	}
}

// ---- nobody is kept waiting for ever

namespace {

struct chain {
	std::atomic<bool> stop{false};
	std::atomic<bool> ended{false};
	std::size_t links = 0;
	std::size_t most = 0;
};

/// Makes its successor and ends; each runs before whoever was there before it.
void link_of(chain &c) {
	if (c.stop || ++c.links > c.most) {
		c.ended = true;
		return;
	}
	lwp::thread({.detached = true}, [&c] { link_of(c); });
}

}  // namespace

// New LWPs go first.  A chain of LWPs that each make the next and end never leaves the vCPU without a new one, and never passes a yield or a
// sleep: those that are older come to run all the same, whether they stand in line or have not run yet.
TEST(Place, ChainOfNewLwpsDoesNotStarveOldOnes) {
	on_one_vcpu({}, [] {
		chain c;
		c.most = rounds(1'000'000);
		std::size_t new_one_ran_at = 0;
		std::size_t line_moved_at = 0;
		lwp::thread in_line([&] {
			lwp_yield();
			line_moved_at = c.links;
		});
		lwp_yield();  // it stands in line now
		lwp::thread never_ran([&] { new_one_ran_at = c.links; });
		link_of(c);
		lwp_yield();
		c.stop = true;
		never_ran.join();
		in_line.join();
		while (!c.ended) {
			lwp_yield();
		}
		EXPECT_LE(line_moved_at, c.most) << "the line waited until the chain had ended";
		EXPECT_LE(c.links, c.most) << "so did the one that yielded";
	});
}

TEST(Place, ChainOfNewLwpsDoesNotStarveTimers) {
	on_one_vcpu({}, [] {
		chain c;
		c.most = rounds(1'000'000);
		lwp::thread sleeper([&c] {
			lwp_sleep_until(curlwp(), now() + 1'000'000);
			c.stop = true;
		});
		lwp_yield();  // it sleeps now
		link_of(c);
		sleeper.join();
		while (!c.ended) {
			lwp_yield();
		}
		EXPECT_LE(c.links, c.most) << "the timer waited until the chain had ended";
	});
}
