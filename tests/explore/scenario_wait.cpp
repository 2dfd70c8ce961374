// SPDX-License-Identifier: BSD-2-Clause
//
// Wait, exit, detach; the deadlock rule among the parts of the proc; references; recycling.
#include "explore/world.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

bool is(int error, int a, int b) { return error == a || error == b; }

}  // namespace

// The end of an LWP against the beginning of the wait for it.
SCENARIO(wait_against_exit, 2) {
	lwpid_t a = start(1, [] {});
	race();
	join(a);
}

// An LWP of the waiter's own part, which another vCPU has taken.
SCENARIO(wait_near_against_exit, 2) {
	lwpid_t b = start(1, [] {
		lwpid_t child = start(0, [] {}, {.waits = false});
		join(child);
	});
	race();
	join(b);
}

// Two that wait for one: one collects, the other is told.
SCENARIO(wait_two_for_one, 3) {
	lwpid_t a = start(1, [] {});
	int second = -1;
	lwpid_t b = start(2, [&] { second = wait_for(a); });
	race();
	const int first = wait_for(a);
	join(b);
	EXPECT((first == 0 && second == ESRCH) || (first == ESRCH && second == 0));
}

SCENARIO(wait_three_for_one, 4) {
	lwpid_t a = start(1, [] {});
	int results[3] = {-1, -1, -1};
	lwpid_t b = start(2, [&] { results[1] = wait_for(a); });
	lwpid_t c = start(3, [&] { results[2] = wait_for(a); });
	race();
	results[0] = wait_for(a);
	join(b);
	join(c);
	int collected = 0;
	for (int r : results) {
		EXPECT(is(r, 0, ESRCH));
		collected += r == 0 ? 1 : 0;
	}
	EXPECT(collected == 1);
}

// Waits for any: each of two dead is given to one.
SCENARIO(wait_any_collects_each_once, 3) {
	lwpid_t a = start(1, [] {});
	lwpid_t b = start(2, [] {});
	race();
	lwpid_t first = 0;
	lwpid_t second = 0;
	EXPECT(wait_for(0, &first) == 0);
	EXPECT(wait_for(0, &second) == 0);
	EXPECT((first == a && second == b) || (first == b && second == a));
	EXPECT(wait_for(0) == ESRCH);
}

// A wait for any against a wait for that one.
SCENARIO(wait_any_against_wait_for_it, 3) {
	lwpid_t a = start(1, [] {});
	int by_id = -1;
	lwpid_t b = start(2, [&] { by_id = wait_for(a); });
	race();
	lwpid_t first = 0;
	EXPECT(wait_for(0, &first) == 0);
	EXPECT(first == a || first == b);
	if (first == a) {
		join(b);
		EXPECT(by_id == ESRCH);
	} else {
		EXPECT(by_id == 0 || wait_for(a) == 0);
	}
}

// Two that wait for any, and one that ends.
SCENARIO(wait_any_two, 3) {
	lwpid_t a = start(1, [] {});
	lwpid_t got = 0;
	int error = -1;
	lwpid_t b = start(2, [&] { error = wait_for(0, &got); });
	race();
	lwpid_t mine = 0;
	const int my_error = wait_for(0, &mine);
	EXPECT(is(my_error, 0, EDEADLK));
	if (my_error == 0 && mine == a) {
		const int again = wait_for(b);  // it waits for any, we for it: one of us is told
		EXPECT(is(again, 0, EDEADLK));
		if (again == EDEADLK) {
			(void)lwp_wakeup(me(), b);
			join(b);
			EXPECT(error == EINTR || error == EDEADLK);
		} else {
			EXPECT(error == EDEADLK || error == ESRCH);
		}
	} else if (my_error == 0) {
		EXPECT(mine == b);
		EXPECT(error == 0 ? got == a : wait_for(a) == 0);
	} else {
		EXPECT(wait_for(b) == 0);
	}
}

// ---- detach ----------------------------------------------------------------------------------------------------------------

// A detach against the end: collected by nobody, once.
SCENARIO(detach_against_exit, 2) {
	lwpid_t a = start(1, [] {});
	race();
	EXPECT(lwp_detach(me(), a) == 0);
}

