// SPDX-License-Identifier: BSD-2-Clause
//
// The parts of the proc: LWPs that were made on different vCPUs, and so belong to different parts, wait for, suspend, detach and collect each
// other, and the questions about the whole proc (is nobody left? how many may there be?) get the same answers as from one part.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <algorithm>
#include <memory>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

unsigned vcpus() { return lwp::runtime::vcpus(); }

/// Moves the calling LWP to a vCPU: what it makes from now on belongs to that one's part.
void go_to(unsigned vcpu) { lwp_move_to(curlwp(), static_cast<std::int16_t>(vcpu % vcpus())); }

/// Runs the test body in an LWP of its own, which may be moved about; main's waits.
template <class Body>
void in_an_lwp(const Body &body) {
	lwp::thread([&body] {
		body();
		curlwp()->l_bound = -1;
	}).join();
}

/// Made on a vCPU, free to run on any.
std::unique_ptr<subject> subject_of(unsigned vcpu, const subject::body &body, unsigned long flags = 0) {
	go_to(vcpu);
	return std::make_unique<subject>(
	    [body](subject &self) {
		    curlwp()->l_bound = -1;
		    body(self);
	    },
	    flags);
}

std::unique_ptr<subject> sleeper_of(unsigned vcpu) {
	auto s = subject_of(vcpu, [](subject &self) { self.park_once(); });
	s->await_blocked();
	return s;
}

/// One that waits for `lid` and says how that went.
std::unique_ptr<subject> waiter_of(unsigned vcpu, const std::atomic<lwpid_t> &lid, unsigned long flags = 0) {
	return subject_of(
	    vcpu,
	    [&lid](subject &self) {
		    self.about_to_block();
		    self.set_result(lwp_wait1(curlwp(), lid, nullptr));
		    lwp_userret(curlwp());
	    },
	    flags);
}

void unpark(lwpid_t lid) { EXPECT_EQ(lwp_unpark(curlwp(), lid), 0); }

struct waits {
	std::size_t all = 0, far = 0, any = 0;
};

waits count_waits() {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	proc_check(&proc0);
	waits w;
	w.all = proc_count(&proc0).nlwpwait;
	w.any = proc0.p_nanywaits;
	proc_each_part(&proc0, [&w](const procpart &pp) { w.far += pp.pp_nfarwait; });
	return w;
}

}  // namespace

TEST(Parts, LwpBelongsToThePartOfTheVcpuThatMadeItWhereverItRuns) {
	in_an_lwp([] {
		for (unsigned v = 0; v < vcpus(); v++) {
			go_to(v);
			const auto s = sleeper_of(v);
			const proc_scope hold(&proc0, curlwp()->l_cpu);
			const lwp_t *l = lwp_find(&proc0, s->lid());
			ASSERT_NE(l, nullptr);
			EXPECT_EQ(l->l_part, proc0_parts + v);
			EXPECT_EQ(proc_part(&proc0, s->lid()), l->l_part);
			EXPECT_EQ(l->l_part->pp_lwps.find_locked(s->lid()), l);
			proc_unlock_all(&proc0, curlwp()->l_cpu);
			unpark(s->lid());
			collect(s->lid());
			proc_lock_all(&proc0, curlwp()->l_cpu);
		}
	});
}

// A wait for an LWP of another part is counted in the waiter's, covered by the target's, and ends as any other.
TEST(Parts, WaitsGoFromAnyPartToAny) {
	in_an_lwp([] {
		const std::size_t before = count_waits().far;  // main's, perhaps
		for (unsigned from = 0; from < vcpus() && from < 3; from++) {
			for (unsigned to = 0; to < vcpus() && to < 3; to++) {
				const auto target = sleeper_of(to);
				std::atomic<lwpid_t> lid{target->lid()};
				const auto first = waiter_of(from, lid);
				first->await_blocked();
				const auto second = waiter_of(to, lid);
				second->await_blocked();
				const waits w = count_waits();
				EXPECT_EQ(w.all, 3U) << "main too";
				EXPECT_EQ(w.far, before + (from == to ? 0U : 1U));
				unpark(target->lid());
				collect(first->lid());
				collect(second->lid());
				EXPECT_EQ(first->result(), 0);
				EXPECT_EQ(second->result(), ESRCH) << "it came later";
				EXPECT_EQ(count_waits().all, 1U);
			}
		}
	});
}

TEST(Parts, ZombiesOfAllPartsAreCollectedByIdAndByAny) {
	in_an_lwp([] {
		for (const bool any : {false, true}) {
			std::vector<lwpid_t> zombies;
			for (unsigned v = 0; v < vcpus(); v++) {
				go_to(v);
				zombies.push_back(make_zombie());
			}
			go_to(0);
			std::vector<bool> seen(zombies.size());
			for (const lwpid_t zombie : zombies) {
				lwpid_t departed = 0;
				EXPECT_EQ(lwp_wait1(curlwp(), any ? 0 : zombie, &departed), 0);
				for (std::size_t i = 0; i < zombies.size(); i++) {
					if (zombies[i] == departed) {
						EXPECT_FALSE(seen[i]) << "twice";
						seen[i] = true;
					}
				}
			}
			EXPECT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<long>(zombies.size()));
		}
	});
}

