// SPDX-License-Identifier: BSD-2-Clause
//
// Sleeping: block, wake, timeout, suspend and interrupt, and the timer's end.
//
// Models, step by step    src/sync/sleepq.cpp    block, unsleep, sleepq_timeout, waiters_wake_and_unlock, sleepq_unsleep_and_unlock
//                         src/sched/callout.cpp  callout_schedule, callout_halt, callout_run
//                         src/proc/suspend.cpp   post_suspend, lwp_continue, lwp_wakeup, as far as they touch a sleeper
//                         src/sched/switch.cpp   cpu_switchto, arrive, take_next, for one LWP
// One LWP that waits for a condition in a list under its lock, with a timer in each sleep, for ever again; a waker that makes the condition
// true; a vCPU that fires timers; an interrupter; a suspender that then continues.  No bound.
//
// Abstracted: two lock words cover the LWP, vc_lwplock while it runs and sq_lock while it sleeps; when it is LSRUN it is unlocked until it is
// dispatched (the run queue's lock is in lock_pointer.pml).  Its vCPU's idle LWP is played by the same process.
//
// Properties
//   assert: a sleep is ended once, by one party, while the LWP is LSSLEEP; it is made runnable once, off its stack
//   assert: a timer that fires does not touch a later sleep, nor a frame that is gone
//   no end state: no wake-up, suspend or continue is lost
//
// @run all
//
// @mutant NO_HALT        all  the sleeper does not halt its timer
// @mutant HALT_NO_WAIT   all  callout_halt() does not wait for a timer that fires
// @mutant TIMEOUT_BLIND  all  sleepq_timeout() does not look whether the sleep is over
// @mutant WCHAN_STAYS    all  unsleep() leaves l_wchan
// @mutant NO_KICK_LOOK   all  block() does not look whether a suspend came
// @mutant KICK_LOOK_LATE all  block() looks for a suspend before it has vc_lwplock
// @mutant UNLOCK_FIRST   all  block() releases the list's lock before it is LSSLEEP
// @mutant EARLY_RELEASE  all  the sleep's lock is released before the switch is over
// @mutant NO_RETRY       all  lwp_lock() does not look whether the pointer moved
// @mutant COND_UNLOCKED  all  the condition is tested before the list's lock is taken
#include "lock.h"

#define LWPLOCK 0
#define SQLOCK 1

mtype = { ONPROC, SLEEP, RUN, SUSPENDED };
mtype = { NONE, WOKEN, TIMEDOUT, KICKED };

byte lk[2];
byte l_mutex = LWPLOCK;
mtype l_stat = ONPROC;
bool l_wchan, sintr, wsuspend, onlist;
mtype l_error = NONE;
bool onstack = true;
bool cond;

byte colock;
bool in_heap, firing;
byte generation, armed;      // ghost: which sleep, modulo 4; for which the timer was armed
bool frame;                  // ghost: the timer's frame is there

inline lwp_lock() {
	do
	:: got = l_mutex;
		LOCK(lk[got]);
#ifdef MUT_NO_RETRY
		break
#else
		if
		:: l_mutex == got -> break
		:: else -> UNLOCK(lk[got])
		fi
#endif
	od
}
// unsleep(), then sched_wake_and_unlock(); the LWP is locked by `lock`.
inline unsleep_and_unlock(error, lock) {
	atomic {
		assert(l_stat == SLEEP && l_mutex == lock && HELD(lk[lock]));
		assert(!onstack);
		assert(onlist);
		onlist = false;
#ifndef MUT_WCHAN_STAYS
		l_wchan = false;
#endif
		l_error = error;
		sintr = false;
		l_stat = RUN;
		l_mutex = LWPLOCK;
		lk[lock] = 0
	}
}