// The waiter of one that is detached is told.
SCENARIO(detach_against_wait, 3) {
	lwpid_t a = start(1, [] {});
	int waited = -1;
	lwpid_t b = start(2, [&] { waited = wait_for(a); });
	race();
	const int detached = lwp_detach(me(), a);
	join(b);
	EXPECT((detached == 0 && waited == ESRCH) || (detached == ESRCH && waited == 0));
}

SCENARIO(detach_twice, 3) {
	lwpid_t a = start(1, [] { (void)park(time_in(soon)); });
	int second = -1;
	lwpid_t b = start(2, [&] { second = lwp_detach(me(), a); });
	race();
	const int first = lwp_detach(me(), a);
	join(b);
	EXPECT((first == 0) != (second == 0));
}

// Detached ones end one after the other: each buries the one before it, off its stack.
SCENARIO(detached_bury_each_other, 3) {
	kern::atomic<int> ended{0};
	for (int v : {1, 2}) {
		(void)start(v, [&] { ended.fetch_add(1); }, {.detached = true});
	}
	(void)start(1, [&] { ended.fetch_add(1); }, {.detached = true});
	race();
	while (ended.load() != 3) {
		cpu_relax();
	}
	lwpid_t last = start(anywhere, [] {});
	join(last);
}

// Made from one that has just ended on another vCPU: not before that is off its stack.
SCENARIO(recycled_as_it_leaves_its_stack, 2) {
	int runs = 0;
	lwpid_t a = start(1, [&] { runs++; });
	race();
	join(a);
	for (int i = 0; i < 2; i++) {
		lwpid_t b = start(1, [&] { runs++; }, {.waits = false});
		join(b);
	}
	EXPECT(runs == 3);
}

SCENARIO(recycled_by_the_creator_of_many, 3) {
	kern::atomic<int> runs{0};
	auto maker = [&] {
		for (int i = 0; i < 2; i++) {
			lwpid_t c = start(anywhere, [&] { runs.fetch_add(1); });
			join(c);
		}
	};
	lwpid_t a = start(1, maker);
	lwpid_t b = start(2, maker);
	race();
	join(a);
	join(b);
	EXPECT(runs.load() == 4);
}

// Ends by lwp_exit() in the middle of its function.
SCENARIO(exit_in_the_middle, 2) {
	bool after = false;
	lwpid_t a = start(1, [&] {
		lwp_exit(me());
		after = true;
	});
	race();
	join(a);
	EXPECT(!after);
}

// ---- deadlock rule ---------------------------------------------------------------------------------------------------------

// The only wait is one of another part, for LWP 1, which suspends itself: its waiter is told, and lets it go on.
SCENARIO(deadlock_of_a_far_waiter_alone, 2) {
	const lwpid_t us = lwp_lid(me());
	int error = -1;
	lwpid_t a = start_in_part(1, [&] {
		error = wait_for(us);
		cont(us);
	});
	race();
	EXPECT(suspend(us) == 0);
	join(a);
	EXPECT(error == EDEADLK);
}

// Two that wait for each other: exactly one is told.
SCENARIO(deadlock_of_two, 3) {
	lwpid_t a = 0;
	lwpid_t b = 0;
	int results[2] = {-1, -1};
	a = start(1, [&] { results[0] = wait_for(b); });
	b = start(2, [&] { results[1] = wait_for(a); });
	race();
	int mine[2];
	mine[0] = wait_for(a);
	mine[1] = wait_for(b);
	judge();
	EXPECT(is(mine[0], 0, ESRCH) && is(mine[1], 0, ESRCH));
	int told = 0;
	for (int r : results) {
		EXPECT(r == EDEADLK || is(r, 0, ESRCH));
		told += r == EDEADLK ? 1 : 0;
	}
	EXPECT(told <= 1);
	EXPECT(told == 1 || results[0] == ESRCH || results[1] == ESRCH);
}

