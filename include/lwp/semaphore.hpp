// SPDX-License-Identifier: BSD-2-Clause
//
// std's <semaphore> on LWPs ([thread.sema] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between LWPs of any
// vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// Constant initialization, no memory beside the object.  A release hands its units to those who wait, by priority, then first come first served;
// nobody who comes by is before them.  A suspend (_lwp_suspend) takes a waiter out of the line until it is continued.
// Whoever gets a unit may destroy the semaphore at once, if nobody else uses it: the release that brought the unit does not touch it any more.
// A release is a boundary: a suspend takes effect there, and a better LWP that was woken runs.
// Misuse: a number below 0 or beyond max(), at first or by a release, ends the program with a message; a constant one does not compile.  So does, in debug builds of the library, the destruction of a semaphore that
// somebody waits for.
#pragma once

#include <lwp/detail/count.hpp>
#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lwp {

namespace detail {

class LWP_API semaphore {
public:
	static constexpr std::ptrdiff_t units_most = PTRDIFF_MAX / 2;

	constexpr explicit semaphore(std::ptrdiff_t units) noexcept
	    : word_(static_cast<std::uint64_t>(checked_count("counting_semaphore", units, units_most)) * 2) {}
	~semaphore() {
		if ((word_.load(std::memory_order_relaxed) & 1U) != 0) {  // relaxed: whoever destroys it has seen everybody else leave
			check_destroyed();
		}
	}
	semaphore(const semaphore &) = delete;
	semaphore &operator=(const semaphore &) = delete;

	void acquire() noexcept;
	[[nodiscard]] bool try_acquire() noexcept;
	[[nodiscard]] bool try_acquire_until(steady_time, const std::stop_token * = nullptr) noexcept;
	void release(std::ptrdiff_t units) noexcept;

private:
	void check_destroyed() noexcept;
	std::atomic<std::uint64_t> word_;
	storage<16> waiters_;
};

}  // namespace detail

/// [thread.sema.cnt]
template <std::ptrdiff_t LeastMaxValue = detail::semaphore::units_most>
class counting_semaphore {
	static_assert(LeastMaxValue >= 0 && LeastMaxValue <= detail::semaphore::units_most);

public:
	/// The same for all: more than anybody counts to.
	static constexpr std::ptrdiff_t max() noexcept { return detail::semaphore::units_most; }

	/// `desired` is between 0 and max().
	constexpr explicit counting_semaphore(std::ptrdiff_t desired) noexcept : semaphore_(desired) {}
	~counting_semaphore() = default;
	counting_semaphore(const counting_semaphore &) = delete;
	counting_semaphore &operator=(const counting_semaphore &) = delete;

	/// Adds `update` units, 0 or more.  Never blocks.
	void release(std::ptrdiff_t update = 1) noexcept { semaphore_.release(update); }
	/// Blocks the LWP until it gets a unit.
	void acquire() noexcept { semaphore_.acquire(); }
	/// Never blocks; true if it got a unit.  Does not fail while there is one.
	bool try_acquire() noexcept { return semaphore_.try_acquire(); }
	/// Blocks for `duration` at most; not at all if it is zero or less.
	template <class Rep, class Period>
	bool try_acquire_for(const std::chrono::duration<Rep, Period> &duration) {
		return semaphore_.try_acquire_until(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.
	template <class Clock, class Duration>
	bool try_acquire_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return semaphore_.try_acquire_until(t); });
	}

	/// Not in std: acquire() and the timed forms, or until a stop is requested.  True if it got a unit, which it does if there is one, stop or not.
	[[nodiscard]] bool acquire(const std::stop_token &stop) noexcept {
		return semaphore_.try_acquire_until(detail::steady_time::max(), &stop);
	}
	template <class Rep, class Period>
	[[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return semaphore_.try_acquire_until(detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool try_acquire_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return semaphore_.try_acquire_until(t, &stop); });
	}

private:
	detail::semaphore semaphore_;
};

using binary_semaphore = counting_semaphore<1>;

}  // namespace lwp
