// SPDX-License-Identifier: BSD-2-Clause
//
// The mutex: a word that names its owner, and waiters in a list of the mutex under a spin lock.
//
// Models, step by step    src/sync/mutex.h    mutex_trylock, mutex_unlock
//                         src/sync/mutex.cpp  take, spin, take_or_flag_locked, mutex_lock_slow, mutex_unlock_slow
//                         src/sync/sleepq.cpp block, sleepq_unsleep_and_unlock, as far as the list goes
// N LWPs, each locks and unlocks ROUNDS times (0: for ever).  A sleeping waiter may time out (-DTIMEOUT: then it gives up) and be kicked by a
// suspend (-DKICK: it passes the boundary and calls again), as often as it likes.  With -DPRIO the last LWP is better than the others.
//
// Abstracted: a sleep and its end are one step each under the waiters' lock (sleepq.pml shows that they may be).  spin() is one look at the
// word, or none.  What a condition variable needs (mutex_requeue_and_unlock, mutex_unlock_locked) is not modelled.
//
// Properties
//   assert: mutual exclusion; who has unlocked is not the owner
//   assert (-DDESTROY): who comes last unlocks and destroys; nobody looks at the word after that
//   assert (without -DPRIO): a waiter that looked, lost and stands first in the list is handed the mutex
//   no end state with a sleeper: while one sleeps there is an owner whose unlock sees to it, or one awake that will take the mutex
//
// @run three     -DN=3 -DROUNDS=0
// @run rounds    -DN=3 -DROUNDS=2
// @run better    -DN=3 -DROUNDS=2 -DPRIO -DKICK
// @run timeouts  -DN=3 -DROUNDS=0 -DTIMEOUT -DKICK
// @run destroy   -DN=3 -DROUNDS=1 -DTIMEOUT -DDESTROY
//
// @mutant FLAG_EARLY     rounds    the waiter sets its flag before it has the waiters' lock
// @mutant NO_FLAG        rounds    a waiter does not set its flag
// @mutant NO_RELOOK      rounds    with the waiters' lock held it does not look whether the mutex is free by now
// @mutant REST_LOST      rounds    unlock forgets that others wait
// @mutant NO_WAKE        rounds    unlock frees the word and wakes nobody
// @mutant WOKEN_STAYS    rounds    who was woken does not take kmutex::woken back
// @mutant WOKEN_LEAVES   rounds    who was woken and finds the mutex taken stops with kmutex::woken still set
// @mutant NO_STARVED     three     who was woken and lost does not ask for the hand-over
// @mutant STARVED_SHORT  rounds    unlock takes the short way although one starves
// @mutant GIFT_UNSEEN    rounds    who was given the mutex asks for it
// @mutant EMPTY_ONCE     destroy   unlock with all waiters gone does not free the word after that
// @mutant FREE_FIRST     destroy   unlock with all waiters gone frees the word, then looks at it again
#include "lock.h"

#define WAITED 16
#define WOKEN 32
#define STARVED 64
#define FLAGS 112
#define OWNER(w) ((w) & 15)
#ifdef PRIO
#define PRI(who) ((who) == N -> 1 : 0)
#else
#define PRI(who) 0
#endif

mtype = { RUNS, ASLEEP };
mtype = { NONE, BY_WAKE, BY_GIFT, ETIMEDOUT, EKICKED };

byte word;              // owner: 1 + index
byte wlock;             // waiters_lock()
byte wokenpri;
byte line[N];           // the list, first first
byte queued;
mtype stat[N];
mtype how[N];
bool starving[N];       // ghost: it looked and lost, and sleeps
byte inside;
byte through;           // ghost: how many have had it, or given up, for the last time
bool destroyed;

inline touch() { assert(!destroyed) }
inline cas(from, to, result) {
	atomic {
		touch();
		if
		:: word == (from) -> word = (to); result = true
		:: else -> result = false
		fi
	}
}
// take(): the exchange, tried again while the mutex is free.
inline take(result) {
	atomic {
		touch();
		if
		:: OWNER(word) == 0 -> word = (word & (127 - clear)) | self; result = true
		:: else -> result = false
		fi
	}
}
inline remove(who) {
	atomic {
		i = 0;
		do :: line[i] != who -> i++ :: else -> break od;
		do :: i < queued - 1 -> line[i] = line[i + 1]; i++ :: else -> break od;
		queued--;
		line[queued] = 0;
		i = 0
	}
}
// By priority, then first come first served; `first`: before its equals.
inline insert(who, first) {
	atomic {
		i = queued;
		do
		:: i > 0 && (PRI(who) > PRI(line[i - 1]) || (first && PRI(who) == PRI(line[i - 1]))) -> line[i] = line[i - 1]; i--
		:: else -> break
		od;
		line[i] = who;
		queued++;
		i = 0
	}
}

// The timer, or a suspend: takes a sleeper off the list, under its lock.
inline end_sleep(x, error) {
	atomic {
		wlock == 0 && stat[x] == ASLEEP ->
		remove(x + 1);
		how[x] = error;
		starving[x] = false;
		stat[x] = RUNS
	}
}

