// SPDX-License-Identifier: BSD-2-Clause
//
// The biased spin lock: its owner takes it by plain stores, anybody else revokes the bias first.
//
// Models, step by step    src/base/spinlock.h    lock_biased, lock, unlock
//                         src/base/spinlock.cpp  lock_plain, settle, revoke, try_lock
// One owner and OTHERS others, each locking and unlocking for ever, by lock() or try_lock(); no bound on how often.
//
// The owner has a store buffer, first in first out, of the depth of its longest run of stores: what it stores is seen by others when the
// buffer drains, which may be at any time; the owner sees its own stores.  An exchange drains it, as on x86; so does membarrier(2) of
// somebody else, which returns only then.  The others' stores need no buffer: those of revoke() are followed by membarrier(), and a late
// release of word_ is a longer hold.
// Abstracted: `enough_` and `quiet_`: the owner may give the bias back at any time that settle() has it revoked.
//
// Properties
//   assert: two never hold the lock; when another one holds it the bias is revoked
//   assert: a try_lock() that failed left nothing behind (by the others: no end state in which somebody waits)
//   no end state
//
// @run two    -DOTHERS=1
// @run three  -DOTHERS=2
//
// @mutant NO_MEMBARRIER     two    revoke() does not make the owner pass a barrier
// @mutant NO_COMPILER_FENCE two    lock_biased() reads revoked_ before it stores mine_
// @mutant NO_LOOK           two    lock_biased() does not read revoked_
// @mutant NO_WAIT           two    settle() does not wait until mine_ is gone
// @mutant NO_TAKE_BACK      two    lock_biased() leaves mine_ behind when the bias is revoked
// @mutant TRY_NO_LOOK       two    try_lock() does not look at mine_ after revoke()
// @mutant TRY_KEEPS_WORD    two    try_lock() does not release word_ when the owner holds the lock
// @mutant GIVE_BACK_LATE    two    the owner gives the bias back after it has released word_
// @mutant GIVE_BACK_ANY     three  another one's settle() gives the bias back
// @mutant PLAIN_UNLOCK      two    unlock() by the owner always clears word_

#define MINE 0
#define REVOKED 1
#define WORD 2

byte mem[3];                      // as others see them
chan buffer = [3] of { byte, byte };
byte owner_mine;                  // the owner's last store to mine_
byte owner_revoked = 255;         // its store to revoked_ that is still in the buffer, or 255
byte inside;                      // ghost: how many hold the lock

#define drained (len(buffer) == 0)
#define READ_REVOKED (owner_revoked != 255 -> owner_revoked : mem[REVOKED])

inline enter_section() { atomic { inside++; assert(inside == 1) } }
inline leave_section() { atomic { assert(inside == 1); inside-- } }

active proctype drain() {
	byte what, value;
end:
	do
	:: atomic {
		buffer ? what, value ->
		mem[what] = value;
		if :: what == REVOKED -> owner_revoked = 255 :: else fi;
		what = 0; value = 0
	   }
	od
}

// lock_biased(): true if it has the lock.
inline lock_biased() {
#ifdef MUT_NO_COMPILER_FENCE
	seen = READ_REVOKED;
#endif
	atomic { buffer ! MINE, 1; owner_mine = 1 }
#ifndef MUT_NO_COMPILER_FENCE
	seen = READ_REVOKED;
#endif
#ifdef MUT_NO_LOOK
	seen = 0;
#endif
	if
	:: seen == 0 -> got = true
	:: else ->
#ifndef MUT_NO_TAKE_BACK
		atomic { buffer ! MINE, 0; owner_mine = 0 }
#endif
		got = false
	fi;
	seen = 0
}

// settle() by the owner, word_ held.  The exchange has drained the buffer.
inline settle_owner() {
	if
	:: READ_REVOKED != 0 ->
#ifdef MUT_GIVE_BACK_LATE
		late = true
#else
		atomic { buffer ! REVOKED, 0; owner_revoked = 0 }
#endif
	:: true
	fi
}

active proctype owner() {
	bool got, late;
	byte seen;
	do
	:: lock_biased();  // lock()
		if
		:: got
		:: else ->
			atomic { drained && mem[WORD] == 0 -> mem[WORD] = 1 }  // lock_plain(): the exchange
			settle_owner();
			got = true
		fi;
		goto section
	:: true ->  // try_lock()
		lock_biased();
		if
		:: got
		:: else ->
			if
			:: atomic { drained && mem[WORD] == 0 -> mem[WORD] = 1 } settle_owner(); got = true
			:: atomic { drained && mem[WORD] != 0 -> got = false }
			fi
		fi;
section:
		if
		:: got ->
			enter_section();
			leave_section();
			// unlock()
			if
#ifndef MUT_PLAIN_UNLOCK
			:: owner_mine != 0 -> atomic { buffer ! MINE, 0; owner_mine = 0 }
#endif
			:: else -> buffer ! WORD, 0
			fi;
			if :: late -> atomic { buffer ! REVOKED, 0; owner_revoked = 0 } late = false :: else fi
		:: else
		fi;
		got = false
	od
}

inline revoke() {
	if
	:: mem[REVOKED] != 0
	:: else ->
		mem[REVOKED] = 1;
#ifndef MUT_NO_MEMBARRIER
		drained
#endif
	fi
}

active [OTHERS] proctype other() {
	do
	:: atomic { mem[WORD] == 0 -> mem[WORD] = 1 }  // lock_plain()
		revoke();  // settle()
#ifndef MUT_NO_WAIT
		mem[MINE] == 0;
#endif
#ifdef MUT_GIVE_BACK_ANY
		if :: mem[REVOKED] = 0 :: true fi;
#endif
		goto section
	:: atomic { mem[WORD] == 0 -> mem[WORD] = 1 }  // try_lock()
		revoke();
#ifndef MUT_TRY_NO_LOOK
		if
		:: mem[MINE] != 0 ->
#ifndef MUT_TRY_KEEPS_WORD
			mem[WORD] = 0;
#endif
			goto failed
		:: else
		fi;
#endif
		// settle(): mine_ is looked at once more
#ifndef MUT_TRY_NO_LOOK
		mem[MINE] == 0;
#endif
section:
		enter_section();
		assert(mem[REVOKED] == 1);
		leave_section();
		mem[WORD] = 0;
failed:
		skip
	od
}
