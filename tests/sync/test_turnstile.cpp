// SPDX-License-Identifier: BSD-2-Clause
//
// Turnstiles: who runs with whose priority while it has a mutex that others wait for, and that exactly what was lent is given back, however a wait ends.
// vcpus: 1 2 8
#include "sync/turnstile.h"

#include "lending.h"

#include <lwp/condition_variable.hpp>
#include <lwp/mutex.hpp>
#include <lwp/sched.h>
#include <lwp/shared_mutex.hpp>

#include <array>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

}  // namespace

// low has the mutex, high waits for it, mid computes: without a loan mid would keep low from ever giving it back.
TEST(Turnstile, TheClassicInversionIsNone) {
	direct([] {
		lwp::mutex m;
		holder low(10, m);
		wanter high(40, m);
		EXPECT_TRUE(gets(lid_of(low.thread), rt(40)));
		bool high_was_first = false;
		gate mid_runs;
		lwp::thread mid = actor(30, [&] {
			mid_runs.open();
			high_was_first = wait_until([&] { return high.had.is_open(); });  // yields, but not to those that are worse
		});
		EXPECT_TRUE(nap_until([&] { return low.has.is_open(); }));
		low.release.open();
		mid.join();
		EXPECT_TRUE(high_was_first);
		EXPECT_TRUE(gets(lid_of(low.thread), rt(10)));
	});
}

TEST(Turnstile, AnEqualOrWorseWaiterLendsNothing) {
	direct([] {
		lwp::mutex m;
		holder owner(20, m);
		wanter equal(20, m);
		wanter worse(10, m);
		EXPECT_EQ(look_at(lid_of(owner.thread)).runs_with, rt(20));
		owner.release.open();
	});
}

TEST(Turnstile, AChainOfWaitsPassesTheLoanOn) {
	direct([] {
		std::array<lwp::mutex, 4> m;
		holder first(5, m[0]);
		std::vector<lwp::thread> chain;
		for (unsigned i = 1; i < m.size(); i++) {
			chain.push_back(actor(5 + static_cast<int>(i), [&m, i] {
				m[i].lock();
				m[i - 1].lock();
				m[i - 1].unlock();
				m[i].unlock();
			}));
			ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(chain.back()), &m[i - 1]); }));
		}
		EXPECT_TRUE(gets(lid_of(first.thread), rt(8))) << "each is a little better than the one before";
		wanter last(60, m.back());
		EXPECT_TRUE(gets(lid_of(first.thread), rt(60)));
		for (const lwp::thread &t : chain) {
			EXPECT_TRUE(gets(lid_of(t), rt(60)));
		}
		first.release.open();
		EXPECT_TRUE(nap_until([&] { return last.had.is_open(); }));
		EXPECT_TRUE(gets(lid_of(first.thread), rt(5)));
		for (lwp::thread &t : chain) {
			t.join();
		}
	});
}

TEST(Turnstile, GivingOneBackKeepsWhatIsLentForAnother) {
	direct([] {
		lwp::mutex a;
		lwp::mutex b;
		gate has;
		gate give_b;
		gate gave_b;
		gate give_a;
		gate gave_a;
		gate leave;
		lwp::thread owner = actor(10, [&] {
			a.lock();
			b.lock();
			has.open();
			stay(give_b);
			b.unlock();
			gave_b.open();
			stay(give_a);
			a.unlock();
			gave_a.open();
			stay(leave);
		});
		ASSERT_TRUE(nap_until([&] { return has.is_open(); }));
		wanter for_a(30, a);
		wanter for_b(50, b);
		EXPECT_TRUE(gets(lid_of(owner), rt(50)));
		give_b.open();
		ASSERT_TRUE(nap_until([&] { return gave_b.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner), rt(30)));
		give_a.open();
		ASSERT_TRUE(nap_until([&] { return gave_a.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner), rt(10)));
		leave.open();
		owner.join();
	});
}

TEST(Turnstile, AWaitThatTimesOutTakesItsLoanAlong) {
	direct([] {
		lwp::timed_mutex m;
		holder owner(10, m);
		wanter stays(20, m);
		gate leave;
		gate gone;
		lwp::thread late = actor(50, [&] {
			EXPECT_FALSE(m.try_lock_for(20ms));
			gone.open();
			stay(leave);
		});
		ASSERT_TRUE(nap_until([&] { return gone.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(20))) << "the one that still waits lends instead";
		leave.open();
		late.join();
		owner.release.open();
	});
}

TEST(Turnstile, TheTimeOutIsFeltAlongTheWholeChain) {
	direct([] {
		lwp::mutex a;
		lwp::timed_mutex b;
		holder owner(10, a);
		lwp::thread middle = actor(15, [&] {
			b.lock();
			a.lock();
			a.unlock();
			b.unlock();
		});
		ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(middle), &a); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(15)));
		gate gone;
		lwp::thread late = actor(50, [&] {
			EXPECT_FALSE(b.try_lock_for(20ms));
			gone.open();
		});
		ASSERT_TRUE(nap_until([&] { return gone.is_open(); }));
		EXPECT_TRUE(gets(lid_of(middle), rt(15)));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(15)));
		late.join();
		owner.release.open();
		middle.join();
	});
}

