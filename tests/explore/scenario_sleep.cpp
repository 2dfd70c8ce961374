// SPDX-License-Identifier: BSD-2-Clause
//
// Sleep and wake: park tokens, timers, interrupts, suspends; sleep queues.
#include "explore/world.h"
#include "sched/callout.h"
#include "sync/sleepq.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

}  // namespace

// The token is set before the park, or the park is ended by the unpark: never neither.
SCENARIO(park_unpark, 2) {
	lwpid_t a = start(1, [] { (void)park(); });
	race();
	unpark(a);
	join(a);
}

// Two parks need two unparks, and two unparks that meet leave one token at least.
SCENARIO(park_ping_pong, 2) {
	const lwpid_t us = lwp_lid(me());
	lwpid_t a = start(1, [us] {
		for (int i = 0; i < 3; i++) {
			(void)park();
			unpark(us);
		}
	});
	race();
	for (int i = 0; i < 3; i++) {
		unpark(a);
		(void)park();
	}
	join(a);
}

// Of an unpark and a deadline one ends the sleep; if the deadline did, the token stays.
SCENARIO(park_unpark_against_timeout, 2) {
	int result = -1;
	int second = -1;
	lwpid_t a = start(1, [&] {
		result = park(time_in(soon));
		if (result == ETIMEDOUT) {
			second = park();
		}
	});
	race();
	unpark(a);
	join(a);
	EXPECT(result == 0 || result == EALREADY || (result == ETIMEDOUT && (second == EALREADY || second == 0)));
}

// The timer of a sleep that has ended does not hit the next one.
SCENARIO(park_late_timer_spares_the_next_sleep, 2) {
	int second = -1;
	lwpid_t a = start(1, [&] {
		(void)park(time_in(soon));
		second = park(time_in(1000 * soon));
	});
	race();
	(void)lwp_unpark(me(), a);
	while (second < 0 && lwp_unpark(me(), a) == 0) {
		let_others();
		yield();
	}
	join(a);
	EXPECT(second == 0 || second == EALREADY || second == ETIMEDOUT);
}

// Nobody unparks: the deadline ends it, on whatever vCPU the timer fires.
SCENARIO(park_timeout_alone, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] { result = park(time_in(soon)); });
	race();
	join(a);
	EXPECT(result == ETIMEDOUT);
}

SCENARIO(park_two_timers_on_one_vcpu, 2) {
	int results[2] = {-1, -1};
	lwpid_t a = start(1, [&] { results[0] = park(time_in(soon)); });
	lwpid_t b = start(1, [&] { results[1] = park(time_in(2 * soon)); });
	race();
	join(a);
	join(b);
	EXPECT(results[0] == ETIMEDOUT && results[1] == ETIMEDOUT);
}

// Two unparks of one: the second finds it awake and leaves the token, or finds the token.
SCENARIO(park_two_unparks, 3) {
	lwpid_t a = start(1, [] {
		(void)park();
		(void)park(time_in(soon));
	});
	lwpid_t b = start(2, [a] { (void)lwp_unpark(me(), a); });
	race();
	(void)lwp_unpark(me(), a);
	join(b);
	join(a);
}

// An unpark of one that ends: ESRCH or done, and no touch of the next that has its memory.
SCENARIO(park_unpark_against_exit, 2) {
	lwpid_t a = start(1, [] {});
	race();
	const int error = lwp_unpark(me(), a);
	EXPECT(error == 0 || error == ESRCH);
	join(a);
}

// Found by an id that is recycled meanwhile: the stranger is not unparked.
SCENARIO(park_unpark_spares_the_next_of_its_memory, 2) {
	int stranger = -1;
	lwpid_t a = 0;
	lwpid_t helper = start(1, [&] {
		join(a);
		lwpid_t b = start(anywhere, [&] { stranger = park(time_in(soon)); });
		join(b);
	});
	a = start(anywhere, [] {});
	yield();
	race();
	(void)lwp_unpark(me(), a);
	join(helper);
	EXPECT(stranger == ETIMEDOUT);
}

