// SPDX-License-Identifier: BSD-2-Clause
//
// The spin lock, plain and biased: exclusion under every mix of owner and others, the way a bias is lost and comes back.
// Kernel threads only; any distinct address is a vCPU to the lock, which never looks at one.
#include "base/spinlock.h"

#include "base/sys.h"

#include "../support/support.h"

#include <array>
#include <barrier>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

using lwp::kern::lock_rank;
using lwp::kern::lock_scope;
using lwp::kern::spinlock;
using lwp::kern::vcpu_t;
using lwp::test::rounds;

constexpr unsigned threads = 4;

// Identities of vCPUs: addresses, no more.
alignas(64) std::array<std::array<char, 64>, threads> identity;
vcpu_t *vcpu(unsigned i) { return reinterpret_cast<vcpu_t *>(identity[i].data()); }

// Explicit instantiation may name private members: the only way to see which way a lock was taken.
template <auto Revoked, auto Bias>
struct seen_from_outside {
	friend bool bias_is_lost(const spinlock &lock) { return (lock.*Revoked).load() != 0; }
	friend bool can_be_biased(const spinlock &lock) { return lock.*Bias != 1; }
};
bool bias_is_lost(const spinlock &);
bool can_be_biased(const spinlock &);
template struct seen_from_outside<&spinlock::revoked_, &spinlock::bias_>;

/// Kernel threads that begin together.
void run(unsigned count, const std::function<void(unsigned)> &body) {
	std::vector<std::thread> all;
	std::barrier start(static_cast<std::ptrdiff_t>(count));
	for (unsigned i = 0; i < count; i++) {
		all.emplace_back([&, i] {
			start.arrive_and_wait();
			body(i);
		});
	}
	for (std::thread &t : all) {
		t.join();
	}
}

// What a lock covers: without exclusion the two drift apart and sums are lost; a sanitizer sees the race at once.
struct covered {
	std::uint64_t first = 0;
	std::uint64_t second = 0;
	void bump() {
		EXPECT_EQ(first, second);
		first++;
		second++;
	}
};

/// Times that `owner` must take the lock before its bias is back; 0 if it never comes.
unsigned times_until_bias_is_back(spinlock &lock, vcpu_t *owner) {
	for (unsigned n = 1; n <= 1U << 17; n++) {
		lock.lock(owner);
		lock.unlock(owner);
		if (!bias_is_lost(lock)) {
			return n;
		}
	}
	return 0;
}

}  // namespace

TEST(Spinlock, KnowsItsNameAndRank) {
	const spinlock lock(lock_rank::sleepq, "a name");
	EXPECT_STREQ(lock.name(), "a name");
	EXPECT_EQ(lock.rank(), lock_rank::sleepq);
	EXPECT_FALSE(lock.held());
}

TEST(Spinlock, ScopeHoldsAndLetsGo) {
	spinlock lock(lock_rank::leaf, "scope");
	{
		lock_scope hold(lock, nullptr);
		EXPECT_TRUE(lock.held());
	}
	EXPECT_FALSE(lock.held());
	lock.lock();
	EXPECT_TRUE(lock.held());
	lock.unlock();
	EXPECT_FALSE(lock.held());
}

TEST(Spinlock, PlainExcludesAmongFourKernelThreads) {
	spinlock lock(lock_rank::leaf, "plain");
	covered data;
	const std::size_t n = rounds(200000);
	run(threads, [&](unsigned i) {
		for (std::size_t k = 0; k < n; k++) {
			// A third each: with an identity, without one, and through the guard.
			lock_scope hold(lock, k % 3 == 0 ? nullptr : vcpu(i));
			data.bump();
		}
	});
	EXPECT_EQ(data.first, threads * n);
	EXPECT_EQ(data.second, threads * n);
}

