// SPDX-License-Identifier: BSD-2-Clause
#include "api/channel.h"
#include "api/deadline.h"
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/select.hpp>

#include <cerrno>
#include <system_error>

namespace lwp::detail {
namespace {

using namespace kern;
using what = enum select_result::what;
using kern_case = kern::select_case;

// They are made in the memory of the public ones.
static_assert(sizeof(kern_case) == sizeof(select_case) && alignof(kern_case) == alignof(select_case));

kern_case *take_over(const select_plan &plan) noexcept {
	kern_case *cases = nullptr;
	for (unsigned i = plan.count; i-- > 0;) {
		const select_case from = plan.cases[i];
		cases = ::new (static_cast<void *>(&plan.cases[i])) kern_case;
		cases->sc_channel = channel_access::kernel(from.channel);
		cases->sc_end = from.send ? chan_end::send : chan_end::receive;
		cases->sc_waiter.cw_place = from.place;
	}
	return cases;
}

/// Case i is over; of a closed channel a receive is over too, a send is an error.
select_result done(const kern_case *cases, unsigned i, bool closed) noexcept {
	return {closed && cases[i].sc_end == chan_end::send ? what::send_closed : what::channel, i};
}

/// The first that was requested already, or -1.
int requested(const select_plan &plan) noexcept {
	for (unsigned i = 0; i < plan.stop_count; i++) {
		if (plan.stops[i].token->stop_requested()) {
			return static_cast<int>(i);
		}
	}
	return -1;
}

constexpr int again = 0;

/// Hangs up everywhere and waits.  By whom the grant was taken, or `again`: something can go on by now.
LWP_NOINLINE int wait_once(const select_plan &plan, kern_case *cases, lwp_t *l, nanotime deadline) noexcept {
	grant g(l, cases);
	// There before we hang: a stop in between takes the grant, and our wait ends at once.
	for (unsigned i = 0; i < plan.stop_count; i++) {
		plan.stops[i].callback.emplace(*plan.stops[i].token, stop_taker{&g, by_first_stop - static_cast<int>(i)});
	}
	int by = again;
	if (select_hang(cases, plan.count, &g, l->l_cpu) == EINPROGRESS || !grant_take(&g, by_itself)) {
		by = wait_granted(&g, select_sleep, l, deadline);
	}
	select_unhang(cases, plan.count, by, l->l_cpu);
	for (unsigned i = 0; i < plan.stop_count; i++) {
		plan.stops[i].callback.reset();  // returns when the callback is through with the grant
	}
	return by;
}

select_result wait_for_one(const select_plan &plan, kern_case *cases, lwp_t *l) noexcept {
	if (const int i = requested(plan); LWP_UNLIKELY(i >= 0)) {
		return {what::stop, static_cast<unsigned>(i)};
	}
	const nanotime deadline = to_nanotime(plan.deadline);
	for (;;) {
		unsigned i = 0;
		const int error = select_try(cases, plan.count, &i, l->l_cpu);
		if (error != EAGAIN) {
			return done(cases, i, error == EPIPE);
		}
		if (!plan.blocks) {
			return {what::nothing, 0};
		}
		const int by = wait_once(plan, cases, l, deadline);
		if (by == grant::timed_out) {
			return {what::timeout, 0};
		}
		if (by <= by_first_stop) {
			return {what::stop, static_cast<unsigned>(by_first_stop - by)};
		}
		if (by != again) {
			i = static_cast<unsigned>(by - 1);
			return done(cases, i, cases[i].sc_waiter.cw_closed);
		}
	}
}

}  // namespace

void stop_taker::operator()() const noexcept { end_by_stop(static_cast<kern::grant *>(grant), by); }

select_result select_wait(const select_plan &plan) noexcept {
	const in_library l;
	const select_result result = wait_for_one(plan, take_over(plan), l);
	lwp_userret(l);
	return result;
}

void select_send_closed() {
	throw std::system_error(std::make_error_code(std::errc::broken_pipe), "lwp::select: on_send() to a channel that is closed");
}

}  // namespace lwp::detail
