// SPDX-License-Identifier: BSD-2-Clause
#include "sync/condvar.h"

#include "base/assert.h"
#include "sched/priority.h"
#include "sync/waitgraph.h"

#include <cerrno>
#include <iterator>

namespace lwp::kern {
namespace {

/// With the line's lock held, which may be let go of for a moment: says that somebody waits, then gives up the mutex.
void unlock_mutex_locked(kcondvar *cv, kmutex *m, lwp_t *l, spinlock *held) noexcept {
	// Before the unlock: whoever has the mutex next must see it.  relaxed: the unlock is a release
	cv->cv_mutex.store(m, std::memory_order_relaxed);
	auto word = reinterpret_cast<std::uintptr_t>(l);
	// release: pairs with the acquire of the next owner
	if (LWP_LIKELY(m->mtx_owner.compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed))) {
		mutex_released(m, l);
		return;
	}
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&m->mtx_waiters);
	if (!waiters_lock_too(held, lock, me)) {
		cv->cv_mutex.store(m, std::memory_order_relaxed);  // a notifier may have found nobody meanwhile; relaxed: as above
	}
	mutex_unlock_locked(m, l);
	if (lock != held) {
		lock->unlock(me);
	}
}

/// The lock of a line of records, in the table of all such locks: it lasts for ever, as that of waiters.
spinlock *condany_lock(const kcondany *cv) noexcept {
	return waiters_lock(static_cast<const waiters *>(static_cast<const void *>(&cv->ca_line)));
}

}  // namespace

const syncobj condvar_syncobj = {"condvar"};
static constexpr plain_sleep condvar_sleep = {"condvar", &condvar_syncobj};

// Two LWPs of one vCPU that hand over to each other by a condition variable take its line's lock twice each way, and nothing else there is as dear as
// a locked instruction but the mutex.  So these locks are biased, each to the vCPU that its place in the table says: by chance, since an object's address
// tells nothing of its users.  Where it is the wrong one the lock is as any other.
namespace {

struct alignas(64) line_lock {
	spinlock lock{lock_rank::sleepq, "waiters"};
};
constexpr unsigned line_bits = 8;
line_lock line_locks[1U << line_bits];

}  // namespace

spinlock *condvar_lock(const kcondvar *cv) noexcept {
	return &line_locks[(reinterpret_cast<std::uintptr_t>(cv) >> 3) * 0x9e3779b97f4a7c15U >> (64 - line_bits)].lock;  // as waiters_lock()
}

void condvar_bias(vcpu_t *const *vcpus, unsigned count) noexcept {
	for (unsigned i = 0; i < std::size(line_locks); i++) {
		line_locks[i].lock.bias_when_earned(vcpus[i % count]);
	}
}
const syncobj condany_syncobj = {"condvar", nullptr, nullptr, grant_object};

