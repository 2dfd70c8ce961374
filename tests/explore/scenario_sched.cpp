// SPDX-License-Identifier: BSD-2-Clause
//
// Run queues, inboxes, stealing, halting and waking, preemption; specific data, whose keys are deleted under the LWPs that have values.
#include "core/specific.h"
#include "explore/world.h"
#include "sched/idle.h"
#include "sched/switch.h"
#include "sync/sleepq.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

/// The next time it has nothing to do that vCPU halts at once: pauses between rounds of a search would let everybody else go first.
void impatient(unsigned vcpu) { sched.sd_vcpu[vcpu]->vc_patience = 0; }

}  // namespace

// ---- halt and wake -------------------------------------------------------------------------------------------------------

// Store the work, fence, look whether it halts; say that it halts, fence, look for work: one of the two sees the other.
SCENARIO_TSO(halt_against_inbox, 2) {
	lwpid_t a = start(1, [] {}, {.pinned = true});
	impatient(1);
	race();
	lwpid_t b = start(1, [] {}, {.pinned = true});
	join(b);
	join(a);
}

SCENARIO_TSO(halt_against_two_inboxes, 3) {
	lwpid_t a = start(1, [] {}, {.pinned = true});
	lwpid_t d = start(2, [] {}, {.pinned = true});
	impatient(1);
	impatient(2);
	race();
	lwpid_t b = start(1, [] {}, {.pinned = true});
	lwpid_t c = start(2, [] {}, {.pinned = true});
	join(b);
	join(c);
	join(a);
	join(d);
}

// Woken, halted, woken again.
SCENARIO_TSO(halt_again_and_again, 2) {
	race();
	for (int i = 0; i < 3; i++) {
		lwpid_t b = start(1, [] {}, {.pinned = true});
		join(b);
	}
}

// Two hand work to the same halted one.
SCENARIO_TSO(halt_against_two_wakers, 3) {
	lwpid_t a = start(1, [] {
		lwpid_t c = start(2, [] {}, {.pinned = true});
		join(c);
	});
	lwpid_t d = start(2, [] {}, {.pinned = true});
	impatient(2);
	race();
	lwpid_t c = start(2, [] {}, {.pinned = true});
	join(c);
	join(a);
	join(d);
}

// The home of LWP 1 halts while it waits for one that another vCPU runs.
SCENARIO_TSO(halt_of_home_against_wake, 2) {
	const lwpid_t us = lwp_lid(me());
	me()->l_bound = 0;
	lwpid_t a = start(1, [us] { unpark(us); }, {.pinned = true});
	race();
	(void)park();
	join(a);
	me()->l_bound = -1;
}

// One halts while another arms a timer and computes from then on: whoever halts looks after it.
SCENARIO_TSO(halt_against_a_timer_of_one_that_computes, 2) {
	kern::atomic<bool> woke{false};
	lwpid_t a = start(1, [] {}, {.pinned = true});
	impatient(1);
	lwpid_t sleeper = start(0, [&] {
		lwp_sleep_until(kern::curlwp_or_null(), time_in(soon));
		woke.store(true);
	});
	race();
	yield();
	while (!woke.load()) {
		cpu_relax();
	}
	join(a);
	join(sleeper);
}

// The same with three, of which two halt and want to watch.
SCENARIO_TSO(halt_of_two_against_a_timer_of_one_that_computes, 3) {
	kern::atomic<bool> woke{false};
	lwpid_t a = start(1, [] {}, {.pinned = true});
	lwpid_t b = start(2, [] {}, {.pinned = true});
	impatient(1);
	impatient(2);
	lwpid_t sleeper = start(0, [&] {
		lwp_sleep_until(kern::curlwp_or_null(), time_in(soon));
		woke.store(true);
	});
	race();
	yield();
	while (!woke.load()) {
		cpu_relax();
	}
	join(a);
	join(b);
	join(sleeper);
}

// ---- stealing ------------------------------------------------------------------------------------------------------------

