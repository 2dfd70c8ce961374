// SPDX-License-Identifier: BSD-2-Clause
#include "core/lwp_state.h"

#include "base/assert.h"

namespace lwp::kern {

const char *lwp_stat_name(lwp_stat s) noexcept {
	switch (s) {
#define X(state, name, lock, other) \
	case lwp_stat::state:           \
		return name;
		LWP_STATES(X)
#undef X
	case lwp_stat::none:
		return "none";
	}
	return "?";
}

const char *lwp_edge_reason(lwp_stat from, lwp_stat to) noexcept {
#define X(a, b, who, why)                           \
	if (from == lwp_stat::a && to == lwp_stat::b) { \
		return why;                                 \
	}
	LWP_EDGES(X)
#undef X
	return nullptr;
}

bool lwp_edge_legal(lwp_stat from, lwp_stat to) noexcept { return lwp_edge_reason(from, to) != nullptr; }

bool lwp_lock_covers(lock_rank rank, lwp_stat s) noexcept {
	switch (s) {
#define X(state, name, lock, other) \
	case lwp_stat::state:           \
		return rank == lock_rank::lock || rank == lock_rank::other;
		LWP_STATES(X)
#undef X
	case lwp_stat::none:
		return true;
	}
	return false;
}

void lwp_setstat_check(const lwp_t *l, lwp_stat to, const spinlock *lend) noexcept {
	lwp_stat from = lwp_state(l);
	if (!lwp_edge_legal(from, to)) {
		fatal("LWP %d '%s': illegal transition %s -> %s", lwp_lid(l), l->l_name, lwp_stat_name(from), lwp_stat_name(to));
	}
	if (!lwp_lock_covers(lend->rank(), to)) {
		fatal("LWP %d '%s': %s does not cover %s", lwp_lid(l), l->l_name, lend->name(), lwp_stat_name(to));
	}
#if LWP_DEBUG
	if (to == lwp_stat::zomb && l->l_nheld != 0) {
		const void *first = nullptr;
		for (const void *held : l->l_held) {
			first = first != nullptr ? first : held;
		}
		fatal("LWP %d '%s' ends and still owns %u mutex(es): one is at %p", lwp_lid(l), l->l_name, l->l_nheld, first);
	}
	if (to == lwp_stat::zomb) {
		for (const held_lock &h : l->l_order) {
			if (h.hl_lock != nullptr) {
				fatal("LWP %d '%s' ends and still shares the shared mutex at %p", lwp_lid(l), l->l_name, h.hl_lock);
			}
		}
	}
#endif
	spinlock *old = l->l_mutex.load(std::memory_order_relaxed);  // relaxed: held, so it does not change
	// A dead LWP that is recycled is in no table: whoever still has a pointer to it sees a zombie or LSIDL, and both mean "gone".
	if (from != lwp_stat::none && from != lwp_stat::zomb && !old->held()) {
		fatal("LWP %d '%s': %s -> %s without %s", lwp_lid(l), l->l_name, lwp_stat_name(from), lwp_stat_name(to), old->name());
	}
}

}  // namespace lwp::kern
