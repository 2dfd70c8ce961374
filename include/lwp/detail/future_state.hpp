// SPDX-License-Identifier: BSD-2-Clause
//
// What promises, futures, tasks and async() share: a state with a result in it, references to it, and the LWP that makes a result.
#pragma once

#include <lwp/detail/pending.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/thread.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

namespace lwp::detail {

[[noreturn]] LWP_API void throw_future_error(std::future_errc);

/// What a result and those who wait for it share.  A provider claims it, stores the result, and says that it is ready; with that its own reference
/// may be the last.
class LWP_API future_state : exit_note {
public:
	future_state() noexcept = default;
	future_state(const future_state &) = delete;
	future_state &operator=(const future_state &) = delete;

	void add_ref() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }  // relaxed: by who has one
	void release() noexcept {
		if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {  // release: what we did with it; acquire: what the others did
			last_release();
		}
	}

	// ---- the provider's half
	/// True for exactly one: nobody else sets the result any more.
	[[nodiscard]] bool claim() noexcept { return !claimed_.exchange(true, std::memory_order_relaxed); }  // relaxed: no news in it
	void unclaim() noexcept { claimed_.store(false, std::memory_order_relaxed); }                        // relaxed: as claim()
	[[nodiscard]] bool claimed() const noexcept { return claimed_.load(std::memory_order_relaxed); }     // relaxed: as claim()
	/// Once; a provider's reference keeps it no longer.
	void ready() noexcept { pending_.done(); }
	/// The same, once the calling LWP has ended.  Throws std::bad_alloc.
	void ready_at_exit();
	void set_error(std::exception_ptr error) noexcept { error_ = std::move(error); }
	/// By the provider that goes: broken_promise, unless it was claimed.  Releases it.
	void abandon() noexcept;
	/// For the one future that is made of it.
	[[nodiscard]] bool retrieve() noexcept { return !retrieved_.exchange(true, std::memory_order_relaxed); }  // relaxed: no news in it
	/// Its last release waits until it is ready ([futures.async]/5).  Before others know it, this and the next.
	void wait_at_release() noexcept { blocking_ = true; }
	void defer() noexcept { deferred_.store(true, std::memory_order_relaxed); }

	// ---- the waiter's half
	void wait() {
		run_if_deferred();
		pending_.wait("future");
	}
	bool wait(steady_time deadline, const std::stop_token &stop) { return pending_.wait("future", deadline, stop); }
	bool wait(steady_time deadline) { return pending_.wait("future", deadline); }
	[[nodiscard]] bool deferred() const noexcept { return deferred_.load(std::memory_order_relaxed); }  // relaxed: no news in it
	/// The first that waits calls a deferred function; others wait for it.
	void run_if_deferred() {
		if (deferred() && deferred_.exchange(false, std::memory_order_relaxed)) {  // relaxed: the function was there before the reference
			run_deferred();
		}
	}
	/// Ready, and waited for.
	void rethrow() const {
		if (error_) {
			std::rethrow_exception(error_);
		}
	}

protected:
	virtual ~future_state();
	virtual void run_deferred() {}
	/// By the last reference: gives the memory back to where it came from.
	virtual void destroy() noexcept { delete this; }

private:
	void last_release() noexcept;

	std::atomic<unsigned> refs_{1};
	std::atomic<bool> claimed_{false};
	std::atomic<bool> retrieved_{false};
	std::atomic<bool> deferred_{false};
	bool blocking_ = false;     // before others know it
	pending pending_{1};        // the result
	std::exception_ptr error_;  // by who claimed it; read once ready
};

/// One reference.
template <class State>
class state_ref {
public:
	state_ref() noexcept = default;
	/// Takes over the caller's reference.
	explicit state_ref(State *s) noexcept : state_(s) {}
	state_ref(const state_ref &o) noexcept : state_(o.state_) {
		if (state_ != nullptr) {
			state_->add_ref();
		}
	}
	state_ref(state_ref &&o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
	state_ref &operator=(state_ref o) noexcept {
		std::swap(state_, o.state_);
		return *this;
	}
	~state_ref() {
		if (state_ != nullptr) {
			state_->release();
		}
	}
	explicit operator bool() const noexcept { return state_ != nullptr; }
	[[nodiscard]] State *get() const noexcept { return state_; }
	State *operator->() const noexcept { return state_; }
	[[nodiscard]] State *checked() const {
		if (state_ == nullptr) {
			throw_future_error(std::future_errc::no_state);
		}
		return state_;
	}
	[[nodiscard]] State *let_go() noexcept { return std::exchange(state_, nullptr); }

private:
	State *state_ = nullptr;
};

/// The result: an R, a pointer for R &, nothing for void.
template <class R>
class result_state : public future_state {
public:
	static_assert(
	    !std::is_array_v<R> && std::is_object_v<R> && std::is_destructible_v<R>, "[futures.promise]: R is an object, a reference or void");
	template <class... Args>
	void emplace(Args &&...args) {
		value_.emplace(std::forward<Args>(args)...);
	}
	void reset() noexcept { value_.reset(); }
	R take() {
		rethrow();
		return std::move(*value_);
	}
	const R &look() const {
		rethrow();
		return *value_;
	}

private:
	std::optional<R> value_;
};

template <class R>
class result_state<R &> : public future_state {
public:
	void emplace(R &value) noexcept { value_ = std::addressof(value); }
	void reset() noexcept {}
	R &take() const { return look(); }
	R &look() const {
		rethrow();
		return *value_;
	}

private:
	R *value_ = nullptr;
};

template <>
class result_state<void> : public future_state {
public:
	void emplace() noexcept {}
	void reset() noexcept {}
	void take() const { rethrow(); }
	void look() const { rethrow(); }
};

/// The state of a promise that was given an allocator.  A copy of it lies beside the result.
template <class R, class Allocator>
class allocated_state final : public result_state<R> {
	using traits = typename std::allocator_traits<Allocator>::template rebind_traits<allocated_state>;
	using own_allocator = typename traits::allocator_type;

public:
	explicit allocated_state(const own_allocator &a) noexcept : allocator_(a) {}

