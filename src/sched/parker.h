// SPDX-License-Identifier: BSD-2-Clause
//
// How an idle vCPU waits for somebody to wake it: a value handed down, so that whatever knows a better place to wait (a ring of
// I/O requests) can put its own in.  The default waits on a futex.
#pragma once

#include "base/clock.h"

namespace lwp::kern {

struct vcpu_t;

struct parker {
	/// Waits until unpark() or the deadline; may return early.  By the vCPU itself, after it has said that it halts.
	void (*park)(vcpu_t *, nanotime deadline);
	/// Ends a park, also one that is about to begin.  By anybody.
	void (*unpark)(vcpu_t *);
};

extern const parker futex_parker;

}  // namespace lwp::kern
