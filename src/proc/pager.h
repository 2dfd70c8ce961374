// SPDX-License-Identifier: BSD-2-Clause
//
// The stack pager (NetBSD's swapping of LWPs): who has slept for long gives back the pages of its stack that it does not use.  Off by default.
//
// LW_INMEM says that an LWP's stack is in memory, LW_PAGING that somebody works on what is in memory of it.  Both change with the LWP locked.  A sweep
// claims a sleeper: LW_PAGING for LW_INMEM.  From then on it may be woken, but not run: who wakes it finds LW_INMEM missing and leaves it LSRUN on
// the page queue (sched/pageq.h), and the pager takes from there only those that nobody works on.  So whoever has set LW_PAGING is alone with
// the stack, and with the LWP, which cannot end, until it takes LW_PAGING back; it needs no lock for madvise(2).
//
//   a sweep       LSSLEEP, in memory     -> out       gives back what is below the stack pointer, and lets the kernel have the rest
//   a wake-up     LSSLEEP, out           -> LSRUN, out, on the page queue
//   the pager     LSRUN, out             -> in memory, on a run queue
//   a hold        LSSLEEP, out           -> in memory, and not swept as long as it is held
//
// Not swept: kernel threads of the application, LWPs on stacks of their creators, and those that are held (l_holdcnt, uvm_lwp_hold()).
#pragma once

#include "proc/proc.h"

namespace lwp::kern {

/// Starts the pager, a kernel thread, for LWPs that have slept so long.  0 | EAGAIN | ENOMEM
[[nodiscard]] int pager_start(nanotime after) noexcept;
void pager_stop() noexcept;  ///< if it was started; no LWP sleeps any more

/// What the pager does, once.  By its kernel thread, or any LWP (tests).  No lock held.
/// Claims those that have slept for `least`, a bounded number at a time.  How many.
std::size_t pager_sweep(proc_t *, nanotime least, vcpu_t *me) noexcept;
/// Makes those on the page queue run.  How many.
std::size_t pager_serve(vcpu_t *me) noexcept;

/// Keeps the LWP's stack in memory, and brings it back if need be.  Counted.  0 | ESRCH | EAGAIN too often
[[nodiscard]] int uvm_lwp_hold(lwp_t *l, lwpid_t lid) noexcept;
/// Once less.  0 | ESRCH | EINVAL it is not held
[[nodiscard]] int uvm_lwp_rele(lwp_t *l, lwpid_t lid) noexcept;

struct pager_stats {
	std::uint64_t out, in;  // LWPs whose stacks went, and came back
	std::uint64_t bytes;    // of pages that were given back, in memory or not
};
pager_stats pager_statistics() noexcept;

}  // namespace lwp::kern
