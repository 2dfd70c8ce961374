// SPDX-License-Identifier: BSD-2-Clause
//
// std's <mutex> on LWPs ([thread.mutex] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between LWPs of any
// vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// All of them: constant initialization, no memory beside the object.  Waiters are served by priority, then first come first served; an LWP
// that comes by before the one that an unlock woke may still be first, but passes over it only once.
// An unlock is a boundary: a suspend takes effect there, and a better LWP that was woken runs.
// A suspend (_lwp_suspend) stops a waiter at once and takes it out of the line until it is continued; one that was woken or handed the mutex
// before the suspend came has it while it stands still.
// Misuse: unlocking what the caller does not own ends the program with a message.  Debug builds of the library do the same when a mutex is
// destroyed that is owned or waited for, and when an LWP ends that owns one; and they tell orders in which mutexes are taken that could end in a
// deadlock (deadlock.hpp).
#pragma once

#include <lwp/detail/here.hpp>
#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <utility>

namespace lwp {

// std's own: they work on any mutex.
using std::adopt_lock;
using std::adopt_lock_t;
using std::defer_lock;
using std::defer_lock_t;
using std::lock;
using std::lock_guard;
using std::scoped_lock;
using std::try_lock;
using std::try_to_lock;
using std::try_to_lock_t;
using std::unique_lock;

namespace detail {

/// Of a lock that is destroyed: ends the program with a message if it is in use and the library is a debug build, whose checker of lock orders
/// forgets it.
LWP_API void check_mutex_destroyed(const void *object, std::uintptr_t word) noexcept;
LWP_API void check_shared_mutex_destroyed(const void *object, std::uintptr_t word) noexcept;

/// The first word of a lock: 0 if nobody uses it.
inline std::uintptr_t lock_word(const unsigned char *bytes) noexcept {
	// relaxed: whoever destroys it has seen everybody else leave
	return __atomic_load_n(static_cast<const std::uintptr_t *>(static_cast<const void *>(bytes)), __ATOMIC_RELAXED);
}

}  // namespace detail

/// [thread.mutex.class]
class LWP_API mutex {
public:
	constexpr mutex() noexcept = default;
	~mutex() {
		if (const std::uintptr_t word = detail::lock_word(kernel_.bytes); (word | kernel_.bytes[known_at]) != 0) {
			detail::check_mutex_destroyed(this, word);
		}
	}
	mutex(const mutex &) = delete;
	mutex &operator=(const mutex &) = delete;

	/// Blocks the LWP until the mutex is the caller's.  Throws std::system_error: resource_deadlock_would_occur, the caller has it already.
	LWP_HERE_INLINE void lock() {
		if (!take()) {
			lock_call();
		}
	}
	/// Never blocks; false if somebody has it, the caller included.
	LWP_HERE_INLINE bool try_lock() noexcept { return take() || try_lock_call(); }
	/// The next owner may destroy the mutex: it is not touched any more once it can be taken.
	LWP_HERE_INLINE void unlock() noexcept {
		if (!give()) {
			unlock_call();
		}
	}

private:
	friend class condition_variable;
	friend class timed_mutex;
	friend class recursive_mutex;
	void lock_call();
	bool try_lock_call() noexcept;
	void unlock_call() noexcept;
	/// Without a call: takes it if nobody has it, wants it, or was just woken for it.
	LWP_HERE_INLINE bool take() noexcept {
		const detail::here here;
		return here && detail::lock_word_take(kernel_.bytes, 0, here.lwp());
	}
	/// Without a call: gives it back if nobody wants it and nothing is to be done at the boundary.  An LWP that is interrupted on either side of the
	/// exchange has the mutex or has it not, as anywhere in its code.
	LWP_HERE_INLINE bool give() noexcept {
		const detail::here here;
		if (!here) {
			return false;
		}
		const std::uintptr_t lwp = here.lwp();
		return !here.boundary_due(lwp) && detail::lock_word_give(kernel_.bytes, lwp, 0);
	}
	bool try_lock_until_steady(detail::steady_time, const std::stop_token * = nullptr);  // throws system_error
	static constexpr std::size_t known_at = 26;  // a byte that is not 0 if a debug build's checker knows it
	detail::storage<32> kernel_;
};

/// [thread.timedmutex.class]
class timed_mutex {
public:
	constexpr timed_mutex() noexcept = default;
	~timed_mutex() = default;
	timed_mutex(const timed_mutex &) = delete;
	timed_mutex &operator=(const timed_mutex &) = delete;

	/// As mutex::lock().
	void lock() { mutex_.lock(); }
	bool try_lock() noexcept { return mutex_.try_lock(); }
	/// Blocks for `duration` at most; not at all if it is zero or less.  Throws as lock().
	template <class Rep, class Period>
	bool try_lock_for(const std::chrono::duration<Rep, Period> &duration) {
		return mutex_.try_lock_until_steady(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.  Throws as lock().
	template <class Clock, class Duration>
	bool try_lock_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return mutex_.try_lock_until_steady(t); });
	}
	/// Not in std: lock() and the timed forms, or until a stop is requested.  True if the caller has it, which it takes if nobody does, stop or
	/// not.  Throws as lock().
	[[nodiscard]] bool lock(const std::stop_token &stop) { return mutex_.try_lock_until_steady(detail::steady_time::max(), &stop); }
	template <class Rep, class Period>
	[[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return mutex_.try_lock_until_steady(detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return mutex_.try_lock_until_steady(t, &stop); });
	}
	void unlock() noexcept { mutex_.unlock(); }

private:
	mutex mutex_;
};

