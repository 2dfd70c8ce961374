// SPDX-License-Identifier: BSD-2-Clause
//
// What a C call does when its sleep was interrupted (NetBSD's ERESTART), and the times that it is given.
#pragma once

#include "proc/lwp_life.h"

#include <cerrno>
#include <ctime>

namespace lwp::kern {

/// Calls again what was kicked out to pass the boundary; EINTR if a handler without SA_RESTART has run there.
template <class Call>
int restarted(lwp_t *l, Call call) noexcept {
	l->l_interrupted = false;
	int error;
	do {
		error = call();
		lwp_userret(l);
	} while (error == ERESTART && !l->l_interrupted);
	return error == ERESTART ? EINTR : error;
}

/// The absolute CLOCK_MONOTONIC deadline of a timespec.  0 | EINVAL
inline int deadline_of(clockid_t clock, int flags, const timespec &ts, nanotime *deadline) noexcept {
	if (ts.tv_nsec < 0 || ts.tv_nsec >= 1'000'000'000 || ts.tv_sec < 0) {
		return EINVAL;
	}
	const auto seconds = static_cast<nanotime>(ts.tv_sec);
	const nanotime t = seconds > never / 1'000'000'000U - 1 ? never : seconds * 1'000'000'000U + static_cast<nanotime>(ts.tv_nsec);
	if ((flags & TIMER_ABSTIME) == 0) {
		*deadline = t == 0 ? 0 : after(now(), t);
		return 0;
	}
	if (clock == CLOCK_MONOTONIC) {
		*deadline = t;
		return 0;
	}
	timespec real;
	::clock_gettime(CLOCK_REALTIME, &real);
	const nanotime today = static_cast<nanotime>(real.tv_sec) * 1'000'000'000U + static_cast<nanotime>(real.tv_nsec);
	*deadline = t <= today ? 0 : after(now(), t - today);
	return 0;
}

}  // namespace lwp::kern