namespace {

/// So many on our own vCPU while we compute; others come for them.
void pile(unsigned n, bool compute) {
	kern::atomic<unsigned> ran{0};
	lwpid_t ids[6];
	for (unsigned i = 0; i < n; i++) {
		ids[i] = start(0, [&] { ran.fetch_add(1); });
	}
	for (unsigned i = 0; i < n && !compute; i++) {
		yield();
	}
	race();
	for (unsigned i = 0; i < n; i++) {
		join(ids[i]);
	}
	EXPECT(ran.load() == n);
}

}  // namespace

SCENARIO_TSO(steal_pile_of_two, 2) { pile(2, true); }
SCENARIO_TSO(steal_pile_of_five, 2) { pile(5, true); }
SCENARIO_TSO(steal_two_thieves, 3) { pile(4, true); }

// LWPs wait behind one that computes: the watcher comes for them.
SCENARIO_TSO(steal_from_one_that_computes, 2) {
	kern::atomic<bool> ran{false};
	lwpid_t a = start(0, [&] { ran.store(true); }, {.waits = false});
	lwpid_t spinner = start(1, [&] {
		while (!ran.load()) {
			cpu_relax();
		}
	});
	race();
	join(a);
	join(spinner);
}

// A movable one, behind one that computes on a vCPU that nobody else wakes.
SCENARIO_TSO(steal_a_single_one_behind_another, 2) {
	kern::atomic<bool> ran{false};
	kern::atomic<bool> placed{false};
	lwpid_t spinner = start(1, [&] {
		lwpid_t single = start(anywhere, [&] { ran.store(true); });
		// Started on this vCPU as its creator; bound to none.
		placed.store(true);
		while (!ran.load()) {
			cpu_relax();
		}
		join(single);
	});
	race();
	(void)park(time_in(40 * soon));
	join(spinner);
}

// Out of the inbox of one that has no time to look.
SCENARIO_TSO(steal_from_an_inbox, 3) {
	kern::atomic<bool> ran{false};
	lwpid_t sleeper = start(1, [&] {
		(void)park();
		ran.store(true);
	});
	lwpid_t spinner = start(2, [&] {
		while (!ran.load()) {
			cpu_relax();
		}
	});
	race();
	while (lwp_unpark(me(), sleeper) == 0 && !ran.load()) {
		cpu_relax();
	}
	join(sleeper);
	join(spinner);
}

// A thief and the owner at the last one of a queue.
SCENARIO_TSO(steal_against_pop, 2) {
	kern::atomic<unsigned> ran{0};
	lwpid_t ids[3];
	for (lwpid_t &lid : ids) {
		lid = start(anywhere, [&] { ran.fetch_add(1); });
	}
	race();
	for (int i = 0; i < 3; i++) {
		yield();
	}
	for (lwpid_t lid : ids) {
		join(lid);
	}
	EXPECT(ran.load() == 3);
}

// What may not move is not taken.
SCENARIO_TSO(steal_not_what_is_bound, 2) {
	unsigned wrong = 0;
	lwpid_t bound[2];
	lwpid_t loose[2];
	for (int i = 0; i < 2; i++) {
		bound[i] = start(0,
		    [&] {
			    wrong += me()->l_cpu->vc_index != 0 ? 1U : 0U;
			    for (int turn = 0; turn < 3; turn++) {
				    yield();
				    wrong += me()->l_cpu->vc_index != 0 ? 1U : 0U;
			    }
		    },
		    {.pinned = true});
		// One that has yielded is in the line, among them.
		loose[i] = start(anywhere, [] {
			yield();
			yield();
		});
	}
	race();
	for (int i = 0; i < 2; i++) {
		join(loose[i]);
		join(bound[i]);
	}
	EXPECT(wrong == 0);
}