int condvar_wait(kcondvar *cv, kmutex *m, lwp_t *l, nanotime deadline) noexcept {
	spinlock *lock = condvar_lock(cv);
	lock->lock(l->l_cpu);
	LWP_CHECK(cv->cv_waiters.empty() || cv->cv_mutex.load(std::memory_order_relaxed) == m,
	    "LWPs wait on one condition variable with different mutexes");
	unlock_mutex_locked(cv, m, l, lock);
	// Whoever notifies from here on waits for the lock, which we hold until we are asleep.
	const int error = LWP_LIKELY(deadline == never)
	    ? waiters_block_and_unlock(l, &cv->cv_waiters, lock, cv, condvar_sleep)
	    : waiters_block_and_unlock(l, &cv->cv_waiters, lock,
	          {.wchan = cv, .wmesg = "condvar", .sobj = &condvar_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	// The condition variable may be gone.
	waitgraph_done(l);            // whoever moved us has announced us
	sched_settle_owed(l->l_cpu);  // if we did not sleep: the unlock may have given back what we were lent
	if (error < 0) {              // moved to the mutex, and through there
		return mutex_lock_slow(m, l, never, error);
	}
	return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
}

bool condvar_notify_one_slow(kcondvar *cv, lwp_t *l) noexcept {
	spinlock *lock = condvar_lock(cv);
	lock->lock(l->l_cpu);
	lwp_t *first = cv->cv_waiters.front();
	const kmutex *m = cv->cv_mutex.load(std::memory_order_relaxed);  // relaxed: under the lock
	if (first == cv->cv_waiters.back()) {
		cv->cv_mutex.store(nullptr, std::memory_order_relaxed);  // relaxed: as above
	}
	if (first == nullptr) {
		lock->unlock(l->l_cpu);
		return false;
	}
	const bool owner = mutex_owner(m) == l;  // there, since somebody is to take it again
	sleepq_unsleep_and_unlock(first, lock, 0, queue_end::handed_over);
	return owner;
}

bool condvar_notify_all_slow(kcondvar *cv, lwp_t *l) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock = condvar_lock(cv);
	for (;;) {
		lock->lock(me);
		kmutex *m = cv->cv_mutex.load(std::memory_order_relaxed);  // relaxed: under the lock
		lwp_t *first = cv->cv_waiters.front();
		if (first == cv->cv_waiters.back()) {
			lock->unlock(me);
			return condvar_notify_one_slow(cv, l);
		}
		spinlock *other = waiters_lock(&m->mtx_waiters);
		if (waiters_lock_too(lock, other, me) || (!cv->cv_waiters.empty() && cv->cv_mutex.load(std::memory_order_relaxed) == m)) {
			const bool owner = mutex_owner(m) == l;
			cv->cv_mutex.store(nullptr, std::memory_order_relaxed);
			mutex_requeue_and_unlock(m, &cv->cv_waiters, lock, other, me);
			return owner;
		}
		// Others notified them meanwhile.
		other->unlock(me);
		lock->unlock(me);
	}
}

// ---- with any lock -------------------------------------------------------------------------------------------------

void condany_hang(cond_record *r) noexcept {
	kcondany *cv = r->cr_cv;
	lock_scope hold(*condany_lock(cv), r->cr_grant.g_lwp->l_cpu);
	cond_record *before = nullptr;  // most are equals: look from the end
	for (cond_record *other = cv->ca_line.back(); other != nullptr && other->cr_pri < r->cr_pri; other = cv->ca_line.prev(other)) {
		before = other;
	}
	cv->ca_line.insert(before, r);
	r->cr_hung = true;
	cv->ca_waited.store(true, std::memory_order_relaxed);  // relaxed: before the waiter gives up its lock, which a notifier has later
}

void condany_unhang(cond_record *r) noexcept {
	// The lock is found by the address: the condition variable is looked at only if it must be there.
	lock_scope hold(*condany_lock(r->cr_cv), r->cr_grant.g_lwp->l_cpu);
	if (r->cr_hung) {
		r->cr_cv->ca_line.remove(r);
	}
}

const lwp_t *condany_first(const kcondany *cv) noexcept {
	lock_scope hold(*condany_lock(cv), curcpu_or_null());
	const cond_record *r = cv->ca_line.front();
	return r != nullptr ? r->cr_grant.g_lwp : nullptr;
}

void condany_notify(kcondany *cv, bool all, vcpu_t *me) noexcept {
	if (!cv->ca_waited.load(std::memory_order_relaxed)) {  // relaxed: the waiters' lock orders it
		return;
	}
	list<cond_record, &cond_record::cr_link> taken;
	{
		lock_scope hold(*condany_lock(cv), me);
		while (cond_record *r = cv->ca_line.pop_front()) {
			// Its deadline or stop request may be first: then it is out of the line all the same, and may find the condition variable gone.
			r->cr_hung = false;
			if (grant_take(&r->cr_grant, cond_record::notified)) {
				taken.push_back(r);
				if (!all) {
					break;
				}
			}
		}
		if (cv->ca_line.empty()) {
			cv->ca_waited.store(false, std::memory_order_relaxed);  // relaxed: under the lock
		}
	}
	// A record that was taken stays until it is given.
	while (cond_record *r = taken.pop_front()) {
		grant_give(&r->cr_grant, me);
	}
}

}  // namespace lwp::kern