// Three in a circle, in three parts.
SCENARIO(deadlock_of_three, 4) {
	lwpid_t ids[3] = {};
	int results[3] = {-1, -1, -1};
	for (int i = 0; i < 3; i++) {
		ids[i] = start(i + 1, [&, i] { results[i] = wait_for(ids[(i + 1) % 3]); });
	}
	race();
	for (lwpid_t lid : ids) {
		(void)wait_for(lid);
	}
	judge();
	int told = 0;
	for (int r : results) {
		EXPECT(r == EDEADLK || is(r, 0, ESRCH));
		told += r == EDEADLK ? 1 : 0;
	}
	EXPECT(told <= 1);
}

// All parts dry by waits of different parts at the same moment: somebody sees it (proc_dry's fence).
SCENARIO_TSO(dry_by_two_waits_at_once, 2) {
	const lwpid_t us = lwp_lid(me());
	int theirs = -1;
	lwpid_t a = start(1, [&] { theirs = wait_for(us); });
	race();
	const int mine = wait_for(a);
	judge();
	EXPECT(mine == 0 || mine == EDEADLK);
	if (mine == EDEADLK) {
		(void)lwp_wakeup(me(), a);
		join(a);
	}
	EXPECT(mine == EDEADLK || theirs == EDEADLK);
}

// The same, each waiting for one that is suspended, in its own part: no chain, only the count.
SCENARIO_TSO(dry_by_two_that_wait_for_stopped, 2) {
	lwpid_t mine = start(anywhere, [] {}, {.suspended = true});
	int theirs = -1;
	kern::atomic<lwpid_t> stopped{0};
	lwpid_t a = start_in_part(1, [&] {
		stopped.store(start(anywhere, [] {}, {.suspended = true}));
		theirs = wait_for(stopped.load());
		if (theirs == EDEADLK) {
			(void)lwp_continue(me(), stopped.load());
			(void)wait_for(stopped.load());
			(void)lwp_continue(me(), mine);
		}
	});
	race();
	const int error = wait_for(mine);
	if (error == EDEADLK) {
		(void)lwp_continue(me(), mine);
		EXPECT(wait_for(mine) == 0);
		while (stopped.load() == 0) {
			cpu_relax();
		}
		(void)lwp_continue(me(), stopped.load());
	} else {
		EXPECT(error == 0);
	}
	join(a);
	judge();
	EXPECT(error == EDEADLK || theirs == EDEADLK);
}

// One part becomes dry by a wait, the other by an end: the last step asks.
SCENARIO_TSO(dry_by_a_wait_and_an_end, 2) {
	lwpid_t stopped = start(anywhere, [] {}, {.suspended = true});
	(void)start(1, [] {}, {.detached = true});
	race();
	const int error = wait_for(stopped);
	EXPECT(error == EDEADLK);
	(void)lwp_continue(me(), stopped);
	EXPECT(wait_for(stopped) == 0);
}

// By a wait and a stop.
SCENARIO_TSO(dry_by_a_wait_and_a_stop, 3) {
	lwpid_t stopped = start(anywhere, [] {}, {.suspended = true});
	lwpid_t b = start(1, [] {
		for (int i = 0; i < 3; i++) {
			userret();
		}
	});
	lwpid_t c = start(2, [b] { (void)lwp_suspend(me(), b); });
	race();
	const int error = wait_for(stopped);
	EXPECT(error == EDEADLK);
	(void)lwp_continue(me(), stopped);
	(void)lwp_continue(me(), b);
	EXPECT(wait_for(stopped) == 0);
	join(c);
	(void)lwp_continue(me(), b);
	join(b);
}

// An LWP that is given to a waiter in the same moment: nobody is told of a deadlock that is none.
SCENARIO_TSO(dry_not_while_a_child_ends, 2) {
	lwpid_t child = start(1, [] {});
	race();
	join(child);  // EDEADLK fails
}

SCENARIO_TSO(dry_not_while_two_end, 3) {
	int error = -1;
	lwpid_t child = start(1, [] {});
	lwpid_t a = start(2, [&] { error = wait_for(child); });
	race();
	join(a);
	EXPECT(error == 0);
}

// ---- among parts -------------------------------------------------------------------------------------------------------------

SCENARIO(far_wait_against_exit, 2) {
	lwpid_t a = start_in_part(1, [] {});
	race();
	join(a);
}

