// SPDX-License-Identifier: BSD-2-Clause
//
// Sleep queues: the one place where an LWP stops running and is made to run again.
//
// Three kinds share all of it but the list.  A *queue* holds LWPs that sleep on the same thing, sorted by priority and first come first
// served among equals; whoever wakes names the thing (the wait channel).  *Waiters* are the same list inside the thing itself (a mutex, a
// semaphore), so it need not be named.  An LWP that waits for news of its own only (park, wait, sleep) sleeps
// on *itself*: on no list, under vc_slplock of the vCPU where it fell asleep, which that vCPU takes for free; whoever wakes it names the LWP.
//
// The lock of a list in an object is not in the object: l_mutex may name it a moment longer than the object lives.  It is one of a table.
//
// A sleep ends once: whoever takes the LWP off (waker, timer, suspend, interrupt) does so with its lock held, and says how in l_error.
// An LWP that was stopped in its sleep (LSSTOP with a wait channel) is still on its list and is woken like any other: it stays LSSTOP, off
// the list and under the vc_lwplock of its vCPU, and runs when it is continued.
// Takes: the sleep queue's lock, then vc_lwplock or a run queue.  Never allocates but a timer's slot.
#pragma once

#include "base/clock.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

namespace lwp::kern {

/// Who sleeps on one thing: by priority, then first come first served.
struct waiters : list<lwp_t, &lwp_t::l_link> {};

struct sleepq {
	spinlock sq_lock{lock_rank::sleepq, "sleep queue"};
	waiters sq_list;
};

/// Whether others than the waker may end a sleep: signals, suspend, _lwp_wakeup().
enum class sleep_catch : bool { no, yes };

/// What a sleep is about.
struct sleep_on {
	const void *wchan;    // never null
	const char *wmesg;    // why, in one word
	const syncobj *sobj;  // how it is undone
	sleep_catch interruptible;
	nanotime deadline = never;
	std::uint32_t token = 0;        // flags that, if set, end the sleep before it begins: taken back, EALREADY
	spinlock *interlock = nullptr;  // held by the caller, released once whoever has it next finds us asleep
	bool first = false;             // before its equals: it has stood in the line once already
};

/// The same for a sleep that may be interrupted and has neither a deadline nor an interlock, as constants: in a hand-over there is nothing so dear as what
/// is written into memory, such as the above to be read once.
struct plain_sleep {
	const char *ps_wmesg;
	const syncobj *ps_sobj;
	std::uint32_t ps_token = 0;
};

extern const syncobj sleep_syncobj;  // on a queue
extern const syncobj self_syncobj;   // on itself

/// Locks what the caller will sleep on: itself.  This alone keeps no waker out, since an LWP that still runs is covered by vc_lwplock: a waker
/// that comes before we are LSSLEEP finds us LSONPROC.  So it either leaves a token in our flags (park), or what it changes and what we test
/// is under an interlock, which is not released before vc_lwplock is ours (lwp_wait1).
inline spinlock *sleepq_enter_self(lwp_t *l) noexcept {
	spinlock *lock = &l->l_cpu->vc_slplock;
	lock->lock(l->l_cpu);
	return lock;
}

/// Sleeps on itself.  `lock` comes from sleepq_enter_self() and is released.
/// 0 woken (or to stand still: look again) | ETIMEDOUT, also if a signal was first | EINTR | ERESTART a signal: pass the boundary | EALREADY a token was there |
/// ENOMEM no timer, did not sleep.
[[nodiscard]] int sleepq_block_self_and_unlock(lwp_t *l, spinlock *lock, const sleep_on &) noexcept;

[[nodiscard]] int sleepq_block_self_and_unlock(lwp_t *l, spinlock *lock, const void *wchan, const plain_sleep &) noexcept;

/// Sleeps on a queue whose sq_lock is held; it is released.  Same results.
[[nodiscard]] int sleepq_block_and_unlock(lwp_t *l, sleepq *, const sleep_on &) noexcept;

/// The lock of a list in an object, by the list's address.  Lasts for ever; other objects may share it.
spinlock *waiters_lock(const waiters *) noexcept;

/// Sleeps on a list in an object whose lock, `lock`, is held; it is released.  Same results.
[[nodiscard]] int waiters_block_and_unlock(lwp_t *l, waiters *, spinlock *lock, const sleep_on &) noexcept;
[[nodiscard]] int waiters_block_and_unlock(lwp_t *l, waiters *, spinlock *lock, const void *wchan, const plain_sleep &) noexcept;

/// With `lock` held: takes `other` as well, which may be the same or come before it.  False if `lock` was let go of for that: look again.
[[nodiscard]] bool waiters_lock_too(spinlock *lock, spinlock *other, vcpu_t *me) noexcept;

/// Puts one in its place: before those that are worse; `first`: before its equals, too.
void waiters_insert_locked(waiters *, lwp_t *l, bool first) noexcept;

/// Moves all sleepers from one object to another, by priority and behind their equals there.  Both locks held; `lock` is that of `to`.  From
/// now on they sleep on `wchan`, and have no deadline any more.  If that has an owner call waitgraph_moved() when no lock is held.
void waiters_move_locked(waiters *from, waiters *to, spinlock *lock, const void *wchan, const char *wmesg, const syncobj *sobj) noexcept;

/// Ends all their sleeps with `error` and releases `lock`.  At least one must be there; the object is not touched after the last may run.
void waiters_end_and_unlock(waiters *, spinlock *lock, int error) noexcept;

/// Wakes up to `count` of them, best first, and releases `lock`.  The object is not touched after the last of them may run, so that one may
/// destroy it.  Returns how many.
unsigned waiters_wake_and_unlock(waiters *, spinlock *lock, unsigned count, vcpu_t *me) noexcept;

/// The queue for a wait channel that has none of its own: a hashed table.
sleepq *sleeptab_lookup(const void *wchan) noexcept;

/// Wakes up to `count` LWPs asleep on `wchan`.  sq_lock held, stays held.  Returns how many.
unsigned sleepq_wake(sleepq *, const void *wchan, unsigned count) noexcept;

/// sleeptab_lookup() and sleepq_wake(): wakeup(9).
void sleeptab_wake(const void *wchan, unsigned count = ~0U) noexcept;

/// Ends the sleep of an LWP that is asleep and locked by `lock`, which is released; its sleep returns `error`.
void sleepq_unsleep_and_unlock(lwp_t *l, spinlock *lock, int error, queue_end end = queue_end::line) noexcept;

}  // namespace lwp::kern
