// SPDX-License-Identifier: BSD-2-Clause
#include "sync/lockorder.h"

#if LWP_DEBUG

#include "sync/mutex.h"
#include "sync/rwlock.h"

#include <cstring>
#include <unwind.h>
#if LWP_VALGRIND
#include <valgrind/memcheck.h>
#endif

namespace lwp::kern {

atomic<lockorder_report> lockorder_reporter{nullptr};

namespace {

constexpr unsigned locks_most = 4096;
constexpr unsigned edges_most = 16384;
constexpr unsigned places_most = 2048;
constexpr unsigned told_most = 8;  // edges of one circle

/// A lock that has edges.  Index 0 of every table stands for none.
struct node {
	const void *n_lock;    // null: not in use
	std::uint32_t n_next;  // of its bucket, or of those not in use
	std::uint32_t n_out;   // edges from it
	std::uint32_t n_in;    // edges to it
	std::uint32_t n_seen;  // the search that came by last
	std::uint32_t n_via;   // and the edge by which it did
};

struct edge {
	std::uint32_t e_from, e_to;
	std::uint32_t e_nextout, e_nextin;  // of its two lists, or the first: of those not in use
	lockorder_step e_step;
};

/// Where locks were taken.  Unwinding costs a microsecond, so it is done once for each call that looks the same (see tag_of()).
struct place {
	atomic<std::uint32_t> p_tag;  // a: written under lockorder_lock, after the trace; a match without it is tested again with it
	lock_trace p_trace;           // lockorder_lock
};

spinlock lockorder_lock{lock_rank::leaf, "lockorder_lock"};  // all that follows; the memory of what is not used is never touched
node nodes[locks_most];
edge edges[edges_most];
place places[places_most];
std::uint32_t buckets[locks_most];
std::uint32_t queue[locks_most];
std::uint32_t nodes_used = 1, edges_used = 1;  // from there on untouched
std::uint32_t nodes_free, edges_free;
std::uint32_t oldest = 1;  // the next to be forgotten
std::uint32_t searches;

// ---- where ---------------------------------------------------------------------------------------------------------------------

/// Tells calls apart without unwinding: the return address, the place on the stack, and what the caller's frame holds there, in which the return
/// addresses of its callers are found if it is small.  Two calls with the same tag took the lock in the same way, all but surely.
__attribute__((no_sanitize("address", "thread", "undefined"))) std::uint32_t tag_of(lock_site site) noexcept {
	constexpr unsigned words = 16;
	constexpr std::uintptr_t page = 4096;
	const auto *w = static_cast<const std::uintptr_t *>(site.ls_frame) + 2;
	const auto first = reinterpret_cast<std::uintptr_t>(w);
	// The word below is the return address.  What lies above on its page can be read, whatever stack that is and wherever it ends.
	const std::uintptr_t end = ((first - sizeof *w) | (page - 1)) + 1;
	std::uint64_t hash = (reinterpret_cast<std::uintptr_t>(site.ls_return) ^ (first << 20)) * 0x9e3779b97f4a7c15;
	for (unsigned i = 0; i < words && first + i * sizeof *w < end; i++) {
		hash = (hash ^ w[i]) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 29;
	}
#if LWP_VALGRIND
	// Some of these words nobody has written: what they happen to be says as well as anything which call it is, and what is derived from it is no mistake.
	VALGRIND_MAKE_MEM_DEFINED(&hash, sizeof hash);
#endif
	return static_cast<std::uint32_t>(hash >> 32) | 1U;  // 0: none
}

struct unwinding {
	lock_trace trace{};
	unsigned count = 0;
	unsigned passed = 0;
	const void *from;
};

_Unwind_Reason_Code add_frame(_Unwind_Context *context, void *arg) {
	auto *u = static_cast<unwinding *>(arg);
	auto *ip = reinterpret_cast<void *>(_Unwind_GetIP(context));
	if (u->count == 0 && ip != u->from && ++u->passed < 16) {
		return _URC_NO_REASON;  // the library's own
	}
	u->trace.lt_frames[u->count++] = ip;
	return u->count < lock_trace::most ? _URC_NO_REASON : _URC_END_OF_STACK;
}

lock_trace unwind(lock_site site) noexcept {
	unwinding u;
	u.from = site.ls_return;
	_Unwind_Backtrace(add_frame, &u);
	return u.trace;
}

std::uint32_t place_of(const lwp_t *l, lock_site site) noexcept {
	const std::uint32_t tag = tag_of(site);
	place &p = places[tag % places_most];
	if (p.p_tag.load(std::memory_order_relaxed) != tag) {  // relaxed: whoever wants the trace takes the lock
		const lock_trace t = unwind(site);
		lock_scope hold(lockorder_lock, l->l_cpu);
		p.p_trace = t;
		p.p_tag.store(tag, std::memory_order_relaxed);
	}
	return tag;
}

lock_trace trace_of_locked(std::uint32_t tag) noexcept {
	const place &p = places[tag % places_most];
	return p.p_tag.load(std::memory_order_relaxed) == tag ? p.p_trace : lock_trace{};
}

// ---- the graph, with lockorder_lock held -------------------------------------------------------------------------------------------

std::uint32_t *bucket_of(const void *lock) noexcept {
	return &buckets[(reinterpret_cast<std::uintptr_t>(lock) * 0x9e3779b97f4a7c15 >> 32) % locks_most];
}

std::uint32_t find(const void *lock) noexcept {
	std::uint32_t n = *bucket_of(lock);
	while (n != 0 && nodes[n].n_lock != lock) {
		n = nodes[n].n_next;
	}
	return n;
}

/// Takes `which` out of the list that begins at `*link` and goes on by `next`.
template <class T>
void unlink(T *table, std::uint32_t *link, std::uint32_t T::*next, std::uint32_t which) noexcept {
	while (*link != which) {
		link = &(table[*link].*next);
	}
	*link = table[which].*next;
}

void drop_edge(std::uint32_t e) noexcept {
	unlink(edges, &nodes[edges[e].e_from].n_out, &edge::e_nextout, e);
	unlink(edges, &nodes[edges[e].e_to].n_in, &edge::e_nextin, e);
	edges[e].e_nextout = edges_free;
	edges_free = e;
}

void drop_node(std::uint32_t n) noexcept {
	while (nodes[n].n_out != 0) {
		drop_edge(nodes[n].n_out);
	}
	while (nodes[n].n_in != 0) {
		drop_edge(nodes[n].n_in);
	}
	unlink(nodes, bucket_of(nodes[n].n_lock), &node::n_next, n);
	nodes[n].n_lock = nullptr;
	nodes[n].n_next = nodes_free;
	nodes_free = n;
}

/// Makes room, but not by what `a` and `b` stand for.
void forget_one(std::uint32_t a, std::uint32_t b) noexcept {
	for (;;) {
		oldest = oldest + 1 < nodes_used ? oldest + 1 : 1;
		if (nodes[oldest].n_lock != nullptr && oldest != a && oldest != b) {
			drop_node(oldest);
			return;
		}
	}
}

/// The library is to be told when it is destroyed.
void mark_known(const void *lock, lock_hold as) noexcept {
	// relaxed: whoever destroys it has seen everybody else leave
	if (as == lock_hold::mutex) {
		static_cast<kmutex *>(const_cast<void *>(lock))->mtx_known.store(true, std::memory_order_relaxed);
	} else {
		static_cast<krwlock *>(const_cast<void *>(lock))->rw_known.store(true, std::memory_order_relaxed);
	}
}

std::uint32_t find_or_make(const void *lock, lock_hold as, std::uint32_t other) noexcept {
	if (const std::uint32_t n = find(lock)) {
		return n;
	}
	if (nodes_free == 0 && nodes_used == locks_most) {
		forget_one(other, other);
	}
	std::uint32_t n = nodes_free;
	if (n != 0) {
		nodes_free = nodes[n].n_next;
	} else {
		n = nodes_used++;
	}
	std::uint32_t *bucket = bucket_of(lock);
	nodes[n] = {lock, *bucket, 0, 0, 0, 0};
	*bucket = n;
	mark_known(lock, as);
	return n;
}

std::uint32_t find_edge(std::uint32_t from, std::uint32_t to) noexcept {
	std::uint32_t e = nodes[from].n_out;
	while (e != 0 && edges[e].e_to != to) {
		e = edges[e].e_nextout;
	}
	return e;
}

std::uint32_t make_edge(std::uint32_t from, std::uint32_t to) noexcept {
	while (edges_free == 0 && edges_used == edges_most) {
		forget_one(from, to);
	}
	std::uint32_t e = edges_free;
	if (e != 0) {
		edges_free = edges[e].e_nextout;
	} else {
		e = edges_used++;
	}
	edges[e].e_from = from;
	edges[e].e_to = to;
	edges[e].e_nextout = nodes[from].n_out;
	nodes[from].n_out = e;
	edges[e].e_nextin = nodes[to].n_in;
	nodes[to].n_in = e;
	return e;
}

/// Whether edges lead from `from` to `to`; then n_via of each on the shortest way names the edge by which it is reached.
bool leads(std::uint32_t from, std::uint32_t to) noexcept {
	unsigned head = 0, tail = 0;
	queue[tail++] = from;
	nodes[from].n_seen = ++searches;
	while (head != tail) {
		const std::uint32_t n = queue[head++];
		if (n == to) {
			return true;
		}
		for (std::uint32_t e = nodes[n].n_out; e != 0; e = edges[e].e_nextout) {
			node &next = nodes[edges[e].e_to];
			if (next.n_seen != searches) {
				next.n_seen = searches;
				next.n_via = e;
				queue[tail++] = edges[e].e_to;
			}
		}
	}
	return false;
}

/// After leads(from, to): those edges, the first of them at out[1], and `closing`, which leads back, at out[0].  How many.
unsigned collect(std::uint32_t from, std::uint32_t to, std::uint32_t closing, lockorder_step *out) noexcept {
	unsigned length = 1;
	for (std::uint32_t n = to; n != from; n = edges[nodes[n].n_via].e_from) {
		length++;
	}
	unsigned at = length;
	for (std::uint32_t n = to; n != from; n = edges[nodes[n].n_via].e_from) {
		if (--at < told_most) {
			out[at] = edges[nodes[n].n_via].e_step;
		}
	}
	out[0] = edges[closing].e_step;
	return length < told_most ? length : told_most;
}

bool has(const lwp_t *l, const void *lock) noexcept {
	for (const held_lock &h : l->l_order) {
		if (h.hl_lock == lock) {
			return true;
		}
	}
	return false;
}

/// Makes the edges from what `l` has to `lock`.  How many steps of a circle one of them closes are in `out`.
unsigned make_edges(lwp_t *l, const void *lock, lock_hold as, std::uint32_t tag, lockorder_step *out) noexcept {
	const bool again = has(l, lock);  // a wait for itself, whatever else it has
	unsigned count = 0;
	lock_scope hold(lockorder_lock, l->l_cpu);
	for (const held_lock &h : l->l_order) {
		if (h.hl_lock == nullptr || (again && h.hl_lock != lock)) {
			continue;
		}
		const std::uint32_t from = find_or_make(h.hl_lock, h.hl_how, 0);
		const std::uint32_t to = find_or_make(lock, as, from);
		if (find_edge(from, to) != 0) {
			continue;
		}
		const std::uint32_t e = make_edge(from, to);
		lockorder_step &s = edges[e].e_step;
		s = {h.hl_lock, lock, h.hl_how, as, lwp_lid(l), {}, trace_of_locked(h.hl_place), trace_of_locked(tag)};
		std::memcpy(s.ls_name, l->l_name, sizeof s.ls_name);
		if (count == 0 && leads(to, from)) {
			count = collect(to, from, e, out);
		}
	}
	return count;
}

}  // namespace

LWP_NOINLINE void lockorder_wanted(lwp_t *l, const void *lock, lock_hold as, lock_site site) noexcept {
	bool any = false;
	bool excused = false;  // alone already: the call fails with EDEADLK, and says so itself
	for (const held_lock &h : l->l_order) {
		any = any || h.hl_lock != nullptr;
		excused = excused || (h.hl_lock == lock && h.hl_how != lock_hold::read);
	}
	const lockorder_report report = lockorder_reporter.load(std::memory_order_relaxed);  // relaxed: set once, at the start
	if (!any || excused || report == nullptr) {
		return;
	}
	lockorder_step steps[told_most];
	if (const unsigned count = make_edges(l, lock, as, place_of(l, site), steps)) {
		report(steps, count);
	}
}

LWP_NOINLINE void lockorder_taken(lwp_t *l, const void *lock, lock_hold as, lock_site site) noexcept {
	for (held_lock &h : l->l_order) {
		if (h.hl_lock == nullptr) {
			// relaxed: set once, at the start
			h = {lock, lockorder_reporter.load(std::memory_order_relaxed) != nullptr ? place_of(l, site) : 0, as};
			return;
		}
	}
	l->l_ordermore++;
}

LWP_NOINLINE bool lockorder_released(lwp_t *l, const void *lock) noexcept {
	for (held_lock &h : l->l_order) {
		if (h.hl_lock == lock) {
			h.hl_lock = nullptr;
			return true;
		}
	}
	if (l->l_ordermore == 0) {
		return false;
	}
	l->l_ordermore--;
	return true;
}

LWP_NOINLINE void lockorder_destroyed(const void *lock) noexcept {
	vcpu_t *me = curcpu_or_null();
	lock_scope hold(lockorder_lock, me);
	if (const std::uint32_t n = find(lock)) {
		drop_node(n);
	}
}

}  // namespace lwp::kern

#endif
