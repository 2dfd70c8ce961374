// SPDX-License-Identifier: BSD-2-Clause
//
// The order in which the application takes its mutexes, kept by debug builds of the library: an order that could end in a deadlock is told
// though none happened.
//
// Who waits for B while it has A makes an edge from A to B.  An edge that closes a circle is told, once, with what is kept of all its edges: who
// made it first, and where it took the two.  A lock is known by its address until it is destroyed: then its edges go.
//   no edge to B    try_lock(B), which does not wait; a wait with a deadline, which ends: alike the graph of waits (sync/waitgraph.h)
//   no edge at all  a recursive mutex that is taken once more
//   to itself       who shares a lock and wants it alone, or shares it once more: told as well, a writer in between makes it a deadlock
// Shared or alone makes no other difference: a waiting writer turns readers into waiters.
//
// Memory is a table: locks_most locks with edges and edges_most edges; beyond that the locks that came first are forgotten, so an order may be
// missed but none is made up.  Of what one LWP has at a time the first eight are known.
// Release builds have none of it: every call here is empty.
//
// Takes lockorder_lock (rank leaf), by an LWP that holds no spin lock.  Allocates nothing.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

/// Return addresses, innermost first; null ends them.
struct lock_trace {
	static constexpr unsigned most = 10;
	void *lt_frames[most];
};

/// One edge, as it was made first.
struct lockorder_step {
	const void *ls_had, *ls_wanted;
	lock_hold ls_had_as, ls_wanted_as;
	lwpid_t ls_lid;
	char ls_name[LWP_MAXNAME];
	lock_trace ls_had_at, ls_wanted_at;  // empty: forgotten
};

/// What is told of a circle of `count` edges: the one that the caller has just made, then the others, each beginning where the one before it ends;
/// of a long circle the first ones.  One: a lock and itself.  By the LWP that is about to wait, or not; no lock held.
using lockorder_report = void (*)(const lockorder_step *steps, unsigned count);

/// Where a lock is taken: the return address of the public call, and its frame.
struct lock_site {
	void *ls_return;
	const void *ls_frame;
};

#if LWP_DEBUG

/// Null: nobody wants to know, and no edges are made.
extern atomic<lockorder_report> lockorder_reporter;

/// In the public call itself.
LWP_ALWAYS_INLINE lock_site lockorder_site() noexcept { return {__builtin_return_address(0), __builtin_frame_address(0)}; }

/// `l` is about to wait for `lock` as long as it takes, if that is not free.
void lockorder_wanted(lwp_t *l, const void *lock, lock_hold as, lock_site) noexcept;
/// `l` has it from now on.
void lockorder_taken(lwp_t *l, const void *lock, lock_hold as, lock_site) noexcept;
/// `l` has it no longer.  False: it never had, as far as can be known.
bool lockorder_released(lwp_t *l, const void *lock) noexcept;
/// Nobody uses it any more: what its address was stands for nothing.
void lockorder_destroyed(const void *lock) noexcept;

#else

LWP_ALWAYS_INLINE lock_site lockorder_site() noexcept { return {}; }
inline void lockorder_wanted(lwp_t *, const void *, lock_hold, lock_site) noexcept {}
inline void lockorder_taken(lwp_t *, const void *, lock_hold, lock_site) noexcept {}
inline bool lockorder_released(lwp_t *, const void *) noexcept { return true; }
inline void lockorder_destroyed(const void *) noexcept {}

#endif

}  // namespace lwp::kern
