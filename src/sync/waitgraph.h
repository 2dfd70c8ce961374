// SPDX-License-Identifier: BSD-2-Clause
//
// Who waits for whom, and the moment a circle closes.
//
// A wait that one LWP can end (a mutex's owner, a writer, an LWP that is joined) is an edge.  An edge is announced before the sleep and taken
// back after it.  Whoever announces one and finds that its owner has announced one too follows the edges from there; if they lead back to
// itself, all of them are stuck.  The announcement and the look are sequentially consistent: of the LWPs of a circle the last to announce
// sees all others, so no circle closes unseen, and nobody else pays more than one exchange on its way to sleep.
// A wait with a deadline, or one that others can end, is no edge: there is hope.
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

/// What is told of a circle: the LWPs in it, each waiting for the next and the last for the first.  By the one that closed it, which runs
/// on and is about to sleep; no lock held.
using waitgraph_report = void (*)(lwp_t *const *circle, unsigned count);
/// Null: nobody wants to know, and nothing is announced.
extern atomic<waitgraph_report> waitgraph_reporter;

/// Looks whether the edges from `owner` on lead back to `l`, which has settled and sleeps next.  No lock held.
void waitgraph_follow(lwp_t *l, lwp_t *owner) noexcept;

/// `l` will sleep until `owner` acts (null: whoever owns it by then), without a deadline.  True: `owner` waits for somebody too, so call
/// waitgraph_follow() before sleeping.  Any locks may be held.
inline bool waitgraph_settle(lwp_t *l, const lwp_t *owner) noexcept {
	if (waitgraph_reporter.load(std::memory_order_relaxed) == nullptr) {  // relaxed: set once, at the start
		return false;
	}
	const std::uint32_t n = (l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask) + wp_one;  // relaxed: only we write it
	l->l_blocks.store(n | wp_settled, std::memory_order_seq_cst);
	return owner != nullptr && (owner->l_blocks.load(std::memory_order_seq_cst) & wp_mask) != wp_free;
}

/// Both.  No lock held.
inline void waitgraph_announce(lwp_t *l, lwp_t *owner) noexcept {
	if (waitgraph_settle(l, owner)) {
		waitgraph_follow(l, owner);
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
