// SPDX-License-Identifier: BSD-2-Clause
#include "sync/grant.h"

#include "base/assert.h"

#include <cerrno>

namespace lwp::kern {

const void *grant_object(const void *wchan) noexcept { return static_cast<const grant *>(wchan)->g_object; }

const syncobj grant_syncobj = {"grant", nullptr, nullptr, grant_object};

void grant_give(grant *g, vcpu_t *me) noexcept {
	lwp_t *l = g->g_lwp;
	spinlock *lock = lwp_lock(l, me);
	const bool asleep = lwp_asleep(l) && l->l_wchan == g;
	g->g_given.store(true, std::memory_order_release);  // pairs with the acquire in grant_wait(): the record may be gone from here
	if (asleep) {
		sleepq_unsleep_and_unlock(l, lock, 0);
		return;
	}
	// On its way to sleep, or kicked out of it and on its way back: it cannot leave without finding this.
	lwp_flag_set(l, LW_GRANTED);
	lock->unlock(me);
}

int grant_wait(grant *g, const char *wmesg, nanotime deadline, const syncobj *sobj) noexcept {
	lwp_t *l = g->g_lwp;
	LWP_ASSERT(g->g_takers == grant::takers::any || deadline == never);
	bool taken = false;  // seen to be taken by another: its give is certain and soon
	for (;;) {
		// The flag is one for all its waits: a handler that ran at a boundary, while this record hung, may have used ours up; or left us one.
		if (g->g_given.load(std::memory_order_acquire)) {  // pairs with the release in grant_give()
			return 0;
		}
		spinlock *lock = sleepq_enter_self(l);
		const int error = sleepq_block_self_and_unlock(l, lock,
		    {.wchan = g,
		        .wmesg = wmesg,
		        .sobj = sobj,
		        .interruptible = taken ? sleep_catch::no : sleep_catch::yes,
		        .deadline = taken ? never : deadline,
		        .token = LW_GRANTED});
		if (error == EALREADY || g->g_given.load(std::memory_order_acquire)) {
			continue;
		}
		// Who is leaving takes it back as if its time were over; of one_lock its caller does, under that lock.
		if (error == ETIMEDOUT || (LWP_UNLIKELY(lwp_leaving(l)) && !taken && g->g_takers == grant::takers::any)) {
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

}  // namespace lwp::kern
