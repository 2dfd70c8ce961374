// SPDX-License-Identifier: BSD-2-Clause
//
// The wait that exactly one of several ends: a record on the waiter's stack that hangs in two queues; senders, a stop request and the timeout.
//
// Models, step by step    src/sync/grant.h, grant.cpp   grant_take, grant_give, grant_wait
//                         src/sync/sleepq.cpp           block with its token, the timer as a kick with ETIMEDOUT
// One waiter that waits for ever again, each time with a new record that hangs in two queues with a lock each.  One sender to each queue, a
// stop request that is registered like a queue of its own, a timeout, and a suspend or interrupt that kicks the waiter at any time.  No bound.
//
// Abstracted: the waiter's lock is one lock (lock_pointer.pml shows that it may be), held by whoever looks at its state or flags; the switch
// is one step.  callout_halt() is in sleepq.pml: here a timeout comes only while the sleep that armed it lasts.
//
// Properties
//   assert: of all that would end a wait exactly one takes it, and what the waiter is told is what that one did
//   assert: nobody touches a record after its waiter has returned from it
//   assert: a wait begins without a token of the one before
//   no end state: a wait that was taken ends
//
// @run all
//
// @mutant TAKE_TWO        all  grant_take() looks and stores in two steps
// @mutant TIMEOUT_TAKES   all  a waiter that timed out returns without taking its record back
// @mutant LEAVE_TAKEN     all  a waiter that lost to a taker returns without waiting for the give
// @mutant GIVE_NO_TOKEN   all  grant_give() leaves no token when the waiter is not asleep
// @mutant GIVE_BLIND      all  grant_give() wakes the waiter from whatever it sleeps in
// @mutant TOKEN_LATE      all  block() looks for the token before it has the waiter's lock
// @mutant TOKEN_STAYS     all  block() does not take the token back
// @mutant KICK_TAKEN      all  a waiter that was taken still lets itself be kicked out
// @mutant NO_UNHANG       all  the waiter returns with its record in the queues
// @mutant TOUCH_AFTER     all  the giver looks at the record after the give
// @mutant GIVE_FIRST      all  the giver gives before it has stored the value
#include "lock.h"

#define PENDING 0
#define TIMED_OUT 9

mtype = { RUNS, ASLEEP, ELSEWHERE };          // ELSEWHERE: asleep, but not on the record
mtype = { NONE, OK, EALREADY, EKICKED, ETIMEDOUT };

byte queue_lock[3];    // two channels; the third: the stop state
bool hangs[3];         // the record is in that queue
byte l_lock;           // the waiter's lock
mtype l_stat = RUNS;
bool interruptible, timed;
bool token;            // LW_GRANTED
mtype l_error = NONE;

byte g_by;             // who took it
bool g_given;
byte value;            // what is handed over
bool alive;            // ghost: the record's frame is there
byte takers;           // ghost

inline touch() { assert(alive) }

// grant_take(): by a sender or the waiter.
inline grant_take(by, result) {
#ifdef MUT_TAKE_TWO
	touch();
	if
	:: g_by == PENDING -> touch(); atomic { g_by = by; takers++; assert(takers == 1) } result = true
	:: else -> result = false
	fi
#else
	atomic {
		touch();
		if
		:: g_by == PENDING -> g_by = by; takers++; assert(takers == 1); result = true
		:: else -> result = false
		fi
	}
#endif
}

// grant_give()
inline grant_give() {
	touch();  // g_lwp
	LOCK(l_lock);
	if
#ifdef MUT_GIVE_BLIND
	:: l_stat == ASLEEP || l_stat == ELSEWHERE ->
#else
	:: l_stat == ASLEEP ->
#endif
		atomic {
			touch();
			assert(l_stat == ASLEEP);
			g_given = true;
			l_error = OK;
			l_stat = RUNS;
			l_lock = 0
		}
	:: else ->
#ifndef MUT_GIVE_NO_TOKEN
		token = true;
#endif
		UNLOCK(l_lock)
	fi
#ifdef MUT_TOUCH_AFTER
	; touch()
#endif
}

// A sender, or the stop request: takes the queue's lock, finds the record, takes it, gives.
active [3] proctype giver() {
	byte q = _pid;
	bool won;
	do
	:: atomic { hangs[q] && queue_lock[q] == 0 -> queue_lock[q] = _pid + 1 }
		if
		:: hangs[q] ->
			grant_take(q + 1, won);
			UNLOCK(queue_lock[q]);
			if
			:: won ->
				won = false;
#ifdef MUT_GIVE_FIRST
				grant_give();
				touch(); value = q + 1
#else
				touch(); value = q + 1;
				grant_give()
#endif
			:: else ->
				// Lost: it leaves the record to its waiter and looks no further until that one has unhung it.
				!hangs[q]
			fi
		:: else -> UNLOCK(queue_lock[q])
		fi
	od
}

