// SPDX-License-Identifier: BSD-2-Clause
//
// Waiting for an LWP's end: lwp_wait1(), lwp_end(), lwp_detach(), _lwp_wakeup() of a waiter, and the deadlock rule, with the proc in parts.
//
// Models, step by step    src/proc/wait.cpp     enter, leave, waits_for, look, sleep_and_leave, wait_one, wait_any, wait_take_back,
//                                               wait_end, wait_recheck, wait_candidate_gone, lwp_detach
//                         src/proc/exit.cpp     leave_running, hand_to_waiter, lwp_forget, lwp_free_and_unlock, lwp_end
//                         src/proc/proc.cpp     proc_dry, part_dry; src/proc/proc.h part_hold
//                         src/proc/suspend.cpp  lwp_wakeup, as far as it ends a wait
// N LWPs in P parts; each does K things, chosen freely among: nothing, wait for one, wait for any, detach, and (-DKICK) wake another one out
// of its wait; then it ends.  Of the last two kinds there are at most ODD in a run.  All choices and all orders are searched.
// With -DDAEMON the last one is detached and runs for ever.
//
// Abstracted: a section under locks is one step but for the counters that others peek at without a lock (pp_nrlwps, pp_nlwpwait,
// pp_nfarwait, p_nanywaits): each of their writes is a step, and so is each peek.  Falling asleep with the interlock's release is one step
// (sleepq.pml shows that it may be).  The search is sequentially consistent: the fence in proc_dry() is where a store comes before a peek.
// The detached dead are freed at once, not kept in pp_zomblwp.  Nobody is suspended.  The last LWP does not end the process.
//
// Properties
//   assert: waits never form a cycle; nobody waits for a dead LWP
//   no end state with an LWP that sleeps: no missed EDEADLK, and every waiter of a dead or detached LWP returns
//   assert: EDEADLK only if all others have ended or wait, or the LWP waited for waits in a chain for the caller
//   assert: ESRCH for any only if nobody is left who could be collected
//   assert: a zombie is collected once, by whom it was given to; counters agree at the end
//
// @run one-each   -DN=4 -DP=2 -DK=1 -DODD=0
// @run three-two  -DN=3 -DP=2 -DK=2 -DODD=1
// @run three-one  -DN=3 -DP=3 -DK=1 -DODD=2 -DKICK
// @run daemon     -DN=3 -DP=2 -DK=1 -DODD=2 -DDAEMON
//
// @mutant NO_FENCE      one-each   proc_dry() peeks before the own store is seen
// @mutant OWN_PART      one-each   only the own part is looked at, not the others
// @mutant DRY_IS_DEAD   one-each   what was peeked is believed, without all locks
// @mutant END_NOT_ASKED three-two  an LWP that ends never asks whether all parts are dry
// @mutant FAR_UNCOUNTED one-each   a wait for an LWP of another part is not counted
// @mutant STAY_COUNTED  one-each   a wait that is ended stays counted until its waiter runs
// @mutant NO_CYCLE      three-two  no look whether the LWP waited for waits for the caller
// @mutant CYCLE_LOCAL   three-two  the chain of waits is given up where it leaves the part
// @mutant FIRST_ONLY    one-each   a dead LWP's second waiter is not told
// @mutant DETACH_SILENT three-two  a detach does not end the waits for its target
// @mutant CANDIDATE     daemon     the waits for any are not looked at again when a candidate goes
// @mutant ANY_ONE_LOCK  three-two  a wait for any is entered under the own part's lock only
// @mutant NOT_CLAIMED   one-each   a zombie that was given to a waiter is not marked
// @mutant KICK_NARROW   three-one  a wait for an LWP of another part is broken off under the own part's lock
#include "lock.h"

#define NONE 255
#define ANY 254

#define PART(i) ((i) * P / N)

mtype = { RUNS, ASLEEP, ZOMB };
mtype = { OK, ESRCH, EDEADLK, EINTR };

byte pp_lock[P];
byte pp_nrlwps[P], pp_nlwpwait[P], pp_nfarwait[P];  // peeked at without the lock
byte p_nanywaits;                                   // the same

