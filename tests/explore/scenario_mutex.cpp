// SPDX-License-Identifier: BSD-2-Clause
//
// The mutex and the two condition variables.
#include "explore/world.h"
#include "sync/condvar.h"
#include "sync/mutex.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

int lock_until(kmutex &m, nanotime deadline) {
	lwp_t *l = me();
	if (mutex_trylock(&m, l)) {
		return 0;
	}
	int error;
	while ((error = mutex_lock_slow(&m, me(), deadline)) == ERESTART) {
		userret();
	}
	return error;
}

void lock(kmutex &m) { EXPECT(lock_until(m, never) == 0); }
void unlock(kmutex &m) {
	mutex_unlock(&m, me());
	userret();
}

struct guarded {
	kmutex m{};
	only_one inside;
	int turns = 0;

	void turn() {
		lock(m);
		inside.enter();
		turns++;
		inside.leave();
		unlock(m);
	}
	bool try_until(nanotime deadline) {
		const int error = lock_until(m, deadline);
		EXPECT(error == 0 || error == ETIMEDOUT);
		if (error != 0) {
			return false;
		}
		inside.enter();
		turns++;
		inside.leave();
		unlock(m);
		return true;
	}
};

}  // namespace

// ---- mutex -----------------------------------------------------------------------------------------------------------------

SCENARIO(mutex_two, 2) {
	guarded g;
	lwpid_t a = start(1, [&] { g.turn(); });
	race();
	g.turn();
	join(a);
	EXPECT(g.turns == 2);
}

SCENARIO(mutex_three_twice, 3) {
	guarded g;
	auto twice = [&] {
		g.turn();
		g.turn();
	};
	lwpid_t a = start(1, twice);
	lwpid_t b = start(2, twice);
	race();
	twice();
	join(a);
	join(b);
	EXPECT(g.turns == 6);
}

// More LWPs than vCPUs: the woken one must get there, the starved one is handed it.
SCENARIO(mutex_crowd, 2) {
	guarded g;
	lwpid_t ids[4];
	for (int i = 0; i < 4; i++) {
		ids[i] = start(i % 2, [&] {
			g.turn();
			g.turn();
		});
	}
	race();
	g.turn();
	for (lwpid_t lid : ids) {
		join(lid);
	}
	EXPECT(g.turns == 9);
}

// The owner's unlock against the waiter's "waited" flag and its way to sleep.
SCENARIO(mutex_unlock_against_going_to_sleep, 2) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); });
	race();
	unlock(g.m);
	join(a);
	EXPECT(g.turns == 1);
}

// The waiter times out as the unlock picks it.
SCENARIO(mutex_unlock_against_timeout, 2) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { (void)g.try_until(time_in(soon)); });
	race();
	unlock(g.m);
	g.turn();
	join(a);
}

// One of two waiters times out: the other is not forgotten.
SCENARIO(mutex_timeout_beside_a_waiter, 3) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { (void)g.try_until(time_in(soon)); });
	lwpid_t b = start(2, [&] { g.turn(); });
	race();
	unlock(g.m);
	join(a);
	join(b);
	EXPECT(g.turns >= 1);
}

// The woken one is suspended before it looks: the others wait for nobody.
SCENARIO(mutex_woken_one_is_suspended, 3) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); });
	lwpid_t b = start(2, [&] { g.turn(); });
	race();
	unlock(g.m);
	if (suspend(a) == 0) {
		cont(a);
	}
	join(b);
	join(a);
	EXPECT(g.turns == 2);
}

// A waiter that times out while it is the one that was woken.
SCENARIO(mutex_woken_one_is_late, 3) {
	guarded g;
	lwpid_t a = start(1, [&] { (void)g.try_until(time_in(soon)); });
	lwpid_t b = start(2, [&] {
		g.turn();
		g.turn();
	});
	race();
	g.turn();
	g.turn();
	join(a);
	join(b);
	EXPECT(g.turns >= 4);
}

