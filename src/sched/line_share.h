// SPDX-License-Identifier: BSD-2-Clause
//
// When those who stand in line go before LWPs that hand over to each other: each fourth hand-over, as long as they take no longer than such hand-overs.  One
// that computes for long takes as much time in its one turn as its line gets in many: then the hand-overs have as much time before the next.  Without that,
// each fourth of a pair that hands over to and fro waited for whatever the first in line computes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lwp::kern {

class line_share {
public:
	// In cycles of the CPU's counter, some 5 us and 150 us on x86.  Where it is slower no turn is long, and each fourth hand-over waits.
	static constexpr std::uint64_t brief = std::uint64_t{1} << 14;
	static constexpr std::uint64_t owed_most = std::uint64_t{1} << 19;

	/// At a fourth hand-over, at `when`, with somebody in line, from which `served` have run in all.  True: the first in line goes before, and is counted in
	/// `served` now.
	[[nodiscard]] bool due(std::uint64_t when, std::uint32_t served) noexcept {
		const std::uint64_t span = when - when_;
		when_ = when;
		if (served != served_) {  // it has run without us: nobody keeps it out
			served_ = served;
			owed_ = 0;
			due_ = false;
			return false;
		}
		if (due_) {
			owed_ = span > brief ? std::min(span, owed_most) : 0;  // the turn of the one that went before, and three hand-overs
		} else {
			owed_ -= std::min(owed_, span);
		}
		due_ = owed_ == 0;
		served_ += due_ ? 1 : 0;
		return due_;
	}

private:
	std::uint64_t when_ = 0;
	std::uint64_t owed_ = 0;  // so long the hand-overs go first yet
	std::uint32_t served_ = 0;
	bool due_ = false;  // the last time
};

}  // namespace lwp::kern