mtype stat[N];       // under the part's lock where it matters
bool detached[N], claimed[N], freed[N], zombie[N];  // zombie: on pp_zombies
byte target[N];      // l_wait: whom it waits for, ANY, or NONE
byte began[N];       // the order in which waits began: place in the lists.  0: does not wait
mtype wr_error[N];
byte wr_departed[N];
bool wr_done[N];

bool dead_lwp[N];    // ghost: has lowered pp_nrlwps for good

byte odd;            // how many detaches and kicks there were
byte gi, gj;         // scratch of d_steps

#define FAR(i) (target[i] == ANY || PART(target[i]) != PART(i))

// Waits are ordered by `began`, kept dense so that states stay few.
inline list_push(l) {
	gj = 0;
	for (gi : 0 .. N - 1) { if :: began[gi] > gj -> gj = began[gi] :: else fi }
	began[l] = gj + 1;
}
inline list_remove(l) {
	for (gi : 0 .. N - 1) { if :: began[gi] > began[l] -> began[gi]-- :: else fi }
	began[l] = 0;
}
// The first that waits for `what` (an LWP or ANY), or NONE.
inline first_waiter(what, result) {
	d_step {
		result = NONE;
		for (gi : 0 .. N - 1) {
			if
			:: began[gi] != 0 && target[gi] == what && (result == NONE || began[gi] < began[result]) -> result = gi
			:: else
			fi
		}
		gi = 0
	}
}
inline last_waiter(result) {
	d_step {
		result = NONE;
		for (gi : 0 .. N - 1) {
			if
			:: began[gi] != 0 && (result == NONE || began[gi] > began[result]) -> result = gi
			:: else
			fi
		}
		gi = 0
	}
}

inline lock_all() { li = 0; do :: atomic { li < P && pp_lock[li] == 0 -> pp_lock[li] = _pid + 1; li++ } :: li == P -> li = 0; break od }
inline unlock_all(keep) {
	atomic {
		for (gi : 0 .. P - 1) { if :: gi != keep -> assert(HELD(pp_lock[gi])); pp_lock[gi] = 0 :: else fi }
		gi = 0
	}
}

// enter(): what covers the wait and the waiter's pp_lock are held.
inline enter(who) {
	d_step {
		target[me] = who;
		wr_done[me] = false;
		wr_departed[me] = NONE;
		list_push(me);
		gi = who; gj = 0;
		do  // ghost: no cycle of waits
		:: gi != ANY && gi != NONE -> assert(gi != me); gi = target[gi]
		:: else -> break
		od;
		gi = 0;
#ifndef MUT_ANY_ONE_LOCK
		if :: who == ANY -> for (gi : 0 .. P - 1) { assert(HELD(pp_lock[gi])) } gi = 0 :: else fi
#endif
	}
	if
	:: who == ANY -> p_nanywaits++; pp_nlwpwait[PART(me)]++
	:: else ->
		if
		:: FAR(me) ->
#ifndef MUT_FAR_UNCOUNTED
			pp_nfarwait[PART(me)]++
#else
			skip
#endif
		:: else -> pp_nlwpwait[PART(me)]++
		fi
	fi
}

// leave(): what covers the wait is held.
inline leave(w) {
	if
	:: target[w] == ANY -> p_nanywaits--;
#ifndef MUT_STAY_COUNTED
		pp_nlwpwait[PART(w)]--
#endif
	:: target[w] != ANY && FAR(w) ->
#if !defined(MUT_FAR_UNCOUNTED) && !defined(MUT_STAY_COUNTED)
		pp_nfarwait[PART(w)]--
#else
		skip
#endif
	:: else ->
#ifndef MUT_STAY_COUNTED
		pp_nlwpwait[PART(w)]--
#else
		skip
#endif
	fi;
	d_step {
		assert(began[w] != 0);
		if
		:: target[w] == ANY -> for (gi : 0 .. P - 1) { assert(HELD(pp_lock[gi])) }
		:: else -> assert(HELD(pp_lock[PART(target[w])]))
		fi;
		list_remove(w);
		target[w] = NONE;
		wr_done[w] = true;
		gi = 0
	}
}

