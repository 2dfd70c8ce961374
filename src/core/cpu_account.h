// SPDX-License-Identifier: BSD-2-Clause
//
// What an LWP has used of the vCPUs: time in all, and its share of late (NetBSD's l_rtime and l_pctcpu).  Values only: whoever charges says from
// when to when.
//
// The share decays by exp(-1/20) a second, so 95 % of it is of the last minute.  NetBSD walks over all LWPs once a second for that; here an account is
// brought up to date when it is charged or read, whatever lies between: the same numbers, and a million sleepers cost nothing.
#pragma once

#include "base/clock.h"

#include <cstdint>

namespace lwp::kern {

struct cpu_account {
	static constexpr nanotime second = 1'000'000'000;
	static constexpr unsigned shift = 24;  // of shares: 1 << shift is a whole vCPU
	static constexpr std::uint64_t one = std::uint64_t{1} << shift;
	static constexpr std::uint64_t ccpu = 15'958'982;  // exp(-1/20)
	static constexpr std::uint64_t forgotten = 400;    // seconds after which nothing is left of a share

	nanotime ca_rtime = 0;
	std::uint64_t ca_second = 0;  // the second that ca_used is of
	std::uint32_t ca_used = 0;    // nanoseconds of it
	std::uint32_t ca_share = 0;   // as of its begin

	/// It had a vCPU from `from` to `to`, and for all of that none that it has been charged for.
	void charge(nanotime from, nanotime to) noexcept {
		ca_rtime += to - from;
		begin_second(from / second);
		if (to / second - ca_second > forgotten) {  // what was before is forgotten, and all since then was its own
			ca_second = to / second - forgotten;
			ca_share = static_cast<std::uint32_t>(one);
			ca_used = 0;
			from = ca_second * second;
		}
		while (to / second != ca_second) {
			const nanotime end = (ca_second + 1) * second;
			ca_used += static_cast<std::uint32_t>(end - from);
			from = end;
			begin_second(ca_second + 1);
		}
		ca_used += static_cast<std::uint32_t>(to - from);
	}

	/// Its share as of `when`, of `one`.
	[[nodiscard]] std::uint32_t share(nanotime when) const noexcept {
		cpu_account then = *this;
		then.begin_second(when / second);
		return then.ca_share;
	}

private:
	static constexpr std::uint64_t times(std::uint64_t a, std::uint64_t b) noexcept { return a * b >> shift; }

	void begin_second(std::uint64_t s) noexcept {
		if (s <= ca_second) {
			return;
		}
		std::uint64_t idle = s - ca_second - 1;
		std::uint64_t share = times(ca_share, ccpu) + times(one - ccpu, ca_used * one / second);
		if (idle > forgotten) {
			share = 0;
		}
		for (std::uint64_t by = ccpu; idle != 0 && share != 0; idle >>= 1, by = times(by, by)) {
			if ((idle & 1) != 0) {
				share = times(share, by);
			}
		}
		ca_share = static_cast<std::uint32_t>(share);
		ca_used = 0;
		ca_second = s;
	}
};

}  // namespace lwp::kern
