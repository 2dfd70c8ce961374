// SPDX-License-Identifier: BSD-2-Clause
//
// The credential object: counted, and never changed once a second one has it.  The first one of the process is there for ever and is not counted, so that
// processes which never publish another share no counter among their vCPUs.
// Takes no lock.  The last reference calls the application's destroyer: give it back with no lock held.
#pragma once

#include "base/atomic.h"
#include "base/config.h"

#include <cstdint>
#include <sys/types.h>

/// The public type's name is NetBSD's, of no namespace.
struct kauth_cred {
	lwp::kern::atomic<std::uint32_t> cr_refcnt{1};
	lwp::kern::atomic<bool> cr_published{false};  // a: it was the proc's
	uid_t cr_uid = 0;                             // these are fixed from the moment others can have it
	std::uint32_t cr_privs = 0;
	void *cr_data = nullptr;
	void (*cr_destroy)(void *) = nullptr;
};

namespace lwp::kern {

inline constexpr std::uint32_t priv_sched = 0x1, priv_affinity = 0x2, priv_setcred = 0x4;  // LWP_PRIV_..., checked in api/c_kauth.cpp

extern kauth_cred cred0;  ///< the first: every privilege

[[nodiscard]] kauth_cred *cred_alloc() noexcept;  ///< null: no memory
void cred_destroy(kauth_cred *) noexcept;

LWP_ALWAYS_INLINE kauth_cred *cred_hold(kauth_cred *cr) noexcept {
	if (LWP_UNLIKELY(cr != &cred0)) {
		cr->cr_refcnt.fetch_add(1, std::memory_order_relaxed);  // relaxed: whoever holds it got it in order
	}
	return cr;
}

LWP_ALWAYS_INLINE void cred_free(kauth_cred *cr) noexcept {
	// release: what we did with it is over before it goes; acquire: pairs with that of all others
	if (LWP_UNLIKELY(cr != &cred0) && cr->cr_refcnt.fetch_sub(1, std::memory_order_acq_rel) == 1) {
		cred_destroy(cr);
	}
}

}  // namespace lwp::kern