SCENARIO(sleep_until_is_not_shortened_by_unpark, 2) {
	bool early = false;
	lwpid_t a = start(1, [&] {
		const nanotime end = time_in(soon);
		lwp_sleep_until(me(), end);
		early = now() < end;
	});
	race();
	(void)lwp_unpark(me(), a);
	join(a);
	EXPECT(!early);
}

// An unpark that comes in a sleep of another kind ends nothing and leaves the token for the next park.
SCENARIO(park_token_is_left_in_another_sleep, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] {
		lwp_sleep_until(me(), time_in(soon));
		result = park();
	});
	race();
	unpark(a);
	join(a);
	EXPECT(result == 0 || result == EALREADY);
}

// Three ends of one sleep: waker, interrupt, timer.  One is reported.
SCENARIO(sleep_three_ends, 3) {
	int result = -1;
	lwpid_t a = start(1, [&] { result = park(time_in(soon)); });
	lwpid_t b = start(2, [a] { (void)lwp_wakeup(me(), a); });
	race();
	(void)lwp_unpark(me(), a);
	join(b);
	join(a);
	EXPECT(result == 0 || result == EALREADY || result == EINTR || result == ETIMEDOUT);
}

// _lwp_wakeup says 0 only if it ended a sleep, which then says EINTR.
SCENARIO(wakeup_zero_means_interrupted, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] { result = park(time_in(soon)); });
	race();
	const int error = lwp_wakeup(me(), a);
	join(a);
	EXPECT(error == 0 ? result == EINTR : result == ETIMEDOUT);
}

// ---- suspend and continue ------------------------------------------------------------------------------------------------

// A continue that comes between the flag and the stop is not lost (quirk Q3).
SCENARIO(suspend_then_continue_against_boundary, 2) {
	lwpid_t a = start(1, [] {
		for (int i = 0; i < 3; i++) {
			userret();
		}
	});
	race();
	const int error = suspend(a);
	EXPECT(error == 0 || error == ESRCH);
	if (error == 0) {
		cont(a);
	}
	join(a);
}

// Suspended while it goes to sleep, continued, unparked: in any order it comes back.
SCENARIO(suspend_against_park, 2) {
	lwpid_t a = start(1, [] {
		while (true) {
			const int error = park();
			if (error == 0 || error == EALREADY) {
				break;
			}
		}
	});
	race();
	EXPECT(suspend(a) == 0);
	unpark(a);
	cont(a);
	unpark(a);
	join(a);
}

// Unparked while it is suspended: the token is there when it goes on.
SCENARIO(suspend_keeps_the_token, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] {
		userret();
		result = park();
	});
	race();
	const bool stopped = suspend(a) == 0;
	unpark(a);
	if (stopped) {
		cont(a);
	}
	unpark(a);
	join(a);
	EXPECT(result == 0 || result == EALREADY);
}

// A continue by another one than the suspender: the suspender is told (quirk Q4).
SCENARIO(suspend_cancelled_by_another, 3) {
	lwpid_t a = start(1, [] {
		for (int i = 0; i < 2; i++) {
			userret();
		}
		(void)park();
	});
	lwpid_t b = start(2, [a] {
		for (int i = 0; i < 3; i++) {
			(void)lwp_continue(me(), a);
		}
	});
	race();
	(void)suspend(a);
	join(b);
	(void)lwp_continue(me(), a);
	(void)lwp_unpark(me(), a);
	join(a);
}

// The same, and nothing else happens that would wake the suspender by the way.
SCENARIO(suspend_cancelled_and_nobody_ends, 3) {
	lwpid_t a = start(1, [] {
		userret();
		userret();
		(void)park();
	});
	lwpid_t b = start(2, [a] {
		(void)lwp_continue(me(), a);
		(void)park();
	});
	race();
	(void)suspend(a);
	unpark(b);
	(void)lwp_continue(me(), a);
	(void)lwp_unpark(me(), a);
	join(b);
	join(a);
}

