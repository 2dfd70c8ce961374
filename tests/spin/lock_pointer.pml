// SPDX-License-Identifier: BSD-2-Clause
//
// The lock pointer: one LWP on its way through run queues, inboxes, a sleep queue, two vCPUs, death and a second life.
//
// Models, step by step    src/core/lwp_lock.h, .cpp    lwp_lock, lwp_lock_retry, lwp_relock, lwp_unlock_to
//                         src/core/lwp_state.h         lwp_setstat: the state, then the pointer
//                         src/sched/switch.cpp         mi_switch_and_unlock, cpu_switchto, arrive, take_next, drain_locked, leave_dead
//                         src/sched/place.cpp          queue_here, queue_there
//                         src/sched/idle.cpp           steal_queue
//                         src/sync/sleepq.cpp          block, unsleep, as far as locks go
//                         src/proc/suspend.cpp         stop_and_unlock, as far as locks go
//                         src/proc/exit.cpp, create.cpp, proc.cpp  lwp_end, wait_off_cpu, lwp_start, lwp_find_and_lock
// Two vCPUs that dispatch, and steal from each other's run queue; a waker; a collector that makes the dead one live again; a looker that
// locks the LWP by the pointer, or (-DMOVED) one that moves it while it sleeps; then it never ends, and who locks it knows that, as
// wait_end() and grant_give() do, and looks no third time.  All for ever, no bound.
//
// Abstracted: one LWP, so the other side of a switch is always the idle LWP.  A yield gives way to it.  Whether an LWP that is found is the
// one meant (its id) is not modelled; p_lock is not either: there is one collector.
//
// Properties
//   assert: an LWP runs on one vCPU at a time; who holds its lock sees it on a vCPU or off it, and nothing of that changes meanwhile
//   assert: what is on a run queue or in an inbox is LSRUN and covered by that queue's lock
//   assert: a zombie is recycled off its stack
//   no end state
//
// @run looked
// @run moved   -DMOVED
//
// @mutant NO_RETRY      moved   lwp_lock() does not look whether the pointer moved
// @mutant EARLY_HANDOFF looked  the lock under which the LWP left is released before the switch
// @mutant EARLY_LWPLOCK looked  vc_lwplock is released before the switch
// @mutant LATE_POINTER  moved  lwp_unlock_to() releases the old lock before it moves the pointer
// @mutant NO_OFF_CPU    looked  a zombie is recycled without a look whether it is off its stack
// @mutant EARLY_OFF_CPU looked  an LWP that ends says itself that it is off its stack
// @mutant FIND_ONCE     looked  lwp_find_and_lock() does not look at the pointer again after the state
// @mutant STEAL_UNLOCKED looked a thief takes from a run queue without its lock
// @mutant RELOCK_BLIND  moved  lwp_relock() does not look whether the LWP moved while it held neither lock
#include "lock.h"

#define LW(v) (v)
#define RQ(v) (2 + (v))
#define IN(v) (4 + (v))
#define SQ 6
#define SQ2 7
#define NOWHERE 255

mtype = { IDL, RUN, ONPROC, SLEEP, SUSPENDED, ZOMB };

byte lk[8];
byte l_mutex = 2;      // RQ(0)
mtype l_stat = RUN;
bool in_rq[2], in_box[2];
byte stacks;          // ghost: how many vCPUs stand on its stack
bool l_oncpu = true;
bool dead;            // published: the collector may look

inline setstat(to, lend) { l_stat = to; l_mutex = lend }

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

// lwp_find_and_lock() without the id: alive if it is, and then locked for good.
inline lwp_find_and_lock() {
	lwp_lock();
	was = l_stat;
	alive = (was != IDL && was != ZOMB);
#if !defined(MUT_FIND_ONCE) && !defined(MOVED)
	if :: alive -> alive = (l_mutex == got) :: else fi
#endif
}

// The switch to the idle LWP, and its arrive(): vc_lwplock held, and `handoff` (NOWHERE: none).
inline switch_away(handoff) {
#ifdef MUT_EARLY_LWPLOCK
	UNLOCK(lk[LW(v)]);
#endif
#ifdef MUT_EARLY_HANDOFF
	if :: handoff != NOWHERE -> UNLOCK(lk[handoff]) :: else fi;
#endif
	stacks--;
#ifndef MUT_EARLY_LWPLOCK
	UNLOCK(lk[LW(v)]);
#endif
#ifndef MUT_EARLY_HANDOFF
	if :: handoff != NOWHERE -> UNLOCK(lk[handoff]) :: else fi;
#endif
	skip
}

