// SPDX-License-Identifier: BSD-2-Clause
//
// std's <condition_variable> on LWPs ([thread.condition] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.  Usable between
// LWPs of any vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// Waiters are notified by priority, then first come first served.  A suspend (_lwp_suspend) or _lwp_wakeup() of a waiter is a spurious wake-up of
// condition_variable; a wait on condition_variable_any goes on.  A wait whose deadline has passed still gives up its lock for a moment.  A
// notification with nobody waiting costs one load.
// notify_all of condition_variable wakes one LWP at most if it is called for many: the others are moved to those that wait for the mutex, and
// each unlock wakes the next.  So a crowd of any size does not run only to meet at the mutex.
// A notification is a boundary (a suspend takes effect there, and a better LWP that was woken runs), except by an LWP that has the mutex of
// those that wait: then the unlock is.
// Waiting with a mutex that the caller does not own, or with another one than those that wait already, ends the program with a message.  So does, in
// debug builds of the library, the destruction of a condition variable of either kind that somebody waits for and that nobody notified.
#pragma once

#include <lwp/mutex.hpp>

#include <condition_variable>
#include <stop_token>
#include <utility>

namespace lwp {

// std's own.
using std::cv_status;

namespace detail {

/// A point of any clock as one of the steady clock, as of now.
template <class Clock, class Duration>
steady_time steady_deadline(const std::chrono::time_point<Clock, Duration> &deadline) {
	if constexpr (std::is_same_v<std::chrono::time_point<Clock, Duration>, steady_time>) {
		return deadline;
	} else {
		const auto now = Clock::now();  // compared first: the difference to time_point::min() would overflow
		return deadline <= now ? steady_time::clock::now() : deadline_after(deadline - now);
	}
}

/// How a wait came out: another clock may have been set meanwhile, and is asked again.
template <class Clock, class Duration>
std::cv_status cv_result(bool notified, const std::chrono::time_point<Clock, Duration> &deadline) {
	if constexpr (!std::is_same_v<Clock, std::chrono::steady_clock>) {
		notified = notified || Clock::now() < deadline;
	}
	return notified ? std::cv_status::no_timeout : std::cv_status::timeout;
}

}  // namespace detail

/// [thread.condition.condvar].  Constant initialization, no memory beside the object.
class LWP_API condition_variable {
public:
	constexpr condition_variable() noexcept = default;
	~condition_variable() {
		if (detail::lock_word(kernel_.bytes) != 0) {
			check_destroyed();
		}
	}
	condition_variable(const condition_variable &) = delete;
	condition_variable &operator=(const condition_variable &) = delete;

	/// Wakes one waiter, if there is any.  Never blocks.
	void notify_one() noexcept;
	/// Ends all waits that have begun.  Never blocks.
	void notify_all() noexcept;

	/// [thread.condition.condvar]/8  Gives up the mutex and blocks the LWP until it is notified; then takes the mutex again.
	void wait(std::unique_lock<mutex> &lock) noexcept { (void)wait_until_steady(lock, detail::steady_time::max()); }
	/// Until `predicate()` is true, which is called with the mutex held.  Throws what that throws.
	template <class Predicate>
	void wait(std::unique_lock<mutex> &lock, Predicate predicate) {
		while (!predicate()) {
			wait(lock);
		}
	}

	/// Until `deadline` at most, and then as long as it takes to get the mutex.
	template <class Clock, class Duration>
	std::cv_status wait_until(std::unique_lock<mutex> &lock, const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::cv_result(wait_until_steady(lock, detail::steady_deadline(deadline)), deadline);
	}
	/// False if `predicate()` is still false when the deadline has passed.
	template <class Clock, class Duration, class Predicate>
	bool wait_until(std::unique_lock<mutex> &lock, const std::chrono::time_point<Clock, Duration> &deadline, Predicate predicate) {
		while (!predicate()) {
			if (wait_until(lock, deadline) == std::cv_status::timeout) {
				return predicate();
			}
		}
		return true;
	}
	template <class Rep, class Period>
	std::cv_status wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &duration) {
		return wait_until(lock, detail::deadline_after(duration));
	}
	template <class Rep, class Period, class Predicate>
	bool wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &duration, Predicate predicate) {
		return wait_until(lock, detail::deadline_after(duration), std::move(predicate));
	}

private:
	bool wait_until_steady(std::unique_lock<mutex> &, detail::steady_time) noexcept;  // false: the deadline, and no notification
	void check_destroyed() noexcept;
	detail::storage<24> kernel_;
};

/// [thread.condition.nonmember].  At the end of the calling LWP, or of the calling kernel thread, `cond` is notified and the lock is given up: after all
/// its specific data (lwp::specific, lwp_tss_*) are destroyed.  Not if it leaves by _lwp_exit() of the initial LWP, which ends nothing.
/// Throws std::bad_alloc: then `lock` is given up at once.
LWP_API void notify_all_at_thread_exit(condition_variable &cond, std::unique_lock<mutex> lock);

