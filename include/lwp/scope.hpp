// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::scope: LWPs that do not outlive a block of code.
//
//   child throws           stop is requested; join() rethrows the first exception, later ones are dropped (a child's own future keeps its own)
//   join()                 waits for all children; more may be spawned afterwards
//   ~scope                 children that still run are asked to stop and waited for; an exception that nobody joined for is dropped
//   stop                   by request_stop(), a child's exception, the deadline, or the stop of the token that the scope was made with; it stays
//   spawn after a stop     the child runs as ever, its token says stop from the beginning
//
// A child whose function takes a std::stop_token first gets the scope's.  A scope inside a child made with that token is stopped with the outer
// one.  Children that have ended leave nothing behind, so their number has no limit but that of those alive at once.
#pragma once

#include <lwp/future.hpp>
#include <lwp/stop.hpp>
#include <lwp/thread.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <iterator>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace lwp {

class scope;

namespace detail {

/// What an LWP of a scope begins with.
template <class Call>
struct scope_child : exit_note {
	scope *owner;
	std::optional<Call> call;

	template <class... Given>
	explicit scope_child(scope *s, Given &&...given);
	static void run(void *p);
};

template <class F, class... Args>
inline constexpr bool takes_stop_token = std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>;

template <class F, class... Args>
inline constexpr bool spawnable = takes_stop_token<F, Args...> || std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>;

// Empty for what cannot be spawned: compilers look at the result type before they look at the constraint.
template <bool Token, bool Spawnable, class F, class... Args>
struct spawn_result {};
template <class F, class... Args>
struct spawn_result<false, true, F, Args...> {
	using type = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
	using call = bound_call<std::decay_t<F>, std::decay_t<Args>...>;
};
template <class F, class... Args>
struct spawn_result<true, true, F, Args...> {
	using type = std::invoke_result_t<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>;
	using call = bound_call<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>;
};
template <class F, class... Args>
using spawned = spawn_result<takes_stop_token<F, Args...>, spawnable<F, Args...>, F, Args...>;

/// A child's call that leaves its result in a future.
template <class R, class Call>
class promised_call {
public:
	template <class... Given>
	explicit promised_call(state_ref<result_state<R>> s, Given &&...given) : state_(std::move(s)), call_(std::forward<Given>(given)...) {}
	/// The scope is told first: who sees the exception in the future finds the siblings asked to stop.
	template <class Failed>
	void operator()(const Failed &failed) {
		try {
			if constexpr (std::is_void_v<R>) {
				call_();
				state_->emplace();
			} else {
				state_->emplace(call_());
			}
		} catch (...) {
			state_->set_error(std::current_exception());
			failed();
		}
		state_->ready();
	}

private:
	state_ref<result_state<R>> state_;
	Call call_;
};

/// A child's call without a result.
template <class Call>
class plain_call {
public:
	template <class... Given>
	explicit plain_call(Given &&...given) : call_(std::forward<Given>(given)...) {}
	template <class Failed>
	void operator()(const Failed &failed) {
		try {
			(void)call_();
		} catch (...) {
			failed();
		}
	}

private:
	Call call_;
};

}  // namespace detail

/// Made, joined and destroyed by one LWP or kernel thread, its owner.  Children are spawned by the owner and by children; by somebody else
/// only while a child that cannot end before is there.
class LWP_API scope {
public:
	scope() = default;
	/// A stop of `outer` is one of this scope.
	explicit scope(const std::stop_token &outer);
	/// A stop is requested at `deadline`, by an LWP made for it; throws as its constructor.
	template <class Clock, class Duration>
	explicit scope(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &outer = {}) : scope(outer) {
		watch_ = jthread({.name = "deadline"}, [deadline, source = stop_](const std::stop_token &gone) mutable {
			if (this_thread::sleep_until(deadline, gone)) {
				source.request_stop();
			}
		});
	}
	/// The same, `limit` from now.
	template <class Rep, class Period>
	explicit scope(const std::chrono::duration<Rep, Period> &limit, const std::stop_token &outer = {})
	    : scope(detail::deadline_after(limit), outer) {}
	scope(const scope &) = delete;
	scope &operator=(const scope &) = delete;
	/// Blocks until all children have ended.
	~scope();

