// SPDX-License-Identifier: BSD-2-Clause
//
// std's <mutex> on LWPs ([thread.mutex] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between LWPs of any
// vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// All of them: constant initialization, no memory beside the object, trivially relocatable never.  Waiters are served by priority, then first
// come first served; an LWP that comes by the moment a mutex is released may still be first, but passes over a waiter only once.
// A suspend (_lwp_suspend) stops a waiter at once and takes it out of the line until it is continued.
// Misuse is an error with a name: unlocking what the caller does not own ends the program.
#pragma once

#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <mutex>

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

/// [thread.mutex.class]
class LWP_API mutex {
public:
	constexpr mutex() noexcept = default;
	~mutex() = default;
	mutex(const mutex &) = delete;
	mutex &operator=(const mutex &) = delete;

	/// Blocks the LWP until the mutex is the caller's.  Throws std::system_error: resource_deadlock_would_occur, the caller has it already.
	void lock();
	bool try_lock() noexcept;
	/// The next owner may destroy the mutex: it is not touched any more once it can be taken.
	void unlock() noexcept;

private:
	friend class condition_variable;
	friend class timed_mutex;
	bool try_lock_until_steady(detail::steady_time);  // throws system_error
	detail::storage<24> kernel_;
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
	/// Blocks for `duration` at most.  Throws as lock().
	template <class Rep, class Period>
	bool try_lock_for(const std::chrono::duration<Rep, Period> &duration) {
		return mutex_.try_lock_until_steady(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.  Throws as lock().
	template <class Clock, class Duration>
	bool try_lock_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return mutex_.try_lock_until_steady(t); });
	}
	void unlock() noexcept { mutex_.unlock(); }

private:
	mutex mutex_;
};

}  // namespace lwp
