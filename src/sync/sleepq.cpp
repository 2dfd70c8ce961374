// SPDX-License-Identifier: BSD-2-Clause
#include "sync/sleepq.h"

#include "base/assert.h"
#include "sched/callout.h"
#include "sched/place.h"
#include "sched/priority.h"
#include "sched/switch.h"
#include "sync/biglock.h"
#include "sync/turnstile.h"
#include "sync/waitgraph.h"

#include <cerrno>
#include <type_traits>

namespace lwp::kern {
namespace {

// What ends an interruptible sleep before it begins.
constexpr std::uint32_t kicked = LW_CANCELLED | LW_USERRET;
// Of these, what makes it fail with EINTR.  A signal makes it ERESTART, the others 0: the caller must pass the boundary, not loop.
constexpr std::uint32_t interrupted = LW_CANCELLED | LW_WEXIT | LW_WCORE;

constexpr unsigned table_size = 128;
sleepq table[table_size];

struct alignas(64) lock_line {
	spinlock lock{lock_rank::sleepq, "waiters"};
};
constexpr unsigned locks_bits = 9;
lock_line locks[1U << locks_bits];

pri_t priority(const lwp_t *l) noexcept { return l->l_priority.load(std::memory_order_relaxed); }  // relaxed: locked

/// Takes a sleeper off its list: its sleep is over, though it does not run yet.  True: it was one that may lend, so something may be owed.
LWP_ALWAYS_INLINE bool unsleep(lwp_t *l, int error) noexcept {
	LWP_ASSERT(lwp_asleep(l));
	bool lends = false;
	if (waiters *q = l->l_sleepq; q != nullptr) {
		q->remove(l);
		l->l_sleepq = nullptr;
		if (l->l_syncobj->so_lend != nullptr) {
			turnstile_left(q, l);
			lends = true;
		}
	}
	sched_slept(l);
	l->l_wchan = nullptr;
	l->l_error = error;
	lwp_flag_clear(l, LW_SINTR | LW_TIMED);
	return lends;
}

/// One that was stopped in its sleep, which is over now: it stays where it is, covered like others that stand still.  The lock of the list it
/// was on is held, and `held` is that or null.
LWP_NOINLINE void stay_stopped_and_unlock(lwp_t *l, spinlock *held) noexcept {
	vcpu_t *me = curcpu_or_null();
	spinlock &lock = l->l_cpu->vc_lwplock;
	lock.lock(me);
	lwp_setstat(l, lwp_stat::stop, &lock);
	lock.unlock(me);
	if (held != nullptr) {
		held->unlock(me);
	}
}

/// After unsleep(): it is made runnable, unless it was stopped.
LWP_ALWAYS_INLINE void go_on_and_unlock(lwp_t *l, spinlock *held, queue_end end = queue_end::line) noexcept {
	if (LWP_UNLIKELY(lwp_state(l) == lwp_stat::stop)) {
		stay_stopped_and_unlock(l, held);
		return;
	}
	sched_wake_and_unlock(l, held, end);
}

/// Apart, so that a wake-up that lends nothing keeps nothing on the stack, and ends in a jump.
LWP_NOINLINE void unsleep_lender_and_unlock(lwp_t *l, spinlock *lock, int error, queue_end end) noexcept {
	(void)unsleep(l, error);
	go_on_and_unlock(l, lock, end);
	if (lock != nullptr) {  // null: the caller settles
		sched_settle_owed(curcpu_or_null());
	}
}

/// Entry of a sleep's timer.  The sleep may be over: then its callout_halt() waits until we are through, so `l` has not begun another.
void sleepq_timeout(void *arg) noexcept {
	auto *l = static_cast<lwp_t *>(arg);
	vcpu_t *me = curcpu_or_null();
	spinlock *lock = lwp_lock(l, me);
	if ((lwp_flags(l) & LW_TIMED) == 0) {
		lock->unlock(me);  // somebody was first, or moved it to where it has no deadline
		return;
	}
	sleepq_unsleep_and_unlock(l, lock, ETIMEDOUT, queue_end::handed_over);
}

struct no_timer {};

/// With the sleep's lock held: puts the caller to sleep under it.  `timed`: on.deadline is not never.
template <bool timed>
LWP_ALWAYS_INLINE int block_as(lwp_t *l, spinlock *lock, waiters *q, const sleep_on &on) noexcept {
	vcpu_t *vc = l->l_cpu;
	LWP_ASSERT(l->l_wchan == nullptr);
	// vc_lwplock covers us until we are asleep: a suspend or interrupt sets its flag before we get the lock, and we see it below, or gets the
	// lock after us and finds us LSSLEEP.
	vc->vc_lwplock.lock(vc);
	if (on.interlock != nullptr) {
		on.interlock->unlock(vc);  // who takes it now and wakes us must lock us first: that is vc_lwplock, then, off our stack, `lock`
	}
	std::uint32_t flags = lwp_flags(l);
	const std::uint32_t end = on.token | (on.interruptible == sleep_catch::yes ? kicked : 0);
	if (LWP_UNLIKELY((flags & end) != 0)) {
		lwp_flag_clear(l, LW_CANCELLED | on.token);  // as NetBSD's lwp_park(): one EALREADY uses up both
		vc->vc_lwplock.unlock(vc);
		lock->unlock(vc);
		return (flags & on.token) != 0 ? EALREADY : (flags & interrupted) != 0 ? EINTR : (flags & LW_PENDSIG) != 0 ? ERESTART : 0;
	}
	[[maybe_unused]] std::conditional_t<timed, timer, no_timer> t;
	if constexpr (timed) {
		// Armed before we sleep: if it fires at once, sleepq_timeout() waits for vc_lwplock, then for `lock`, until the switch is over.
		t.tm_fn = sleepq_timeout;
		t.tm_arg = l;
		t.tm_once = true;
		if (callout_schedule(vc, &t, on.deadline) != 0) {
			vc->vc_lwplock.unlock(vc);
			lock->unlock(vc);
			return ENOMEM;
		}
	}
	flags |= (on.interruptible == sleep_catch::yes ? LW_SINTR : 0U) | (timed ? LW_TIMED : 0U);
	l->l_flag.store(flags, std::memory_order_relaxed);  // relaxed: locked
	l->l_slept = vc->vc_polled;
	l->l_wchan = on.wchan;
	l->l_wmesg = on.wmesg;
	l->l_syncobj = on.sobj;
	if (q != nullptr) {
		waiters_insert_locked(q, l, on.first);
		if (on.sobj->so_lend != nullptr) {
			turnstile_blocked(q, l, vc);
		}
	}
	lwp_setstat(l, lwp_stat::sleep, lock);
	biglock_leave_locked(l);
	mi_switch_and_unlock(l, lock);
	// Awake, perhaps on another vCPU.  Halted even if it fired: it must not hit our next sleep, and it lives on this frame.
	if constexpr (timed) {
		callout_halt_once(&t);
	}
	int error = l->l_error;  // read before we may sleep for the big lock
	if constexpr (timed) {
		// Of a signal and the deadline, if both have come by now, the deadline wins (NetBSD's sleepq_block()): the handler runs at the boundary in any
		// case.  One that was moved to another object has no deadline any more.
		if (LWP_UNLIKELY(error == ERESTART) && l->l_syncobj == on.sobj && now() >= on.deadline) {
			error = ETIMEDOUT;
		}
	}
	biglock_return(l);
	return error;
}

/// Apart: most sleeps have no deadline, and need no room for a timer.
LWP_NOINLINE int block_timed(lwp_t *l, spinlock *lock, waiters *q, const sleep_on &on) noexcept { return block_as<true>(l, lock, q, on); }

LWP_ALWAYS_INLINE int block(lwp_t *l, spinlock *lock, waiters *q, const sleep_on &on) noexcept {
	return LWP_LIKELY(on.deadline == never) ? block_as<false>(l, lock, q, on) : block_timed(l, lock, q, on);
}

LWP_ALWAYS_INLINE int block_plainly(lwp_t *l, spinlock *lock, waiters *q, const void *wchan, const plain_sleep &how) noexcept {
	return block_as<false>(
	    l, lock, q, {.wchan = wchan, .wmesg = how.ps_wmesg, .sobj = how.ps_sobj, .interruptible = sleep_catch::yes, .token = how.ps_token});
}

}  // namespace

const syncobj sleep_syncobj = {"sleep"};
const syncobj self_syncobj = {"self"};

int sleepq_block_self_and_unlock(lwp_t *l, spinlock *lock, const sleep_on &on) noexcept { return block(l, lock, nullptr, on); }

int sleepq_block_self_and_unlock(lwp_t *l, spinlock *lock, const void *wchan, const plain_sleep &how) noexcept {
	return block_plainly(l, lock, nullptr, wchan, how);
}

int sleepq_block_and_unlock(lwp_t *l, sleepq *q, const sleep_on &on) noexcept { return block(l, &q->sq_lock, &q->sq_list, on); }

spinlock *waiters_lock(const waiters *q) noexcept {
	// Multiplied by the golden ratio: objects stand at regular distances.
	return &locks[(reinterpret_cast<std::uintptr_t>(q) >> 3) * 0x9e3779b97f4a7c15U >> (64 - locks_bits)].lock;
}

int waiters_block_and_unlock(lwp_t *l, waiters *q, spinlock *lock, const sleep_on &on) noexcept {
	LWP_ASSERT(lock->rank() == lock_rank::sleepq);  // an object with two lists has one lock for both
	return block(l, lock, q, on);
}

int waiters_block_and_unlock(lwp_t *l, waiters *q, spinlock *lock, const void *wchan, const plain_sleep &how) noexcept {
	LWP_ASSERT(lock->rank() == lock_rank::sleepq);
	return block_plainly(l, lock, q, wchan, how);
}

bool waiters_lock_too(spinlock *lock, spinlock *other, vcpu_t *me) noexcept {
	if (lock == other || other->try_lock(me)) {
		return true;
	}
	// Two of one rank have no order between them.  So nobody waits for one while it has the other: each waits for the busy one with empty hands.
	for (;;) {
		lock->unlock(me);
		other->lock(me);
		if (lock->try_lock(me)) {
			return false;
		}
		other->unlock(me);
		lock->lock(me);
		if (other->try_lock(me)) {
			return false;
		}
	}
}

void waiters_insert_locked(waiters *q, lwp_t *l, bool first) noexcept {
	const pri_t pri = priority(l);
	lwp_t *before = nullptr;  // most sleepers are equals: look from the end
	if (first) {
		before = q->front();
		while (before != nullptr && priority(before) > pri) {
			before = waiters::next(before);
		}
	} else {
		for (lwp_t *other = q->back(); other != nullptr && priority(other) < pri; other = waiters::prev(other)) {
			before = other;
		}
	}
	q->insert(before, l);
	l->l_sleepq = q;
}

void waiters_move_locked(waiters *from, waiters *to, spinlock *lock, const void *wchan, const char *wmesg, const syncobj *sobj) noexcept {
	// Both are sorted: from the worst to the best of the one, `after` goes up the other once.
	lwp_t *after = to->back();
	while (lwp_t *l = from->back()) {
		LWP_ASSERT(lwp_locked(l));
		from->remove(l);
		while (after != nullptr && priority(after) < priority(l)) {
			after = waiters::prev(after);
		}
		to->insert(after != nullptr ? waiters::next(after) : to->front(), l);
		l->l_sleepq = to;
		l->l_wchan = wchan;
		l->l_wmesg = wmesg;
		l->l_syncobj = sobj;
		lwp_flag_clear(l, LW_TIMED);
		if (sobj->so_owner != nullptr && waitgraph_wanted(l)) {
			waitgraph_mark(l);
		}
		lwp_setlock(l, lock);
	}
}

void waiters_end_and_unlock(waiters *q, spinlock *lock, int error) noexcept {
	while (q->front() != q->back()) {
		sleepq_unsleep_and_unlock(q->front(), nullptr, error);  // null: the lock stays ours
	}
	sleepq_unsleep_and_unlock(q->front(), lock, error);
}

unsigned waiters_wake_and_unlock(waiters *q, spinlock *lock, unsigned count, vcpu_t *me) noexcept {
	LWP_ASSERT(lock == waiters_lock(q));
	unsigned woken = 0;
	bool lend = false;
	while (woken < count) {
		lwp_t *l = q->front();
		if (l == nullptr) {
			break;
		}
		lend |= unsleep(l, 0);
		woken++;
		if (woken == count || q->empty()) {
			go_on_and_unlock(l, lock);
			if (lend) {
				sched_settle_owed(me);
			}
			return woken;
		}
		go_on_and_unlock(l, nullptr);  // null: the lock stays ours
	}
	lock->unlock(me);
	return woken;
}

sleepq *sleeptab_lookup(const void *wchan) noexcept { return &table[(reinterpret_cast<std::uintptr_t>(wchan) >> 8) % table_size]; }

void sleepq_unsleep_and_unlock(lwp_t *l, spinlock *lock, int error, queue_end end) noexcept {
	LWP_ASSERT(lwp_locked(l, lock));
	if (LWP_UNLIKELY(l->l_sleepq != nullptr && l->l_syncobj->so_lend != nullptr)) {
		unsleep_lender_and_unlock(l, lock, error, end);
		return;
	}
	(void)unsleep(l, error);
	go_on_and_unlock(l, lock, end);
}

unsigned sleepq_wake(sleepq *q, const void *wchan, unsigned count) noexcept {
	unsigned woken = 0;
	for (lwp_t *l = q->sq_list.front(), *next; l != nullptr && woken < count; l = next) {
		next = waiters::next(l);
		if (l->l_wchan == wchan) {
			(void)unsleep(l, 0);
			go_on_and_unlock(l, nullptr);  // null: the queue's lock stays ours
			woken++;
		}
	}
	return woken;
}

void sleeptab_wake(const void *wchan, unsigned count) noexcept {
	sleepq *q = sleeptab_lookup(wchan);
	lock_scope hold(q->sq_lock, curcpu_or_null());
	sleepq_wake(q, wchan, count);
}

}  // namespace lwp::kern
