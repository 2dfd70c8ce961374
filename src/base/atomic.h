// SPDX-License-Identifier: BSD-2-Clause
//
// The atomics of the library's own code, by one name, so that a test build can put a scheduler's hook in front of each access and walk
// through the orders in which vCPUs may meet (tests/explore).  In every other build they are std's and cost nothing more.
#pragma once

#include "base/config.h"

#include <atomic>
#if LWP_EXPLORE
#include <explore/hooks.h>
#endif

namespace lwp::kern {

#if LWP_EXPLORE
using explore::atomic;
using explore::fence;
#else
template <class T>
using atomic = std::atomic<T>;

/// Orders accesses of this kernel thread against those of others.
inline void fence(std::memory_order order) noexcept { std::atomic_thread_fence(order); }
#endif
/// Orders them as the compiler sees them, no more.
inline void fence_compiler(std::memory_order order) noexcept { std::atomic_signal_fence(order); }

}  // namespace lwp::kern
