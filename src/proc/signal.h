// SPDX-License-Identifier: BSD-2-Clause
//
// Signals among LWPs: what is sent to one LWP or to the proc, and how it is taken.  Numbers and sets are the host's; sets are words here, signal n is
// bit n - 1.  They are taken at the boundary, in the LWP that they are for: a handler is an ordinary call there, and may do what any code may.
// Standard signals do not queue, and neither do these.
//
// A signal of the proc is for one LWP that does not mask it: one that waits for it (sigwait) is given it, else one that sleeps is kicked, and all that
// run may take it at their next boundary, whoever is first.  Whoever masks it, or ends, hands it on.
//
// Signals of the OS come to proc0 through one handler, which notes the number and asks a vCPU to look (sched_ask()).
#pragma once

#include "proc/proc.h"

#include <csignal>

namespace lwp::kern {

using sigbits = std::uint64_t;

constexpr sigbits sigbit(int sig) noexcept { return sigbits{1} << (sig - 1); }
constexpr bool signal_valid(int sig) noexcept { return sig >= 1 && sig <= signals; }
sigbits sigbits_of(const sigset_t &) noexcept;
sigset_t sigset_of(sigbits) noexcept;

/// Sends one to an LWP.  0 | EINVAL | ESRCH
[[nodiscard]] int signal_send(lwp_t *l, lwpid_t lid, int sig) noexcept;
/// Sends one to the proc.  No lock held.
void signal_send_proc(proc_t *, int sig, vcpu_t *me) noexcept;
/// SIGCHLD for this proc, if it has a handler for it.  All locks held, by `hold`.
void signal_child_ended(proc_t *, const part_hold &hold, vcpu_t *me) noexcept;
/// Chooses anew who takes what was sent to the proc: who was to has masked it, or ends.  No lock held.
void signal_repost(proc_t *, vcpu_t *me) noexcept;

/// At the boundary: takes what there is to take.
void signal_deliver(lwp_t *l) noexcept;

/// What is done with a signal.  0 | EINVAL
[[nodiscard]] int signal_action(lwp_t *l, int sig, const struct sigaction *act, struct sigaction *old) noexcept;
/// The mask of the calling LWP.  0 | EINVAL
[[nodiscard]] int signal_mask(lwp_t *l, int how, const sigbits *set, sigbits *old) noexcept;
/// What is pending for it, masked or not.
sigbits signal_pending(lwp_t *l) noexcept;

/// Waits until one of `set` is sent, and takes it.  0 | EAGAIN the deadline | EINTR | ERESTART pass the boundary and call again
[[nodiscard]] int signal_wait(lwp_t *l, sigbits set, nanotime deadline, int *sig) noexcept;
/// With this mask, until a handler has run: EINTR.
int signal_suspend(lwp_t *l, sigbits mask) noexcept;

}  // namespace lwp::kern
