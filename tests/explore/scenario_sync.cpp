// SPDX-License-Identifier: BSD-2-Clause
//
// Semaphore, event, countdown, barrier, once, pending.
#include "explore/world.h"
#include "sync/barrier.h"
#include "sync/event.h"
#include "sync/latch.h"
#include "sync/once.h"
#include "sync/pending.h"
#include "sync/semaphore.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

int acquire(ksemaphore &s, nanotime deadline = never) {
	return semaphore_try(&s) ? 0 : restart([&] { return semaphore_acquire_slow(&s, me(), deadline); });
}
void release(ksemaphore &s, std::uint64_t n = 1) {
	semaphore_release(&s, n, me()->l_cpu);
	userret();
}

/// What frees an object spoils it; whoever touches it after that is seen.
template <class T>
struct spoiled {
	alignas(T) std::byte memory[sizeof(T)];
	T *make() { return ::new (memory) T{}; }
	void spoil() { std::memset(memory, 0xa5, sizeof(memory)); }
	void check() {
		for (std::byte b : memory) {
			EXPECT(b == std::byte{0xa5});
		}
	}
};

}  // namespace

// ---- semaphore -------------------------------------------------------------------------------------------------------------

SCENARIO(semaphore_release_against_going_to_sleep, 2) {
	ksemaphore s{};
	lwpid_t a = start(1, [&] { EXPECT(acquire(s) == 0); });
	race();
	release(s);
	join(a);
}