// Suspend, interrupt, timer: end the sleep, nothing else.
active proctype kicker() {
	do
	:: atomic { l_stat != RUNS && interruptible && l_lock == 0 -> l_lock = _pid + 1 }
		atomic { l_error = EKICKED; l_stat = RUNS; l_lock = 0 }
	:: atomic { l_stat == ASLEEP && timed && l_lock == 0 -> l_lock = _pid + 1 }
		atomic { l_error = ETIMEDOUT; l_stat = RUNS; l_lock = 0 }
	od
}

// block() on the record.
inline block(catch, with_timer) {
#ifdef MUT_TOKEN_LATE
	if
	:: token -> LOCK(l_lock); token = false; UNLOCK(l_lock); error = EALREADY
	:: else -> LOCK(l_lock);
#else
	LOCK(l_lock);
	if
	:: token ->
#ifndef MUT_TOKEN_STAYS
		token = false;
#endif
		UNLOCK(l_lock);
		error = EALREADY
	:: else ->
#endif
		if
		:: catch -> UNLOCK(l_lock); error = EKICKED  // a suspend or interrupt came before the sleep
		:: true ->
			atomic {
				interruptible = catch;
				timed = with_timer;
				l_stat = ASLEEP;
				l_lock = 0
			}
			l_stat == RUNS;
			atomic { error = l_error; l_error = NONE; interruptible = false; timed = false }
		fi
	fi
}

active proctype waiter() {
	byte i;
	mtype error = NONE;
	bool taken, won, deadline;
	do
	:: atomic { alive = true; g_by = PENDING; g_given = false; value = 0; takers = 0; assert(!token) }
		if :: deadline = true :: deadline = false fi;
		// Hangs the record up.
		LOCK(queue_lock[0]); hangs[0] = true; UNLOCK(queue_lock[0]);
		LOCK(queue_lock[1]); hangs[1] = true; UNLOCK(queue_lock[1]);
		LOCK(queue_lock[2]); hangs[2] = true; UNLOCK(queue_lock[2]);
wait:		// grant_wait()
		taken = false;
		do
		::
#ifdef MUT_KICK_TAKEN
			block(true, (deadline && !taken));
#else
			block(!taken, (deadline && !taken));
#endif
			if
			:: error == EALREADY || g_given -> break
			:: error == ETIMEDOUT && !g_given ->
#ifdef MUT_TIMEOUT_TAKES
				break;
#endif
				grant_take(TIMED_OUT, won);
				if :: won -> break :: else -> taken = true fi
			:: error == EKICKED && !g_given ->
				if :: !taken -> break :: else
#ifdef MUT_KICK_TAKEN
				-> break
#endif
				fi
			:: else -> assert(taken)
			fi
		od;
		if
		:: error == EKICKED && !g_given && !taken ->
			// Passes the boundary, where it may sleep for some other reason; then waits again, or takes the record back.
			if
			:: atomic { l_lock == 0 -> l_stat = ELSEWHERE; interruptible = true }
				l_stat == RUNS;
				atomic { interruptible = false; l_error = NONE }
				goto wait
			:: goto wait
			:: grant_take(TIMED_OUT, won);
				if
				:: won
				:: else ->
#ifndef MUT_LEAVE_TAKEN
					goto wait
#else
					skip
#endif
				fi
			fi
		:: else
		fi;
		// Unhangs it everywhere.
#ifndef MUT_NO_UNHANG
		LOCK(queue_lock[0]); hangs[0] = false; UNLOCK(queue_lock[0]);
		LOCK(queue_lock[1]); hangs[1] = false; UNLOCK(queue_lock[1]);
		LOCK(queue_lock[2]); hangs[2] = false; UNLOCK(queue_lock[2]);
#endif
		atomic {
			assert(takers == 1 && g_by != PENDING);
			assert(g_by == TIMED_OUT -> value == 0 : value == g_by);
			alive = false;
			won = false; taken = false; error = NONE
		}
#ifdef MUT_NO_UNHANG
		hangs[0] = false; hangs[1] = false; hangs[2] = false;
#endif
	od
}
