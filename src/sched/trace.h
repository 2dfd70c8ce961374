// SPDX-License-Identifier: BSD-2-Clause
//
// Traces: what an LWP did of late, and how often and for how long it was off its vCPU for what.  Only of LWPs for which somebody has asked.
//
// A stretch on a vCPU is written down as the LWP leaves it, where its account is charged too (sched/account.h): so a switch pays nothing while nobody
// is traced and no time is counted, and who is not traced pays the look at the clock only.  How long it was away is known when its next stretch ends, or
// to who asks while it runs.
//
// l_trace, and all behind it, is covered by the LWP's lock.  Nothing is allocated as it is written.  Takes trace_lock, a leaf.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// Why it left; LWP_WHY_... of <lwp/trace.h>.
enum class trace_why : std::uint8_t { slept, yielded, preempted, stopped, ended };

struct trace_entry {
	nanotime te_since;
	nanotime te_until;
	const char *te_wmesg;  // slept: what for
	std::int16_t te_cpu;
	trace_why te_why;
};

struct trace_sum {
	const char *ts_wmesg;
	trace_why ts_why;
	std::uint64_t ts_count;
	nanotime ts_time;
	nanotime ts_longest;
};

inline constexpr std::size_t trace_most = 4096;  // entries
inline constexpr unsigned trace_kinds = 32;      // the last one takes all that have no place of their own

struct trace {
	trace_entry *t_ring;     // the entries, behind this
	std::size_t t_room;      // a power of two
	std::uint64_t t_count;   // entries so far
	std::uint64_t t_nivcsw;  // l_nivcsw as of the last one
	nanotime t_began;        // what was before is not known
	bool t_away;             // the last entry's absence is in no sum yet
	unsigned t_nsums;
	trace_sum t_sums[trace_kinds];
	trace *t_next;  // trace_lock: of those that nobody needs any more
};

/// One of `room` entries, rounded up; null if there is no memory.  No lock held.
[[nodiscard]] trace *trace_get(std::size_t room) noexcept;
/// Gives back one that no LWP has.  No lock held.
void trace_free(trace *) noexcept;
/// Gives it to `l`, locked.
void trace_attach(lwp_t *l, trace *) noexcept;
/// Takes it from `l`, locked, or dead and the caller's.
trace *trace_detach(lwp_t *l) noexcept;
/// Of an LWP that is dead, if it has one: freed by whoever calls trace_get() or trace_free() next, since locks may be held here.
void trace_put_slow(lwp_t *) noexcept;
inline void trace_put(lwp_t *dead) noexcept {
	if (LWP_UNLIKELY(dead->l_trace != nullptr)) {
		trace_put_slow(dead);
	}
}

/// `l` leaves `vc`, which it has had since `since`.  It is covered as when its account is charged.
void trace_leaves(const vcpu_t *vc, lwp_t *l, nanotime since, nanotime when) noexcept;
/// `l`, locked: the sums are complete up to now.
void trace_settle(lwp_t *l) noexcept;

}  // namespace lwp::kern
