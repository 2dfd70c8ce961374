// SPDX-License-Identifier: BSD-2-Clause
//
// Condition variables: LWPs that wait to be told, and the lock they give up while they do.
//
// kcondvar, with a kmutex.  A wait joins the line and gives up the mutex under the line's lock, so there is no moment between the two in which a
// notification could miss it.  A sleep ends once: by a notification or by its deadline, never by both, so none is lost between them.
// notify_all does not let a crowd run that would only meet again at the mutex: it moves the crowd to the mutex's own line, where each unlock
// wakes the next.  notify_one wakes: most often the mutex is free by the time the woken one runs.
//
// kcondany, with any lock, which is code of the application and cannot be called under a lock of ours.  So each wait leaves a record in the line
// first, then gives up its lock, then sleeps; a record is a grant: exactly one of notification, deadline and stop request takes it.
//
// Whoever was notified touches the condition variable no more, so it may be destroyed once all are, even if they have not woken up yet.
// Takes the line's lock (rank sleepq), with it the mutex's by try_lock(), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/grant.h"
#include "sync/mutex.h"

namespace lwp::kern {

struct kcondvar {
	// a: which mutex those in the line gave up; null: nobody is there.  Set by a waiter that has the mutex, so a notifier that had it later
	// sees it.  Cleared under the line's lock.
	atomic<kmutex *> cv_mutex{nullptr};
	waiters cv_waiters;  // condvar_lock()
};

extern const syncobj condvar_syncobj;

/// The lock of its line.  It lasts for ever, as those of waiters_lock(), but comes from a table of its own, whose locks are biased.
spinlock *condvar_lock(const kcondvar *) noexcept;
/// Once, before anybody waits: each lock of that table will be one vCPU's own when it has earned it (base/spinlock.h).
void condvar_bias(vcpu_t *const *vcpus, unsigned count) noexcept;

/// Gives up `m`, which `l` owns, and sleeps until notified.  0 `l` has the mutex again | not yet: ERESTART notified, or to look again |
/// ETIMEDOUT not notified | ENOMEM no timer, did not sleep
[[nodiscard]] int condvar_wait(kcondvar *, kmutex *m, lwp_t *l, nanotime deadline) noexcept;

/// True if `l` has the mutex of those that wait: then this is no good moment to stop or give way.
bool condvar_notify_one_slow(kcondvar *, lwp_t *l) noexcept;
bool condvar_notify_all_slow(kcondvar *, lwp_t *l) noexcept;

inline bool condvar_waited(const kcondvar *cv) noexcept {
	return cv->cv_mutex.load(std::memory_order_relaxed) != nullptr;  // relaxed: the mutex orders it
}

struct kcondany;

/// One wait, on its stack.
struct cond_record {
	static constexpr int notified = 1;  // g_by

	cond_record(lwp_t *l, kcondany *cv) noexcept : cr_grant(l, cv), cr_pri(l->l_priority.load(std::memory_order_relaxed)), cr_cv(cv) {}
	grant cr_grant;
	list_link<cond_record> cr_link;  // the line's lock
	const pri_t cr_pri;              // (
	bool cr_hung = false;            // the line's lock: still in the line, so the condition variable is there
	kcondany *const cr_cv;           // (
};

struct kcondany {
	atomic<bool> ca_waited{false};                     // a: set before the waiter gives up its lock, cleared under the line's lock
	list<cond_record, &cond_record::cr_link> ca_line;  // lock: see condany_lock()
};

extern const syncobj condany_syncobj;

void condany_hang(cond_record *) noexcept;
/// Takes it out of the line if no notifier did.  Whoever was notified need not.
void condany_unhang(cond_record *) noexcept;
void condany_notify(kcondany *, bool all, vcpu_t *me) noexcept;
/// One that waits and was not notified, or null.
const lwp_t *condany_first(const kcondany *) noexcept;

}  // namespace lwp::kern