// wait_end(): gives the result and wakes.  The state of a sleeper and its wake-up are under its own lock: one step.
inline wait_end(w, error, departed) {
	leave(w);
	d_step {
		wr_error[w] = error;
		wr_departed[w] = departed;
		if :: stat[w] == ASLEEP -> stat[w] = RUNS :: else fi
	}
}

// proc_dry(), with the own part dry: peeks at the parts one after the other.
inline proc_dry(result) {
	di = 0;
	result = true;
	do
	:: di < P ->
		if
		:: pp_nrlwps[di] == pp_nlwpwait[di] + pp_nfarwait[di] -> di++
		:: else -> result = false; break
		fi
	:: else -> break
	od;
	di = 0
}
#define part_dry(p) (pp_nrlwps[p] == pp_nlwpwait[p] + pp_nfarwait[p])

inline truly_dead() {  // ghost: is EDEADLK right?  All locks held.
	d_step {
		for (gi : 0 .. N - 1) { assert(gi == me || dead_lwp[gi] || began[gi] != 0) }
		gi = 0
	}
}

// wait_recheck(): all locks held.
inline wait_recheck() {
	d_step {
		// candidates(): LWPs in the table that are not detached
		gj = 0;
		for (gi : 0 .. N - 1) { if :: !freed[gi] && !detached[gi] -> gj++ :: else fi }
		undetached = gj;
		gi = 0; gj = 0
	}
	if
	:: undetached <= 1 ->
		do
		:: true -> first_waiter(ANY, wr);
			if
			:: wr != NONE && undetached - (1 - detached[wr]) == 0 ->
				wait_end(wr, ESRCH, NONE)
			:: else -> break
			fi
		od
	:: else
	fi;
	skip;
	d_step {
		gj = 0;
		for (gi : 0 .. P - 1) { gj = gj + pp_nrlwps[gi] - pp_nlwpwait[gi] - pp_nfarwait[gi] }
		dry = (gj == 0);
		gi = 0; gj = 0
	}
	if
	:: dry ->
		last_waiter(wr);
		if
		:: wr != NONE ->
			d_step {
				for (gi : 0 .. N - 1) { assert(gi == me || dead_lwp[gi] || began[gi] != 0) }
				assert(dead_lwp[me] || began[me] != 0);
				gi = 0
			}
			wait_end(wr, EDEADLK, NONE)
		:: else
		fi
	:: else
	fi;
	undetached = 0; dry = false; wr = NONE
}

inline wait_candidate_gone() {
#ifndef MUT_CANDIDATE
	if
	:: p_nanywaits != 0 -> lock_all(); wait_recheck(); unlock_all(NONE)
	:: else
	fi
#endif
	skip
}

// lwp_free_and_unlock(): lock of the dead one's part held.
inline free_and_unlock(d) {
	d_step {
		assert(HELD(pp_lock[PART(d)]));
		assert(stat[d] == ZOMB && !freed[d]);
		freed[d] = true
	}
	if
	:: detached[d] -> UNLOCK(pp_lock[PART(d)])
	:: else -> UNLOCK(pp_lock[PART(d)]); wait_candidate_gone()
	fi
}

// sleep_and_leave(): `cover` is held, released; it or all locks cover the wait.
inline sleep_and_leave(cover) {
	d_step {
		assert(HELD(pp_lock[cover]));
		stat[me] = ASLEEP;  // block(): asleep, then the interlock goes
		pp_lock[cover] = 0
	}
#ifdef DAEMON
end_asleep:
#endif
	stat[me] == RUNS;
	LOCK(pp_lock[cover]);
#ifdef KICK
	if
	:: !wr_done[me] ->
		if
		:: target[me] == ANY ->
			UNLOCK(pp_lock[cover]); lock_all(); wide = true
		:: else
		fi;
		if :: !wr_done[me] -> leave(me); wr_error[me] = EINTR :: else fi;
		if :: wide -> unlock_all(cover); wide = false :: else fi
	:: else
	fi;
#endif
	assert(wr_done[me]);
#ifdef MUT_STAY_COUNTED
	pp_nlwpwait[PART(me)]--;
#endif
	if
	:: wr_departed[me] != NONE ->
		dead = wr_departed[me];
		if
		:: PART(dead) != cover -> UNLOCK(pp_lock[cover]); LOCK(pp_lock[PART(dead)])
		:: else
		fi;
		free_and_unlock(dead);
		dead = NONE
	:: else -> UNLOCK(pp_lock[cover])
	fi;
	d_step { wr_done[me] = false; wr_departed[me] = NONE; wr_error[me] = OK }
}

