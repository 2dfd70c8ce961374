// SPDX-License-Identifier: BSD-2-Clause
#include "sync/turnstile.h"

#include "base/assert.h"
#include "sched/priority.h"

#include <algorithm>
#include <utility>

namespace lwp::kern {
namespace {

struct alignas(64) chain {
	spinlock ts_lock{lock_rank::turnstile, "turnstile"};
};
constexpr unsigned chain_bits = 6;
chain chains[1U << chain_bits];

/// Covers who lends to `l`.
spinlock &turnstile_lock(const lwp_t *l) noexcept {
	return chains[(reinterpret_cast<std::uintptr_t>(l) >> 6) * 0x9e3779b97f4a7c15U >> (64 - chain_bits)].ts_lock;
}

pri_t priority(const lwp_t *l) noexcept {
	return l->l_priority.load(std::memory_order_relaxed);  // relaxed: locked, or looked at again by the settle that follows its change
}

/// To be settled by this vCPU when it holds no lock.  There is room for one: who owes is done with it before it does anything else, and all that
/// is owed under one list's lock is owed to one owner.
void owe(vcpu_t *me, lwp_t *l) noexcept {
	LWP_ASSERT(me->vc_owed == nullptr || me->vc_owed == l);
	me->vc_owed = l;
	me->vc_tick = 0;  // if we are about to switch away: whoever arrives has a look at once
}

/// `heir`: the owner is asleep in the thing's list, and about to be woken.  What the others lend it has: it was in front of them.
void begin(lwp_t *front, lwp_t *owner, bool heir, vcpu_t *me) noexcept {
	if (front == nullptr || owner == nullptr || front->l_lendsto != nullptr ||
	    priority(front) <= owner->l_ownpri.load(std::memory_order_relaxed) ||  // relaxed: a later change is settled by whoever makes it
	    !front->l_syncobj->so_lend(front->l_wchan, owner)) {
		return;
	}
	front->l_lendsto = owner;
	{
		lock_scope hold(turnstile_lock(owner), me);
		owner->l_lenders.push_back(front);
	}
	if (!heir) {
		owe(me, owner);
	}
}

void end(lwp_t *l, vcpu_t *me) noexcept {
	if (l == nullptr || l->l_lendsto == nullptr) {
		return;
	}
	lwp_t *owner = std::exchange(l->l_lendsto, nullptr);
	{
		lock_scope hold(turnstile_lock(owner), me);
		owner->l_lenders.remove(l);
	}
	owe(me, owner);
}

lwp_t *owner_of(const lwp_t *sleeper) noexcept { return sleeper->l_syncobj->so_owner(sleeper->l_wchan); }

/// The best of those that lend to it, or pri_none.
pri_t lent_to(const lwp_t *l, vcpu_t *me) noexcept {
	pri_t best = pri_none;
	lock_scope hold(turnstile_lock(l), me);
	for (const lwp_t *lender = l->l_lenders.front(); lender != nullptr; lender = decltype(l->l_lenders)::next(lender)) {
		best = std::max(best, priority(lender));
	}
	return best;
}

/// A sleeper on a list, locked, gets another priority.  Returns whom that concerns.
lwp_t *resort(lwp_t *l, pri_t pri, vcpu_t *me) noexcept {
	waiters *q = l->l_sleepq;
	if (q->front() == q->back()) {
		l->l_priority.store(pri, std::memory_order_relaxed);  // relaxed: locked
	} else {
		q->remove(l);
		l->l_priority.store(pri, std::memory_order_relaxed);
		waiters_insert_locked(q, l, false);
	}
	if (l->l_syncobj->so_lend == nullptr) {
		return nullptr;
	}
	lwp_t *front = q->front();
	end(front != l ? l : waiters::next(l), me);
	begin(front, owner_of(l), false, me);
	// All that is owed is owed to the owner.  Our caller settles it, also if the loan is the same and only its height has changed.
	return me->vc_owed != nullptr ? std::exchange(me->vc_owed, nullptr) : l->l_lendsto;
}

/// Returns whom to settle next.
lwp_t *settle_locked(lwp_t *l, const spinlock *lock, vcpu_t *me) noexcept {
	const lwp_stat s = lwp_state(l);
	if (s == lwp_stat::none || s == lwp_stat::zomb) {
		return nullptr;  // it has ended since
	}
	const pri_t pri = std::max(l->l_ownpri.load(std::memory_order_relaxed), lent_to(l, me));  // relaxed: locked
	if (pri == priority(l)) {
		return nullptr;
	}
	if (l->l_sleepq != nullptr) {
		return resort(l, pri, me);
	}
	sched_changepri_locked(l, lock, pri);
	return nullptr;
}

}  // namespace

void turnstile_blocked(waiters *q, lwp_t *l, vcpu_t *me) noexcept {
	lwp_t *front = q->front();
	if (front == l) {
		end(waiters::next(l), me);
	}
	begin(front, owner_of(l), false, me);
}

void turnstile_left(const waiters *q, lwp_t *l) noexcept {
	if (l->l_lendsto != nullptr || !q->empty()) {
		vcpu_t *me = curcpu_or_null();
		end(l, me);
		lwp_t *owner = owner_of(l);
		begin(q->front(), owner, owner == l, me);
	}
}

void turnstile_owned(const waiters *q, lwp_t *owner, vcpu_t *me) noexcept {
	end(q->front(), me);
	begin(q->front(), owner, owner != nullptr && lwp_asleep(owner), me);  // an heir may have been stopped in its sleep
}

void turnstile_moved(const waiters *q, lwp_t *was, lwp_t *owner, vcpu_t *me) noexcept {
	if (was != q->front()) {
		end(was, me);
	}
	begin(q->front(), owner, false, me);
}

LWP_NOINLINE void turnstile_settle(lwp_t *l, vcpu_t *me) noexcept {
	lwp_t *mark = l;  // follows in ever longer steps: in a circle we come by it
	unsigned steps = 0;
	unsigned turn = 1;
	while (l != nullptr) {
		spinlock *lock = lwp_lock(l, me);
		lwp_t *next = settle_locked(l, lock, me);
		lock->unlock(me);
		if (next == mark) {
			return;
		}
		if (++steps == turn) {
			mark = next;
			steps = 0;
			turn *= 2;
		}
		l = next;
	}
}

}  // namespace lwp::kern
