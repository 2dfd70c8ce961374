// SPDX-License-Identifier: BSD-2-Clause
//
// What is said of LWPs that do not run: each with its name, what it sleeps on, who could end that, since when, and where it stands in its code.
#pragma once

#include "proc/proc.h"

#include <string>

namespace lwp::kern {

/// What is done when LWPs are stuck for good: LWP_DEADLOCK in the environment.
enum class deadlock_mode : std::uint8_t { report, abort, off };

/// Circles first, then everybody who sleeps, the longest sleepers first; many that sleep alike are counted, not listed.
/// `me` runs, and holds no lock.  Throws std::bad_alloc.
std::string report_all(lwp_t *me);

/// The same of every LWP, also those that run.  Throws std::bad_alloc.
std::string report_every(lwp_t *me);

/// From now on circles are reported as they close, and a standstill some time after.  Reads LWP_DEADLOCK.
void report_install() noexcept;

}  // namespace lwp::kern