// Two that suspend each other: not both may stop for ever; one of them is seen to, by who is left.
SCENARIO(suspend_each_other, 3) {
	lwpid_t a = 0;
	lwpid_t b = 0;
	bool done[2] = {};
	a = start(1, [&] {
		(void)suspend(b);
		userret();
		done[0] = true;
	});
	b = start(2, [&] {
		(void)suspend(a);
		userret();
		done[1] = true;
	});
	race();
	for (int i = 0; i < 200 && !(done[0] && done[1]); i++) {
		(void)lwp_continue(me(), a);
		(void)lwp_continue(me(), b);
		let_others();
	}
	judge();
	for (int i = 0; i < 1000 && !(done[0] && done[1]); i++) {
		(void)lwp_continue(me(), a);
		(void)lwp_continue(me(), b);
		let_others();
	}
	join(a);
	join(b);
}

// Suspended as it ends: ESRCH or stopped, never both, and it can be collected.
SCENARIO(suspend_against_exit, 2) {
	lwpid_t a = start(1, [] {});
	race();
	const int error = suspend(a);
	EXPECT(error == 0 || error == ESRCH);
	if (error == 0) {
		cont(a);
	}
	join(a);
}

// Created suspended; continued by two.
SCENARIO(suspend_created_so, 2) {
	bool ran = false;
	lwpid_t a = start(1, [&] { ran = true; }, {.suspended = true});
	lwpid_t b = start(1, [a] { (void)lwp_continue(me(), a); });
	race();
	(void)lwp_continue(me(), a);
	join(b);
	join(a);
	EXPECT(ran);
}

