// SPDX-License-Identifier: BSD-2-Clause
#include "core/cred.h"

#include <new>

namespace lwp::kern {

constinit kauth_cred cred0 = {.cr_published = true, .cr_privs = ~0U};

kauth_cred *cred_alloc() noexcept { return new (std::nothrow) kauth_cred; }

LWP_NOINLINE void cred_destroy(kauth_cred *cr) noexcept {
	if (cr->cr_destroy != nullptr) {
		cr->cr_destroy(cr->cr_data);
	}
	delete cr;
}

}  // namespace lwp::kern
