// SPDX-License-Identifier: BSD-2-Clause
//
// std's <future> on LWPs ([futures] of the C++20 standard): promise, future, shared_future, packaged_task, async.  Only the waiting LWP blocks; all of it
// works between LWPs of any vCPU and kernel threads of the application.  Only what std leaves open or does not have is said here.
//
// Errors are std's: std::future_error with std::future_errc.  Where std leaves the use of an object without a shared state undefined, it throws
// no_state.  A shared state is one allocation.
// Of two calls that set the same result at once one throws promise_already_satisfied without waiting for the other.
// The _at_thread_exit forms and async count an LWP as ended when its specific data are destroyed (lwp::specific, lwp_tss_*); for the LWP that
// returns from main() that is never.  An LWP that leaves by _lwp_exit() is not unwound: what it was to set stays unset.
#pragma once

#include <lwp/detail/future_state.hpp>
#include <lwp/thread.hpp>

#include <atomic>
#include <cerrno>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace lwp {

// std's own.
using std::future_category;
using std::future_errc;
using std::future_error;
using std::future_status;
using std::launch;

template <class R>
class future;
template <class R>
class shared_future;
template <class R>
class promise;
template <class Signature>
class packaged_task;

namespace detail {

struct future_access;

/// What future and shared_future have in common.
template <class R>
class future_base {
public:
	[[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }
	/// Blocks until there is a result.  A deferred function is called here, by the first that comes.
	void wait() const { state_.checked()->wait(); }
	/// The same, or until a stop is requested: returns whether there is a result.  A deferred function is called all the same.
	bool wait(const std::stop_token &stop) const {
		state_.checked()->run_if_deferred();
		return state_->wait(steady_time::max(), stop);
	}
	/// future_status::timeout also if a stop request ended it.
	template <class Rep, class Period>
	std::future_status wait_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop = {}) const {
		return wait_steady(deadline_after(duration), stop);
	}
	template <class Clock, class Duration>
	std::future_status wait_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop = {}) const {
		std::future_status status{};
		(void)attempt_until(deadline, [&](steady_time t) {
			status = wait_steady(t, stop);
			return status != std::future_status::timeout || stop.stop_requested();
		});
		return status;
	}

protected:
	future_base() noexcept = default;
	explicit future_base(state_ref<result_state<R>> s) noexcept : state_(std::move(s)) {}

	state_ref<result_state<R>> state_;

private:
	std::future_status wait_steady(steady_time deadline, const std::stop_token &stop) const {
		if (state_.checked()->deferred()) {
			return std::future_status::deferred;
		}
		const bool ready = stop.stop_possible() ? state_->wait(deadline, stop) : state_->wait(deadline);
		return ready ? std::future_status::ready : std::future_status::timeout;
	}
};

}  // namespace detail

/// [futures.unique.future]
template <class R>
class future : public detail::future_base<R> {
public:
	future() noexcept = default;
	future(future &&) noexcept = default;
	/// Blocks if it lets go of the last future of an async().
	future &operator=(future &&) noexcept = default;
	/// The same.
	~future() = default;

	/// Blocks until there is a result; takes it, or throws what was set.  Not valid() afterwards.
	R get() {
		(void)this->state_.checked();
		const auto state = std::move(this->state_);
		state->wait();
		return state->take();
	}
	shared_future<R> share() noexcept { return shared_future<R>(std::move(*this)); }

private:
	friend class shared_future<R>;
	friend struct detail::future_access;
	explicit future(detail::state_ref<detail::result_state<R>> s) noexcept : detail::future_base<R>(std::move(s)) {}
};

/// [futures.shared.future]
template <class R>
class shared_future : public detail::future_base<R> {
public:
	shared_future() noexcept = default;
	shared_future(const shared_future &) noexcept = default;
	shared_future(shared_future &&) noexcept = default;
	shared_future(future<R> &&f) noexcept : detail::future_base<R>(std::move(f.state_)) {}
	shared_future &operator=(const shared_future &) noexcept = default;
	shared_future &operator=(shared_future &&) noexcept = default;
	~shared_future() = default;

	/// Blocks until there is a result; a reference to it, or throws what was set.
	decltype(auto) get() const {
		this->wait();
		return this->state_->look();
	}
};

namespace detail {

struct future_access {
	/// Takes over a reference.
	template <class R>
	static future<R> make(result_state<R> *s) noexcept {
		return future<R>(state_ref<result_state<R>>(s));
	}
	/// The one future of a provider.
	template <class R, class State>
	static future<R> retrieve(const state_ref<State> &s) {
		if (!s.checked()->retrieve()) {
			throw_future_error(std::future_errc::future_already_retrieved);
		}
		s->add_ref();
		return make<R>(s.get());
	}
};

template <class R>
class promise_base {
public:
	promise_base() : state_(new result_state<R>) {}
	template <class Allocator>
	promise_base(std::allocator_arg_t, const Allocator &a) : state_(allocated_state<R, Allocator>::make(a)) {}
	promise_base(promise_base &&) noexcept = default;
	promise_base &operator=(promise_base &&other) noexcept {
		promise_base(std::move(other)).swap(*this);
		return *this;
	}
	~promise_base() {
		if (state_) {
			state_.let_go()->abandon();
		}
	}
	void swap(promise_base &other) noexcept { std::swap(state_, other.state_); }

