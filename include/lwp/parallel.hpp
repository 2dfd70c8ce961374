// SPDX-License-Identifier: BSD-2-Clause
//
// Loops whose elements are done by as many LWPs as there are vCPUs, the caller among them.
//
// Parts of the range are handed out as they are asked for: large ones first, then ever smaller ones down to `grain`, so nobody waits long for the
// last.  LWPs are made one after the other, each by the one before once it runs; a loop that is over sooner has cost one creation, and one
// that is not longer than `grain`, or has only one vCPU, none.
//
// The function is called for all elements at once, in no order: one element must not wait for another.  It is the caller's object, used by several
// LWPs at once.  The first exception ends the loop and is rethrown when all LWPs have ended; some elements are not done then.
#pragma once

#include <lwp/detail/pending.hpp>
#include <lwp/future.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <ranges>
#include <stop_token>
#include <type_traits>

namespace lwp {
namespace detail {

LWP_API unsigned parallel_workers() noexcept;

/// A loop of `count` elements, without what is done to them.
class LWP_API parallel_loop {
public:
	parallel_loop(std::uint64_t count, std::uint64_t grain) noexcept : count_(count), grain_(std::max<std::uint64_t>(grain, 1)) {}
	parallel_loop(const parallel_loop &) = delete;
	parallel_loop &operator=(const parallel_loop &) = delete;

	/// Returns whether all elements were done; throws the first exception.
	bool run();
	void work() noexcept;
	void ended() noexcept { helpers_.done(); }

protected:
	~parallel_loop() = default;
	/// Does some elements; false: the loop is to end.
	virtual bool part(std::uint64_t first, std::uint64_t count) = 0;

private:
	void recruit() noexcept;
	[[nodiscard]] bool take(std::uint64_t *first, std::uint64_t *count) noexcept;

	const std::uint64_t count_;
	const std::uint64_t grain_;
	const unsigned workers_ = parallel_workers();
	std::atomic<unsigned> recruited_{0};
	std::atomic<bool> ended_{false};
	std::atomic<bool> failed_{false};
	pending helpers_;
	std::exception_ptr error_;  // by who set failed_; read when nobody else is left
	alignas(64) std::atomic<std::uint64_t> next_{0};
};

/// `at(i)` does element i.
template <class At>
class parallel_loop_of final : public parallel_loop {
public:
	parallel_loop_of(std::uint64_t count, std::uint64_t grain, const std::stop_token *stop, At &at) noexcept
	    : parallel_loop(count, grain), stop_(stop), at_(at) {}

	bool part(std::uint64_t first, std::uint64_t count) override {
		for (const std::uint64_t last = first + count; first != last; ++first) {
			if (stop_ != nullptr && stop_->stop_requested()) {
				return false;
			}
			at_(first);
		}
		return true;
	}

private:
	const std::stop_token *stop_;
	At &at_;
};

template <class At>
bool parallel_run(std::uint64_t count, std::uint64_t grain, const std::stop_token *stop, At at) {
	parallel_loop_of<At> loop(count, grain, stop, at);
	if (count > grain && parallel_workers() > 1) {
		return loop.run();
	}
	return loop.part(0, count);
}

template <class First, class Last>
using index_of = std::common_type_t<First, Last>;

template <class First, class Last, class F>
bool parallel_indices(const std::stop_token *stop, First first, Last last, std::uint64_t grain, F &f) {
	using index = index_of<First, Last>;
	const auto begin = static_cast<index>(first);
	const auto end = static_cast<index>(last);
	if (end <= begin) {
		return true;
	}
	// Differences and sums modulo 2^64: right for signed ones that lie far apart, too.
	const std::uint64_t count = static_cast<std::uint64_t>(end) - static_cast<std::uint64_t>(begin);
	return parallel_run(
	    count, grain, stop, [&f, begin](std::uint64_t i) { std::invoke(f, static_cast<index>(static_cast<std::uint64_t>(begin) + i)); });
}

}  // namespace detail

/// Calls f(i) for each i in [first, last).  At least `grain` elements are done by one LWP at a time: choose it so that so many take some microseconds.
/// Blocks until all are done.  Throws what f throws.
template <std::integral First, std::integral Last, class F>
	requires std::is_invocable_v<F &, detail::index_of<First, Last>>
void parallel_for(First first, Last last, F &&f) { (void)detail::parallel_indices(nullptr, first, last, 1, f); }
template <std::integral First, std::integral Last, class F>
	requires std::is_invocable_v<F &, detail::index_of<First, Last>>
void parallel_for(First first, Last last, std::size_t grain, F &&f) { (void)detail::parallel_indices(nullptr, first, last, grain, f); }

/// The same until a stop is requested: no element is begun after that.  Returns whether all were done.
template <std::integral First, std::integral Last, class F>
	requires std::is_invocable_v<F &, detail::index_of<First, Last>>
bool parallel_for(const std::stop_token &stop, First first, Last last, F &&f) { return detail::parallel_indices(&stop, first, last, 1, f); }
template <std::integral First, std::integral Last, class F>
	requires std::is_invocable_v<F &, detail::index_of<First, Last>>
bool parallel_for(const std::stop_token &stop, First first, Last last, std::size_t grain, F &&f) {
	return detail::parallel_indices(&stop, first, last, grain, f);
}

/// Calls f(*i) for each i in [first, last).  The same otherwise.
template <std::random_access_iterator I, class F>
	requires std::is_invocable_v<F &, std::iter_reference_t<I>>
void parallel_for_each(I first, I last, F &&f) {
	using difference = std::iter_difference_t<I>;
	(void)detail::parallel_run(static_cast<std::uint64_t>(last - first), 1, nullptr,
	    [&f, first](std::uint64_t i) { std::invoke(f, first[static_cast<difference>(i)]); });
}
template <std::random_access_iterator I, class F>
	requires std::is_invocable_v<F &, std::iter_reference_t<I>>
bool parallel_for_each(const std::stop_token &stop, I first, I last, F &&f) {
	using difference = std::iter_difference_t<I>;
	return detail::parallel_run(static_cast<std::uint64_t>(last - first), 1, &stop,
	    [&f, first](std::uint64_t i) { std::invoke(f, first[static_cast<difference>(i)]); });
}

/// For each element of a range.
template <std::ranges::random_access_range Range, class F>
	requires std::is_invocable_v<F &, std::ranges::range_reference_t<Range>>
void parallel_for_each(Range &&range, F &&f) {
	const auto first = std::ranges::begin(range);
	parallel_for_each(first, first + std::ranges::distance(range), f);
}
template <std::ranges::random_access_range Range, class F>
	requires std::is_invocable_v<F &, std::ranges::range_reference_t<Range>>
bool parallel_for_each(const std::stop_token &stop, Range &&range, F &&f) {
	const auto first = std::ranges::begin(range);
	return parallel_for_each(stop, first, first + std::ranges::distance(range), f);
}

}  // namespace lwp
