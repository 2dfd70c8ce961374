// SPDX-License-Identifier: BSD-2-Clause
//
// Preemption: an LWP that computes for ten milliseconds while others wait for its virtual CPU is taken off it, wherever it is, and goes on when it is its
// turn again; one that computes is also stopped and suspended.  There is nothing to call for it.  It is off unless it is asked for, by
// runtime_options::preemption, or LWP_PREEMPT=on in the environment.
//
// Any code may be interrupted so: an LWP in the middle of malloc() or printf() keeps its kernel thread, and another one runs the rest.  To be
// suspended or stopped it must besides be outside of the C library, so that it holds no lock there: it is met as it comes out of the call that it is in, if
// the kernel permits breakpoints (perf_event_open(2): kernel.perf_event_paranoid is 2 or less, and no filter of system calls), else looked for again and again.  What
// is linked into one file with the C library is stopped at its next call of this one only.
//
// An LWP is not interrupted while it is in a call of this library, in lwp::blocking(), in a no_preempt region, or in a signal handler of the OS on an
// alternate stack; FIFO LWPs yield to better ones only.  Where interrupting is not possible the LWP gives way at its next call.  To end, and to take
// signals, always waits for that.
//
// The signal used is SIGURG, with SA_RESTART, and not sent to an LWP that sleeps in a system call.  Calls that the OS never restarts (poll(2), nanosleep(2))
// may fail with EINTR if an LWP that has computed for long makes one at that moment.  LWP_PREEMPT=<number> in the environment takes another signal, LWP_PREEMPT=off
// none, whatever the options say.  A handler installed before the runtime started is called for all other signals of that number; one that is installed
// later ends preemption.  If the signal is blocked when the runtime starts, with LWP_BLOCKING=off, and without /proc there is none unless LWP_PREEMPT=on, or a number,
// asks for it.  fork(2) is not interrupted.  While 192 or more kernel threads are blocked nobody is.  There is none under
// ThreadSanitizer, under AddressSanitizer where its run-time is linked into the program (clang's is, unless -shared-libasan asks for the other), with
// LWP_PORTABLE_SWITCH, and on other CPUs than x86-64.
#pragma once

#include <lwp/lwp.h>

namespace lwp {

/// While one lives the calling LWP is not taken off its virtual CPU in the middle of its code.  Never blocks; its end is a boundary.  In the LWP that made it.
class no_preempt {
public:
	no_preempt() noexcept { lwp_nopreempt_enter(); }
	~no_preempt() { lwp_nopreempt_leave(); }
	no_preempt(const no_preempt &) = delete;
	no_preempt &operator=(const no_preempt &) = delete;
};

}  // namespace lwp
