// SPDX-License-Identifier: BSD-2-Clause
#include "proc/cred.h"

#include <cerrno>
#include <utility>

namespace lwp::kern {

int proc_setcred(lwp_t *l, kauth_cred *cr) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	kauth_cred *old;
	{
		const proc_scope hold(p, me);
		// The proc's, not the caller's: somebody may have given privileges up this moment.
		old = p->p_cred;
		if ((old->cr_privs & priv_setcred) == 0 && (cr->cr_uid != old->cr_uid || (cr->cr_privs & ~old->cr_privs) != 0)) {
			return EPERM;
		}
		cr->cr_published.store(
		    true, std::memory_order_relaxed);  // relaxed: asked by whoever has the only reference, and that is no longer so
		p->p_cred = cred_hold(cr);
		// Those that are being made take p_cred under their pp_lock: before us, and then they are in the table; or after.
		proc_each_lwp(p, [me](lwp_t *t) {
			spinlock *lock = lwp_lock(t, me);
			lwp_flag_set(t, LW_CRMOD);
			lock->unlock(me);
		});
	}
	cred_free(old);
	return 0;
}

LWP_NOINLINE void lwp_update_creds(lwp_t *l) noexcept {
	kauth_cred *old;
	{
		vcpu_t *me = l->l_cpu;
		lock_scope hold(l->l_part->pp_lock, me);
		spinlock *lock = lwp_lock(l, me);
		lwp_flag_clear(l, LW_CRMOD);  // under pp_lock: a publisher is before us, and we take what it published, or after, and sets it again
		lock->unlock(me);
		old = std::exchange(l->l_cred, cred_hold(l->l_proc->p_cred));
	}
	cred_free(old);
}

int lwp_authorize(lwp_t *l, std::uint32_t privs) noexcept { return (lwp_cred(l)->cr_privs & privs) == privs ? 0 : EPERM; }

}  // namespace lwp::kern
