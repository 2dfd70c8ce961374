// SPDX-License-Identifier: BSD-2-Clause
//
// A wait of this library seen from std's side: it goes on until it has succeeded, its time is over, or a stop is requested.
#pragma once

#include "api/stop_grant.h"
#include "proc/lwp_life.h"
#include "sched/switch.h"

#include <cerrno>

namespace lwp::kern {

/// Calls `sleep` until it returns something else than ERESTART, by which a suspend and the like only interrupt the wait, and ENOMEM.  `ended` is
/// asked before each sleep: not 0, and that is the result.
template <class Sleep, class Ended>
int wait_out_unless(lwp_t *l, nanotime deadline, Sleep sleep, Ended ended) noexcept {
	for (;;) {
		if (const int why = ended(); why != 0) {
			return why;
		}
		const int error = sleep();
		if (error != ERESTART && error != ENOMEM) {
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

template <class Sleep>
int wait_out(lwp_t *l, nanotime deadline, Sleep sleep) noexcept {
	return wait_out_unless(l, deadline, sleep, [] { return 0; });
}

/// The same, and ECANCELED if a stop is requested before that.  `stop` may be null.
template <class Sleep>
int wait_out(lwp_t *l, nanotime deadline, const std::stop_token *stop, Sleep sleep) noexcept {
	if (stop == nullptr || !stop->stop_possible()) {
		return wait_out(l, deadline, sleep);
	}
	interruptor end(l);  // a sleep that it ends is ERESTART to those who sleep, and then it is asked
	end.by_stop(*stop);
	return wait_out_unless(l, deadline, sleep, [&end] { return end.fired(); });
}

}  // namespace lwp::kern
