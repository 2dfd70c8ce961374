// SPDX-License-Identifier: BSD-2-Clause
//
// The lock pointer: who locks an LWP has it, wherever its lock moves meanwhile.  Kernel threads only; the LWPs here never run.
#include "core/lwp_lock.h"

#include "core/lwp_pool.h"
#include "core/lwp_state.h"

#include "../support/support.h"

#include <array>
#include <barrier>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

using namespace lwp::kern;
using lwp::test::rounds;

// Identities of vCPUs: addresses, no more.
alignas(64) std::array<std::array<char, 64>, 4> identity;
vcpu_t *vcpu(unsigned i) { return reinterpret_cast<vcpu_t *>(identity[i].data()); }

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

/// An LWP that is LSRUN under `lock`.
class runnable {
public:
	explicit runnable(spinlock &lock) : l_(lwp_pool_get()) {
		static spinlock home(lock_rank::vcpu_lwp, "home");
		lwp_setstat(l_, lwp_stat::idl, &home);
		home.lock();
		lwp_setstat(l_, lwp_stat::run, &lock);
		home.unlock();
	}
	~runnable() { lwp_pool_put(l_); }
	runnable(const runnable &) = delete;
	runnable &operator=(const runnable &) = delete;
	lwp_t *get() const { return l_; }

private:
	lwp_t *l_;
};

/// What the LWP's lock covers.
struct covered {
	std::uint64_t first = 0;
	std::uint64_t second = 0;
	void bump() {
		EXPECT_EQ(first, second);
		first++;
		second++;
	}
};

}  // namespace

TEST(LwpLock, TakesTheLockThePointerNames) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::run_queue, "b");
	const runnable l(a);
	EXPECT_FALSE(lwp_locked(l.get()));
	EXPECT_EQ(lwp_lock(l.get(), nullptr), &a);
	EXPECT_TRUE(lwp_locked(l.get()));
	EXPECT_TRUE(lwp_locked(l.get(), &a));
	EXPECT_FALSE(lwp_locked(l.get(), &b));
	lwp_unlock(l.get(), nullptr);
	EXPECT_FALSE(lwp_locked(l.get()));
	EXPECT_FALSE(a.held());
}

TEST(LwpLock, SetlockLeavesTheOldLockHeldAndTheLwpLockedOnlyByTheNewOne) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	lwp_setlock(l.get(), &b);
	EXPECT_TRUE(a.held());
	EXPECT_FALSE(lwp_locked(l.get())) << "nobody holds b";
	b.lock();
	EXPECT_TRUE(lwp_locked(l.get(), &b));
	EXPECT_FALSE(lwp_locked(l.get(), &a));
	lwp_unlock(l.get(), nullptr);
	EXPECT_FALSE(b.held());
	a.unlock();
}

TEST(LwpLock, UnlockToReleasesTheOldLockAlone) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	b.lock();
	lwp_unlock_to(l.get(), &b, nullptr);
	EXPECT_FALSE(a.held());
	EXPECT_TRUE(b.held());
	EXPECT_TRUE(lwp_locked(l.get(), &b));
	lwp_unlock(l.get(), nullptr);
	EXPECT_EQ(lwp_lock(l.get(), nullptr), &b);
	lwp_unlock(l.get(), nullptr);
}

TEST(LwpLock, TrylockTakesAFreeOneAndNotAHeldOne) {
	spinlock a(lock_rank::run_queue, "a");
	const runnable l(a);
	EXPECT_EQ(lwp_trylock(l.get(), nullptr), &a);
	std::thread([&] { EXPECT_EQ(lwp_trylock(l.get(), nullptr), nullptr); }).join();
	EXPECT_TRUE(lwp_locked(l.get()));
	lwp_unlock(l.get(), nullptr);
	std::thread([&] {
		EXPECT_EQ(lwp_trylock(l.get(), nullptr), &a);
		lwp_unlock(l.get(), nullptr);
	}).join();
}

TEST(LwpLock, RelockToTheLockItHasIsNothing) {
	spinlock a(lock_rank::run_queue, "a");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	EXPECT_TRUE(lwp_relock(l.get(), &a, nullptr));
	EXPECT_TRUE(lwp_locked(l.get(), &a));
	lwp_unlock(l.get(), nullptr);
	EXPECT_FALSE(a.held());
}

