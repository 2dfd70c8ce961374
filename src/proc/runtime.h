// SPDX-License-Identifier: BSD-2-Clause
//
// The runtime: starts and stops the vCPUs, and makes LWPs of kernel threads that come from outside.
#pragma once

#include "proc/proc.h"

#include <lwp/runtime.hpp>

namespace lwp::kern {

/// Starts vCPUs; the calling kernel thread becomes vCPU 0 and its caller LWP 1.  0 | EBUSY | EINVAL | EAGAIN | ENOMEM
[[nodiscard]] int runtime_start(const runtime_options &) noexcept;
/// By LWP 1: waits for the others, stops the vCPUs, lets go of the calling kernel thread.
void runtime_stop() noexcept;
[[nodiscard]] bool runtime_running() noexcept;
extern std::size_t runtime_stack;  ///< bytes of a stack that nobody asked for otherwise; fixed while a runtime lives
inline std::size_t runtime_default_stack() noexcept { return runtime_stack; }
runtime_stats runtime_statistics() noexcept;

/// The calling kernel thread's LWP, made now: starts the default runtime if there is none.
lwp_t *runtime_adopt() noexcept;

/// Starts the default runtime if there is none; for a kernel thread that was adopted under one that has ended.
void runtime_ensure() noexcept;

/// The calling LWP.
LWP_ALWAYS_INLINE lwp_t *curlwp() noexcept {
	lwp_t *l = curlwp_or_null();
	return LWP_LIKELY(l != nullptr) ? l : runtime_adopt();
}

/// The calling LWP, in a call of the library until the end of the scope: it is not interrupted to let others run, nor stopped, but where the call
/// itself says so.  First thing in every public function that takes a lock, waits, or calls below; two plain adds.
class in_library {
public:
	LWP_ALWAYS_INLINE in_library() noexcept : l_(curlwp()) {
		l_->l_depth++;
		fence_compiler(std::memory_order_seq_cst);  // before all that the call does, as a signal handler on this kernel thread sees it
	}
	LWP_ALWAYS_INLINE ~in_library() {
		fence_compiler(std::memory_order_seq_cst);
		l_->l_depth--;
	}
	in_library(const in_library &) = delete;
	in_library &operator=(const in_library &) = delete;
	LWP_ALWAYS_INLINE operator lwp_t *() const noexcept { return l_; }
	LWP_ALWAYS_INLINE lwp_t *operator->() const noexcept { return l_; }

private:
	lwp_t *l_;
};

}  // namespace lwp::kern
