// SPDX-License-Identifier: BSD-2-Clause
//
// The pool of LWP structs: whatever is done with them, a pointer to one always finds a lock pointer that can be taken.
#include "core/lwp_pool.h"

#include "core/lwp_lock.h"
#include "core/lwp_state.h"

#include "../support/support.h"

#include <array>
#include <cstdio>
#include <set>
#include <thread>
#include <vector>

namespace {

using lwp::kern::lock_rank;
using lwp::kern::lwp_lock;
using lwp::kern::lwp_pool_get;
using lwp::kern::lwp_pool_put;
using lwp::kern::lwp_setstat;
using lwp::kern::lwp_stat;
using lwp::kern::lwp_state;
using lwp::kern::lwp_t;
using lwp::kern::spinlock;

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
	const std::size_t n = lwp::test::rounds(100000);
	std::atomic<bool> done{false};
	std::atomic<std::uint64_t> seen{0};
	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 2; i++) {
		threads.emplace_back([&, i] {
			for (std::size_t k = 0; k < n; k++) {
				lwp_t *l = lwp_pool_get();
				lwp_setstat(l, lwp_stat::onproc, &vcpu[i]);
				vcpu[i].lock();
				lwp_setstat(l, lwp_stat::zomb, &vcpu[i]);
				vcpu[i].unlock();
				lwp_pool_put(l);
			}
		});
	}
	for (unsigned i = 0; i < 2; i++) {
		threads.emplace_back([&] {
			while (!done.load(std::memory_order_relaxed)) {
				for (lwp_t *l : all) {
					spinlock *lock = lwp_lock(l, nullptr);
					seen += lock == &vcpu[0] || lock == &vcpu[1];
					lock->unlock();
				}
			}
		});
	}
	threads[0].join();
	threads[1].join();
	done = true;
	threads[2].join();
	threads[3].join();
	std::printf("%llu LWPs were met alive\n", static_cast<unsigned long long>(seen.load()));
	std::set<lwp_t *> again;
	for (std::size_t i = 0; i < many; i++) {
		again.insert(lwp_pool_get());
	}
	EXPECT_EQ(again, std::set<lwp_t *>(all.begin(), all.end())) << "the pool lost or doubled one";
	for (lwp_t *l : again) {
		lwp_pool_put(l);
	}
}
