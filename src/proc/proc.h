// SPDX-License-Identifier: BSD-2-Clause
//
// The proc: what owns LWPs, their ids and their counters.  It is shared out in parts, one to each vCPU as far as they go, each with a lock of
// its own, biased to that vCPU: LWPs that live, wait and end where they were made meet no other vCPU.  An LWP belongs for its life to the
// part of the vCPU that made it, and its id says which: nothing need be locked to find the part of an id.
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

/// A part of the proc.  p: pp_lock covers all of it, unless said otherwise.  What every life and death touches stands together, the lock in a
/// line of its own, because those that wait for it look at it.
struct procpart {
	alignas(64) spinlock pp_lock{lock_rank::proc, "pp_lock"};

	// pp_nrlwps + STOP + SUSPENDED + ZOMB == pp_nlwps; a new LWP counts as running from the moment it has a number.
	alignas(64) std::uint64_t pp_nextlid = 0;  // number of the next LWP; its id is 1 more, modulo 2^31
	std::uint32_t pp_index = 0;                // (: which part it is
	std::int64_t pp_allowance = 0;             // LWPs that may be made before all parts are asked for more
	// Not side by side: compilers lower both by one access of 8 bytes, which waits until the two stores that raised them have left the CPU.
	std::uint32_t pp_nlwps = 0;              // LWPs in pp_lwps
	std::uint32_t pp_ndlwps = 0;             // detached
	std::uint32_t pp_nzlwps = 0;             // those that have begun to end
	atomic<std::uint32_t> pp_nrlwps{0};      // running or likely to run: RUN, ONPROC, SLEEP; peeked at without the lock
	atomic<std::uint32_t> pp_nlwpwait{0};    // of its LWPs, those inside a wait that pp_lock covers, not ended; peeked at without the lock
	atomic<lwp_t *> pp_zomblwp{nullptr};     // a dead detached LWP, for the next to be made from; peeked at without the lock
	list<lwp_t, &lwp_t::l_link> pp_zombies;  // dead, not detached, given to no waiter yet; oldest first
	std::uint64_t pp_rtime = 0;              // what LWPs have used that are no longer in pp_lwps,
	std::uint64_t pp_ncsw = 0;               // how often they were switched out,
	std::uint64_t pp_nivcsw = 0;             // and how often of that they could have run on

	alignas(64) list<waitrec, &waitrec::wr_link> pp_waits;  // for LWPs of this part, whoever waits
	// a: of its LWPs, those inside a wait for one of another part: raised with both locks held, lowered with that of the other part.
	alignas(64) atomic<std::uint32_t> pp_nfarwait{0};

	alignas(64) lidtable pp_lwps;  // by id, in whatever state
};

/// The proc's operations (NetBSD's p_emul): called in the LWP that makes another and in the one that ends, without a lock.
struct proc_ops {
	void (*on_lwp_fork)(lwpid_t parent, lwpid_t child) = nullptr;
	void (*on_lwp_exit)(lwpid_t) = nullptr;
};

/// What is of the whole proc.  P: written with all locks held, so readable with any.
struct proc_t {
	atomic<std::uint32_t> p_nparts{0};     // P: a power of two, or 0 before the first runtime
	atomic<std::uint32_t> p_nanywaits{0};  // P: waits for any
	atomic<std::uint32_t> p_ncvwaits{0};   // a: LWPs asleep on p_lwpcv; raised with the lock of what they wait for held
	bool p_running = false;                // P: there are vCPUs: LWPs may be started
	bool p_mainleft = false;               // P: the main thread was LWP 1 and has left by _lwp_exit(): the last LWP ends the process
	// Somebody will let LWPs go on that stand still now: the proc is stopped, or the world.  Nobody is in a deadlock then.
	bool p_held = false;                             // P
	bool p_stopped = false;                          // P: by proc_stop()
	lwp_t *p_world = nullptr;                        // P: who has stopped the world, that is everybody else
	unsigned p_worlds = 0;                           // P: how often, one in the other
	atomic<std::uint64_t> p_sigpend{0};              // a: sent to the proc and taken by nobody yet; set under all locks, taken under any
	atomic<lwpid_t> p_siglwp{0};                     // a: who took the last signal; written under a pp_lock
	std::uint32_t p_post = 0;                        // P: LW_WEXIT and the like: posted to all, so to those that are made from now on
	atomic<const struct proc_ops *> p_ops{nullptr};  // a: what is called around an LWP's life
	kauth_cred *p_cred = &cred0;                     // P: what its LWPs work with, counted (proc/cred.h)
	char p_lwpcv = 0;                                // its address is the channel: somebody was suspended, continued, dereferenced, freed
	std::uint32_t p_nadopted = 0;                    // P: kernel threads of the application, all in part 0
	biglock p_biglock;                               // of its LWPs that are not MP-safe
	std::size_t p_maxlwps = 0;                       // P
	list<waitrec, &waitrec::wr_link> p_anywaits;     // P: first come first served
};

