// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that were woken while their stacks were not in memory: LSRUN, but on no run queue (NetBSD's swapped-out LWPs).  They wait here for the pager
// (proc/pager.h), who is told by a futex, and are covered by pq_lock, of the rank of the run queues.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

struct pageq_t {
	spinlock pq_lock{lock_rank::run_queue, "pq_lock"};
	list<lwp_t, &lwp_t::l_link> pq_lwps;  // pq_lock
	atomic<std::uint32_t> pq_calls{0};    // a: grows with each reason to look; the pager waits for that
};
extern pageq_t pageq;

/// There is something for the pager to look at.  It is stored before.
void pageq_call() noexcept;

/// The pager is through with one, whose stack is in memory: queues it.  It is locked by pq_lock, which is released, and on no list.
void pageq_run_and_unlock(lwp_t *l, vcpu_t *me) noexcept;

}  // namespace lwp::kern