	/// Throws future_already_retrieved | no_state.
	future<R> get_future() { return future_access::retrieve<R>(state_); }
	/// Throws promise_already_satisfied | no_state.
	void set_exception(std::exception_ptr error) {
		claim_and_store_error(state_.checked(), std::move(error));
		state_->ready();
	}
	/// The same, and std::bad_alloc.
	void set_exception_at_thread_exit(std::exception_ptr error) {
		claim_and_store_error(state_.checked(), std::move(error));
		ready_at_exit_or_undo(state_.get());
	}

protected:
	template <class... Args>
	void set(Args &&...args) {
		claim_and_store(state_.checked(), std::forward<Args>(args)...);
		state_->ready();  // whoever waited may destroy the promise from here: ours is the last access
	}
	template <class... Args>
	void set_at_thread_exit(Args &&...args) {
		claim_and_store(state_.checked(), std::forward<Args>(args)...);
		ready_at_exit_or_undo(state_.get());
	}

private:
	state_ref<result_state<R>> state_;
};

}  // namespace detail

/// [futures.promise]  Whoever got the result may destroy the promise while set_value() returns.
template <class R>
class promise : public detail::promise_base<R> {
public:
	promise() = default;
	/// The shared state is allocated by a copy of `a`, which gives it back when nobody refers to it any more.
	template <class Allocator>
	promise(std::allocator_arg_t, const Allocator &a) : detail::promise_base<R>(std::allocator_arg, a) {}
	/// Throws promise_already_satisfied | no_state, and what the copy throws: then another may be set.
	void set_value(const R &value) { this->set(value); }
	void set_value(R &&value) { this->set(std::move(value)); }
	/// The same, and std::bad_alloc.
	void set_value_at_thread_exit(const R &value) { this->set_at_thread_exit(value); }
	void set_value_at_thread_exit(R &&value) { this->set_at_thread_exit(std::move(value)); }
	void swap(promise &other) noexcept { detail::promise_base<R>::swap(other); }
};

template <class R>
class promise<R &> : public detail::promise_base<R &> {
public:
	promise() = default;
	template <class Allocator>
	promise(std::allocator_arg_t, const Allocator &a) : detail::promise_base<R &>(std::allocator_arg, a) {}
	void set_value(R &value) { this->set(value); }
	void set_value_at_thread_exit(R &value) { this->set_at_thread_exit(value); }
	void swap(promise &other) noexcept { detail::promise_base<R &>::swap(other); }
};

template <>
class promise<void> : public detail::promise_base<void> {
public:
	promise() = default;
	template <class Allocator>
	promise(std::allocator_arg_t, const Allocator &a) : detail::promise_base<void>(std::allocator_arg, a) {}
	void set_value() { this->set(); }
	void set_value_at_thread_exit() { this->set_at_thread_exit(); }
	void swap(promise &other) noexcept { detail::promise_base<void>::swap(other); }
};

template <class R>
void swap(promise<R> &a, promise<R> &b) noexcept {
	a.swap(b);
}

namespace detail {

template <class R, class... Args>
class task_state : public result_state<R> {
public:
	virtual void call(Args... args) noexcept = 0;  // claimed; stores the result
	virtual task_state *again() = 0;               // a fresh one for the same function, which moves there
};

template <class F, class R, class... Args>
class task_state_of final : public task_state<R, Args...> {
public:
	template <class Given>
	explicit task_state_of(std::in_place_t, Given &&f) : f_(std::forward<Given>(f)) {}
	void call(Args... args) noexcept override { store_result_of<R>(this, f_, std::forward<Args>(args)...); }
	task_state<R, Args...> *again() override { return new task_state_of(std::in_place, std::move(f_)); }

private:
	F f_;
};

// The signature that a class template argument is deduced from.
template <class>
struct call_signature;
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...)> {
	using type = R(Args...);
};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) &> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) const> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) const &> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) noexcept> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) &noexcept> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) const noexcept> : call_signature<R (C::*)(Args...)> {};
template <class R, class C, class... Args>
struct call_signature<R (C::*)(Args...) const &noexcept> : call_signature<R (C::*)(Args...)> {};

}  // namespace detail