SCENARIO(semaphore_two_waiters_two_releases, 3) {
	ksemaphore s{};
	lwpid_t a = start(1, [&] { EXPECT(acquire(s) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(acquire(s) == 0); });
	race();
	release(s);
	release(s);
	join(a);
	join(b);
	EXPECT(!semaphore_try(&s));
}

SCENARIO(semaphore_release_of_two, 3) {
	ksemaphore s{};
	lwpid_t a = start(1, [&] { EXPECT(acquire(s) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(acquire(s) == 0); });
	race();
	release(s, 3);
	join(a);
	join(b);
	EXPECT(semaphore_try(&s));
	EXPECT(!semaphore_try(&s));
}

// One unit is handed over, the other is counted.
SCENARIO(semaphore_release_of_more_than_wait, 2) {
	ksemaphore s{};
	lwpid_t a = start(1, [&] { EXPECT(acquire(s) == 0); });
	race();
	release(s, 2);
	join(a);
	EXPECT(semaphore_try(&s));
	EXPECT(!semaphore_try(&s));
}

// The flag stays behind a hand-over: who waits next does not set it and is found all the same, and a unit that finds nobody is counted.
SCENARIO(semaphore_to_and_fro, 2) {
	ksemaphore ping{};
	ksemaphore pong{};
	lwpid_t a = start(1, [&] {
		for (int i = 0; i < 2; i++) {
			EXPECT(acquire(ping) == 0);
			release(pong);
		}
	});
	race();
	for (int i = 0; i < 2; i++) {
		release(ping);
		EXPECT(acquire(pong) == 0);
	}
	join(a);
	EXPECT(!semaphore_try(&ping) && !semaphore_try(&pong));
	release(ping);
	EXPECT(semaphore_try(&ping));
}

// A unit given as the deadline comes is taken or left, never gone.
SCENARIO(semaphore_release_against_timeout, 2) {
	ksemaphore s{};
	int error = -1;
	lwpid_t a = start(1, [&] { error = acquire(s, time_in(soon)); });
	race();
	release(s);
	join(a);
	EXPECT(error == 0 || error == ETIMEDOUT);
	EXPECT(semaphore_try(&s) == (error != 0));
}

// Both releases find the flag of one that gave up, and nobody there: the second adds to what the first has left.
SCENARIO(semaphore_two_releases_after_a_timeout, 3) {
	ksemaphore s{};
	int error = -1;
	lwpid_t a = start(1, [&] { error = acquire(s, time_in(soon)); });
	lwpid_t b = start(2, [&] { release(s); });
	race();
	release(s);
	join(a);
	join(b);
	EXPECT(error == 0 || error == ETIMEDOUT);
	EXPECT(semaphore_try(&s));
	EXPECT(semaphore_try(&s) == (error != 0));
	EXPECT(!semaphore_try(&s));
}

SCENARIO(semaphore_release_against_suspend, 3) {
	ksemaphore s{};
	lwpid_t a = start(1, [&] { EXPECT(acquire(s) == 0); });
	lwpid_t b = start(2, [&] { release(s); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(b);
	EXPECT(!semaphore_try(&s));
}

SCENARIO(semaphore_freed_by_who_got_the_unit, 2) {
	spoiled<ksemaphore> box;
	ksemaphore *s = box.make();
	// Bound, or it is woken behind the one that releases.
	lwpid_t a = start(1,
	    [&] {
		    EXPECT(acquire(*s) == 0);
		    box.spoil();
	    },
	    {.pinned = true});
	race();
	release(*s);
	join(a);
	box.check();
}

// As a mutex of two LWPs.
SCENARIO(semaphore_as_a_lock, 3) {
	ksemaphore s{};
	s.sem_word.store(ksemaphore::one);
	only_one inside;
	auto turn = [&] {
		EXPECT(acquire(s) == 0);
		inside.enter();
		inside.leave();
		release(s);
	};
	lwpid_t a = start(1, turn);
	lwpid_t b = start(2, turn);
	race();
	turn();
	join(a);
	join(b);
}

// ---- event -----------------------------------------------------------------------------------------------------------------

SCENARIO(event_set_against_wait, 2) {
	kevent e{};
	lwpid_t a = start(1, [&] { EXPECT(restart([&] { return event_wait(&e, me(), never); }) == 0); });
	race();
	event_set(&e, me()->l_cpu);
	join(a);
}

// Set and taken back at once: who waited goes through.  Whoever comes later waits for the next.
SCENARIO(event_set_and_cleared, 2) {
	kevent e{};
	lwpid_t a = start(1, [&] { EXPECT(restart([&] { return event_wait(&e, me(), never); }) == 0); });
	race();
	event_set(&e, me()->l_cpu);
	event_clear(&e);
	event_set(&e, me()->l_cpu);
	join(a);
}

SCENARIO(event_manual_lets_all_through, 3) {
	kevent e{};
	auto wait = [&] { EXPECT(restart([&] { return event_wait(&e, me(), never); }) == 0); };
	lwpid_t a = start(1, wait);
	lwpid_t b = start(2, wait);
	race();
	event_set(&e, me()->l_cpu);
	join(a);
	join(b);
}

SCENARIO(event_automatic_lets_one_through_each, 3) {
	kevent e{};
	e.ev_word.store(kevent::automatic);
	kern::atomic<int> through{0};
	auto wait = [&] {
		EXPECT(restart([&] { return event_wait(&e, me(), never); }) == 0);
		through.fetch_add(1);
		event_set(&e, me()->l_cpu);
	};
	lwpid_t a = start(1, wait);
	lwpid_t b = start(2, wait);
	race();
	event_set(&e, me()->l_cpu);
	join(a);
	join(b);
	EXPECT(through.load() == 2 && event_try(&e));
}

SCENARIO(event_automatic_against_timeout, 2) {
	kevent e{};
	e.ev_word.store(kevent::automatic);
	int error = -1;
	lwpid_t a = start(1, [&] { error = restart([&] { return event_wait(&e, me(), time_in(soon)); }); });
	race();
	event_set(&e, me()->l_cpu);
	join(a);
	EXPECT(error == 0 || error == ETIMEDOUT);
	EXPECT(event_try(&e) == (error != 0));
}

SCENARIO(event_freed_by_who_saw_it, 2) {
	spoiled<kevent> box;
	kevent *e = box.make();
	lwpid_t a = start(1, [&] {
		EXPECT(restart([&] { return event_wait(e, me(), never); }) == 0);
		box.spoil();
	});
	race();
	event_set(e, me()->l_cpu);
	join(a);
	box.check();
}

// ---- countdown, barrier, once, pending -----------------------------------------------------------------------------------------

namespace {

int await_zero(kcountdown &c, nanotime deadline = never) {
	return restart([&] { return countdown_wait(&c, me(), "test", deadline); });
}

}  // namespace

SCENARIO(countdown_last_against_wait, 2) {
	kcountdown c{};
	EXPECT(countdown_up(&c, 1));
	lwpid_t a = start(1, [&] { EXPECT(await_zero(c) == 0); });
	race();
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	join(a);
}

SCENARIO(countdown_two_that_count_and_one_that_waits, 3) {
	kcountdown c{};
	EXPECT(countdown_up(&c, 2));
	lwpid_t a = start(1, [&] { EXPECT(countdown_down(&c, 1, me()->l_cpu)); });
	lwpid_t b = start(2, [&] { EXPECT(await_zero(c) == 0); });
	race();
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	join(a);
	join(b);
}

SCENARIO(countdown_last_against_timeout, 2) {
	kcountdown c{};
	EXPECT(countdown_up(&c, 1));
	int error = -1;
	lwpid_t a = start(1, [&] { error = await_zero(c, time_in(soon)); });
	race();
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	join(a);
	EXPECT(error == 0 || error == ETIMEDOUT);
}

// At 0 it may be freed: the last one touches it no more.
SCENARIO(countdown_freed_at_zero, 3) {
	spoiled<kcountdown> box;
	kcountdown *c = box.make();
	EXPECT(countdown_up(c, 2));
	lwpid_t a = start(1, [&] { EXPECT(countdown_down(c, 1, me()->l_cpu)); });
	lwpid_t b = start(2, [&] {
		EXPECT(await_zero(*c) == 0);
		box.spoil();
	});
	race();
	EXPECT(countdown_down(c, 1, me()->l_cpu));
	join(a);
	join(b);
	box.check();
}

// It counts anew before those that waited have looked: they were told.
SCENARIO(countdown_goes_up_again, 2) {
	kcountdown c{};
	EXPECT(countdown_up(&c, 1));
	lwpid_t a = start(1, [&] { EXPECT(await_zero(c) == 0); });
	race();
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	EXPECT(countdown_up(&c, 1));
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	join(a);
}

// The number was 0 -> (it counts anew, and stays) -> who slept goes on all the same: it was told, and does not look again.
SCENARIO(countdown_goes_up_before_they_look, 2) {
	kcountdown c{};
	EXPECT(countdown_up(&c, 1));
	lwpid_t a = start(1, [&] { EXPECT(await_zero(c) == 0); }, {.waits = false});
	while (c.cd_waiters.empty()) {
		let_others();
	}
	race();
	EXPECT(countdown_down(&c, 1, me()->l_cpu));
	EXPECT(countdown_up(&c, 1));
	join(a);
}

SCENARIO(barrier_two_phases, 3) {
	kbarrier b{};
	b.br_pending.store(3);
	b.br_expected.store(3);
	kern::atomic<int> arrived{0};
	auto body = [&] {
		for (int phase = 0; phase < 2; phase++) {
			const std::uint64_t mine = b.br_phase.load();
			arrived.fetch_add(1);
			const arrival how = barrier_arrive(&b, 1);
			EXPECT(how != arrival::too_many);
			if (how == arrival::last) {
				barrier_end_phase(&b, me()->l_cpu);
			} else {
				(void)restart([&] { return barrier_wait(&b, me(), mine); });
			}
			EXPECT(arrived.load() >= 3 * (phase + 1));
		}
	};
	lwpid_t a = start(1, body);
	lwpid_t c = start(2, body);
	race();
	body();
	join(a);
	join(c);
}

// Who sees without the lock that the phase is over arrives in the next one at once: as many are awaited there again.
SCENARIO(barrier_seen_without_the_lock, 2) {
	kbarrier b{};
	b.br_pending.store(2);
	b.br_expected.store(2);
	auto body = [&] {
		for (int phase = 0; phase < 3; phase++) {
			const std::uint64_t mine = b.br_phase.load();
			const arrival how = barrier_arrive(&b, 1);
			EXPECT(how != arrival::too_many);
			if (how == arrival::last) {
				barrier_end_phase(&b, me()->l_cpu);
			}
			while (b.br_phase.load() == mine) {
				cpu_relax();
			}
		}
	};
	lwpid_t a = start(1, body);
	race();
	body();
	join(a);
}

namespace {

struct once_box {
	konce o{};
	kern::atomic<int> runs{0};
	int made = 0;

	void call(bool fails = false, bool slow = false) {
		for (;;) {
			const int error = once_begin(&o, me());
			if (error == EALREADY) {
				EXPECT(made == 1);
				return;
			}
			if (error == ERESTART) {
				userret();
				continue;
			}
			EXPECT(error == 0);
			EXPECT(runs.fetch_add(1) == 0);
			if (slow) {
				lwp_sleep_until(me(), time_in(soon));  // all others wait
			}
			made += fails ? 0 : 1;
			runs.fetch_sub(1);
			once_end(&o, me(), !fails);
			if (fails) {
				return;
			}
		}
	}
};

}  // namespace

SCENARIO(once_two, 2) {
	once_box o;
	lwpid_t a = start(1, [&] { o.call(); });
	race();
	o.call();
	join(a);
}

SCENARIO(once_three, 3) {
	once_box o;
	lwpid_t a = start(1, [&] { o.call(); });
	lwpid_t b = start(2, [&] { o.call(); });
	race();
	o.call();
	join(a);
	join(b);
}

SCENARIO(once_crowd_is_woken_in_rounds, 2) {
	once_box o;
	lwpid_t ids[6];
	for (int i = 0; i < 6; i++) {
		ids[i] = start(i % 2, [&] { o.call(false, true); });
	}
	race();
	o.call(false, true);
	for (lwpid_t lid : ids) {
		join(lid);
	}
}

// The first fails: the next one runs it.
SCENARIO(once_fails_first, 3) {
	once_box o;
	lwpid_t a = start(1, [&] { o.call(true); });
	lwpid_t b = start(2, [&] { o.call(); });
	race();
	o.call();
	join(a);
	join(b);
	EXPECT(o.made == 1);
}

SCENARIO(once_waiter_is_suspended, 3) {
	once_box o;
	lwpid_t a = start(1, [&] { o.call(); });
	lwpid_t b = start(2, [&] { o.call(); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(b);
}

SCENARIO(pending_done_against_wait, 2) {
	kpending p{};
	pending_add(&p, 1);
	lwpid_t a = start(1, [&] { EXPECT(restart([&] { return pending_wait(&p, me(), "test"); }) == 0); });
	race();
	pending_done(&p, me()->l_cpu);
	join(a);
}

SCENARIO(pending_freed_when_none_is, 3) {
	spoiled<kpending> box;
	kpending *p = box.make();
	pending_add(p, 2);
	lwpid_t a = start(1, [&] { pending_done(p, me()->l_cpu); });
	lwpid_t b = start(2, [&] {
		EXPECT(restart([&] { return pending_wait(p, me(), "test"); }) == 0);
		box.spoil();
	});
	race();
	pending_done(p, me()->l_cpu);
	join(a);
	join(b);
	box.check();
}

// One waits with a deadline, gives up, asks again without a wait, and frees it.
SCENARIO(pending_freed_after_a_timeout, 2) {
	spoiled<kpending> box;
	kpending *p = box.make();
	pending_add(p, 1);
	lwpid_t a = start(1, [&] {
		while (restart([&] { return pending_wait(p, me(), "test", time_in(soon)); }) != 0) {
		}
		box.spoil();
	});
	race();
	pending_done(p, me()->l_cpu);
	join(a);
	box.check();
}
