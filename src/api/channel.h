// SPDX-License-Identifier: BSD-2-Clause
//
// What channels and select share: the way from the public class to the kernel object, and the wait of one that hangs somewhere.
#pragma once

#include "proc/runtime.h"
#include "sync/channel.h"

namespace lwp::detail {

struct channel_access {
	static kern::kchannel *kernel(channel_base *) noexcept;
};

}  // namespace lwp::detail

namespace lwp::kern {

// What a grant of ours is taken by, beside 1 and up: a case.
constexpr int by_itself = -2;         // the waiter, to do something else
constexpr int by_first_stop = -1000;  // and down: a stop request

/// Waits until the grant is given or the deadline; suspends and the like only interrupt that.  By whom it was taken.
int wait_granted(grant *, const plain_sleep &, lwp_t *l, nanotime deadline) noexcept;
inline constexpr plain_sleep select_sleep = grant_sleep("select", &channel_syncobj);

/// The waiter goes on without it.  A stop that came first is about to give, which must not hit our next wait.
inline void give_up(grant *g, lwp_t *l) noexcept {
	if (!grant_take(g, by_itself)) {
		(void)wait_granted(g, select_sleep, l, never);
	}
}

/// In a stop callback, on whatever kernel thread: never switches, so it is soon over for whoever destroys the callback meanwhile.
inline void end_by_stop(grant *g, int by) noexcept {
	const in_library l;
	if (grant_take(g, by)) {
		grant_give(g, l->l_cpu);
	}
}

}  // namespace lwp::kern
