// SPDX-License-Identifier: BSD-2-Clause
#include "base/cpu.h"

#include <lwp/detail/here.hpp>

extern "C" {
__thread lwp::kern::vcpu_t *lwp_tls_vcpu __attribute__((used)) = nullptr;
#if LWP_HERE
__thread const unsigned char *lwp_here_1 __attribute__((used)) = nullptr;  // as lwp_tls_vcpu, for the application
#endif
}

namespace lwp::kern {

#if LWP_EXPLORE
void curcpu_set(vcpu_t *vc) noexcept { explore::set_current_vcpu(vc); }
#else
LWP_NOINLINE void curcpu_set(vcpu_t *vc) noexcept {
	lwp_tls_vcpu = vc;
#if LWP_HERE && !LWP_BY_CALL
	lwp_here_1 = reinterpret_cast<const unsigned char *>(vc);
#endif
}
#endif

LWP_NOINLINE void curcpu_by_call() noexcept {
#if LWP_HERE
	lwp_here_1 = nullptr;
#endif
}

#if !defined(__x86_64__)
// Not inlined and with an empty asm inside: every call computes the address afresh.
LWP_NOINLINE vcpu_t *curcpu_slow() noexcept {
	asm volatile("" ::: "memory");
	return lwp_tls_vcpu;
}
#endif

}  // namespace lwp::kern
