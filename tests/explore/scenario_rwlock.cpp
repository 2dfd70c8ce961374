// SPDX-License-Identifier: BSD-2-Clause
//
// The readers/writer lock, and the circle of those that wait for each other.
#include "explore/world.h"
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

}  // namespace

// ---- readers/writer lock -------------------------------------------------------------------------------------------------------

namespace {

struct shared {
	krwlock rw{};
	kern::atomic<int> writers{0};
	kern::atomic<int> readers{0};
	int version[2] = {};

	int wrlock(nanotime deadline = never) {
		if (rwlock_trywrlock(&rw, me())) {
			return 0;
		}
		int error;
		while ((error = rwlock_wrlock_slow(&rw, me(), deadline)) == ERESTART) {
			userret();
		}
		return error;
	}
	int rdlock(nanotime deadline = never) {
		if (rwlock_rdtake(&rw)) {
			return 0;
		}
		int error;
		while ((error = rwlock_rdlock_slow(&rw, me(), deadline)) == ERESTART) {
			userret();
		}
		return error;
	}
	bool write(nanotime deadline = never) {
		const int error = wrlock(deadline);
		EXPECT(error == 0 || (error == ETIMEDOUT && deadline != never));
		if (error != 0) {
			return false;
		}
		EXPECT(writers.fetch_add(1) == 0 && readers.load() == 0);
		version[0]++;
		version[1]++;
		writers.fetch_sub(1);
		rwlock_wrunlock(&rw, me());
		userret();
		return true;
	}
	bool read(nanotime deadline = never) {
		const int error = rdlock(deadline);
		EXPECT(error == 0 || (error == ETIMEDOUT && deadline != never));
		if (error != 0) {
			return false;
		}
		readers.fetch_add(1);
		EXPECT(writers.load() == 0 && version[0] == version[1]);
		readers.fetch_sub(1);
		rwlock_rdunlock(&rw, me());
		userret();
		return true;
	}
};

}  // namespace

SCENARIO(rwlock_two_writers, 2) {
	shared s;
	lwpid_t a = start(1, [&] { (void)s.write(); });
	race();
	(void)s.write();
	join(a);
	EXPECT(s.version[0] == 2);
}

SCENARIO(rwlock_reader_and_writer, 2) {
	shared s;
	lwpid_t a = start(1, [&] {
		(void)s.read();
		(void)s.read();
	});
	race();
	(void)s.write();
	(void)s.write();
	join(a);
}

SCENARIO(rwlock_two_readers_and_a_writer, 3) {
	shared s;
	lwpid_t a = start(1, [&] { (void)s.read(); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	(void)s.write();
	join(a);
	join(b);
}

// The last reader out hands over: not before it is the last, and not to nobody.
SCENARIO(rwlock_last_reader_out, 3) {
	shared s;
	EXPECT(s.rdlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	rwlock_rdunlock(&s.rw, me());
	join(a);
	join(b);
	EXPECT(s.version[0] == 1);
}

// A waiting writer that gives up lets the readers in that waited for it only.
SCENARIO(rwlock_writer_gives_up, 3) {
	shared s;
	EXPECT(s.rdlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(time_in(soon)); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	join(b);
	rwlock_rdunlock(&s.rw, me());
	join(a);
}

SCENARIO(rwlock_writer_gives_up_as_the_last_reader_goes, 3) {
	shared s;
	EXPECT(s.rdlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(time_in(soon)); });
	lwpid_t b = start(2, [&] {
		(void)s.read();
		(void)s.write();
	});
	race();
	rwlock_rdunlock(&s.rw, me());
	join(a);
	join(b);
}

SCENARIO(rwlock_reader_gives_up, 2) {
	shared s;
	EXPECT(s.wrlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.read(time_in(soon)); });
	race();
	rwlock_wrunlock(&s.rw, me());
	(void)s.write();
	join(a);
}

SCENARIO(rwlock_writer_out_with_both_waiting, 3) {
	shared s;
	EXPECT(s.wrlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	rwlock_wrunlock(&s.rw, me());
	(void)s.read();
	join(a);
	join(b);
}

SCENARIO(rwlock_try_read, 3) {
	shared s;
	lwpid_t a = start(1, [&] { (void)s.write(); });
	lwpid_t b = start(2, [&] {
		if (rwlock_tryrdlock(&s.rw, me())) {
			EXPECT(s.version[0] == s.version[1]);
			rwlock_rdunlock(&s.rw, me());
		}
	});
	race();
	(void)s.read();
	join(a);
	join(b);
}

SCENARIO(rwlock_suspended_writer, 3) {
	shared s;
	EXPECT(s.rdlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	rwlock_rdunlock(&s.rw, me());
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(b);
}

// ---- circles -------------------------------------------------------------------------------------------------------------------

namespace {

kmutex crossed[3];
unsigned expected;

/// All of a circle wait for ever: the schedule ends here.  Not told, it ends as a deadlock, which fails.
void told(lwp_t *const *circle, unsigned count) {
	EXPECT(count == expected);
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < i; k++) {
			EXPECT(circle[i] != circle[k]);
		}
	}
	finish();
}

void false_alarm(lwp_t *const *, unsigned count) { fail("a circle of %u is told, and there is none", count); }

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
	shared s;
	kmutex m{};
	lwpid_t a = start(1, [&] {
		EXPECT(s.wrlock() == 0);
		lock(m);
		unlock(m);
		rwlock_wrunlock(&s.rw, me());
	});
	race();
	lock(m);
	EXPECT(s.rdlock() == 0);
	rwlock_rdunlock(&s.rw, me());
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
