// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::thread, lwp::jthread and lwp::this_thread: std's classes ([thread.threads], [thread.thread.this] of the C++20 standard)
// on LWPs.  Only what std does not have or leaves open is said here.
#pragma once

#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>
#include <lwp/stop.hpp>

#include <chrono>
#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <ostream>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

namespace lwp {

/// Scheduling class, by NetBSD's and POSIX's names.
enum class sched_policy : unsigned char {
	inherit,  ///< as the creator
	other,    ///< time sharing
	fifo,     ///< real time: runs until it blocks or yields
	rr,       ///< real time: round robin among equals
};

/// Whether an LWP runs beside others that were written to take turns (big_lock.hpp).
enum class mp_safety : unsigned char {
	inherit,   ///< as the creator
	safe,      ///< runs without the big lock: all LWPs do, unless somebody says otherwise
	big_lock,  ///< has the big lock whenever it runs
};

/// How an LWP is made: lwp::thread t({.name = "worker", .stack_size = 256 * 1024}, f);
struct attributes {
	const char *name = nullptr;  ///< cut to LWP_MAXNAME - 1 bytes
	std::size_t stack_size = 0;  ///< bytes; 0: the runtime's default; EINVAL below 16 KiB or above 1 GiB
	int priority = -1;           ///< 0 to 63 within its class, higher runs first; -1: as the creator, or its class's default
	int vcpu = -1;               ///< run on this vCPU only; -1: where the creator may; affinity.hpp changes it later
	bool detached = false;       ///< nobody joins; the thread object is not joinable
	sched_policy policy = sched_policy::inherit;  ///< its scheduling class
	mp_safety mp = mp_safety::inherit;            ///< whether it runs with the big lock (big_lock.hpp)
};

namespace detail {

struct nascent {    // an LWP that does not run yet
	void *lwp;      // opaque
	void *payload;  // memory at the top of its stack
};

LWP_API nascent thread_prepare(const attributes &, std::size_t size, std::size_t align);  // throws system_error
LWP_API void thread_abandon(const nascent &) noexcept;
LWP_API lwpid_t thread_launch(const nascent &, void (*run)(void *)) noexcept;   // its id, or a negative error number: it does not run
[[noreturn]] LWP_API void thread_failed(int error);                             // throws system_error
LWP_API void thread_join(lwpid_t);                                              // throws system_error
LWP_API bool thread_join_until(lwpid_t, steady_time, const std::stop_token &);  // throws system_error
LWP_API void thread_detach(lwpid_t);                                            // throws system_error
LWP_API unsigned thread_concurrency() noexcept;
LWP_API void sleep_until_steady(steady_time) noexcept;

template <class Call>
lwpid_t thread_start(const attributes &attr, Call &&call) {
	using payload = std::decay_t<Call>;
	nascent n = thread_prepare(attr, sizeof(payload), alignof(payload));
	try {
		::new (n.payload) payload(std::forward<Call>(call));
	} catch (...) {
		thread_abandon(n);
		throw;
	}
	const lwpid_t lid = thread_launch(n, [](void *p) {
		// noexcept: an exception that escapes ends the program ([thread.thread.constr]/8), with the throwing frames still there to look at.
		[](payload *call_) noexcept {
			struct guard {
				payload *p_;
				~guard() { std::destroy_at(p_); }
			} destroy{call_};
			(*call_)();
		}(static_cast<payload *>(p));
	});
	if (lid < 0) {
		std::destroy_at(static_cast<payload *>(n.payload));
		thread_abandon(n);
		thread_failed(-lid);
	}
	return lid;
}

template <class F, class... Args>
auto bind_decayed(F &&f, Args &&...args) {
	return [call = std::tuple<std::decay_t<F>, std::decay_t<Args>...>(std::forward<F>(f), std::forward<Args>(args)...)]() mutable {
		std::apply([](auto &&...part) { std::invoke(std::move(part)...); }, std::move(call));
	};
}

}  // namespace detail

/// [thread.thread.class]
class thread {
public:
	/// [thread.thread.id]  Names an LWP; a default one names none.
	class id {
	public:
		constexpr id() noexcept = default;
		friend constexpr bool operator==(id, id) noexcept = default;
		friend constexpr std::strong_ordering operator<=>(id, id) noexcept = default;
		template <class C, class T>
		friend std::basic_ostream<C, T> &operator<<(std::basic_ostream<C, T> &out, id i) {
			return i.lid_ == 0 ? out << "lwp::thread::id of a non-executing thread" : out << i.lid_;
		}

