// SPDX-License-Identifier: BSD-2-Clause
//
// What LWPs have used, told.  An LWP's facts are read under its lock, so they belong together.  The sums of the proc are taken under all locks: what one
// that ends has used goes into its part in the section in which it leaves the table, so a sum never falls.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/account.h"

#include <cerrno>
#include <cstring>

namespace lwp::kern {

int lwp_tell(lwp_t *l, lwpid_t lid, lwp_facts *f) noexcept {
	vcpu_t *me = l->l_cpu;
	lock_scope hold((lid == 0 ? l->l_part : proc_part(l->l_proc, lid))->pp_lock, me);
	const lwp_t *t = lid == 0 ? l : lwp_find_any(l->l_proc, lid);
	// A dead one that nobody will wait for is no LWP any more.
	if (t == nullptr || lwp_state(t) == lwp_stat::idl || (lwp_state(t) == lwp_stat::zomb && (t->l_prflag & LPR_DETACHED) != 0)) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(const_cast<lwp_t *>(t), me);
	const nanotime when = now();
	const cpu_account a = sched_account_of(t, when);
	const bool kernel_thread = t->l_adopted && t->l_cpu->vc_bound;
	const pri_t low = t->l_class == sched_class::other ? pri_user : pri_user_rt;
	*f = {.lid = lwp_lid(t),
	    .stat = lwp_state(t),
	    .vcpu = kernel_thread ? -1 : t->l_cpu->vc_index.load(std::memory_order_relaxed),  // relaxed: of one that acts it stays
	    .policy = t->l_class,
	    .given = t->l_basepri - low,
	    .now = t->l_priority.load(std::memory_order_relaxed),  // relaxed: locked
	    .psid = t->l_psid,
	    .detached = (t->l_prflag & LPR_DETACHED) != 0,
	    .adopted = kernel_thread,
	    .rtime = a.ca_rtime,
	    .nvcsw = t->l_ncsw - t->l_nivcsw,
	    .nivcsw = t->l_nivcsw,
	    .share = a.share(when),
	    .name = {},
	    .wmesg = {}};
	std::memcpy(f->name, t->l_name, sizeof(f->name));
	if (lwp_asleep(t) && t->l_wmesg != nullptr) {
		std::memcpy(f->wmesg, t->l_wmesg, ::strnlen(t->l_wmesg, sizeof(f->wmesg) - 1));
	}
	lock->unlock(me);
	return 0;
}

void proc_tell(lwp_t *l, proc_facts *f) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	const proc_scope hold(p, me);
	*f = {};
	std::uint64_t switches = 0;
	proc_each_share(p, [&](const procshare &pp) {
		f->rtime += pp.pp_rtime;
		switches += pp.pp_ncsw;
		f->nivcsw += pp.pp_nivcsw;
	});
	proc_each_lwp(p, [&](lwp_t *t) {
		spinlock *lock = lwp_lock(t, me);
		const nanotime when = now();
		const cpu_account a = sched_account_of(t, when);
		f->rtime += a.ca_rtime;
		switches += t->l_ncsw;
		f->nivcsw += t->l_nivcsw;
		if (lwp_state(t) != lwp_stat::zomb) {
			f->nlwps++;
			f->share += a.share(when);
		}
		lock->unlock(me);
	});
	f->nvcsw = switches - f->nivcsw;
}

bool lwp_account(bool on) noexcept { return sched_count(on); }

}  // namespace lwp::kern
