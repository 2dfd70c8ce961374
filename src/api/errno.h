// SPDX-License-Identifier: BSD-2-Clause
//
// errno of the calling LWP, on whatever kernel thread it is now.
#pragma once

namespace lwp::kern {

/// Never inlined: the address of errno must be computed after the last context switch, and compilers believe that it never changes.
void set_errno(int error) noexcept;

/// 0, or -1 with errno set.
inline int c_result(int error) noexcept {
	if (error == 0) {
		return 0;
	}
	set_errno(error);
	return -1;
}

}  // namespace lwp::kern
