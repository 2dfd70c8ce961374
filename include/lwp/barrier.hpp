// SPDX-License-Identifier: BSD-2-Clause
//
// std's <barrier> on LWPs ([thread.barrier] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between LWPs of any
// vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// The completion runs in the LWP that arrives last, before anybody is released; it may block.
// Constant initialization, no memory beside the object.  An arrival is a boundary: a suspend takes effect there.
// Misuse: a number below 0 to begin with (a constant one does not compile), or more arrivals in a phase than it awaits, end the program with a message.  So does, in debug builds of the library, the destruction of a
// barrier that somebody waits at.
#pragma once

#include <lwp/detail/count.hpp>
#include <lwp/detail/storage.hpp>
#include <lwp/lwp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace lwp {

template <class CompletionFunction>
class barrier;

namespace detail {

struct no_completion {
	void operator()() const noexcept {}
};

class LWP_API barrier_base {
public:
	static constexpr std::ptrdiff_t expected_most = PTRDIFF_MAX;

	constexpr explicit barrier_base(std::ptrdiff_t expected) noexcept
	    : pending_(checked_count("barrier", expected, expected_most)), expected_(expected) {}
	~barrier_base() {
		// Who waits has arrived: then fewer are awaited than in a new phase.  relaxed: whoever destroys it has seen everybody else leave
		if (pending_.load(std::memory_order_relaxed) != expected_.load(std::memory_order_relaxed)) {
			check_destroyed();
		}
	}
	barrier_base(const barrier_base &) = delete;
	barrier_base &operator=(const barrier_base &) = delete;

	// acquire: pairs with the release of who ended the phase before
	[[nodiscard]] std::uint64_t phase() const noexcept { return phase_.load(std::memory_order_acquire); }
	void drop() noexcept { expected_.fetch_sub(1, std::memory_order_relaxed); }  // relaxed: the arrival that follows orders it
	/// True if the caller is the last one: it runs the completion, then end_phase().
	[[nodiscard]] bool arrive(std::ptrdiff_t n) noexcept;
	void end_phase() noexcept;
	bool wait(std::uint64_t phase, const std::stop_token * = nullptr) noexcept;  // false: a stop was requested first

private:
	void check_destroyed() noexcept;
	std::atomic<std::int64_t> pending_;
	std::atomic<std::int64_t> expected_;
	std::atomic<std::uint64_t> phase_{0};
	storage<16> waiters_;
};

/// barrier<>::arrival_token: which phase it was.
class barrier_token {
public:
	barrier_token(barrier_token &&) noexcept = default;
	barrier_token &operator=(barrier_token &&) noexcept = default;

private:
	template <class CompletionFunction>
	friend class lwp::barrier;
	explicit barrier_token(std::uint64_t phase) noexcept : phase_(phase) {}
	std::uint64_t phase_;
};

}  // namespace detail

/// [thread.barrier.class]
template <class CompletionFunction = detail::no_completion>
class barrier {
	static_assert(std::is_nothrow_invocable_v<CompletionFunction &>, "the completion must be noexcept");

public:
	using arrival_token = detail::barrier_token;

	static constexpr std::ptrdiff_t max() noexcept { return detail::barrier_base::expected_most; }

	/// `expected` is between 0 and max().
	constexpr explicit barrier(std::ptrdiff_t expected, CompletionFunction f = CompletionFunction())
	    : base_(expected), completion_(std::move(f)) {}
	~barrier() = default;
	barrier(const barrier &) = delete;
	barrier &operator=(const barrier &) = delete;

	/// `update` arrivals.  Blocks only if the completion does.
	[[nodiscard]] arrival_token arrive(std::ptrdiff_t update = 1) {
		const std::uint64_t phase = base_.phase();  // before the arrival: it cannot end without that
		count(update);
		return arrival_token(phase);
	}
	/// Blocks the LWP until the phase of the token is over.
	void wait(arrival_token &&arrival) const { (void)base_.wait(arrival.phase_); }
	/// Not in std: the same, or until a stop is requested.  True if the phase is over, stop or not; else the token may be used once more.  The
	/// arrival counts all the same.
	[[nodiscard]] bool wait(const arrival_token &arrival, const std::stop_token &stop) const { return base_.wait(arrival.phase_, &stop); }
	void arrive_and_wait() { wait(arrive()); }
	/// Arrives, and is not awaited in later phases.
	void arrive_and_drop() {
		base_.drop();
		count(1);
	}

private:
	void count(std::ptrdiff_t update) {
		if (base_.arrive(update)) {
			completion_();
			base_.end_phase();
		}
	}

	mutable detail::barrier_base base_;
	[[no_unique_address]] CompletionFunction completion_;
};

}  // namespace lwp