	/// Runs f(args...), or f(token, args...) if it takes one, in a new LWP; returns the future of its result, which need not be kept and does not
	/// block when it goes.  The result is there before the LWP has ended.  Throws as thread's constructor, and std::bad_alloc.
	template <class F, class... Args>
		requires(!std::is_same_v<std::decay_t<F>, attributes> && detail::spawnable<F, Args...>)
	future<typename detail::spawned<F, Args...>::type> spawn(F &&f, Args &&...args) {
		return spawn(attributes{}, std::forward<F>(f), std::forward<Args>(args)...);
	}
	/// The same with attributes; `detached` says nothing here.
	template <class F, class... Args>
		requires(detail::spawnable<F, Args...>)
	future<typename detail::spawned<F, Args...>::type> spawn(const attributes &attr, F &&f, Args &&...args) {
		using result = typename detail::spawned<F, Args...>::type;
		using state = detail::result_state<result>;
		detail::state_ref<state> s(new state);
		(void)s->claim();
		launch<detail::promised_call<result, typename detail::spawned<F, Args...>::call>>(
		    attr, s, std::forward<F>(f), std::forward<Args>(args)...);
		return detail::future_access::make<result>(s.let_go());
	}

	/// spawn() without a future: what it returns is dropped, and nothing is allocated but the LWP.
	template <class F, class... Args>
		requires(!std::is_same_v<std::decay_t<F>, attributes> && detail::spawnable<F, Args...>)
	void start(F &&f, Args &&...args) { start(attributes{}, std::forward<F>(f), std::forward<Args>(args)...); }
	template <class F, class... Args>
		requires(detail::spawnable<F, Args...>)
	void start(const attributes &attr, F &&f, Args &&...args) {
		launch<detail::plain_call<typename detail::spawned<F, Args...>::call>>(attr, std::forward<F>(f), std::forward<Args>(args)...);
	}

	/// Blocks until all children have ended; throws the first exception that left one since the last join().  By the owner.
	void join();
	/// join(), then what they returned, in the order of `children`, whose futures are used up.
	template <class R>
	std::vector<R> results(std::vector<future<R>> &children) {
		join();
		std::vector<R> out;
		out.reserve(children.size());
		for (future<R> &child : children) {
			out.push_back(child.get());
		}
		return out;
	}
	/// The same for some of different types.
	template <class... R>
	std::tuple<R...> join_all(future<R> &...children) {
		join();
		return std::tuple<R...>{children.get()...};
	}

	/// The stop that all children see: its source, its token, whether it was requested; and the request (true for the first), which
	/// calls the stop callbacks in the caller.  None blocks by itself.
	[[nodiscard]] std::stop_source get_stop_source() const noexcept { return stop_; }
	[[nodiscard]] std::stop_token get_stop_token() const noexcept { return stop_.get_token(); }
	[[nodiscard]] bool stop_requested() const noexcept { return stop_.stop_requested(); }
	bool request_stop() noexcept { return stop_.request_stop(); }

private:
	template <class>
	friend struct detail::scope_child;

	struct stopper {
		std::stop_source stop;
		void operator()() noexcept { stop.request_stop(); }
	};

	/// Starts an LWP with a Call made of `before`, f, the token if f takes one, and args.
	template <class Call, class F, class... Args>
	void launch(const attributes &attr, F &&f, Args &&...args) {
		if constexpr (detail::takes_stop_token<F, Args...>) {
			launch_bound<Call>(attr, std::forward<F>(f), stop_.get_token(), std::forward<Args>(args)...);
		} else {
			launch_bound<Call>(attr, std::forward<F>(f), std::forward<Args>(args)...);
		}
	}
	template <class Call, class State, class F, class... Args>
	void launch(const attributes &attr, detail::state_ref<State> &s, F &&f, Args &&...args) {
		if constexpr (detail::takes_stop_token<F, Args...>) {
			launch_bound<Call>(attr, s, std::forward<F>(f), stop_.get_token(), std::forward<Args>(args)...);
		} else {
			launch_bound<Call>(attr, s, std::forward<F>(f), std::forward<Args>(args)...);
		}
	}
	template <class Call, class... Given>
	void launch_bound(const attributes &attr, Given &&...given) {
		children_.add();
		try {
			detail::start_detached<detail::scope_child<Call>>(attr, this, std::forward<Given>(given)...);
		} catch (...) {
			children_.done();
			throw;
		}
	}
	void failed() noexcept;  // by a child, in its handler

	std::stop_source stop_;
	detail::pending children_;
	std::atomic<bool> failed_{false};
	std::exception_ptr error_;  // by who set failed_; read by the owner when no child is left
	std::optional<std::stop_callback<stopper>> outer_;
	jthread watch_;  // last: it ends before what it uses
};

namespace detail {

template <class Call>
template <class... Given>
scope_child<Call>::scope_child(scope *s, Given &&...given) : owner(s), call(std::in_place, std::forward<Given>(given)...) {
	this->en_run = [](exit_note *n) noexcept { static_cast<scope_child *>(n)->owner->children_.done(); };
}

template <class Call>
void scope_child<Call>::run(void *p) {
	auto *self = static_cast<scope_child *>(p);
	(*self->call)([self] { self->owner->failed(); });
	self->call.reset();
	at_lwp_end(self);
}

}  // namespace detail
}  // namespace lwp
