// SPDX-License-Identifier: BSD-2-Clause
//
// Stack overflows say whose they are.  A SIGSEGV (or SIGBUS) handler on an alternate stack prints
//     LWP <id> '<name>' overflowed its <n> KiB stack
// when the address lies in the guard page of the running LWP's stack, and lets the process die of that fault, with the core dump of the
// faulting instruction.  Every other fault goes where it would have gone without us: the application's handler, a sanitizer's, or
// the default action, with the original siginfo.
//
// The handler takes no lock and allocates nothing.  guard_install() and guard_remove() are for the thread that starts and ends the
// runtime: never two at once.
#pragma once

#include "ctx/stack.h"

namespace lwp::kern {

struct guard_owner {
	int lid = 0;
	const char *name = nullptr;  // null or empty: it has none
};

/// Who runs on the calling kernel thread now, and its stack; false: nobody that has one of ours.  Async-signal-safe.
using guard_lookup = bool (*)(guard_owner &owner, stack &s);

/// Puts the handlers in place, in front of the ones that are there.
void guard_install(guard_lookup lookup);

/// Puts the previous handlers back; one that somebody has since put in front of ours stays, and ours only passes faults on.
void guard_remove();

/// An alternate signal stack for the calling kernel thread, unless it has one.  Without it a stack overflow cannot be reported.
/// Returns 0 | ENOMEM.
[[nodiscard]] int guard_thread_init();

/// Takes back what guard_thread_init() gave to this kernel thread.
void guard_thread_fini();

}  // namespace lwp::kern
