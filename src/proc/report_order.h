// SPDX-License-Identifier: BSD-2-Clause
//
// What is said of an order of locks that could end in a deadlock (sync/lockorder.h).
#pragma once

namespace lwp::kern {

/// From now on orders are kept and told, in a debug build.  Reads LWP_LOCK_ORDER: report (default), abort, off.
void report_order_install() noexcept;

}  // namespace lwp::kern
