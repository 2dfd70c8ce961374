// SPDX-License-Identifier: BSD-2-Clause
//
// Misuse of the blocking primitives, as debug builds name it: which object, by whom, and who should have done it.  Release builds see what would
// corrupt memory only, and say it in fewer words.
#pragma once

#include "base/assert.h"
#include "core/lwp.h"
#include "proc/inside.h"
#include "sync/sleepq.h"

namespace lwp::kern {

#if LWP_DEBUG

/// `l` gives up what `owner` has, or nobody if that is null.
[[noreturn]] inline void misuse_not_owner(
    const char *what, const char *type, const void *object, const lwp_t *l, const lwp_t *owner) noexcept {
	if (owner != nullptr) {
		fatal("%s: lwp::%s at %p, by LWP %d '%s'; LWP %d '%s' owns it", what, type, object, lwp_lid(l), l->l_name, lwp_lid(owner),
		    owner->l_name);
	}
	fatal("%s: lwp::%s at %p, by LWP %d '%s'; nobody owns it", what, type, object, lwp_lid(l), l->l_name);
}

/// Ends the program if somebody sleeps in `line`, which is part of an object that is being destroyed.  A flag may be left behind by those who gave up;
/// and whoever is just letting them through holds the lock until all are off the line.
inline void misuse_if_waited(const char *type, const void *object, const waiters *line, spinlock *lock) noexcept {
	const perhaps_in_library here;
	lock->lock();
	const lwp_t *first = line->front();
	const lwpid_t lid = first != nullptr ? lwp_lid(first) : 0;  // asleep while we have the lock
	lock->unlock();
	if (lid != 0) {
		fatal("lwp::%s at %p is destroyed while LWPs wait for it, LWP %d '%s' first", type, object, lid, first->l_name);
	}
}

#else
inline void misuse_if_waited(const char *, const void *, const waiters *, spinlock *) noexcept {}
#endif

inline void misuse_if_waited(const char *type, const void *object, const waiters *line) noexcept {
	misuse_if_waited(type, object, line, waiters_lock(line));
}

}  // namespace lwp::kern