active proctype sleeper() {
	mtype how = NONE;
	bool due;
	do
	::
		// The caller: waits until the condition is true.
#ifdef MUT_COND_UNLOCKED
		if :: cond -> cond = false; goto boundary :: else fi;
		LOCK(lk[SQLOCK]);
#else
		LOCK(lk[SQLOCK]);
		if :: cond -> cond = false; UNLOCK(lk[SQLOCK]); goto boundary :: else fi;
#endif
		// block()
#ifdef MUT_KICK_LOOK_LATE
		due = wsuspend;
#endif
		LOCK(lk[LWPLOCK]);
#ifdef MUT_UNLOCK_FIRST
		UNLOCK(lk[SQLOCK]);
#endif
#ifndef MUT_KICK_LOOK_LATE
		due = wsuspend;
#endif
#ifdef MUT_NO_KICK_LOOK
		due = false;
#endif
		if
		:: due ->
			UNLOCK(lk[LWPLOCK]);
#ifndef MUT_UNLOCK_FIRST
			UNLOCK(lk[SQLOCK]);
#endif
			goto boundary
		:: else
		fi;
		if
		:: LOCK(colock);  // callout_schedule()
			atomic { generation = (generation + 1) % 4; armed = generation; frame = true; in_heap = true; colock = 0 }
			due = true
		:: generation = (generation + 1) % 4
		fi;
#ifdef MUT_UNLOCK_FIRST
		LOCK(lk[SQLOCK]);
#endif
		atomic { sintr = true; l_wchan = true; onlist = true }
		l_stat = SLEEP;    // lwp_setstat()
		l_mutex = SQLOCK;
		// mi_switch_and_unlock(): off the stack, then arrive() releases both
#ifdef MUT_EARLY_RELEASE
		UNLOCK(lk[LWPLOCK]);
		UNLOCK(lk[SQLOCK]);
		onstack = false;
#else
		onstack = false;
		UNLOCK(lk[LWPLOCK]);
		UNLOCK(lk[SQLOCK]);
#endif
		// take_next() on some vCPU; a sleep that nobody ends is no error as long as nobody waits for its end
end_asleep:
		atomic { l_stat == RUN && lk[LWPLOCK] == 0 -> lk[LWPLOCK] = _pid + 1 }
		atomic { assert(!onstack); l_stat = ONPROC; onstack = true }
		UNLOCK(lk[LWPLOCK]);
#ifndef MUT_NO_HALT
		if
		:: due ->  // callout_halt()
			LOCK(colock);
			if
			:: in_heap -> in_heap = false; UNLOCK(colock)
			:: else ->
				UNLOCK(colock);
#ifndef MUT_HALT_NO_WAIT
				!firing
#endif
			fi
		:: else
		fi;
#endif
		atomic { frame = false; assert(l_error != NONE); l_error = NONE; due = false }
boundary:	// lwp_userret(): stops while it is to be suspended
		due = false;
		do
		:: wsuspend ->
			LOCK(lk[LWPLOCK]);
			if
			:: wsuspend ->
				atomic { l_stat = SUSPENDED; onstack = false }
				UNLOCK(lk[LWPLOCK]);
				atomic { l_stat == RUN && lk[LWPLOCK] == 0 -> lk[LWPLOCK] = _pid + 1 }
				atomic { assert(!onstack); l_stat = ONPROC; onstack = true }
				UNLOCK(lk[LWPLOCK])
			:: else -> UNLOCK(lk[LWPLOCK])
			fi
		:: else -> break
		od
	od
}

// Each condition is consumed before the next is made, so a lost wake-up leaves the waker waiting.
active proctype waker() {
	do
	:: !cond -> break
	:: !cond;
		LOCK(lk[SQLOCK]);
		cond = true;
		if
		:: onlist && l_stat == SLEEP -> unsleep_and_unlock(WOKEN, SQLOCK)
		:: else -> UNLOCK(lk[SQLOCK])
		fi
	od
}

// callout_run() by any vCPU: it may find the timer due at any time.
active proctype timers() {
	byte got, mine;
end:
	do
	:: atomic { in_heap && colock == 0 -> colock = _pid + 1 }
		if
		:: in_heap ->
			atomic { in_heap = false; firing = true; mine = armed; colock = 0 }
			// sleepq_timeout()
			assert(frame);
			lwp_lock();
			if
#ifndef MUT_TIMEOUT_BLIND
			:: !l_wchan -> UNLOCK(lk[got])
#endif
			:: else ->
				assert(mine == generation);
				unsleep_and_unlock(TIMEDOUT, got)
			fi;
			LOCK(colock);
			atomic { firing = false; colock = 0 }
		:: else -> UNLOCK(colock)
		fi;
		atomic { got = 0; mine = 0 }
	od
}

// lwp_suspend() and lwp_continue(); lwp_wakeup().  p_lock, which orders them, is this process.
active proctype suspender() {
	byte got;
	do
	:: lwp_lock();
		wsuspend = true;
		if
		:: l_stat == SLEEP && sintr -> unsleep_and_unlock(KICKED, got)
		:: else -> UNLOCK(lk[got])
		fi;
		l_stat == SUSPENDED;
		lwp_lock();
		wsuspend = false;
		atomic { assert(l_stat == SUSPENDED && l_mutex == got && !onstack); l_stat = RUN; lk[got] = 0 }
		got = 0
	:: lwp_lock();
		if
		:: l_stat == SLEEP && sintr -> unsleep_and_unlock(KICKED, got)
		:: else -> UNLOCK(lk[got])
		fi;
		got = 0
	:: break
	od
}