#define TARGET 0
#define BOTH 1
#define ALL 2

inline take(have, t) {
	if
	:: have == ALL -> lock_all()
	:: have == BOTH ->
		if
		:: PART(t) < PART(me) -> LOCK(pp_lock[PART(t)]); LOCK(pp_lock[PART(me)])
		:: else -> LOCK(pp_lock[PART(me)]); LOCK(pp_lock[PART(t)])
		fi
	:: else -> LOCK(pp_lock[PART(t)])
	fi
}
inline let_go(have, t, keep) {
	if
	:: have == ALL -> unlock_all(keep)
	:: else ->
		if :: have == BOTH && PART(me) != keep -> UNLOCK(pp_lock[PART(me)]) :: else fi;
		if :: PART(t) != keep -> UNLOCK(pp_lock[PART(t)]) :: else fi
	fi
}

// waits_for(): 1 if the target waits in a chain for us, 0 if not, 2 if the chain leaves the part and not all locks are held.
inline waits_for(t, result) {
	d_step {
		gi = t;
		result = 0;
		do
		:: gi == me -> result = 1; break
		:: gi != me && (target[gi] == NONE || target[gi] == ANY) -> break
		:: gi != me && target[gi] != NONE && target[gi] != ANY && FAR(gi) && have != ALL ->
#ifdef MUT_CYCLE_LOCAL
			result = 0;
#else
			result = 2;
#endif
			break
		:: else -> assert(HELD(pp_lock[PART(gi)])); gi = target[gi]
		od;
		gi = 0
	}
}

// wait_one()
inline wait_one(t) {
	have = TARGET;
	do
	:: take(have, t);
		// look()
		if
		:: freed[t] || detached[t] || claimed[t] -> let_go(have, t, NONE); break
		:: !(freed[t] || detached[t] || claimed[t]) && stat[t] == ZOMB ->
			d_step { assert(zombie[t]); zombie[t] = false; claimed[t] = true }
			let_go(have, t, PART(t));
			free_and_unlock(t);
			break
		:: !(freed[t] || detached[t] || claimed[t]) && stat[t] != ZOMB && have == TARGET && PART(t) != PART(me) ->
			let_go(have, t, NONE);
			have = BOTH
		:: else ->
			cycle = 0;
#ifndef MUT_NO_CYCLE
			waits_for(t, cycle);
#endif
			if
			:: cycle == 2 -> let_go(have, t, NONE); have = ALL
			:: cycle == 1 -> let_go(have, t, NONE); break
			:: else ->
#ifdef MUT_NO_FENCE
				proc_dry(dry);  // the peeks are before the stores of enter(), the own part counted by hand
				dry = false;
				di = 0;
				do
				:: di < P ->
					if
					:: di == PART(me) || part_dry(di) -> di++
					:: else -> break
					fi
				:: else -> dry = true; break
				od;
				di = 0;
				enter(t);
				dry = dry && part_dry(PART(me));
#else
				enter(t);
				dry = part_dry(PART(me));
#ifndef MUT_OWN_PART
				if :: dry -> proc_dry(dry) :: else fi;
#endif
#endif
				if
				:: dry && have != ALL ->
					leave(me);
					let_go(have, t, NONE);
#ifdef MUT_DRY_IS_DEAD
					truly_dead();
#endif
					dry = false;
					have = ALL
				:: dry && have == ALL ->
					leave(me);
					truly_dead();  // EDEADLK
					let_go(have, t, NONE);
					break
				:: else ->
					let_go(have, t, PART(t));
					sleep_and_leave(PART(t));
					break
				fi
			fi
		fi
	od;
	have = TARGET; dry = false; cycle = 0
}

