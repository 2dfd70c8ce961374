// SPDX-License-Identifier: BSD-2-Clause
#include "sync/once.h"

#include "base/assert.h"
#include "sched/priority.h"
#include "sync/turnstile.h"
#include "sync/waitgraph.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr unsigned wake_each = 4;  // how many waiters each that leaves wakes

lwp_t *runner(const konce *o) noexcept {
	// Exact for the runner itself, and with the lock held while somebody waits; else a hint.  acquire: as mutex_owner()
	return reinterpret_cast<lwp_t *>(o->on_word.load(std::memory_order_acquire) & ~(konce::waited | konce::done));
}

lwp_t *owner_of(const void *wchan) noexcept { return runner(static_cast<const konce *>(wchan)); }

/// A runner that is waited for comes for the waiters' lock, which the caller holds.
bool lend_to(const void *wchan, const lwp_t *owner) noexcept { return owner_of(wchan) == owner; }

}  // namespace

const syncobj once_syncobj = {"once", owner_of, lend_to};

int once_begin(konce *o, lwp_t *l) noexcept {
	if (runner(o) == l) {
		return EDEADLK;
	}
	spinlock *lock = waiters_lock(&o->on_waiters);
	bool slept = false;
	bool restart = false;
	for (;;) {
		if (!restart) {
			waitgraph_announce(l, &once_syncobj, o);
		}
		lock->lock(l->l_cpu);
		std::uintptr_t word = o->on_word.load(std::memory_order_acquire);  // acquire: pairs with the releases in once_end()
		// Who runs it may end it without the lock as long as nobody waits.
		while ((word & ~(konce::waited | konce::done)) != 0 && (word & konce::waited) == 0) {
			if (o->on_word.compare_exchange_weak(word, word | konce::waited, std::memory_order_acquire)) {
				word |= konce::waited;
			}
		}
		if ((word & konce::done) != 0) {
			waiters_wake_and_unlock(&o->on_waiters, lock, slept ? wake_each : 0, l->l_cpu);
			waitgraph_done(l);
			return EALREADY;
		}
		if (word == 0) {
			const std::uintptr_t flag = o->on_waiters.empty() ? 0 : konce::waited;
			o->on_word.store(reinterpret_cast<std::uintptr_t>(l) | flag, std::memory_order_release);  // pairs with the acquire in runner()
			turnstile_owned(&o->on_waiters, l, l->l_cpu);  // those that waited for one that failed
			lock->unlock(l->l_cpu);
			sched_settle_owed(l->l_cpu);
			waitgraph_done(l);
			return 0;
		}
		// Not before this look: if we were woken, it was for all who still wait.
		if (restart) {
			lock->unlock(l->l_cpu);
			return ERESTART;
		}
		// once_end() finds `waited` and comes for the lock, which we hold until we are asleep.
		const int error = waiters_block_and_unlock(
		    l, &o->on_waiters, lock, {.wchan = o, .wmesg = "once", .sobj = &once_syncobj, .interruptible = sleep_catch::yes});
		waitgraph_done(l);
		slept = true;
		restart = error != 0 || (lwp_flags(l) & LW_USERRET) != 0;
	}
}

void once_end(konce *o, lwp_t *l, bool done) noexcept {
	LWP_ASSERT(runner(o) == l);
	const std::uintptr_t end = done ? konce::done : 0;
	auto word = reinterpret_cast<std::uintptr_t>(l);
	// The last access if nobody waits.  release: pairs with the acquires of those who find it done, or run it next
	if (o->on_word.compare_exchange_strong(word, end, std::memory_order_release, std::memory_order_relaxed)) {
		return;
	}
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&o->on_waiters);
	lock->lock(me);
	if (o->on_waiters.empty()) {
		o->on_word.store(end, std::memory_order_release);  // release, last access: as above
		lock->unlock(me);
		return;
	}
	o->on_word.store(end, std::memory_order_release);  // release: as above.  Who waits keeps the object alive
	waiters_wake_and_unlock(&o->on_waiters, lock, done ? wake_each : 1, me);
}

}  // namespace lwp::kern