TEST(Parts, WaiterForAnyIsGivenTheDeadOfWhateverPartFirstComeFirstServed) {
	in_an_lwp([] {
		for (unsigned v = 0; v < vcpus(); v++) {
			std::atomic<lwpid_t> any{0};
			const auto a = sleeper_of(v);
			const auto b = sleeper_of(v + 1);
			const auto first = waiter_of(v + 1, any, LWP_DETACHED);
			first->await_blocked();
			const auto second = waiter_of(v, any, LWP_DETACHED);
			second->await_blocked();
			EXPECT_EQ(count_waits().any, 2U);
			unpark(a->lid());
			await_end(first->lid());
			EXPECT_EQ(first->result(), 0);
			EXPECT_TRUE(second->blocked());
			unpark(b->lid());
			await_end(second->lid());
			EXPECT_EQ(second->result(), 0);
			EXPECT_EQ(count_waits().any, 0U);
		}
	});
}

TEST(Parts, SleepingWaiterOfAnotherPartIsKickedOutByWakeupAndSuspend) {
	in_an_lwp([] {
		for (unsigned v = 0; v < vcpus() && v < 3; v++) {
			for (const bool for_any : {false, true}) {
				const auto target = sleeper_of(v + 1);
				std::atomic<lwpid_t> lid{for_any ? 0 : target->lid()};
				const auto woken = waiter_of(v, lid, LWP_DETACHED);
				woken->await_blocked();
				EXPECT_EQ(lwp_wakeup(curlwp(), woken->lid()), 0);
				await_end(woken->lid());
				EXPECT_EQ(woken->result(), EINTR);
				const auto stopped = waiter_of(v, lid, LWP_DETACHED);
				stopped->await_blocked();
				EXPECT_EQ(lwp_suspend(curlwp(), stopped->lid()), 0);
				EXPECT_EQ(stopped->result(), ERESTART);
				EXPECT_EQ(count_waits().all, 1U) << "main's";
				EXPECT_EQ(lwp_continue(curlwp(), stopped->lid()), 0);
				await_end(stopped->lid());
				unpark(target->lid());
				collect(target->lid());
			}
		}
	});
}

TEST(Parts, DetachEndsTheWaitsOfAllParts) {
	in_an_lwp([] {
		const auto target = sleeper_of(vcpus() - 1);
		std::atomic<lwpid_t> lid{target->lid()};
		std::vector<std::unique_ptr<subject>> waiters;
		for (unsigned v = 0; v < vcpus(); v++) {
			waiters.push_back(waiter_of(v, lid));
			waiters.back()->await_blocked();
		}
		EXPECT_EQ(lwp_detach(curlwp(), target->lid()), 0);
		for (const auto &w : waiters) {
			collect(w->lid());
			EXPECT_EQ(w->result(), ESRCH);
		}
		unpark(target->lid());
		await_end(target->lid());
	});
}

TEST(Parts, RingThroughAllPartsRefusesTheOneThatClosesIt) {
	in_an_lwp([] {
		for (const std::size_t n : {2U, 3U, 10U, 30U}) {
			std::vector<std::atomic<lwpid_t>> next(n);
			std::vector<std::unique_ptr<subject>> ring;
			gate close;
			std::atomic<int> closing{-1};
			go_to(0);
			const lwpid_t closer = spawn([&] {
				close.pass();
				closing = lwp_wait1(curlwp(), ring.back()->lid(), nullptr);
			});
			lwpid_t before = closer;
			for (std::size_t i = 1; i < n; i++) {
				next[i] = before;
				ring.push_back(waiter_of(static_cast<unsigned>(i), next[i]));
				ring.back()->await_blocked();
				before = ring.back()->lid();
			}
			close.open();
			// By us, who run and wait for nobody: so it is the circle that is seen, not that nobody is left.
			EXPECT_TRUE(wait_until([&] { return closing != -1; }));
			collect(ring.back()->lid());
			EXPECT_EQ(closing, EDEADLK);
			for (const auto &each : ring) {
				EXPECT_EQ(each->result(), 0);
			}
		}
	});
}