	private:
		friend class thread;
		friend struct std::hash<id>;
		friend id this_thread_id() noexcept;
		explicit constexpr id(lwpid_t lid) noexcept : lid_(lid) {}
		lwpid_t lid_ = 0;
	};
	using native_handle_type = lwpid_t;  ///< what the `_lwp_*` calls take

	thread() noexcept = default;

	/// [thread.thread.constr]  Throws std::system_error: EAGAIN too many LWPs | ENOMEM no memory for its stack | EINVAL callable and arguments take more than half of
	/// its stack | EPERM an attribute asks for what the caller's credential has no privilege for (kauth.h); and what copying the arguments throws.
	template <class F, class... Args>
		requires(!std::is_same_v<std::remove_cvref_t<F>, thread> && !std::is_same_v<std::remove_cvref_t<F>, attributes> &&
		    std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
	explicit thread(F &&f, Args &&...args) : thread(attributes{}, std::forward<F>(f), std::forward<Args>(args)...) {}

	/// As above with attributes; EINVAL one of them is out of range | EPERM the vCPU is of a processor set.
	template <class F, class... Args>
		requires(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
	thread(const attributes &attr, F &&f, Args &&...args) {
		lwpid_t lid = detail::thread_start(attr, detail::bind_decayed(std::forward<F>(f), std::forward<Args>(args)...));
		if (!attr.detached) {
			lid_ = lid;
		}
	}

	thread(thread &&other) noexcept : lid_(std::exchange(other.lid_, 0)) {}
	thread &operator=(thread &&other) noexcept {
		if (joinable()) {
			std::terminate();
		}
		lid_ = std::exchange(other.lid_, 0);
		return *this;
	}
	~thread() {
		if (joinable()) {
			std::terminate();
		}
	}

	void swap(thread &other) noexcept { std::swap(lid_, other.lid_); }
	friend void swap(thread &a, thread &b) noexcept { a.swap(b); }

	[[nodiscard]] bool joinable() const noexcept { return lid_ != 0; }
	/// [thread.thread.member]  Throws std::system_error: EINVAL not joinable | EDEADLK it is the caller, or waits for the caller | ESRCH collected by somebody else.
	void join() {
		detail::thread_join(lid_);
		lid_ = 0;
	}
	/// join() until a stop is requested at most: false if it was, and the thread is joinable as before.  An LWP that has ended is joined in any case.
	/// Throws as join().
	bool join(const std::stop_token &stop) { return try_join(detail::steady_time::max(), stop); }
	/// join() for `duration` at most, or until a stop is requested; the same otherwise.  Throws as join(), and ENOMEM no memory for a timer.
	template <class Rep, class Period>
	bool try_join_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop = {}) {
		return try_join(detail::deadline_after(duration), stop);
	}
	/// join() until `deadline` at most; the same otherwise.
	template <class Clock, class Duration>
	bool try_join_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop = {}) {
		bool joined = false;
		(void)detail::attempt_until(deadline, [&](detail::steady_time t) {
			joined = try_join(t, stop);
			return joined || stop.stop_requested();
		});
		return joined;
	}
	/// Throws std::system_error: EINVAL not joinable | ESRCH collected by somebody else.
	void detach() {
		detail::thread_detach(lid_);
		lid_ = 0;
	}
	[[nodiscard]] id get_id() const noexcept { return id(lid_); }
	[[nodiscard]] native_handle_type native_handle() const noexcept { return lid_; }
	/// [thread.thread.static]  The runtime's number of vCPUs.
	[[nodiscard]] static unsigned hardware_concurrency() noexcept { return detail::thread_concurrency(); }

private:
	bool try_join(detail::steady_time deadline, const std::stop_token &stop) {
		const bool joined = detail::thread_join_until(lid_, deadline, stop);
		if (joined) {
			lid_ = 0;
		}
		return joined;
	}

