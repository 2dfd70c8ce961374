// SPDX-License-Identifier: BSD-2-Clause
//
// What LWPs have used, as objects.  <lwp/usage.h> says what is counted and when.
#pragma once

#include <lwp/usage.h>

#include <array>
#include <chrono>
#include <cstdint>

namespace lwp {

/// What LWPs have used.
struct usage {
	std::chrono::nanoseconds run_time;   ///< on vCPUs, as far as it was counted
	double share;                        ///< of a vCPU, of late: 1 for one that always runs
	std::uint64_t voluntary_switches;    ///< it waited, stopped or yielded
	std::uint64_t involuntary_switches;  ///< another was better, or its slice was over
};

/// Of one LWP, named by its native_handle().  Throws std::system_error: ESRCH no such LWP, or 0.
LWP_API usage usage_of(lwpid_t);
/// Of all of the process, also those that are gone; `share` of those that live.  Looks at every LWP.
LWP_API usage usage_of_process();

/// How many LWPs of the process have run or could have, on average over the last one, five and fifteen minutes (lwp_getloadavg()).
inline std::array<double, 3> load_average() noexcept {
	std::array<double, 3> load{};
	(void)lwp_getloadavg(load.data(), 3);
	return load;
}

/// Counts time from now on, or no longer.  Returns whether it was counted before.
inline bool account(bool on) noexcept { return lwp_account(on ? 1 : 0) != 0; }

namespace this_thread {

/// Of the caller.
inline lwp::usage usage() { return usage_of(_lwp_self()); }

}  // namespace this_thread
}  // namespace lwp
