// SPDX-License-Identifier: BSD-2-Clause
//
// std's <shared_mutex> on LWPs ([thread.sharedmutex.requirements] of the C++20 standard): only the waiting LWP blocks, its vCPU runs others.
// Usable between LWPs of any vCPU and kernel threads of the application.  Only what std leaves open is said here.
//
// Who comes in: a waiting writer stops new readers that are not of a higher priority.  The last reader out lets the best waiting writer in, a
// writer out the waiting readers that are not of a lower priority than the best waiting writer.  So under load readers and writers take turns,
// and neither starves.  Among writers and among readers: by priority, then first come first served.  A writer that gives up (its time is over,
// or it is suspended) lets those readers in that waited because of it.
// So an LWP that shares the mutex must not share it once more: with a writer in between that is a deadlock.
//
// Constant initialization, no memory beside the object.  The next one in may destroy the mutex: unlock() and unlock_shared() do not touch it
// any more once it can be taken.  An unlock is a boundary, as that of lwp::mutex.
// Misuse: unlocking what the caller does not own, or sharing what nobody shares, ends the program with a message.  Debug builds of the library
// do the same when a mutex is destroyed that is in use, when an LWP ends that owns or shares one, and when one is given up by an LWP that does not
// share it while others do; and they tell orders that could end in a deadlock, as for lwp::mutex.
#pragma once

#include <lwp/mutex.hpp>

#include <shared_mutex>

namespace lwp {

// std's own: it works on any shared mutex.
using std::shared_lock;

/// [thread.sharedmutex.class]
class LWP_API shared_mutex {
public:
	constexpr shared_mutex() noexcept = default;
	~shared_mutex() {
		if (const std::uintptr_t word = detail::lock_word(kernel_.bytes); (word | kernel_.bytes[known_at]) != 0) {
			detail::check_shared_mutex_destroyed(this, word);
		}
	}
	shared_mutex(const shared_mutex &) = delete;
	shared_mutex &operator=(const shared_mutex &) = delete;

	/// Blocks the LWP until the mutex is the caller's alone.  Throws std::system_error: resource_deadlock_would_occur, the caller has it
	/// already.
	LWP_HERE_INLINE void lock() {
		if (!take()) {
			lock_call();
		}
	}
	/// Never blocks; false if anybody has it.
	LWP_HERE_INLINE bool try_lock() noexcept { return take() || try_lock_call(); }
	LWP_HERE_INLINE void unlock() noexcept {
		if (!give()) {
			unlock_call();
		}
	}

	/// Blocks the LWP until the caller shares the mutex.  Throws std::system_error: resource_deadlock_would_occur, the caller has it alone.
	LWP_HERE_INLINE void lock_shared() {
		if (!share()) {
			lock_shared_call();
		}
	}
	/// Never blocks; false if a writer has it, or waits for it and is not of a lower priority.
	LWP_HERE_INLINE bool try_lock_shared() noexcept { return share() || try_lock_shared_call(); }
	LWP_HERE_INLINE void unlock_shared() noexcept {
		if (!unshare()) {
			unlock_shared_call();
		}
	}