// Whoever gets it may destroy it: the one that unlocked does not touch it any more.
SCENARIO(mutex_destroyed_by_the_next_owner, 2) {
	alignas(kmutex) std::byte memory[sizeof(kmutex)];
	auto *m = ::new (memory) kmutex{};
	lock(*m);
	lwpid_t a = start(1, [&] {
		lock(*m);
		mutex_unlock(m, me());
		std::memset(memory, 0xa5, sizeof(memory));
	});
	race();
	unlock(*m);
	join(a);
	for (std::byte b : memory) {
		EXPECT(b == std::byte{0xa5});
	}
}

// The owner sleeps, so nobody spins for it: both are in the line when it unlocks.
SCENARIO(mutex_owner_sleeps, 3) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); });
	lwpid_t b = start(2, [&] { g.turn(); });
	race();
	lwp_sleep_until(me(), time_in(soon));
	unlock(g.m);
	join(a);
	join(b);
	EXPECT(g.turns == 2);
}

// The same, and one of them has no more time than that: woken and late, it still looks.
SCENARIO(mutex_owner_sleeps_and_one_is_late, 3) {
	guarded g;
	lock(g.m);
	const nanotime end = time_in(soon);
	lwpid_t a = start(1, [&, end] { (void)g.try_until(end); });
	lwpid_t b = start(2, [&] { g.turn(); });
	race();
	lwp_sleep_until(me(), end - 1);
	unlock(g.m);
	g.turn();
	join(a);
	join(b);
	EXPECT(g.turns >= 2);
}

SCENARIO(mutex_owner_sleeps_and_the_woken_one_is_suspended, 3) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); });
	lwpid_t b = start(2, [&] { g.turn(); });
	race();
	lwp_sleep_until(me(), time_in(soon));
	unlock(g.m);
	if (suspend(a) == 0) {
		cont(a);
	}
	join(b);
	join(a);
	EXPECT(g.turns == 2);
}

// A better one waits for the same mutex: it is woken though a worse one is on its way.
SCENARIO(mutex_better_waiter, 3) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); }, {.priority = 10});
	lwpid_t b = start(2, [&] { g.turn(); }, {.priority = 50});
	race();
	unlock(g.m);
	g.turn();
	join(a);
	join(b);
	EXPECT(g.turns == 3);
}

SCENARIO(mutex_interrupted_waiter, 2) {
	guarded g;
	lock(g.m);
	lwpid_t a = start(1, [&] { g.turn(); });
	race();
	(void)lwp_wakeup(me(), a);
	unlock(g.m);
	join(a);
	EXPECT(g.turns == 1);
}

// ---- condition variable ------------------------------------------------------------------------------------------------------

namespace {

struct box {
	kmutex m{};
	kcondvar cv{};
	int value = 0;

	/// 0, or ETIMEDOUT with the value below `least`.
	int await(int least, nanotime deadline = never) {
		lock(m);
		int error = 0;
		while (value < least && error != ETIMEDOUT) {
			error = condvar_wait(&cv, &m, me(), deadline);
			if (error != 0) {
				userret();
				lock(m);
			}
		}
		const int result = value >= least ? 0 : error;
		unlock(m);
		return result;
	}
	void take_one() {
		lock(m);
		while (value == 0) {
			if (condvar_wait(&cv, &m, me(), never) != 0) {
				userret();
				lock(m);
			}
		}
		value--;
		unlock(m);
	}
	void put(int n, bool all, bool inside = true) {
		lock(m);
		value += n;
		if (inside) {
			notify(all);
		}
		unlock(m);
		if (!inside) {
			notify(all);
		}
	}
	void notify(bool all) {
		if (condvar_waited(&cv)) {
			(void)(all ? condvar_notify_all_slow(&cv, me()) : condvar_notify_one_slow(&cv, me()));
		}
	}
};

}  // namespace

// Between joining the line and giving up the mutex nobody can notify past it.
SCENARIO(condvar_notify_against_wait, 2) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	race();
	b.put(1, false);
	join(a);
}

