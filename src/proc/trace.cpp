// SPDX-License-Identifier: BSD-2-Clause
//
// Traces of LWPs, found by their ids.  What is told is read under the LWP's lock, so it belongs together.  Takes pp_lock, an LWP's lock; memory comes and goes
// with no lock held.
#include "sched/trace.h"

#include "proc/lwp_life.h"

#include <lwp/trace.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace lwp::kern {
namespace {

static_assert(static_cast<int>(trace_why::slept) == LWP_WHY_SLEPT && static_cast<int>(trace_why::yielded) == LWP_WHY_YIELDED &&
    static_cast<int>(trace_why::preempted) == LWP_WHY_PREEMPTED && static_cast<int>(trace_why::stopped) == LWP_WHY_STOPPED &&
    static_cast<int>(trace_why::ended) == LWP_WHY_ENDED);
static_assert(trace_most == LWP_TRACE_MOST && trace_kinds == LWP_TRACE_KINDS);

/// what(t) with the LWP `lid` (0: `l`) locked.  Its result | ESRCH
template <class What>
int with_locked(lwp_t *l, lwpid_t lid, What what) noexcept {
	vcpu_t *me = l->l_cpu;
	lock_scope hold((lid == 0 ? l->l_part : proc_part(l->l_proc, lid))->pp_lock, me);
	lwp_t *t = lid == 0 ? l : lwp_find_any(l->l_proc, lid);
	// A dead one that nobody will wait for is no LWP any more.
	if (t == nullptr || lwp_state(t) == lwp_stat::idl || (lwp_state(t) == lwp_stat::zomb && (t->l_prflag & LPR_DETACHED) != 0)) {
		return ESRCH;
	}
	spinlock *lock = lwp_lock(t, me);
	const int result = what(t);
	lock->unlock(me);
	return result;
}

void copy_wmesg(char (&to)[LWP_MAXNAME], const char *from) noexcept {
	std::memset(to, 0, sizeof to);
	if (from != nullptr) {
		std::memcpy(to, from, ::strnlen(from, sizeof to - 1));
	}
}

}  // namespace

int lwp_trace_begin(lwp_t *l, lwpid_t lid, std::size_t room) noexcept {
	trace *t = trace_get(room);
	if (t == nullptr) {
		return ENOMEM;
	}
	const int error = with_locked(l, lid, [t](lwp_t *target) {
		if (lwp_state(target) == lwp_stat::zomb) {
			return ESRCH;
		}
		if (target->l_trace != nullptr) {
			return EBUSY;
		}
		trace_attach(target, t);
		return 0;
	});
	if (error != 0) {
		trace_free(t);
	}
	return error;
}

int lwp_trace_end(lwp_t *l, lwpid_t lid) noexcept {
	trace *t = nullptr;
	const int error = with_locked(l, lid, [&t](lwp_t *target) {
		t = trace_detach(target);
		return t != nullptr ? 0 : ENOENT;
	});
	if (t != nullptr) {
		trace_free(t);
	}
	return error;
}

int lwp_trace_tell(lwp_t *l, lwpid_t lid, lwp_trace_record *records, std::size_t room, std::size_t *count) noexcept {
	return with_locked(l, lid, [=](const lwp_t *target) {
		const trace *t = target->l_trace;
		if (t == nullptr) {
			return ENOENT;
		}
		const std::uint64_t n = std::min<std::uint64_t>({room, t->t_room, t->t_count});
		for (std::uint64_t i = 0; i < n; i++) {
			const std::uint64_t number = t->t_count - n + i;
			const trace_entry &e = t->t_ring[number & (t->t_room - 1)];
			lwp_trace_record &r = records[i];
			r.tr_number = number;
			r.tr_since = e.te_since;
			r.tr_until = e.te_until;
			r.tr_cpu = e.te_cpu;
			r.tr_why = static_cast<int>(e.te_why);
			copy_wmesg(r.tr_wmesg, e.te_wmesg);
		}
		*count = n;
		return 0;
	});
}

int lwp_trace_tell_sums(lwp_t *l, lwpid_t lid, lwp_trace_sum *sums, std::size_t room, std::size_t *count) noexcept {
	return with_locked(l, lid, [=](lwp_t *target) {
		if (target->l_trace == nullptr) {
			return ENOENT;
		}
		trace_settle(target);
		const trace *t = target->l_trace;
		for (std::size_t i = 0; i < std::min<std::size_t>(room, t->t_nsums); i++) {
			const trace_sum &s = t->t_sums[i];
			sums[i].ts_why = static_cast<int>(s.ts_why);
			copy_wmesg(sums[i].ts_wmesg, s.ts_wmesg);
			sums[i].ts_count = s.ts_count;
			sums[i].ts_time = s.ts_time;
			sums[i].ts_longest = s.ts_longest;
		}
		*count = t->t_nsums;
		return 0;
	});
}

}  // namespace lwp::kern
