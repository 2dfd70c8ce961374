// SPDX-License-Identifier: BSD-2-Clause
//
// The idle protocol: searching, stealing, halting, the watcher, and who wakes a vCPU that halts.
//
// Models, step by step    src/sched/idle.cpp    vcpu_halt, vcpu_unhalt, unhalt_as, wake_searcher, try_to_watch, watch_found_work, watch_take,
//                                               needs_watch, sched_search_begin, sched_search_end, sched_steal, sched_work_queued_slow
//                         src/sched/place.cpp   queue_there, queue_here
//                         src/sched/switch.cpp  vcpu_idle_loop, take_next
// Two vCPUs.  WORK outsiders queue an LWP each in an inbox.  An LWP that runs may queue CHILDREN more on its own vCPU, then ends, or (-DSTUCK) runs on
// for ever without a switch.
//
// Abstracted: LWPs are counted, all may run anywhere.  The queue locks are one step each.  A search has one round.  Time: a watching vCPU's park
// may end at any time; a pause after a theft that did not pay is not modelled; a watcher that sees nobody run gives up after LOOKS looks.
// There are no timers.  The search is sequentially consistent: the two fences are where a store comes before a look.
//
// Properties
//   no end state with a queued LWP whose vCPU sleeps for good (assert when nothing else moves)
//   -DSTUCK: none with an LWP queued behind one that runs on for ever while the other vCPU sleeps for good.  idle.cpp does not promise it:
//            the search fails without -DWATCH_EXACT, under which vCPUs that run are told by vc_halted, not by the count of those that
//            halt, and a watcher that gives up looks once more.  With two outsiders (-DWORK=2) it fails even so
//   assert: sd_halted and sd_searching count exactly
//
// @run outside  -DWORK=1 -DCHILDREN=0
// @run piles    -DWORK=1 -DCHILDREN=2
// @run stuck    -DWORK=1 -DCHILDREN=1 -DSTUCK -DWATCH_EXACT
//
// @mutant NO_FENCE_WAKER outside  vcpu_unhalt() looks whether the vCPU halts before its work can be seen
// @mutant NO_FENCE_HALT  outside  vcpu_halt() looks for work before it can be seen to halt
// @mutant NO_RECHECK     outside  vcpu_halt() does not look for work once more
// @mutant PARK_BLIND     outside  the park does not compare vc_halted
// @mutant COUNT_TWICE    outside  who ends a halt counts it although somebody was first
// @mutant SEARCH_STAYS   outside  a vCPU that was woken to search does not know that it is counted
// @mutant NO_WATCH       stuck    nobody watches
// @mutant NO_WAKE_WATCH  stuck    who queues an LWP behind itself does not wake a watcher when there is none
// @mutant COUNTED        stuck    idle.cpp's way: others run if not all are counted as halted
// @mutant NO_RELOOK      stuck    idle.cpp's way: a watcher that gives up does not look once more whether others run
#include "lock.h"

#ifndef LOOKS
#define LOOKS 1
#endif
#define RUNNING 0
#define WAITS 1
#define SEARCH 2
#define NOBODY 255
#define OTHER (1 - me)
#define PILE 2

byte vc_rq[2], vc_incount[2], vc_halted[2];
bool asleep[2], watches[2];  // in the futex; with a time limit
byte sd_halted, sd_searching, sd_watcher = NOBODY;
byte children = CHILDREN;
bool stuck[2];              // an LWP runs there and never switches

// unhalt_as()
inline unhalt_as(vc, as, result) {
	atomic {
		if
		:: vc_halted[vc] == WAITS -> vc_halted[vc] = as; result = true
		:: else -> result = false
		fi
	}
#ifdef MUT_COUNT_TWICE
	sd_halted--
#else
	if :: result -> sd_halted-- :: else fi
#endif
}
inline unpark(vc) { asleep[vc] = false }

