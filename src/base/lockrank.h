// SPDX-License-Identifier: BSD-2-Clause
//
// The lock order as a table, outermost first.  Debug builds keep the locks that each kernel thread holds and refuse to wait for one
// whose rank is not higher than all of them; a try_lock() may take any.  Release builds know nothing of ranks.
// Of the rank `proc` several may be held: the locks of the proc's parts, taken in the order of the parts, which is that of their addresses.
#pragma once

#include "base/config.h"

#include <cstdint>

// X(rank, what it covers).  kern_lwp.c's comment puts spc_lwplock before the sleep queue lock; here the sleep queue comes first,
// because an LWP that falls asleep already holds it when it gives up its vCPU.
#define LWP_LOCK_RANKS(X)                                                    \
	X(runtime, "start, stop and adoption of kernel threads")                 \
	X(waitgraph, "waitgraph_lock: one at a time follows who waits for whom") \
	X(proc, "pp_lock: a part of the proc: LWPs, ids, counters, waits")       \
	X(object, "a thing that LWPs share and wait for: a channel")             \
	X(port, "po_use: a vCPU's place for I/O, which others serve meanwhile")  \
	X(sleepq, "a sleep queue and the LWPs asleep on it")                     \
	X(vcpu_lwp, "vc_lwplock: the LWPs that run, stopped or ended on a vCPU") \
	X(duty, "sp_lock: which vCPU acts, which is away, which rests")          \
	X(run_queue, "vc_rqlock: a run queue and the LWPs on it")                \
	X(inbox, "vc_inlock: LWPs made runnable for a vCPU by others")           \
	X(turnstile, "who lends its priority to whom")                           \
	X(leaf, "memory, timers: takes nothing further")

namespace lwp::kern {

enum class lock_rank : std::uint8_t {
#define X(rank, what) rank,
	LWP_LOCK_RANKS(X)
#undef X
};

const char *lock_rank_name(lock_rank) noexcept;

#if LWP_DEBUG
class spinlock;
void lockrank_wanted(const spinlock *) noexcept;  // aborts if the order is broken
void lockrank_acquired(const spinlock *) noexcept;
void lockrank_released(const spinlock *) noexcept;  // aborts if this kernel thread does not hold it
bool lockrank_holds(const spinlock *) noexcept;
/// Called before each lock is waited for: whoever knows more looks whether it may be.  Null: nobody.  Set before others run.
extern void (*lockrank_watch)() noexcept;
#endif
bool lockrank_holds_any() noexcept;  // debug builds only

}  // namespace lwp::kern
