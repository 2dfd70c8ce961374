// SPDX-License-Identifier: BSD-2-Clause
//
// Latches and wait groups.
#include "sync/latch.h"

#include "api/deadline.h"
#include "api/misuse.h"
#include "api/wait_out.h"
#include "base/assert.h"
#include "proc/runtime.h"

#include <lwp/latch.hpp>
#include <lwp/wait_group.hpp>

#include <type_traits>

namespace lwp::detail {

using namespace kern;

namespace {

static_assert(sizeof(kcountdown) == sizeof(countdown) && alignof(kcountdown) == alignof(countdown));
static_assert(std::is_standard_layout_v<countdown> && kcountdown::one == 2 && kcountdown::count_most == countdown::count_most);
static_assert(kcountdown::waited == 1, "what countdown::check_destroyed() looks at");

kcountdown *kc(countdown *c) noexcept { return reinterpret_cast<kcountdown *>(c); }

int wait_slow(kcountdown *c, const char *what, nanotime deadline, const std::stop_token *stop = nullptr) noexcept {
	const in_library l;
	return wait_out(l, deadline, stop, [&] { return countdown_wait(c, l, what, deadline); });
}

}  // namespace

void countdown::up(std::ptrdiff_t n, const char *misuse) noexcept {
	LWP_CHECK(n >= 0 && countdown_up(kc(this), static_cast<std::uint64_t>(n)), misuse);
}

void countdown::down(std::ptrdiff_t n, const char *misuse) noexcept {
	const in_library l;
	LWP_CHECK(n >= 0 && countdown_down(kc(this), static_cast<std::uint64_t>(n), l->l_cpu), misuse);
	lwp_userret(l);
}

bool countdown::none() const noexcept { return countdown_number(reinterpret_cast<const kcountdown *>(this)) == 0; }

void countdown::wait(const char *what) noexcept {
	if (!none()) {
		(void)wait_slow(kc(this), what, never);
	}
}

bool countdown::wait_until(const char *what, steady_time deadline, const std::stop_token *stop) noexcept {
	const nanotime at = to_nanotime(deadline);
	return none() || (at > now() && wait_slow(kc(this), what, at, stop) == 0);
}

void countdown::check_destroyed_slow(const char *type) noexcept { misuse_if_waited(type, this, &kc(this)->cd_waiters); }

void check_wait_group_destroyed(const void *object) noexcept {
#if LWP_DEBUG
	fatal("lwp::wait_group at %p is destroyed with %llu of its work left", object,
	    static_cast<unsigned long long>(countdown_number(static_cast<const kcountdown *>(object))));
#else
	(void)object;
#endif
}

}  // namespace lwp::detail
