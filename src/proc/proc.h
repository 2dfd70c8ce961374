// SPDX-License-Identifier: BSD-2-Clause
//
// The procs: what owns LWPs, their ids and their counters.  All is shared out in parts, one to each vCPU as far as they go, each with a lock of
// its own, biased to that vCPU: LWPs that live, wait and end where they were made meet no other vCPU.  An LWP belongs for its life to the
// part of the vCPU that made it, and its id says which: nothing need be locked to find the part of an id.
//
// All procs share the parts: their locks, the table and one row of ids, so that an id names one LWP of the process, whichever proc's.  What a proc has
// for itself in a part, its counters, zombies and waits, is its share.  proc0's share is in the part itself, where it was when there was no other proc:
// its LWPs are born and end at the same cost.
//
// Locks: pp_lock of the parts are the outermost locks.  One, two or all may be held, always in the order of the parts.  What is about one LWP
// needs the lock of its part; a question about the whole proc (is nobody left? how many are there?) is answered under all locks, and asked
// only when the caller's own part does not answer it: the argument stands with each.
// Nothing here walks over all LWPs: finding, waiting and ending cost the same among ten and among a million.
#pragma once

#include "core/lidtable.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sync/biglock.h"
#include "sync/sleepq.h"

#include <cstddef>

namespace lwp::kern {

/// One LWP's wait for another's end, on the waiter's stack while it is in lwp_wait1().  Key w: what covers the wait, which is pp_lock of the
/// target's part, or all locks for a wait for any.
struct waitrec {
	list_link<waitrec> wr_link;    // w: all waits of the target's part, or those for any
	list_link<waitrec> wr_for;     // w: those for the same LWP
	lwp_t *wr_lwp = nullptr;       // who waits
	lwp_t *wr_target = nullptr;    // for whom; null: any
	nanotime wr_began = 0;         // when, as its vCPU last looked at the clock
	waitrec *wr_last = nullptr;    // w: of the first for an LWP: the last for it
	lwp_t *wr_departed = nullptr;  // w: the zombie it was given
	int wr_error = 0;              // w: how it ended
	bool wr_done = false;          // w: it has ended: off both lists, no longer counted
	bool wr_counted = false;       // w: it is counted; not while its LWP is LSSTOP
};

inline constexpr unsigned part_max = 64;

/// What a proc has in one part.  p: pp_lock of that part covers all of it, unless said otherwise.
struct procshare {
	// pp_nrlwps + STOP + SUSPENDED + ZOMB == pp_nlwps; a new LWP counts as running from the moment it has a number.
	// Not side by side: compilers lower both by one access of 8 bytes, which waits until the two stores that raised them have left the CPU.
	std::uint32_t pp_nlwps = 0;              // its LWPs in pp_lwps
	std::uint32_t pp_ndlwps = 0;             // detached
	std::uint32_t pp_nzlwps = 0;             // those that have begun to end
	atomic<std::uint32_t> pp_nrlwps{0};      // running or likely to run: RUN, ONPROC, SLEEP; peeked at without the lock
	atomic<std::uint32_t> pp_nlwpwait{0};    // of its LWPs, those inside a wait that pp_lock covers, not ended; peeked at without the lock
	list<lwp_t, &lwp_t::l_link> pp_zombies;  // dead, not detached, given to no waiter yet; oldest first
	std::uint64_t pp_rtime = 0;              // what LWPs have used that are no longer in pp_lwps,
	std::uint64_t pp_ncsw = 0;               // how often they were switched out,
	std::uint64_t pp_nivcsw = 0;             // and how often of that they could have run on
	list<lwp_t, &lwp_t::l_own> pp_own;       // its LWPs in pp_lwps, so that nobody walks over those of others; not kept for proc0

	list<waitrec, &waitrec::wr_link> pp_waits;  // for its LWPs of this part, whoever waits
	// a: of its LWPs, those inside a wait for one of another part: raised with both locks held, lowered with that of the other part.
	atomic<std::uint32_t> pp_nfarwait{0};
};

/// What all procs have of a part together.  What every life and death touches stands together, with proc0's counters; the lock in a line of its own,
/// because those that wait for it look at it.
struct partbase {
	alignas(64) spinlock pp_lock{lock_rank::proc, "pp_lock"};

