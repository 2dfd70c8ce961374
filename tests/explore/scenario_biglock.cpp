// SPDX-License-Identifier: BSD-2-Clause
//
// The big lock: one at a time, let go of wherever its LWP stops running, and there again before it goes on.
#include "explore/world.h"
#include "proc/lwp_life.h"
#include "sync/biglock.h"
#include "sync/mutex.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

/// What an LWP does that has the big lock: alone.
struct turns {
	only_one alone;
	int taken = 0;

	void take() {
		EXPECT(me()->l_biglocks != 0 && (me()->l_bighas == big_hold::held || me()->l_bighas == big_hold::kept));
		alone.enter();
		now();  // a point
		taken++;
		alone.leave();
	}
};

void enter() { biglock_enter(&proc0.p_biglock, me()); }
void leave() { biglock_exit(me()); }

void nobody_has_it() { EXPECT(proc0.p_biglock.bl_owner == nullptr && proc0.p_biglock.bl_waiters.empty()); }

}  // namespace

SCENARIO(biglock_three_take_turns, 3) {
	turns t;
	const auto turn = [&] {
		enter();
		t.take();
		leave();
	};
	lwpid_t a = start(1, turn);
	lwpid_t b = start(2, turn);
	race();
	turn();
	join(a);
	join(b);
	EXPECT(t.taken == 3);
	nobody_has_it();
}

// Woken on another vCPU before the one that it left has let go for it: it waits like anybody.
SCENARIO(biglock_woken_before_it_is_let_go, 3) {
	turns t;
	lwpid_t a = start(1, [&] {
		enter();
		t.take();
		(void)park();
		t.take();
		leave();
	});
	lwpid_t b = start(2, [&] {
		enter();
		t.take();
		leave();
	});
	race();
	unpark(a);
	join(a);
	join(b);
	EXPECT(t.taken == 3);
	nobody_has_it();
}

// The count comes back with it.
SCENARIO(biglock_count_is_kept, 2) {
	turns t;
	lwpid_t a = start(1, [&] {
		enter();
		enter();
		(void)park(time_in(soon));
		EXPECT(me()->l_biglocks == 2);
		t.take();
		leave();
		t.take();
		leave();
	});
	race();
	for (int i = 0; i < 2; i++) {
		enter();
		t.take();
		yield();
		t.take();
		leave();
	}
	join(a);
	EXPECT(t.taken == 6);
	nobody_has_it();
}

// One that ends has it no more; nor does its memory's next LWP.
SCENARIO(biglock_ends_with_its_lwp, 3) {
	turns t;
	const auto ends = [&] {
		enter();
		enter();
		t.take();
	};
	lwpid_t a = start(1, ends);
	lwpid_t b = start(2, ends);
	race();
	enter();
	t.take();
	leave();
	join(a);
	join(b);
	EXPECT(t.taken == 3);
	nobody_has_it();
}

// Asleep with it, and told to end: it comes back for it first.
SCENARIO(biglock_sleep_against_exit, 3) {
	turns t;
	lwpid_t a = start(1, [&] {
		enter();
		(void)park();
		t.take();
	});
	lwpid_t b = start(2, [&] {
		enter();
		t.take();
		unpark(a);
	});
	race();
	enter();
	t.take();
	leave();
	join(a);
	join(b);
	EXPECT(t.taken == 3);
	nobody_has_it();
}

// Suspended with it: others get in, and it comes back for it when it is continued.
SCENARIO(biglock_suspended_lets_others_in, 3) {
	turns t;
	lwpid_t a = start(1, [&] {
		enter();
		for (int i = 0; i < 2; i++) {
			t.take();
			userret();
		}
		t.take();
		leave();
	});
	lwpid_t b = start(2, [&] {
		enter();
		t.take();
		leave();
	});
	race();
	const int error = suspend(a);
	EXPECT(error == 0 || error == ESRCH);
	enter();
	t.take();
	leave();
	if (error == 0) {
		cont(a);
	}
	join(a);
	join(b);
	EXPECT(t.taken == 5);
	nobody_has_it();
}

// Suspended while it waits for it: that ends first.
SCENARIO(biglock_suspend_of_a_waiter, 2) {
	turns t;
	lwpid_t a = start(1, [&] {
		enter();
		t.take();
		leave();
		userret();
	});
	race();
	enter();
	t.take();
	yield();
	t.take();
	leave();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	EXPECT(t.taken == 3);
	nobody_has_it();
}

// Who has it waits for a mutex that one of its waiters has: it lets go, so both come through.
SCENARIO(biglock_and_a_mutex, 2) {
	turns t;
	kmutex m;
	const auto lock = [&m] {
		while (!mutex_trylock(&m, me()) && mutex_lock_slow(&m, me(), never) == ERESTART) {
			userret();
		}
	};
	lwpid_t a = start(1, [&] {
		lock();
		enter();
		t.take();
		leave();
		mutex_unlock(&m, me());
	});
	race();
	enter();
	lock();
	t.take();
	mutex_unlock(&m, me());
	leave();
	join(a);
	EXPECT(t.taken == 2);
	nobody_has_it();
}

// The world is stopped by one that has it: it sleeps meanwhile and keeps it, for its waiters stand still.
SCENARIO(biglock_kept_while_the_world_is_stopped, 3) {
	turns t;
	const auto turn = [&] {
		enter();
		t.take();
		leave();
		userret();
	};
	lwpid_t a = start(1, turn);
	lwpid_t b = start(2, turn);
	race();
	enter();
	EXPECT(world_stop(me(), never) == 0);
	lwp_sleep_until(me(), time_in(soon));
	t.take();
	world_continue(me());
	t.take();
	leave();
	join(a);
	join(b);
	EXPECT(t.taken == 4);
	nobody_has_it();
}
