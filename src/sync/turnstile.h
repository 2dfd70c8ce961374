// SPDX-License-Identifier: BSD-2-Clause
//
// Turnstiles: whoever waits for a mutex, for a writer, or for the end of a function that is run once lends its priority to the LWP that has it.
//
// NetBSD's turnstile is a record that a waiter leaves with the thing it waits for.  Here the waiters are in the thing, sorted, so the record is the
// one in front: **of each list it is the front that lends, to the owner, if it is better than the owner's own priority.**  The record is part of
// the LWP (l_lendsto, l_lendlink), so nothing is allocated, and it can outlive no wait, since whoever leaves the list takes it along.  An LWP's
// lenders (l_lenders) are the fronts of what it owns and others wait for, so giving back is looking at those that are left.
//
// Two halves.  The *loans* change under the lock of the list, with the list.  What follows from it, *settling*, needs the owner's lock, which may
// come before that one; so it is left to the vCPU (vc_owed) and done when no lock is held: after the unlock, or by whoever runs there after the
// waiter that fell asleep.
//
// Settling looks at one LWP at a time, under its lock and no other: its priority is its own or that of the best who lends to it now.  If
// that has changed it moves in its queue; and if it waits for another, that one is settled next.  Why this is right:
//   nothing is missed     every change of what a priority is made of is followed by a settle of whom it concerns, settles of one LWP exclude each
//                         other, and each looks afresh: the last one has seen all
//   no deadlock           with the LWP's lock only a turnstile lock is taken, which is an inner one; no second LWP, no try, no restart
//   no freed objects      a thing is looked at only with its list's lock held and a sleeper in the list, which keeps it; LWPs are type-stable,
//                         and to settle one that is another by now does no harm
//   it ends               it goes on only where a priority has changed; in a circle of waits it stops where it came by before
//   what was lent goes    while somebody lends for a thing, its owner cannot give it back without the list's lock (so_lend()), and under that the
//   back                  loans end.  A wait that ends early takes its loan along, and the next in line lends instead
// An owner whose own priority is lowered while others wait already, none of them better than it was, is lent to at the next change there.
//
// Takes, in settle: an LWP's lock, then a turnstile lock.  Never allocates.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

// ---- with the list's lock held; what is owed is settled later by sched_settle_owed()

/// `q` has got a sleeper, `l`; it still runs and is about to switch away.
void turnstile_blocked(waiters *q, lwp_t *l, vcpu_t *me) noexcept;

/// `l` has left `q`, its l_wchan not yet forgotten.  The thing has its next owner, if it is to have one.
void turnstile_left(const waiters *q, lwp_t *l) noexcept;

/// The thing of those who sleep in `q` belongs to `owner` from now on; null: to nobody.
void turnstile_owned(const waiters *q, lwp_t *owner, vcpu_t *me) noexcept;

/// `was` was in front of `q`, to which others were moved; null: nobody was.
void turnstile_moved(const waiters *q, lwp_t *was, lwp_t *owner, vcpu_t *me) noexcept;

// ---- with no lock held

/// The priority that `l` runs with is looked at anew, and those that follow from it.
void turnstile_settle(lwp_t *l, vcpu_t *me) noexcept;

}  // namespace lwp::kern
