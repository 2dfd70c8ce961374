// SPDX-License-Identifier: BSD-2-Clause
//
// A moment of looking before a vCPU halts.  To halt and to be woken takes some ten microseconds, of the vCPU's time and of the waker's, who has an
// interrupt to send; where the world outside answers sooner than that it is better to stay awake.
//
// Only where it pays, by what came of it:
//  - the vCPU has I/O under way, and its last halt was short and ended by somebody.  Who waits for a timer, for a person or for nothing halts;
//  - if nothing came within the moment it halts, and does not linger again before a pause, which is twice as long each time, until it pays;
//  - others have the CPU if they want it: of the time in which it did not halt a vCPU that has a CPU for itself uses nearly all.  One that does not,
//    by the kernel's account of its CPU time, makes a long pause, twice as long each time;
//  - not at all where a cgroup rations the CPU (what is spent on looking is missing later), and with LWP_LINGER=0 in the environment.
//
// A vCPU that lingers runs, to everybody else: what is queued for it needs no wake-up.  Takes no lock but its own port's.
#pragma once

#include "base/clock.h"

#include <algorithm>
#include <cstdint>

namespace lwp::kern {

struct vcpu_t;

/// The rules, of one vCPU; used by its kernel thread only.
class lingering {
public:
	static constexpr nanotime moment = 20'000;  ///< so long it looks: about what a halt and its end take
	static constexpr nanotime brief = 100'000;  ///< a halt that was short: the wake-up itself is a good part of it
	static constexpr nanotime pause_least = 50'000, pause_most = 100'000'000;
	static constexpr nanotime ask_each = 20'000'000;  ///< how often the kernel is asked
	static constexpr nanotime share_others = 4;       ///< others have much of the time if it is more than one such part
	static constexpr nanotime unwanted_least = 100'000'000, unwanted_most = 3'200'000'000;

	/// A halt is over.  `by_somebody`: not by its deadline.
	void halted(nanotime began, nanotime ended, bool by_somebody) noexcept {
		brief_ = by_somebody && ended - began < brief;
		halted_ += ended - began;
	}
	[[nodiscard]] bool may_pay() const noexcept { return brief_; }
	[[nodiscard]] bool may_begin(nanotime when) const noexcept { return brief_ && when >= not_before_; }
	void paid() noexcept { pause_ = pause_ / 2 < pause_least ? 0 : pause_ / 2; }
	void in_vain(nanotime when) noexcept {
		brief_ = false;
		pause_ = std::clamp(pause_ * 2, pause_least, pause_most);
		not_before_ = when + pause_;
	}
	[[nodiscard]] bool is_to_ask(nanotime when) const noexcept { return when - asked_ >= ask_each; }
	/// Its kernel thread has used `used` of a CPU, ever.  False: others want it.
	bool told(nanotime when, nanotime used) noexcept {
		const nanotime passed = when - asked_, known = halted_ + (used - used_);
		const bool much = passed > known && passed - known > passed / share_others;
		const bool lately = passed < 2 * ask_each;  // else it is no measure: it did not linger
		asked_ = when;
		used_ = used;
		halted_ = 0;
		if (lately && much) {
			unwanted_ = std::clamp(unwanted_ * 2, unwanted_least, unwanted_most);
			not_before_ = when + unwanted_;
			return false;
		}
		unwanted_ = lately ? 0 : unwanted_;
		return true;
	}

private:
	bool brief_ = false;       // the last halt was
	nanotime not_before_ = 0;  // when it may be done again
	nanotime pause_ = 0;       // how long it stayed away when it was in vain last
	nanotime asked_ = 0;       // when the kernel was asked,
	nanotime used_ = 0;        // what it said,
	nanotime halted_ = 0;      // and how long the vCPU halted since then
	nanotime unwanted_ = 0;    // how long it stayed away for others
};

/// By a vCPU that has found nothing to run.  True: something may have come, look again.
[[nodiscard]] bool sched_linger(vcpu_t *) noexcept;

/// Before the vCPUs are made.  `rationed`: a quota limits the CPU time of this process, which should not be spent on looks.
void linger_start(bool rationed) noexcept;

}  // namespace lwp::kern