TEST(Spinlock, TryLockTakesAFreeOneAndNotAHeldOne) {
	spinlock lock(lock_rank::leaf, "try");
	ASSERT_TRUE(lock.try_lock(nullptr));
	std::thread([&] { EXPECT_FALSE(lock.try_lock(nullptr)); }).join();
	lock.unlock(nullptr);
	std::thread([&] {
		EXPECT_TRUE(lock.try_lock(nullptr));
		lock.unlock(nullptr);
	}).join();
}

TEST(Spinlock, TryLockExcludes) {
	spinlock lock(lock_rank::leaf, "try");
	covered data;
	const std::size_t n = rounds(500000);
	std::atomic<std::uint64_t> taken{0};
	run(threads, [&](unsigned i) {
		std::uint64_t mine = 0;
		for (std::size_t k = 0; k < n; k++) {
			if (lock.try_lock(vcpu(i))) {
				data.bump();
				mine++;
				lock.unlock(vcpu(i));
			}
		}
		taken += mine;
	});
	EXPECT_GT(taken.load(), 0U);
	EXPECT_EQ(data.first, taken.load());
}

// The owner takes it by plain stores as fast as it can; the others revoke the bias in the middle of that.  A revocation that did not wait
// for an owner between "mine" and its look at the revocation would let two in.
TEST(SpinlockBiased, ExcludesWhileTheOwnerHammersItAndOthersRevoke) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	covered data;
	const std::size_t n = rounds(100000);
	std::atomic<unsigned> others{threads - 1};
	std::atomic<std::uint64_t> by_owner{0};
	std::atomic<std::uint64_t> by_others{0};
	run(threads, [&](unsigned i) {
		std::uint64_t mine = 0;
		if (i == 0) {
			while (others.load() != 0) {
				lock_scope hold(lock, vcpu(0));
				data.bump();
				by_owner.store(++mine, std::memory_order_relaxed);
			}
			return;
		}
		while (mine < n || by_owner.load(std::memory_order_relaxed) < n) {
			lock_scope hold(lock, vcpu(i));
			data.bump();
			mine++;
		}
		by_others += mine;
		others--;
	});
	EXPECT_EQ(data.first, by_others + by_owner);
}

#if LWP_FAULTS
// The kernel allocates a set of CPUs for the barrier and may have no memory at the moment.
TEST(SpinlockBiased, ABarrierWithoutMemoryIsAskedForAgain) {
	using namespace lwp::kern;
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	if (!can_be_biased(lock)) {
		GTEST_SKIP() << "no biased locks in this build or on this kernel";
	}
	static std::atomic<int> asked;
	asked = 0;
	sys::fault_now.store([](long number, const char *, int, long *result) noexcept {
		*result = -ENOMEM;
		return number == SYS_membarrier && ++asked <= 3 ? sys::fault::instead : sys::fault::none;
	});
	std::thread other([&lock] {
		lock.lock(vcpu(1));
		lock.unlock(vcpu(1));
	});
	other.join();
	sys::fault_now.store(nullptr);
	EXPECT_EQ(asked, 4);
	EXPECT_TRUE(bias_is_lost(lock));
	lock_scope hold(lock, vcpu(0));
}
#endif

// As above, but each intruder waits until the bias is back: every one of its locks is a revocation, against an owner in mid-stride.
TEST(SpinlockBiased, EveryRevocationExcludes) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	if (!can_be_biased(lock)) {
		GTEST_SKIP() << "no biased locks in this build or on this kernel";
	}
	covered data;
	std::atomic<bool> done{false};
	std::uint64_t by_owner = 0;
	unsigned revocations = 0;
	run(2, [&](unsigned i) {
		if (i == 0) {
			while (!done.load(std::memory_order_relaxed)) {
				lock_scope hold(lock, vcpu(0));
				data.bump();
				by_owner++;
			}
			return;
		}
		for (; revocations < 200; revocations++) {
			while (bias_is_lost(lock)) {
				std::this_thread::yield();
			}
			lock_scope hold(lock, vcpu(1));
			data.bump();
		}
		done = true;
	});
	EXPECT_EQ(data.first, revocations + by_owner);
}