SCENARIO(condvar_notify_outside_of_the_mutex, 2) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	race();
	b.put(1, false, false);
	join(a);
}

// The mutex is contended, so the waiter lets the line go for a moment, with the mutex still its own: who notifies then finds nobody, and the next one must not
// believe that.
SCENARIO(condvar_notified_before_it_is_in_the_line, 3) {
	box b;
	lwpid_t a = start(1,
	    [&] {
		    lock(b.m);
		    await_arm();
		    while (b.value == 0) {
			    if (condvar_wait(&b.cv, &b.m, me(), never) != 0) {
				    userret();
				    lock(b.m);
			    }
		    }
		    unlock(b.m);
	    },
	    {.waits = false});
	while (awaiting_arm() == 0) {
		let_others();
	}
	lwpid_t c = start(2,
	    [&] {
		    lock(b.m);
		    unlock(b.m);
	    },
	    {.waits = false});
	while (b.m.mtx_waiters.front() == nullptr) {
		let_others();
	}
	// Another has the lock of the mutex' line.
	lwpid_t d = start(2, [&] {
		spinlock *line = waiters_lock(&b.m.mtx_waiters);
		line->lock(me()->l_cpu);
		now();  // a point
		line->unlock(me()->l_cpu);
	});
	while (awaiting_arm() != 2) {
		let_others();
	}
	race();
	b.notify(false);
	b.put(1, false);
	join(a);
	join(c);
	join(d);
}

SCENARIO(condvar_notify_all_of_two, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(2, [&] { (void)b.await(1); });
	race();
	b.put(1, true);
	join(a);
	join(c);
}

// Moved to the mutex' line, free or owned, waited for or not.
SCENARIO(condvar_move_against_unlock, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(1, [&] { (void)b.await(1); });
	lwpid_t d = start(2, [&] {
		lock(b.m);
		unlock(b.m);
		lock(b.m);
		unlock(b.m);
	});
	race();
	b.put(1, true, false);
	join(a);
	join(c);
	join(d);
}

// One notification and one deadline: a notification is not lost in a waiter that is late.
SCENARIO(condvar_notification_is_not_lost_in_a_timeout, 3) {
	box b;
	bool took = false;
	lwpid_t a = start(1, [&] {
		lock(b.m);
		int error = 0;
		while (b.value == 0 && error != ETIMEDOUT) {
			error = condvar_wait(&b.cv, &b.m, me(), 1'000'500'000);
			if (error != 0) {
				userret();
				lock(b.m);
			}
		}
		took = b.value != 0;
		b.value -= took ? 1 : 0;
		unlock(b.m);
	});
	lwpid_t c = start(2, [&] { b.take_one(); });
	race();
	b.put(1, false);
	join(a);
	if (took) {
		b.put(1, false);
	}
	join(c);
}

// Moved with a deadline: from then on it has none.
SCENARIO(condvar_move_against_timeout, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1, time_in(soon)); });
	lwpid_t c = start(2, [&] { (void)b.await(1, time_in(soon)); });
	race();
	b.put(1, true);
	join(a);
	join(c);
}

// Moved in time, and kept from the mutex until the deadline is over: they were notified.
SCENARIO(condvar_moved_in_time_is_not_late, 3) {
	box b;
	const nanotime deadline = time_in(soon);
	int results[2] = {-1, -1};
	const auto body = [&](int i) {
		lock(b.m);
		results[i] = condvar_wait(&b.cv, &b.m, me(), deadline);
		if (results[i] != 0) {
			userret();
			lock(b.m);
		}
		unlock(b.m);
	};
	lwpid_t a = start(1, [&] { body(0); });
	lwpid_t c = start(2, [&] { body(1); });
	race();
	lock(b.m);
	const bool both = b.cv.cv_waiters.front() != b.cv.cv_waiters.back();
	bool in_time = false;
	if (both) {
		(void)condvar_notify_all_slow(&b.cv, me());
		in_time = now() < deadline;
		lwp_sleep_until(me(), deadline + soon);
	}
	unlock(b.m);
	join(a);
	join(c);
	EXPECT(!in_time || (results[0] == 0 && results[1] == 0));
}

