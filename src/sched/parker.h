// SPDX-License-Identifier: BSD-2-Clause
//
// How an idle vCPU waits for somebody to wake it: a value handed down, so that whatever knows a better place to wait (a ring of
// I/O requests) can put its own in.  The default waits on a futex.
#pragma once

#include "base/clock.h"

namespace lwp::kern {

struct vcpu_t;

struct parker {
	/// Waits until unpark() or the deadline; may return early.  By the vCPU itself, after it has said that it halts.  True: poll() has something
	/// to do, the vCPU should not halt.  Makes nobody runnable.
	bool (*park)(vcpu_t *, nanotime deadline);
	/// Ends a park, also one that is about to begin.  By anybody; it may come late, when the vCPU runs again or has stopped.
	void (*unpark)(vcpu_t *);
	/// Looks whether what LWPs wait for has come, and makes them runnable.  By the vCPU itself while it runs, in vcpu_poll()'s rhythm and before
	/// it looks for work; no lock held; does not switch.  `busy`: it has LWPs to run and comes again soon, so what costs a system call may be put off
	/// a little.  Null: there is nothing to look at.
	void (*poll)(vcpu_t *, nanotime when, bool busy);
	/// The vCPU stops: no LWP is left.  On its kernel thread.  Null: nothing to do.
	void (*close)(vcpu_t *);
	/// poll() by the monitor, while the vCPU is off duty or its LWP computes; nothing if it halts.  Null: there is nothing to poll.
	void (*poll_away)(vcpu_t *, nanotime when);
	/// What becomes readable when poll() may find something; -1: there is nothing to wait for.  By the monitor too.
	int (*awaited)(const vcpu_t *);
	/// Whether poll() would find something, asked again and again before a halt.  By the vCPU itself.  Null: there is nothing to poll.
	bool (*peek)(vcpu_t *);
};

extern const parker futex_parker;

}  // namespace lwp::kern
