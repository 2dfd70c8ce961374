// SPDX-License-Identifier: BSD-2-Clause
#include "sync/event.h"

#include "api/deadline.h"
#include "api/misuse.h"
#include "api/wait_out.h"
#include "proc/runtime.h"

#include <lwp/event.hpp>

namespace lwp {
namespace {

using namespace kern;

static_assert(sizeof(kevent) == sizeof(event) && alignof(kevent) == alignof(event));
static_assert(std::is_standard_layout_v<event> && kevent::set == 1 && kevent::waited == 2 && kevent::automatic == 4);

kevent *ke(event *e) noexcept { return reinterpret_cast<kevent *>(e); }

int wait_slow(kevent *e, nanotime deadline, const std::stop_token *stop = nullptr) noexcept {
	const in_library l;
	return wait_out(l, deadline, stop, [&] { return event_wait(e, l, deadline); });
}

}  // namespace

void event::set() noexcept {
	const in_library l;
	event_set(ke(this), l->l_cpu);
	lwp_userret(l);
}

void event::reset() noexcept { event_clear(ke(this)); }

void event::wait() noexcept {
	if (!event_try(ke(this))) {
		(void)wait_slow(ke(this), never);
	}
}

bool event::wait_until_steady(lwp::detail::steady_time deadline, const std::stop_token *stop) noexcept {
	const nanotime at = to_nanotime(deadline);
	return event_try(ke(this)) || (at > now() && wait_slow(ke(this), at, stop) == 0);
}

void event::check_destroyed() noexcept { misuse_if_waited("event", this, &ke(this)->ev_waiters); }

}  // namespace lwp
