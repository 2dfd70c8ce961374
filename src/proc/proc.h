// SPDX-License-Identifier: BSD-2-Clause
//
// The proc: what owns LWPs, their ids and their counters.  p_lock covers all of it; it is the outermost lock.
// Nothing here walks over all LWPs: finding, waiting and ending cost the same among ten and among a million.
#pragma once

#include "core/lidtable.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sync/sleepq.h"

#include <cstddef>

namespace lwp::kern {

/// One LWP's wait for another's end, on the waiter's stack while it is in lwp_wait1().
struct waitrec {
	list_link<waitrec> wr_link;    // p: all waits of the proc
	list_link<waitrec> wr_for;     // p: those for the same LWP, or those for any
	lwp_t *wr_lwp = nullptr;       // who waits
	lwp_t *wr_target = nullptr;    // for whom; null: any
	waitrec *wr_last = nullptr;    // p: of the first for an LWP: the last for it
	lwp_t *wr_departed = nullptr;  // p: the zombie it was given
	int wr_error = 0;              // p: how it ended
	bool wr_done = false;          // p: it has ended: off both lists, no longer counted in p_nlwpwait
};

/// p: all of it, unless said otherwise.  What every life and death touches stands in one cache line, because on several vCPUs it travels; the
/// lock in another, because those that wait for it look at it.
struct proc_t {
	alignas(64) spinlock p_lock{lock_rank::proc, "p_lock"};
	alignas(64) lwpid_t p_nlwpid = 0;  // last id handed out
	bool p_lidwrapped = false;         // they have begun again at 1: the next may be alive
	bool p_running = false;            // there are vCPUs: LWPs may be started
	bool p_mainleft = false;           // the main thread was LWP 1 and has left by _lwp_exit(): the last LWP ends the process
	// p_nrlwps + STOP + SUSPENDED + ZOMB == p_nlwps; a new LWP counts as running from the moment it has a number.
	std::uint32_t p_nlwps = 0;              // LWPs in p_lwps
	std::uint32_t p_nzlwps = 0;             // those that have begun to end
	std::uint32_t p_nrlwps = 0;             // running or likely to run: RUN, ONPROC, SLEEP
	std::uint32_t p_ndlwps = 0;             // detached
	std::uint32_t p_nlwpwait = 0;           // inside lwp_wait1() or ~runtime, their wait not ended
	atomic<lwp_t *> p_zomblwp{nullptr};     // a dead detached LWP, for the next to be made from; peeked at without p_lock
	list<lwp_t, &lwp_t::l_link> p_zombies;  // dead, not detached, given to no waiter yet; oldest first

	alignas(64) list<waitrec, &waitrec::wr_link> p_waits;
	list<waitrec, &waitrec::wr_for> p_anywaits;  // waits for any
	std::uint32_t p_ncvwaits = 0;                // LWPs asleep on p_lwpcv
	std::uint32_t p_nadopted = 0;                // kernel threads of the application, among p_nlwps

	alignas(64) lidtable p_lwps;  // by id, in whatever state
	std::size_t p_maxlwps = 0;
	char p_lwpcv = 0;  // its address is the channel: somebody was suspended, continued, dereferenced, freed
};
static_assert(offsetof(proc_t, p_nlwpid) == 64 && offsetof(proc_t, p_waits) == 128);

/// The proc of this process.  Never destroyed: LWPs run on while the process exits.
extern proc_t &proc0;

/// Sleeps on p_lwpcv.  p_lock held, released meanwhile, held on return.  0 | EINTR
[[nodiscard]] int proc_cv_wait(proc_t *, lwp_t *, const char *wmesg, sleep_catch) noexcept;
/// p_lock held.
void proc_cv_broadcast(proc_t *, vcpu_t *me) noexcept;

/// With p_lock held: the LWP with this id, also a zombie or one being made; null if there is none.
inline lwp_t *lwp_find_any(proc_t *p, lwpid_t lid) noexcept { return static_cast<lwp_t *>(p->p_lwps.find_locked(lid)); }

/// The next id, never 0 and never that of an LWP in the table.  p_lock held.
lwpid_t proc_next_lid(proc_t *) noexcept;

/// With p_lock held: the living LWP with this id, null for LSIDL and LSZOMB.
lwp_t *lwp_find(proc_t *, lwpid_t lid) noexcept;

/// Without p_lock: the living LWP with this id, locked by *lock; null if there is none.
lwp_t *lwp_find_and_lock(proc_t *, lwpid_t lid, vcpu_t *me, spinlock **lock) noexcept;

/// References keep an LWP from ending, not from running.  p_lock held.  False if it has begun to end.
[[nodiscard]] bool lwp_addref(lwp_t *) noexcept;
void lwp_delref(proc_t *, lwp_t *) noexcept;     // p_lock not held
void lwp_drainrefs(proc_t *, lwp_t *) noexcept;  // p_lock held: waits until only its own is left

/// Debug builds: p_lock held; the counters agree with each other, and in a small proc with the states of its LWPs.
void proc_check(const proc_t *) noexcept;

}  // namespace lwp::kern
