// SPDX-License-Identifier: BSD-2-Clause
#include "sync/pending.h"

#include "base/assert.h"

#include <cerrno>

namespace lwp::kern {

const syncobj pending_syncobj = {"pending"};

void pending_done(kpending *p, vcpu_t *me) noexcept {
	std::uint64_t word = p->pd_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while (word != (kpending::one | kpending::waited)) {
		LWP_ASSERT(word >= kpending::one);
		// release: pairs with the acquire in pending_none().  The object may be gone from here.
		if (p->pd_word.compare_exchange_weak(word, word - kpending::one, std::memory_order_release, std::memory_order_relaxed)) {
			return;
		}
	}
	// The last one, and somebody waits, or did until its timeout.  Ours is still counted, so the object is there; once it is not, nobody
	// gets past pending_none() without the lock, which we hold until the last of the waiters is off the list.
	spinlock *lock = waiters_lock(&p->pd_waiters);
	lock->lock(me);
	// release: as above; acquire: the waiters see through us what those did that were done before
	word = p->pd_word.fetch_sub(kpending::one, std::memory_order_acq_rel);
	if (word - kpending::one >= kpending::one) {  // one was added meanwhile
		lock->unlock(me);
		return;
	}
	waiters_wake_and_unlock(&p->pd_waiters, lock, ~0U, me);
}

bool pending_none(kpending *p, vcpu_t *me) noexcept {
	std::uint64_t word = p->pd_word.load(std::memory_order_acquire);  // pairs with the release in pending_done()
	if (word != kpending::waited) {
		return word == 0;
	}
	spinlock *lock = waiters_lock(&p->pd_waiters);
	lock->lock(me);  // whoever did the last one has let go
	LWP_ASSERT(p->pd_waiters.empty());
	// relaxed: the lock orders it.  Fails if another has done the same, or adds again.
	p->pd_word.compare_exchange_strong(word, 0, std::memory_order_relaxed, std::memory_order_relaxed);
	lock->unlock(me);
	return true;
}

int pending_wait(kpending *p, lwp_t *l, const char *wmesg, nanotime deadline) noexcept {
	if (pending_none(p, l->l_cpu)) {
		return 0;
	}
	spinlock *lock = waiters_lock(&p->pd_waiters);
	lock->lock(l->l_cpu);
	// With the flag set the last one cannot be done without the lock; so it is done now, or finds us asleep.
	std::uint64_t word = p->pd_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	do {
		if (word < kpending::one) {
			lock->unlock(l->l_cpu);
			(void)pending_none(p, l->l_cpu);  // acquires; it was done without a waiter
			return 0;
		}
	} while (!p->pd_word.compare_exchange_weak(word, word | kpending::waited, std::memory_order_relaxed, std::memory_order_relaxed));
	const int error = waiters_block_and_unlock(l, &p->pd_waiters, lock,
	    {.wchan = p, .wmesg = wmesg, .sobj = &pending_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	if (pending_none(p, l->l_cpu)) {
		return 0;
	}
	return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
}

}  // namespace lwp::kern
