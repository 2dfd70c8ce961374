// SPDX-License-Identifier: BSD-2-Clause
//
// The readers/writer lock.
#include "explore/world.h"
#include "sync/rwlock.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

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

namespace {

/// Shares it, then writes if it is the only one, and shares it again.  Whether it wrote.
bool read_and_perhaps_write(shared &s) {
	EXPECT(s.rdlock() == 0);
	const bool wrote = rwlock_tryupgrade(&s.rw, me());
	if (wrote) {
		EXPECT(s.writers.fetch_add(1) == 0 && s.readers.load() == 0);
		s.version[0]++;
		s.version[1]++;
		s.writers.fetch_sub(1);
		rwlock_downgrade(&s.rw, me());
		userret();
	}
	s.readers.fetch_add(1);
	EXPECT(s.writers.load() == 0 && s.version[0] == s.version[1]);
	s.readers.fetch_sub(1);
	rwlock_rdunlock(&s.rw, me());
	userret();
	return wrote;
}

}  // namespace

SCENARIO(rwlock_two_upgrades, 2) {
	shared s;
	bool other = false;
	lwpid_t a = start(1, [&] { other = read_and_perhaps_write(s); });
	race();
	const bool mine = read_and_perhaps_write(s);
	join(a);
	EXPECT(s.version[0] == (mine ? 1 : 0) + (other ? 1 : 0));
}

SCENARIO(rwlock_upgrade_against_a_reader_and_a_writer, 3) {
	shared s;
	lwpid_t a = start(1, [&] { (void)s.read(); });
	lwpid_t b = start(2, [&] { (void)s.write(); });
	race();
	const bool mine = read_and_perhaps_write(s);
	join(a);
	join(b);
	EXPECT(s.version[0] == (mine ? 2 : 1));
}

// It is there when they come to wait: nobody who waits is forgotten by the change to and fro.
SCENARIO(rwlock_upgrade_before_those_that_wait, 3) {
	shared s;
	EXPECT(s.rdlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	if (rwlock_tryupgrade(&s.rw, me())) {
		EXPECT(s.writers.load() == 0 && s.readers.load() == 0);
		s.version[0]++;
		s.version[1]++;
		rwlock_downgrade(&s.rw, me());
	}
	rwlock_rdunlock(&s.rw, me());
	userret();
	join(a);
	join(b);
}

SCENARIO(rwlock_downgrade_of_one_that_gives_up_behind_it, 3) {
	shared s;
	EXPECT(s.wrlock() == 0);
	lwpid_t a = start(1, [&] { (void)s.write(time_in(soon)); });
	lwpid_t b = start(2, [&] { (void)s.read(); });
	race();
	rwlock_downgrade(&s.rw, me());
	userret();
	EXPECT(s.writers.load() == 0);
	rwlock_rdunlock(&s.rw, me());
	userret();
	join(a);
	join(b);
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
