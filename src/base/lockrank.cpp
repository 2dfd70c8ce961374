// SPDX-License-Identifier: BSD-2-Clause
#include "base/lockrank.h"

#include "base/assert.h"
#include "base/spinlock.h"

#include <functional>

namespace lwp::kern {

const char *lock_rank_name(lock_rank rank) noexcept {
	static constexpr const char *names[] = {
#define X(rank, what) #rank,
	    LWP_LOCK_RANKS(X)
#undef X
	};
	return names[static_cast<unsigned>(rank)];
}

#if LWP_DEBUG
namespace {

constexpr unsigned held_most = 80;  // the locks of all parts of the proc, and some more

/// Whether `inner` may be waited for while `outer` is held.
bool in_order(const spinlock *outer, const spinlock *inner) noexcept {
	if (outer->rank() == lock_rank::proc && inner->rank() == lock_rank::proc) {
		return std::less<>()(outer, inner);
	}
	return outer->rank() < inner->rank();
}

// What this kernel thread holds.  A lock taken by an LWP before a switch is released by the next one on the same kernel thread, so the
// list belongs to the kernel thread.  Not inlined anywhere: its address must not outlive a switch.
struct held_locks {
	const spinlock *lock[held_most];
	unsigned count;
};
#if LWP_EXPLORE
static_assert(sizeof(held_locks) <= explore::kthread_bytes);
#define held (*static_cast<held_locks *>(explore::kthread_storage()))
#else
thread_local held_locks held;
#endif

}  // namespace

void (*lockrank_watch)() noexcept = nullptr;

LWP_NOINLINE void lockrank_wanted(const spinlock *wanted) noexcept {
	if (lockrank_watch != nullptr) {
		lockrank_watch();
	}
	for (unsigned i = 0; i < held.count; i++) {
		if (!in_order(held.lock[i], wanted)) {
			fatal("lock order: %s (%s) is wanted while %s (%s) is held", wanted->name(), lock_rank_name(wanted->rank()),
			    held.lock[i]->name(), lock_rank_name(held.lock[i]->rank()));
		}
	}
}

LWP_NOINLINE void lockrank_acquired(const spinlock *lock) noexcept {
	LWP_CHECK(held.count < held_most, "lock order: too many locks held by one kernel thread");
	held.lock[held.count++] = lock;
}

LWP_NOINLINE void lockrank_released(const spinlock *lock) noexcept {
	for (unsigned i = held.count; i-- > 0;) {
		if (held.lock[i] == lock) {
			held.lock[i] = held.lock[--held.count];
			return;
		}
	}
	fatal("lock order: %s is released by a kernel thread that does not hold it", lock->name());
}

LWP_NOINLINE bool lockrank_holds(const spinlock *lock) noexcept {
	for (unsigned i = 0; i < held.count; i++) {
		if (held.lock[i] == lock) {
			return true;
		}
	}
	return false;
}

LWP_NOINLINE bool lockrank_holds_any() noexcept { return held.count != 0; }
#endif

}  // namespace lwp::kern