/// [thread.mutex.recursive].  UINT32_MAX levels.
class LWP_API recursive_mutex {
public:
	constexpr recursive_mutex() noexcept = default;
	~recursive_mutex() = default;
	recursive_mutex(const recursive_mutex &) = delete;
	recursive_mutex &operator=(const recursive_mutex &) = delete;

	/// Blocks the LWP until the mutex is the caller's; one level more if it is already.  Throws std::system_error:
	/// resource_unavailable_try_again, no more levels.
	LWP_HERE_INLINE void lock() {
		if (!take()) {
			lock_call();
		}
	}
	/// Never blocks; false if another has it or there are no more levels.
	LWP_HERE_INLINE bool try_lock() noexcept { return take() || try_lock_call(); }
	/// One level less; the last one is as mutex::unlock().
	LWP_HERE_INLINE void unlock() noexcept {
		if (!give()) {
			unlock_call();
		}
	}

private:
	friend class recursive_timed_mutex;
	void lock_call();
	bool try_lock_call() noexcept;
	void unlock_call() noexcept;
	/// These as mutex's; one level more or less of what the caller has needs no exchange.
	LWP_HERE_INLINE bool take() noexcept {
		const detail::here here;
		if (!here) {
			return false;
		}
		if (!mine(here.lwp())) {
			return mutex_.take() && (levels_ = 1) != 0;
		}
		return levels_ != UINT32_MAX && ++levels_ != 0;
	}
	LWP_HERE_INLINE bool give() noexcept {
		const detail::here here;
		if (!here || !mine(here.lwp())) {
			return false;
		}
		if (--levels_ == 0 && !mutex_.give()) {
			levels_ = 1;
			return false;
		}
		return true;
	}
	[[nodiscard]] LWP_HERE_INLINE bool mine(std::uintptr_t lwp) const noexcept {
		return (detail::lock_word(mutex_.kernel_.bytes) & ~detail::here::lock_flags) == lwp;
	}
	bool try_lock_until_steady(detail::steady_time, const std::stop_token * = nullptr);
	mutex mutex_;
	std::uint32_t levels_ = 0;  // mutex_: how often its owner has it
};

/// [thread.timedmutex.recursive]
class recursive_timed_mutex {
public:
	constexpr recursive_timed_mutex() noexcept = default;
	~recursive_timed_mutex() = default;
	recursive_timed_mutex(const recursive_timed_mutex &) = delete;
	recursive_timed_mutex &operator=(const recursive_timed_mutex &) = delete;

	/// As recursive_mutex::lock().
	void lock() { mutex_.lock(); }
	bool try_lock() noexcept { return mutex_.try_lock(); }
	/// Blocks for `duration` at most; false if that was not enough or there are no more levels.
	template <class Rep, class Period>
	bool try_lock_for(const std::chrono::duration<Rep, Period> &duration) {
		return mutex_.try_lock_until_steady(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most; the same.
	template <class Clock, class Duration>
	bool try_lock_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return mutex_.try_lock_until_steady(t); });
	}
	/// Not in std: lock() and the timed forms, or until a stop is requested.  True if the caller has it, which it takes if nobody does, stop or
	/// not.  False if there are no more levels.
	[[nodiscard]] bool lock(const std::stop_token &stop) { return mutex_.try_lock_until_steady(detail::steady_time::max(), &stop); }
	template <class Rep, class Period>
	[[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return mutex_.try_lock_until_steady(detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return mutex_.try_lock_until_steady(t, &stop); });
	}
	void unlock() noexcept { mutex_.unlock(); }

private:
	recursive_mutex mutex_;
};

/// [thread.once.onceflag]
class LWP_API once_flag {
public:
	constexpr once_flag() noexcept = default;
	once_flag(const once_flag &) = delete;
	once_flag &operator=(const once_flag &) = delete;

private:
	template <class Callable, class... Args>
	friend void call_once(once_flag &, Callable &&, Args &&...);

	struct execution {  // of the function; it fails unless `done` is set
		once_flag &flag;
		bool done = false;
		~execution() { flag.end(done); }
	};
	bool begin();  // true: the caller runs it, then calls end(); throws system_error
	void end(bool done) noexcept;

	// acquire: pairs with the release in once_end(): who finds it done sees what the function did
	[[nodiscard]] bool done() const noexcept { return word_.load(std::memory_order_acquire) == 2; }

	std::atomic<std::uintptr_t> word_{0};
	detail::storage<16> waiters_;
};

/// [thread.once.callonce].  Of several calls one runs `callable`, the others block their LWP until it is through; if it throws, the exception
/// goes to its caller and the next call tries.  `callable` may sleep, yield, and wake up on another vCPU; it runs with the best priority of those
/// that wait for it.  Throws std::system_error:
/// resource_deadlock_would_occur, `callable` itself calls this with the same flag.
template <class Callable, class... Args>
void call_once(once_flag &flag, Callable &&callable, Args &&...args) {
	if (flag.done() || !flag.begin()) {
		return;
	}
	once_flag::execution run{flag};
	std::invoke(std::forward<Callable>(callable), std::forward<Args>(args)...);
	run.done = true;
}

}  // namespace lwp
