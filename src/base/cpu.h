// SPDX-License-Identifier: BSD-2-Clause
//
// Which vCPU the running kernel thread is.  The one thread-local variable of the library, read so that no compiler can keep its
// address or its value across a context switch: an LWP that slept may wake up on another kernel thread.
#pragma once

#include "base/config.h"
#if LWP_EXPLORE
#include "base/atomic.h"
#endif

namespace lwp::kern {
struct vcpu_t;
}

extern "C" {
extern __thread __attribute__((visibility("hidden"), tls_model("initial-exec"))) lwp::kern::vcpu_t *lwp_tls_vcpu;
}

namespace lwp::kern {

/// The vCPU that runs us; null on a kernel thread that the library has not met.
LWP_ALWAYS_INLINE vcpu_t *curcpu_or_null() noexcept {
#if LWP_EXPLORE
	return explore::current_vcpu;
#elif defined(__x86_64__)
	// volatile: evaluated where it stands, each time.  The two instructions are the linker's initial-exec form.
	vcpu_t *vc;
	asm volatile("movq lwp_tls_vcpu@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(vc));
	return vc;
#else
	vcpu_t *curcpu_slow() noexcept;
	return curcpu_slow();
#endif
}

/// Said once by each kernel thread that becomes (or stops being) a vCPU.
void curcpu_set(vcpu_t *vc) noexcept;
/// Code that stands in the application calls the library from now on, on this kernel thread, also where it need not (<lwp/detail/here.hpp>).
void curcpu_by_call() noexcept;

}  // namespace lwp::kern
