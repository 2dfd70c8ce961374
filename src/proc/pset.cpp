// SPDX-License-Identifier: BSD-2-Clause
//
// Processor sets.  Each vCPU belongs to one set, the default one (0) at first, and so does each LWP; an LWP without an affinity runs on the vCPUs of its set
// only, and they run nobody else.  Three rules make sure that every LWP has a place:
//
//   the default set always has a vCPU
//   a set that LWPs are bound to has one
//   a vCPU in an LWP's affinity is of the default set
//
// All of it changes with all pp_locks held.  A vCPU that changes sets does so first; then each LWP is locked and moved if it is where it may not be any more.
// Who queues, steals or starts an LWP meanwhile has it locked from the choice of its place until it is there, so either sees the new set or is followed.
#include "base/assert.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "sched/idle.h"
#include "sched/place.h"

#include <cerrno>

namespace lwp::kern {
namespace {

bool made[vcpu_max + 1];  // P: [id]; the default one has no entry

bool exists(int psid) noexcept { return psid == pset_none || (psid > 0 && psid <= static_cast<int>(vcpu_max) && made[psid]); }

unsigned vcpus() noexcept { return sched.sd_count.load(std::memory_order_acquire); }  // pairs with the release in start()

unsigned members(int psid) noexcept {
	unsigned n = 0;
	for (unsigned i = 0; i < vcpus(); i++) {
		n += sched_psid(i) == psid ? 1U : 0U;
	}
	return n;
}

/// Whether a living LWP, of any proc, is as `wanted(lwp_t *)`, which is asked with it locked, says.
template <class Wanted>
bool any_lwp(vcpu_t *me, Wanted wanted) noexcept {
	bool found = false;
	proc_each_living(nullptr, [&](lwp_t *t) {
		spinlock *lock = lwp_lock(t, me);
		found = found || wanted(t);
		lock->unlock(me);
	});
	return found;
}

bool has_affinity_to(const lwp_t *t, unsigned index) noexcept {
	return t->l_bound >= 0 ? static_cast<unsigned>(t->l_bound) == index : t->l_bound == bound_several && t->l_affinity.test(index);
}

/// 0 | EPERM a kernel thread of the application: the OS places it
int set_psid_of(lwp_t *t, std::int16_t psid, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(t, me);
	const bool outside = sched_outside(t);
	if (!outside) {
		sched_set_places(t, lock, {.bound = t->l_bound, .psid = psid, .affinity = t->l_affinity});
	}
	lock->unlock(me);
	return outside ? EPERM : 0;
}

void migrate(lwp_t *t, vcpu_t *me) noexcept { sched_migrate_and_unlock(t, lwp_lock(t, me), me); }

void set_psid(unsigned index, int psid) noexcept {
	sched.sd_psid[index].store(static_cast<std::int16_t>(psid), std::memory_order_relaxed);  // relaxed: see above
}

}  // namespace

/// 0 | EINVAL null | ENOMEM as many sets as there can be vCPUs
int lwp_pset_create(lwp_t *l, int *psid) noexcept {
	if (psid == nullptr) {
		return EINVAL;
	}
	if (int error = lwp_authorize(l, priv_affinity)) {
		return error;
	}
	const proc_scope hold(l->l_proc, l->l_cpu);
	for (int id = 1; id <= static_cast<int>(vcpu_max); id++) {
		if (!made[id]) {
			made[id] = true;
			sched.sd_npsets.store(sched.sd_npsets.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: see above
			*psid = id;
			return 0;
		}
	}
	return ENOMEM;
}

/// 0 | EINVAL
int lwp_pset_destroy(lwp_t *l, int psid) noexcept {
	if (int error = lwp_authorize(l, priv_affinity)) {
		return error;
	}
	const proc_scope hold(l->l_proc, l->l_cpu);
	if (psid <= 0 || !exists(psid)) {
		return EINVAL;
	}
	// First its LWPs, so that each has a place all the time; where they are they may be again once its vCPUs are of the default set too.
	proc_each_living(nullptr, [&](lwp_t *t) {
		if (t->l_psid == psid) {  // written with all pp_locks held
			(void)set_psid_of(t, pset_none, l->l_cpu);
		}
	});
	for (unsigned i = 0; i < vcpus(); i++) {
		if (sched_psid(i) == psid) {
			set_psid(i, pset_none);
		}
	}
	made[psid] = false;
	sched.sd_npsets.store(sched.sd_npsets.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: see above
	return 0;
}

/// 0 | EINVAL | EBUSY it is the last one of the default set, or of a set with LWPs | EPERM an LWP has an affinity to it
int lwp_pset_assign(lwp_t *l, int psid, unsigned index, int *former) noexcept {
	if (int error = psid == pset_query ? 0 : lwp_authorize(l, priv_affinity)) {
		return error;
	}
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	const proc_scope hold(p, me);
	if (psid == pset_mine) {
		psid = l->l_psid;
	}
	if (index >= vcpus() || (psid != pset_query && !exists(psid))) {
		return EINVAL;
	}
	const std::int16_t was = sched_psid(index);
	if (psid != pset_query && psid != was) {
		const bool last = members(was) == 1;
		if (last && (was == pset_none || any_lwp(me, [was](const lwp_t *t) { return t->l_psid == was; }))) {
			return EBUSY;
		}
		if (was == pset_none && any_lwp(me, [index](const lwp_t *t) { return has_affinity_to(t, index); })) {
			return EPERM;
		}
		set_psid(index, psid);
		proc_each_living(nullptr, [me](lwp_t *t) { migrate(t, me); });
		vcpu_unhalt(sched.sd_vcpu[index]);  // what it may run now may have been waiting for long
	}
	if (former != nullptr) {
		*former = was;
	}
	return 0;
}

/// 0 | EINVAL | ESRCH | EPERM a kernel thread from outside | EBUSY the set has no vCPU
int lwp_pset_bind(lwp_t *l, int psid, lwpid_t lid, int *former) noexcept {
	if (int error = psid == pset_query ? 0 : lwp_authorize(l, priv_affinity)) {
		return error;
	}
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	const proc_scope hold(p, me);
	if (psid == pset_mine) {
		psid = l->l_psid;
	}
	if (psid != pset_query && !exists(psid)) {
		return EINVAL;
	}
	lwp_t *t = lid == 0 ? l : lwp_find(p, lid);
	if (t == nullptr) {
		return ESRCH;
	}
	const std::int16_t was = t->l_psid;  // written with all pp_locks held
	if (psid != pset_query) {
		if (members(psid) == 0) {
			return EBUSY;
		}
		const auto to = static_cast<std::int16_t>(psid);
		if (lid != 0) {
			if (int error = set_psid_of(t, to, me)) {
				return error;
			}
			migrate(t, me);
		} else {
			proc_each_living(p, [&](lwp_t *each) {
				if (set_psid_of(each, to, me) == 0) {
					migrate(each, me);
				}
			});
		}
	}
	if (former != nullptr) {
		*former = was;
	}
	return 0;
}

void pset_forget() noexcept {
	for (bool &m : made) {
		m = false;
	}
	for (auto &psid : sched.sd_psid) {
		psid.store(pset_none, std::memory_order_relaxed);  // relaxed: no LWP lives but kernel threads from outside, which nobody places
	}
	sched.sd_npsets.store(0, std::memory_order_relaxed);
}

}  // namespace lwp::kern
