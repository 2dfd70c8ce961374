// SPDX-License-Identifier: BSD-2-Clause
//
// std's <latch> on LWPs ([thread.latch] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between LWPs of any vCPU
// and kernel threads of the application.  Only what std leaves open is said here.
//
// Constant initialization, no memory beside the object.  The one that waits may destroy the latch when its wait is over, if nobody else waits:
// whoever counted the last does not touch it any more.  Counting down is a boundary: a suspend takes effect there.
// Misuse: a number below 0 or above max() to begin with (a constant one does not compile), or counting down by more than is left, ends the program with
// a message.  So does, in debug builds of the library, the destruction of a latch
// that somebody waits for.
#pragma once

#include <lwp/detail/countdown.hpp>

namespace lwp {

/// [thread.latch.class]
class latch {
public:
	static constexpr std::ptrdiff_t max() noexcept { return detail::countdown::count_most; }

	/// `expected` is between 0 and max().
	constexpr explicit latch(std::ptrdiff_t expected) noexcept : countdown_("latch", expected) {}
	~latch() { countdown_.check_destroyed("latch"); }
	latch(const latch &) = delete;
	latch &operator=(const latch &) = delete;

	/// Never blocks.
	void count_down(std::ptrdiff_t update = 1) noexcept { countdown_.down(update, misuse); }
	/// Never blocks; does not fail while the number is 0.
	[[nodiscard]] bool try_wait() const noexcept { return countdown_.none(); }
	/// Blocks the LWP until the number is 0.
	void wait() const noexcept { countdown_.wait("latch"); }
	/// Not in std: the same, or until a stop is requested.  True if the number is 0, stop or not.
	[[nodiscard]] bool wait(const std::stop_token &stop) const noexcept {
		return countdown_.wait_until("latch", detail::steady_time::max(), &stop);
	}
	void arrive_and_wait(std::ptrdiff_t update = 1) noexcept {
		count_down(update);
		wait();
	}

private:
	static constexpr const char *misuse = "a latch is counted down by more than is left, or by less than 0";
	mutable detail::countdown countdown_;
};

}  // namespace lwp