	/// Throws what the allocator does.
	static allocated_state *make(const Allocator &given) {
		own_allocator a(given);
		auto *memory = std::to_address(traits::allocate(a, 1));
		return ::new (static_cast<void *>(memory)) allocated_state(a);
	}

private:
	void destroy() noexcept override {
		own_allocator a(std::move(allocator_));
		const auto memory = std::pointer_traits<typename traits::pointer>::pointer_to(*this);
		std::destroy_at(this);
		traits::deallocate(a, memory, 1);
	}
	[[no_unique_address]] own_allocator allocator_;
};

/// Claims it and stores a result; throws what that throws, and it can be set again then.
template <class State, class... Args>
void claim_and_store(State *s, Args &&...args) {
	if (!s->claim()) {
		throw_future_error(std::future_errc::promise_already_satisfied);
	}
	try {
		s->emplace(std::forward<Args>(args)...);
	} catch (...) {
		s->unclaim();
		throw;
	}
}

template <class State>
void claim_and_store_error(State *s, std::exception_ptr error) {
	if (!s->claim()) {
		throw_future_error(std::future_errc::promise_already_satisfied);
	}
	s->set_error(std::move(error));
}

/// What was stored is to be seen once the LWP has ended.
template <class State>
void ready_at_exit_or_undo(State *s) {
	try {
		s->ready_at_exit();
	} catch (...) {
		s->reset();
		s->set_error(nullptr);
		s->unclaim();
		throw;
	}
}

/// Calls `call` and stores what becomes of it.  Claimed before.
template <class R, class State, class Call, class... Args>
void store_result_of(State *s, Call &&call, Args &&...args) noexcept {
	try {
		if constexpr (std::is_void_v<R>) {
			std::invoke(std::forward<Call>(call), std::forward<Args>(args)...);
			s->emplace();
		} else {
			s->emplace(std::invoke(std::forward<Call>(call), std::forward<Args>(args)...));
		}
	} catch (...) {
		s->set_error(std::current_exception());
	}
}

template <class F, class... Args>
using result_of_decayed = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;

/// A callable with its arguments, to be called once, as rvalues.
template <class F, class... Args>
class bound_call {
public:
	template <class... Given>
	explicit bound_call(Given &&...given) : parts_(std::forward<Given>(given)...) {}
	decltype(auto) operator()() {
		return std::apply([](auto &&...part) -> decltype(auto) { return std::invoke(std::move(part)...); }, std::move(parts_));
	}

private:
	std::tuple<F, Args...> parts_;
};

/// The state of an async() or of a scope's child with a result: it keeps the call until that has been made, by a new LWP or, deferred, by the first
/// that waits.
template <class R, class Call>
class call_state : public result_state<R> {
public:
	template <class... Given>
	explicit call_state(Given &&...given) : call_(std::in_place, std::forward<Given>(given)...) {
		(void)this->claim();
	}
	/// The call and its arguments are gone before the result can be seen.
	void make() noexcept {
		store_result_of<R>(this, *call_);
		call_.reset();
	}

private:
	void run_deferred() override {
		make();
		this->ready();
	}
	std::optional<Call> call_;
};

/// What an LWP of async() begins with.
template <class R, class Call>
struct async_start : exit_note {
	call_state<R, Call> *state;  // the last reference waits until it is ready, so this is none

	explicit async_start(call_state<R, Call> *s) : state(s) {
		this->en_run = [](exit_note *n) noexcept { static_cast<async_start *>(n)->state->ready(); };
	}
	static void run(void *p) {
		auto *self = static_cast<async_start *>(p);
		self->state->make();
		at_lwp_end(self);
	}
};

/// Starts a detached LWP that calls T::run(T *) with a T made of `given`, which is not destroyed and lasts as long as the LWP.
/// Throws system_error, or what T's constructor throws.
template <class T, class... Given>
void start_detached(attributes attr, Given &&...given) {
	attr.detached = true;
	const nascent n = thread_prepare(attr, sizeof(T), alignof(T));
	T *payload;
	try {
		payload = ::new (n.payload) T(std::forward<Given>(given)...);
	} catch (...) {
		thread_abandon(n);
		throw;
	}
	const lwpid_t lid = thread_launch(n, [](void *arg) { T::run(arg); });
	if (lid < 0) {
		std::destroy_at(payload);
		thread_abandon(n);
		thread_failed(-lid);
	}
}

}  // namespace lwp::detail
