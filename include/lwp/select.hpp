// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::select: waits for whichever of several things can happen first, does exactly one of them, and calls its handler.
//
//	lwp::select(lwp::on_receive(jobs, [&](std::optional<job> j) { ... }),  // nullopt: closed
//	    lwp::on_send(results, std::move(r), [&] { ... }),
//	    lwp::on_timeout(10ms, [&] { ... }),
//	    lwp::on_stop(token, [&] { ... }));
//
// Which: a stop request that was there before goes first.  Else one of the sends and receives that can go on, each with the same chance; a
// receive from a closed channel can, a send to one can too, and throws.  Else it blocks until something can, or takes on_default() if there is
// one.  A time that has passed already counts after that first look at the channels.
// A channel may stand in several cases, also for both ends; a select never sends to itself.
// A send that is not taken has not touched its value.
//
// Handlers run in the calling LWP when all is over, outside every lock; they may throw, block, and use the same channels.
// Any LWP and any kernel thread of the application may call it.
#pragma once

#include <lwp/channel.hpp>

#include <array>
#include <concepts>

namespace lwp {
namespace detail {

/// One channel of a select, as the library is told of it; it makes its own of the memory.
struct select_case {
	channel_base *channel;
	void *place;  // a sender's value, a receiver's place_of
	bool send;
	void *library[4];
};

struct LWP_API stop_taker {
	void *grant;
	int by;
	void operator()() const noexcept;  // never switches
};

struct select_stop {
	const std::stop_token *token;
	std::optional<std::stop_callback<stop_taker>> callback;
};

struct select_plan {
	select_case *cases;
	unsigned count;
	select_stop *stops;
	unsigned stop_count;
	steady_time deadline;
	bool blocks;
};

struct select_result {
	enum class what : unsigned char { channel, send_closed, stop, timeout, nothing } what;
	unsigned index;  // of the channel's case or the stop
};
LWP_API select_result select_wait(const select_plan &) noexcept;
[[noreturn]] LWP_API void select_send_closed();  // throws system_error

enum class part : unsigned char { channel, stop, time, otherwise };

struct no_handler {
	void operator()() const noexcept {}
};

template <class T, class F>
struct receive_part {
	static constexpr part kind = part::channel;
	channel<T> *from;
	[[no_unique_address]] F handler;
	place_of<T> value{};
	void enter(select_case &c) {
		c.channel = from;
		c.place = std::addressof(value);
		c.send = false;
	}
	void run() {
		if constexpr (word_of<T> != 0) {
			std::move(handler)(value.full ? std::optional<T>(value.get()) : std::optional<T>());
		} else {
			std::move(handler)(std::move(value));
		}
	}
};

template <class T, class F>
struct send_part {
	static constexpr part kind = part::channel;
	channel<T> *to;
	T *value;  // null: own
	[[no_unique_address]] F handler;
	std::optional<T> own{};
	void enter(select_case &c) {
		c.channel = to;
		c.place = value != nullptr ? value : std::addressof(*own);
		c.send = true;
	}
	void run() { std::move(handler)(); }
};

template <class F>
struct time_part {
	static constexpr part kind = part::time;
	steady_time deadline;
	[[no_unique_address]] F handler;
	void run() { std::move(handler)(); }
};

template <class F>
struct stop_part {
	static constexpr part kind = part::stop;
	std::stop_token token;
	[[no_unique_address]] F handler;
	void run() { std::move(handler)(); }
};

template <class F>
struct default_part {
	static constexpr part kind = part::otherwise;
	[[no_unique_address]] F handler;
	void run() { std::move(handler)(); }
};

template <class C>
concept select_part = requires(C c) {
	{ C::kind } -> std::convertible_to<part>;
	c.run();
};

template <part Kind, class... Parts>
inline constexpr std::size_t count_of = (std::size_t{Parts::kind == Kind} + ... + 0);

/// For each part of that kind, in order, its place among all.
template <part Kind, class... Parts>
constexpr auto places_of() {
	std::array<std::size_t, count_of<Kind, Parts...> + 1> places{};
	std::size_t at = 0, n = 0;
	((Parts::kind == Kind ? void(places[n++] = at++) : void(at++)), ...);
	return places;
}

}  // namespace detail

/// Receives; calls handler(std::optional<T>): nullopt if the channel is closed and nothing is left.
template <class T, class F>
[[nodiscard]] auto on_receive(channel<T> &from, F handler) {
	static_assert(std::is_invocable_v<F, std::optional<T>>, "on_receive(channel<T>, handler): the handler takes a std::optional<T>");
	return detail::receive_part<T, F>{&from, std::move(handler)};
}

/// Sends; then calls handler().  An rvalue is moved from only if this case is taken, and must live that long; anything else is copied at once.
/// If the channel is closed, select() throws std::system_error broken_pipe.
template <class T, class U, class F = detail::no_handler>
[[nodiscard]] auto on_send(channel<T> &to, U &&value, F handler = {}) {
	static_assert(std::is_convertible_v<U, T>,
	    "on_send(channel<T>, value): the value must be a T or convert to one; a move-only one needs std::move()");
	static_assert(std::is_invocable_v<F>, "on_send(channel, value, handler): the handler takes no arguments");
	if constexpr (std::is_same_v<U, T>) {
		return detail::send_part<T, F>{&to, std::addressof(value), std::move(handler)};
	} else {
		return detail::send_part<T, F>{&to, nullptr, std::move(handler), std::optional<T>(std::in_place, std::forward<U>(value))};
	}
}

/// Once `deadline` has passed.  Of several the earliest counts.  Another clock than the steady one is asked once, at the call.
template <class Clock, class Duration, class F = detail::no_handler>
[[nodiscard]] auto on_deadline(const std::chrono::time_point<Clock, Duration> &deadline, F handler = {}) {
	static_assert(std::is_invocable_v<F>, "on_deadline(time, handler): the handler takes no arguments");
	if constexpr (std::is_same_v<Clock, std::chrono::steady_clock>) {
		return detail::time_part<F>{std::chrono::ceil<detail::steady_time::duration>(deadline), std::move(handler)};
	} else {
		return detail::time_part<F>{detail::deadline_after(deadline - Clock::now()), std::move(handler)};
	}
}

/// Once `duration` has passed, from when this is evaluated.
template <class Rep, class Period, class F = detail::no_handler>
[[nodiscard]] auto on_timeout(const std::chrono::duration<Rep, Period> &duration, F handler = {}) {
	static_assert(std::is_invocable_v<F>, "on_timeout(duration, handler): the handler takes no arguments");
	return detail::time_part<F>{detail::deadline_after(duration), std::move(handler)};
}

/// Once a stop is requested.
template <class F = detail::no_handler>
[[nodiscard]] auto on_stop(std::stop_token token, F handler = {}) {
	static_assert(std::is_invocable_v<F>, "on_stop(token, handler): the handler takes no arguments");
	return detail::stop_part<F>{std::move(token), std::move(handler)};
}

/// If nothing else can happen at once: select() does not block.  The channels are looked at one after the other, not all at one moment.
template <class F = detail::no_handler>
[[nodiscard]] auto on_default(F handler = {}) {
	static_assert(std::is_invocable_v<F>, "on_default(handler): the handler takes no arguments");
	return detail::default_part<F>{std::move(handler)};
}

/// Returns the index of the case that was taken, counted from 0 in the order of the arguments.  Throws std::system_error: broken_pipe, a send
/// to a closed channel was taken; and what the handler throws.
template <class... Parts>
std::size_t select(Parts &&...parts) {
	static_assert(sizeof...(Parts) != 0, "lwp::select: without a case it would wait for ever");
	static_assert((detail::select_part<std::remove_cvref_t<Parts>> && ...),
	    "lwp::select takes on_receive(), on_send(), on_timeout(), on_deadline(), on_stop() and on_default()");
	static_assert((!std::is_lvalue_reference_v<Parts> && ...), "lwp::select: a case serves once; write it in the call");
	if constexpr ((detail::select_part<Parts> && ...)) {
		using detail::part;
		constexpr auto channels = detail::places_of<part::channel, Parts...>();
		constexpr auto stops = detail::places_of<part::stop, Parts...>();
		constexpr auto defaults = detail::places_of<part::otherwise, Parts...>();
		static_assert(channels.size() - 1 <= 64, "lwp::select: more than 64 channels");
		static_assert(defaults.size() - 1 <= 1, "lwp::select: one on_default() is enough");

		std::array<detail::select_case, channels.size()> cases;
		std::array<detail::select_stop, stops.size() - 1> tokens{};
		detail::select_plan plan{cases.data(), 0, tokens.data(), 0, detail::steady_time::max(), defaults.size() == 1};
		std::size_t at = 0, earliest = 0;
		const auto enter = [&](auto &p) {
			constexpr part kind = std::remove_reference_t<decltype(p)>::kind;
			if constexpr (kind == part::channel) {
				p.enter(cases[plan.count++]);
			} else if constexpr (kind == part::stop) {
				tokens[plan.stop_count++].token = &p.token;
			} else if constexpr (kind == part::time) {
				if (p.deadline <= plan.deadline) {
					plan.deadline = p.deadline;
					earliest = at;
				}
			}
			at++;
		};
		(enter(parts), ...);

		using what = enum detail::select_result::what;
		const detail::select_result result = detail::select_wait(plan);
		const std::size_t taken = result.what == what::stop ? stops[result.index]
		    : result.what == what::timeout                  ? earliest
		    : result.what == what::nothing                  ? defaults[0]
		                                                    : channels[result.index];
		if (result.what == what::send_closed) {
			detail::select_send_closed();
		}
		at = 0;
		((at++ == taken ? parts.run() : void()), ...);
		return taken;
	}
}

}  // namespace lwp