// The last LWP outside a wait is of any part, and goes in any of the three ways: it waits, it ends, it is suspended.
TEST(Parts, DeadlockIsSeenWhateverPartRunsDryLast) {
	in_an_lwp([] {
		for (unsigned v = 0; v < vcpus(); v++) {
			const auto target = sleeper_of(v + 1);
			EXPECT_EQ(lwp_suspend(curlwp(), target->lid()), 0);
			go_to(v);
			EXPECT_EQ(lwp_wait1(curlwp(), target->lid(), nullptr), EDEADLK) << "we ourselves wait";
			EXPECT_EQ(lwp_wait1(curlwp(), 0, nullptr), EDEADLK);
			for (const unsigned long flags : {0UL, static_cast<unsigned long>(LWP_DETACHED)}) {
				go_to(v + 2);
				const lwpid_t last = spawn([] { EXPECT_TRUE(wait_until([] { return count_waits().all == 2; })); }, flags);
				go_to(v);
				EXPECT_EQ(lwp_wait1(curlwp(), target->lid(), nullptr), EDEADLK) << "the other one ends";
				if (flags == 0) {
					collect(last);
				}
			}
			for (const bool by_itself : {true, false}) {
				go_to(v + 2);
				const lwpid_t last = spawn([by_itself] {
					EXPECT_TRUE(wait_until([] { return count_waits().all == 2; }));
					if (by_itself) {
						EXPECT_EQ(lwp_suspend(curlwp(), lwp_lid(curlwp())), 0);
						return;
					}
					lwp_t *l = curlwp();  // as after a suspend by one that does not run any more
					spinlock *lock = lwp_lock(l, l->l_cpu);
					lwp_flag_set(l, LW_WSUSPEND);
					lock->unlock(l->l_cpu);
					lwp_userret(l);
				});
				go_to(v);
				EXPECT_EQ(lwp_wait1(curlwp(), target->lid(), nullptr), EDEADLK) << "the other one stops";
				EXPECT_EQ(lwp_continue(curlwp(), last), 0);
				collect(last);
			}
			EXPECT_EQ(lwp_continue(curlwp(), target->lid()), 0);
			unpark(target->lid());
			collect(target->lid());
		}
	});
}

// Each part loses its last LWP outside a wait at about the same time, and each of them sees the others still there: one of them must see that
// nobody is left.  Whoever is told lets the suspended ones go on.
TEST(Parts, DeadlockIsSeenWhenAllPartsRunDryAtOnce) {
	in_an_lwp([] {
		const unsigned n = vcpus() < 4 ? 2 * vcpus() : vcpus();
		for (std::size_t round = rounds(n > 4 ? 20 : 300) + 1; round-- > 0;) {
			std::vector<std::unique_ptr<subject>> targets;
			std::vector<std::atomic<lwpid_t>> lids(n);
			std::atomic<unsigned> told{0};
			for (unsigned i = 0; i < n; i++) {
				targets.push_back(subject_of(
				    i, [](subject &) {}, LWP_SUSPENDED));
				lids[i] = targets.back()->lid();
			}
			const auto relieve = [&] {
				told++;
				for (const auto &lid : lids) {
					EXPECT_EQ(lwp_continue(curlwp(), lid) & ~ESRCH, 0);
				}
			};
			std::atomic<unsigned> ready{0};
			gate go;
			std::vector<lwpid_t> waiters;
			for (unsigned i = 0; i < n; i++) {
				go_to(i);
				waiters.push_back(spawn([&, i] {
					ready++;
					while (!go.is_open()) {
						lwp_yield();
					}
					int error = 0;
					while ((error = lwp_wait1(curlwp(), lids[(i + 1) % n], nullptr)) == EDEADLK) {
						relieve();
					}
					EXPECT_EQ(error, 0);
				}));
			}
			EXPECT_TRUE(wait_until([&] { return ready == n; }));
			go.open();
			for (const lwpid_t lid : waiters) {
				int error = 0;
				while ((error = lwp_wait1(curlwp(), lid, nullptr)) == EDEADLK) {
					relieve();
				}
				EXPECT_EQ(error, 0);
			}
			EXPECT_GT(told, 0U);
		}
	});
}

// Nobody may be lost between parts: creators on all vCPUs, collectors by any on all vCPUs.
TEST(Parts, EachOfManyDeadIsCollectedOnceByAnyOfManyCollectors) {
	in_an_lwp([] {
		const std::size_t each = rounds(2000);
		const unsigned n = vcpus() < 4 ? vcpus() : 4;
		std::atomic<std::size_t> left{each * n};
		std::atomic<std::size_t> collected{0};
		std::vector<lwpid_t> detached;
		for (unsigned v = 0; v < n; v++) {
			go_to(v);
			detached.push_back(spawn(
			    [&] {
				    while (collected < each * n) {
					    const int error = lwp_wait1(curlwp(), 0, nullptr);
					    lwp_userret(curlwp());
					    if (error == 0) {
						    collected++;
					    } else {
						    EXPECT_TRUE(error == EINTR || error == ERESTART) << error;
					    }
				    }
			    },
			    LWP_DETACHED));
			detached.push_back(spawn(
			    [&] {
				    for (std::size_t k = 0; k < each; k++) {
					    spawn([&left] { left--; });
					    if (k % 7 == 0) {
						    lwp_yield();
					    }
				    }
			    },
			    LWP_DETACHED));
		}
		EXPECT_TRUE(wait_until([&] { return collected == each * n; }));
		EXPECT_EQ(left, 0U);
		for (const lwpid_t lid : detached) {
			EXPECT_TRUE(wait_until([lid] {
				(void)lwp_wakeup(curlwp(), lid);
				return !alive(lid);
			}));
		}
	});
}