class condition_variable_any;

namespace detail {

/// One wait on a condition_variable_any: in its line from the constructor on.
class LWP_API any_wait {
public:
	explicit any_wait(condition_variable_any &) noexcept;
	/// Out of the line; a notification that it had and never waited for goes to the next.
	~any_wait();
	any_wait(const any_wait &) = delete;
	any_wait &operator=(const any_wait &) = delete;

	/// Once, with no lock held.  False: the deadline, and no notification and no stop request.
	[[nodiscard]] bool sleep(steady_time deadline) noexcept;
	[[nodiscard]] bool sleep(steady_time deadline, const std::stop_token &stop) noexcept;

private:
	storage<64> record_;
	bool slept_ = false;
};

}  // namespace detail

/// [thread.condition.condvarany]: with any lock that has lock() and unlock().  If taking it again throws, std::terminate() is called.
/// May be destroyed once all that wait were notified, even while they are on their way out.
class LWP_API condition_variable_any {
public:
	constexpr condition_variable_any() noexcept = default;
	~condition_variable_any() {
		if (detail::lock_word(kernel_.bytes) != 0) {
			check_destroyed();
		}
	}
	condition_variable_any(const condition_variable_any &) = delete;
	condition_variable_any &operator=(const condition_variable_any &) = delete;

	void notify_one() noexcept;
	void notify_all() noexcept;

	template <class Lock>
	void wait(Lock &lock) {
		(void)wait_once(lock, [](detail::any_wait &w) { return w.sleep(detail::steady_time::max()); });
	}
	template <class Lock, class Predicate>
	void wait(Lock &lock, Predicate predicate) {
		while (!predicate()) {
			wait(lock);
		}
	}
	template <class Lock, class Clock, class Duration>
	std::cv_status wait_until(Lock &lock, const std::chrono::time_point<Clock, Duration> &deadline) {
		const detail::steady_time steady = detail::steady_deadline(deadline);
		return detail::cv_result(wait_once(lock, [=](detail::any_wait &w) { return w.sleep(steady); }), deadline);
	}
	template <class Lock, class Clock, class Duration, class Predicate>
	bool wait_until(Lock &lock, const std::chrono::time_point<Clock, Duration> &deadline, Predicate predicate) {
		while (!predicate()) {
			if (wait_until(lock, deadline) == std::cv_status::timeout) {
				return predicate();
			}
		}
		return true;
	}
	template <class Lock, class Rep, class Period>
	std::cv_status wait_for(Lock &lock, const std::chrono::duration<Rep, Period> &duration) {
		return wait_until(lock, detail::deadline_after(duration));
	}
	template <class Lock, class Rep, class Period, class Predicate>
	bool wait_for(Lock &lock, const std::chrono::duration<Rep, Period> &duration, Predicate predicate) {
		return wait_until(lock, detail::deadline_after(duration), std::move(predicate));
	}

	// ---- [thread.condvarany.intwait]: a stop request ends the wait, also one that was made before.  They return what `predicate()` says last.

	template <class Lock, class Predicate>
	bool wait(Lock &lock, std::stop_token stop, Predicate predicate) {
		return wait_until(lock, std::move(stop), detail::steady_time::max(), std::move(predicate));
	}
	template <class Lock, class Clock, class Duration, class Predicate>
	bool wait_until(Lock &lock, std::stop_token stop, const std::chrono::time_point<Clock, Duration> &deadline, Predicate predicate) {
		while (!stop.stop_requested()) {
			if (predicate()) {
				return true;
			}
			const detail::steady_time steady = detail::steady_deadline(deadline);
			const bool woken = wait_once(lock, [&](detail::any_wait &w) { return w.sleep(steady, stop); });
			if (detail::cv_result(woken, deadline) == std::cv_status::timeout) {
				break;
			}
		}
		return predicate();
	}
	template <class Lock, class Rep, class Period, class Predicate>
	bool wait_for(Lock &lock, std::stop_token stop, const std::chrono::duration<Rep, Period> &duration, Predicate predicate) {
		return wait_until(lock, std::move(stop), detail::deadline_after(duration), std::move(predicate));
	}

private:
	friend class detail::any_wait;

	void check_destroyed() noexcept;

	template <class Lock>
	struct relock {
		Lock &lock;
		~relock() { lock.lock(); }  // noexcept, so that a throw is std::terminate()
	};

	template <class Lock, class Sleep>
	bool wait_once(Lock &lock, Sleep sleep) {
		detail::any_wait w(*this);  // first: a notification between the unlock and the sleep must find us
		lock.unlock();
		relock<Lock> again{lock};
		return sleep(w);
	}

	detail::storage<24> kernel_;
};

}  // namespace lwp
