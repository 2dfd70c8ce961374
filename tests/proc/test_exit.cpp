// SPDX-License-Identifier: BSD-2-Clause
//
// The end of an LWP and what becomes of what it was made of: one switch, the slot, and a next life that begins with nothing of the last.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/vcpu.h"

#include "../support/support.h"

#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// Runs `body` in an LWP that stays on one vCPU; so do those that it makes.
template <class Body>
void on_one_vcpu(const Body &body) {
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, body).join();
}

void unpark(lwpid_t lid) { EXPECT_EQ(lwp_unpark(curlwp(), lid), 0); }

lwp_t *slot() {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	return curlwp()->l_cpu->vc_part->pp_zomblwp.load();
}

lwp_t *find(lwpid_t lid) {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	return lwp_find_any(&proc0, lid);
}

}  // namespace

// Quirk Q18.
TEST(Exit, GoesStraightToTheNextLwp) {
	on_one_vcpu([] {
		constexpr unsigned n = 50;
		std::vector<lwp::thread> threads;
		unsigned ran = 0;
		for (unsigned i = 0; i < n; i++) {
			threads.emplace_back([&ran] { ran++; });
		}
		vcpu_t *vc = curlwp()->l_cpu;
		const std::uint64_t before = vc->vc_switches;
		unsigned yields = 0;
		while (ran != n) {
			lwp_yield();
			yields++;
		}
		// From us to the next at each yield, and from each LWP to whoever is next; a detour by the idle LWP would be one more each.
		EXPECT_LE(vc->vc_switches - before, n + yields);
		EXPECT_LT(yields, n / 2);
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
}

TEST(Exit, DetachedOneLiesInTheSlotUntilTheNextIsMadeOfIt) {
	on_one_vcpu([] {
		lwp::thread([] {}).join();
		ASSERT_EQ(slot(), nullptr);
		lwp_t *l = nullptr;
		lwp::thread({.detached = true}, [&l] { l = curlwp(); });
		EXPECT_TRUE(wait_until([] { return slot() != nullptr; }));
		EXPECT_EQ(slot(), l);
		EXPECT_EQ(lwp_state(l), lwp_stat::zomb);
		lwp_t *next = nullptr;
		lwp::thread([&next] { next = curlwp(); }).join();
		EXPECT_EQ(next, l) << "a struct and a stack that are warm";
		EXPECT_EQ(slot(), nullptr);
	});
}

TEST(Exit, SlotHoldsOneAndTheOlderIsFreed) {
	on_one_vcpu([] {
		std::vector<lwpid_t> lids;
		for (int i = 0; i < 3; i++) {
			lids.push_back(spawn([] { (void)park(); }, LWP_DETACHED));
		}
		for (const lwpid_t lid : lids) {
			lwp_t *l = find(lid);
			ASSERT_NE(l, nullptr);
			unpark(lid);
			await_end(lid);
			EXPECT_EQ(slot(), l);
		}
		EXPECT_EQ(find(lids[0]), nullptr);
		EXPECT_EQ(find(lids[1]), nullptr);
		EXPECT_EQ(lwp_lid(slot()), lids[2]);
	});
}

TEST(Exit, CollectedOneIsWhatTheNextIsMadeOf) {
	on_one_vcpu([] {
		lwp_t *first = nullptr;
		lwp_t *second = nullptr;
		lwp::thread([&first] { first = curlwp(); }).join();
		lwp::thread([&second] { second = curlwp(); }).join();
		EXPECT_EQ(first, second);
	});
}

// Everything that the last life could have left behind, and the next one must not see.
TEST(Exit, NextLifeKnowsNothingOfTheLast) {
	on_one_vcpu([] {
		specificdata_key_t key = 0;
		ASSERT_EQ(lwp_specific_key_create(&key, nullptr), 0);
		lwp_tss_t tss = 0;
		ASSERT_EQ(lwp_tss_create(&tss, nullptr), 0);
		for (const bool by_exit : {false, true}) {
			lwp_t *first = nullptr;
			lwp::thread last({.name = "the last", .priority = 20}, [&] {
				first = curlwp();
				set_errno(EXDEV);
				_lwp_setprivate(&first);
				lwp_setspecific(key, &first);
				EXPECT_EQ(lwp_tss_set(tss, &first), 0);
				EXPECT_EQ(lwp_unpark(curlwp(), lwp_lid(curlwp())), 0);  // a token that is never taken
				lwpctl_t *block = nullptr;
				EXPECT_EQ(_lwp_ctl(LWPCTL_FEATURE_PCTR, &block), 0);
				if (by_exit) {
					_lwp_exit();
				}
			});
			last.join();
			lwp_t *second = nullptr;
			lwp::thread([&] {
				second = curlwp();
				EXPECT_EQ(get_errno(), 0);
				EXPECT_EQ(_lwp_getprivate(), nullptr);
				EXPECT_EQ(lwp_getspecific(key), nullptr);
				EXPECT_EQ(lwp_tss_get(tss), nullptr);
				char name[LWP_MAXNAME];
				EXPECT_EQ(_lwp_getname(0, name, sizeof(name)), 0);
				EXPECT_STREQ(name, "");
				EXPECT_EQ(second->l_priority, pri_default);
				EXPECT_EQ(second->l_prflag, 0);
				EXPECT_EQ(second->l_ctl.load(), nullptr);
				EXPECT_EQ(park_for(std::chrono::microseconds(100)), ETIMEDOUT) << "the token was another's";
			}).join();
			EXPECT_EQ(first, second);
		}
		lwp_specific_key_delete(key);
		EXPECT_EQ(lwp_tss_delete(tss), 0);
	});
}

// An LWP that is about to be suspended makes no running ones.
TEST(Exit, WhatADoomedLwpMakesIsBornSuspended) {
	std::atomic<bool> ran{false};
	std::atomic<lwpid_t> child{0};
	std::atomic<bool> stop_me{false};
	const lwpid_t parent = spawn([&] {
		lwp_t *me = curlwp();
		spinlock *lock = lwp_lock(me, me->l_cpu);
		lwp_flag_set(me, LW_WSUSPEND);
		lock->unlock();
		child = spawn([&ran] { ran = true; });
		// If the creation was a boundary we come here after our continue, else still doomed.
		me = curlwp();
		lock = lwp_lock(me, me->l_cpu);
		lwp_flag_clear(me, LW_WSUSPEND);
		lock->unlock();
		stop_me = true;
	});
	EXPECT_TRUE(wait_until([&] {
		(void)lwp_continue(curlwp(), parent);
		return stop_me.load();
	}));
	collect(parent);
	{
		const proc_scope hold(&proc0, curlwp()->l_cpu);
		lwp_t *l = lwp_find(&proc0, child);
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(lwp_state(l), lwp_stat::suspended);
	}
	EXPECT_FALSE(ran);
	EXPECT_EQ(lwp_continue(curlwp(), child), 0);
	collect(child);
	EXPECT_TRUE(ran);
}

// The collector runs on another vCPU while the dead one may still be on its way off its stack: the struct, the stack and the context go into the
// next life only after that.  A stack used too early shows as garbage in the pattern that each life writes and reads back.
TEST(Exit, StackIsNotUsedAgainBeforeTheDeadLwpIsOffIt) {
	const std::size_t n = rounds(20000);
	std::vector<lwpid_t> makers;
	std::atomic<unsigned> garbage{0};
	for (int i = 0; i < 4; i++) {
		makers.push_back(spawn([&garbage, n, i] {
			for (std::size_t k = 0; k < n; k++) {
				collect(spawn([&garbage, i] {
					volatile unsigned char pattern[2048];
					for (volatile unsigned char &c : pattern) {
						c = static_cast<unsigned char>(i);
					}
					lwp_yield();
					for (const volatile unsigned char &c : pattern) {
						garbage += c != i;
					}
				}));
			}
		}));
	}
	for (const lwpid_t lid : makers) {
		collect(lid);
	}
	EXPECT_EQ(garbage, 0U);
}
