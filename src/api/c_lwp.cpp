// SPDX-License-Identifier: BSD-2-Clause
//
// The C calls: arguments are checked here, the work is done below, and every call that can block passes the boundary on its way out.
#include "api/errno.h"
#include "api/restart.h"
#include "base/assert.h"
#include "core/lwpctl.h"
#include "proc/inside.h"
#include "proc/lwp_life.h"
#include "proc/pager.h"
#include "proc/runtime.h"
#include "proc/signal.h"
#include "sched/switch.h"

#include <lwp/lwp.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <new>
#include <pthread.h>

namespace lwp::kern {

__attribute__((noinline)) void set_errno(int error) noexcept {
	asm volatile("" ::: "memory");
	errno = error;
}

namespace {

/// What _lwp_makecontext() leaves in the machine part of a context.
struct start_record {
	void (*start)(void *);
	void *arg;
	void *private_;
};
static_assert(sizeof(start_record) <= sizeof(mcontext_t));

ucontext_t made_by_us;  // its address marks a context as ours

/// The lock of the part of an LWP by id, or of the caller's for 0.
spinlock &lock_of(const lwp_t *l, lwpid_t lid) noexcept { return (lid == 0 ? l->l_part : proc_part(l->l_proc, lid))->pp_lock; }

/// A living LWP of the caller's proc by id, or the caller for 0.  lock_of() held.
lwp_t *find_or_self(lwp_t *l, lwpid_t lid) noexcept { return lid == 0 ? l : lwp_find(l->l_proc, lid); }

}  // namespace
}  // namespace lwp::kern

using namespace lwp::kern;

extern "C" {

void _lwp_makecontext(ucontext_t *context, void (*start)(void *), void *arg, void *private_, void *stack_base, size_t stack_size) {
	*context = ucontext_t{};
	context->uc_link = &made_by_us;
	context->uc_stack.ss_sp = stack_base;
	context->uc_stack.ss_size = stack_size;
	const start_record record = {start, arg, private_};
	std::memcpy(&context->uc_mcontext, &record, sizeof(record));
}

int _lwp_create(const ucontext_t *context, unsigned long flags, lwpid_t *new_lwp) {
	const in_library l;
	if (context == nullptr || new_lwp == nullptr || context->uc_link != &made_by_us ||
	    (flags & ~(LWP_DETACHED | LWP_SUSPENDED | LWP_MPSAFE | LWP_BIGLOCK)) != 0 ||
	    (flags & (LWP_MPSAFE | LWP_BIGLOCK)) == (LWP_MPSAFE | LWP_BIGLOCK)) {
		return c_result(EINVAL);
	}
	start_record record;
	std::memcpy(&record, &context->uc_mcontext, sizeof(record));
	if (record.start == nullptr) {
		return c_result(EINVAL);
	}
	lwp_options o;
	o.stack_base = context->uc_stack.ss_sp;
	o.stack_size = context->uc_stack.ss_size;
	o.detached = (flags & LWP_DETACHED) != 0;
	o.suspended = (flags & LWP_SUSPENDED) != 0;
	o.mpsafe = (flags & LWP_MPSAFE) != 0 ? 1 : (flags & LWP_BIGLOCK) != 0 ? 0 : -1;
	o.private_ = record.private_;
	lwp_t *fresh;
	int error = newlwp(l, o, &fresh);
	if (error == 0) {
		error = lwp_start(l, fresh, record.start, record.arg, o, new_lwp);
		if (error != 0) {
			lwp_abandon(fresh);
		}
	}
	lwp_userret(l);
	return c_result(error);
}

void _lwp_exit(void) {
	const in_library l;
	if (l->l_cpu->vc_bound) {
		::pthread_exit(nullptr);  // an adopted kernel thread: its LWP ends with it
	}
	lwp_exit(l);
}

lwpid_t _lwp_self(void) { return lwp_lid(curlwp()); }

int _lwp_wait(lwpid_t lid, lwpid_t *departed) {
	const in_library l;
	return c_result(restarted(l, [&] { return lwp_wait1(l, lid, departed); }));
}

int _lwp_detach(lwpid_t lid) {
	const in_library l;
	const int error = lwp_detach(l, lid);
	lwp_userret(l);
	return c_result(error);
}

int _lwp_suspend(lwpid_t lid) {
	const in_library l;
	return c_result(restarted(l, [&] { return lwp_suspend(l, lid); }));
}

int _lwp_continue(lwpid_t lid) {
	const in_library l;
	const int error = lwp_continue(l, lid);
	lwp_userret(l);
	return c_result(error);
}

int _lwp_park(clockid_t clock_id, int flags, struct timespec *ts, lwpid_t unpark, const void *, const void *) {
	const in_library l;
	nanotime deadline = never;
	if (ts != nullptr) {
		if ((clock_id != CLOCK_MONOTONIC && clock_id != CLOCK_REALTIME) || (flags & ~TIMER_ABSTIME) != 0) {
			return c_result(EINVAL);
		}
		if (int error = deadline_of(clock_id, flags, *ts, &deadline)) {
			return c_result(error);
		}
	}
	if (unpark != 0) {
		if (int error = lwp_unpark(l, unpark)) {
			return c_result(error);
		}
	}
	const int error = lwp_park(l, deadline);
	lwp_userret(l);
	if (ts != nullptr && (flags & TIMER_ABSTIME) == 0) {
		const nanotime t = now();
		*ts = to_timespec(error == ETIMEDOUT || t >= deadline ? 0 : deadline - t);
	}
	return c_result(error);
}

int _lwp_unpark(lwpid_t lid, const void *) {
	const in_library l;
	const int error = lwp_unpark(l, lid);
	lwp_userret(l);
	return c_result(error);
}

int _lwp_unpark_all(const lwpid_t *targets, size_t ntargets, const void *) {
	if (targets == nullptr) {
		return LWP_UNPARK_MAX;
	}
	if (ntargets == 0 || ntargets > LWP_UNPARK_MAX) {
		return c_result(EINVAL);
	}
	const in_library l;
	for (size_t i = 0; i < ntargets; i++) {
		(void)lwp_unpark(l, targets[i]);  // unknown ones are skipped
	}
	lwp_userret(l);
	return 0;
}

int _lwp_wakeup(lwpid_t lid) {
	const in_library l;
	const int error = lwp_wakeup(l, lid);
	lwp_userret(l);
	return c_result(error);
}

int _lwp_kill(lwpid_t lid, int sig) {
	const in_library l;
	const int error = signal_send(l, lid, sig);
	lwp_userret(l);
	return c_result(error);
}

int lwp_yield(void) {
	const in_library l;
	lwp_yield_cpu(l);
	lwp_userret(l);
	return 0;
}

int lwp_hold(lwpid_t lid) { return c_result(uvm_lwp_hold(in_library(), lid)); }

int lwp_rele(lwpid_t lid) { return c_result(uvm_lwp_rele(in_library(), lid)); }

void lwp_big_lock_enter(void) {
	const in_library l;
	biglock_enter(&l->l_proc->p_biglock, l);
	lwp_userret(l);
}

int lwp_big_lock_try(void) {
	const in_library l;
	return biglock_try_enter(&l->l_proc->p_biglock, l) ? 0 : EBUSY;
}

void lwp_big_lock_exit(void) {
	const in_library l;
	biglock_exit(l);
	lwp_userret(l);
}

unsigned lwp_big_locks(void) { return curlwp()->l_biglocks; }

int _lwp_setname(lwpid_t lid, const char *name) {
	const in_library l;
	if (name == nullptr) {
		return c_result(EINVAL);
	}
	lock_scope hold(lock_of(l, lid), l->l_cpu);
	lwp_t *t = find_or_self(l, lid);
	if (t == nullptr) {
		return c_result(ESRCH);
	}
	const size_t n = ::strnlen(name, LWP_MAXNAME - 1);
	std::memcpy(t->l_name, name, n);
	t->l_name[n] = '\0';
	return 0;
}

int _lwp_getname(lwpid_t lid, char *name, size_t len) {
	const in_library l;
	if (name == nullptr) {
		return c_result(EINVAL);
	}
	lock_scope hold(lock_of(l, lid), l->l_cpu);
	const lwp_t *t = find_or_self(l, lid);
	if (t == nullptr) {
		return c_result(ESRCH);
	}
	const size_t n = std::strlen(t->l_name) + 1;
	if (n > len) {
		return c_result(ENAMETOOLONG);
	}
	std::memcpy(name, t->l_name, n);
	return 0;
}

void *_lwp_getprivate(void) { return curlwp()->l_private; }

void _lwp_setprivate(void *private_) { curlwp()->l_private = private_; }

int _lwp_ctl(int features, struct lwpctl **address) {
	const in_library l;
	if ((features & ~(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR)) != 0) {
		return c_result(ENODEV);
	}
	if (address == nullptr) {
		return c_result(EINVAL);
	}
	lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed);  // relaxed: only we write it
	if (ctl == nullptr) {
		ctl = lwpctl_get();
		if (ctl == nullptr) {
			return c_result(ENOMEM);
		}
		lwpctl_show(ctl, l->l_cpu->vc_index);
		l->l_ctl.store(ctl, std::memory_order_relaxed);
	}
	*address = ctl;
	return 0;
}