SCENARIO(far_wait_two_for_one, 3) {
	lwpid_t a = start_in_part(1, [] {});
	int second = -1;
	lwpid_t b = start(2, [&] { second = wait_for(a); });
	race();
	const int first = wait_for(a);
	join(b);
	EXPECT((first == 0 && second == ESRCH) || (first == ESRCH && second == 0));
}

// A zombie of another part is found by who waits for any, before it sleeps or in its sleep.
SCENARIO(far_wait_any, 2) {
	lwpid_t a = start_in_part(1, [] {});
	race();
	lwpid_t who = 0;
	EXPECT(wait_for(0, &who) == 0 && who == a);
}

SCENARIO(far_wait_any_of_both_parts, 3) {
	lwpid_t a = start_in_part(1, [] {});
	lwpid_t b = start(2, [] {});
	race();
	lwpid_t first = 0;
	lwpid_t second = 0;
	EXPECT(wait_for(0, &first) == 0 && wait_for(0, &second) == 0);
	EXPECT((first == a && second == b) || (first == b && second == a));
}

SCENARIO(far_wait_interrupted_against_exit, 3) {
	lwpid_t child = start_in_part(1, [] {});
	int error = -1;
	lwpid_t a = start(2, [&] { error = wait_for(child); });
	race();
	(void)lwp_wakeup(me(), a);
	join(a);
	EXPECT(is(error, 0, EINTR));
	if (error == EINTR) {
		join(child);
	}
}

