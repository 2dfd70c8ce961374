// SPDX-License-Identifier: BSD-2-Clause
#include "sync/event.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr int by_set = -1;  // how a sleep ends by event_set(); errno values are everybody else's

/// The lock held, released; somebody sleeps.  They are in their calls, so the event is there until the last of them is woken.
void let_through_and_unlock(kevent *e, spinlock *lock, std::uint32_t kind) noexcept {
	lwp_t *first = e->ev_waiters.front();
	// release: pairs with the acquire in event_try(); the sleepers' is that of the locks they are woken by
	if (kind != kevent::automatic) {
		e->ev_word.store(kind | kevent::set, std::memory_order_release);
		waiters_end_and_unlock(&e->ev_waiters, lock, by_set);
		return;
	}
	const std::uint32_t flag = first != e->ev_waiters.back() ? kevent::waited : 0;
	e->ev_word.store(kind | flag, std::memory_order_relaxed);  // relaxed: no news in it
	sleepq_unsleep_and_unlock(first, lock, by_set);
}

}  // namespace

const syncobj event_syncobj = {"event"};

void event_set(kevent *e, vcpu_t *me) noexcept {
	spinlock *lock = nullptr;
	std::uint32_t word = e->ev_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		if ((word & kevent::waited) != 0 && lock == nullptr) {
			// It is not set: whoever is to be let through by us is still in its call.
			lock = waiters_lock(&e->ev_waiters);
			lock->lock(me);
			if (!e->ev_waiters.empty()) {
				let_through_and_unlock(e, lock, word & kevent::automatic);
				return;
			}
			word = e->ev_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
		}
		// release: pairs with the acquire in event_try(), also if it is set already.  The last access: the lock is not in the event.
		if (e->ev_word.compare_exchange_weak(
		        word, (word & ~kevent::waited) | kevent::set, std::memory_order_release, std::memory_order_relaxed)) {
			if (lock != nullptr) {
				lock->unlock(me);
			}
			return;
		}
	}
}

void event_clear(kevent *e) noexcept {
	e->ev_word.fetch_and(~kevent::set, std::memory_order_acquire);  // acquire: pairs with the release of who set it
}

bool event_try(kevent *e) noexcept {
	std::uint32_t word = e->ev_word.load(std::memory_order_acquire);  // pairs with the release in event_set()
	while (word == (kevent::set | kevent::automatic)) {
		if (e->ev_word.compare_exchange_weak(word, kevent::automatic, std::memory_order_acquire)) {
			return true;
		}
	}
	return (word & kevent::set) != 0;
}

int event_wait(kevent *e, lwp_t *l, nanotime deadline) noexcept {
	spinlock *lock = waiters_lock(&e->ev_waiters);
	lock->lock(l->l_cpu);
	std::uint32_t word = e->ev_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	do {
		if (event_try(e)) {
			lock->unlock(l->l_cpu);
			return 0;
		}
		word &= ~kevent::set;
		// Fails if it was set meanwhile.
	} while (!e->ev_word.compare_exchange_weak(word, word | kevent::waited, std::memory_order_relaxed));  // relaxed: no news in it
	// Whoever sets it finds the flag and comes for the lock, which we hold until we are asleep.
	const int error = waiters_block_and_unlock(l, &e->ev_waiters, lock,
	    {.wchan = e, .wmesg = "event", .sobj = &event_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	if (error == by_set) {
		return 0;
	}
	return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART;
}

}  // namespace lwp::kern
