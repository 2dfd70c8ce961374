// SPDX-License-Identifier: BSD-2-Clause
#include "base/assert.h"

#include <lwp/detail/count.hpp>

namespace lwp::detail {

void bad_count(const char *type, std::ptrdiff_t n) noexcept { kern::fatal("lwp::%s begins with %td: below 0, or above max()", type, n); }

}  // namespace lwp::detail
