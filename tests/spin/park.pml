// SPDX-License-Identifier: BSD-2-Clause
//
// Park and unpark: the token.
//
// Models, step by step    src/proc/park.cpp    lwp_park, lwp_unpark, lwp_sleep_until as another sleep
//                         src/sync/sleepq.cpp  block with a token, sleepq_unsleep_and_unlock
// One LWP that parks, sleeps otherwise, or runs, for ever; two that unpark it; timeouts and interrupts at any time.  An unparker goes on only
// when its unpark has been used up, alone or with the other one's.
//
// Abstracted: the LWP's lock is one lock and the switch is one step (lock_pointer.pml, sleepq.pml).  That the LWP which is found is the one
// meant (lwp_find_and_lock) is not modelled.
//
// Properties
//   assert: with its lock free, the LWP is never parked while there is a token
//   assert: a park that was not unparked, did not time out and was not interrupted does not end
//   assert: an unpark does not end another sleep
//   no end state: an unpark is used up by some park
//
// @run all
//
// @mutant TOKEN_LATE   all  lwp_park() looks for the token before it has the lock
// @mutant NO_TOKEN     all  an unpark of one that is not parked leaves nothing
// @mutant TOKEN_STAYS  all  a park that finds a token does not take it
// @mutant ANY_SLEEP    all  an unpark ends whatever sleep it finds
// @mutant BOTH         all  an unpark that ends a park leaves a token too
// @mutant UNLOCKED     all  an unpark looks at the state before it has the lock
#include "lock.h"

mtype = { RUNS, PARKED, SLEEPS };
mtype = { NONE, UNPARKED, EALREADY, KICKED };

byte l_lock;
mtype l_stat = RUNS;
mtype l_error = NONE;
bool token;
bool given;   // ghost: an unpark that found nobody parked, which no park has used up

inline check() { assert(!(l_stat == PARKED && token)) }

active proctype parker() {
	mtype error = NONE;
	do
	:: // lwp_park(), block()
#ifdef MUT_TOKEN_LATE
		if
		:: token -> LOCK(l_lock); goto found
		:: else -> LOCK(l_lock); goto block
		fi;
#endif
#ifndef MUT_TOKEN_LATE
		LOCK(l_lock);
#endif
		if
		:: token ->
found:
#ifndef MUT_TOKEN_STAYS
			token = false;
#endif
			atomic { assert(given); given = false; l_lock = 0 }
		:: else ->
block:
			atomic { l_stat = PARKED; check(); l_lock = 0 }
			l_stat == RUNS;
			atomic {
				error = l_error; l_error = NONE;
				assert(error == UNPARKED || error == KICKED);
				error = NONE
			}
		fi
	:: LOCK(l_lock);  // another sleep
		atomic { l_stat = SLEEPS; l_lock = 0 }
		l_stat == RUNS;
		atomic { assert(l_error == KICKED); l_error = NONE }
	od
}

active [2] proctype unparker() {
	do
	:: !given ->
#ifdef MUT_UNLOCKED
		if
		:: l_stat == PARKED -> LOCK(l_lock)
		:: else -> LOCK(l_lock); goto not_parked
		fi;
#endif
#ifndef MUT_UNLOCKED
		LOCK(l_lock);
#endif
		if
#ifdef MUT_ANY_SLEEP
		:: l_stat != RUNS ->
#else
		:: l_stat == PARKED ->
#endif
			atomic {
				assert(l_stat == PARKED); l_error = UNPARKED; l_stat = RUNS;
#ifdef MUT_BOTH
				token = true;
#endif
				l_lock = 0
			}
		:: else ->
not_parked:
			atomic {
#ifndef MUT_NO_TOKEN
				token = true;
#endif
				given = true;
				check();
				l_lock = 0
			}
		fi
	od
}

// The timer, an interrupt.  A sleep other than a park ends by nothing else; a park with an unpark on
// its way is left to that.
active proctype kicker() {
	do
	:: atomic { l_stat == SLEEPS && l_lock == 0 -> l_error = KICKED; l_stat = RUNS }
	:: atomic { l_stat == PARKED && l_lock == 0 && !given -> l_error = KICKED; l_stat = RUNS }
	od
}
