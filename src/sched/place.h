// SPDX-License-Identifier: BSD-2-Clause
//
// Where an LWP runs: on which vCPUs it may, on which of them a woken or new one is queued, how it gets there, and how it leaves a vCPU that it may not be
// on any more.
//
// A hand-over stays on the vCPU of whoever wakes: what the two share is warm there, and a cache line costs a tenth of a microsecond where
// waking another core costs ten and more.  Others come and take work when some would otherwise wait (idle.h).
//
//   what it has              where it may run                                     l_bound
//   an affinity to one       on that vCPU                                         its index
//   an affinity to several   on those of l_affinity                               bound_several
//   none                     on the vCPUs of its processor set, l_psid            bound_none
//
// An LWP's places change under its lock (sched_set_places()).  By its state it then moves (NetBSD's lwp_migrate()):
//
//   queued       at once, to the inbox of a vCPU where it may be
//   running      at its next boundary or when it is queued anew, whichever is first: LW_WMIGRATE
//   asleep, stopped, suspended     no sooner than it is made runnable, which places it
//
// Who queues an LWP chooses the vCPU with the LWP locked, and keeps it locked until it is queued.  So whoever changes its places, or those of a processor set,
// and locks the LWP after, finds it queued where it was still right and moves it, or comes first.
#pragma once

#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

namespace lwp::kern {

/// What an LWP is given to say where it may run.
struct lwp_places {
	std::int16_t bound = bound_none;
	std::int16_t psid = 0;
	vcpu_mask affinity{};  // with bound_several
};

/// relaxed: the LWP that is placed by it is locked, see above
inline std::int16_t sched_psid(unsigned index) noexcept { return sched.sd_psid[index].load(std::memory_order_relaxed); }
inline bool sched_psets() noexcept { return LWP_UNLIKELY(sched.sd_npsets.load(std::memory_order_relaxed) != 0); }

/// Whether `l`, locked, may run on the vCPU of this index, which is one of the runtime's.
LWP_ALWAYS_INLINE bool sched_may_run(const lwp_t *l, unsigned index) noexcept {
	if (LWP_LIKELY(l->l_bound == bound_none)) {
		return !sched_psets() || l->l_psid == sched_psid(index);
	}
	return l->l_bound >= 0 ? static_cast<unsigned>(l->l_bound) == index : l->l_affinity.test(index);
}

/// Whether `l`, locked, is a kernel thread of the application: the OS places it.
inline bool sched_outside(const lwp_t *l) noexcept { return l->l_adopted && l->l_cpu->vc_bound; }

/// Makes a locked LWP runnable and queues it: LSIDL, LSSLEEP, LSSTOP or LSSUSPENDED -> LSRUN.  It must be on no list any more.  `held` is its
/// lock, which is released (null: the caller releases it).  The LWP may run, end and be another one by the time this returns.
void sched_wake_and_unlock(lwp_t *l, spinlock *held, queue_end end = queue_end::line) noexcept;

/// Which vCPU `l`, locked, should be queued on; `me` is the caller's.
vcpu_t *sched_takecpu(const lwp_t *l, vcpu_t *me) noexcept;

/// Gives `l`, locked by `lock`, other places.  Queued or running it may be where it may not any more: follow it by sched_migrate_and_unlock().
void sched_set_places(lwp_t *l, const spinlock *lock, const lwp_places &) noexcept;

/// `l`, locked by `lock`, may not be where it is: moves it as the table above says.  It must not end meanwhile: pp_lock of its part is held.
void sched_migrate_and_unlock(lwp_t *l, spinlock *lock, vcpu_t *me) noexcept;

/// With vc_inlock held: `l`, in the inbox, is counted by where else it may run, or no longer.
inline void inbox_count(vcpu_t *vc, const lwp_t *l, int change) noexcept {
	if (l->l_bound < 0) {
		atomic<unsigned> &a = LWP_LIKELY(l->l_bound == bound_none) ? vc->vc_inmovable : vc->vc_inseveral;
		a.store(a.load(std::memory_order_relaxed) + static_cast<unsigned>(change), std::memory_order_relaxed);  // relaxed: under vc_inlock
	}
}

/// With vc_inlock and the LWP's lock held: `l` comes into the inbox of `vc`, whose lock covers it from now on; from there it goes on the stack of its queue
/// if `stacked` (it was stolen from one), else in line.
inline void inbox_put(vcpu_t *vc, lwp_t *l, bool stacked) noexcept {
	if (LWP_UNLIKELY(l->l_bound != bound_none || sched_psets())) {
		// Whoever read who acts as a vCPU may have found a substitute that has left since, and acts for another now (spare.h): it looks where it is.
		lwp_flag_set(l, LW_WMIGRATE);
	}
	lwp_setstat(l, lwp_stat::run, &vc->vc_inlock);
	l->l_cpu = vc;
	l->l_stacked = stacked;
	vc->vc_inbox.push_back(l);
	vc->vc_incount.store(vc->vc_incount.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: under vc_inlock
	inbox_count(vc, l, 1);
}

/// With vc_inlock held: `l`, one of several, is taken out.
inline void inbox_take(vcpu_t *vc, lwp_t *l) noexcept {
	vc->vc_inbox.remove(l);
	vc->vc_incount.store(vc->vc_incount.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: under vc_inlock
	inbox_count(vc, l, -1);
}

/// With vc_inlock held: none is in it any more.
inline void inbox_emptied(vcpu_t *vc) noexcept {
	for (atomic<unsigned> *a : {&vc->vc_incount, &vc->vc_inmovable, &vc->vc_inseveral}) {
		a->store(0, std::memory_order_relaxed);  // relaxed: under vc_inlock
	}
}

/// An adopted kernel thread yields: nobody else runs on its vCPU, so the kernel decides.
void sys_yield_bound() noexcept;

}  // namespace lwp::kern
