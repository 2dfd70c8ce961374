// SPDX-License-Identifier: BSD-2-Clause
//
// Time inside the library: nanoseconds of CLOCK_MONOTONIC in 64 bits, and nothing else.
#pragma once

#include "base/atomic.h"

#include <cstdint>
#include <ctime>

namespace lwp::kern {

using nanotime = std::uint64_t;
inline constexpr nanotime never = UINT64_MAX;  ///< the deadline of a wait without one

inline nanotime now() noexcept {
#if LWP_EXPLORE
	return explore::clock_now();
#else
	timespec ts;
	::clock_gettime(CLOCK_MONOTONIC, &ts);
	return static_cast<nanotime>(ts.tv_sec) * 1'000'000'000U + static_cast<nanotime>(ts.tv_nsec);
#endif
}

/// CPU time of the calling kernel thread: a system call.  The explorer's have none.
inline nanotime cpu_time() noexcept {
#if LWP_EXPLORE
	return 0;
#else
	timespec ts;
	return ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0
	    ? static_cast<nanotime>(ts.tv_sec) * 1'000'000'000U + static_cast<nanotime>(ts.tv_nsec)
	    : 0;
#endif
}

/// The CPU's own counter: of unknown speed, but some nanoseconds cheap.
inline std::uint64_t cycles() noexcept {
#if defined(__x86_64__) && !LWP_EXPLORE
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__) && !LWP_EXPLORE
	std::uint64_t c;
	asm volatile("mrs %0, cntvct_el0" : "=r"(c));
	return c;
#else
	return now();
#endif
}

/// now() + delta, or never if that does not fit.
inline nanotime after(nanotime from, nanotime delta) noexcept { return delta >= never - from ? never : from + delta; }

/// Rounds nothing: one nanosecond is a timespec's unit.  Times beyond what the kernel takes are cut to some 292 years.
inline timespec to_timespec(nanotime t) noexcept {
	if (t > static_cast<nanotime>(INT64_MAX)) {
		t = static_cast<nanotime>(INT64_MAX);
	}
	return {static_cast<time_t>(t / 1'000'000'000U), static_cast<long>(t % 1'000'000'000U)};
}

}  // namespace lwp::kern
