// SPDX-License-Identifier: BSD-2-Clause
//
// A number that others count down, and who waits until it is 0: what latches and wait groups are made of.
#pragma once

#include <lwp/detail/count.hpp>
#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lwp::detail {

class LWP_API countdown {
public:
	static constexpr std::ptrdiff_t count_most = PTRDIFF_MAX / 2;

	constexpr countdown(const char *type, std::ptrdiff_t count) noexcept
	    : word_(static_cast<std::uint64_t>(checked_count(type, count, count_most)) * 2) {}
	countdown(const countdown &) = delete;
	countdown &operator=(const countdown &) = delete;

	/// These two end the program with `misuse` if the number would leave its range.
	void up(std::ptrdiff_t n, const char *misuse) noexcept;
	void down(std::ptrdiff_t n, const char *misuse) noexcept;
	[[nodiscard]] bool none() const noexcept;
	/// Of one that is destroyed: ends the program if somebody waits and the library is a debug build.
	void check_destroyed(const char *type) noexcept {
		if ((word_.load(std::memory_order_relaxed) & 1U) != 0) {  // relaxed: whoever destroys it has seen everybody else leave
			check_destroyed_slow(type);
		}
	}
	/// `what` is one word for reports.
	void wait(const char *what) noexcept;
	[[nodiscard]] bool wait_until(const char *what, steady_time, const std::stop_token * = nullptr) noexcept;

private:
	void check_destroyed_slow(const char *type) noexcept;
	std::atomic<std::uint64_t> word_;
	storage<16> waiters_;
};

}  // namespace lwp::detail