inline pop_zombie(result) {  // the oldest; any will do here
	d_step {
		result = NONE;
		for (gi : 0 .. N - 1) { if :: zombie[gi] && result == NONE && HELD(pp_lock[PART(gi)]) -> result = gi :: else fi }
		if :: result != NONE -> zombie[result] = false; claimed[result] = true :: else fi
		gi = 0
	}
}

// wait_any()
inline wait_any() {
	LOCK(pp_lock[PART(me)]);
	pop_zombie(dead);
	if
	:: dead != NONE -> free_and_unlock(dead); dead = NONE
	:: else ->
#ifdef MUT_ANY_ONE_LOCK
		enter(ANY);
		sleep_and_leave(PART(me));
#else
		UNLOCK(pp_lock[PART(me)]);
		lock_all();
		pop_zombie(dead);
		if
		:: dead != NONE -> unlock_all(PART(dead)); free_and_unlock(dead); dead = NONE
		:: else ->
			d_step {
				undetached = 0;
				for (gi : 0 .. N - 1) { if :: gi != me && !freed[gi] && !detached[gi] -> undetached++ :: else fi }
				gj = 0;
				for (gi : 0 .. P - 1) { gj = gj + pp_nrlwps[gi] - pp_nlwpwait[gi] - pp_nfarwait[gi] }
				dry = (gj == 1);
				gi = 0; gj = 0
			}
			if
			:: undetached == 0 -> unlock_all(NONE)  // ESRCH
			:: undetached != 0 && dry -> truly_dead(); unlock_all(NONE)  // EDEADLK
			:: else ->
				enter(ANY);
				unlock_all(PART(me));
				sleep_and_leave(PART(me))
			fi;
			undetached = 0; dry = false
		fi
#endif
	fi
}

// lwp_detach()
inline detach(t) {
	LOCK(pp_lock[PART(t)]);
	if
	:: freed[t] || claimed[t] || detached[t] -> UNLOCK(pp_lock[PART(t)])
	:: !(freed[t] || claimed[t] || detached[t]) && stat[t] == ZOMB ->
		d_step { assert(zombie[t]); zombie[t] = false }
		free_and_unlock(t)
	:: else ->
		detached[t] = true;
#ifndef MUT_DETACH_SILENT
		do
		:: true -> first_waiter(t, wr);
			if :: wr != NONE -> wait_end(wr, ESRCH, NONE) :: else -> break fi
		od;
#endif
		UNLOCK(pp_lock[PART(t)]);
		wait_candidate_gone()
	fi
}

#ifdef MUT_KICK_NARROW
#define KICK_WIDENS && false
#else
#define KICK_WIDENS
#endif

// lwp_wakeup() of an LWP that waits: `t` is of any part.
inline kick(t) {
	LOCK(pp_lock[PART(t)]);
	do
	:: freed[t] || stat[t] != ASLEEP || target[t] == NONE ->
		if :: wide -> unlock_all(NONE); wide = false :: else -> UNLOCK(pp_lock[PART(t)]) fi;
		break
	:: !freed[t] && stat[t] == ASLEEP && target[t] != NONE && FAR(t) && !wide KICK_WIDENS ->
		UNLOCK(pp_lock[PART(t)]);
		lock_all();
		wide = true
	:: else ->
		leave(t);  // wait_take_back()
		wr_error[t] = EINTR;
		stat[t] = RUNS;
		if :: wide -> unlock_all(NONE); wide = false :: else -> UNLOCK(pp_lock[PART(t)]) fi;
		break
	od
}