	alignas(64) std::uint64_t pp_nextlid = 0;  // p: number of the next LWP; its id is 1 more, modulo 2^31
	std::uint32_t pp_index = 0;                // (: which part it is
	std::int64_t pp_allowance = 0;             // p: LWPs that may be made before all parts are asked for more
	atomic<lwp_t *> pp_zomblwp{nullptr};       // p: a dead detached LWP, for the next to be made from; peeked at without the lock
};

/// A part, and proc0's share of it.
struct procpart : partbase, procshare {
	alignas(64) lidtable pp_lwps;  // p: by id, in whatever state, of whatever proc
};

/// The proc's operations (NetBSD's p_emul): called in the LWP that makes another and in the one that ends, without a lock.
struct proc_ops {
	void (*on_lwp_fork)(lwpid_t parent, lwpid_t child) = nullptr;
	void (*on_lwp_exit)(lwpid_t) = nullptr;
};

/// What a proc does with a signal.
struct sigact {
	void (*act_handler)(int) = nullptr;  // SIG_DFL; with SA_SIGINFO it is of the other type
	std::uint64_t act_mask = 0;
	int act_flags = 0;
};
inline constexpr int signals = 64;

/// NetBSD's states of a proc, by its numbers; those that it is in here.  (SDYING is LW_WEXIT in p_post, SSTOP is p_stopped.)
enum class proc_stat : std::uint8_t {
	active = 2,
	zomb = 5,  // its LWPs have ended, and p_parent has not waited yet
	dead = 6,  // it has no number any more
};

/// A proc.  P: written with the locks of all parts held, so readable with any.
struct proc_t : lid_node {                 // lid_node: its number and the table's link, P
	atomic<std::uint32_t> p_nparts{0};     // P: of proc0: a power of two, or 0 before the first runtime
	atomic<std::uint32_t> p_nanywaits{0};  // P: waits for any
	atomic<std::uint32_t> p_ncvwaits{0};   // a: LWPs asleep on p_lwpcv; raised with the lock of what they wait for held
	bool p_running = false;                // P: of proc0: there are vCPUs: LWPs may be started
	bool p_mainleft = false;  // P: of proc0: the main thread was LWP 1 and has left by _lwp_exit(): the last LWP ends the process
	// Somebody will let LWPs go on that stand still now: the proc is stopped, or the world.  Nobody is in a deadlock then.
	bool p_held = false;                             // P
	bool p_stopped = false;                          // P: by proc_stop()
	lwp_t *p_world = nullptr;                        // P: of proc0: who has stopped the world, that is everybody else in all procs
	unsigned p_worlds = 0;                           // P: of proc0: how often, one in the other
	atomic<std::uint64_t> p_sigpend{0};              // a: sent to the proc and taken by nobody yet; set under all locks, taken under any
	atomic<lwpid_t> p_siglwp{0};                     // a: who took the last signal; written under a pp_lock
	std::uint32_t p_post = 0;                        // P: LW_WEXIT and the like: posted to all, so to those that are made from now on
	atomic<const struct proc_ops *> p_ops{nullptr};  // a: what is called around an LWP's life
	kauth_cred *p_cred = &cred0;                     // P: what its LWPs work with, counted (proc/cred.h)
	char p_lwpcv = 0;                                // its address is the channel: somebody was suspended, continued, dereferenced, freed
	std::uint32_t p_nadopted = 0;                    // P: of proc0: kernel threads of the application, all in part 0
	biglock p_biglock;                               // of its LWPs that are not MP-safe
	std::size_t p_maxlwps = 0;                       // P: of proc0: LWPs of all procs; else of its own, 0 for no limit
	list<waitrec, &waitrec::wr_link> p_anywaits;     // P: first come first served
	sigact p_sigacts[signals + 1];                   // P

