// SPDX-License-Identifier: BSD-2-Clause
//
// The pool of LWP structs: whatever is done with them, a pointer to one always finds a lock pointer that can be taken.
#include "core/lwp_pool.h"

#include "core/lwp_lock.h"
#include "core/lwp_state.h"

#include "../support/support.h"

#include <array>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace {

using namespace lwp::kern;

}  // namespace

TEST(LwpPool, FreshOneIsNoLwpYetAndCanBeLocked) {
	lwp_t *l = lwp_pool_get();
	ASSERT_NE(l, nullptr);
	EXPECT_EQ(lwp_state(l), lwp_stat::none);
	EXPECT_EQ(lwp_lid(l), 0);
	EXPECT_EQ(reinterpret_cast<std::uintptr_t>(l) % 64, 0U) << "a struct shares no cache line with its neighbour";
	spinlock *lock = lwp_lock(l, nullptr);
	ASSERT_NE(lock, nullptr);
	EXPECT_TRUE(lwp_locked(l, lock));
	lock->unlock();
	lwp_pool_put(l);
}

TEST(LwpPool, OneThatWasGivenBackCanBeLockedAndIsNoLwp) {
	spinlock mine(lock_rank::vcpu_lwp, "about to go away");
	lwp_t *l = lwp_pool_get();
	lwp_setstat(l, lwp_stat::onproc, &mine);
	lwp_pool_put(l);
	spinlock *lock = lwp_lock(l, nullptr);  // a stale pointer
	EXPECT_NE(lock, &mine) << "a lock that may be gone by now";
	EXPECT_EQ(lwp_state(l), lwp_stat::none);
	lock->unlock();
}

TEST(LwpPool, EachIsHandedOutOnceAndUsedAgain) {
	std::set<lwp_t *> first;
	constexpr std::size_t n = 5000;
	for (std::size_t i = 0; i < n; i++) {
		ASSERT_TRUE(first.insert(lwp_pool_get()).second);
	}
	for (lwp_t *l : first) {
		lwp_pool_put(l);
	}
	std::set<lwp_t *> second;
	for (std::size_t i = 0; i < n; i++) {
		ASSERT_TRUE(second.insert(lwp_pool_get()).second);
	}
	EXPECT_EQ(first, second);
	for (lwp_t *l : second) {
		lwp_pool_put(l);
	}
}

// What the last life left must not reach the next one.
TEST(LwpPool, UsedOneIsAsIfNew) {
	spinlock mine(lock_rank::vcpu_lwp, "mine");
	lwp_t *l = lwp_pool_get();
	l->l_adopted = true;
	l->l_bound = bound_several;
	l->l_psid = 2;
	l->l_affinity.set(200);
	l->l_ncsw = 9;
	l->l_nivcsw = 8;
	l->l_account.charge(1, 5);
	l->l_prflag = LPR_DETACHED | LPR_DRAINING | LPR_CLAIMED;
	l->l_refcnt = 7;
	l->l_flag.store(LW_BOUND | LW_UNPARKED | LW_WSUSPEND);
	l->l_oncpu.store(true);
	l->l_wchan = &mine;
	l->l_error = 5;
	l->l_private = &mine;
	l->l_name[0] = 'x';
	lwp_setstat(l, lwp_stat::onproc, &mine);
	lwp_pool_put(l);
	ASSERT_EQ(lwp_pool_get(), l) << "the last one given back is the next one handed out";
	EXPECT_FALSE(l->l_adopted);
	EXPECT_EQ(l->l_bound, bound_none);
	EXPECT_EQ(l->l_psid, 0);
	EXPECT_EQ(l->l_affinity, vcpu_mask{});
	EXPECT_EQ(l->l_ncsw + l->l_nivcsw + l->l_account.ca_rtime, 0U);
	EXPECT_EQ(l->l_prflag, 0);
	EXPECT_EQ(l->l_refcnt, 1U);
	EXPECT_EQ(lwp_flags(l), LW_INMEM);
	EXPECT_FALSE(l->l_oncpu.load());
	EXPECT_EQ(l->l_wchan, nullptr);
	EXPECT_EQ(l->l_error, 0);
	EXPECT_EQ(l->l_private, nullptr);
	EXPECT_STREQ(l->l_name, "");
	EXPECT_EQ(l->l_stack.s_size, 0U);
	lwp_pool_put(l);
}

// Structs go in and out and turn into LWPs of one vCPU or another while others lock them by pointers that may be stale: there is always a
// lock to take, it is always one that exists, and whoever took it can release it.
TEST(LwpPool, StalePointersAreAlwaysLockable) {
	constexpr std::size_t many = 16;
	std::array<spinlock, 2> vcpu{spinlock{lock_rank::vcpu_lwp, "one"}, spinlock{lock_rank::vcpu_lwp, "two"}};
	std::array<lwp_t *, many> all{};
	for (lwp_t *&l : all) {
		l = lwp_pool_get();
	}
	for (lwp_t *l : all) {
		lwp_pool_put(l);
	}
	const std::size_t enough = lwp::test::rounds(20000);
	std::atomic<std::size_t> met{0};  // alive
	const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
	const auto go_on = [&] { return met.load(std::memory_order_relaxed) < enough && std::chrono::steady_clock::now() < end; };
	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 2; i++) {
		threads.emplace_back([&, i] {
			while (go_on()) {
				std::array<lwp_t *, many / 2> mine{};
				for (lwp_t *&l : mine) {
					l = lwp_pool_get();
					lwp_setstat(l, lwp_stat::onproc, &vcpu[i]);
				}
				for (lwp_t *l : mine) {
					vcpu[i].lock();
					lwp_setstat(l, lwp_stat::zomb, &vcpu[i]);
					vcpu[i].unlock();
					lwp_pool_put(l);
				}
			}
		});
	}
	for (unsigned i = 0; i < 2; i++) {
		threads.emplace_back([&] {
			while (go_on()) {
				for (lwp_t *l : all) {
					spinlock *lock = lwp_lock(l, nullptr);
					if (lock == &vcpu[0] || lock == &vcpu[1]) {
						met.fetch_add(1, std::memory_order_relaxed);
					}
					lock->unlock();
				}
			}
		});
	}
	for (std::thread &t : threads) {
		t.join();
	}
	EXPECT_GE(met.load(), enough) << "too few were met while they were LWPs";
	std::set<lwp_t *> again;
	for (std::size_t i = 0; i < many; i++) {
		again.insert(lwp_pool_get());
	}
	EXPECT_EQ(again, std::set<lwp_t *>(all.begin(), all.end())) << "the pool lost or doubled one";
	for (lwp_t *l : again) {
		lwp_pool_put(l);
	}
}
