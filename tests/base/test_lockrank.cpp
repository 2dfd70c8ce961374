// SPDX-License-Identifier: BSD-2-Clause
//
// Lock ranks: the table, and what debug builds refuse.
#include "base/lockrank.h"

#include "base/spinlock.h"

#include "../support/support.h"

#include <memory>
#include <thread>
#include <vector>

namespace {

using lwp::kern::lock_rank;
using lwp::kern::lock_rank_name;
using lwp::kern::lockrank_holds_any;
using lwp::kern::spinlock;

constexpr const char *needs_debug = "lock ranks are looked at in debug builds only";

const std::vector<lock_rank> outermost_first = {lock_rank::runtime, lock_rank::waitgraph, lock_rank::proc, lock_rank::object,
    lock_rank::port, lock_rank::sleepq, lock_rank::vcpu_lwp, lock_rank::duty, lock_rank::run_queue, lock_rank::inbox, lock_rank::turnstile,
    lock_rank::leaf};

}  // namespace

TEST(Lockrank, OrderIsTheDocumentedOne) {
	for (std::size_t i = 1; i < outermost_first.size(); i++) {
		EXPECT_LT(outermost_first[i - 1], outermost_first[i]) << lock_rank_name(outermost_first[i]);
	}
	EXPECT_EQ(static_cast<unsigned>(lock_rank::leaf) + 1, outermost_first.size()) << "a rank that this test does not know";
}

TEST(Lockrank, EveryRankHasItsName) {
	const std::vector<const char *> names = {
	    "runtime", "waitgraph", "proc", "object", "port", "sleepq", "vcpu_lwp", "duty", "run_queue", "inbox", "turnstile", "leaf"};
	for (std::size_t i = 0; i < names.size(); i++) {
		EXPECT_STREQ(lock_rank_name(outermost_first[i]), names[i]);
	}
}

TEST(Lockrank, AllInOrderAreAcceptedAndMayBeReleasedInAnyOrder) {
	std::vector<std::unique_ptr<spinlock>> locks;
	for (lock_rank rank : outermost_first) {
		locks.push_back(std::make_unique<spinlock>(rank, lock_rank_name(rank)));
		locks.back()->lock();
		EXPECT_TRUE(locks.back()->held());
	}
#if LWP_DEBUG
	EXPECT_TRUE(lockrank_holds_any());
#endif
	for (std::size_t i : {3U, 0U, 9U, 7U, 11U, 1U, 6U, 8U, 10U, 2U, 5U, 4U}) {
		locks[i]->unlock();
		EXPECT_FALSE(locks[i]->held());
	}
#if LWP_DEBUG
	EXPECT_FALSE(lockrank_holds_any());
#endif
}

TEST(Lockrank, PartsOfTheProcAreTakenInTheirOrder) {
	spinlock parts[3] = {{lock_rank::proc, "0"}, {lock_rank::proc, "1"}, {lock_rank::proc, "2"}};
	for (spinlock &part : parts) {
		part.lock();
	}
	for (spinlock &part : parts) {
		part.unlock();
	}
}

TEST(Lockrank, TryLockMayTakeAnyRank) {
	spinlock inner(lock_rank::leaf, "inner");
	spinlock outer(lock_rank::proc, "outer");
	spinlock equal(lock_rank::leaf, "equal");
	inner.lock();
	ASSERT_TRUE(outer.try_lock());
	ASSERT_TRUE(equal.try_lock());
	equal.unlock();
	inner.unlock();
	outer.unlock();
}

TEST(Lockrank, HeldIsAboutTheCallingKernelThreadInDebugBuilds) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	spinlock lock(lock_rank::leaf, "mine");
	lock.lock();
	std::thread([&] { EXPECT_FALSE(lock.held()); }).join();
	EXPECT_TRUE(lock.held());
	lock.unlock();
}

namespace {

void take(lock_rank first, const char *first_name, lock_rank second, const char *second_name) {
	spinlock a(first, first_name);
	spinlock b(second, second_name);
	a.lock();
	b.lock();
}

void release_what_another_holds() {
	spinlock lock(lock_rank::leaf, "theirs");
	std::thread([&] { lock.lock(); }).join();
	lock.unlock();
}

void release_what_nobody_holds() {
	spinlock lock(lock_rank::leaf, "nobody's");
	lock.unlock();
}

void release_twice() {
	spinlock lock(lock_rank::leaf, "once");
	lock.lock();
	lock.unlock();
	lock.unlock();
}

void take_too_many() {
	std::vector<std::unique_ptr<spinlock>> locks;
	for (int i = 0; i < 81; i++) {
		locks.push_back(std::make_unique<spinlock>(lock_rank::leaf, "one of many"));
		(void)locks.back()->try_lock();
	}
}

void take_a_part_before() {
	spinlock parts[2] = {{lock_rank::proc, "first"}, {lock_rank::proc, "second"}};
	parts[1].lock();
	parts[0].lock();
}

void wait_for_what_one_holds() {
	spinlock lock(lock_rank::proc, "mine");
	lock.lock();
	lock.lock();
}

}  // namespace

TEST(LockrankDeathTest, WrongOrderNamesBothLocksAndTheirRanks) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(take(lock_rank::run_queue, "the queue", lock_rank::proc, "the proc"),
	    "lock order: the proc \\(proc\\) is wanted while the queue \\(run_queue\\) is held");
}

TEST(LockrankDeathTest, TwoOfTheSameRankAreAWrongOrder) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(take(lock_rank::sleepq, "one queue", lock_rank::sleepq, "another queue"), "another queue .*while one queue");
}

TEST(LockrankDeathTest, WaitingForWhatOneHoldsIsAWrongOrder) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(wait_for_what_one_holds(), "mine .*is wanted while mine");
}

TEST(LockrankDeathTest, PartBeforeOneThatIsHeldIsAWrongOrder) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(take_a_part_before(), "first .*is wanted while second");
}

TEST(LockrankDeathTest, ReleaseByANonHolderAborts) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(release_what_another_holds(), "theirs is released by a kernel thread that does not hold it");
	EXPECT_DEATH(release_what_nobody_holds(), "nobody's is released by a kernel thread that does not hold it");
	EXPECT_DEATH(release_twice(), "once is released by a kernel thread that does not hold it");
}

TEST(LockrankDeathTest, MoreLocksThanAnybodyNeedsAbort) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(take_too_many(), "too many locks held");
}
