// SPDX-License-Identifier: BSD-2-Clause
//
// Priorities that change.  An LWP has the priority it was given (l_basepri); its own (l_ownpri), which is that less what it has used up, or what
// _sched_protect() asked for if that is better; and the one that counts everywhere (l_priority): its own, or a better one that was lent to it
// (sync/turnstile.h).
//
//   band            what changes its own priority
//   time-sharing    a whole slice computed without a switch: one less, each time; a sleep: one more, up to what it was given; queued and
//                   passed over for a tenth of a second: all of it back; more run than slept, second after second: one less for each but the first,
//                   and sleeps give nothing back
//   FIFO            nothing; it runs until it sleeps, yields, or a better one comes
//   round robin     nothing; after a slice it goes behind its equals, at its next boundary
//
// Nobody rises above what it was given: equals that only sleep and yield stay equals.  The accounting is done where a vCPU looks at its clock
// anyway, so a switch pays nothing for it.
//
// What an LWP has used up its children begin without, and what a child has used up besides is its collector's: computing in short-lived LWPs is no better
// than computing in one.
// Takes an LWP's lock, vc_rqlock.  Never allocates.
#pragma once

#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

#include <algorithm>

namespace lwp::kern {

inline constexpr nanotime slice_looked_at = 1'000'000;  // what runs for less is not charged
inline constexpr nanotime slice_rt = 100'000'000;       // round robin
inline constexpr nanotime slice_longest = 150'000'000;  // time-sharing, of the worst priority
inline constexpr nanotime slice_shortest = 20'000'000;  // and of the best

/// A better priority has a shorter slice.
inline nanotime sched_slice(sched_class c, pri_t base) noexcept {
	return c == sched_class::other
	    ? slice_longest - (slice_longest - slice_shortest) * static_cast<nanotime>(base) / static_cast<nanotime>(pri_span - 1)
	    : slice_rt;
}

/// With the LWP locked: its own priority anew, from what it is made of.  What it runs with follows by sd_settle(), or at once if it is on no list.
inline void sched_set_ownpri(lwp_t *l) noexcept {
	const auto own = static_cast<pri_t>(l->l_basepri - l->l_decay);
	l->l_ownpri.store(std::max(own, l->l_protpri), std::memory_order_relaxed);  // relaxed: locked; others take it as a hint
}

/// With the LWP locked, by `lock`, and not on a sleeper's list: it runs with `pri` from now on.  Queued, it goes to the end of its new line;
/// the vCPU it is on looks at its next boundary who is best.
void sched_changepri_locked(lwp_t *l, const spinlock *lock, pri_t pri) noexcept;

inline constexpr nanotime batch_second = 1'000'000'000;  // what is run and slept is compared over so long

/// With the LWP locked, and its sleep over: whether it is one of those that run for longer than they sleep.
inline bool sched_is_batch(lwp_t *l) noexcept {
	if (LWP_LIKELY((lwp_flags(l) & LW_BATCH) == 0)) {
		return false;
	}
	if (l->l_slept > l->l_run.ra_second && l->l_slept - l->l_run.ra_second >= 2 * batch_second) {
		lwp_flag_clear(l, LW_BATCH);  // that has been so long ago that a second without such stretches lies between
		return false;
	}
	return true;
}

/// With the LWP locked, asleep and off its list: it has slept, so it gets back some of what it used up.
LWP_ALWAYS_INLINE void sched_slept(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_decay != 0) && !sched_is_batch(l)) {
		l->l_decay--;
		sched_set_ownpri(l);
		// relaxed: locked
		const pri_t own = l->l_ownpri.load(std::memory_order_relaxed);
		l->l_priority.store(std::max(own, l->l_priority.load(std::memory_order_relaxed)), std::memory_order_relaxed);
	}
}

/// What a new LWP begins without, of the priority that it is given; `l1`, the caller, makes it (NetBSD's sched_lwp_fork()).
std::uint8_t sched_inherited_decay(const lwp_t *l1, const lwp_t *l2) noexcept;

/// The caller has collected one that had used up so much since it was made (sched_lwp_collect()).  No lock held.
void sched_collect(lwp_t *l, unsigned decay) noexcept;

/// `l`, time-sharing and locked, has had a stretch up to `when`, looked at since `since`, with so much CPU time.  True: again it has run for longer than it
/// slept, so it has one priority less.
bool sched_account_stretch(lwp_t *l, nanotime since, nanotime when, nanotime ran) noexcept;

/// At a look at the clock, if it has been a while: whoever ran alone since the last one, and so on a slice, has less from now on.  `used` is what
/// cpu_time() says; `arrived`: whoever runs has only just begun to.  No lock held.
void sched_charge(vcpu_t *, nanotime since, nanotime when, nanotime used, bool arrived) noexcept;

/// Once in a while, with vc_rqlock held: a time-sharing LWP that others pass over since it has used up its slices gets its priority back.
void sched_lift_locked(vcpu_t *, nanotime when) noexcept;

/// Whether `l`, which runs and has equals queued, has had its turn: round robin, or interrupted where it could not be taken off (proc/preempt.h).
bool sched_slice_over(vcpu_t *, const lwp_t *l) noexcept;

/// What was left to do with locks held is done.  No lock held.
LWP_ALWAYS_INLINE void sched_settle_owed(vcpu_t *vc) noexcept {
	if (LWP_UNLIKELY(vc->vc_owed != nullptr)) {
		lwp_t *t = vc->vc_owed;
		vc->vc_owed = nullptr;
		sched.sd_settle(t, vc);
	}
}

}  // namespace lwp::kern