proctype lwp(byte me) {
	byte self = me + 1;
	byte seen, clear, i, n, heir, rest;
	bool got, lost, gift, last;
	do
	:: ROUNDS == 0 || n < ROUNDS ->
		if :: ROUNDS != 0 -> n++ :: else fi;
again:
		take(got);  // mutex_trylock()
		if :: got -> goto owns :: else fi;
		// mutex_lock_slow()
		do
		::
			if
			:: take(got);  // spin()
				if :: got -> goto owns :: else fi
			:: true
			fi;
			// take_or_flag_locked()
#ifdef MUT_FLAG_EARLY
			atomic { touch(); if :: OWNER(word) != 0 -> word = word | WAITED :: else fi }
			LOCK(wlock);
#else
			LOCK(wlock);
			do
			:: seen = word;
#ifdef MUT_NO_RELOOK
				cas(seen, seen | WAITED, got);
				if :: got -> break :: else fi
#else
				if
				:: OWNER(seen) == 0 ->
					take(got);
					if :: got -> UNLOCK(wlock); goto owns :: else fi
				:: else ->
					rest = seen;
#ifndef MUT_WOKEN_STAYS
					if :: PRI(self) > wokenpri -> rest = rest & (127 - WOKEN) :: else -> rest = rest & (127 - clear) fi;
#endif
#ifndef MUT_NO_FLAG
					rest = rest | WAITED;
#endif
#ifndef MUT_NO_STARVED
					if :: lost -> rest = rest | STARVED :: else fi;
#endif
					cas(seen, rest, got);
					rest = 0;
					if :: got -> break :: else fi
				fi
#endif
			od;
			seen = 0;
#endif
			atomic {
				touch();
				insert(self, lost);
				starving[me] = lost;
				how[me] = NONE;
				stat[me] = ASLEEP;
				wlock = 0
			}
			stat[me] == RUNS;
			if
#ifndef MUT_GIFT_UNSEEN
			:: how[me] == BY_GIFT -> goto owns
#else
			:: how[me] == BY_GIFT -> take(got); if :: got -> goto owns :: else fi
#endif
			:: how[me] == ETIMEDOUT -> goto gave_up
			:: how[me] == EKICKED -> atomic { lost = false; clear = 0 } goto again
			:: how[me] == BY_WAKE ->
#ifndef MUT_WOKEN_STAYS
				clear = WOKEN;
#endif
				take(got);
				if :: got -> goto owns :: else fi;
#ifdef MUT_WOKEN_LEAVES
				if :: break :: true fi;
#endif
				lost = true
			fi
		od;
#ifdef MUT_WOKEN_LEAVES
		if :: OWNER(word) != self -> goto stopped :: else fi;
#endif
owns:
		atomic {
			assert(OWNER(word) == self && inside == 0);
			inside++;
			lost = false; got = false; clear = 0; seen = 0; how[me] = NONE
		}
		atomic {
			inside--;
			if :: ROUNDS != 0 && n == ROUNDS -> through++ :: else fi;
			last = (ROUNDS != 0 && through == N)
		}
		// mutex_unlock()
		atomic { touch(); seen = word; rest = seen & FLAGS }
		if
#ifdef MUT_STARVED_SHORT
		:: rest == 0 || (rest & WOKEN) != 0 || (rest & STARVED) != 0 ->
#else
		:: rest == 0 || (rest & (FLAGS - WAITED)) == WOKEN ->
#endif
			cas(seen, rest, got);
			if :: got -> goto unlocked :: else fi
		:: else
		fi;
		// mutex_unlock_slow()
		atomic { touch(); seen = word }
		do
		:: (seen & WAITED) == 0 || (seen & (WOKEN | STARVED)) == WOKEN ->
			cas(seen, seen & FLAGS, got);
			if :: got -> break :: else -> atomic { touch(); seen = word } fi
		:: else ->
			LOCK(wlock);
			atomic { touch(); seen = word; heir = line[0] }
			if
			:: queued == 0 ->
#ifdef MUT_EMPTY_ONCE
				UNLOCK(wlock);
				break
#elif defined(MUT_FREE_FIRST)
				atomic { touch(); word = 0 }
				UNLOCK(wlock);
				touch();  // looks whether somebody came
				break
#else
				atomic { seen = seen & (127 - WAITED - STARVED); touch(); word = seen }
				UNLOCK(wlock)
#endif
			:: else ->
				rest = (seen & WOKEN) | (queued > 1 -> WAITED : 0);
#ifdef MUT_REST_LOST
				rest = seen & WOKEN;
#endif
				gift = ((seen & STARVED) != 0);
#ifndef PRIO
				assert(gift || !starving[heir - 1]);
#endif
				if
				:: gift -> atomic { touch(); word = heir | rest }
				:: else -> wokenpri = PRI(heir); atomic { touch(); word = rest | WOKEN }
				fi;
#ifndef MUT_NO_WAKE
				atomic {  // sleepq_unsleep_and_unlock()
					remove(heir);
					how[heir - 1] = (gift -> BY_GIFT : BY_WAKE);
					starving[heir - 1] = false;
					stat[heir - 1] = RUNS;
					wlock = 0
				}
#else
				UNLOCK(wlock);
#endif
				break
			fi
		od;
unlocked:
		assert(gift || OWNER(word) != self);
#ifdef DESTROY
		if :: last -> destroyed = true :: else fi;
#endif
		atomic { heir = 0; rest = 0; seen = 0; got = false; gift = false; last = false }
		goto round
gave_up:
		atomic {
			how[me] = NONE; lost = false; got = false; clear = 0;
			if :: ROUNDS != 0 && n == ROUNDS -> through++ :: else fi
		}
round:
		skip
	:: ROUNDS != 0 && n == ROUNDS -> break
	od;
stopped:
	skip
}

#if defined(TIMEOUT) || defined(KICK)
proctype ends(byte me) {
	byte i;
endless:
	do
#ifdef TIMEOUT
	:: end_sleep(me, ETIMEDOUT)
#endif
#ifdef KICK
	:: end_sleep(me, EKICKED)
#endif
	od
}
#endif

init {
	byte j;
	atomic {
		for (j : 0 .. N - 1) {
			stat[j] = RUNS;
			how[j] = NONE;
			run lwp(j);
#if defined(TIMEOUT) || defined(KICK)
			run ends(j)
#endif
		}
	}
}