int lwp_specific_key_create(specificdata_key_t *key, specificdata_dtor_t destructor) {
	const perhaps_in_library here;
	return specific_key_create(key, destructor);
}

void lwp_specific_key_delete(specificdata_key_t key) {
	const perhaps_in_library here;
	specific_key_delete(key);
}

void *lwp_getspecific(specificdata_key_t key) { return specific_get(curlwp()->l_specific, key); }

void *_lwp_getspecific_by_lwp(lwpid_t lid, specificdata_key_t key) {
	const in_library l;
	lwp_t *me = l;
	lock_scope hold(proc_part(me->l_proc, lid)->pp_lock, me->l_cpu);  // it may begin to end after us
	const lwp_t *t = lid > 0 ? lwp_find(me->l_proc, lid) : nullptr;
	return t != nullptr && (t->l_prflag & LPR_ENDING) == 0 ? specific_get(t->l_specific, key) : nullptr;
}

void lwp_setspecific(specificdata_key_t key, void *value) {
	const in_library l;
	LWP_CHECK(specific_set(l->l_specific, key, value) == 0, "lwp_setspecific: no memory for the value");
}

int lwp_tss_create(lwp_tss_t *key, lwp_tss_dtor_t destructor) {
	const perhaps_in_library here;
	return tss_create(key, destructor);
}

int lwp_tss_delete(lwp_tss_t key) {
	const perhaps_in_library here;
	return tss_delete(key);
}

void *lwp_tss_get(lwp_tss_t key) { return tss_get(curlwp()->l_specific, key); }

int lwp_tss_set(lwp_tss_t key, void *value) {
	const in_library l;
	return tss_set(l->l_specific, key, value);
}

}  // extern "C"
