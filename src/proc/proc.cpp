// SPDX-License-Identifier: BSD-2-Clause
#include "proc/proc.h"

#include "base/assert.h"

namespace lwp::kern {

namespace {

// Raw memory that is not there until a runtime has so many vCPUs; parts are never destroyed.
alignas(procpart) std::byte part_storage[part_max * sizeof(procpart)];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // not of standard layout, but without virtual bases
/// proc0's counters share a line with what else each life touches; its far waits, which others count, have one of their own.
struct part_layout {
	static constexpr bool usual = sizeof(lidtable) > 0 && !LWP_EXPLORE;
	static_assert(!usual || offsetof(procpart, pp_nlwpwait) < 128);
	static_assert(!usual || offsetof(procpart, pp_nfarwait) % 64 == 0);
};
#pragma GCC diagnostic pop

bool alive(const lwp_t *l) noexcept {
	const lwp_stat s = lwp_state(l);
	return s != lwp_stat::idl && s != lwp_stat::zomb && s != lwp_stat::none;
}

}  // namespace

constinit proc_t proc0;
constinit list<proc_t, &proc_t::p_list> procs_made;
constinit atomic<bool> procs_many{false};
procpart *const proc0_parts = reinterpret_cast<procpart *>(part_storage);

void proc_lock_all(const proc_t *p, vcpu_t *me) noexcept {
	proc0_parts[0].pp_lock.lock(me);  // with it held the number of parts does not change
	for (std::uint32_t i = 1, n = proc_nparts(p); i < n; i++) {
		proc0_parts[i].pp_lock.lock(me);
	}
}

void proc_unlock_all(const proc_t *p, vcpu_t *me, const procpart *keep) noexcept {
	for (std::uint32_t i = proc_nparts(p); i-- > 0;) {
		if (&proc0_parts[i] != keep) {
			proc0_parts[i].pp_lock.unlock(me);
		}
	}
}

bool proc_held_all(const proc_t *p) noexcept {
	bool held = true;
	proc_each_part(p, [&held](const procpart &pp) { held = held && pp.pp_lock.held(); });
	return held;
}

namespace {

LWP_ALWAYS_INLINE void add_counts(proc_counts &c, const procshare &pp) noexcept {
	c.nlwps += pp.pp_nlwps;
	c.nzlwps += pp.pp_nzlwps;
	c.nrlwps += pp.pp_nrlwps.load(std::memory_order_relaxed);  // relaxed, here and below: all locks are held
	c.ndlwps += pp.pp_ndlwps;
	c.nlwpwait += pp.pp_nlwpwait.load(std::memory_order_relaxed) + pp.pp_nfarwait.load(std::memory_order_relaxed);
}

}  // namespace

proc_counts proc_count(const proc_t *p) noexcept {
	proc_counts c;
	if (LWP_LIKELY(p == &proc0)) {  // each wait for any, and each end with such a wait under way, asks
		for (std::uint32_t i = 0, n = proc_nparts(p); i < n; i++) {
			add_counts(c, proc0_parts[i]);
		}
	} else if (p != nullptr) {
		proc_each_share(p, [&c](const procshare &pp) { add_counts(c, pp); });
	} else {
		procs_each([&c](const proc_t *each) { proc_each_share(each, [&c](const procshare &pp) { add_counts(c, pp); }); });
	}
	return c;
}

// Why this misses no deadlock.  One is a state in which all parts are dry, and it lasts: nobody is left to change it.  A part becomes dry by
// an LWP that begins to wait, stops or ends, under the part's lock, and that one comes here after its store.  Take the fence that is last of
// those that belong to each part's last such step: the others' steps were before their fences, so before this one, and their counters
// are seen as they stay.  Steps that left somebody of the part running need no fence: whoever takes the last step has taken the lock
// after them.  Nor does the end of an LWP that is given to a waiter: that one runs, and takes the dead one's lock before it does anything
// else.  Seen out of step with each other, counters may say dry when they are not: the caller then looks under all locks.
LWP_NOINLINE bool proc_dry(const proc_t *p) noexcept {
	fence(std::memory_order_seq_cst);  // pairs with itself, on another vCPU
	for (std::uint32_t i = 0, n = proc_nparts(p); i < n; i++) {
		if (!part_dry(proc_share(p, &proc0_parts[i]))) {
			return false;
		}
	}
	return true;
}

LWP_NOINLINE std::uint64_t part_next_number_slow(const proc_t *p, procpart *pp, std::uint64_t above) noexcept {
	const std::uint64_t parts = proc_nparts(p);
	std::uint64_t n = pp->pp_nextlid;
	if (n <= above) {
		n = above + 1;
		n += (pp->pp_index - n) & (parts - 1);
	}
	if (n >= INT32_MAX) {  // the ids have begun again: one may be alive; and 2^31 is none
		while ((n & INT32_MAX) == INT32_MAX || pp->pp_lwps.find_locked(number_lid(n)) != nullptr) {
			n += parts;
		}
	}
	pp->pp_nextlid = n + parts;
	return n;
}

int proc_cv_wait(proc_t *p, procpart *pp, lwp_t *l, const char *wmesg, sleep_catch interruptible) noexcept {
	sleepq *q = sleeptab_lookup(&p->p_lwpcv);
	vcpu_t *me = l->l_cpu;
	// Counted and on the queue's lock before ours are released: whoever changes what we wait for does so under one of these, sees the count,
	// and then needs sq_lock to wake us.
	q->sq_lock.lock(me);
	p->p_ncvwaits.fetch_add(1, std::memory_order_relaxed);  // relaxed: see proc_cv_broadcast()
	if (pp != nullptr) {
		pp->pp_lock.unlock(me);
	} else {
		proc_unlock_all(p, me);
	}
	int error = sleepq_block_and_unlock(l, q, {&p->p_lwpcv, wmesg, &sleep_syncobj, interruptible});
	p->p_ncvwaits.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a broadcast too many does no harm
	if (pp != nullptr) {
		pp->pp_lock.lock(l->l_cpu);
	} else {
		proc_lock_all(p, l->l_cpu);
	}
	return error;
}

LWP_NOINLINE void proc_cv_broadcast_slow(proc_t *p, vcpu_t *me) noexcept {
	sleepq *q = sleeptab_lookup(&p->p_lwpcv);
	lock_scope hold(q->sq_lock, me);
	sleepq_wake(q, &p->p_lwpcv, ~0U);
}

lwp_t *lwp_find(const proc_t *p, lwpid_t lid) noexcept {
	LWP_ASSERT(proc_part(p, lid)->pp_lock.held());
	lwp_t *l = lwp_find_any(p, lid);
	return l != nullptr && alive(l) ? l : nullptr;  // LSIDL and LSZOMB are entered and left under pp_lock
}

lwp_t *lwp_find_and_lock(const proc_t *p, lwpid_t lid, vcpu_t *me, spinlock **lock) noexcept {
	if (lid <= 0) {
		return nullptr;
	}
	procpart *pp = proc_part(p, lid);
	// The table may be looked at without its lock; structs are type-stable, so at worst we lock a stranger.  An LWP that lives and is
	// locked keeps its id: if it matches it is the one.  A dead one is started anew without its old lock; then the lock pointer has moved
	// before the state, so it is looked at once more after it.
	if (auto *l = static_cast<lwp_t *>(pp->pp_lwps.find(lid)); LWP_LIKELY(l != nullptr)) {
		*lock = lwp_lock(l, me);
		if (LWP_LIKELY(lwp_lid(l) == lid && alive(l) && l->l_mutex.load(std::memory_order_acquire) == *lock &&  // pairs with lwp_setstat()
		        lwp_of_proc(l, p))) {
			return l;
		}
		(*lock)->unlock(me);
	}
	lock_scope hold(pp->pp_lock, me);
	lwp_t *l = lwp_find(p, lid);
	if (l != nullptr) {
		*lock = lwp_lock(l, me);  // it cannot end meanwhile: that takes pp_lock
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
	lock_scope hold(l->l_part->pp_lock, me);
	LWP_ASSERT(l->l_refcnt > 1);
	if (--l->l_refcnt == 1 && (l->l_prflag & LPR_DRAINING) != 0) {
		proc_cv_broadcast(p, me);
	}
}

void lwp_drainrefs(proc_t *p, lwp_t *l) noexcept {
	l->l_prflag |= LPR_DRAINING;
	while (l->l_refcnt > 1) {
		(void)proc_cv_wait(p, l->l_part, l, "lwprefs", sleep_catch::no);
	}
}

#if LWP_DEBUG
void part_check(const procpart *pp) noexcept {
	const std::uint32_t running = pp->pp_nrlwps.load(std::memory_order_relaxed);
	LWP_ASSERT(pp->pp_lock.held());
	LWP_ASSERT(procs_many.load(std::memory_order_relaxed) ? pp->pp_nlwps <= pp->pp_lwps.size() : pp->pp_nlwps == pp->pp_lwps.size());
	LWP_ASSERT(pp->pp_nzlwps <= pp->pp_nlwps);
	LWP_ASSERT(running <= pp->pp_nlwps);
	LWP_ASSERT(pp->pp_ndlwps <= pp->pp_nlwps);
	LWP_ASSERT(pp->pp_nlwpwait.load(std::memory_order_relaxed) + pp->pp_nfarwait.load(std::memory_order_relaxed) <= running);
	constexpr std::size_t small = 32;  // a walk at each exit; not over the buckets that a hundred thousand once needed
	if (pp->pp_lwps.size() <= small && !pp->pp_lwps.grown()) {
		std::size_t mine = 0;
		std::size_t others = 0;
		std::size_t detached = 0;
		pp->pp_lwps.for_each([&](lid_node *n) {
			const auto *l = static_cast<lwp_t *>(n);
			const lwp_stat s = lwp_state(l);
			LWP_ASSERT(l->l_part == pp);
			if (l->l_proc != &proc0) {
				return;
			}
			mine++;
			others += s == lwp_stat::stop || s == lwp_stat::suspended || s == lwp_stat::zomb ? 1U : 0U;
			detached += (l->l_prflag & LPR_DETACHED) != 0 ? 1U : 0U;
		});
		LWP_ASSERT(mine == pp->pp_nlwps);
		LWP_ASSERT(running + others == pp->pp_nlwps);
		LWP_ASSERT(detached == pp->pp_ndlwps);
	}
}
#endif

void proc_check([[maybe_unused]] const proc_t *p) noexcept {
#if LWP_DEBUG
	std::int64_t sum = 0;
	proc_each_part(p, [&sum](const procpart &pp) {
		part_check(&pp);
		sum += static_cast<std::int64_t>(pp.pp_lwps.size()) + pp.pp_allowance;
	});
	LWP_ASSERT(!proc0.p_running || sum == static_cast<std::int64_t>(proc0.p_maxlwps));
#endif
}

}  // namespace lwp::kern
