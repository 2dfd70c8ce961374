// SPDX-License-Identifier: BSD-2-Clause
//
// Who has which credential.  p_cred is written under all pp_locks, so any of them lets one read it and take a reference: it cannot go before
// the publisher, who needs them all, has put another in its place.  Each LWP keeps a reference of its own in l_cred, which it alone reads and
// replaces: LW_CRMOD, set by the publisher in the section in which p_cred changes, tells it to.  It is no reason to end a sleep.
#pragma once

#include "core/cred.h"
#include "proc/proc.h"

namespace lwp::kern {

/// Publishes it.  0 | EPERM
[[nodiscard]] int proc_setcred(lwp_t *l, kauth_cred *) noexcept;

/// Takes the proc's credential, by the LWP itself, no lock held.  The old one may go, by the application's destroyer.
void lwp_update_creds(lwp_t *l) noexcept;

/// Gives the LWP's reference back, as it ends.  No lock held.
LWP_ALWAYS_INLINE void lwp_drop_creds(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_cred != &cred0)) {
		kauth_cred *cr = l->l_cred;
		l->l_cred = &cred0;
		cred_free(cr);
	}
}

/// The caller's, as it is now.
inline kauth_cred *lwp_cred(lwp_t *l) noexcept {
	if (LWP_UNLIKELY((lwp_flags(l) & LW_CRMOD) != 0)) {
		lwp_update_creds(l);
	}
	return l->l_cred;
}

/// 0 | EPERM
[[nodiscard]] int lwp_authorize(lwp_t *l, std::uint32_t privs) noexcept;

}  // namespace lwp::kern
