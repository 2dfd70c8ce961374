// SPDX-License-Identifier: BSD-2-Clause
//
// Circles of LWPs that wait for each other: told the moment they close, once, and only they.
#include "explore/world.h"
#include "sync/condvar.h"
#include "sync/once.h"
#include "sync/rwlock.h"
#include "sync/waitgraph.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

int lock_until(kmutex &m, nanotime deadline) {
	return mutex_trylock(&m, me()) ? 0 : restart([&] { return mutex_lock_slow(&m, me(), deadline); });
}
void lock(kmutex &m) { EXPECT(lock_until(m, never) == 0); }
void unlock(kmutex &m) {
	mutex_unlock(&m, me());
	userret();
}

kmutex crossed[3];
unsigned expected;

void look_at(const waitgraph_circle &c) {
	EXPECT(c.wc_by == me());
	EXPECT(c.wc_count == expected);
	for (unsigned i = 0; i < c.wc_count; i++) {
		for (unsigned k = 0; k < i; k++) {
			EXPECT(c.wc_lwps[i] != c.wc_lwps[k]);
		}
	}
}

/// All of a circle wait for ever: the schedule ends here.  Not told, it ends as a deadlock, which fails.
void told(const waitgraph_circle &c) {
	EXPECT(c.wc_by == c.wc_lwps[0] && c.wc_sobj != nullptr);
	look_at(c);
	finish();
}

void false_alarm(const waitgraph_circle &c) { fail("a circle of %u is told, and there is none", c.wc_count); }

void take_two(unsigned i, unsigned n) {
	lock(crossed[i]);
	lock(crossed[(i + 1) % n]);
	unlock(crossed[(i + 1) % n]);
	unlock(crossed[i]);
}

void cross(unsigned n) {
	waitgraph_reporter.store(told);
	expected = n;
	lwpid_t ids[3] = {};
	for (unsigned i = 1; i < n; i++) {
		ids[i] = start(static_cast<int>(i), [i, n] { take_two(i, n); });
	}
	race();
	take_two(0, n);
	for (unsigned i = 1; i < n; i++) {
		join(ids[i]);
	}
}

}  // namespace

// Each announces, then looks: of a circle the last to announce sees all others.
SCENARIO_TSO(circle_of_two, 2) { cross(2); }
SCENARIO_TSO(circle_of_three, 3) { cross(3); }

// Through a writer of a readers/writer lock.
SCENARIO_TSO(circle_through_a_writer, 2) {
	waitgraph_reporter.store(told);
	expected = 2;
	krwlock rw{};
	kmutex m{};
	lwpid_t a = start(1, [&] {
		EXPECT(rwlock_trywrlock(&rw, me()) || restart([&] { return rwlock_wrlock_slow(&rw, me(), never); }) == 0);
		lock(m);
		unlock(m);
		rwlock_wrunlock(&rw, me());
	});
	race();
	lock(m);
	EXPECT(rwlock_rdtake(&rw) || restart([&] { return rwlock_rdlock_slow(&rw, me(), never); }) == 0);
	rwlock_rdunlock(&rw, me());
	unlock(m);
	join(a);
}

// Through a join.
SCENARIO_TSO(circle_through_a_join, 3) {
	waitgraph_reporter.store(told);
	expected = 2;
	kmutex m{};
	lwpid_t b = 0;
	lwpid_t a = start(1, [&] {
		lock(m);
		join(b);
		unlock(m);
	});
	b = start(2, [&] {
		lock(m);
		unlock(m);
	});
	race();
	join(a);
}

// One with a deadline goes on by itself: no circle.
SCENARIO_TSO(circle_not_with_a_deadline, 2) {
	waitgraph_reporter.store(false_alarm);
	kmutex m{};
	kmutex n{};
	lwpid_t a = start(1, [&] {
		lock(n);
		lock(m);
		unlock(m);
		unlock(n);
	});
	race();
	lock(m);
	const int error = lock_until(n, time_in(soon));
	if (error == 0) {
		unlock(n);
	}
	unlock(m);
	join(a);
}

// The same order everywhere: no circle, however they meet.
SCENARIO_TSO(circle_not_in_order, 3) {
	waitgraph_reporter.store(false_alarm);
	kmutex m{};
	kmutex n{};
	auto both = [&] {
		lock(m);
		lock(n);
		unlock(n);
		unlock(m);
	};
	lwpid_t a = start(1, both);
	lwpid_t b = start(2, [&] {
		lock(n);
		unlock(n);
		lock(m);
		unlock(m);
	});
	race();
	both();
	join(a);
	join(b);
}

// Who has it is looked up after the announcement: one that takes it between the two announces later, and finds us.
SCENARIO_TSO(circle_owner_comes_meanwhile, 3) {
	waitgraph_reporter.store(told);
	expected = 2;
	kmutex m{};
	kmutex n{};
	lock(m);
	const auto take = [](kmutex &first, kmutex &second) {
		lock(first);
		lock(second);
		unlock(second);
		unlock(first);
	};
	lwpid_t a = start(1, [&] { take(n, m); });
	lwpid_t b = start(2, [&] { take(m, n); });
	race();
	unlock(m);
	join(a);
	join(b);
}

// ---- through the function that is run once

