// SPDX-License-Identifier: BSD-2-Clause
//
// Park and unpark: the smallest sleep.  The parked LWP sleeps on itself and is found by its id, so nothing is queued or hashed.
// The token (LW_UNPARKED) is set and taken under the LWP's lock: an unpark finds its target asleep in a park, or leaves the token before
// the target tests it for the last time on its way to sleep.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <cerrno>

namespace lwp::kern {
namespace {

const syncobj park_syncobj = {"park"};
constexpr plain_sleep park_sleep = {"parked", &park_syncobj, LW_UNPARKED};
const syncobj nanosleep_syncobj = {"nanosleep"};

}  // namespace

int lwp_park(lwp_t *l, nanotime deadline) noexcept {
	if (deadline != never && deadline <= now()) {
		return ETIMEDOUT;  // before the token is looked at, which stays (quirk Q25)
	}
	spinlock *lock = sleepq_enter_self(l);
	const int error = LWP_LIKELY(deadline == never)
	    ? sleepq_block_self_and_unlock(l, lock, l, park_sleep)
	    : sleepq_block_self_and_unlock(l, lock, {l, "parked", &park_syncobj, sleep_catch::yes, deadline, LW_UNPARKED});
	return error == ERESTART ? EINTR : error;  // a park is not begun again, whatever SA_RESTART says: its caller looks and loops
}

int lwp_unpark(lwp_t *l, lwpid_t lid) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock;
	lwp_t *t = lwp_find_and_lock(l->l_proc, lid, me, &lock);
	if (t == nullptr) {
		return ESRCH;
	}
	if (lwp_asleep(t) && t->l_syncobj == &park_syncobj) {
		sleepq_unsleep_and_unlock(t, lock, 0, queue_end::handed_over);
	} else {
		lwp_flag_set(t, LW_UNPARKED);
		lock->unlock(me);
	}
	return 0;
}

void lwp_move_to(lwp_t *l, std::int16_t vcpu) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock = lwp_lock(l, me);
	sched_set_places(l, lock, {.bound = vcpu});
	lock->unlock(me);
	while (l->l_cpu->vc_index != vcpu) {
		lwp_move_cpu(l);
	}
}

void lwp_sleep_until(lwp_t *l, nanotime deadline) noexcept {
	while (deadline == never || now() < deadline) {
		spinlock *lock = sleepq_enter_self(l);
		int error = sleepq_block_self_and_unlock(l, lock, {&l->l_wchan, "nanoslp", &nanosleep_syncobj, sleep_catch::yes, deadline});
		lwp_userret(l);
		if (error == ETIMEDOUT) {
			return;  // whoever fired the timer has looked at the clock
		}
		if (error == ENOMEM) {
			lwp_yield_cpu(l);  // no room for a timer: wait the other way, by looking at the clock, while others run
		}
	}
}

}  // namespace lwp::kern
