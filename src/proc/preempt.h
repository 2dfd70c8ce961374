// SPDX-License-Identifier: BSD-2-Clause
//
// Preemption: how a request reaches an LWP that computes and calls nothing of this library.
//
// The monitor (proc/monitor.h) sees which vCPUs have not switched since its last looks.  One whose LWP has run for a slice while others wait for that
// vCPU, or while it is to stand still, gets a directed signal.  A vCPU that idles, that switches, or that one LWP has for itself gets none, and no switch
// pays anything: there are no timers to arm.
//
// The handler takes the LWP off only where that is harmless:
//
//   the LWP is in no call of this library      l_depth is 0: it holds no lock of ours, and nothing of ours is half done
//   it has not forbidden it                    l_nopreempt, l_blocking are 0
//   it runs on its own stack                   not in a handler on the alternate stack; the handler itself has that stack
//   a substitute rests                         nothing is allocated in the handler
//   it is not in AddressSanitizer's run-time   whose locks are spun for (proc/outside.h)
//   and it is to stand still: it is in its     so whoever stands still holds no lock of the C library, which others would wait for.  One that is
//   own code, not in the C library's           only to let others run may hold any: it runs again (sched/frozen.h)
//
// Otherwise it leaves word, and the LWP gives way at its next boundary: vc_resched, vc_expired.  To end, and to take signals, is always left to the
// boundary: an LWP cannot end in the middle of arbitrary code.
//
// Who is to stand still and was met in the C library is asked again soon, and not by the monitor: a loop that does nothing but throw, or print, is outside of
// the library for a few thousandths of its time, so it takes hundreds of looks, each of which would wait for the monitor to get a CPU.  The handler sets
// a timer of its kernel thread instead, for some microseconds on: the *probe*.  It does not where it would interrupt one system call again and again, and stops
// after a few hundred; then the monitor looks first whether the kernel thread sleeps.  After the first few the handler has the CPU interrupt the LWP where it comes
// out of the library (proc/outside.h), so it stands still after one call, where the kernel permits that.
//
// The signal is SIGURG, which the OS ignores by default; LWP_PREEMPT=<number> in the environment takes another, LWP_PREEMPT=off none.  A handler that the
// application had for it is called for all signals that are not the monitor's.  If the application installs one later, there is no preemption any more.
#pragma once

#include "base/clock.h"

namespace lwp::kern {

struct vcpu_t;

/// Before the monitor starts.
void preempt_start(bool wanted) noexcept;

/// By the monitor: asks whoever has run for too long.  When it wants to look again.
[[nodiscard]] nanotime preempt_look(nanotime when) noexcept;

/// Somebody is about to wait for LWPs to stand still, and some of them run: the monitor is not to sleep on.  Any lock may be held.
void preempt_hurry() noexcept;

/// Gives back what the handler uses on that vCPU.  Its kernel thread and the monitor have stopped, or it is the caller's.
void preempt_forget(vcpu_t *) noexcept;

}  // namespace lwp::kern