// The same out of an inbox that its vCPU has no time to look into: bound ones stay there.
SCENARIO_TSO(steal_inbox_with_bound_ones, 3) {
	kern::atomic<bool> moved{false};
	kern::atomic<bool> stop{false};
	lwpid_t sleeper = start(1, [&] {
		(void)park();
		moved.store(true);
	});
	lwpid_t spinner = start(2,
	    [&] {
		    while (!stop.load()) {
			    cpu_relax();
		    }
	    },
	    {.pinned = true});
	race();
	lwpid_t bound = start(2, [] { EXPECT(me()->l_cpu->vc_index == 2); }, {.pinned = true});
	// As a kernel thread from outside would: to the inbox of the vCPU that it ran on last, here one that computes.
	spinlock *lock;
	lwp_t *t = lwp_find_and_lock(&proc0, sleeper, me()->l_cpu, &lock);
	EXPECT(t != nullptr);
	if (lwp_state(t) == lwp_stat::sleep) {
		t->l_bound = 2;
		sleepq_unsleep_and_unlock(t, lock, 0);
		lock = lwp_lock(t, me()->l_cpu);
		if (lwp_state(t) == lwp_stat::run && lock->rank() == lock_rank::inbox) {
			t->l_bound = -1;
			t->l_cpu->vc_inmovable.store(t->l_cpu->vc_inmovable.load() + 1);
		}
		lock->unlock();
		for (int i = 0; i < 400 && !moved.load(); i++) {
			cpu_relax();
		}
	} else {
		lock->unlock();
		unpark(sleeper);
	}
	stop.store(true);
	join(bound);
	join(spinner);
	join(sleeper);
}

// A tree on three vCPUs: every leaf once.
SCENARIO(fork_tree, 3) {
	kern::atomic<unsigned> leaves{0};
	auto node = [&] {
		lwpid_t l = start(anywhere, [&] { leaves.fetch_add(1); });
		lwpid_t r = start(anywhere, [&] { leaves.fetch_add(1); });
		join(l);
		join(r);
	};
	lwpid_t a = start(1, node);
	lwpid_t b = start(2, node);
	race();
	node();
	join(a);
	join(b);
	EXPECT(leaves.load() == 6);
}

// ---- placement and order ---------------------------------------------------------------------------------------------------

// Moved to one vCPU, then to the other.
SCENARIO(move_there_and_back, 2) {
	lwpid_t a = start(1, [] {
		lwp_move_to(me(), 0);
		EXPECT(me()->l_cpu->vc_index == 0);
		lwp_move_to(me(), 1);
		EXPECT(me()->l_cpu->vc_index == 1);
	});
	race();
	lwp_move_to(me(), 1);
	EXPECT(me()->l_cpu->vc_index == 1);
	lwp_move_to(me(), 0);
	me()->l_bound = -1;
	join(a);
}

// A better one is queued from another vCPU: the running one gives way at its next boundary.
SCENARIO(preempt_at_the_boundary, 2) {
	kern::atomic<bool> better{false};
	lwpid_t b = 0;
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 2000 && !better.load(); i++) {
			    userret();
			    let_others();
		    }
		    EXPECT(better.load());
	    },
	    {.pinned = true});
	race();
	b = start(1, [&] { better.store(true); }, {.pinned = true, .priority = 60});
	join(b);
	join(a);
}

// Yields among equals, with one that comes from outside.
SCENARIO(yield_against_inbox, 2) {
	int turns = 0;
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 4; i++) {
			    yield();
			    turns++;
		    }
	    },
	    {.pinned = true});
	race();
	lwpid_t b = start(1,
	    [&] {
		    yield();
		    yield();
	    },
	    {.pinned = true});
	join(b);
	join(a);
	EXPECT(turns == 4);
}

// A switch looked at from outside: whoever holds the lock of one that sleeps finds it off its stack.
SCENARIO(look_at_a_sleeper, 2) {
	static int looked;
	lwpid_t a = start(1, [] { (void)park(); });
	race();
	spinlock *lock;
	lwp_t *t = lwp_find_and_lock(&proc0, a, me()->l_cpu, &lock);
	EXPECT(t != nullptr);
	if (lwp_state(t) == lwp_stat::sleep) {
		// It must be locked, and vc_lwplock is below that.
		(void)lwp_look_at(
		    me(), t, [](void *n) { ++*static_cast<int *>(n); }, &looked);
	}
	lock->unlock();
	unpark(a);
	join(a);
}

// ---- specific data -----------------------------------------------------------------------------------------------------------

