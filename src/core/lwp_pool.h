// SPDX-License-Identifier: BSD-2-Clause
//
// Where LWP structs come from.  Type-stable: memory handed out here is never unmapped and never becomes anything else, so a stale
// pointer to an LWP always finds an LWP (perhaps another, perhaps none) with a lock pointer that can be taken.
// Takes a leaf lock.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

/// An LWP as if new: no state, nobody's, l_mutex names a lock (it always does); null if there is no memory.
[[nodiscard]] lwp_t *lwp_pool_get() noexcept;
void lwp_pool_put(lwp_t *) noexcept;

}  // namespace lwp::kern
