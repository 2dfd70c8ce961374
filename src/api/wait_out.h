// SPDX-License-Identifier: BSD-2-Clause
//
// A wait of this library seen from std's side: it goes on until it has succeeded or its time is over.
#pragma once

#include "proc/lwp_life.h"
#include "sched/switch.h"

#include <cerrno>

namespace lwp::kern {

/// Calls `sleep` until it returns 0 or ETIMEDOUT.  ERESTART: a suspend and the like only interrupt the wait.
template <class Sleep>
int wait_out(lwp_t *l, nanotime deadline, Sleep sleep) noexcept {
	for (;;) {
		const int error = sleep();
		if (error == 0 || error == ETIMEDOUT) {
			return error;
		}
		lwp_userret(l);
		if (error == ENOMEM) {  // no room for a timer: wait the other way, by looking at the clock
			if (now() >= deadline) {
				return ETIMEDOUT;
			}
			lwp_yield_cpu(l);
		}
	}
}

}  // namespace lwp::kern
