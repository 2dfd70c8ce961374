// SPDX-License-Identifier: BSD-2-Clause
//
// Grants: of all who would end a wait exactly one does, its waiter does not leave before it has given, and nothing of it hits the next wait.
// vcpus: 1 2 8
#include "sync/grant.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// Waits for `g` whatever interrupts it.
int wait_for(grant *g, nanotime deadline = never) {
	for (;;) {
		const int error = grant_wait(g, "test", deadline);
		if (error == 0 || error == ETIMEDOUT) {
			return error;
		}
		EXPECT_TRUE(error == ERESTART || error == EINTR) << error;
		lwp_userret(g->g_lwp);
	}
}

void give(grant *g) { grant_give(g, curlwp()->l_cpu); }

/// The next wait of the caller ends by its own deadline: nothing is left of those before.
void expect_no_leftover() {
	grant g(curlwp());
	EXPECT_EQ(wait_for(&g, now() + 1), ETIMEDOUT);
	EXPECT_EQ(g.g_by.load(), grant::timed_out);
}

bool waits_for_grant(const lwp_t *l) {
	vcpu_t *me = curlwp()->l_cpu;
	auto *target = const_cast<lwp_t *>(l);
	spinlock *lock = lwp_lock(target, me);
	const bool yes = lwp_state(target) == lwp_stat::sleep && target->l_syncobj == &grant_syncobj;
	lock->unlock(me);
	return yes;
}

}  // namespace

TEST(Grant, IsTakenOnce) {
	grant g(curlwp());
	EXPECT_TRUE(grant_take(&g, 7));
	EXPECT_FALSE(grant_take(&g, 8));
	EXPECT_FALSE(grant_take(&g, 7));
	EXPECT_EQ(g.g_by.load(), 7);
}

TEST(Grant, GivenBeforeTheWaitEndsItAtOnceAndOnlyIt) {
	grant g(curlwp());
	ASSERT_TRUE(grant_take(&g, 3));
	give(&g);
	EXPECT_EQ(wait_for(&g), 0);
	EXPECT_EQ(g.g_by.load(), 3);
	expect_no_leftover();
}

TEST(Grant, GivenToASleeperWakesIt) {
	std::atomic<grant *> hung{nullptr};
	int value = 0;
	const lwpid_t lid = spawn([&] {
		grant g(curlwp(), &value);
		hung = &g;
		EXPECT_EQ(wait_for(&g), 0);
		EXPECT_EQ(g.g_by.load(), 5);
		EXPECT_EQ(value, 42);
		expect_no_leftover();
	});
	EXPECT_TRUE(wait_until([&] { return hung != nullptr && waits_for_grant(hung.load()->g_lwp); }));
	EXPECT_TRUE(grant_take(hung, 5));
	value = 42;
	give(hung);
	collect(lid);
}

TEST(Grant, ATimeoutTakesItBack) {
	grant g(curlwp());
	EXPECT_EQ(wait_for(&g, now() + 1'000'000), ETIMEDOUT);
	EXPECT_FALSE(grant_take(&g, 1)) << "after a timeout nobody may give any more";
	expect_no_leftover();
}

// Taken, and then the deadline passes long before the give: the waiter must stay, for the taker is using its record.
TEST(Grant, WhoseRecordWasTakenWaitsForTheGivePastItsDeadline) {
	std::atomic<grant *> hung{nullptr};
	std::atomic<bool> left{false};
	const lwpid_t lid = spawn([&] {
		grant g(curlwp());
		EXPECT_TRUE(grant_take(&g, 9));  // for the other side
		hung = &g;
		EXPECT_EQ(wait_for(&g, now() + 1'000'000), 0);
		left = true;
		expect_no_leftover();
	});
	EXPECT_TRUE(wait_until([&] { return hung != nullptr; }));
	const nanotime until = now() + 5'000'000;
	EXPECT_TRUE(wait_until([&] { return now() > until; }));
	EXPECT_FALSE(left);
	give(hung);
	collect(lid);
	EXPECT_TRUE(left);
}

