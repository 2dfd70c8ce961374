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

/// `first` waits for `next`, and so on, until that ends or comes back to `first`: then how many LWPs it touched, `first` in front.  0: no circle.
unsigned collect(const node &first, lwp_t *next, vcpu_t *me, node *out) noexcept {
	out[0] = first;
	unsigned n = 1;
	for (lwp_t *x = next; x != first.lwp; n++) {
		if (x == nullptr || n == longest) {
			return 0;
		}
		std::uint32_t blocks;
		lwp_t *after = next_of(x, &blocks, me);
		out[n] = {x, blocks & ~wp_mask};
		x = after;
	}
	return n;
}

/// The edges from `l` on, which is about to wait for `owner`, or for whoever has come to be in its place.  It does not sleep yet, so the first edge may have
/// gone: it is asked for at each look, at the second one while all others are known to last.  It may lead to one that has come since and waits for `l`:
/// that one has found us about to follow, and has left it to us.
struct from_waiter {
	lwp_t *l;
	lwp_t *owner;
	const syncobj *sobj;
	const void *wchan;  // null: nobody else can come to be in the place of `owner`
	unsigned operator()(node *out) const noexcept {
		lwp_t *to = wchan != nullptr ? sobj->so_owner(wchan) : owner;
		return collect({l, l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask}, to, l->l_cpu, out);  // relaxed: only we write it
	}
};

/// The edges from `owner` on, which sleeps.
struct from_owner {
	lwp_t *owner;
	vcpu_t *me;
	unsigned operator()(node *out) const noexcept {
		std::uint32_t blocks;
		lwp_t *next = next_of(owner, &blocks, me);
		return collect({owner, blocks & ~wp_mask}, next, me, out);
	}
};

bool same(const node *a, const node *b, unsigned n) noexcept {
	for (unsigned i = 0; i < n; i++) {
		if (!(a[i] == b[i])) {
			return false;
		}
	}
	return true;
}

/// Found twice with everybody still in the same sleep: then all edges were there at once, between the two.
template <class From>
unsigned find_circle(const From &from, node *out) noexcept {
	node again[longest];
	const unsigned count = from(out);
	return count != 0 && from(again) == count && same(out, again, count) ? count : 0;
}

// Of a circle that a move has closed two may know: who moved, and an LWP of it that announced at the same moment.  While that one is about to
// follow nobody else finds the circle (next_of()), so it is first, and leaves here what it has told.  waitgraph_lock
constexpr unsigned told_most = 8;
std::uint64_t told[told_most];
unsigned told_next;

/// The same wherever the circle begins.
std::uint64_t sign_of(const node *circle, unsigned count) noexcept {
	std::uint64_t sum = 0;
	for (unsigned i = 0; i < count; i++) {
		sum += (reinterpret_cast<std::uintptr_t>(circle[i].lwp) + circle[i].blocks) * 0x9e3779b97f4a7c15U;
	}
	return sum;
}

/// False: another has told of it.
bool tell_locked(const node *circle, unsigned count) noexcept {
	const std::uint64_t sign = sign_of(circle, count);
	for (const std::uint64_t other : told) {
		if (other == sign) {
			return false;
		}
	}
	told[told_next++ % told_most] = sign;
	return true;
}

void report(const node *nodes, unsigned count, lwp_t *by, const syncobj *sobj, const void *wchan) noexcept {
	lwp_t *circle[longest];
	for (unsigned i = 0; i < count; i++) {
		circle[i] = nodes[i].lwp;
	}
	const waitgraph_report tell = waitgraph_reporter.load(std::memory_order_relaxed);  // relaxed: set once, at the start
	tell({.wc_lwps = circle, .wc_count = count, .wc_by = by, .wc_sobj = sobj, .wc_wchan = wchan});
}

}  // namespace

LWP_NOINLINE void waitgraph_follow(lwp_t *l, lwp_t *owner, const syncobj *sobj, const void *wchan) noexcept {
	node nodes[longest];
	unsigned count = 0;
	{
		const std::uint32_t n = l->l_blocks.load(std::memory_order_relaxed) & ~wp_mask;  // relaxed: only we write it
		l->l_blocks.store(n | wp_following, std::memory_order_seq_cst);                  // other followers need not wait for us to sleep
		lock_scope hold(waitgraph_lock, l->l_cpu);
		count = find_circle(from_waiter{l, owner, sobj, wchan}, nodes);
		if (count != 0) {
			(void)tell_locked(nodes, count);  // a wait that nobody has told of: it has not slept
		}
		l->l_blocks.store(n | wp_settled, std::memory_order_seq_cst);
	}
	if (count != 0) {
		report(nodes, count, l, sobj, wchan);
	}
}

LWP_NOINLINE void waitgraph_follow_moved(lwp_t *owner, vcpu_t *me) noexcept {
	node nodes[longest];
	unsigned count = 0;
	{
		lock_scope hold(waitgraph_lock, me);
		count = find_circle(from_owner{owner, me}, nodes);
		if (count != 0 && !tell_locked(nodes, count)) {
			count = 0;
		}
	}
	if (count != 0) {
		report(nodes, count, me->vc_curlwp, nullptr, nullptr);
	}
}

}  // namespace lwp::kern
