// SPDX-License-Identifier: BSD-2-Clause
//
// Who waits for whom, and the moment a circle closes.
//
// A wait that one LWP can end (a mutex's owner, a writer, an LWP that is joined, one that runs a function once) is an edge.  An edge is announced
// before the sleep and taken back after it.  Whoever announces one and finds that its owner has announced one too follows the edges from there;
// if they lead back to itself, all of them are stuck.  There is a fence between the announcement and the looks, first for the owner, then at what
// that one has announced: of the LWPs of a circle the last to announce sees all others, so no circle closes unseen, and nobody else pays more
// than one fence on its way to sleep.  The owner is looked up after the fence: one that came to own the thing later announces later too.
// A wait with a deadline, or one that others can end (a stop request, the deadline of a join), is no edge: there is hope.
//
// One edge is not made by who sleeps: a broadcast on a condition variable moves sleepers to a mutex.  It announces them, each under its lock, then
// fences and looks at the owner, as they would have done; and if the owner waits, it follows the edges from there back to the owner.
// Nothing else is paid for it, least of all by a wait that is notified: it takes nothing back that was not announced.
//
// Takes waitgraph_lock, then one LWP's lock at a time.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

/// The low bits of l_blocks; the rest counts.
enum wait_phase : std::uint32_t {
	wp_free = 0,       // waits for nobody
	wp_settled = 1,    // sleeps, or will before it does anything else
	wp_following = 2,  // is about to follow the edges
	wp_mask = 3,
	wp_one = 4,
};

/// A circle: LWPs of which each waits for the next, and the last for the first.
struct waitgraph_circle {
	lwp_t *const *wc_lwps;
	unsigned wc_count;
	lwp_t *wc_by;  // who has closed it: the first of them, which is about to sleep, or one that has moved a sleeper and is not in it
	const syncobj *wc_sobj;  // what the first is about to wait for; null: it sleeps already
	const void *wc_wchan;
};

/// What is told of it, by who has closed it; no lock held.
using waitgraph_report = void (*)(const waitgraph_circle &);
/// Null: nobody wants to know, and nothing is announced.
extern atomic<waitgraph_report> waitgraph_reporter;

/// Looks whether the edges from `owner` on lead back to `l`, which has settled and sleeps next, on `wchan`.  No lock held.
void waitgraph_follow(lwp_t *l, lwp_t *owner, const syncobj *sobj, const void *wchan) noexcept;

/// Looks whether `owner`, for which sleepers were moved, waits for one of them.  No lock held.
void waitgraph_follow_moved(lwp_t *owner, vcpu_t *me) noexcept;

/// Whether anybody wants to know of a wait of `l`, by itself or with it locked.  What is pinned can be reached by others, who may end the wait.
inline bool waitgraph_wanted(const lwp_t *l) noexcept {
	return waitgraph_reporter.load(std::memory_order_relaxed) != nullptr && l->l_pins == 0;  // relaxed: set once, at the start
}

/// One edge more from `l`, by itself or with it locked; not seen by others before a fence.
inline void waitgraph_mark(lwp_t *l) noexcept {
	const std::uint32_t n = (l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask) + wp_one;  // relaxed: only who may call this writes it
	l->l_blocks.store(n | wp_settled, std::memory_order_relaxed);                               // relaxed: the fence orders it
}

/// After a fence: whether `owner` has announced an edge.
inline bool waitgraph_waits(const lwp_t *owner) noexcept {
	return owner != nullptr && (owner->l_blocks.load(std::memory_order_relaxed) & wp_mask) != wp_free;  // relaxed: the fence orders it
}

/// `l` will sleep until `owner` acts, without a deadline, and nobody else can come to be in its place.  True: `owner` waits for somebody too, so
/// call waitgraph_follow() before sleeping.  Any locks may be held.
inline bool waitgraph_settle(lwp_t *l, const lwp_t *owner) noexcept {
	if (!waitgraph_wanted(l)) {
		return false;
	}
	waitgraph_mark(l);
	fence(std::memory_order_seq_cst);  // pairs with itself, on another vCPU: of two that wait for each other one sees the other
	return waitgraph_waits(owner);
}

/// `l` will sleep on `wchan`, without a deadline, until the owner acts.  Follows if need be.  No lock held.
inline void waitgraph_announce(lwp_t *l, const syncobj *sobj, const void *wchan) noexcept {
	if (!waitgraph_wanted(l)) {
		return;
	}
	(void)waitgraph_settle(l, nullptr);
	lwp_t *owner = sobj->so_owner(wchan);  // after the fence: who takes it from now on finds us when it announces
	if (waitgraph_waits(owner)) {
		waitgraph_follow(l, owner, sobj, wchan);
	}
}

/// Sleepers that were marked by us wait for `owner` from now on; null: for nobody who has it already.  No lock held.
inline void waitgraph_moved(lwp_t *owner, vcpu_t *me) noexcept {
	if (owner == nullptr || waitgraph_reporter.load(std::memory_order_relaxed) == nullptr) {  // relaxed: as above
		return;
	}
	fence(std::
	        memory_order_seq_cst);  // pairs with that in waitgraph_settle(); x86 has ordered it by the exchange of the mutex' word, others have not
	if (waitgraph_waits(owner)) {
		waitgraph_follow_moved(owner, me);
	}
}

/// The wait is over, or did not come to a sleep.
inline void waitgraph_done(lwp_t *l) noexcept {
	const std::uint32_t n = l->l_blocks.load(std::memory_order_relaxed);  // relaxed: only we write it
	if ((n & wp_mask) != wp_free) {
		l->l_blocks.store(n & ~wp_mask, std::memory_order_release);  // later than what the wait did; a follower rereads what it found
	}
}

}  // namespace lwp::kern