/// [futures.task]
template <class R, class... Args>
class packaged_task<R(Args...)> {
public:
	packaged_task() noexcept = default;
	template <class F>
		requires(!std::is_same_v<std::remove_cvref_t<F>, packaged_task> && std::is_invocable_r_v<R, std::decay_t<F> &, Args...>)
	explicit packaged_task(F &&f) : state_(new detail::task_state_of<std::decay_t<F>, R, Args...>(std::in_place, std::forward<F>(f))) {}
	packaged_task(packaged_task &&) noexcept = default;
	packaged_task &operator=(packaged_task &&other) noexcept {
		packaged_task(std::move(other)).swap(*this);
		return *this;
	}
	~packaged_task() {
		if (state_) {
			state_.let_go()->abandon();
		}
	}

	void swap(packaged_task &other) noexcept { std::swap(state_, other.state_); }
	[[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }
	/// Throws future_already_retrieved | no_state.
	future<R> get_future() { return detail::future_access::retrieve<R>(state_); }
	/// Calls the function; what it throws goes to the future.  Throws promise_already_satisfied it was called before | no_state.
	void operator()(Args... args) {
		claim();
		state_->call(std::forward<Args>(args)...);
		state_->ready();
	}
	/// The same, and std::bad_alloc before the call.
	void make_ready_at_thread_exit(Args... args) {
		claim();
		detail::ready_at_exit_or_undo(state_.get());
		state_->call(std::forward<Args>(args)...);
	}
	/// A fresh state for the same function.  Throws no_state | std::bad_alloc, and what moving the function throws.
	void reset() { *this = packaged_task(state_.checked()->again()); }

private:
	using state = detail::task_state<R, Args...>;
	explicit packaged_task(state *s) noexcept : state_(s) {}
	void claim() {
		if (!state_.checked()->claim()) {
			detail::throw_future_error(std::future_errc::promise_already_satisfied);
		}
	}
	detail::state_ref<state> state_;
};

template <class R, class... Args>
packaged_task(R (*)(Args...)) -> packaged_task<R(Args...)>;
template <class F>
packaged_task(F) -> packaged_task<typename detail::call_signature<decltype(&F::operator())>::type>;

template <class R, class... Args>
void swap(packaged_task<R(Args...)> &a, packaged_task<R(Args...)> &b) noexcept {
	a.swap(b);
}

namespace detail {

template <class F, class... Args>
auto *make_call_state(F &&f, Args &&...args) {
	using state = call_state<result_of_decayed<F, Args...>, bound_call<std::decay_t<F>, std::decay_t<Args>...>>;
	return new state(std::forward<F>(f), std::forward<Args>(args)...);
}

template <class R, class Call>
void async_launch(const attributes &attr, call_state<R, Call> *state) {
	start_detached<async_start<R, Call>>(attr, state);
	state->wait_at_release();
}

}  // namespace detail

/// [futures.async] with the attributes of the new LWP.  Throws std::system_error as thread's constructor, std::bad_alloc, and what copying throws.
template <class F, class... Args>
	requires(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
[[nodiscard]] future<detail::result_of_decayed<F, Args...>> async(const attributes &attr, F &&f, Args &&...args) {
	detail::state_ref state(detail::make_call_state(std::forward<F>(f), std::forward<Args>(args)...));
	detail::async_launch(attr, state.get());
	return detail::future_access::make<detail::result_of_decayed<F, Args...>>(state.let_go());
}

/// [futures.async]  launch::async: a new LWP.  Both: the same, or deferred if there can be no new LWP.  The last future of a new LWP blocks when
/// it goes, until the LWP has ended; an LWP has ended before its result is seen.  Throws as above; std::system_error only for launch::async alone, and
/// EINVAL for a policy that is neither.
template <class F, class... Args>
	requires(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
[[nodiscard]] future<detail::result_of_decayed<F, Args...>> async(std::launch policy, F &&f, Args &&...args) {
	const bool may_defer = (policy & std::launch::deferred) == std::launch::deferred;
	const bool may_start = (policy & std::launch::async) == std::launch::async;
	if (!may_defer && !may_start) {
		detail::thread_failed(EINVAL);
	}
	detail::state_ref state(detail::make_call_state(std::forward<F>(f), std::forward<Args>(args)...));
	bool started = false;
	if (may_start) {
		try {
			detail::async_launch(attributes{}, state.get());
			started = true;
		} catch (const std::system_error &) {
			if (!may_defer) {
				throw;
			}
		}
	}
	if (!started) {
		state->defer();
	}
	return detail::future_access::make<detail::result_of_decayed<F, Args...>>(state.let_go());
}

template <class F, class... Args>
	requires(!std::is_same_v<std::decay_t<F>, std::launch> && !std::is_same_v<std::decay_t<F>, attributes> &&
	    std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
[[nodiscard]] future<detail::result_of_decayed<F, Args...>> async(F &&f, Args &&...args) {
	return async(std::launch::async | std::launch::deferred, std::forward<F>(f), std::forward<Args>(args)...);
}

}  // namespace lwp

/// [futures.promise]/2
template <class R, class Allocator>
struct std::uses_allocator<lwp::promise<R>, Allocator> : std::true_type {};
