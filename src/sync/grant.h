// SPDX-License-Identifier: BSD-2-Clause
//
// A wait that several may end and exactly one does: a sender or another one, a closer, a stop request, the timeout.  The record lives on the
// waiter's stack and may hang in any number of places.  Whoever comes to one of them first *takes* it, which nobody else can any more; then
// stores what the waiter is to get; then *gives*, which wakes the waiter.  A waiter whose record was taken waits for the give, whatever else
// happens to it, so the taker may use the record until then and not a moment longer.
//
// Takes the waiter's lock (sleep queue, vc_lwplock, ...), so that an object's own lock may be held, but need not.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct grant {
	static constexpr int pending = 0;
	static constexpr int timed_out = -1;

	/// Who may take it: anybody at any time, or only who holds the lock of the one object where it hangs.  The second kind costs no locked
	/// instruction, and its waiter has neither a deadline nor another way out.
	enum class takers : bool { any, one_lock };

	explicit grant(lwp_t *l, const void *object = nullptr, takers who = takers::any) noexcept : g_lwp(l), g_object(object), g_takers(who) {
		l->l_pins++;  // others can reach the record: whoever it belongs to does not end in the middle of its wait
	}
	~grant() {
		g_lwp->l_pins--;
		if (LWP_UNLIKELY(lwp_leaving(g_lwp))) {
			sched.sd_leave(g_lwp);  // it was to take its wait back, and this was it
		}
	}
	grant(const grant &) = delete;
	grant &operator=(const grant &) = delete;

	lwp_t *const g_lwp;           // (
	const void *g_object;         // (: what it is about, for reports
	atomic<int> g_by{pending};    // who took it: not pending, once and for ever
	const takers g_takers;        // (
	atomic<bool> g_given{false};  // a: set once, with the waiter locked
};

extern const syncobj grant_syncobj;
/// so_thing of those that sleep on a grant.
const void *grant_object(const void *wchan) noexcept;

/// True for exactly one caller.  `by` is not grant::pending; negative values are the waiter's own.
[[nodiscard]] inline bool grant_take(grant *g, int by) noexcept {
	int expected = grant::pending;
	if (g->g_takers == grant::takers::one_lock) {
		if (g->g_by.load(std::memory_order_relaxed) != expected) {  // relaxed: under that lock
			return false;
		}
		g->g_by.store(by, std::memory_order_relaxed);
		return true;
	}
	// acquire: what the waiter stored before it hung the record up.  A loser learns nothing from it.
	return g->g_by.compare_exchange_strong(expected, by, std::memory_order_acq_rel, std::memory_order_relaxed);
}

/// By who took it, once, after storing what it gives.  The record may be gone on return.  `end`: where the waiter is queued.
void grant_give(grant *, vcpu_t *me, queue_end end = queue_end::line) noexcept;

/// What a sleep on one is.
constexpr plain_sleep grant_sleep(const char *wmesg, const syncobj *sobj = &grant_syncobj) noexcept { return {wmesg, sobj, LW_GRANTED}; }

/// By the waiter, after hanging the record up.
/// 0 given: see g_by | ETIMEDOUT taken back: nobody will give; the deadline, or its LWP is lwp_leaving() | ERESTART, EINTR still hanging: pass the
/// boundary, then call again, or take it back and unhang | ENOMEM still hanging, no timer.
[[nodiscard]] int grant_wait(grant *, const plain_sleep &, nanotime deadline) noexcept;
[[nodiscard]] int grant_wait(grant *, const plain_sleep &) noexcept;
[[nodiscard]] inline int grant_wait(grant *g, const char *wmesg, nanotime deadline = never, const syncobj *sobj = &grant_syncobj) noexcept {
	return grant_wait(g, grant_sleep(wmesg, sobj), deadline);
}

}  // namespace lwp::kern
