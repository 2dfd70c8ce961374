// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "base/clock.h"

#include <lwp/detail/time.hpp>

namespace lwp::kern {

/// A point of std's steady clock as one of ours: the same clock, no time before its beginning, and its end is never.
inline nanotime to_nanotime(lwp::detail::steady_time t) noexcept {
	if (t == lwp::detail::steady_time::max()) {
		return never;
	}
	const auto count = t.time_since_epoch().count();
	return count <= 0 ? 0 : static_cast<nanotime>(count);
}

}  // namespace lwp::kern
