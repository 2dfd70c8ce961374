// SPDX-License-Identifier: BSD-2-Clause
//
// Channels that the clock sends to: lwp::after() once, lwp::ticker again and again.  They are channels of time points, so a select may wait for
// them among others.  No thread stands behind them but a timer of a vCPU; it goes when they go, whether it has fired or not.
//
//	lwp::ticker every(100ms);
//	auto enough = lwp::after(1s);
//	lwp::select(lwp::on_receive(every, f), lwp::on_receive(enough, g));
//
// One time waits in the channel for its receiver.  Times never come before they are due.
#pragma once

#include <lwp/channel.hpp>

namespace lwp {

/// What after() returns and a ticker is.  Do not send to it.  It must not outlive the runtime in which it was made.
class LWP_API timer_channel : public channel<std::chrono::steady_clock::time_point> {
public:
	~timer_channel();

	/// No more times will come; one that has come stays.  True if more would have come.  Does not close the channel: a receiver would take
	/// that for a time; close() does both.  Never blocks.
	bool stop() noexcept;

protected:
	/// What its clock counts in.
	using steady_duration = std::chrono::steady_clock::duration;
	/// Throws std::bad_alloc.
	timer_channel(detail::steady_time first, steady_duration period);

private:
	template <class Rep, class Period>
	friend timer_channel after(const std::chrono::duration<Rep, Period> &);
	detail::storage<192> timer_;
};

/// A channel that gets the time once, when `duration` has passed.  Throws std::bad_alloc.
template <class Rep, class Period>
[[nodiscard]] timer_channel after(const std::chrono::duration<Rep, Period> &duration) {
	return timer_channel(detail::deadline_after(duration), timer_channel::steady_duration::zero());
}

/// Gets the time every `period`, first when one has passed.  The beat is kept: a time that comes late does not shift those after it.  For a slow
/// receiver times are dropped: one waits at most.
class ticker : public timer_channel {
public:
	/// Throws std::system_error: invalid_argument, no positive period | std::bad_alloc.
	template <class Rep, class Period>
	explicit ticker(const std::chrono::duration<Rep, Period> &period) : ticker(checked(period)) {}

private:
	struct in_ns {
		steady_duration period;
	};
	explicit ticker(in_ns p) : timer_channel(detail::deadline_after(p.period), p.period) {}

	template <class Rep, class Period>
	static in_ns checked(const std::chrono::duration<Rep, Period> &period) {
		if (period <= period.zero()) {
			bad_period();
		}
		// As double first: hours::max() has no count of nanoseconds.
		return {std::chrono::duration<double>(period) >= std::chrono::duration<double>(steady_duration::max())
		        ? steady_duration::max()
		        : std::chrono::ceil<steady_duration>(period)};
	}
	[[noreturn]] LWP_API static void bad_period();
};

}  // namespace lwp
