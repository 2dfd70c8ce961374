// SPDX-License-Identifier: BSD-2-Clause
#include "sync/semaphore.h"

#include "base/assert.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int by_gift = -1;  // how a sleep ends by a release; errno values are everybody else's

/// The lock held, released; somebody sleeps, and the word is the flag.
void hand_over_and_unlock(ksemaphore *s, spinlock *lock, std::uint64_t units) noexcept {
	for (;;) {
		lwp_t *heir = s->sem_waiters.front();
		units--;
		const bool alone = heir == s->sem_waiters.back();
		if (units != 0 && !alone) {
			sleepq_unsleep_and_unlock(heir, nullptr, by_gift, queue_end::handed_over);  // null: the lock stays ours
			continue;
		}
		// The flag stays if there are no units for others, also with nobody left: whoever waits next, as in a hand-over to and fro, need not set it.
		if (units != 0) {
			// The heir is still in its call, so the semaphore is there until it is woken.
			// release: pairs with the acquire of those who take what is left; the heirs' is that of the locks they are woken by
			s->sem_word.store(units * ksemaphore::one, std::memory_order_release);
		}
		sleepq_unsleep_and_unlock(heir, lock, by_gift, queue_end::handed_over);
		return;
	}
}

}  // namespace

const syncobj semaphore_syncobj = {"semaphore"};
static constexpr plain_sleep semaphore_sleep = {"semaphore", &semaphore_syncobj};

LWP_NOINLINE int semaphore_acquire_slow(ksemaphore *s, lwp_t *l, nanotime deadline) noexcept {
	spinlock *lock = waiters_lock(&s->sem_waiters);
	lock->lock_unbiased(l->l_cpu);
	std::uint64_t word = s->sem_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while (word != ksemaphore::waited) {                               // with the flag nobody changes it without the lock
		const bool units = word >= ksemaphore::one;
		// acquire: pairs with the release in semaphore_release()
		if (s->sem_word.compare_exchange_weak(
		        word, units ? word - ksemaphore::one : ksemaphore::waited, std::memory_order_acquire, std::memory_order_relaxed)) {
			if (!units) {
				break;
			}
			lock->unlock(l->l_cpu);
			return 0;
		}
	}
	// A release finds the flag; it comes for the lock, which we hold until we are asleep.
	const int error = LWP_LIKELY(deadline == never)
	    ? waiters_block_and_unlock(l, &s->sem_waiters, lock, s, semaphore_sleep)
	    : waiters_block_and_unlock(l, &s->sem_waiters, lock,
	          {.wchan = s, .wmesg = "semaphore", .sobj = &semaphore_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	if (error == by_gift) {
		return 0;  // whoever has got its unit may be the last one that needs the semaphore: it is not touched
	}
	return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
}

void semaphore_release(ksemaphore *s, std::uint64_t units, vcpu_t *me) noexcept {
	std::uint64_t word = s->sem_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	while (word != ksemaphore::waited) {
		LWP_CHECK(units <= ksemaphore::units_most - word / ksemaphore::one, "a semaphore is released beyond its max()");
		// release: pairs with the acquire of whoever takes them.  The last access.
		if (s->sem_word.compare_exchange_weak(word, word + units * ksemaphore::one, std::memory_order_release, std::memory_order_relaxed)) {
			return;
		}
	}
	// Our units are not seen yet, so nobody whom they would let through can have destroyed it.
	spinlock *lock = waiters_lock(&s->sem_waiters);
	lock->lock_unbiased(me);
	if (LWP_LIKELY(!s->sem_waiters.empty())) {
		hand_over_and_unlock(s, lock, units);
		return;
	}
	// They have timed out or were suspended, or the last one got its unit.  The flag may be gone as well: another release was here.
	word = s->sem_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		const std::uint64_t have = word / ksemaphore::one;
		LWP_CHECK(units <= ksemaphore::units_most - have, "a semaphore is released beyond its max()");
		// release: as above.  The last access: the lock is not in the semaphore.
		if (s->sem_word.compare_exchange_weak(
		        word, (have + units) * ksemaphore::one, std::memory_order_release, std::memory_order_relaxed)) {
			lock->unlock(me);
			return;
		}
	}
}

}  // namespace lwp::kern