/// The proc of this process.  Never destroyed: LWPs run on while the process exits.
extern proc_t proc0;
extern procpart *const proc0_parts;  ///< part_max of them side by side; those from p_nparts on may be raw memory

/// How many parts there are.  relaxed: written while there is no runtime and nobody looks for an LWP of another part than 0
inline std::uint32_t proc_nparts(const proc_t *p) noexcept { return p->p_nparts.load(std::memory_order_relaxed); }

/// The part that an LWP with this id belongs to, if there is one.  Any number will do.
LWP_ALWAYS_INLINE procpart *proc_part(const proc_t *p, lwpid_t lid) noexcept {
	return proc0_parts + ((static_cast<std::uint32_t>(lid) - 1) & (proc_nparts(p) - 1));
}

/// Calls fn(procpart &) for each part.
template <class Fn>
void proc_each_part(const proc_t *p, Fn fn) {
	for (std::uint32_t i = 0, n = proc_nparts(p); i < n; i++) {
		fn(proc0_parts[i]);
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
inline void part_keep_usage(procpart *pp, const lwp_t *l) noexcept {
	pp->pp_rtime += l->l_account.ca_rtime;
	pp->pp_ncsw += l->l_ncsw;
	pp->pp_nivcsw += l->l_nivcsw;
}

/// The counters of the whole proc.  All locks held.
struct proc_counts {
	std::size_t nlwps = 0, nzlwps = 0, nrlwps = 0, ndlwps = 0, nlwpwait = 0;
};
proc_counts proc_count(const proc_t *) noexcept;

// The counters that others peek at have one writer at a time: who holds pp_lock.  relaxed: see proc_dry() for those who peek.
inline void part_add(atomic<std::uint32_t> &counter, std::uint32_t n) noexcept {
	counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}
inline constexpr std::uint32_t minus_one = ~0U;

/// Whether every LWP of the part that is RUN, ONPROC or SLEEP is inside a wait.  With pp_lock held "no" is exact, "yes" may be late: only
/// pp_nfarwait may fall meanwhile.
LWP_ALWAYS_INLINE bool part_dry(const procpart *pp) noexcept {
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

/// With the lock of its part held: the LWP with this id, also a zombie or one being made; null if there is none.
inline lwp_t *lwp_find_any(const proc_t *p, lwpid_t lid) noexcept {
	return static_cast<lwp_t *>(proc_part(p, lid)->pp_lwps.find_locked(lid));
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

/// With the lock of its part held: the living LWP with this id, null for LSIDL and LSZOMB.
lwp_t *lwp_find(const proc_t *, lwpid_t lid) noexcept;

/// Without such a lock: the living LWP with this id, locked by *lock; null if there is none.
lwp_t *lwp_find_and_lock(const proc_t *, lwpid_t lid, vcpu_t *me, spinlock **lock) noexcept;

/// References keep an LWP from ending, not from running.  Lock of its part held.  False if it has begun to end.
[[nodiscard]] bool lwp_addref(lwp_t *) noexcept;
void lwp_delref(proc_t *, lwp_t *) noexcept;     // lock not held
void lwp_drainrefs(proc_t *, lwp_t *) noexcept;  // lock held: waits until only its own is left

/// Debug builds: pp_lock held; the counters agree with each other, and in a small part with the states of its LWPs.
#if LWP_DEBUG
void part_check(const procpart *) noexcept;
#else
inline void part_check(const procpart *) noexcept {}
#endif
/// The same of all parts, and what they are allowed to make adds up to p_maxlwps.  All locks held.
void proc_check(const proc_t *) noexcept;

/// Calls fn(lwp_t *) for every LWP, in no order, under all locks: for reports only.
template <class Fn>
void proc_for_each(proc_t *p, vcpu_t *me, Fn fn) {
	const proc_scope hold(p, me);
	proc_each_part(p, [&fn](procpart &pp) { pp.pp_lwps.for_each([&fn](lid_node *n) { fn(static_cast<lwp_t *>(n)); }); });
}

/// Calls fn(lwp_t *) for every LWP that is not dead.  All locks held, so none comes or ends; one that is LSIDL is locked by its maker until it is
/// queued.
template <class Fn>
void proc_each_living(const proc_t *p, Fn fn) {
	proc_each_part(p, [&fn](procpart &pp) {
		pp.pp_lwps.for_each([&fn](lid_node *n) {
			auto *t = static_cast<lwp_t *>(n);
			if (lwp_state(t) != lwp_stat::zomb) {
				fn(t);
			}
		});
	});
}

/// Whether this LWP is to stand still.  Any pp_lock held.
inline bool proc_holds(const proc_t *p, const lwp_t *l) noexcept { return LWP_UNLIKELY(p->p_held) && (p->p_stopped || p->p_world != l); }

/// How many LWPs there are, in whatever state.
inline std::size_t proc_nlwps(proc_t *p, vcpu_t *me) noexcept {
	const proc_scope hold(p, me);
	return proc_count(p).nlwps;
}

}  // namespace lwp::kern
