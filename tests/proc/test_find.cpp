// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs found by their ids, and what is locked then: quirk Q12.  Who is LSIDL or LSZOMB is found by lwp_find_any() alone.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// Whether its lock can be had.  It may be a vCPU's, who takes it now and then.
bool unlocked(lwp_t *l, vcpu_t *me) {
	const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
	do {
		if (spinlock *lock = lwp_trylock(l, me); lock != nullptr) {
			lock->unlock(me);
			return true;
		}
	} while (std::chrono::steady_clock::now() < end);
	return false;
}

}  // namespace

TEST(Find, DoesNotLock) {
	const lwpid_t sleeps = spawn([] {}, LWP_SUSPENDED);
	{
		vcpu_t *me = curlwp()->l_cpu;
		const lock_scope hold(proc_part(&proc0, sleeps)->pp_lock, me);
		lwp_t *l = lwp_find(&proc0, sleeps);
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(lwp_lid(l), sleeps);
		EXPECT_TRUE(unlocked(l, me));
	}
	EXPECT_EQ(error_of(_lwp_continue(sleeps)), 0);
	collect(sleeps);
}

TEST(Find, AndLockDoes) {
	const lwpid_t sleeps = spawn([] {}, LWP_SUSPENDED);
	{
		vcpu_t *me = curlwp()->l_cpu;
		spinlock *lock = nullptr;
		lwp_t *l = lwp_find_and_lock(&proc0, sleeps, me, &lock);
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(lwp_lid(l), sleeps);
		EXPECT_EQ(l->l_mutex.load(), lock);
		EXPECT_EQ(lwp_trylock(l, me), nullptr);
		lock->unlock(me);
		EXPECT_TRUE(unlocked(l, me));
	}
	EXPECT_EQ(error_of(_lwp_continue(sleeps)), 0);
	collect(sleeps);
}

TEST(Find, TheDeadAreNotFoundButByWhoAsksForAny) {
	const lwpid_t zombie = make_zombie();
	vcpu_t *me = curlwp()->l_cpu;
	{
		const lock_scope hold(proc_part(&proc0, zombie)->pp_lock, me);
		EXPECT_EQ(lwp_find(&proc0, zombie), nullptr);
		EXPECT_NE(lwp_find_any(&proc0, zombie), nullptr);
	}
	spinlock *lock = nullptr;
	EXPECT_EQ(lwp_find_and_lock(&proc0, zombie, me, &lock), nullptr);
	EXPECT_EQ(lwp_find_and_lock(&proc0, nobody, me, &lock), nullptr);
	EXPECT_EQ(lwp_find_and_lock(&proc0, 0, me, &lock), nullptr);
	EXPECT_EQ(lwp_find_and_lock(&proc0, -5, me, &lock), nullptr);
	collect(zombie);
}
