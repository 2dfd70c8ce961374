// SPDX-License-Identifier: BSD-2-Clause
//
// The lock pointer.  l_mutex names the lock that covers an LWP now; it moves with the LWP's state: run queue or inbox, sleep queue, vCPU.
// Whoever holds an LWP's lock sees the LWP either fully on a vCPU or fully off it, because the lock under which it left its vCPU is
// released by the LWP that runs there next, once the switch is over.  (An adopted kernel thread is the exception: it lets go while it still
// stands on its stack, which nobody else runs.)
//
//   vc_lwplock   LWPs that are LSONPROC, LSIDL, LSSUSPENDED or LSZOMB and were on that vCPU last; across a switch, what the one hands the other
//   vc_rqlock    the vCPU's run queue and the LSRUN LWPs on it
//   vc_inlock    its inbox and the LSRUN LWPs in it
//   sq_lock      a sleep queue and the LSSLEEP LWPs on it; vc_slplock: those that sleep on themselves and fell asleep on that vCPU
// Order: pp_lock, sleep queue, vc_lwplock, vc_rqlock, vc_inlock (base/lockrank.h).  lwp_lock() may take any of the last four: call it with none
// of them held.  Every lock that l_mutex may name lasts for ever, as LWPs do.
//
// A lock pointer may change while somebody waits for the lock it named; so one looks again after taking it.  The second look must be
// an acquire: the pointer may have gone A -> B -> A, and what was done under B happened before only through the pointer's own store.
#pragma once

#include "base/assert.h"
#include "core/lwp.h"

namespace lwp::kern {

/// With `old` held and l_mutex no longer pointing to it: takes the lock it points to now.  Returns it.
spinlock *lwp_lock_retry(lwp_t *, spinlock *old, vcpu_t *me) noexcept;

/// Takes the LWP's lock and returns it.
LWP_ALWAYS_INLINE spinlock *lwp_lock(lwp_t *l, vcpu_t *me) noexcept {
	spinlock *lock = l->l_mutex.load(std::memory_order_acquire);  // pairs with the release in lwp_setstat(), lwp_setlock()
	lock->lock(me);
	if (LWP_LIKELY(l->l_mutex.load(std::memory_order_acquire) == lock)) {  // same pair; see above why acquire
		return lock;
	}
	return lwp_lock_retry(l, lock, me);
}

/// The lock taken, or null if somebody holds it.
spinlock *lwp_trylock(lwp_t *, vcpu_t *me) noexcept;

LWP_ALWAYS_INLINE void lwp_unlock(lwp_t *l, vcpu_t *me) noexcept {
	l->l_mutex.load(std::memory_order_relaxed)->unlock(me);  // relaxed: held, so it does not change
}

/// Whether the LWP is locked (debug builds: by this kernel thread), and by `lock` if that is given.
bool lwp_locked(const lwp_t *, const spinlock *lock = nullptr) noexcept;

/// Lends it another lock without a change of state.  The old one is held and stays held; hold `lend` too if the LWP is to stay locked.
void lwp_setlock(lwp_t *, spinlock *lend) noexcept;

/// The same, and releases the old one.
void lwp_unlock_to(lwp_t *, spinlock *lend, vcpu_t *me) noexcept;

/// Changes the held lock for `next` and holds that: safe in either direction, because the old one is released before `next` is waited for
/// when `next` is busy.  Returns false if the pointer moved meanwhile: then the LWP is locked by whatever it points to now.
bool lwp_relock(lwp_t *, spinlock *next, vcpu_t *me) noexcept;

}  // namespace lwp::kern