namespace {

void call(konce &o, kmutex *inside) {
	const int error = restart([&] { return once_begin(&o, me()); });
	EXPECT(error == 0 || error == EALREADY);
	if (error == 0) {
		if (inside != nullptr) {
			lock(*inside);
			unlock(*inside);
		}
		once_end(&o, me(), true);
	}
}

}  // namespace

SCENARIO_TSO(circle_through_once, 2) {
	waitgraph_reporter.store(told);
	expected = 2;
	konce o{};
	kmutex m{};
	lwpid_t a = start(1, [&] { call(o, &m); });
	race();
	lock(m);
	call(o, nullptr);
	unlock(m);
	join(a);
}

// As circle_owner_comes_meanwhile, where nobody spins before the announcement: the first to run it fails, and the next one waits for us.
SCENARIO_TSO(circle_owner_of_a_once_changes, 3) {
	waitgraph_reporter.store(told);
	expected = 2;
	konce p{};
	konce q{};
	const auto nested = [](konce &first, konce &second) {
		if (restart([&] { return once_begin(&first, me()); }) == 0) {
			if (restart([&] { return once_begin(&second, me()); }) == 0) {
				once_end(&second, me(), true);
			}
			once_end(&first, me(), true);
		}
	};
	EXPECT(once_begin(&q, me()) == 0);
	lwpid_t a = start(1, [&] { nested(p, q); });
	lwpid_t b = start(2, [&] { nested(q, p); });
	race();
	once_end(&q, me(), false);
	join(a);
	join(b);
}

SCENARIO_TSO(circle_not_through_once, 3) {
	waitgraph_reporter.store(false_alarm);
	konce o{};
	kmutex m{};
	lwpid_t a = start(1, [&] { call(o, &m); });
	lwpid_t b = start(2, [&] {
		lock(m);
		unlock(m);
		call(o, &m);
	});
	race();
	call(o, &m);
	join(a);
	join(b);
}

// ---- through the mutex of a condition variable

namespace {

/// Two wait in a condition variable, and one of them has a mutex besides.
struct hall {
	kmutex m{};
	kmutex kept{};
	kcondvar cv{};
	bool go = false;  // m
	lwpid_t lids[2];

	void wait_inside() {
		lock(m);
		while (!go) {
			if (condvar_wait(&cv, &m, me(), never) != 0) {
				userret();
				lock(m);
			}
		}
		unlock(m);
	}
	void fill(int first, int second) {
		lids[0] = start(first,
		    [this] {
			    lock(kept);
			    wait_inside();
			    unlock(kept);
		    },
		    {.waits = false});
		lids[1] = start(second, [this] { wait_inside(); }, {.waits = false});
		while (cv.cv_waiters.front() == cv.cv_waiters.back()) {
			let_others();
		}
		go = true;
	}
	void notify_all() {
		if (condvar_waited(&cv)) {
			(void)condvar_notify_all_slow(&cv, me());
		}
	}
	void empty() {
		join(lids[0]);
		join(lids[1]);
	}
};

unsigned tells;

void count_tells(const waitgraph_circle &c) {
	look_at(c);
	tells++;
}

}  // namespace

// The mutex's owner waits for one that sleeps in the condition variable -> (a third moves that one to the mutex): the move closes the circle.
// Whether the owner announced before or after, one of the two tells, and only one.
SCENARIO_TSO(circle_closed_by_a_move, 3) {
	waitgraph_reporter.store(count_tells);
	expected = 2;
	tells = 0;
	hall h;
	h.fill(1, 1);
	lwpid_t owner = start(2, [&] {
		lock(h.m);
		lock(h.kept);
		unlock(h.kept);
		unlock(h.m);
	});
	race();
	h.notify_all();
	judge();
	lwp_sleep_until(me(), time_in(10'000'000'000));
	EXPECT(tells <= 1);
	if (tells != 0) {
		finish();
	}
	join(owner);
	h.empty();
}

// The owner moves them itself, and comes to wait for one of them afterwards.
SCENARIO_TSO(circle_after_a_move, 3) {
	waitgraph_reporter.store(told);
	expected = 2;
	hall h;
	h.fill(1, 2);
	race();
	lock(h.m);
	h.notify_all();
	lock(h.kept);
	unlock(h.kept);
	unlock(h.m);
	h.empty();
}

// The owner waits for somebody else, who will go on.
SCENARIO_TSO(circle_not_by_a_move, 3) {
	waitgraph_reporter.store(false_alarm);
	hall h;
	kmutex other{};
	lock(other);
	h.fill(1, 1);
	lwpid_t owner = start(2, [&] {
		lock(h.m);
		lock(other);
		unlock(other);
		unlock(h.m);
	});
	race();
	h.notify_all();
	unlock(other);
	join(owner);
	h.empty();
}

// Moved, and through, and waiting again: what was announced for them is taken back.
SCENARIO_TSO(circle_not_of_those_who_went_on, 3) {
	waitgraph_reporter.store(false_alarm);
	hall h;
	h.fill(1, 2);
	race();
	lock(h.m);
	h.notify_all();
	unlock(h.m);
	lock(h.kept);
	lock(h.m);
	unlock(h.m);
	unlock(h.kept);
	h.empty();
}