TEST(LwpLock, RelockToAFreeLockMovesTheLwpAndKeepsItLocked) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	for (spinlock *next : {&b, &a, &b}) {  // either direction
		EXPECT_TRUE(lwp_relock(l.get(), next, nullptr));
		EXPECT_TRUE(lwp_locked(l.get(), next));
		EXPECT_FALSE((next == &a ? b : a).held());
	}
	lwp_unlock(l.get(), nullptr);
}

// One waits for the lock that the pointer named; the holder moves the LWP elsewhere, changes it there and only then lets go.  The waiter gets
// the first lock, looks again, and must not act on it.
TEST(LwpLock, ChasesAPointerThatMovesWhileItWaits) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const std::size_t n = rounds(1000);
	for (std::size_t k = 0; k < n; k++) {
		const runnable l(a);
		covered data;
		std::atomic<bool> at_the_door{false};
		lwp_lock(l.get(), nullptr);
		std::thread waiter([&] {
			at_the_door = true;
			EXPECT_EQ(lwp_lock(l.get(), nullptr), &b);
			EXPECT_EQ(data.first, 1U);
			data.bump();
			lwp_unlock(l.get(), nullptr);
		});
		while (!at_the_door.load()) {
			std::this_thread::yield();
		}
		for (std::size_t spin = k % 500; spin != 0; spin--) {
			cpu_relax();
		}
		b.lock();
		lwp_unlock_to(l.get(), &b, nullptr);
		data.bump();
		lwp_unlock(l.get(), nullptr);
		waiter.join();
		EXPECT_EQ(data.first, 2U);
	}
}

// lwp_trylock() that took the lock of a pointer which has moved lets it go again.
TEST(LwpLock, TrylockChasesTooAndLeavesNothingHeld) {
	std::array<spinlock, 2> lock{spinlock{lock_rank::run_queue, "a"}, spinlock{lock_rank::run_queue, "b"}};
	const runnable l(lock[0]);
	covered data;
	const std::size_t n = rounds(200000);
	std::atomic<std::uint64_t> taken{0};
	run(3, [&](unsigned i) {
		std::uint64_t mine = 0;
		for (std::size_t k = 0; k < n; k++) {
			spinlock *held = lwp_trylock(l.get(), vcpu(i));
			if (held == nullptr) {
				continue;
			}
			mine++;
			data.bump();
			lwp_unlock_to(l.get(), &lock[k % 2], vcpu(i));
		}
		taken += mine;
	});
	EXPECT_GT(taken.load(), 0U);
	EXPECT_EQ(data.first, taken.load());
	EXPECT_FALSE(lock[0].held());
	EXPECT_FALSE(lock[1].held());
}

namespace {

/// Four kernel threads lock one LWP and one in four times send it to another lock, which they do not hold: A to B to A included.
void lock_and_move(bool biased) {
	std::array<spinlock, 3> lock{spinlock{lock_rank::run_queue, "a"}, spinlock{lock_rank::run_queue, "b"}, spinlock{lock_rank::inbox, "c"}};
	if (biased) {
		for (unsigned i = 0; i < lock.size(); i++) {
			lock[i].bias(vcpu(i));
		}
	}
	const runnable l(lock[0]);
	covered data;
	const std::size_t n = rounds(200000);
	std::array<std::atomic<std::uint64_t>, 3> under{};
	run(4, [&](unsigned i) {
		lwp::test::dice r(i + 1);
		for (std::size_t k = 0; k < n; k++) {
			spinlock *held = lwp_lock(l.get(), vcpu(i));
			EXPECT_TRUE(lwp_locked(l.get(), held));
			under[static_cast<std::size_t>(held - lock.data())].fetch_add(1, std::memory_order_relaxed);
			data.bump();
			if (r.one_in(4)) {
				lwp_unlock_to(l.get(), &lock[r.below(3)], vcpu(i));
			} else {
				held->unlock(vcpu(i));
			}
		}
	});
	EXPECT_EQ(data.first, 4 * n);
	for (std::size_t i = 0; i < lock.size(); i++) {
		EXPECT_GT(under[i].load(), 0U) << "never seen under " << lock[i].name();
		EXPECT_FALSE(lock[i].held());
	}
}

}  // namespace

TEST(LwpLock, ExcludesWhileThePointerMoves) { lock_and_move(false); }

TEST(LwpLock, ExcludesWhileThePointerMovesAmongBiasedLocks) { lock_and_move(true); }