SCENARIO(far_wait_suspended_against_exit, 3) {
	lwpid_t child = start_in_part(1, [] {});
	int error = -1;
	lwpid_t a = start(2, [&] { error = wait_for(child); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	EXPECT(error == 0);
}

SCENARIO(far_detach_against_wait, 3) {
	lwpid_t a = start_in_part(1, [] {});
	int waited = -1;
	lwpid_t b = start(2, [&] { waited = wait_for(a); });
	race();
	const int detached = lwp_detach(me(), a);
	join(b);
	EXPECT((detached == 0 && waited == ESRCH) || (detached == ESRCH && waited == 0));
}

// Each waits for the other, in two parts: one is told.
SCENARIO_TSO(far_deadlock_of_two, 2) {
	const lwpid_t us = lwp_lid(me());
	int theirs = -1;
	lwpid_t a = start_in_part(1, [&] { theirs = wait_for(us); });
	race();
	const int mine = wait_for(a);
	judge();
	EXPECT(mine == 0 || mine == EDEADLK);
	if (mine == EDEADLK) {
		(void)lwp_wakeup(me(), a);
		join(a);
	}
	EXPECT(mine == EDEADLK || theirs == EDEADLK);
}

// ---- interrupts of waits -----------------------------------------------------------------------------------------------------

// _lwp_wakeup against the end: the zombie is not lost.
SCENARIO(wait_interrupted_against_exit, 3) {
	lwpid_t child = start(1, [] {});
	int error = -1;
	lwpid_t a = start(2, [&] { error = wait_for(child); });
	race();
	const int woke = lwp_wakeup(me(), a);
	join(a);
	EXPECT(is(error, 0, EINTR));
	EXPECT(error != EINTR || woke == 0);
	if (error == EINTR) {
		join(child);
	}
}

// Near: waiter and target of one part.
SCENARIO(wait_near_interrupted_against_exit, 3) {
	lwpid_t child = 0;
	int error = -1;
	lwpid_t a = start(1, [&] {
		child = start(anywhere, [] {});
		error = wait_for(child);
	});
	race();
	(void)lwp_wakeup(me(), a);
	join(a);
	EXPECT(is(error, 0, EINTR));
	if (error == EINTR) {
		join(child);
	}
}

SCENARIO(wait_any_interrupted_against_exit, 3) {
	lwpid_t child = start(1, [] {});
	int error = -1;
	lwpid_t a = start(2, [&] { error = wait_for(0); });
	race();
	const int woke = lwp_wakeup(me(), a);
	join(a);
	EXPECT(is(error, 0, EINTR) || error == EDEADLK);
	EXPECT(error != EINTR || woke == 0);
	if (error != 0) {
		join(child);
	}
}

// ---- references --------------------------------------------------------------------------------------------------------------

// A reference taken keeps it from ending; or it is too late to take one.
SCENARIO(reference_against_exit, 2) {
	bool ended = false;
	lwpid_t a = start(1, [&] { ended = true; });
	race();
	procpart *pp = proc_part(&proc0, a);
	pp->pp_lock.lock();
	lwp_t *t = lwp_find(&proc0, a);
	const bool have = t != nullptr && lwp_addref(t);
	pp->pp_lock.unlock();
	if (have) {
		for (int i = 0; i < 3; i++) {
			EXPECT(lwp_lid(t) == a && lwp_state(t) != lwp_stat::zomb);
		}
		lwp_delref(&proc0, t);
	}
	join(a);
	EXPECT(ended);
}

SCENARIO(reference_by_two, 3) {
	lwpid_t a = start(1, [] {});
	auto look = [a] {
		procpart *pp = proc_part(&proc0, a);
		pp->pp_lock.lock();
		lwp_t *t = lwp_find(&proc0, a);
		const bool have = t != nullptr && lwp_addref(t);
		pp->pp_lock.unlock();
		if (have) {
			EXPECT(lwp_state(t) != lwp_stat::zomb);
			lwp_delref(&proc0, t);
		}
	};
	lwpid_t b = start(2, look);
	race();
	look();
	join(b);
	join(a);
}

// ---- ids -------------------------------------------------------------------------------------------------------------------

// Found by its id without a lock while others come and go: it, or nobody, and then it has ended.
SCENARIO(find_without_lock_against_create_and_exit, 3) {
	lwpid_t a = start(1, [] {});
	lwpid_t maker = start(2, [] {
		for (int i = 0; i < 2; i++) {
			lwpid_t c = start(anywhere, [] {});
			join(c);
		}
	});
	race();
	for (int i = 0; i < 2; i++) {
		spinlock *lock;
		lwp_t *t = lwp_find_and_lock(&proc0, a, me()->l_cpu, &lock);
		if (t != nullptr) {
			EXPECT(lwp_lid(t) == a && lwp_state(t) != lwp_stat::zomb);
			lock->unlock();
		}
	}
	join(maker);
	join(a);
}

// An LWP is found from the moment its creator knows its id.
SCENARIO(find_what_was_just_started, 2) {
	kern::atomic<lwpid_t> id{0};
	lwpid_t a = start(1, [&] {
		id.store(start(anywhere, [] { (void)park(); }));
		(void)lwp_unpark(me(), id.load());
		EXPECT(wait_for(id.load()) == 0);
	});
	race();
	if (lwpid_t lid = id.load(); lid != 0) {
		(void)lwp_unpark(me(), lid);
	}
	join(a);
}

// Two create at the same time: ids differ, and each gets its own.
SCENARIO(create_by_two, 2) {
	lwpid_t ids[2] = {};
	lwpid_t a = start(1, [&] {
		ids[0] = start(anywhere, [] {});
		join(ids[0]);
	});
	race();
	ids[1] = start(anywhere, [] {});
	join(ids[1]);
	join(a);
	EXPECT(ids[0] != ids[1]);
}

// The limit on LWPs is exact though the parts share it out.
SCENARIO(create_up_to_the_limit, 2) {
	proc_lock_all(&proc0, me()->l_cpu);
	proc0.p_maxlwps = 4;  // we, the other maker, and two
	proc0_parts[0].pp_allowance = 3;
	proc0_parts[1].pp_allowance = 0;
	proc_unlock_all(&proc0, me()->l_cpu);
	kern::atomic<int> made{0};
	auto make = [&made] {
		for (int i = 0; i < 2; i++) {
			lwp_t *l;
			lwpid_t lid;
			EXPECT(newlwp(me(), {}, &l) == 0);
			const int error = lwp_start(
			    me(), l, [](void *) { (void)park(time_in(50 * soon)); }, nullptr, {}, &lid);
			if (error == 0) {
				made.fetch_add(1);
				EXPECT(lwp_detach(me(), lid) == 0);
			} else {
				EXPECT(error == EAGAIN);
				lwp_abandon(l);
			}
		}
	};
	lwpid_t a = start(1, make);
	race();
	make();
	const int n = made.load();
	EXPECT(n <= 3);
	join(a);
	EXPECT(made.load() >= 2);
}