// vcpu_unhalt()
inline vcpu_unhalt(vc, result) {
	result = false;
	if
	:: vc_halted[vc] == WAITS -> unhalt_as(vc, RUNNING, result); if :: result -> unpark(vc) :: else fi
	:: else
	fi
}

// wake_searcher()
inline wake_searcher() {
	do
	::
		atomic {
			woke = (sd_searching != 0);
			if :: !woke -> sd_searching = 1 :: else fi
		}
		if
		:: !woke ->
			i = 0;
			do
			:: i < 2 && !woke ->
				if
				:: vc_halted[i] == WAITS -> unhalt_as(i, SEARCH, woke); if :: woke -> unpark(i) :: else fi
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0;
			if
			:: woke -> break
			:: else ->
				sd_searching--;
				break
			fi
		:: else -> break
		fi
	od;
	woke = false
}

#define NEEDS_WATCH (vc_halted[OTHER] == RUNNING && (vc_rq[OTHER] != 0 || vc_incount[OTHER] != 0))
#if defined(WATCH_EXACT) && !defined(MUT_COUNTED)
#define OTHERS_RUN (vc_halted[OTHER] != WAITS)
#else
#define OTHERS_RUN (sd_halted < 2)
#endif

// vcpu_halt(): sets searched if it was woken to search.
inline vcpu_halt() {
#ifdef MUT_NO_FENCE_HALT
	halt_work = (vc_incount[me] != 0 || vc_rq[OTHER] >= PILE);
#endif
#ifndef MUT_NO_WATCH
	if
	:: OTHERS_RUN -> atomic { if :: sd_watcher == NOBODY -> sd_watcher = me; watching = true :: else fi }
	:: else
	fi;
#endif
	vc_halted[me] = WAITS;
	sd_halted++;
#ifndef MUT_NO_FENCE_HALT
	halt_work = (vc_incount[me] != 0);
	if :: !halt_work -> halt_work = (vc_rq[OTHER] >= PILE) :: else fi;
#endif
#ifdef MUT_NO_RECHECK
	halt_work = false;
#endif
	do
	:: !halt_work && !found ->
#ifndef MUT_NO_WATCH
		if
		:: !watching && looks < LOOKS && OTHERS_RUN ->
			atomic { if :: sd_watcher == NOBODY -> sd_watcher = me; watching = true :: else fi }
		:: else
		fi;
#endif
		atomic {  // futex_park()
			if
#ifndef MUT_PARK_BLIND
			:: vc_halted[me] == WAITS -> asleep[me] = true; watches[me] = watching
#else
			:: true -> asleep[me] = true; watches[me] = watching
#endif
			:: else
			fi
		}
end_asleep:
		if
		:: !asleep[me]
		:: asleep[me] && watches[me] -> asleep[me] = false
		fi;
		watches[me] = false;
		if :: vc_halted[me] != WAITS -> break :: else fi;
		if  // watch_found_work(): whether the other one has not switched since is a guess, but right in the end
		:: NEEDS_WATCH -> found = true
		:: !stuck[OTHER]
		:: else
		fi;
		if
		:: watching ->
			if :: OTHERS_RUN -> looks = 0 :: else -> looks++ fi;
			if
			:: looks >= LOOKS ->
				sd_watcher = NOBODY;
				watching = false;
#if defined(WATCH_EXACT) && !defined(MUT_NO_RELOOK)
				if :: OTHERS_RUN -> looks = 0 :: else fi
#endif
			:: else
			fi
		:: else
		fi
	:: else -> break
	od;
	if :: watching -> sd_watcher = NOBODY :: else fi;
	unhalt_as(me, RUNNING, woke);
	woke = false;
	atomic { searched = (vc_halted[me] == SEARCH); vc_halted[me] = RUNNING }
#ifdef MUT_SEARCH_STAYS
	searched = false;
#endif
	if
	:: found && vc_halted[OTHER] == RUNNING ->  // watch_take()
		atomic {
			if
			:: vc_incount[OTHER] != 0 -> vc_incount[me] = vc_incount[me] + vc_incount[OTHER]; vc_incount[OTHER] = 0
			:: else -> n = (vc_rq[OTHER] + 1) / 2; vc_rq[OTHER] = vc_rq[OTHER] - n; vc_incount[me] = vc_incount[me] + n; n = 0
			fi
		}
	:: else
	fi;
	if
	:: (watching || found) && !searched && sd_halted != 0 && NEEDS_WATCH -> wake_searcher()
	:: else
	fi;
	watching = false; found = false; halt_work = false; looks = 0
}

