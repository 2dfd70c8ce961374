// SPDX-License-Identifier: BSD-2-Clause
#include "sched/trace.h"

#include "base/assert.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/account.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <new>

namespace lwp::kern {
namespace {

constinit spinlock trace_lock(lock_rank::leaf, "traces");
trace *unused;  // trace_lock

void free_unused() noexcept {
	trace *t;
	{
		std::lock_guard hold(trace_lock);
		t = unused;
		unused = nullptr;
	}
	while (t != nullptr) {
		trace *next = t->t_next;
		::operator delete(t);
		t = next;
	}
}

trace_why why_of(const lwp_t *l, const trace *t) noexcept {
	switch (lwp_state(l)) {
	case lwp_stat::sleep:
		return trace_why::slept;
	case lwp_stat::run:
		return l->l_nivcsw != t->t_nivcsw ? trace_why::preempted : trace_why::yielded;
	case lwp_stat::onproc:
		return trace_why::ended;  // it says so before it is LSZOMB (proc/exit.cpp)
	default:
		return trace_why::stopped;
	}
}

bool same(const trace_sum &s, const trace_entry &e) noexcept {
	return s.ts_why == e.te_why &&
	    (s.ts_wmesg == e.te_wmesg || (s.ts_wmesg != nullptr && e.te_wmesg != nullptr && std::strcmp(s.ts_wmesg, e.te_wmesg) == 0));
}

/// It came back at `since`.
void add_absence(trace *t, nanotime since) noexcept {
	if (!t->t_away) {
		return;
	}
	t->t_away = false;
	const trace_entry &e = t->t_ring[(t->t_count - 1) & (t->t_room - 1)];
	trace_sum *s = std::find_if(t->t_sums, t->t_sums + t->t_nsums, [&e](const trace_sum &x) { return same(x, e); });
	if (s == t->t_sums + t->t_nsums) {
		if (t->t_nsums < trace_kinds) {
			*s = {e.te_wmesg, e.te_why, 0, 0, 0};
			t->t_nsums++;
		} else {
			s--;
			s->ts_wmesg = "others";
		}
	}
	const nanotime took = since > e.te_until ? since - e.te_until : 0;
	s->ts_count++;
	s->ts_time += took;
	s->ts_longest = std::max(s->ts_longest, took);
}

}  // namespace

trace *trace_get(std::size_t room) noexcept {
	free_unused();
	const std::size_t n = std::bit_ceil(std::clamp<std::size_t>(room, 1, trace_most));
	static_assert(sizeof(trace) % alignof(trace_entry) == 0);
	void *memory = ::operator new(sizeof(trace) + n * sizeof(trace_entry), std::nothrow);
	if (memory == nullptr) {
		return nullptr;
	}
	auto *t = new (memory) trace{};
	t->t_ring = new (t + 1) trace_entry[n]{};
	t->t_room = n;
	return t;
}

void trace_free(trace *t) noexcept {
	::operator delete(t);
	free_unused();
}

void trace_attach(lwp_t *l, trace *t) noexcept {
	LWP_ASSERT(lwp_locked(l) && l->l_trace == nullptr);
	sched_watch(true);
	t->t_began = now();
	t->t_nivcsw = l->l_nivcsw;
	l->l_trace = t;
}

trace *trace_detach(lwp_t *l) noexcept {
	trace *t = l->l_trace;
	if (t != nullptr) {
		l->l_trace = nullptr;
		sched_watch(false);
	}
	return t;
}

LWP_NOINLINE void trace_put_slow(lwp_t *dead) noexcept {
	trace *t = trace_detach(dead);
	std::lock_guard hold(trace_lock);
	t->t_next = unused;
	unused = t;
}

LWP_NOINLINE void trace_leaves(const vcpu_t *vc, lwp_t *l, nanotime since, nanotime when) noexcept {
	trace *t = l->l_trace;
	since = std::clamp(since, std::min(t->t_began, when), when);  // nobody may have looked at the clock before
	add_absence(t, since);
	const trace_why why = why_of(l, t);
	t->t_nivcsw = l->l_nivcsw;
	t->t_ring[t->t_count & (t->t_room - 1)] = {since, when, why == trace_why::slept ? l->l_wmesg : nullptr,
	    static_cast<std::int16_t>(vc->vc_bound ? -1 : vc->vc_index.load(std::memory_order_relaxed)), why};  // relaxed: its own
	t->t_count++;
	t->t_away = why != trace_why::ended;
}

void trace_settle(lwp_t *l) noexcept {
	LWP_ASSERT(lwp_locked(l));
	if (lwp_state(l) == lwp_stat::onproc) {
		add_absence(l->l_trace, l->l_cpu->vc_since);
	}
}

}  // namespace lwp::kern
