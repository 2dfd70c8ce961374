// SPDX-License-Identifier: BSD-2-Clause
//
// Class, priority and protection of living LWPs.  What an LWP is given changes under its lock, and what follows from it (its place in a queue, what it
// lends) by turnstile_settle() once that is released: by then it may have moved on, or ended, and settling is right for whatever it is.
#include "sync/turnstile.h"

#include "proc/lwp_life.h"
#include "sched/priority.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int highest = pri_span - 1;

/// Locked.
void give(lwp_t *t, int policy, int priority) noexcept {
	const sched_class c = policy < 0 ? t->l_class : static_cast<sched_class>(policy);
	if (priority >= 0) {
		t->l_basepri = static_cast<pri_t>(pri_user_rt + priority);
	} else if ((c == sched_class::other) != (t->l_class == sched_class::other)) {
		t->l_basepri = c == sched_class::other ? pri_default : pri_user_rt;
	}
	t->l_class = c;
	t->l_decay = 0;
	sched_set_ownpri(t);
}

bool takes_priority(const lwp_t *t, int policy) noexcept { return policy < 0 ? t->l_class != sched_class::other : policy != 0; }

/// A living LWP of the same process, its pp_lock held.  0 | EINVAL
int setparam_locked(lwp_t *t, int policy, int priority, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(t, me);
	if (priority >= 0 && !takes_priority(t, policy)) {
		lock->unlock(me);
		return EINVAL;
	}
	give(t, policy, priority);
	lock->unlock(me);
	turnstile_settle(t, me);
	return 0;
}

/// All of them, or none.
int setparam_of_all(lwp_t *l, int policy, int priority) noexcept {
	vcpu_t *me = l->l_cpu;
	int error = 0;
	const auto living = [](const lwp_t *t) { return lwp_state(t) != lwp_stat::idl && lwp_state(t) != lwp_stat::zomb; };
	const proc_scope hold(l->l_proc, me);
	const auto each = [&](auto fn) {
		proc_each_part(l->l_proc, [&](procpart &pp) { pp.pp_lwps.for_each([&](lid_node *n) { fn(static_cast<lwp_t *>(n)); }); });
	};
	if (priority >= 0 && policy < 0) {
		// Classes change with pp_lock of the LWP's part held, so they stand still.
		each([&](lwp_t *t) { error = living(t) && !takes_priority(t, policy) ? EINVAL : error; });
	}
	if (error == 0) {
		each([&](lwp_t *t) {
			if (living(t)) {
				(void)setparam_locked(t, policy, priority, me);
			}
		});
	}
	return error;
}

}  // namespace

int lwp_setparam(lwp_t *l, lwpid_t lid, int policy, int priority) noexcept {
	if (policy < -1 || policy > 2 || priority < -1 || priority > highest || (priority >= 0 && policy == 0)) {
		return EINVAL;
	}
	if (lid == 0) {
		return setparam_of_all(l, policy, priority);
	}
	lock_scope hold(proc_part(l->l_proc, lid)->pp_lock, l->l_cpu);
	lwp_t *t = lwp_find(l->l_proc, lid);
	return t == nullptr ? ESRCH : setparam_locked(t, policy, priority, l->l_cpu);
}

int lwp_getparam(lwp_t *l, lwpid_t lid, int *policy, int *priority) noexcept {
	vcpu_t *me = l->l_cpu;
	lock_scope hold((lid == 0 ? l->l_part : proc_part(l->l_proc, lid))->pp_lock, me);
	lwp_t *t = lid == 0 ? l : lwp_find(l->l_proc, lid);
	if (t == nullptr) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, me);
	*policy = static_cast<int>(t->l_class);
	*priority = t->l_basepri - (t->l_class == sched_class::other ? pri_user : pri_user_rt);
	lock->unlock(me);
	return 0;
}

int lwp_protect(lwp_t *l, int priority) noexcept {
	if (priority < -1 || priority > highest || (priority >= 0 && l->l_protdepth == UINT16_MAX)) {
		return EPERM;
	}
	if (priority < 0 && l->l_protdepth == 0) {
		return EINVAL;
	}
	vcpu_t *me = l->l_cpu;
	spinlock *lock = lwp_lock(l, me);
	l->l_protdepth = static_cast<std::uint16_t>(priority < 0 ? l->l_protdepth - 1 : l->l_protdepth + 1);
	l->l_protpri =
	    l->l_protdepth == 0 ? pri_none : std::max(l->l_protpri, static_cast<pri_t>(priority < 0 ? pri_none : pri_user_rt + priority));
	sched_set_ownpri(l);
	lock->unlock(me);
	turnstile_settle(l, me);
	return 0;
}

}  // namespace lwp::kern
