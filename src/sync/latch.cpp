// SPDX-License-Identifier: BSD-2-Clause
#include "sync/latch.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int by_zero = -1;  // how a sleep ends by the last count; errno values are everybody else's

}  // namespace

const syncobj countdown_syncobj = {"countdown"};

bool countdown_up(kcountdown *c, std::uint64_t n) noexcept {
	std::uint64_t word = c->cd_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	do {
		if (n > kcountdown::count_most - word / kcountdown::one) {
			return false;
		}
	} while (!c->cd_word.compare_exchange_weak(word, word + n * kcountdown::one, std::memory_order_relaxed));  // relaxed: no news in it
	return true;
}

bool countdown_down(kcountdown *c, std::uint64_t n, vcpu_t *me) noexcept {
	if (n == 0) {
		return true;
	}
	spinlock *lock = nullptr;
	bool any = false;
	std::uint64_t word = c->cd_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		if (n > word / kcountdown::one) {
			if (lock != nullptr) {
				lock->unlock(me);
			}
			return false;
		}
		const bool last = word == (n * kcountdown::one | kcountdown::waited);
		if (last && lock == nullptr) {
			// What we are to count is counted still, so it is there, and nobody gets past it without us.
			lock = waiters_lock(&c->cd_waiters);
			lock->lock(me);
			any = !c->cd_waiters.empty();
			word = c->cd_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
			continue;
		}
		// release: pairs with the acquires of those who wait; acquire: they see through us what those did that counted before.
		// If it is the last one and nobody sleeps this is the last access.
		if (c->cd_word.compare_exchange_weak(
		        word, last ? 0 : word - n * kcountdown::one, std::memory_order_acq_rel, std::memory_order_relaxed)) {
			if (lock == nullptr) {
				return true;
			}
			if (last && any) {
				waiters_end_and_unlock(&c->cd_waiters, lock, by_zero);
			} else {
				lock->unlock(me);
			}
			return true;
		}
	}
}

int countdown_wait(kcountdown *c, lwp_t *l, const char *wmesg, nanotime deadline) noexcept {
	spinlock *lock = waiters_lock(&c->cd_waiters);
	lock->lock(l->l_cpu);
	// With the flag set the last cannot be counted without the lock; so it is counted now, or finds us asleep.
	std::uint64_t word = c->cd_word.load(std::memory_order_acquire);  // acquire: pairs with the releases in countdown_down()
	do {
		if (word < kcountdown::one) {
			lock->unlock(l->l_cpu);
			return 0;
		}
	} while (!c->cd_word.compare_exchange_weak(word, word | kcountdown::waited, std::memory_order_acquire));
	const int error = waiters_block_and_unlock(l, &c->cd_waiters, lock,
	    {.wchan = c, .wmesg = wmesg, .sobj = &countdown_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	if (error == by_zero) {
		return 0;
	}
	return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
}

}  // namespace lwp::kern
