// SPDX-License-Identifier: BSD-2-Clause
//
// Two kinds of "must be true".  LWP_ASSERT: our own invariants, debug builds only.  LWP_CHECK: misuse by the caller that would
// corrupt memory, every build.  Both print one line and abort; neither allocates.
#pragma once

#include "base/config.h"

namespace lwp::kern {

/// Prints "lwp: <what it says>" on standard error and aborts.  printf's format.
[[noreturn]] void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace lwp::kern

#if LWP_DEBUG
#define LWP_ASSERT(cond) \
	(LWP_LIKELY(cond) ? (void)0 : ::lwp::kern::fatal("%s:%d: %s: assertion failed: %s", __FILE__, __LINE__, __func__, #cond))
#else
#define LWP_ASSERT(cond) ((void)sizeof(cond))
#endif

/// `message` names the call and the rule that was broken.
#define LWP_CHECK(cond, message) (LWP_LIKELY(cond) ? (void)0 : ::lwp::kern::fatal("%s", message))