	/// Not in std (rw_tryupgrade(9)).  Of a caller that shares the mutex and is the only one: it has it alone from now on, before all who wait; true.  False
	/// if others share it: the caller still does.  Never blocks.  To wait for the others would be a deadlock of two that both want to.
	[[nodiscard]] bool try_upgrade() noexcept;
	/// Not in std (rw_downgrade(9)).  Of a caller that has the mutex alone: it shares it from now on, and no writer comes in between.  Waiting readers come in
	/// that unlock() would let in.  Never blocks; a boundary, as unlock() is.
	void downgrade() noexcept;

private:
	friend class shared_timed_mutex;
	// Of the first word (sync/rwlock.h): somebody sleeps; the rest is the writer; without that, how many readers, in units.  ABI.
	static constexpr std::uintptr_t waited = 1, writer = 2, reader = 64;
	void lock_call();
	bool try_lock_call() noexcept;
	void unlock_call() noexcept;
	void lock_shared_call();
	bool try_lock_shared_call() noexcept;
	void unlock_shared_call() noexcept;
	// Without a call, as mutex's: with nobody else there; readers, as long as no writer has it and nobody sleeps.
	LWP_HERE_INLINE bool take() noexcept {
		const detail::here here;
		return here && detail::lock_word_take(kernel_.bytes, 0, here.lwp() | writer);
	}
	LWP_HERE_INLINE bool give() noexcept {
		const detail::here here;
		if (!here) {
			return false;
		}
		const std::uintptr_t lwp = here.lwp();
		return !here.boundary_due(lwp) && detail::lock_word_give(kernel_.bytes, lwp | writer, 0);
	}
	LWP_HERE_INLINE bool share() noexcept {
		const detail::here here;
		const std::uintptr_t word = detail::lock_word(kernel_.bytes);
		return here && (word & (writer | waited)) == 0 && detail::lock_word_take(kernel_.bytes, word, word + reader);
	}
	LWP_HERE_INLINE bool unshare() noexcept {
		const detail::here here;
		const std::uintptr_t word = detail::lock_word(kernel_.bytes);
		return here && !here.boundary_due(here.lwp()) && (word & (writer | waited)) == 0 && word >= reader &&
		    detail::lock_word_give(kernel_.bytes, word, word - reader);
	}
	bool try_lock_until_steady(detail::steady_time, const std::stop_token * = nullptr);         // throws system_error
	bool try_lock_shared_until_steady(detail::steady_time, const std::stop_token * = nullptr);  // throws system_error
	static constexpr std::size_t known_at = 40;  // a byte that is not 0 if a debug build's checker knows it
	detail::storage<48> kernel_;
};

/// [thread.sharedtimedmutex.class]
class shared_timed_mutex {
public:
	constexpr shared_timed_mutex() noexcept = default;
	~shared_timed_mutex() = default;
	shared_timed_mutex(const shared_timed_mutex &) = delete;
	shared_timed_mutex &operator=(const shared_timed_mutex &) = delete;

	/// These eight as those of shared_mutex.
	void lock() { mutex_.lock(); }
	bool try_lock() noexcept { return mutex_.try_lock(); }
	void unlock() noexcept { mutex_.unlock(); }
	void lock_shared() { mutex_.lock_shared(); }
	bool try_lock_shared() noexcept { return mutex_.try_lock_shared(); }
	void unlock_shared() noexcept { mutex_.unlock_shared(); }
	[[nodiscard]] bool try_upgrade() noexcept { return mutex_.try_upgrade(); }
	void downgrade() noexcept { mutex_.downgrade(); }

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
	/// Blocks for `duration` at most; not at all if it is zero or less.  Throws as lock_shared().
	template <class Rep, class Period>
	bool try_lock_shared_for(const std::chrono::duration<Rep, Period> &duration) {
		return mutex_.try_lock_shared_until_steady(detail::deadline_after(duration));
	}
	/// Blocks until `deadline` at most.  Throws as lock_shared().
	template <class Clock, class Duration>
	bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		return detail::attempt_until(deadline, [this](detail::steady_time t) { return mutex_.try_lock_shared_until_steady(t); });
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
	/// Not in std: lock_shared() and the timed forms, or until a stop is requested.  True if the caller has it, which it takes if nobody does, stop or
	/// not.  Throws as lock_shared().
	[[nodiscard]] bool lock_shared(const std::stop_token &stop) {
		return mutex_.try_lock_shared_until_steady(detail::steady_time::max(), &stop);
	}
	template <class Rep, class Period>
	[[nodiscard]] bool try_lock_shared_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop) {
		return mutex_.try_lock_shared_until_steady(detail::deadline_after(duration), &stop);
	}
	template <class Clock, class Duration>
	[[nodiscard]] bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop) {
		return detail::attempt_until(deadline, stop, [&](detail::steady_time t) { return mutex_.try_lock_shared_until_steady(t, &stop); });
	}

private:
	shared_mutex mutex_;
};

}  // namespace lwp