TEST(Turnstile, ASuspendedWaiterLendsNothingUntilItIsContinued) {
	direct([] {
		lwp::mutex m;
		holder owner(10, m);
		wanter high(50, m);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(50)));
		ASSERT_EQ(error_of(_lwp_suspend(lid_of(high.thread))), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(10)));
		ASSERT_EQ(error_of(_lwp_continue(lid_of(high.thread))), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(50)));
		owner.release.open();
	});
}

// The heir has a low priority of its own and a high one that is lent to it for something else.  Those that still wait must lend to it, too.
TEST(Turnstile, AHandOverMovesTheLoansOfThoseThatStillWait) {
	direct([] {
		lwp::mutex m;
		lwp::mutex other;
		gate has_both;
		gate give_other;
		gate gave_other;
		gate leave;
		holder owner(10, m);
		lwp::thread heir = actor(12, [&] {
			other.lock();
			m.lock();
			has_both.open();
			stay(give_other);
			other.unlock();
			gave_other.open();
			stay(leave);
			m.unlock();
		});
		ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(heir), &m); }));
		wanter best(60, other);
		wanter second(40, m);
		EXPECT_TRUE(gets(lid_of(heir), rt(60)));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(60)));
		owner.release.open();
		ASSERT_TRUE(nap_until([&] { return has_both.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(10)));
		give_other.open();
		ASSERT_TRUE(nap_until([&] { return gave_other.is_open(); }));
		EXPECT_TRUE(gets(lid_of(heir), rt(40)));
		leave.open();
		heir.join();
	});
}

TEST(Turnstile, WaitersMovedFromAConditionVariableLendToTheOwner) {
	direct([] {
		lwp::mutex m;
		lwp::condition_variable cv;
		bool told = false;
		std::vector<lwp::thread> waiting;
		for (int pri : {30, 50, 40}) {
			waiting.push_back(actor(pri, [&] {
				std::unique_lock hold(m);
				cv.wait(hold, [&] { return told; });
			}));
			ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(waiting.back()), &cv); }));
		}
		gate notified;
		gate release;
		gate released;
		gate leave;
		lwp::thread owner = actor(10, [&] {
			m.lock();
			told = true;
			cv.notify_all();
			notified.open();
			stay(release);
			m.unlock();
			released.open();
			stay(leave);
		});
		ASSERT_TRUE(nap_until([&] { return notified.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner), rt(50)));
		release.open();
		for (lwp::thread &t : waiting) {
			t.join();
		}
		EXPECT_TRUE(nap_until([&] { return released.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner), rt(10)));
		leave.open();
		owner.join();
	});
}

TEST(Turnstile, AWaitOnAConditionVariableGivesBackWhatWasLentForItsMutex) {
	direct([] {
		lwp::mutex m;
		lwp::condition_variable cv;
		bool told = false;
		gate has;
		gate wait;
		lwp::thread owner = actor(10, [&] {
			std::unique_lock hold(m);
			has.open();
			stay(wait);
			cv.wait(hold, [&] { return told; });
		});
		ASSERT_TRUE(nap_until([&] { return has.is_open(); }));
		wanter high(50, m);
		EXPECT_TRUE(gets(lid_of(owner), rt(50)));
		wait.open();
		EXPECT_TRUE(nap_until([&] { return sleeps_on(lid_of(owner), &cv); }));
		EXPECT_TRUE(gets(lid_of(owner), rt(10)));
		{
			std::lock_guard hold(m);
			told = true;
		}
		cv.notify_one();
		owner.join();
	});
}

TEST(Turnstile, AWaiterWhosePriorityChangesLendsTheNewOne) {
	direct([] {
		lwp::mutex m;
		holder owner(10, m);
		wanter one(20, m);
		wanter two(30, m);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(30)));
		const sched_param high{.sched_priority = 45};
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(one.thread), SCHED_RR, &high)), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(45))) << "and comes before the other";
		const sched_param none{.sched_priority = LWP_PRI_NONE};
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(one.thread), SCHED_OTHER, &none)), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(30)));
		const sched_param low{.sched_priority = 5};
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(two.thread), SCHED_FIFO, &low)), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(10))) << "worse than its own: nothing is lent";
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(two.thread), SCHED_FIFO, &high)), 0);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(45)));
		owner.release.open();
	});
}

