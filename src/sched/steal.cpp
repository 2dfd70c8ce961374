// SPDX-License-Identifier: BSD-2-Clause
#include "sched/steal.h"

namespace lwp::kern {
namespace {

/// Whether `to` may have `l`, which is queued elsewhere and locked.
bool movable(const lwp_t *l, const vcpu_t *to) noexcept {
	return l->l_bound < 0 && sched_may_run(l, static_cast<unsigned>(to->vc_index.load(std::memory_order_relaxed)));  // relaxed: it acts
}

constexpr unsigned several_looks = 64;  // LWPs that are looked at for one that may come

}  // namespace

/// How many of those with an affinity to several vCPUs, of the first that are queued on `from`, may come to `to`.
LWP_NOINLINE unsigned steal_count_several(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept {
	unsigned n = 0;
	lock_scope hold(from->vc_rqlock, me);
	(void)from->vc_rq.find_below(pri_count, several_looks, [&n, to](const lwp_t *l) {
		n += l->l_bound == bound_several && movable(l, to) ? 1U : 0U;
		return false;
	});
	return n;
}

bool inbox_takeable(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept {
	// relaxed, both: hints; exact under vc_inlock
	if (from->vc_inmovable.load(std::memory_order_relaxed) != 0 && same_pset(from, to)) {
		return true;
	}
	if (LWP_LIKELY(from->vc_inseveral.load(std::memory_order_relaxed) == 0)) {
		return false;
	}
	lock_scope hold(from->vc_inlock, me);
	for (lwp_t *l = from->vc_inbox.front(); l != nullptr; l = list<lwp_t, &lwp_t::l_link>::next(l)) {
		if (movable(l, to)) {
			return true;
		}
	}
	return false;
}

unsigned steal_queue(vcpu_t *me, vcpu_t *from, vcpu_t *to, unsigned want) noexcept {
	unsigned got = 0;
	lock_scope queue(from->vc_rqlock, me);
	lock_scope inbox(to->vc_inlock, me);
	while (got < want) {
		lwp_t *l = from->vc_rq.find_movable([to](const lwp_t *queued) { return movable(queued, to); });
		if (l == nullptr) {
			break;
		}
		// Runs when `to` drains its inbox, after both locks: until then vc_inlock covers it, l_stacked included.  (Of one that was handed over to and
		// is in no list, l_stacked is what it was before: either place is right for it.)
		from->vc_rq.remove(l);
		inbox_put(to, l, l->l_stacked);
		got++;
	}
	return got;
}

unsigned steal_inbox(vcpu_t *me, vcpu_t *from, vcpu_t *to) noexcept {
	unsigned got = 0;
	lock_scope theirs(from->vc_inlock, me);
	if (!to->vc_inlock.try_lock(me)) {  // of the same rank: never wait for it
		return 0;
	}
	for (lwp_t *l = from->vc_inbox.front(), *next; l != nullptr; l = next) {
		next = list<lwp_t, &lwp_t::l_link>::next(l);
		if (movable(l, to)) {
			inbox_take(from, l);
			inbox_put(to, l, l->l_stacked);
			got++;
		}
	}
	to->vc_inlock.unlock(me);
	return got;
}

}  // namespace lwp::kern