	lwpid_t lid_ = 0;
};

/// As this_thread::get_id().
inline thread::id this_thread_id() noexcept { return thread::id(_lwp_self()); }

/// [thread.jthread.class]
class jthread {
public:
	using id = thread::id;
	using native_handle_type = thread::native_handle_type;

	jthread() noexcept : stop_(std::nostopstate) {}

	template <class F, class... Args>
		requires(!std::is_same_v<std::remove_cvref_t<F>, jthread> && !std::is_same_v<std::remove_cvref_t<F>, attributes>)
	explicit jthread(F &&f, Args &&...args) : jthread(attributes{}, std::forward<F>(f), std::forward<Args>(args)...) {}

	template <class F, class... Args>
	jthread(const attributes &attr, F &&f, Args &&...args) : thread_(start(attr, stop_, std::forward<F>(f), std::forward<Args>(args)...)) {}

	jthread(jthread &&) noexcept = default;
	jthread &operator=(jthread &&other) noexcept {
		if (this != &other) {
			end();
			stop_ = std::move(other.stop_);
			thread_ = std::move(other.thread_);
		}
		return *this;
	}
	~jthread() { end(); }

	void swap(jthread &other) noexcept {
		std::swap(stop_, other.stop_);
		thread_.swap(other.thread_);
	}
	friend void swap(jthread &a, jthread &b) noexcept { a.swap(b); }

	[[nodiscard]] bool joinable() const noexcept { return thread_.joinable(); }
	void join() { thread_.join(); }
	/// As thread's; `stop` is another's, the jthread's own is not asked.
	bool join(const std::stop_token &stop) { return thread_.join(stop); }
	template <class Rep, class Period>
	bool try_join_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop = {}) {
		return thread_.try_join_for(duration, stop);
	}
	template <class Clock, class Duration>
	bool try_join_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop = {}) {
		return thread_.try_join_until(deadline, stop);
	}
	void detach() { thread_.detach(); }
	[[nodiscard]] id get_id() const noexcept { return thread_.get_id(); }
	[[nodiscard]] native_handle_type native_handle() const noexcept { return thread_.native_handle(); }
	[[nodiscard]] std::stop_source get_stop_source() noexcept { return stop_; }
	[[nodiscard]] std::stop_token get_stop_token() const noexcept { return stop_.get_token(); }
	bool request_stop() noexcept { return stop_.request_stop(); }
	[[nodiscard]] static unsigned hardware_concurrency() noexcept { return thread::hardware_concurrency(); }

private:
	template <class F, class... Args>
	static thread start(const attributes &attr, std::stop_source &stop, F &&f, Args &&...args) {
		if constexpr (std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>) {
			return thread(attr, std::forward<F>(f), stop.get_token(), std::forward<Args>(args)...);
		} else {
			static_assert(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>,
			    "lwp::jthread: the function cannot be called with these arguments");
			return thread(attr, std::forward<F>(f), std::forward<Args>(args)...);
		}
	}

	void end() noexcept {
		if (joinable()) {
			request_stop();
			join();
		}
	}

	std::stop_source stop_;
	thread thread_;
};

/// [thread.thread.this]
namespace this_thread {

inline thread::id get_id() noexcept { return this_thread_id(); }
inline void yield() noexcept { lwp_yield(); }

/// Blocks the LWP until `deadline` at least; a suspend or _lwp_wakeup() meanwhile does not shorten it.  stop.hpp has forms that a stop request ends.
template <class Clock, class Duration>
void sleep_until(const std::chrono::time_point<Clock, Duration> &deadline) {
	(void)detail::attempt_until(deadline, [](detail::steady_time t) {
		detail::sleep_until_steady(t);
		return false;
	});
}

/// Blocks the LWP for `duration` at least.
template <class Rep, class Period>
void sleep_for(const std::chrono::duration<Rep, Period> &duration) {
	if (duration > duration.zero()) {
		detail::sleep_until_steady(detail::deadline_after(duration));
	}
}

}  // namespace this_thread
}  // namespace lwp

template <>
struct std::hash<lwp::thread::id> {
	std::size_t operator()(lwp::thread::id i) const noexcept { return std::hash<lwpid_t>()(i.lid_); }
};