// lwp_end()
inline end_lwp() {
	LOCK(pp_lock[PART(me)]);
	wide = false;
	do  // leave_running()
	:: true -> first_waiter(me, wr);
		if
		:: !detached[me] && wr == NONE && p_nanywaits != 0 && !wide ->
			UNLOCK(pp_lock[PART(me)]); lock_all(); wide = true  // part_hold::widen()
		:: else ->
			if :: !detached[me] && wr == NONE && p_nanywaits != 0 -> first_waiter(ANY, wr) :: else fi;
#ifdef MUT_NO_FENCE
			dry = false;
			if
			:: wr == NONE && !wide ->
				di = 0;
				do
				:: di < P ->
					if
					:: di == PART(me) || part_dry(di) -> di++
					:: else -> break
					fi
				:: else -> dry = true; break
				od;
				di = 0
			:: else
			fi;
			pp_nrlwps[PART(me)]--;
			dry = dry && part_dry(PART(me));
#else
			pp_nrlwps[PART(me)]--;
			dry = (wr == NONE && !wide && part_dry(PART(me)));
#ifndef MUT_OWN_PART
			if :: dry -> proc_dry(dry) :: else fi;
#endif
#endif
#ifdef MUT_END_NOT_ASKED
			dry = false;
#endif
			if
			:: dry ->
				pp_nrlwps[PART(me)]++;
				dry = false;
				UNLOCK(pp_lock[PART(me)]); lock_all(); wide = true
			:: else -> break
			fi
		fi
	od;
	dead_lwp[me] = true;
	if
	:: detached[me]
	:: else ->  // hand_to_waiter()
		if
		:: wr == NONE -> zombie[me] = true
		:: else ->
#ifndef MUT_NOT_CLAIMED
			claimed[me] = true;
#else
			zombie[me] = true;
#endif
			wait_end(wr, OK, me);
#ifndef MUT_FIRST_ONLY
			do
			:: true -> first_waiter(me, wr);
				if :: wr != NONE -> wait_end(wr, ESRCH, NONE) :: else -> break fi
			od
#endif
		fi
	fi;
	if :: wide -> wait_recheck() :: else fi;
	skip;
	d_step {
		for (gi : 0 .. N - 1) { assert(began[gi] == 0 || target[gi] != me) }
		gi = 0;
		stat[me] = ZOMB;
		if :: detached[me] -> freed[me] = true :: else fi;
		wr = NONE
	}
	if :: wide -> unlock_all(NONE); wide = false :: else -> UNLOCK(pp_lock[PART(me)]) fi
}

proctype lwp(byte me) {
	byte li, di, have, cycle, undetached, k, t;
	byte wr = NONE, dead = NONE;
	bool dry, wide;
	do
	:: k < K ->
		k++;
		if
		:: wait_any()
		:: atomic { t = 0; do :: t < N - 1 -> t++ :: break od }
			if
			:: t == me  // stands for doing nothing: it is refused at once
			:: t != me -> wait_one(t)
			:: atomic { odd < ODD -> odd++ } detach(t)
#ifdef KICK
			:: atomic { t != me && odd < ODD -> odd++ } kick(t)
#endif
			fi
		fi;
		t = 0
	:: else -> break
	od;
	end_lwp()
}

init {
	byte i;
	atomic {
		for (i : 0 .. N - 1) {
			stat[i] = RUNS;
			target[i] = NONE;
			wr_departed[i] = NONE;
			pp_nrlwps[PART(i)]++
		}
#ifdef DAEMON
		detached[N - 1] = true;
		for (i : 0 .. N - 2) { run lwp(i) }
#else
		for (i : 0 .. N - 1) { run lwp(i) }
#endif
	}
#ifdef DAEMON
	timeout;  // who waits for any still has somebody to wait for
	d_step {
		for (i : 0 .. N - 1) {
			if
			:: began[i] != 0 && target[i] == ANY ->
				gj = 0;
				for (gi : 0 .. N - 1) { if :: gi != i && !freed[gi] && !detached[gi] -> gj++ :: else fi }
				assert(gj != 0)
			:: else
			fi
		}
	}
#else
	_nr_pr == 1;
	d_step {
		for (i : 0 .. P - 1) {
			assert(pp_lock[i] == 0 && pp_nrlwps[i] == 0 && pp_nlwpwait[i] == 0 && pp_nfarwait[i] == 0)
		}
		for (i : 0 .. N - 1) { assert(freed[i] || zombie[i]) }
		assert(p_nanywaits == 0)
	}
#endif
}
