// SPDX-License-Identifier: BSD-2-Clause
//
// Control blocks: a cache line in which the scheduler shows an LWP's doings.  Whoever looks at another LWP's block may look too late, so
// their memory is never given back: it stays a control block, of that LWP or of a later one.  Takes a leaf lock.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

/// Null if there is no memory.
[[nodiscard]] lwpctl_t *lwpctl_get() noexcept;
/// Atomic, because others look at any time; release: pairs with the acquire of one who looks, who then sees what the LWP did before.
inline void lwpctl_show(lwpctl_t *ctl, int cpu) noexcept { __atomic_store_n(&ctl->lc_curcpu, cpu, __ATOMIC_RELEASE); }
inline void lwpctl_show_turns(lwpctl_t *ctl, int turns) noexcept { __atomic_store_n(&ctl->lc_pctr, turns, __ATOMIC_RELEASE); }

/// Of an LWP that has been collected, if it has one.
void lwpctl_put_slow(lwp_t *) noexcept;
inline void lwpctl_put(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_ctl.load(std::memory_order_relaxed) != nullptr)) {  // relaxed: the LWP is dead and the caller's
		lwpctl_put_slow(l);
	}
}

}  // namespace lwp::kern
