// SPDX-License-Identifier: BSD-2-Clause
//
// A wait group, as Go's sync.WaitGroup: add() says how much work is begun, done() that some is finished, wait() blocks until none is left.  Then it
// may be used again.  Usable between LWPs of any vCPU and kernel threads of the application.
//
// A wait that began with work left ends when the number comes to 0, even if more is added at once.  What was done before each done() is seen by
// whoever waited.  The one that waits may destroy the group when its wait is over, if nobody else waits.
// Constant initialization, no memory beside the object.  done() is a boundary: a suspend takes effect there, and a better LWP that was woken runs.
//
// Misuse ends the program with a message: done() more often than add() said; a number below 0 or beyond PTRDIFF_MAX / 2.  So does, in debug builds of the library, the
// destruction of a group with work left.  What cannot be seen: an add() from 0 that is meant for a wait() must come before that wait(), most
// often before the work is started, not in it.
#pragma once

#include <lwp/detail/countdown.hpp>

namespace lwp {

namespace detail {
/// Ends the program with a message if the library is a debug build.
LWP_API void check_wait_group_destroyed(const void *object) noexcept;
}  // namespace detail

/// What the opening of this file says.
class wait_group {
public:
	/// `count` pieces of work are begun already, 0 or more.
	constexpr explicit wait_group(std::ptrdiff_t count = 0) noexcept : countdown_("wait_group", count) {}
	~wait_group() {
		if (!countdown_.none()) {
			detail::check_wait_group_destroyed(this);
		}
	}
	wait_group(const wait_group &) = delete;
	wait_group &operator=(const wait_group &) = delete;

	/// Never blocks.  `n` is 0 or more.
	void add(std::ptrdiff_t n = 1) noexcept { countdown_.up(n, "a wait_group is added to by less than 0, or beyond its limit"); }
	/// Never blocks.
	void done(std::ptrdiff_t n = 1) noexcept { countdown_.down(n, "a wait_group is done more often than was added"); }
	/// Blocks the LWP until no work is left.
	void wait() noexcept { countdown_.wait("wait_group"); }
	/// Blocks for `duration` at most; not at all if it is zero or less.  True if no work is left.
	template <class Rep, class Period>
	[[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period> &duration) {
		return countdown_.wait_until("wait_group", detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.
	template <class Clock, class Duration>
	[[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return countdown_.wait_until("wait_group", t); });
	}

	/// The same three, or until a stop is requested.  True if no work is left, stop or not.
	[[nodiscard]] bool wait(const std::stop_token &stop) noexcept {
		return countdown_.wait_until("wait_group", detail::steady_time::max(), &stop);
	}
	template <class Rep, class Period>
	[[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return countdown_.wait_until("wait_group", detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return countdown_.wait_until("wait_group", t, &stop); });
	}

private:
	detail::countdown countdown_;
};

}  // namespace lwp
