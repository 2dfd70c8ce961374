// SPDX-License-Identifier: BSD-2-Clause
//
// Theft: LWPs that wait on one vCPU are taken to another, which must be one where they may run (place.h).  Whoever takes is most often that other
// one itself; the watcher also takes for one that halts.
// Takes vc_rqlock of the one, vc_inlock of the other.
#pragma once

#include "sched/place.h"

namespace lwp::kern {

/// Whether LWPs without an affinity may go from the one to the other.  A hint: who takes asks again, with the LWP locked.
inline bool same_pset(const vcpu_t *a, const vcpu_t *b) noexcept {
	// relaxed, all: see above
	return !sched_psets() ||
	    sched_psid(static_cast<unsigned>(a->vc_index.load(std::memory_order_relaxed))) ==
	    sched_psid(static_cast<unsigned>(b->vc_index.load(std::memory_order_relaxed)));
}

unsigned steal_count_several(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept;

/// How many of those that are queued on `from` the vCPU `to` may have.  Exact, or whoever counts on it would search for ever: what is bound to one vCPU
/// is not among them, and who has chosen several is asked.
LWP_ALWAYS_INLINE unsigned takeable(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept {
	const unsigned n = LWP_LIKELY(same_pset(from, to)) ? from->vc_rq.movable() : 0;
	return LWP_LIKELY(from->vc_rq.several() == 0) ? n : n + steal_count_several(from, to, me);
}

/// The same of its inbox: whether there is one.
bool inbox_takeable(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept;

/// Moves up to `want` LWPs from the tail of `from`'s queue to the inbox of `to`; returns how many.  The tail holds the oldest: of a tree the
/// largest parts, of a queue those that would wait longest.
unsigned steal_queue(vcpu_t *me, vcpu_t *from, vcpu_t *to, unsigned want) noexcept;
/// The same from its inbox, which it has no time to look into: all that may move.
unsigned steal_inbox(vcpu_t *me, vcpu_t *from, vcpu_t *to) noexcept;

}  // namespace lwp::kern