namespace {

/// Two LWPs and two locks of one rank, each LWP moved to and fro by relocking, in opposite directions at the same moment.
void relock_both_ways(bool biased) {
	alarm(100);  // a deadlock would last for ever
	std::array<spinlock, 2> lock{spinlock{lock_rank::run_queue, "a"}, spinlock{lock_rank::run_queue, "b"}};
	if (biased) {
		lock[0].bias(vcpu(0));
		lock[1].bias(vcpu(1));
	}
	const runnable x(lock[0]);
	const runnable y(lock[1]);
	std::array<covered, 2> data;
	const std::size_t n = rounds(200000);
	std::atomic<std::uint64_t> moved{0};
	run(4, [&](unsigned i) {
		lwp::test::dice r(i + 1);
		std::uint64_t mine = 0;
		for (std::size_t k = 0; k < n; k++) {
			const unsigned which = r.below(2);
			lwp_t *l = which == 0 ? x.get() : y.get();
			spinlock *held = lwp_lock(l, vcpu(i));
			data[which].bump();
			spinlock *next = held == &lock[0] ? &lock[1] : &lock[0];
			if (lwp_relock(l, next, vcpu(i))) {
				mine++;
				EXPECT_TRUE(lwp_locked(l, next));
			}
			EXPECT_TRUE(lwp_locked(l)) << "whether it moved or not, it is locked";
			data[which].bump();
			lwp_unlock(l, vcpu(i));
		}
		moved += mine;
	});
	EXPECT_GT(moved.load(), 0U);
	EXPECT_EQ(data[0].first + data[1].first, 8 * n);
	EXPECT_FALSE(lock[0].held());
	EXPECT_FALSE(lock[1].held());
	_exit(testing::Test::HasFailure() ? 1 : 0);
}

}  // namespace

// One has A and wants B while another has B and wants A.
TEST(LwpLockDeathTest, RelockInBothDirectionsEndsAndExcludes) { EXPECT_EXIT(relock_both_ways(false), testing::ExitedWithCode(0), ""); }

TEST(LwpLockDeathTest, RelockInBothDirectionsEndsAndExcludesWithBiasedLocks) {
	EXPECT_EXIT(relock_both_ways(true), testing::ExitedWithCode(0), "");
}

// The LWP was moved to a third lock while relock had let go of it to wait for the one it wanted: it says so, and has it locked nevertheless.
TEST(LwpLock, RelockTellsWhenSomebodyElseMovedTheLwpMeanwhile) {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::run_queue, "b");
	spinlock c(lock_rank::inbox, "c");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	std::barrier step(2);
	std::thread other([&] {
		b.lock();  // relock cannot have it
		step.arrive_and_wait();
		c.lock();
		spinlock *held = nullptr;
		while ((held = lwp_trylock(l.get(), nullptr)) == nullptr) {  // until relock lets go of a
			std::this_thread::yield();
		}
		EXPECT_EQ(held, &a);
		lwp_setlock(l.get(), &c);
		a.unlock();
		b.unlock();
		c.unlock();
	});
	step.arrive_and_wait();
	EXPECT_FALSE(lwp_relock(l.get(), &b, nullptr));
	EXPECT_TRUE(lwp_locked(l.get(), &c));
	EXPECT_FALSE(a.held());
	EXPECT_FALSE(b.held());
	lwp_unlock(l.get(), nullptr);
	other.join();
}

namespace {

void setlock_unlocked() {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const runnable l(a);
	lwp_setlock(l.get(), &b);
}

void setlock_to_a_lock_that_does_not_cover() {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::vcpu_lwp, "b");
	const runnable l(a);
	lwp_lock(l.get(), nullptr);
	lwp_setlock(l.get(), &b);
}

void relock_unlocked() {
	spinlock a(lock_rank::run_queue, "a");
	spinlock b(lock_rank::inbox, "b");
	const runnable l(a);
	(void)lwp_relock(l.get(), &b, nullptr);
}

}  // namespace

TEST(LwpLockDeathTest, MisuseAborts) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << "assertions are in debug builds only";
	}
	EXPECT_DEATH(setlock_unlocked(), "assertion failed: lwp_locked");
	EXPECT_DEATH(setlock_to_a_lock_that_does_not_cover(), "assertion failed: lwp_lock_covers");
	EXPECT_DEATH(relock_unlocked(), "assertion failed: lwp_locked");
}
