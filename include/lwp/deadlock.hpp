// SPDX-License-Identifier: BSD-2-Clause
//
// What sleeps, and why it may never wake up.
//
// The library says by itself, on standard error, when LWPs wait for each other in a circle (mutexes, writers, joins, functions that are called
// once), the moment the circle closes, also one that a notify_all() closes; and when nothing runs any more, no timer is armed, no I/O is under way, and no
// other kernel thread or signal handler of the program could wake a sleeper, some tenths of a second later.  Each LWP is named, with its state, what it
// waits for, who holds that, for how long, and where it stands in its code, by the names of functions (static ones too, unless the program was
// stripped).  A wait with a deadline or a stop token is in no circle.  SIGQUIT, if the program leaves it alone, prints the same of everybody; a
// second one ends the program.
//
// LWP_DEADLOCK in the environment: report (default) goes on after that, abort ends the program by SIGABRT, off says nothing and leaves SIGQUIT alone.
//
// Debug builds of the library say, too, when mutexes or shared mutexes are taken in orders that could end in a circle, though none has closed: once,
// with the LWPs, the addresses of the locks, and where each of them was taken.  A lock is known by its address until it is destroyed.  try_lock() and
// the timed forms count as holding what they took, not as waiting for it.  Two orders that a third lock keeps apart are told all the same.
// LWP_LOCK_ORDER in the environment: report (default), abort, off.
#pragma once

#include <lwp/lwp.h>

#include <string>

namespace lwp {

/// Every LWP that does not run, circles first, the longest sleepers next; of very many alike only how many.  May be called by anybody at any
/// time; the others run on meanwhile.  Throws std::bad_alloc.
LWP_API std::string deadlock_report();

}  // namespace lwp
