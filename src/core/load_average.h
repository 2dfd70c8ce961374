// SPDX-License-Identifier: BSD-2-Clause
//
// Load averages: how many LWPs run or could, as an average that forgets with time constants of one, five and fifteen minutes.  Values only: whoever
// samples says when it is and how many those are.
//
// NetBSD samples from a callout each five seconds.  Here nobody is woken for that: who looks at its clock anyway samples what is due.  What was due while nobody
// looked is made up for then.  Nobody has looked because nothing ran, or because what ran did so all the time, on one vCPU, without a switch; whoever
// samples can tell how many those are.
#pragma once

#include "base/clock.h"

#include <cstdint>

namespace lwp::kern {

struct load_average {
	static constexpr nanotime interval = 5'000'000'000;
	/// A sample that is so late says what is the case now, not what was when it was due.
	static constexpr nanotime late = 100'000'000;
	static constexpr unsigned shift = 20;
	static constexpr std::uint64_t one = std::uint64_t{1} << shift;  // one LWP that always runs
	static constexpr unsigned averages = 3;
	static constexpr std::uint64_t keeps[averages] = {964'736, 1'031'245, 1'042'767};  // exp(-1/12), exp(-1/60), exp(-1/180), of `one`

	nanotime la_due = never;  // when the next sample is
	std::uint64_t la_load[averages] = {};

	void begin(nanotime when) noexcept {
		*this = {};
		la_due = when + interval;
	}

	/// If a sample is due at `when`: `running` LWPs run or could, and `throughout` have since the last sample.
	void sample(nanotime when, std::uint64_t running, std::uint64_t throughout) noexcept {
		if (when < la_due) {
			return;
		}
		const std::uint64_t missed = (when - la_due) / interval;
		la_due += missed * interval;
		add(missed, throughout);
		add(1, when - la_due <= late ? running : throughout);
		la_due += interval;
	}

private:
	static constexpr std::uint64_t times(std::uint64_t a, std::uint64_t b) noexcept { return a * b >> shift; }

	/// So many samples of so many LWPs.
	void add(std::uint64_t samples, std::uint64_t lwps) noexcept {
		for (unsigned i = 0; i < averages; i++) {
			std::uint64_t keep = one;
			std::uint64_t by = keeps[i];
			for (std::uint64_t n = samples; n != 0 && keep != 0; n >>= 1, by = times(by, by)) {
				keep = (n & 1) != 0 ? times(keep, by) : keep;
			}
			// So that a load that stays the same is told exactly.
			const std::uint64_t steady = lwps << shift;
			la_load[i] = times(la_load[i], keep) + (steady - times(steady, keep));
		}
	}
};

}  // namespace lwp::kern