	// Procs among each other (proc/procs.cpp).  proc0 has children, and none of the rest.
	list_link<proc_t> p_list;                     // P: all but proc0; !: the pool
	list_link<proc_t> p_sibling;                  // P: children of p_parent, unless it is an orphan
	list<proc_t, &proc_t::p_sibling> p_children;  // P: those that can be waited for stand first
	proc_t *p_parent = nullptr;                   // P
	procshare *p_shares = nullptr;                // (: one for each part; of proc0 the parts are
	std::uint32_t p_nshares = 0;                  // (: how many there is room for
	proc_stat p_stat = proc_stat::active;         // P
	bool p_orphan = false;                        // P: nobody will wait for it
	bool p_ending = false;                        // P: its last LWP ends
	int p_xstat = 0;                              // P: how it ended, as waitpid(2) says
	lwp_t *p_last = nullptr;                      // P: of a zombie: the LWP that ended last, which goes with it
	atomic<std::uint32_t> p_nliving{0};           // a: LWPs that were started and are not LSZOMB; each is counted with its pp_lock held
	atomic<std::uint32_t> p_refs{0};              // a: its number, its LWPs in whatever state, and those that look at it
	char p_waitcv = 0, p_anycv = 0;               // channels of those that wait for its end, and for any child of its
};

/// The first proc of this process, which is the process.  Never destroyed: LWPs run on while the process exits.
extern proc_t proc0;
extern procpart *const proc0_parts;               ///< part_max of them side by side; those from p_nparts on may be raw memory
extern list<proc_t, &proc_t::p_list> procs_made;  ///< P: the others
extern atomic<bool> procs_many;                   ///< P: there has been another, so an id may be another proc's LWP's

/// How many parts there are; all procs have the same.  relaxed: written while there is no runtime and nobody looks for an LWP of another part than 0
inline std::uint32_t proc_nparts(const proc_t *) noexcept { return proc0.p_nparts.load(std::memory_order_relaxed); }

/// The part that an LWP with this id belongs to, if there is one.  Any number will do.
LWP_ALWAYS_INLINE procpart *proc_part(const proc_t *p, lwpid_t lid) noexcept {
	return proc0_parts + ((static_cast<std::uint32_t>(lid) - 1) & (proc_nparts(p) - 1));
}

/// What a proc has in a part.  (A reference is converted without a look whether it is null.)
LWP_ALWAYS_INLINE procshare *proc_share(const proc_t *p, procpart *pp) noexcept {
	return LWP_LIKELY(p == &proc0) ? &static_cast<procshare &>(*pp) : p->p_shares + pp->pp_index;
}
LWP_ALWAYS_INLINE procshare *lwp_share(const lwp_t *l) noexcept { return proc_share(l->l_proc, l->l_part); }

/// Calls fn(procpart &) for each part.
template <class Fn>
void proc_each_part(const proc_t *p, Fn fn) {
	for (std::uint32_t i = 0, n = proc_nparts(p); i < n; i++) {
		fn(proc0_parts[i]);
	}
}

/// Calls fn(procshare &) for the proc's share of each part.
template <class Fn>
void proc_each_share(const proc_t *p, Fn fn) {
	proc_each_part(p, [&](procpart &pp) { fn(*proc_share(p, &pp)); });
}

/// Calls fn(proc_t *) for every proc, proc0 first.  All locks held; fn may unlink the one it is given.
template <class Fn>
void procs_each(Fn fn) {
	fn(&proc0);
	for (proc_t *p = procs_made.front(), *next; p != nullptr; p = next) {
		next = list<proc_t, &proc_t::p_list>::next(p);
		fn(p);
	}
}

/// Takes the locks of all parts, in their order.  There is a first part.
void proc_lock_all(const proc_t *, vcpu_t *me) noexcept;
/// Releases them, but that of `keep` if it is not null.
void proc_unlock_all(const proc_t *, vcpu_t *me, const procpart *keep = nullptr) noexcept;
/// Debug builds: all are held.
bool proc_held_all(const proc_t *) noexcept;

class proc_scope {
public:
	proc_scope(const proc_t *p, vcpu_t *me) noexcept : p_(p), me_(me) { proc_lock_all(p_, me_); }
	~proc_scope() { proc_unlock_all(p_, me_); }
	proc_scope(const proc_scope &) = delete;
	proc_scope &operator=(const proc_scope &) = delete;

private:
	const proc_t *p_;
	vcpu_t *me_;
};

/// The locks that an operation on one part holds: that part's, or all of them once the part does not answer its question.
class part_hold {
public:
	part_hold(proc_t *p, procpart *pp, vcpu_t *me) noexcept : p_(p), pp_(pp) { pp_->pp_lock.lock(me); }
	part_hold(const part_hold &) = delete;
	part_hold &operator=(const part_hold &) = delete;
	void lock(vcpu_t *me) noexcept { pp_->pp_lock.lock(me); }
	/// Lets go, and takes all: look again at everything.
	void widen(vcpu_t *me) noexcept {
		if (proc_nparts(p_) != 1) {  // else we have all
			pp_->pp_lock.unlock(me);
			proc_lock_all(p_, me);
		}
		all_ = true;
	}
	/// Keeps that of the part.
	void narrow(vcpu_t *me) noexcept {
		if (LWP_UNLIKELY(all_)) {
			proc_unlock_all(p_, me, pp_);
			all_ = false;
		}
	}
	void unlock(vcpu_t *me) noexcept {
		narrow(me);
		pp_->pp_lock.unlock(me);
	}
	[[nodiscard]] bool all() const noexcept { return all_; }

private:
	proc_t *p_;
	procpart *pp_;
	bool all_ = false;
};

/// An LWP goes out of the table: what it has used stays, in the same section, so that sums never fall.  pp_lock held.
inline void part_keep_usage(procshare *pp, const lwp_t *l) noexcept {
	pp->pp_rtime += l->l_account.ca_rtime;
	pp->pp_ncsw += l->l_ncsw;
	pp->pp_nivcsw += l->l_nivcsw;
}

/// The counters of the whole proc; null: of all.  All locks held.
struct proc_counts {
	std::size_t nlwps = 0, nzlwps = 0, nrlwps = 0, ndlwps = 0, nlwpwait = 0;
};
proc_counts proc_count(const proc_t *) noexcept;

// The counters that others peek at have one writer at a time: who holds pp_lock.  relaxed: see proc_dry() for those who peek.
inline void part_add(atomic<std::uint32_t> &counter, std::uint32_t n) noexcept {
	counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}
inline constexpr std::uint32_t minus_one = ~0U;

/// Whether every LWP of the proc in this part that is RUN, ONPROC or SLEEP is inside a wait.  With pp_lock held "no" is exact, "yes" may be late: only
/// pp_nfarwait may fall meanwhile.
LWP_ALWAYS_INLINE bool part_dry(const procshare *pp) noexcept {
	return pp->pp_nrlwps.load(std::memory_order_relaxed) ==
	    pp->pp_nlwpwait.load(std::memory_order_relaxed) + pp->pp_nfarwait.load(std::memory_order_relaxed);
}

/// The same of all parts, with one of them dry by what the caller just did under its lock.  "No" means that somebody runs who will ask again.
bool proc_dry(const proc_t *) noexcept;

/// Sleeps on p_lwpcv.  Held and released meanwhile: pp_lock of `pp`, or all locks if that is null.  0 | EINTR
[[nodiscard]] int proc_cv_wait(proc_t *, procpart *pp, lwp_t *, const char *wmesg, sleep_catch) noexcept;
/// Something changed under a lock that is held.
void proc_cv_broadcast_slow(proc_t *, vcpu_t *me) noexcept;
LWP_ALWAYS_INLINE void proc_cv_broadcast(proc_t *p, vcpu_t *me) noexcept {
	// relaxed: who waits for what we changed has counted itself under the lock that we hold, or will look after us
	if (LWP_UNLIKELY(p->p_ncvwaits.load(std::memory_order_relaxed) != 0)) {
		proc_cv_broadcast_slow(p, me);
	}
}

/// Whether an LWP that was found is of this proc; null: any.
LWP_ALWAYS_INLINE bool lwp_of_proc(const lwp_t *l, const proc_t *p) noexcept {
	// relaxed: written with all locks held, before there was an LWP of another; whoever has found that one has had its lock, or its part's, since
	return LWP_LIKELY(!procs_many.load(std::memory_order_relaxed)) || p == nullptr || l->l_proc == p;
}

/// With the lock of its part held: the LWP of this proc (null: of any) with this id, also a zombie or one being made; null if there is none.
inline lwp_t *lwp_find_any(const proc_t *p, lwpid_t lid) noexcept {
	auto *l = static_cast<lwp_t *>(proc_part(p, lid)->pp_lwps.find_locked(lid));
	return l != nullptr && lwp_of_proc(l, p) ? l : nullptr;
}

/// The number of the next LWP that `creator` makes in this part: above those that it made before, wherever; its id is no living one's.
/// pp_lock held.
std::uint64_t part_next_number_slow(const proc_t *, procpart *, std::uint64_t above) noexcept;
LWP_ALWAYS_INLINE std::uint64_t part_next_number(const proc_t *p, procpart *pp, std::uint64_t above) noexcept {
	const std::uint64_t n = pp->pp_nextlid;
	if (LWP_UNLIKELY(n <= above || n >= INT32_MAX)) {
		return part_next_number_slow(p, pp, above);
	}
	pp->pp_nextlid = n + proc_nparts(p);
	return n;
}
inline lwpid_t number_lid(std::uint64_t number) noexcept { return static_cast<lwpid_t>(number & INT32_MAX) + 1; }

/// With the lock of its part held: the living LWP of this proc (null: of any) with this id, null for LSIDL and LSZOMB.
lwp_t *lwp_find(const proc_t *, lwpid_t lid) noexcept;

/// Without such a lock: the living LWP of this proc (null: of any) with this id, locked by *lock; null if there is none.
lwp_t *lwp_find_and_lock(const proc_t *, lwpid_t lid, vcpu_t *me, spinlock **lock) noexcept;

/// References keep an LWP from ending, not from running.  Lock of its part held.  False if it has begun to end.
[[nodiscard]] bool lwp_addref(lwp_t *) noexcept;
void lwp_delref(proc_t *, lwp_t *) noexcept;     // lock not held
void lwp_drainrefs(proc_t *, lwp_t *) noexcept;  // lock held: waits until only its own is left

/// Debug builds: pp_lock held; proc0's counters agree with each other, and in a small part with the states of its LWPs.
#if LWP_DEBUG
void part_check(const procpart *) noexcept;
#else
inline void part_check(const procpart *) noexcept {}
#endif
/// The same of all parts, and what they are allowed to make adds up to max_lwps.  All locks held.
void proc_check(const proc_t *) noexcept;

/// Calls fn(lwp_t *) for every LWP of a proc (null: of all), in no order and in whatever state.  All locks held, so none comes or ends; one that is
/// LSIDL is locked by its maker until it is queued.
template <class Fn>
void proc_each_lwp(const proc_t *p, Fn fn) {
	proc_each_part(p, [&](procpart &pp) {
		if (p != nullptr && p != &proc0) {
			for (lwp_t *l = p->p_shares[pp.pp_index].pp_own.front(), *next; l != nullptr; l = next) {
				next = list<lwp_t, &lwp_t::l_own>::next(l);
				fn(l);
			}
			return;
		}
		pp.pp_lwps.for_each([&](lid_node *n) {
			if (auto *l = static_cast<lwp_t *>(n); lwp_of_proc(l, p)) {
				fn(l);
			}
		});
	});
}

/// The same, and takes the locks: for reports only.
template <class Fn>
void proc_for_each(proc_t *p, vcpu_t *me, Fn fn) {
	const proc_scope hold(p, me);
	proc_each_lwp(p, fn);
}

/// The same for those that are not dead.  All locks held.
template <class Fn>
void proc_each_living(const proc_t *p, Fn fn) {
	proc_each_lwp(p, [&fn](lwp_t *t) {
		if (lwp_state(t) != lwp_stat::zomb) {
			fn(t);
		}
	});
}

/// Whether this LWP is to stand still.  Any pp_lock held.
inline bool proc_holds(const proc_t *p, const lwp_t *l) noexcept { return LWP_UNLIKELY(p->p_held) && proc0.p_world != l; }

/// How many LWPs a proc has (null: there are), in whatever state.
inline std::size_t proc_nlwps(proc_t *p, vcpu_t *me) noexcept {
	const proc_scope hold(p, me);
	return proc_count(p).nlwps;
}

}  // namespace lwp::kern