proctype vcpu(byte v) {
	do
	:: in_rq[v] || in_box[v] ->  // take_next()
		LOCK(lk[LW(v)]);
		LOCK(lk[RQ(v)]);
		if
		:: in_box[v] ->  // drain_locked()
			LOCK(lk[IN(v)]);
			if
			:: in_box[v] ->
				assert(l_stat == RUN && l_mutex == IN(v));
				in_box[v] = false;
				setstat(RUN, RQ(v));
				in_rq[v] = true
			:: else
			fi;
			UNLOCK(lk[IN(v)])
		:: else
		fi;
		if
		:: in_rq[v] ->
			assert(l_stat == RUN && l_mutex == RQ(v));
			in_rq[v] = false;
			setstat(ONPROC, LW(v));
			UNLOCK(lk[RQ(v)]);
			atomic { stacks++; assert(stacks == 1) }
			UNLOCK(lk[LW(v)]);  // arrive()
			// The LWP runs.
			if
			:: LOCK(lk[LW(v)]);  // yield
				LOCK(lk[RQ(v)]);
				setstat(RUN, RQ(v));
				in_rq[v] = true;
				switch_away(RQ(v))
			:: LOCK(lk[SQ]);  // block()
				LOCK(lk[LW(v)]);
				setstat(SLEEP, SQ);
				switch_away(SQ)
			:: LOCK(lk[LW(v)]);  // stop_and_unlock()
				setstat(SUSPENDED, LW(v));
				switch_away(NOWHERE)
#ifndef MOVED
			:: LOCK(lk[LW(v)]);  // lwp_end(), leave_dead()
				setstat(ZOMB, LW(v));
				dead = true;
#ifdef MUT_EARLY_OFF_CPU
				l_oncpu = false;
#endif
				switch_away(NOWHERE);
				l_oncpu = false
#endif
			fi
		:: else ->
			UNLOCK(lk[RQ(v)]);
			UNLOCK(lk[LW(v)])
		fi
	:: in_rq[1 - v] ->  // steal_queue()
#ifndef MUT_STEAL_UNLOCKED
		LOCK(lk[RQ(1 - v)]);
#endif
		LOCK(lk[IN(v)]);
		if
		:: in_rq[1 - v] ->
			assert(l_stat == RUN && l_mutex == RQ(1 - v));
			in_rq[1 - v] = false;
			setstat(RUN, IN(v));
			in_box[v] = true
		:: else
		fi;
		UNLOCK(lk[IN(v)]);
#ifndef MUT_STEAL_UNLOCKED
		UNLOCK(lk[RQ(1 - v)])
#endif
	od
}

// Queues the LWP, which is locked by `held`.
inline wake_and_unlock(held) {
	if
	:: to = 0
	:: to = 1
	fi;
	LOCK(lk[IN(to)]);
	setstat(RUN, IN(to));
	in_box[to] = true;
	UNLOCK(lk[IN(to)]);
	UNLOCK(lk[held]);
	to = 0
}

proctype waker() {
	byte got, to;
	mtype was = IDL;
	bool alive;
	do
	:: l_stat == SLEEP || l_stat == SUSPENDED ->
		lwp_find_and_lock();
		if
		:: (was == SLEEP || was == SUSPENDED) && alive ->
			assert(stacks == 0);
			wake_and_unlock(got)
		:: else -> UNLOCK(lk[got])
		fi;
		atomic { got = 0; was = IDL; alive = false }
	od
}

// Moves a sleeper to the other sleep queue, or back: lwp_relock().
proctype mover() {
	byte got, to;
	mtype was = IDL;
	bool have, alive;
	do
	:: l_stat == SLEEP ->
		lwp_find_and_lock();
		if
		:: was == SLEEP && alive ->
			to = (got == SQ -> SQ2 : SQ);
			if
			:: atomic { lk[to] == 0 -> lk[to] = _pid + 1 } have = true  // try_lock()
			:: atomic { lk[to] != 0 -> have = false }
				UNLOCK(lk[got]);
				LOCK(lk[to]);
				if
				:: atomic { lk[got] == 0 -> lk[got] = _pid + 1 }
					if
#ifndef MUT_RELOCK_BLIND
					:: l_mutex == got -> have = true
					:: else -> UNLOCK(lk[got]); UNLOCK(lk[to])
#else
					:: true -> have = true
#endif
					fi
				:: atomic { lk[got] != 0 -> UNLOCK(lk[to]) }
				fi
			fi;
			if
			:: have ->  // lwp_unlock_to()
				assert(l_stat == SLEEP && l_mutex == got);
#ifdef MUT_LATE_POINTER
				UNLOCK(lk[got]);
				l_mutex = to;
#else
				l_mutex = to;
				UNLOCK(lk[got]);
#endif
				UNLOCK(lk[to])
			:: else
			fi
		:: else -> UNLOCK(lk[got])
		fi;
		atomic { got = 0; to = 0; have = false; was = IDL; alive = false }
	od
}

// lwp_free_and_unlock(), then lwp_start() of a new one in the same memory, on either vCPU.
proctype collector() {
	byte home, to;
	do
	:: dead ->
		dead = false;
#ifndef MUT_NO_OFF_CPU
		!l_oncpu;  // wait_off_cpu()
#endif
		assert(stacks == 0);
		l_oncpu = true;
		if :: home = 0 :: home = 1 fi;
		LOCK(lk[LW(home)]);
		setstat(IDL, LW(home));
		wake_and_unlock(LW(home));
		home = 0
	od
}

// What lwp_find_and_lock() returns is locked, alive, and stays as it is.
proctype looker() {
	byte got, was_stacks;
	mtype was = IDL;
	bool alive;
end:
	do
	:: lwp_find_and_lock();
		if
		:: alive ->
			was_stacks = stacks;
			assert(was_stacks == (was == ONPROC -> 1 : 0));
			assert(l_stat == was && l_mutex == got && stacks == was_stacks)
		:: else
		fi;
		UNLOCK(lk[got]);
		atomic { got = 0; was_stacks = 0; was = IDL; alive = false }
	od
}

init {
	atomic {
		in_rq[0] = true;
		run vcpu(0); run vcpu(1); run waker();
#ifdef MOVED
		run mover();
#else
		run looker();
#endif
		run collector()
	}
}
