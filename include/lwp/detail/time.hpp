// SPDX-License-Identifier: BSD-2-Clause
//
// How the timed members of every class come to the one form the library waits by: a point of the steady clock, which is CLOCK_MONOTONIC.
#pragma once

#include <chrono>
#include <stop_token>
#include <type_traits>

namespace lwp::detail {

using steady_time = std::chrono::steady_clock::time_point;

/// `duration` from now, rounded up; for ever if the clock has no such point.
template <class Rep, class Period>
steady_time deadline_after(const std::chrono::duration<Rep, Period> &duration) {
	const steady_time now = std::chrono::steady_clock::now();
	if (duration <= duration.zero()) {
		return now;
	}
	// Compared in seconds as double first: duration_cast of hours::max() to nanoseconds would overflow.
	if (std::chrono::duration<double>(duration) >= std::chrono::duration<double>(steady_time::max() - now)) {
		return steady_time::max();
	}
	return now + std::chrono::ceil<steady_time::duration>(duration);
}

/// Calls `attempt(steady deadline)`, which waits until then at most and says whether it succeeded.  Another clock may be set while we wait:
/// then the wait is by the steady one, and that clock is asked again ([thread.req.timing]).
template <class Clock, class Duration, class Attempt>
bool attempt_until(const std::chrono::time_point<Clock, Duration> &deadline, Attempt attempt) {
	if constexpr (std::is_same_v<Clock, std::chrono::steady_clock>) {
		return attempt(std::chrono::ceil<steady_time::duration>(deadline));
	} else {
		for (;;) {
			const auto now = Clock::now();  // compared first: the difference to time_point::min() would overflow
			if (attempt(deadline <= now ? steady_time::clock::now() : deadline_after(deadline - now))) {
				return true;
			}
			if (Clock::now() >= deadline) {
				return false;
			}
		}
	}
}

/// The same until a stop is requested, which `attempt` looks at, too.
template <class Clock, class Duration, class Attempt>
bool attempt_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop, Attempt attempt) {
	bool done = false;
	(void)attempt_until(deadline, [&](steady_time t) { return (done = attempt(t)) || stop.stop_requested(); });
	return done;
}

}  // namespace lwp::detail
