// SPDX-License-Identifier: BSD-2-Clause
//
// All LWPs, as somebody who looks from outside sees them, and the one that stands for them.  Both walk over all under all pp_locks: for ps, debuggers
// and reports.
#pragma once

#include "proc/proc.h"

#include <lwp/proc.h>

namespace lwp::kern {

/// Fills in up to `room` of a proc's (null: of all), in no order; returns how many there are.  No lock held.
std::size_t proc_list(proc_t *, kinfo_lwp *, std::size_t room, vcpu_t *me) noexcept;

/// The LWP that stands for the proc: the one that took the last signal, if it lives; else one that is LSONPROC, LSRUN, LSSLEEP, LSSTOP, LSSUSPENDED, the
/// first kind that there is.  Null if none lives (Q26).  *nrlwps: how many are LSONPROC or LSRUN.  All locks held; the LWP is not locked.
lwp_t *proc_representative_lwp(const proc_t *, std::size_t *nrlwps) noexcept;

}  // namespace lwp::kern
