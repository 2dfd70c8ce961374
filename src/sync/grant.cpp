// SPDX-License-Identifier: BSD-2-Clause
#include "sync/grant.h"

#include "base/assert.h"

#include <cerrno>

namespace lwp::kern {

const void *grant_object(const void *wchan) noexcept { return static_cast<const grant *>(wchan)->g_object; }

const syncobj grant_syncobj = {"grant", nullptr, nullptr, grant_object};

/// With the waiter locked by `lock`.
LWP_ALWAYS_INLINE static void give_and_unlock(grant *g, lwp_t *l, spinlock *lock, vcpu_t *me, queue_end end) noexcept {
	const bool asleep = lwp_asleep(l) && l->l_wchan == g;
	g->g_given.store(true, std::memory_order_release);  // pairs with the acquire in grant_wait(): the record may be gone from here
	if (asleep) {
		sleepq_unsleep_and_unlock(l, lock, 0, end);
		return;
	}
	// On its way to sleep, or kicked out of it and on its way back: it cannot leave without finding this.
	lwp_flag_set(l, LW_GRANTED);
	lock->unlock(me);
}

LWP_NOINLINE static void give_slowly(grant *g, lwp_t *l, vcpu_t *me, queue_end end) noexcept {
	give_and_unlock(g, l, lwp_lock(l, me), me, end);
}

void grant_give(grant *g, vcpu_t *me, queue_end end) noexcept {
	lwp_t *l = g->g_lwp;
	// As lwp_lock(), for the lock of a sleeper of this vCPU: that way nothing is called, and nothing kept on the stack.
	spinlock *lock = l->l_mutex.load(std::memory_order_acquire);
	if (LWP_LIKELY(lock->lock_own(me))) {
		if (LWP_LIKELY(l->l_mutex.load(std::memory_order_acquire) == lock)) {
			give_and_unlock(g, l, lock, me, end);
			return;
		}
		lock->unlock(me);
	}
	give_slowly(g, l, me, end);
}

// With a deadline, or by one that is leaving: there is more to it than to be given.
LWP_NOINLINE static int wait_or_take_back(grant *g, const plain_sleep &how, nanotime deadline) noexcept {
	LWP_ASSERT(g->g_takers == grant::takers::any);
	lwp_t *l = g->g_lwp;
	bool taken = false;  // seen to be taken by another: its give is certain and soon
	for (;;) {
		if (g->g_given.load(std::memory_order_acquire)) {  // pairs with the release in grant_give()
			return 0;
		}
		spinlock *lock = sleepq_enter_self(l);
		const int error = sleepq_block_self_and_unlock(l, lock,
		    {.wchan = g,
		        .wmesg = how.ps_wmesg,
		        .sobj = how.ps_sobj,
		        .interruptible = taken ? sleep_catch::no : sleep_catch::yes,
		        .deadline = taken ? never : deadline,
		        .token = how.ps_token});
		if (error == EALREADY || g->g_given.load(std::memory_order_acquire)) {
			continue;
		}
		// Who is leaving takes it back as if its time were over.
		if (error == ETIMEDOUT || (LWP_UNLIKELY(lwp_leaving(l)) && !taken)) {
			if (grant_take(g, grant::timed_out)) {
				return ETIMEDOUT;
			}
			taken = true;
			continue;
		}
		if (!taken) {
			return error == 0 ? ERESTART : error;  // 0: suspended; it goes on after the boundary
		}
	}
}

// Apart from the other one, which jumps here: after a switch the CPU's guess where a function returns to is that of the LWP that left, and is right as
// far as both stand in the same functions.
LWP_NOINLINE int grant_wait(grant *g, const plain_sleep &how) noexcept {
	lwp_t *l = g->g_lwp;
	// The flag is one for all its waits: a handler that ran at a boundary, while this record hung, may have used ours up; or left us one.
	while (!g->g_given.load(std::memory_order_acquire)) {  // pairs with the release in grant_give()
		const int error = sleepq_block_self_and_unlock(l, sleepq_enter_self(l), g, how);
		if (error != EALREADY && !g->g_given.load(std::memory_order_acquire)) {
			// Of one_lock its caller takes it back, under that lock.
			if (LWP_UNLIKELY(lwp_leaving(l)) && g->g_takers == grant::takers::any) {
				return wait_or_take_back(g, how, never);
			}
			return error == 0 ? ERESTART : error;  // 0: suspended; it goes on after the boundary
		}
	}
	return 0;
}

int grant_wait(grant *g, const plain_sleep &how, nanotime deadline) noexcept {
	return LWP_LIKELY(deadline == never) ? grant_wait(g, how) : wait_or_take_back(g, how, deadline);
}

}  // namespace lwp::kern
