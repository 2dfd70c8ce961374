// SPDX-License-Identifier: BSD-2-Clause
#include "sync/waitgraph.h"

#include "base/sys.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/vcpu.h"

namespace lwp::kern {

atomic<waitgraph_report> waitgraph_reporter{nullptr};

namespace {

constexpr unsigned longest = 64;  // a longer circle is told of when everything has come to rest

spinlock waitgraph_lock{lock_rank::waitgraph, "waitgraph_lock"};  // one follower at a time

struct node {
	lwp_t *lwp;
	std::uint32_t blocks;
	bool operator==(const node &) const = default;
};

/// Whom `x` sleeps for; null if it does not, or for nobody in particular.  Waits while `x` is on its way to sleep.
lwp_t *next_of(lwp_t *x, std::uint32_t *blocks, vcpu_t *me) noexcept {
	for (unsigned tries = 1;; tries++) {
		*blocks = x->l_blocks.load(std::memory_order_seq_cst);
		// One that is about to follow by itself will do so after us, and find us settled.
		if ((*blocks & wp_mask) != wp_settled) {
			return nullptr;
		}
		spinlock *lock = lwp_lock(x, me);
		const lwp_stat s = lwp_state(x);
		// Asleep and locked: what it sleeps on lasts as long as we hold the lock.
		lwp_t *next = lwp_asleep(x) && x->l_syncobj->so_owner != nullptr && (lwp_flags(x) & LW_TIMED) == 0
		    ? x->l_syncobj->so_owner(x->l_wchan)
		    : nullptr;
		lock->unlock(me);
		if (s != lwp_stat::onproc) {
			return next;
		}
		tries % 100 == 0 ? sys::yield() : cpu_relax();
	}
}

/// The edges from `owner` on, until they end or reach `l`: then how many LWPs they touched, `l` first.  0: no circle.
unsigned collect(lwp_t *l, lwp_t *owner, node *out) noexcept {
	vcpu_t *me = l->l_cpu;
	out[0] = {l, l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask};
	unsigned n = 1;
	for (lwp_t *x = owner; x != l; n++) {
		if (x == nullptr || n == longest) {
			return 0;
		}
		std::uint32_t blocks;
		lwp_t *next = next_of(x, &blocks, me);
		out[n] = {x, blocks & ~wp_mask};
		x = next;
	}
	return n;
}

bool same(const node *a, const node *b, unsigned n) noexcept {
	for (unsigned i = 0; i < n; i++) {
		if (!(a[i] == b[i])) {
			return false;
		}
	}
	return true;
}

}  // namespace

LWP_NOINLINE void waitgraph_follow(lwp_t *l, lwp_t *owner) noexcept {
	node first[longest];
	node second[longest];
	unsigned count = 0;
	{
		const std::uint32_t n = l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask;  // relaxed: only we write it
		l->l_blocks.store(n | wp_following, std::memory_order_seq_cst);                  // other followers need not wait for us to sleep
		lock_scope hold(waitgraph_lock, l->l_cpu);
		// Found twice with everybody still in the same sleep: then all edges were there at once, between the two.
		const unsigned once = collect(l, owner, first);
		if (once != 0 && collect(l, owner, second) == once && same(first, second, once)) {
			count = once;
		}
		l->l_blocks.store(n | wp_settled, std::memory_order_seq_cst);
	}
	if (count != 0) {
		lwp_t *circle[longest];
		for (unsigned i = 0; i < count; i++) {
			circle[i] = first[i].lwp;
		}
		waitgraph_reporter.load(std::memory_order_relaxed)(circle, count);
	}
}

}  // namespace lwp::kern
