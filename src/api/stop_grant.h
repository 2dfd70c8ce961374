// SPDX-License-Identifier: BSD-2-Clause
//
// How a std::stop_token ends a wait of this library.  Two ways; both are registered for one call on its stack, with no lock held.
//
//   stop_grant    for a wait by grant (sync/grant.h): a stop request takes the grant as stop_grant::stopped and gives it
//   interruptor   for any other interruptible sleep of the caller: it fails with EINTR, as by _lwp_wakeup(), and fired() says why
//
// Both may be registered after the request: then they act at once.  std's list of callbacks is called by the LWP that makes the request; ours take
// the waiter's lock and switch nowhere.  Their destructors wait until a callback that is under way has returned, so it touches no frame that
// is gone.  That wait stops the kernel thread, but only for as long as such a callback takes.
#pragma once

#include "sched/callout.h"
#include "sync/grant.h"

#include <cerrno>
#include <limits>
#include <optional>
#include <stop_token>

namespace lwp::kern {

/// Hung up after the grant was made and before grant_wait(); taken down by its destructor, before the grant goes.
class stop_grant {
public:
	static constexpr int stopped = std::numeric_limits<int>::max();  ///< g_by

	stop_grant(const std::stop_token &stop, grant *g) noexcept : callback_(stop, ender{g}) {}

private:
	struct ender {
		grant *g;
		void operator()() const noexcept;
	};
	std::stop_callback<ender> callback_;
};

/// grant_wait() to the end, boundaries passed.  0 given: see g_by | ETIMEDOUT taken back
[[nodiscard]] int grant_wait_out(grant *, const char *wmesg, nanotime deadline = never, const syncobj *sobj = &grant_syncobj) noexcept;

/// While it lives, a stop request or a deadline makes one interruptible sleep of `l`, the caller, fail with EINTR: the one it is in, or else the
/// next.  Ask fired() before each sleep.  A sleep that has a deadline of its own gives none here.
class interruptor {
public:
	explicit interruptor(lwp_t *l) noexcept : lwp_(l) { l->l_pins++; }  // callback and timer look at this frame
	~interruptor();
	interruptor(const interruptor &) = delete;
	interruptor &operator=(const interruptor &) = delete;

	void by_stop(const std::stop_token &) noexcept;
	/// 0 | ENOMEM no timer
	[[nodiscard]] int by_deadline(nanotime) noexcept;

	/// ECANCELED the stop came, or the LWP is lwp_leaving() | ETIMEDOUT the deadline, and no stop before | 0 neither
	[[nodiscard]] int fired() const noexcept {
		const int why = fired_.load(std::memory_order_acquire);  // pairs with fire()
		return why == 0 && LWP_UNLIKELY(lwp_leaving(lwp_)) ? ECANCELED : why;
	}

private:
	struct ender {
		interruptor *i;
		void operator()() const noexcept;
	};
	static void timed_out(void *) noexcept;
	void fire(int why, vcpu_t *me) noexcept;

	lwp_t *lwp_;
	atomic<int> fired_{0};
	timer timer_;
	bool timed_ = false;
	std::optional<std::stop_callback<ender>> callback_;
};

}  // namespace lwp::kern
