// SPDX-License-Identifier: BSD-2-Clause
#include "base/cpu.h"

extern "C" {
__thread lwp::kern::vcpu_t *lwp_tls_vcpu __attribute__((used)) = nullptr;
}

namespace lwp::kern {

#if LWP_EXPLORE
void curcpu_set(vcpu_t *vc) noexcept { explore::set_current_vcpu(vc); }
#else
LWP_NOINLINE void curcpu_set(vcpu_t *vc) noexcept { lwp_tls_vcpu = vc; }
#endif

#if !defined(__x86_64__)
// Not inlined and with an empty asm inside: every call computes the address afresh.
LWP_NOINLINE vcpu_t *curcpu_slow() noexcept {
	asm volatile("" ::: "memory");
	return lwp_tls_vcpu;
}
#endif

}  // namespace lwp::kern
