// SPDX-License-Identifier: BSD-2-Clause
#include "api/channel.h"
#include "api/deadline.h"
#include "base/assert.h"
#include "proc/runtime.h"
#include "sched/callout.h"
#include "sched/idle.h"

#include <lwp/ticker.hpp>

#include <cerrno>
#include <new>
#include <system_error>

namespace lwp {
namespace {

using namespace kern;
using time_point = std::chrono::steady_clock::time_point;

/// A timer's function must not arm its own timer again, so two of them take turns.
struct beat {
	explicit beat(kchannel *to, nanotime first, nanotime every) noexcept : b_to(to), b_due(first), b_period(every) {}

	spinlock b_lock{lock_rank::object, "ticker"};
	kchannel *const b_to;     // (
	kern::timer b_timers[2];  // b_lock, to arm one
	unsigned b_turn = 0;      // b_lock: which was armed last
	nanotime b_due;           // b_lock: when
	const nanotime b_period;  // (: 0: once
	bool b_over = false;      // b_lock: nothing is armed any more
};

beat *beat_of(lwp::detail::storage<192> &s) noexcept { return std::launder(reinterpret_cast<beat *>(s.bytes)); }

void fire(void *arg) noexcept;

/// A vCPU that looks after its timers: a kernel thread of the application does so only while it waits.
vcpu_t *timekeeper(vcpu_t *me) noexcept {
	return me->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts ? sched.sd_vcpu[0] : me;  // relaxed: our own
}

/// With b_lock held.  0 | ENOMEM
[[nodiscard]] int arm(beat *b, vcpu_t *vc) noexcept {
	b->b_turn ^= 1;
	kern::timer *t = &b->b_timers[b->b_turn];
	t->tm_fn = fire;
	t->tm_arg = b;
	return callout_schedule(vc, t, b->b_due);
}

/// On a vCPU, without a lock.  The channel outlives it: stop() waits until it is through.
void fire(void *arg) noexcept {
	auto *b = static_cast<beat *>(arg);
	vcpu_t *me = curcpu_or_null();
	const nanotime when = now();
	time_point value{std::chrono::nanoseconds(when)};
	const bool closed = channel_try(b->b_to, chan_end::send, &value, me) == EPIPE;  // EAGAIN: its receiver is slow, this one is dropped
	lock_scope hold(b->b_lock, me);
	if (b->b_over) {
		return;
	}
	b->b_over = closed || b->b_period == 0;
	if (!b->b_over) {
		b->b_due += b->b_period * (1 + (when - b->b_due) / b->b_period);  // those that are past are dropped too
		vcpu_t *vc = timekeeper(me);
		b->b_over = arm(b, vc) != 0;
		if (vc != me) {
			vcpu_unhalt(vc);  // it may have gone to sleep until a later timer
		}
	}
}

}  // namespace

timer_channel::timer_channel(lwp::detail::steady_time first, steady_duration period) : channel(1) {
	const in_library l;
	vcpu_t *me = l->l_cpu;
	vcpu_t *vc = timekeeper(me);
	auto *b =
	    ::new (timer_.bytes) beat(lwp::detail::channel_access::kernel(this), to_nanotime(first), static_cast<nanotime>(period.count()));
	for (kern::timer &t : b->b_timers) {
		t.tm_vcpu = vc;
	}
	if (b->b_due == never) {
		b->b_over = true;
		return;
	}
	int error;
	{
		lock_scope hold(b->b_lock, me);
		error = arm(b, vc);
	}
	if (error != 0) {
		std::destroy_at(b);
		throw std::bad_alloc();
	}
	if (vc != me) {
		vcpu_unhalt(vc);  // it may have gone to sleep until a later timer
	}
}

timer_channel::~timer_channel() {
	(void)stop();
	std::destroy_at(beat_of(timer_));
}

bool timer_channel::stop() noexcept {
	const in_library l;
	beat *b = beat_of(timer_);
	bool was_over;
	{
		lock_scope hold(b->b_lock, l->l_cpu);
		was_over = b->b_over;
		b->b_over = true;  // from here on nothing is armed
	}
	for (kern::timer &t : b->b_timers) {
		callout_halt(&t);  // returns when its function is through
	}
	return !was_over;
}

void ticker::bad_period() {
	throw std::system_error(std::make_error_code(std::errc::invalid_argument), "lwp::ticker: the period must be positive");
}

}  // namespace lwp
