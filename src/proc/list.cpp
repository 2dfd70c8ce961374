// SPDX-License-Identifier: BSD-2-Clause
#include "proc/list.h"

#include "proc/lwp_life.h"

#include <cstring>
#include <iterator>

namespace lwp::kern {
namespace {

static_assert(LSIDL == static_cast<int>(lwp_stat::idl) && LSRUN == static_cast<int>(lwp_stat::run) &&
    LSSLEEP == static_cast<int>(lwp_stat::sleep) && LSSTOP == static_cast<int>(lwp_stat::stop) &&
    LSZOMB == static_cast<int>(lwp_stat::zomb) && LSONPROC == static_cast<int>(lwp_stat::onproc) &&
    LSSUSPENDED == static_cast<int>(lwp_stat::suspended));

/// Which of two that nobody has sent a signal stands for the proc: the earlier.
constexpr lwp_stat by_preference[] = {lwp_stat::onproc, lwp_stat::run, lwp_stat::sleep, lwp_stat::stop, lwp_stat::suspended};

std::size_t preference(lwp_stat s) noexcept {
	std::size_t at = 0;
	while (at < std::size(by_preference) && by_preference[at] != s) {
		at++;
	}
	return at;
}

/// Dead and nobody's, or not made yet.
bool hidden(const lwp_t *l, lwp_stat s) noexcept {
	return s == lwp_stat::idl || s == lwp_stat::none || (s == lwp_stat::zomb && (l->l_prflag & (LPR_DETACHED | LPR_CLAIMED)) != 0);
}

/// pp_lock of its part and its own lock held.
kinfo_lwp describe(const lwp_t *l, lwp_stat s, nanotime when) noexcept {
	// In the order of its members: l_lid, l_stat, l_cpuid, l_class, l_priority, l_usrpri, l_detached, l_inmem, l_holdcnt.  relaxed: locked
	kinfo_lwp k = {lwp_lid(l), static_cast<int>(s), LWPCTL_CPU_NONE, static_cast<int>(l->l_class),
	    l->l_priority.load(std::memory_order_relaxed), l->l_basepri, (l->l_prflag & LPR_DETACHED) != 0 ? 1 : 0,
	    (lwp_flags(l) & LW_INMEM) != 0 ? 1 : 0, l->l_holdcnt, 0, 0, {}, {}, proc_pid(l->l_proc)};
	if ((s == lwp_stat::onproc || s == lwp_stat::run) && !l->l_cpu->vc_bound) {
		k.l_cpuid = l->l_cpu->vc_index.load(std::memory_order_relaxed);  // relaxed: a number
	}
	std::memcpy(k.l_name, l->l_name, sizeof k.l_name);
	if (lwp_asleep(l)) {
		k.l_wchan = reinterpret_cast<std::uintptr_t>(l->l_wchan);
		std::strncpy(k.l_wmesg, l->l_wmesg, sizeof k.l_wmesg - 1);
		k.l_slptime = when > l->l_slept ? static_cast<std::uint32_t>((when - l->l_slept) / 1'000'000'000U) : 0;
	}
	return k;
}

}  // namespace

std::size_t proc_list(proc_t *p, kinfo_lwp *out, std::size_t room, vcpu_t *me) noexcept {
	std::size_t n = 0;
	const nanotime when = now();
	proc_for_each(p, me, [&](lwp_t *l) {
		spinlock *lock = lwp_lock(l, me);
		const lwp_stat s = lwp_state(l);
		if (!hidden(l, s) && n++ < room) {
			out[n - 1] = describe(l, s, when);
		}
		lock->unlock(me);
	});
	return n;
}

lwp_t *proc_representative_lwp(const proc_t *p, std::size_t *nrlwps) noexcept {
	LWP_ASSERT(proc_held_all(p));
	const lwpid_t signalled = p->p_siglwp.load(std::memory_order_relaxed);  // relaxed: written under a pp_lock
	lwp_t *best = nullptr;
	std::size_t best_at = std::size(by_preference) + 1;  // 0: the one that took a signal
	*nrlwps = 0;
	proc_each_lwp(p, [&](lwp_t *l) {
		const lwp_stat s = lwp_state(l);  // runs and sleeps change into each other meanwhile: any moment's answer will do
		*nrlwps += s == lwp_stat::onproc || s == lwp_stat::run ? 1U : 0U;
		const std::size_t kind = preference(s);
		if (kind == std::size(by_preference)) {
			return;  // LSIDL, LSZOMB
		}
		if (const std::size_t at = lwp_lid(l) == signalled ? 0 : kind + 1; at < best_at) {
			best = l;
			best_at = at;
		}
	});
	return best;
}

}  // namespace lwp::kern