TEST(Grant, ASuspendOnlyInterruptsIt) {
	std::atomic<grant *> hung{nullptr};
	std::atomic<int> interrupted{0};
	const lwpid_t lid = spawn([&] {
		lwp_t *l = curlwp();
		grant g(l);
		hung = &g;
		int error;
		while ((error = grant_wait(&g, "test")) == ERESTART) {
			interrupted++;
			lwp_userret(l);
		}
		EXPECT_EQ(error, 0);
		expect_no_leftover();
	});
	EXPECT_TRUE(wait_until([&] { return hung != nullptr && waits_for_grant(hung.load()->g_lwp); }));
	EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
	EXPECT_EQ(interrupted, 1);
	EXPECT_TRUE(grant_take(hung, 1));  // it still hangs, and can be given while it stands
	give(hung);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_EQ(interrupted, 1);
}

TEST(Grant, AWakeupInterruptsItAndItStillHangs) {
	std::atomic<grant *> hung{nullptr};
	std::atomic<int> first{-1};
	const lwpid_t lid = spawn([&] {
		grant g(curlwp());
		hung = &g;
		first = grant_wait(&g, "test");
		EXPECT_EQ(wait_for(&g), 0);
		expect_no_leftover();
	});
	EXPECT_TRUE(wait_until([&] { return hung != nullptr && waits_for_grant(hung.load()->g_lwp); }));
	EXPECT_EQ(error_of(_lwp_wakeup(lid)), 0);
	EXPECT_TRUE(wait_until([&] { return first != -1; }));
	EXPECT_EQ(first, EINTR);
	EXPECT_TRUE(grant_take(hung, 1));
	give(hung);
	collect(lid);
}

// Takers from everywhere against a deadline that is about now: one of all wins, and what it stored before the give is there after the wait.
TEST(Grant, StormOfTakersAgainstTheTimeout) {
	struct shared {
		std::atomic<grant *> hung{nullptr};
		std::atomic<unsigned> inside{0};
		std::atomic<bool> over{false};
		unsigned value = 0;
	} s;
	const std::size_t n = race_rounds(30000);
	const auto taker = [&s](int by) {
		(void)curlwp();
		dice d(static_cast<std::uint64_t>(by));
		while (!s.over) {
			s.inside++;  // the waiter lets its record go only when nobody is here that may have seen it
			if (grant *g = s.hung.load(); g != nullptr && d.one_in(100) && grant_take(g, by)) {
				s.value = static_cast<unsigned>(by);
				give(g);
			}
			s.inside--;
			lwp_yield();
		}
	};
	std::size_t timeouts = 0;
	const lwpid_t waiter = spawn([&] {
		for (std::size_t k = 0; k < n; k++) {
			grant g(curlwp());
			s.value = 0;
			s.hung = &g;
			const int error = wait_for(&g, now() + k % 3 * 1000);
			s.hung = nullptr;
			EXPECT_TRUE(wait_until([&] { return s.inside == 0; }));
			const int by = g.g_by.load();
			if (error == ETIMEDOUT) {
				EXPECT_EQ(by, grant::timed_out);
				EXPECT_EQ(s.value, 0U);
				timeouts++;
			} else {
				EXPECT_EQ(static_cast<int>(s.value), by);
			}
		}
		s.over = true;
		expect_no_leftover();
	});
	std::vector<lwpid_t> lwps;
	for (int by = 1; by <= 3; by++) {
		lwps.push_back(spawn([&taker, by] { taker(by); }));
	}
	std::thread foreign([&taker] { taker(4); });
	collect(waiter);
	for (const lwpid_t lid : lwps) {
		collect(lid);
	}
	foreign.join();
	std::printf("%zu of %zu rounds timed out\n", timeouts, n);
}