namespace {

kern::atomic<int> destroyed;
void count_destroyed(void *) { destroyed.fetch_add(1); }
int a_value;

}  // namespace

// key_delete takes the value, or the exit does: one destructor.
SCENARIO(specific_delete_against_exit, 2) {
	unsigned key;
	EXPECT(specific_key_create(&key, count_destroyed) == 0);
	lwpid_t a = start(1, [key] { EXPECT(specific_set(me()->l_specific, key, &a_value) == 0); }, {.waits = false});
	for (int i = 0; i < 6; i++) {
		let_others();
	}
	race();
	specific_key_delete(key);
	join(a);
	EXPECT(destroyed.load() == 1);
}

SCENARIO(specific_delete_against_exit_of_two, 3) {
	unsigned key;
	unsigned other;
	EXPECT(specific_key_create(&key, count_destroyed) == 0);
	EXPECT(specific_key_create(&other, count_destroyed) == 0);
	kern::atomic<int> set{0};
	auto body = [&] {
		EXPECT(specific_set(me()->l_specific, key, &a_value) == 0);
		EXPECT(specific_set(me()->l_specific, other, &a_value) == 0);
		set.fetch_add(1);
		while (set.load() != 2) {
			cpu_relax();
		}
	};
	lwpid_t a = start(1, body);
	lwpid_t b = start(2, body);
	race();
	while (set.load() != 2) {
		cpu_relax();
	}
	specific_key_delete(key);
	join(a);
	join(b);
	EXPECT(destroyed.load() == 4);
}

// The values move to a larger array while a key is deleted: none is lost, none destroyed twice.
SCENARIO(specific_delete_against_growth, 2) {
	unsigned keys[6];
	for (unsigned &k : keys) {
		EXPECT(specific_key_create(&k, count_destroyed) == 0);
	}
	kern::atomic<bool> set{false};
	lwpid_t a = start(1, [&] {
		EXPECT(specific_set(me()->l_specific, keys[0], &a_value) == 0);
		set.store(true);
		EXPECT(specific_set(me()->l_specific, keys[5], &a_value) == 0);
	});
	race();
	while (!set.load()) {
		cpu_relax();
	}
	specific_key_delete(keys[0]);
	join(a);
	EXPECT(destroyed.load() == 2);
}

SCENARIO(specific_two_that_delete, 2) {
	unsigned keys[2];
	for (unsigned &k : keys) {
		EXPECT(specific_key_create(&k, count_destroyed) == 0);
		EXPECT(specific_set(me()->l_specific, k, &a_value) == 0);
	}
	lwpid_t a = start(1, [&] { specific_key_delete(keys[1]); });
	race();
	specific_key_delete(keys[0]);
	join(a);
	EXPECT(destroyed.load() == 2);
	unsigned again;
	EXPECT(specific_key_create(&again, nullptr) == 0 && again == keys[0]);
	specific_fini(me()->l_specific);
}

// Two make keys at the same time, the second of them in a new segment of the table.
SCENARIO(specific_two_that_create, 2) {
	unsigned key[2] = {};
	for (int i = 0; i < 31; i++) {
		unsigned k;
		EXPECT(tss_create(&k, nullptr) == 0);
	}
	lwpid_t a = start(1, [&] { EXPECT(tss_create(&key[1], nullptr) == 0); });
	race();
	EXPECT(tss_create(&key[0], nullptr) == 0);
	join(a);
	EXPECT(key[0] != key[1]);
}

// A C11 key is deleted and made anew as an LWP with a value ends: the new key's destructor does not get the old value.
SCENARIO(specific_tss_reused_key_against_exit, 2) {
	unsigned key;
	EXPECT(tss_create(&key, nullptr) == 0);
	lwpid_t a = start(1, [&] { EXPECT(tss_set(me()->l_specific, key, &a_value) != ENOMEM); });
	race();
	EXPECT(tss_delete(key) == 0);
	unsigned next;
	EXPECT(tss_create(&next, count_destroyed) == 0);
	join(a);
	EXPECT(destroyed.load() == 0);
}
