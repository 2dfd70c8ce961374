// SPDX-License-Identifier: BSD-2-Clause
//
// Being in a call of the library, for calls that make no LWP of their caller.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// As in_library, for a kernel thread that need not become an LWP by this call.
class perhaps_in_library {
public:
	perhaps_in_library() noexcept : l_(curlwp_or_null()) {
		if (l_ != nullptr) {
			l_->l_depth++;
			fence_compiler(std::memory_order_seq_cst);
		}
	}
	~perhaps_in_library() {
		if (l_ != nullptr) {
			fence_compiler(std::memory_order_seq_cst);
			l_->l_depth--;
		}
	}
	perhaps_in_library(const perhaps_in_library &) = delete;
	perhaps_in_library &operator=(const perhaps_in_library &) = delete;

private:
	lwp_t *l_;
};

}  // namespace lwp::kern
