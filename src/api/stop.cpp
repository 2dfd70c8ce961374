// SPDX-License-Identifier: BSD-2-Clause
#include "api/deadline.h"
#include "api/stop_grant.h"
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"

#include <lwp/stop.hpp>

#include <cerrno>

namespace lwp {
namespace kern {

// curlwp(): whoever makes the request may be a kernel thread that the library has not met yet.
LWP_NOINLINE void stop_grant::ender::operator()() const noexcept {
	const in_library l;
	if (grant_take(g, stopped)) {
		grant_give(g, l->l_cpu);
	}
}

int grant_wait_out(grant *g, const char *wmesg, nanotime deadline, const syncobj *sobj) noexcept {
	for (;;) {
		const int error = grant_wait(g, wmesg, deadline, sobj);
		if (error == 0 || error == ETIMEDOUT) {
			return error;
		}
		lwp_userret(g->g_lwp);
		if (error == ENOMEM) {  // no room for a timer: wait the other way, by looking at the clock
			if (now() < deadline) {
				lwp_yield_cpu(g->g_lwp);
			} else if (grant_take(g, grant::timed_out)) {
				return ETIMEDOUT;
			} else {
				deadline = never;  // taken by another, whose give is certain
			}
		}
	}
}

// The reason first, then the sleep.  A target that is about to sleep finds LW_CANCELLED under its lock, or is asleep by the time we have that.
void interruptor::fire(int why, vcpu_t *me) noexcept {
	int none = 0;
	if (!fired_.compare_exchange_strong(none, why, std::memory_order_release, std::memory_order_relaxed)) {  // pairs with fired()
		return;
	}
	spinlock *lock = lwp_lock(lwp_, me);
	if (lwp_asleep(lwp_) && (lwp_flags(lwp_) & LW_SINTR) != 0) {
		sleepq_unsleep_and_unlock(lwp_, lock, EINTR);
		return;
	}
	lwp_flag_set(lwp_, LW_CANCELLED);
	lock->unlock(me);
}

LWP_NOINLINE void interruptor::ender::operator()() const noexcept {
	const in_library l;
	i->fire(ECANCELED, l->l_cpu);
}

void interruptor::timed_out(void *arg) noexcept { static_cast<interruptor *>(arg)->fire(ETIMEDOUT, curcpu_or_null()); }

void interruptor::by_stop(const std::stop_token &stop) noexcept { callback_.emplace(stop, ender{this}); }

int interruptor::by_deadline(nanotime deadline) noexcept {
	LWP_ASSERT(!timed_);
	if (deadline <= now()) {
		fire(ETIMEDOUT, lwp_->l_cpu);
		return 0;
	}
	timer_.tm_fn = timed_out;
	timer_.tm_arg = this;
	const int error = callout_schedule(lwp_->l_cpu, &timer_, deadline);
	timed_ = error == 0;
	return error;
}

interruptor::~interruptor() {
	callback_.reset();
	if (timed_) {
		callout_halt(&timer_);
	}
	lwp_->l_pins--;
	// Nobody fires from here on.  If that found us awake and we did not sleep again, the flag must not hit a sleep of somebody else's.
	if ((lwp_flags(lwp_) & LW_CANCELLED) != 0) {
		vcpu_t *me = lwp_->l_cpu;
		spinlock *lock = lwp_lock(lwp_, me);
		lwp_flag_clear(lwp_, LW_CANCELLED);
		lock->unlock(me);
	}
	if (LWP_UNLIKELY(lwp_leaving(lwp_))) {
		lwp_leave(lwp_);  // it was to take its wait back, and this was it
	}
}

namespace {

const syncobj nanosleep_syncobj = {"nanosleep"};

}  // namespace
}  // namespace kern

using namespace kern;

namespace detail {

bool sleep_until_stopped(steady_time deadline, const std::stop_token &stop) noexcept {
	const in_library l;
	grant g(l);
	const stop_grant ender(stop, &g);
	const int error = grant_wait_out(&g, "nanoslp", to_nanotime(deadline), &nanosleep_syncobj);
	lwp_userret(l);
	return error == ETIMEDOUT;
}

}  // namespace detail
}  // namespace lwp