// Both get in by try_lock(): the owner by plain stores, the other by revoking.
TEST(SpinlockBiased, TryLockExcludes) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	covered data;
	std::atomic<std::uint64_t> taken{0};
	const std::size_t n = rounds(500000);
	run(threads, [&](unsigned i) {
		std::uint64_t mine = 0;
		for (std::size_t k = 0; k < n; k++) {
			if (lock.try_lock(vcpu(i))) {
				data.bump();
				mine++;
				lock.unlock(vcpu(i));
			}
		}
		taken += mine;
	});
	EXPECT_GT(taken.load(), 0U);
	EXPECT_EQ(data.first, taken.load());
}

namespace {

void two_try_each_others_lock() {
	alarm(30);  // two that wait for each other would wait for ever
	spinlock a(lock_rank::leaf, "a");
	spinlock b(lock_rank::leaf, "b");
	a.bias(vcpu(0));
	b.bias(vcpu(1));
	std::barrier both(2);
	std::atomic<unsigned> taken{0};
	run(2, [&](unsigned i) {
		spinlock &mine = i == 0 ? a : b;
		spinlock &other = i == 0 ? b : a;
		mine.lock(vcpu(i));
		both.arrive_and_wait();
		if (other.try_lock(vcpu(i))) {
			taken++;
			other.unlock(vcpu(i));
		}
		both.arrive_and_wait();
		mine.unlock(vcpu(i));
	});
	_exit(taken == 0 ? 0 : 1);
}

}  // namespace

// Each of two holds the lock that is biased to it and tries the other's.  A try that waited for the owner to let go would never end: the
// owner is waiting in a try of its own.
TEST(SpinlockBiasedDeathTest, TryLockNeverWaitsForTheOwner) { EXPECT_EXIT(two_try_each_others_lock(), testing::ExitedWithCode(0), ""); }

TEST(SpinlockBiased, TryLockByTheOwnerDoesNotTakeItTwice) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	lock.lock(vcpu(0));
	EXPECT_FALSE(lock.try_lock(vcpu(0)));
	lock.unlock(vcpu(0));
	ASSERT_TRUE(lock.try_lock(vcpu(0)));
	EXPECT_FALSE(lock.try_lock(vcpu(0)));
	lock.unlock(vcpu(0));
	EXPECT_FALSE(lock.held());
}

TEST(SpinlockBiased, FirstOtherRevokesTheBiasAndTheOwnerAloneGetsItBack) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	if (!can_be_biased(lock)) {
		GTEST_SKIP() << "no biased locks in this build or on this kernel";
	}
	EXPECT_FALSE(bias_is_lost(lock));
	lock.lock(vcpu(0));
	lock.unlock(vcpu(0));
	EXPECT_FALSE(bias_is_lost(lock)) << "the owner needs no revocation";

	lock.lock(vcpu(1));
	lock.unlock(vcpu(1));
	EXPECT_TRUE(bias_is_lost(lock));
	for (unsigned k = 0; k < 1000; k++) {  // others do not bring it back
		lock.lock(vcpu(1 + k % 3));
		lock.unlock(vcpu(1 + k % 3));
	}
	EXPECT_TRUE(bias_is_lost(lock));

	const unsigned quiet = times_until_bias_is_back(lock, vcpu(0));
	ASSERT_GT(quiet, 1U) << "an owner must be alone for a while";
	lock.lock(nullptr);  // somebody without a vCPU
	lock.unlock(nullptr);
	EXPECT_TRUE(bias_is_lost(lock));
	EXPECT_EQ(times_until_bias_is_back(lock, vcpu(0)), 2 * quiet) << "each revocation doubles what it takes";
}

