// SPDX-License-Identifier: BSD-2-Clause
#include "sync/barrier.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int by_phase = -1;  // how a sleep ends by the end of the phase; errno values are everybody else's

}  // namespace

const syncobj barrier_syncobj = {"barrier"};

void barrier_end_phase(kbarrier *b, vcpu_t *me) noexcept {
	spinlock *lock = waiters_lock(&b->br_waiters);
	lock->lock(me);
	const bool any = !b->br_waiters.empty();
	b->br_pending.store(
	    b->br_expected.load(std::memory_order_relaxed), std::memory_order_relaxed);  // relaxed: before the phase, which orders them
	// release: pairs with the acquires of those who wait.  If nobody sleeps this is the last access: they may destroy it.
	b->br_phase.store(b->br_phase.load(std::memory_order_relaxed) + 1, std::memory_order_release);
	if (any) {
		waiters_end_and_unlock(&b->br_waiters, lock, by_phase);
	} else {
		lock->unlock(me);
	}
}

int barrier_wait(kbarrier *b, lwp_t *l, std::uint64_t phase) noexcept {
	spinlock *lock = waiters_lock(&b->br_waiters);
	lock->lock(l->l_cpu);
	if (b->br_phase.load(std::memory_order_acquire) != phase) {  // pairs with the release in barrier_end_phase()
		lock->unlock(l->l_cpu);
		return 0;
	}
	// Who ends the phase waits for the lock, which we hold until we are asleep.
	const int error = waiters_block_and_unlock(
	    l, &b->br_waiters, lock, {.wchan = b, .wmesg = "barrier", .sobj = &barrier_syncobj, .interruptible = sleep_catch::yes});
	return error == by_phase ? 0 : ERESTART;
}

}  // namespace lwp::kern
