// SPDX-License-Identifier: BSD-2-Clause
//
// Numbers that a primitive begins with, looked at where it is made.
#pragma once

#include <lwp/lwp.h>

#include <cstddef>

namespace lwp::detail {

/// Ends the program with a message.
[[noreturn]] LWP_API void bad_count(const char *type, std::ptrdiff_t n) noexcept;

/// `n`, which must be between 0 and `most`.  Where it is a constant, one that is not is an error of the compiler's: bad_count() is none.
constexpr std::ptrdiff_t checked_count(const char *type, std::ptrdiff_t n, std::ptrdiff_t most) noexcept {
	if (n < 0 || n > most) {
		bad_count(type, n);
	}
	return n;
}

}  // namespace lwp::detail