TEST(SpinlockBiased, AMeetingStartsTheCountAgain) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	if (!can_be_biased(lock)) {
		GTEST_SKIP() << "no biased locks in this build or on this kernel";
	}
	lock.lock(vcpu(1));
	lock.unlock(vcpu(1));
	const unsigned quiet = times_until_bias_is_back(lock, vcpu(0));
	ASSERT_GT(quiet, 1U);
	lock.lock(vcpu(1));
	lock.unlock(vcpu(1));
	for (unsigned meetings = 0; meetings < 10; meetings++) {
		for (unsigned k = 0; k < 2 * quiet - 1; k++) {
			lock.lock(vcpu(0));
			lock.unlock(vcpu(0));
		}
		EXPECT_TRUE(bias_is_lost(lock));
		lock.lock(vcpu(2));
		lock.unlock(vcpu(2));
	}
	EXPECT_EQ(times_until_bias_is_back(lock, vcpu(0)), 2 * quiet);
}

// Its patience is bounded: a lock that was shared a hundred times still becomes private again.
TEST(SpinlockBiased, ComesBackAfterAnyNumberOfRevocations) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	if (!can_be_biased(lock)) {
		GTEST_SKIP() << "no biased locks in this build or on this kernel";
	}
	for (unsigned k = 0; k < 30; k++) {
		lock.lock(vcpu(1));
		lock.unlock(vcpu(1));
		ASSERT_GT(times_until_bias_is_back(lock, vcpu(0)), 0U) << "revocation " << k;
	}
}

// The owner locks by plain stores and keeps it; the other one comes and waits; the owner, now without its bias, must still let go what it
// took before it lost it.
TEST(SpinlockBiased, OwnerThatLosesTheBiasWhileItHoldsTheLockStillReleasesIt) {
	spinlock lock(lock_rank::leaf, "biased");
	const bool biased = (lock.bias(vcpu(0)), can_be_biased(lock));
	for (unsigned k = 0; k < 200; k++) {
		covered data;
		std::atomic<bool> owner_has_it{false};
		run(2, [&](unsigned i) {
			if (i == 0) {
				lock.lock(vcpu(0));
				owner_has_it = true;
				while (biased && !bias_is_lost(lock)) {
					std::this_thread::yield();
				}
				data.bump();
				lock.unlock(vcpu(0));
				return;
			}
			while (!owner_has_it.load()) {
				std::this_thread::yield();
			}
			lock.lock(vcpu(1));
			EXPECT_EQ(data.first, 1U) << "the owner was not through";
			data.bump();
			lock.unlock(vcpu(1));
		});
		EXPECT_FALSE(lock.held());
		if (biased) {
			ASSERT_GT(times_until_bias_is_back(lock, vcpu(0)), 0U);
		}
	}
}

// The lock of an LWP that leaves is taken in one LWP and released in the next: same kernel thread, same vCPU, another function.  Taken the
// biased way and released after the bias was lost, or taken the plain way and released after the bias came back: always by the same door.
TEST(SpinlockBiased, WhatOneTakesAnotherReleasesOnTheSameKernelThread) {
	spinlock lock(lock_rank::leaf, "biased");
	lock.bias(vcpu(0));
	covered data;
	std::atomic<bool> done{false};
	const auto leave = [&] { lock.lock(vcpu(0)); };
	const auto arrive = [&] { lock.unlock(vcpu(0)); };
	std::uint64_t by_owner = 0;
	const std::size_t n = rounds(100000);
	run(2, [&](unsigned i) {
		if (i == 0) {
			while (!done.load(std::memory_order_relaxed)) {
				leave();
				data.bump();
				by_owner++;
				arrive();
			}
			return;
		}
		for (std::size_t k = 0; k < n; k++) {
			lock.lock(vcpu(1));
			data.bump();
			lock.unlock(vcpu(1));
			if (k % 100 == 0) {
				std::this_thread::yield();
			}
		}
		done = true;
	});
	EXPECT_EQ(data.first, n + by_owner);
	EXPECT_FALSE(lock.held());
}
