// SPDX-License-Identifier: BSD-2-Clause
//
// Cancellation by std::stop_token ([thread.stoptoken] of the C++20 standard).  The tokens are std's own; what blocks in this library has a form
// that takes one and ends early when a stop is requested, also one that was requested before: sleeps (here), joins (thread.hpp), futures
// (future.hpp), scopes (scope.hpp), condition variables (the _any kind, as in std), channels and select, semaphores, latches, barriers, events, wait
// groups, the mutexes that know deadlines, and I/O.  A stop request never ends an LWP: it only ends its waits, and the LWP decides what follows.
//
// The one trap: std::stop_source::request_stop() calls the callbacks one after the other in the LWP that makes the request, and a callback of
// yours that blocks (takes an lwp::mutex that is taken, sleeps, joins) delays all later ones, those that end waits among them.  It also breaks what
// ~stop_callback promises: std tells by the kernel thread whether the caller is the callback itself, and while a callback is blocked others run on that kernel
// thread.  So let callbacks set flags, notify, unpark or request another stop, and let none of them wait.
#pragma once

#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <chrono>
#include <stop_token>

namespace lwp {

// std's own.
using std::nostopstate;
using std::nostopstate_t;
using std::stop_callback;
using std::stop_source;
using std::stop_token;

namespace detail {

LWP_API bool sleep_until_stopped(steady_time, const std::stop_token &) noexcept;

}  // namespace detail

namespace this_thread {

/// Blocks the LWP until `deadline`, or until a stop is requested.  Returns whether it slept to the end; false at once if a stop was requested
/// before.  Throws only what the clock does.
template <class Clock, class Duration>
bool sleep_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
	bool stopped = false;
	(void)detail::attempt_until(deadline, [&](detail::steady_time t) { return stopped = !detail::sleep_until_stopped(t, stop); });
	return !stopped;
}

/// Blocks the LWP for `duration`, or until a stop is requested.  The same otherwise.
template <class Rep, class Period>
bool sleep_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
	return detail::sleep_until_stopped(detail::deadline_after(duration), stop);
}

}  // namespace this_thread
}  // namespace lwp