// queue_here(), by the LWP that runs.
inline queue_here() {
	atomic { vc_rq[me]++; n = vc_rq[me] }
	if  // sched_work_queued()
	:: sd_halted != 0 ->
		if
#ifndef MUT_NO_WAKE_WATCH
		:: sd_watcher == NOBODY -> if :: sd_searching == 0 -> wake_searcher() :: else fi
#endif
		:: n >= PILE -> if :: sd_searching == 0 -> wake_searcher() :: else fi
		:: else
		fi
	:: else
	fi;
	n = 0
}

inline search_end(did_find) {
	atomic { sd_searching--; woke = (sd_searching == 0) }
	if
	:: did_find && woke && sd_halted != 0 ->
		woke = false;
		if
		:: vc_rq[OTHER] >= PILE || (sd_watcher == NOBODY && NEEDS_WATCH) -> wake_searcher()
		:: else
		fi
	:: else -> woke = false
	fi
}

active [2] proctype vcpu() {
	byte me = _pid;
	byte n, i, looks;
	bool searched, woke, found, halt_work, watching;
	do  // vcpu_idle_loop()
	:: atomic {  // take_next()
		vc_rq[me] = vc_rq[me] + vc_incount[me];
		vc_incount[me] = 0;
		n = vc_rq[me];
		if :: n != 0 -> vc_rq[me]-- :: else fi
	   }
		if
		:: n != 0 ->
			n = 0;
			if :: searched -> searched = false; search_end(true) :: else fi;
			do  // the LWP
			:: atomic { children > 0 -> children-- } queue_here()
#ifdef STUCK
			:: atomic { !stuck[OTHER] -> stuck[me] = true }
end_stuck:			false
#endif
			:: break
			od
		:: else ->
			if :: !searched -> sd_searching++; searched = true :: else fi;
			if
			:: vc_rq[OTHER] >= PILE ->  // sched_steal()
				atomic { n = vc_rq[OTHER] / 2; vc_rq[OTHER] = vc_rq[OTHER] - n; vc_incount[me] = vc_incount[me] + n; n = 0 }
			:: else ->
				search_end(false);
				searched = false;
				vcpu_halt()
			fi
		fi
	od
}

// queue_there(), from outside; the choice of the vCPU is a guess.
active [WORK] proctype outsider() {
	byte to;
	bool ok;
	if :: to = 0 :: to = 1 fi;
#ifdef STUCK
	vc_halted[to] == WAITS;  // from_outside() prefers one that halts
#endif
#ifdef MUT_NO_FENCE_WAKER
	ok = (vc_halted[to] == WAITS);
	vc_incount[to]++;
	if :: ok -> ok = false; vcpu_unhalt(to, ok) :: else fi
#else
	vc_incount[to]++;
	vcpu_unhalt(to, ok);
#endif
}

active proctype nothing_moves() {
	byte v;
	timeout ->
	d_step {
		for (v : 0 .. 1) {
			assert(vc_rq[v] + vc_incount[v] == 0);
			assert(vc_halted[v] == WAITS || stuck[v])
		}
		assert(sd_searching == 0);
		assert(sd_halted == (vc_halted[0] == WAITS) + (vc_halted[1] == WAITS))
	}
}