SCENARIO(condvar_move_against_suspend, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(2, [&] { (void)b.await(1); });
	race();
	b.put(1, true);
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(c);
}

// A wait gives up a mutex that others wait for: the slow way, with two locks.
SCENARIO(condvar_wait_gives_up_a_contended_mutex, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(2); });
	lwpid_t c = start(2, [&] { b.put(1, false); });
	race();
	b.put(1, false);
	join(c);
	join(a);
}

SCENARIO(condvar_producer_two_consumers, 3) {
	box b;
	lwpid_t a = start(1, [&] { b.take_one(); });
	lwpid_t c = start(2, [&] { b.take_one(); });
	race();
	b.put(1, false);
	b.put(1, false);
	join(a);
	join(c);
	EXPECT(b.value == 0);
}

// Two that notify all, at once.
SCENARIO(condvar_two_that_notify_all, 4) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(2, [&] { (void)b.await(1); });
	lwpid_t d = start(3, [&] { b.put(1, true, false); });
	race();
	b.put(1, true, false);
	join(a);
	join(c);
	join(d);
}

// One of them waits for the mutex' line meanwhile, which a third has: when it comes to it, all may be through.
SCENARIO(condvar_two_that_notify_all_and_a_busy_line, 3) {
	box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); }, {.waits = false});
	lwpid_t c = start(1, [&] { (void)b.await(1); }, {.waits = false});
	while (b.cv.cv_waiters.front() == b.cv.cv_waiters.back()) {
		let_others();
	}
	const auto notify_all = [&] {
		if (condvar_waited(&b.cv)) {
			(void)condvar_notify_all_slow(&b.cv, me());
		}
	};
	lwpid_t d = start(2, [&] {
		spinlock *line = waiters_lock(&b.m.mtx_waiters);
		line->lock(me()->l_cpu);
		now();  // a point
		line->unlock(me()->l_cpu);
		notify_all();
	});
	b.value = 1;
	race();
	notify_all();
	join(a);
	join(c);
	join(d);
}

// ---- condition variable of any lock --------------------------------------------------------------------------------------------

namespace {

struct any_box {
	kmutex m{};
	kcondany cv{};
	int value = 0;

	int await(int least, nanotime deadline = never) {
		lock(m);
		int result = 0;
		while (value < least && result == 0) {
			cond_record r(me(), &cv);
			condany_hang(&r);
			unlock(m);
			int error;
			while ((error = grant_wait(&r.cr_grant, "test", deadline, &condany_syncobj)) == ERESTART || error == EINTR) {
				userret();
			}
			if (error == ETIMEDOUT) {
				condany_unhang(&r);
				result = ETIMEDOUT;
			}
			lock(m);
		}
		const bool enough = value >= least;
		unlock(m);
		return enough ? 0 : result;
	}
	void put(bool all) {
		lock(m);
		value++;
		unlock(m);
		condany_notify(&cv, all, me()->l_cpu);
	}
};

}  // namespace

SCENARIO(condany_notify_against_wait, 2) {
	any_box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	race();
	b.put(false);
	join(a);
}

SCENARIO(condany_notify_against_timeout, 2) {
	any_box b;
	lwpid_t a = start(1, [&] { (void)b.await(1, time_in(soon)); });
	race();
	b.put(false);
	join(a);
}

SCENARIO(condany_notify_all_of_two, 3) {
	any_box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(2, [&] { (void)b.await(1, time_in(soon)); });
	race();
	b.put(true);
	join(a);
	join(c);
}

// One each: the second notification finds the second waiter.
SCENARIO(condany_notify_one_each, 3) {
	any_box b;
	lwpid_t a = start(1, [&] { (void)b.await(1); });
	lwpid_t c = start(2, [&] { (void)b.await(1); });
	race();
	b.put(false);
	condany_notify(&b.cv, false, me()->l_cpu);
	join(a);
	join(c);
}
