// SPDX-License-Identifier: BSD-2-Clause
//
// Control blocks: a cache line in which the scheduler shows an LWP's doings.  Whoever looks at another LWP's block may look too late, so
// their memory is never given back: it stays a control block, of that LWP or of a later one.  Takes a leaf lock.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

/// Null if there is no memory.
[[nodiscard]] lwpctl_t *lwpctl_get() noexcept;
/// Of an LWP that has been collected, if it has one.
void lwpctl_put(lwp_t *) noexcept;

}  // namespace lwp::kern