// A suspend of one that waits for another: its wait is taken back, and begun again.
SCENARIO(suspend_of_a_waiter, 3) {
	lwpid_t child = start(2, [] {});
	int error = -1;
	lwpid_t a = start(1, [&] { error = wait_for(child); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	EXPECT(error == 0);
}

// The timer fires while it is suspended out of its sleep.
SCENARIO(suspend_against_timeout, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] { result = park(time_in(soon)); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	EXPECT(result == 0 || result == ETIMEDOUT);
}

// A suspender that is itself to be suspended while it waits.
SCENARIO(suspend_of_a_suspender, 3) {
	lwpid_t a = start(1, [] {
		for (int i = 0; i < 2; i++) {
			userret();
		}
	});
	lwpid_t b = start(2, [a] {
		if (suspend(a) == 0) {
			cont(a);
		}
	});
	race();
	if (suspend(b) == 0) {
		cont(b);
	}
	join(b);
	(void)lwp_continue(me(), a);
	join(a);
}

// ---- sleep queues --------------------------------------------------------------------------------------------------------

namespace {

struct condition {
	int value = 0;
	sleepq *queue = sleeptab_lookup(this);  // the address of `value`

	void await(int least) {
		for (;;) {
			queue->sq_lock.lock();
			if (value >= least) {
				queue->sq_lock.unlock();
				return;
			}
			(void)sleepq_block_and_unlock(me(), queue, {&value, "test", &sleep_syncobj, sleep_catch::no});
		}
	}
	void set(int v, unsigned count = ~0U) {
		queue->sq_lock.lock();
		value = v;
		(void)sleepq_wake(queue, &value, count);
		queue->sq_lock.unlock();
	}
};

}  // namespace

// enqueue -> wake -> switch: the wake waits on the queue's lock until the stack is free.
SCENARIO(sleepq_wake_between_enqueue_and_switch, 2) {
	condition c;
	lwpid_t a = start(1, [&] { c.await(1); });
	race();
	c.set(1);
	join(a);
}

SCENARIO(sleepq_wakes_all, 3) {
	condition c;
	lwpid_t a = start(1, [&] { c.await(1); });
	lwpid_t b = start(2, [&] { c.await(1); });
	race();
	c.set(1);
	join(a);
	join(b);
}

// Other channels of the same queue sleep on.
SCENARIO(sleepq_two_channels_in_one_queue, 3) {
	alignas(512) char things[2] = {};
	sleepq *q = sleeptab_lookup(&things[0]);
	EXPECT(q == sleeptab_lookup(&things[1]));
	bool go[2] = {};
	auto sleeper = [&](int i) {
		for (;;) {
			q->sq_lock.lock();
			if (go[i]) {
				q->sq_lock.unlock();
				return;
			}
			(void)sleepq_block_and_unlock(me(), q, {&things[i], "test", &sleep_syncobj, sleep_catch::no});
		}
	};
	lwpid_t a = start(1, [&] { sleeper(0); });
	lwpid_t b = start(2, [&] { sleeper(1); });
	race();
	for (int i = 0; i < 2; i++) {
		q->sq_lock.lock();
		go[i] = true;
		q->sq_lock.unlock();
		sleeptab_wake(&things[i]);
	}
	join(a);
	join(b);
}

// The same LWP sleeps again at once: a second wake finds the second sleep, or makes it needless.
SCENARIO(sleepq_two_rounds, 2) {
	condition c;
	lwpid_t a = start(1, [&] {
		c.await(1);
		c.await(2);
	});
	race();
	c.set(1);
	c.set(2);
	join(a);
}

// A wake of one of two: the other is woken by the next.
SCENARIO(sleepq_wakes_one_each, 3) {
	condition c;
	lwpid_t a = start(1, [&] { c.await(1); });
	lwpid_t b = start(2, [&] { c.await(1); });
	race();
	c.set(1, 1);
	c.set(1, 1);
	join(a);
	join(b);
}

// ---- timers --------------------------------------------------------------------------------------------------------------

namespace {

struct fired_at {
	timer t;
	int count = 0;
	bool halted = false;

	static void fire(void *arg) {
		auto *f = static_cast<fired_at *>(arg);
		EXPECT(!f->halted);
		now();  // a point
		EXPECT(!f->halted);
		f->count++;
	}
	void arm_on(vcpu_t *vc, nanotime when) {
		t.tm_fn = fire;
		t.tm_arg = this;
		EXPECT(callout_schedule(vc, &t, when) == 0);
	}
	void halt() {
		callout_halt(&t);
		halted = true;
	}
};

/// Its timer is armed once, and its memory is used again as soon as it is halted, as that of a sleep.
struct fired_once : fired_at {
	void arm_on(vcpu_t *vc, nanotime when) {
		t.tm_once = true;
		fired_at::arm_on(vc, when);
	}
	void halt() {
		callout_halt_once(&t);
		halted = true;
		t.tm_over.store(false);  // whoever writes there from now on breaks something else
		now();                   // a point
		EXPECT(!t.tm_over.load());
	}
	~fired_once() { EXPECT(!t.tm_over.load()); }
	fired_once() = default;
	fired_once(const fired_once &) = delete;
	fired_once &operator=(const fired_once &) = delete;
};

/// Its function arms the other one, which may fire at once, on another vCPU; that arms this one again: as a ticker's two.
struct in_turns {
	timer t[2];
	int count = 0;
	bool over = false;
	bool gone = false;
	spinlock lock{lock_rank::object, "in_turns"};

	static void fire(void *arg) {
		auto *b = static_cast<in_turns *>(arg);
		EXPECT(!b->gone);
		vcpu_t *me = curcpu_or_null();
		lock_scope hold(b->lock, me);
		if (!b->over && b->count < 3) {
			b->arm(me);
		}
	}
	void arm(vcpu_t *vc) {
		timer *next = &t[++count % 2];
		next->tm_fn = fire;
		next->tm_arg = this;
		EXPECT(callout_schedule(vc, next, 1) == 0);
	}
};

}  // namespace

// callout_halt: on return the function does not run and will not, whoever fires it.
SCENARIO(callout_halt_against_fire, 2) {
	fired_at f;
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	f.arm_on(me()->l_cpu, 1);
	race();
	f.halt();
	join(a);
	EXPECT(f.count <= 1);
}

SCENARIO(callout_two_that_fire, 3) {
	fired_at f;
	fired_at g;
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	lwpid_t b = start(2, [&] { callout_run(sched.sd_vcpu[0], now()); });
	f.arm_on(me()->l_cpu, 1);
	g.arm_on(me()->l_cpu, 2);
	race();
	callout_run(sched.sd_vcpu[0], now());
	join(a);
	join(b);
	f.halt();
	g.halt();
	EXPECT(f.count == 1 && g.count == 1);
}

// Two fire the same heap, one after the other's function; a halt waits for the right one.
SCENARIO(callout_halt_against_two_that_fire, 3) {
	fired_at f;
	fired_at g;
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	lwpid_t b = start(2, [&] { callout_run(sched.sd_vcpu[0], now()); });
	f.arm_on(me()->l_cpu, 1);
	g.arm_on(me()->l_cpu, 2);
	race();
	f.halt();
	g.halt();
	join(a);
	join(b);
	EXPECT(f.count <= 1 && g.count <= 1);
}

// The same of a timer that is armed once: halted without the lock if it has fired.
SCENARIO_TSO(callout_once_against_fire, 2) {
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	fired_once f;
	f.arm_on(me()->l_cpu, 1);
	race();
	f.halt();
	const int count = f.count;
	join(a);
	EXPECT(count <= 1 && f.count == count);
}

SCENARIO_TSO(callout_once_against_two_that_fire, 3) {
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	lwpid_t b = start(2, [&] { callout_run(sched.sd_vcpu[0], now()); });
	fired_once f;
	fired_once g;
	f.arm_on(me()->l_cpu, 1);
	g.arm_on(me()->l_cpu, 2);
	race();
	f.halt();
	g.halt();
	join(a);
	join(b);
	EXPECT(f.count <= 1 && g.count <= 1);
}

// Of two timers that arm each other one is armed again while who fired it is on its way out; it must not be touched any more when both are halted.
SCENARIO(callout_armed_again, 3) {
	in_turns b;
	lwpid_t x = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	lwpid_t y = start(2, [&] { callout_run(sched.sd_vcpu[1], now()); });
	b.arm(me()->l_cpu);
	race();
	callout_run(sched.sd_vcpu[2], now());
	callout_run(sched.sd_vcpu[1], now());
	{
		lock_scope hold(b.lock, me()->l_cpu);
		b.over = true;
	}
	for (timer &t : b.t) {
		if (t.tm_vcpu != nullptr) {
			callout_halt(&t);
			t.tm_over.store(false);
		}
	}
	b.gone = true;
	join(x);
	join(y);
	EXPECT(!b.t[0].tm_over.load() && !b.t[1].tm_over.load());
}

// A halt of one timer while another's function runs.
SCENARIO(callout_halt_of_another, 2) {
	fired_at f;
	fired_at g;
	lwpid_t a = start(1, [&] { callout_run(sched.sd_vcpu[0], now()); });
	f.arm_on(me()->l_cpu, 1);
	g.arm_on(me()->l_cpu, 2);
	race();
	g.halt();
	f.halt();
	join(a);
	EXPECT(f.count <= 1 && g.count <= 1);
}

// Its vCPU computes and its deadline has passed: a halted one fires it.
SCENARIO_TSO(callout_of_a_busy_vcpu, 2) {
	kern::atomic<bool> woken{false};
	lwpid_t a = start(1, [&] {
		(void)park(time_in(soon));
		woken.store(true);
	});
	lwpid_t b = start(1,
	    [&] {
		    while (!woken.load()) {
			    cpu_relax();  // never switches
		    }
	    },
	    {.pinned = true});
	race();
	join(a);
	join(b);
}

// Armed as the others halt: one sees the deadline, or is seen halted and woken to watch.
SCENARIO_TSO(callout_armed_against_halt, 2) {
	int result = -1;
	lwpid_t a = start(1, [&] { result = park(time_in(soon)); });
	race();
	(void)park(time_in(2 * soon));
	join(a);
	EXPECT(result == ETIMEDOUT);
}
