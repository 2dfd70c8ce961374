// SPDX-License-Identifier: BSD-2-Clause
//
// An event: set or not, and LWPs that wait until it is.  Usable between LWPs of any vCPU and kernel threads of the application.
//
//   manual     set() lets all through who wait and who come, until reset()
//   automatic  set() lets one through, who waits or who comes; by that it is reset.  Set twice with nobody there it lets one through, not two
//
// Whoever waits when it is set is let through, even if it is reset at once.  Of the automatic kind: by priority, then first come first served.
// What was done before set() is seen by whoever it lets through, who may destroy the event at once, if nobody else uses it.
// Misuse: debug builds of the library end the program with a message if an event is destroyed that somebody waits for.
// Constant initialization, no memory beside the object.  set() is a boundary: a suspend takes effect there, and a better LWP that was woken runs.
#pragma once

#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <atomic>
#include <cstdint>

namespace lwp {

/// Who takes a set event back: reset(), or the one LWP that it lets through.
enum class event_reset : std::uint8_t { manual, automatic };

/// What the opening of this file says.
class LWP_API event {
public:
	/// Not set, unless said so.
	constexpr explicit event(event_reset kind = event_reset::manual, bool set = false) noexcept
	    : word_((kind == event_reset::automatic ? 4U : 0U) | (set ? 1U : 0U)) {}
	~event() {
		if ((word_.load(std::memory_order_relaxed) & 2U) != 0) {  // relaxed: whoever destroys it has seen everybody else leave
			check_destroyed();
		}
	}
	event(const event &) = delete;
	event &operator=(const event &) = delete;

	/// Never blocks.
	void set() noexcept;
	/// Never blocks.
	void reset() noexcept;
	/// Never blocks, changes nothing.  With others about, an answer of the past.
	[[nodiscard]] bool is_set() const noexcept {
		return (word_.load(std::memory_order_acquire) & 1U) != 0;  // pairs with the release in set()
	}
	/// Blocks the LWP until it is let through.
	void wait() noexcept;
	/// Blocks for `duration` at most; not at all if it is zero or less.  True if it was let through.
	template <class Rep, class Period>
	[[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period> &duration) {
		return wait_until_steady(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.  True if it was let through.
	template <class Clock, class Duration>
	[[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return wait_until_steady(t); });
	}

	/// The same three, or until a stop is requested.  True if it was let through, which it is if the event is set, stop or not.
	[[nodiscard]] bool wait(const std::stop_token &stop) noexcept { return wait_until_steady(detail::steady_time::max(), &stop); }
	template <class Rep, class Period>
	[[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return wait_until_steady(detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return wait_until_steady(t, &stop); });
	}

private:
	[[nodiscard]] bool wait_until_steady(detail::steady_time, const std::stop_token * = nullptr) noexcept;
	void check_destroyed() noexcept;

	std::atomic<std::uint32_t> word_;
	detail::storage<16> waiters_;
};

}  // namespace lwp