TEST(Turnstile, AnOwnersNewPriorityAndItsLoanDoNotMix) {
	direct([] {
		lwp::mutex m;
		holder owner(10, m);
		wanter high(50, m);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(50)));
		const sched_param better{.sched_priority = 60};
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(owner.thread), SCHED_FIFO, &better)), 0);
		EXPECT_EQ(look_at(lid_of(owner.thread)).runs_with, rt(60));
		const sched_param none{.sched_priority = LWP_PRI_NONE};
		ASSERT_EQ(error_of(_sched_setparam(0, lid_of(owner.thread), SCHED_OTHER, &none)), 0);
		EXPECT_EQ(look_at(lid_of(owner.thread)).runs_with, rt(50));
		owner.release.open();
		EXPECT_TRUE(gets(lid_of(owner.thread), pri_default));
	});
}

// A circle of waits that have an end: what goes round in it stops, and all is given back once it is broken.
TEST(Turnstile, ACircleOfTimedWaitsComesToRest) {
	direct([] {
		lwp::timed_mutex a;
		lwp::timed_mutex b;
		gate one_has;
		gate two_has;
		gate leave;
		const auto play = [&](lwp::timed_mutex &mine, gate &has, lwp::timed_mutex &theirs, const gate &other_has) {
			mine.lock();
			has.open();
			EXPECT_TRUE(nap_until([&] { return other_has.is_open(); }));
			if (theirs.try_lock_for(30ms)) {
				theirs.unlock();
			}
			mine.unlock();
			EXPECT_TRUE(nap_until([&] { return leave.is_open(); }));
		};
		lwp::thread one = actor(10, [&] { play(a, one_has, b, two_has); });
		lwp::thread two = actor(20, [&] { play(b, two_has, a, one_has); });
		ASSERT_TRUE(nap_until([&] { return two_has.is_open(); }));
		lwp::thread high = actor(50, [&] {
			if (a.try_lock_for(10s)) {
				a.unlock();
			}
		});
		high.join();
		EXPECT_TRUE(gets(lid_of(one), rt(10)));
		EXPECT_TRUE(gets(lid_of(two), rt(20)));
		leave.open();
		one.join();
		two.join();
	});
}

// Everybody takes some of a few mutexes in order, with and without a deadline, while priorities change and LWPs are suspended.  Who has nothing any more
// must find nobody that lends to it, and its own priority.
TEST(Turnstile, StormGivesBackAllThatWasLent) {
	constexpr unsigned crowd = 12;
	constexpr unsigned locks = 4;
	std::array<lwp::timed_mutex, locks> m;
	lwp::shared_timed_mutex rw;
	std::array<std::atomic<lwpid_t>, crowd> lids{};
	std::atomic<unsigned> ended{0};
	std::atomic<unsigned> wrong{0};
	const std::uint64_t first_seed = seed();
	const std::size_t turns = rounds(600);
	std::vector<lwp::thread> threads;
	for (unsigned i = 0; i < crowd; i++) {
		threads.emplace_back(lwp::attributes{.priority = static_cast<int>(i * 5), .policy = lwp::sched_policy::other}, [&, i] {
			lids[i] = _lwp_self();
			dice d(first_seed + i);
			for (std::size_t turn = 0; turn < turns; turn++) {
				std::array<bool, locks> has{};
				for (unsigned k = 0; k < locks; k++) {
					if (d.one_in(2)) {
						has[k] = d.one_in(3) ? m[k].try_lock_for(std::chrono::microseconds(d.below(300))) : (m[k].lock(), true);
					}
				}
				if (d.one_in(4)) {
					if (d.one_in(2)) {
						std::lock_guard hold(rw);
						lwp_yield();
					} else {
						std::shared_lock hold(rw);
						lwp_yield();
					}
				}
				if (d.one_in(3)) {
					lwp_yield();
				}
				for (unsigned k = 0; k < locks; k++) {
					if (has[k]) {
						m[k].unlock();
					}
				}
				const lwpid_t other = lids[d.below(crowd)];
				if (d.one_in(8) && other != 0) {
					const sched_param p{.sched_priority = d.one_in(2) ? LWP_PRI_NONE : static_cast<int>(d.below(64))};
					const int policy = p.sched_priority == LWP_PRI_NONE ? SCHED_OTHER : d.one_in(2) ? SCHED_FIFO : SCHED_RR;
					(void)_sched_setparam(0, other, policy, &p);
				}
				if (d.one_in(16)) {
					(void)park_for(std::chrono::microseconds(d.below(200)));
				}
				// We have nothing: nobody lends to us.  A settle that was under way may be late.
				if (!curlwp()->l_lenders.empty()) {
					wrong++;
				}
			}
			ended++;
			(void)nap_until([&] { return ended == crowd; });
			lwp_t *self = curlwp();
			if (!nap_until([&] { return self->l_priority.load() == self->l_ownpri.load(); })) {
				wrong++;
			}
		});
	}
	// Suspends, each soon taken back, until all have done their turns.
	dice d(first_seed + crowd);
	while (ended < crowd) {
		const lwpid_t lid = lids[d.below(crowd)];
		if (lid != 0 && error_of(_lwp_suspend(lid)) == 0) {
			EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		}
		(void)park_for(std::chrono::microseconds(d.below(500)));
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(wrong, 0u);
}
