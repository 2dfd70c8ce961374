// SPDX-License-Identifier: BSD-2-Clause
//
// The big lock: what LWPs that are not MP-safe hold while they run (NetBSD's KERNEL_LOCK).  At most one of them runs, so code that was written for threads
// that take turns is right as it is; LWPs that are MP-safe do not know of it, unless they ask for it.
//
// It is recursive, and let go of in full wherever its LWP stops running of its own accord: every sleep, suspend and stop, yield, and a region that blocks
// the kernel thread.  The count stays in l_biglocks, and the LWP does not come back from there before it has the lock again.  An LWP that
// is preempted keeps it: nobody else may see what it was in the middle of.
//
// Who falls asleep holds the lock of its sleep, and to wake the next one takes another of the same rank.  So it leaves that to its vCPU (vc_letgo), and
// whoever arrives there next does it first.  Until then bl_owner still names it.  If it is woken on another vCPU before that, it finds its own
// name, and waits in the line like anybody: the lock is handed over in that line, so it is not missed.
//
// A release hands over to the first of the line, best priority first, and the heir has it when it wakes.  Its waiters are not interrupted, and are no edges
// of the wait graph: its owner may sleep for what they have, and lets go of it then.  They do not lend it their priorities.
// Takes: the line's lock, of the rank sleepq.  Call these with no lock held, unless said otherwise.
#pragma once

#include "core/lwp.h"
#include "sched/switch.h"
#include "sync/sleepq.h"

namespace lwp::kern {

struct biglock {
	lwp_t *bl_owner = nullptr;  // lock of bl_waiters
	waiters bl_waiters;
};

/// Once more; the outermost one waits for it.
void biglock_enter(biglock *, lwp_t *l) noexcept;
[[nodiscard]] bool biglock_try_enter(biglock *, lwp_t *l) noexcept;
/// Once less.  The caller has it.
void biglock_exit(lwp_t *l) noexcept;

/// Lets go of it for good, however often it has it.
void biglock_drop(lwp_t *l) noexcept;

/// What belongs around code that stops running: lets go of it, if it has it and keeps its count, and takes it again.  `as`: none, or away, so that sleeps in
/// between do not end with it.
void biglock_out(lwp_t *l, big_hold as = big_hold::none) noexcept;
void biglock_in(lwp_t *l) noexcept;

/// The same around a switch: the caller holds vc_lwplock and is about to give its vCPU away...
LWP_ALWAYS_INLINE void biglock_leave_locked(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_bighas == big_hold::held)) {
		l->l_bighas = big_hold::none;
		vcpu_t *vc = l->l_cpu;
		LWP_ASSERT(vc->vc_letgo == nullptr);
		vc->vc_letgo = l->l_biglock;
		vc->vc_tick = 0;  // whoever arrives looks at once
	}
}
/// ...and is back, with no lock held.
LWP_ALWAYS_INLINE void biglock_return(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_biglocks != 0 && l->l_bighas == big_hold::none)) {
		biglock_in(l);
	}
}

/// sched.sd_letgo: by a vCPU, for the LWP that has left it.
void biglock_let_go(biglock *, vcpu_t *me) noexcept;
/// sched.sd_bigyield: a yield of one that has it.
void biglock_yield(lwp_t *l) noexcept;

/// While an LWP has stopped the world it keeps the lock in its sleeps: those that wait for it stand still.
inline void biglock_keep(lwp_t *l, bool keep) noexcept {
	if (l->l_bighas == (keep ? big_hold::held : big_hold::kept)) {
		l->l_bighas = keep ? big_hold::kept : big_hold::held;
	}
}

}  // namespace lwp::kern
