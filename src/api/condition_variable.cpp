// SPDX-License-Identifier: BSD-2-Clause
#include "sync/condvar.h"

#include "api/deadline.h"
#include "api/misuse.h"
#include "api/stop_grant.h"
#include "base/assert.h"
#include "proc/inside.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"
#include "sync/lockorder.h"

#include <lwp/condition_variable.hpp>
#include <lwp/detail/pending.hpp>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <new>

namespace lwp {

using namespace kern;

namespace {

static_assert(sizeof(kcondvar) == sizeof(condition_variable) && alignof(kcondvar) == alignof(condition_variable));
static_assert(offsetof(kcondvar, cv_mutex) == 0, "what ~condition_variable() looks at");
static_assert(sizeof(kcondany) == sizeof(condition_variable_any) && alignof(kcondany) == alignof(condition_variable_any));
static_assert(sizeof(cond_record) <= 64);

kcondvar *kcv(lwp::detail::storage<24> &s) noexcept { return reinterpret_cast<kcondvar *>(s.bytes); }
kcondany *kany(condition_variable_any *cv) noexcept { return reinterpret_cast<kcondany *>(cv); }
kmutex *km(mutex *m) noexcept { return reinterpret_cast<kmutex *>(m); }
cond_record *record(lwp::detail::storage<64> &s) noexcept { return std::launder(reinterpret_cast<cond_record *>(s.bytes)); }

void lock_again(kmutex *m, lwp_t *l) noexcept {
	lwp_userret(l);  // a suspend stops us here, without the mutex
	while (!mutex_trylock(m, l) && mutex_lock_slow(m, l, never) != 0) {
		lwp_userret(l);
	}
}

}  // namespace

void condition_variable::notify_one() noexcept {
	kcondvar *cv = kcv(kernel_);
	if (condvar_waited(cv)) {
		const in_library l;
		if (!condvar_notify_one_slow(cv, l)) {
			lwp_userret(l);
		}
	}
}

void condition_variable::notify_all() noexcept {
	kcondvar *cv = kcv(kernel_);
	if (condvar_waited(cv)) {
		const in_library l;
		if (!condvar_notify_all_slow(cv, l)) {
			lwp_userret(l);
		}
	}
}

bool condition_variable::wait_until_steady(std::unique_lock<mutex> &lock, lwp::detail::steady_time deadline) noexcept {
	const in_library l;
	kmutex *m = km(lock.mutex());
	LWP_CHECK(lock.owns_lock() && mutex_owner(m) == l, "an LWP waits on a condition variable with a mutex that it does not own");
	const nanotime at = to_nanotime(deadline);
	(void)lockorder_released(l, m);
	lockorder_wanted(l, m, lock_hold::mutex, lockorder_site());  // it is taken again with all else that the caller has
	const int error = condvar_wait(kcv(kernel_), m, l, at);
	if (error == ENOMEM) {  // no room for a timer: a spurious wake-up, and others run
		lwp_yield_cpu(l);
	}
	if (error != 0) {
		lock_again(m, l);
	}
	lockorder_taken(l, m, lock_hold::mutex, lockorder_site());
	return error == 0 || error == ERESTART || (error == ENOMEM && now() < at);
}

void condition_variable::check_destroyed() noexcept {
	misuse_if_waited("condition_variable", this, &kcv(kernel_)->cv_waiters, condvar_lock(kcv(kernel_)));
}

void condition_variable_any::check_destroyed() noexcept {
#if LWP_DEBUG
	const perhaps_in_library here;
	if (const lwp_t *first = condany_first(kany(this)); first != nullptr) {
		fatal("lwp::condition_variable_any at %p is destroyed while LWPs wait for it, LWP %d '%s' first", static_cast<const void *>(this),
		    lwp_lid(first), first->l_name);
	}
#endif
}

// ---- at the end of an LWP ------------------------------------------------------------------------------------------

namespace {

struct exit_notice : lwp::detail::exit_note {
	condition_variable &cond;
	mutex *held;
	exit_notice(condition_variable &c, mutex *m) noexcept : cond(c), held(m) { en_run = run; }

	static void run(exit_note *note) noexcept {
		const std::unique_ptr<exit_notice> self(static_cast<exit_notice *>(note));
		// In this order: once the mutex is free the condition variable may be gone.
		self->cond.notify_all();
		self->held->unlock();
	}
};

}  // namespace

void notify_all_at_thread_exit(condition_variable &cond, std::unique_lock<mutex> lock) {
	auto notice = std::make_unique<exit_notice>(cond, lock.mutex());
	lwp::detail::at_lwp_exit(notice.get());
	(void)notice.release();
	(void)lock.release();
}

// ---- with any lock -------------------------------------------------------------------------------------------------

namespace detail {

any_wait::any_wait(condition_variable_any &cv) noexcept {
	const in_library l;
	condany_hang(::new (static_cast<void *>(record_.bytes)) cond_record(l, kany(&cv)));
}

namespace {

bool wait_hung(cond_record *r, steady_time deadline) noexcept {
	const bool woken = grant_wait_out(&r->cr_grant, "condvar", to_nanotime(deadline), &condany_syncobj) == 0;
	condany_unhang(r);
	return woken;
}

}  // namespace

// The record goes before the caller takes its lock again: nobody can reach it, so its LWP may end in that wait.
bool any_wait::sleep(steady_time deadline) noexcept {
	const in_library l;
	cond_record *r = record(record_);
	slept_ = true;
	const bool woken = wait_hung(r, deadline);
	std::destroy_at(r);
	return woken;
}

bool any_wait::sleep(steady_time deadline, const std::stop_token &stop) noexcept {
	const in_library l;
	cond_record *r = record(record_);
	slept_ = true;
	bool woken;
	{
		const stop_grant end(stop, &r->cr_grant);
		woken = wait_hung(r, deadline);
	}
	std::destroy_at(r);
	return woken;
}

any_wait::~any_wait() {
	if (slept_) {
		return;
	}
	const in_library l;
	cond_record *r = record(record_);
	if (!grant_take(&r->cr_grant, grant::timed_out)) {
		(void)grant_wait_out(&r->cr_grant, "condvar");  // taken: its give is certain
		condany_notify(r->cr_cv, false, r->cr_grant.g_lwp->l_cpu);
	}
	condany_unhang(r);
	std::destroy_at(r);
}

}  // namespace detail

void condition_variable_any::notify_one() noexcept {
	const in_library l;
	condany_notify(kany(this), false, l->l_cpu);
	lwp_userret(l);
}

void condition_variable_any::notify_all() noexcept {
	const in_library l;
	condany_notify(kany(this), true, l->l_cpu);
	lwp_userret(l);
}

}  // namespace lwp
