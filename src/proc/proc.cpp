// SPDX-License-Identifier: BSD-2-Clause
#include "proc/proc.h"

#include "base/assert.h"

namespace lwp::kern {

namespace {

union proc_storage {
	constexpr proc_storage() noexcept : proc() {}
	~proc_storage() {}
	proc_t proc;
};
constinit proc_storage storage;

bool alive(const lwp_t *l) noexcept {
	const lwp_stat s = lwp_state(l);
	return s != lwp_stat::idl && s != lwp_stat::zomb && s != lwp_stat::none;
}

}  // namespace

constinit proc_t &proc0 = storage.proc;

lwpid_t proc_next_lid(proc_t *p) noexcept {
	do {
		if (LWP_UNLIKELY(p->p_nlwpid == INT32_MAX)) {
			p->p_nlwpid = 0;
			p->p_lidwrapped = true;
		}
		p->p_nlwpid++;
	} while (LWP_UNLIKELY(p->p_lidwrapped && lwp_find_any(p, p->p_nlwpid) != nullptr));
	return p->p_nlwpid;
}

int proc_cv_wait(proc_t *p, lwp_t *l, const char *wmesg, sleep_catch interruptible) noexcept {
	sleepq *q = sleeptab_lookup(&p->p_lwpcv);
	vcpu_t *me = l->l_cpu;
	// On the queue before p_lock is released: whoever changes what we wait for does so under p_lock, then needs sq_lock to wake us.
	q->sq_lock.lock(me);
	p->p_ncvwaits++;
	p->p_lock.unlock(me);
	int error = sleepq_block_and_unlock(l, q, {&p->p_lwpcv, wmesg, &sleep_syncobj, interruptible});
	p->p_lock.lock(l->l_cpu);
	p->p_ncvwaits--;
	return error;
}

void proc_cv_broadcast(proc_t *p, vcpu_t *me) noexcept {
	LWP_ASSERT(p->p_lock.held());
	if (p->p_ncvwaits != 0) {
		sleepq *q = sleeptab_lookup(&p->p_lwpcv);
		lock_scope hold(q->sq_lock, me);
		sleepq_wake(q, &p->p_lwpcv, ~0U);
	}
}

lwp_t *lwp_find(proc_t *p, lwpid_t lid) noexcept {
	LWP_ASSERT(p->p_lock.held());
	lwp_t *l = lwp_find_any(p, lid);
	return l != nullptr && alive(l) ? l : nullptr;  // LSIDL and LSZOMB are entered and left under p_lock
}

lwp_t *lwp_find_and_lock(proc_t *p, lwpid_t lid, vcpu_t *me, spinlock **lock) noexcept {
	if (lid <= 0) {
		return nullptr;
	}
	// The table may be looked at without its lock; structs are type-stable, so at worst we lock a stranger.  An LWP that lives and is
	// locked keeps its id: if it matches it is the one.  A dead one is started anew without its old lock; then the lock pointer has moved
	// before the state, so it is looked at once more after it.
	if (auto *l = static_cast<lwp_t *>(p->p_lwps.find(lid)); LWP_LIKELY(l != nullptr)) {
		*lock = lwp_lock(l, me);
		if (LWP_LIKELY(lwp_lid(l) == lid && alive(l) && l->l_mutex.load(std::memory_order_acquire) == *lock)) {  // pairs with lwp_setstat()
			return l;
		}
		(*lock)->unlock(me);
	}
	lock_scope hold(p->p_lock, me);
	lwp_t *l = lwp_find(p, lid);
	if (l != nullptr) {
		*lock = lwp_lock(l, me);  // it cannot end meanwhile: that takes p_lock
	}
	return l;
}

bool lwp_addref(lwp_t *l) noexcept {
	if ((l->l_prflag & LPR_DRAINING) != 0 || lwp_state(l) == lwp_stat::zomb) {
		return false;
	}
	l->l_refcnt++;
	return true;
}

void lwp_delref(proc_t *p, lwp_t *l) noexcept {
	vcpu_t *me = curcpu_or_null();
	lock_scope hold(p->p_lock, me);
	LWP_ASSERT(l->l_refcnt > 1);
	if (--l->l_refcnt == 1 && (l->l_prflag & LPR_DRAINING) != 0) {
		proc_cv_broadcast(p, me);
	}
}

void lwp_drainrefs(proc_t *p, lwp_t *l) noexcept {
	l->l_prflag |= LPR_DRAINING;
	while (l->l_refcnt > 1) {
		(void)proc_cv_wait(p, l, "lwprefs", sleep_catch::no);
	}
}

void proc_check([[maybe_unused]] const proc_t *p) noexcept {
	LWP_ASSERT(p->p_nlwps == p->p_lwps.size());
	LWP_ASSERT(p->p_nzlwps <= p->p_nlwps);
	LWP_ASSERT(p->p_nrlwps <= p->p_nlwps);
	LWP_ASSERT(p->p_ndlwps <= p->p_nlwps);
	LWP_ASSERT(p->p_nlwpwait <= p->p_nrlwps);
#if LWP_DEBUG
	constexpr std::size_t small = 32;  // a walk at each exit
	if (p->p_nlwps <= small) {
		std::size_t others = 0;
		std::size_t detached = 0;
		p->p_lwps.for_each([&](lid_node *n) {
			const auto *l = static_cast<lwp_t *>(n);
			const lwp_stat s = lwp_state(l);
			others += s == lwp_stat::stop || s == lwp_stat::suspended || s == lwp_stat::zomb ? 1U : 0U;
			detached += (l->l_prflag & LPR_DETACHED) != 0 ? 1U : 0U;
		});
		LWP_ASSERT(p->p_nrlwps + others == p->p_nlwps);
		LWP_ASSERT(detached == p->p_ndlwps);
	}
#endif
}

}  // namespace lwp::kern
