// SPDX-License-Identifier: BSD-2-Clause
//
// Class, priority and protection of living LWPs.  What an LWP is given changes under its lock, and what follows from it (its place in a queue, what it
// lends) by turnstile_settle() once that is released: by then it may have moved on, or ended, and settling is right for whatever it is.
#include "sync/turnstile.h"

#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "sched/priority.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int highest = pri_span - 1;

struct given {
	sched_class c;
	pri_t pri;
};

/// What it would be given.
given asked_for(const lwp_t *t, int policy, int priority) noexcept {
	const sched_class c = policy < 0 ? t->l_class : static_cast<sched_class>(policy);
	if (priority >= 0) {
		return {c, static_cast<pri_t>(pri_user_rt + priority)};
	}
	const bool same_band = (c == sched_class::other) == (t->l_class == sched_class::other);
	return {c, same_band ? t->l_basepri : c == sched_class::other ? pri_default : pri_user_rt};
}

/// A real-time class that it does not have, or a better priority: what takes a privilege.
bool is_more(const lwp_t *t, const given &g) noexcept { return g.pri > t->l_basepri || (g.c != sched_class::other && g.c != t->l_class); }

/// Locked.
void give(lwp_t *t, const given &g) noexcept {
	t->l_basepri = g.pri;
	t->l_class = g.c;
	t->l_decay = 0;
	sched_set_ownpri(t);
}

bool takes_priority(const lwp_t *t, int policy) noexcept { return policy < 0 ? t->l_class != sched_class::other : policy != 0; }

/// With its pp_lock held: 0 | EINVAL | EPERM.  Classes and what LWPs are given change under it.
int refused(const lwp_t *t, int policy, int priority, bool privileged) noexcept {
	return priority >= 0 && !takes_priority(t, policy) ? EINVAL : !privileged && is_more(t, asked_for(t, policy, priority)) ? EPERM : 0;
}

/// A living LWP of the same proc, its pp_lock held.  0 | EINVAL | EPERM
int setparam_locked(lwp_t *t, int policy, int priority, bool privileged, vcpu_t *me) noexcept {
	if (int error = refused(t, policy, priority, privileged)) {
		return error;
	}
	spinlock *lock = lwp_lock(t, me);
	give(t, asked_for(t, policy, priority));
	lock->unlock(me);
	turnstile_settle(t, me);
	return 0;
}

/// All of them, or none.
int setparam_of_all(lwp_t *l, int policy, int priority, bool privileged) noexcept {
	vcpu_t *me = l->l_cpu;
	int error = 0;
	const auto living = [](const lwp_t *t) { return lwp_state(t) != lwp_stat::idl && lwp_state(t) != lwp_stat::zomb; };
	const proc_scope hold(l->l_proc, me);
	const auto each = [&](auto fn) { proc_each_lwp(l->l_proc, fn); };
	// All locks are held, so what is asked about stands still.  What is malformed for one is said first, as for one alone.
	each([&](const lwp_t *t) {
		if (const int its = living(t) ? refused(t, policy, priority, privileged) : 0; its != 0 && error != EINVAL) {
			error = its;
		}
	});
	if (error == 0) {
		each([&](lwp_t *t) {
			if (living(t)) {
				(void)setparam_locked(t, policy, priority, privileged, me);
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
	const bool privileged = lwp_authorize(l, priv_sched) == 0;
	if (lid == 0) {
		return setparam_of_all(l, policy, priority, privileged);
	}
	lock_scope hold(proc_part(l->l_proc, lid)->pp_lock, l->l_cpu);
	lwp_t *t = lwp_find(l->l_proc, lid);
	return t == nullptr ? ESRCH : setparam_locked(t, policy, priority, privileged, l->l_cpu);
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
	const bool privileged = lwp_authorize(l, priv_sched) == 0;
	vcpu_t *me = l->l_cpu;
	spinlock *lock = lwp_lock(l, me);
	if (priority >= 0 && pri_user_rt + priority > l->l_basepri && !privileged) {
		lock->unlock(me);
		return EPERM;
	}
	l->l_protdepth = static_cast<std::uint16_t>(priority < 0 ? l->l_protdepth - 1 : l->l_protdepth + 1);
	l->l_protpri =
	    l->l_protdepth == 0 ? pri_none : std::max(l->l_protpri, static_cast<pri_t>(priority < 0 ? pri_none : pri_user_rt + priority));
	sched_set_ownpri(l);
	lock->unlock(me);
	turnstile_settle(l, me);
	return 0;
}

}  // namespace lwp::kern
