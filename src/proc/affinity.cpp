// SPDX-License-Identifier: BSD-2-Clause
//
// Affinity of living LWPs: on which vCPUs they may run.  sched/place.h says what a change does, by state.  A vCPU of a processor set is nobody's by affinity:
// sets change with all pp_locks held, so whoever holds one finds them standing still.
#include "base/assert.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "sched/place.h"

#include <cerrno>

namespace lwp::kern {
namespace {

/// 0 | EINVAL | EPERM
int look(const vcpu_mask &mask) noexcept {
	const unsigned count = sched.sd_count.load(std::memory_order_acquire);  // pairs with the release in start()
	int error = 0;
	for (unsigned i = mask.next(0); i < vcpu_mask::vm_bits; i = mask.next(i + 1)) {
		if (i >= count) {
			return EINVAL;
		}
		error = sched_psid(i) != 0 ? EPERM : error;
	}
	return error;
}

/// A living LWP of the same proc, lock of its part held.  0 | EPERM a kernel thread of the application: the OS places it
int set_locked(lwp_t *t, const vcpu_mask &mask, vcpu_t *me) noexcept {
	lwp_places to;
	const unsigned n = mask.count();
	to.affinity = mask;
	to.bound = n == 0 ? bound_none : n == 1 ? static_cast<std::int16_t>(mask.next(0)) : bound_several;
	spinlock *lock = lwp_lock(t, me);
	if (sched_outside(t)) {
		lock->unlock(me);
		return EPERM;
	}
	to.psid = t->l_psid;
	sched_set_places(t, lock, to);
	sched_migrate_and_unlock(t, lock, me);
	return 0;
}

}  // namespace

int lwp_setaffinity(lwp_t *l, lwpid_t lid, const vcpu_mask &mask) noexcept {
	if (int error = lwp_authorize(l, priv_affinity)) {
		return error;
	}
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	if (lid == 0) {
		const proc_scope hold(p, me);
		if (int error = look(mask)) {
			return error;
		}
		proc_each_living(p, [&](lwp_t *t) { (void)set_locked(t, mask, me); });
		return 0;
	}
	lock_scope hold(proc_part(p, lid)->pp_lock, me);
	if (int error = look(mask)) {
		return error;
	}
	lwp_t *t = lwp_find(p, lid);
	return t == nullptr ? ESRCH : set_locked(t, mask, me);
}

int lwp_getaffinity(lwp_t *l, lwpid_t lid, vcpu_mask *mask) noexcept {
	vcpu_t *me = l->l_cpu;
	lock_scope hold((lid == 0 ? l->l_part : proc_part(l->l_proc, lid))->pp_lock, me);
	lwp_t *t = lid == 0 ? l : lwp_find(l->l_proc, lid);
	if (t == nullptr) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, me);
	*mask = {};
	if (t->l_bound == bound_several) {
		*mask = t->l_affinity;
	} else if (t->l_bound >= 0) {
		mask->set(static_cast<unsigned>(t->l_bound));
	}
	lock->unlock(me);
	return 0;
}

}  // namespace lwp::kern
