// SPDX-License-Identifier: BSD-2-Clause
//
// The states of an LWP, the lock that covers each, and the edges between them: tables.  Only lwp_setstat() writes l_stat (and lwp_statreset(),
// when it is no LWP any more), and it changes the lock pointer with it; names, checks, a test over all pairs and the picture in
// ARCHITECTURE.md are made from here.
#pragma once

#include "core/lwp.h"

// X(state, NetBSD's name, lock rank that covers it, another rank that may)
#define LWP_STATES(X)                             \
	X(idl, "LSIDL", vcpu_lwp, vcpu_lwp)           \
	X(run, "LSRUN", run_queue, inbox)             \
	X(onproc, "LSONPROC", vcpu_lwp, vcpu_lwp)     \
	X(sleep, "LSSLEEP", sleepq, sleepq)           \
	X(stop, "LSSTOP", vcpu_lwp, sleepq)           \
	X(suspended, "LSSUSPENDED", vcpu_lwp, sleepq) \
	X(zomb, "LSZOMB", vcpu_lwp, vcpu_lwp)

// X(from, to, who may do it, why)
#define LWP_EDGES(X)                                                            \
	X(none, idl, "proc/create", "memory becomes an LWP")                        \
	X(none, onproc, "proc/runtime", "a kernel thread is adopted where it runs") \
	X(idl, run, "sched/place", "started")                                       \
	X(idl, suspended, "proc/create", "created suspended")                       \
	X(idl, stop, "proc/create", "created in a stopped proc")                    \
	X(idl, onproc, "sched/switch", "an idle LWP is dispatched")                 \
	X(idl, zomb, "proc/create", "creation was given up")                        \
	X(run, run, "sched/steal", "stolen, migrated, or taken out of the inbox")   \
	X(run, onproc, "sched/switch", "dispatched")                                \
	X(onproc, run, "sched/switch", "yielded or preempted")                      \
	X(onproc, sleep, "sync/sleepq", "blocked")                                  \
	X(onproc, suspended, "proc/boundary", "suspended at the boundary")          \
	X(onproc, stop, "proc/boundary", "stopped at the boundary")                 \
	X(onproc, zomb, "proc/exit", "ended")                                       \
	X(onproc, idl, "sched/switch", "an idle LWP gave way")                      \
	X(sleep, run, "sched/place", "woken, timed out or interrupted")             \
	X(sleep, sleep, "sync/sleepq", "moved to another queue")                    \
	X(sleep, stop, "proc/stop", "stopped in its sleep")                         \
	X(stop, run, "sched/place", "continued")                                    \
	X(stop, sleep, "proc/stop", "continued, its wait unfinished")               \
	X(stop, stop, "sync/sleepq", "its wait ended, its lock moves")              \
	X(suspended, run, "sched/place", "continued")                               \
	X(suspended, suspended, "sync/sleepq", "its wait ended, its lock moves")    \
	X(zomb, idl, "proc/create", "recycled: ceased one unit of work, waits for the next")

namespace lwp::kern {

/// NetBSD's name: "LSRUN".
const char *lwp_stat_name(lwp_stat) noexcept;
bool lwp_edge_legal(lwp_stat from, lwp_stat to) noexcept;
/// Why the edge exists; null if it does not.
const char *lwp_edge_reason(lwp_stat from, lwp_stat to) noexcept;
bool lwp_lock_covers(lock_rank, lwp_stat) noexcept;
/// Debug builds: the edge is in the table, the old lock is held, `lend` is of the kind that the new state asks for.
void lwp_setstat_check(const lwp_t *, lwp_stat to, const spinlock *lend) noexcept;

/// Changes state and covering lock together.  The old lock must be held; if `lend` is not, the LWP is unlocked the moment this returns.
LWP_ALWAYS_INLINE void lwp_setstat(lwp_t *l, lwp_stat to, spinlock *lend) noexcept {
#if LWP_DEBUG
	lwp_setstat_check(l, to, lend);
#endif
	l->l_stat.store(
	    to, std::memory_order_release);  // pairs with the acquire in lwp_state(): who sees the state sees all that was done before it
	l->l_mutex.store(lend, std::memory_order_release);  // pairs with the acquires in lwp_lock(): the new lock implies the new state
}

/// Memory that is no LWP any more; `lend`: any lock that lasts for ever, for those who still chase the pointer.
inline void lwp_statreset(lwp_t *l, spinlock *lend) noexcept {
	l->l_stat.store(lwp_stat::none, std::memory_order_release);
	l->l_mutex.store(lend, std::memory_order_release);  // pairs with the acquires in lwp_lock()
}

inline lwp_stat lwp_state(const lwp_t *l) noexcept { return l->l_stat.load(std::memory_order_acquire); }

/// With the LWP locked: whether its sleep is not over.  It may have been stopped in it.
inline bool lwp_asleep(const lwp_t *l) noexcept {
	const lwp_stat s = lwp_state(l);
	return s == lwp_stat::sleep || (s == lwp_stat::stop && l->l_wchan != nullptr);
}

}  // namespace lwp::kern
