// SPDX-License-Identifier: BSD-2-Clause
//
// The biased spin lock, and the lock pointer of an LWP.
#include "core/lwp_lock.h"
#include "core/lwp_pool.h"
#include "core/lwp_state.h"
#include "explore/world.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

spinlock *the_lock;
alignas(64) std::byte lock_memory[sizeof(spinlock)];
only_one inside;
int turns;
lwp_t *subject;

vcpu_t *mine() { return curcpu_or_null(); }

void make_lock() { the_lock = ::new (lock_memory) spinlock(lock_rank::leaf, "lock"); }

/// Biased to vCPU 0, whoever takes it first.
void make_biased() {
	make_lock();
	the_lock->bias(mine());
}

void make_earned() {
	make_lock();
	the_lock->bias_when_earned(mine());
}

void turn(unsigned times) {
	for (unsigned i = 0; i < times; i++) {
		the_lock->lock();
		inside.enter();
		turns++;
		inside.leave();
		the_lock->unlock();
	}
}

void try_turn(unsigned times) {
	for (unsigned i = 0; i < times; i++) {
		if (the_lock->try_lock(mine())) {
			inside.enter();
			turns++;
			inside.leave();
			the_lock->unlock();
		}
	}
}

template <int N>
void turns_are() {
	EXPECT(turns == N);
}

}  // namespace

// Two that take a plain lock: one is in.
RAW(lock_plain_two, 2, true, make_lock, turns_are<4>) { turn(2); }
RAW(lock_plain_three, 3, true, make_lock, turns_are<6>) { turn(2); }
RAW(lock_plain_try, 2, true, make_lock, nullptr) { self == 0 ? turn(2) : try_turn(2); }

// The owner's "mine" against a stranger's "revoked": membarrier makes one see the other.
RAW(lock_biased_first_meeting, 2, true, make_biased, turns_are<2>) { turn(1); }
RAW(lock_biased_owner_stays, 2, true, make_biased, turns_are<4>) { turn(self == 0 ? 3 : 1); }
RAW(lock_biased_two_strangers, 3, true, make_biased, turns_are<4>) { turn(self == 0 ? 2 : 1); }

// A stranger's try_lock revokes, and lets go again if the owner is in.
RAW(lock_biased_try_by_stranger, 2, true, make_biased, nullptr) { self == 0 ? turn(2) : try_turn(2); }
RAW(lock_biased_try_by_owner, 2, true, make_biased, nullptr) { self == 0 ? try_turn(2) : turn(2); }
RAW(lock_biased_try_by_both, 2, true, make_biased, nullptr) { try_turn(2); }

// The owner earns the bias back while a stranger comes: settle() against revoke().
RAW(lock_biased_earned_back, 2, true, make_earned, turns_are<72>) { self == 0 ? turn(70) : turn(2); }

// A waiter that has seen a lock free sees what was done under it.
RAW(lock_hands_over_what_was_written, 2, true, make_biased, nullptr) {
	static int data[2];
	the_lock->lock();
	EXPECT(data[0] == data[1]);
	data[0]++;
	data[1]++;
	the_lock->unlock();
}

// ---- the lock pointer ----------------------------------------------------------------------------------------------------

namespace {

/// An LWP that nobody runs, covered by the vc_lwplock of vCPU 0 and suspended.
void make_subject() {
	subject = lwp_pool_get();
	vcpu_t *vc = mine();
	subject->l_cpu = vc;
	vc->vc_lwplock.lock(vc);
	lwp_setstat(subject, lwp_stat::idl, &vc->vc_lwplock);
	lwp_setstat(subject, lwp_stat::suspended, &vc->vc_lwplock);
	vc->vc_lwplock.unlock(vc);
}

/// Locks it, sees that nobody else has it locked, and moves it to `to`'s vc_lwplock.
void move_to(spinlock *to) {
	vcpu_t *me = mine();
	for (;;) {
		spinlock *lock = lwp_lock(subject, me);
		if (lock == to) {
			lock->unlock(me);
			return;
		}
		inside.enter();
		turns++;
		inside.leave();
		if (lwp_relock(subject, to, me)) {
			lwp_unlock(subject, me);
			return;
		}
		lwp_unlock(subject, me);
	}
}

}  // namespace

// Locked by whatever the pointer names, though it moves meanwhile: the second look.
RAW(lockptr_moves_while_locked_for, 2, true, make_subject, nullptr) {
	vcpu_t *me = mine();
	if (self == 0) {
		(void)lwp_lock(subject, me);
		inside.enter();
		inside.leave();
		lwp_unlock(subject, me);
	} else {
		spinlock *lock = lwp_lock(subject, me);
		inside.enter();
		inside.leave();
		lwp_setlock(subject, &me->vc_lwplock);  // unlocked from here: we do not hold that one
		lock->unlock(me);
	}
	for (int i = 0; i < 2; i++) {
		(void)lwp_lock(subject, me);
		inside.enter();
		inside.leave();
		lwp_unlock(subject, me);
	}
}

// A -> B -> A: who waited for A has it when the pointer is back.
RAW(lockptr_there_and_back, 3, true, make_subject, nullptr) {
	vcpu_t *me = mine();
	static spinlock *home = &subject->l_cpu->vc_lwplock;
	if (self == 2) {
		for (int i = 0; i < 2; i++) {
			(void)lwp_lock(subject, me);
			inside.enter();
			inside.leave();
			lwp_unlock(subject, me);
		}
		return;
	}
	spinlock *to = self == 0 ? home : &me->vc_lwplock;
	spinlock *lock = lwp_lock(subject, me);
	inside.enter();
	inside.leave();
	if (lock != to) {
		lwp_setlock(subject, to);
	}
	lock->unlock(me);
}

// lwp_trylock says locked only if it is.
RAW(lockptr_try_against_move, 2, true, make_subject, nullptr) {
	vcpu_t *me = mine();
	if (self == 0) {
		for (int i = 0; i < 2; i++) {
			if (spinlock *lock = lwp_trylock(subject, me)) {
				EXPECT(lwp_locked(subject, lock));
				inside.enter();
				inside.leave();
				lock->unlock(me);
			}
		}
	} else {
		spinlock *lock = lwp_lock(subject, me);
		inside.enter();
		inside.leave();
		lwp_setlock(subject, &me->vc_lwplock);  // unlocked from here: we do not hold that one
		lock->unlock(me);
	}
}

// Two that relock in opposite directions do not wait for each other.
RAW(lockptr_relock_both_ways, 2, false, make_subject, nullptr) {
	for (int i = 0; i < 2; i++) {
		move_to(&mine()->vc_lwplock);
	}
}
