// SPDX-License-Identifier: BSD-2-Clause
//
// How the process, or one of its procs, ends while LWPs run, sleep, are suspended, stopped or being made; and what is said of them when it dies.
//
//   proc_exit()      LW_WEXIT to all others; the caller, the exit coordinator, waits until nobody runs but it (EXITCONTROL), then exit(status)
//   proc_shutdown()  LW_WREBOOT to all others: suspended for good, and no continue helps
//   proc_die()       the snapshot: the world is stopped where it is, LW_WCORE is posted, what each LWP was at is written; then the signal
//   proc_make_end()  LW_WEXIT and LW_WLEAVE to the LWPs of one proc, not proc0: the process goes on, so none stands still for good, and nobody
//                    coordinates: each ends at its boundary, and the last one ends the proc (procs.cpp)
//
// What is posted to all is kept in p_post, and whoever is made later starts with it: nobody escapes by being born late (Q8).  The coordinator posts
// again at every look.  LWPs that cannot end where they are (boundary.cpp says which) stand still; those that never come to a boundary are
// left alone when the time is over.
#include "base/assert.h"
#include "base/sys.h"
#include "proc/lwp_life.h"
#include "proc/preempt.h"
#include "proc/report.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <unistd.h>

namespace lwp::kern {
namespace {

const syncobj coordinator_syncobj = {"the others to end"};
constexpr nanotime snapshot_patience = 1'000'000'000;

/// All locks held.
void post_to(proc_t *p, lwp_t *t, std::uint32_t bits, const part_hold &hold, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(t, me);
	const lwp_stat s = lwp_state(t);
	if (s == lwp_stat::zomb || s == lwp_stat::idl || ((bits & LW_WEXIT) != 0 && (t->l_prflag & LPR_ENDING) != 0)) {
		lock->unlock(me);
		return;
	}
	const bool news = (lwp_flags(t) & bits) != bits;
	if ((bits & LW_WEXIT) != 0) {
		lwp_flag_clear(t, LW_WSUSPEND);
		if (news && s == lwp_stat::suspended) {  // once: if it cannot end it stands still again
			lwp_flag_set(t, bits);
			part_add(lwp_share(t)->pp_nrlwps, 1);
			sched_wake_and_unlock(t, lock);
			return;
		}
	}
	(void)lwp_post(p, t, lock, hold, bits, (bits & LW_WEXIT) != 0 ? EINTR : 0, me);  // all locks are held: it does not ask for more
}

/// Says to everybody that the process is about to die; who stands still is left where it is.
void mark_all(lwp_t *l, std::uint32_t bits) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	const proc_scope hold(p, me);
	procs_each([bits](proc_t *each) { each->p_post |= bits; });
	proc_each_lwp(nullptr, [&](lwp_t *t) {
		spinlock *lock = lwp_lock(t, me);
		lwp_flag_set(t, bits);
		lock->unlock(me);
	});
}

/// Posts to all, of all procs, but the caller.  Whether nobody else runs any more.
bool post_to_all(lwp_t *l, std::uint32_t bits) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, l->l_part, me);
	hold.widen(me);
	procs_each([&](proc_t *each) {
		each->p_post |= bits;
		proc_cv_broadcast(each, me);
	});
	proc_each_lwp(nullptr, [&](lwp_t *t) {
		if (t != l) {
			post_to(t->l_proc, t, bits, hold, me);
		}
	});
	const bool alone = proc_count(nullptr).nrlwps == 1;
	hold.unlock(me);
	return alone;
}

/// 0 | ETIMEDOUT
int post_and_wait(lwp_t *l, std::uint32_t bits, nanotime deadline) noexcept {
	for (nanotime pause = 20'000;; pause = std::min<nanotime>(pause * 2, 5'000'000)) {
		if (post_to_all(l, bits)) {
			return 0;
		}
		const nanotime when = now();
		if (when >= deadline) {
			return ETIMEDOUT;
		}
		lwp_yield_cpu(l);
		preempt_hurry();
		spinlock *lock = sleepq_enter_self(l);
		(void)sleepq_block_self_and_unlock(
		    l, lock, {&proc0.p_post, "exitwait", &coordinator_syncobj, sleep_catch::no, std::min(when + pause, deadline)});
	}
}

/// Whether the caller is the one who ends the process; else it ends with the others.
bool become_coordinator(lwp_t *l) noexcept {
	const proc_scope hold(&proc0, l->l_cpu);
	if ((proc0.p_post & LW_WEXIT) != 0) {
		return false;
	}
	proc0.p_post |= LW_WEXIT;
	return true;
}

/// The caller's proc, which is not the process.
[[noreturn]] void end_own_proc(lwp_t *l, int status) noexcept {
	{
		part_hold hold(l->l_proc, l->l_part, l->l_cpu);
		hold.widen(l->l_cpu);
		proc_make_end(l->l_proc, (status & 0xff) << 8, hold, l->l_cpu);
		LWP_CHECK(l->l_pins == 0 && (l->l_prflag & LPR_ENDING) == 0,
		    "lwp_proc_exit: called by a handler that interrupted a wait whose record others can reach, or at the end of an LWP");
		spinlock *lock = lwp_lock(l, l->l_cpu);
		lwp_flag_set(l, LW_WEXIT);  // also if another was first and we have put it off
		lock->unlock(l->l_cpu);
		hold.unlock(l->l_cpu);
	}
	for (;;) {
		lwp_userret(l);  // ends, whatever it owns; or, if the process dies, stands still for good
	}
}

void write_all(const std::string &text) noexcept {
	for (std::size_t at = 0; at < text.size();) {
		const long n = sys::write(2, text.data() + at, text.size() - at);
		if (n <= 0 && n != -EINTR) {
			return;
		}
		at += n > 0 ? static_cast<std::size_t>(n) : 0;
	}
}

}  // namespace

bool proc_exiting(const proc_t *p, vcpu_t *me) noexcept {
	lock_scope hold(proc0_parts[0].pp_lock, me);
	return (p->p_post & LW_WEXIT) != 0;
}

atomic<bool> procs_made_to_end{false};

void proc_make_end(proc_t *p, int xstat, const part_hold &hold, vcpu_t *me) noexcept {
	if (p->p_stat != proc_stat::active || (p->p_post & LW_WEXIT) != 0) {
		return;  // it has ended, or has been told to
	}
	procs_made_to_end.store(true, std::memory_order_relaxed);  // relaxed: all locks are held, and its LWPs end under one of them
	p->p_xstat = xstat;
	p->p_post |= LW_WEXIT | LW_WLEAVE;
	proc_each_lwp(p, [&](lwp_t *t) { post_to(p, t, LW_WEXIT | LW_WLEAVE, hold, me); });
	proc_unstop_locked(p, me);
	proc_cv_broadcast(p, me);
}

void proc_exit(lwp_t *l, int status, nanotime grace) noexcept {
	if (l->l_proc != &proc0) {
		end_own_proc(l, status);
	}
	while (!become_coordinator(l)) {
		spinlock *lock = lwp_lock(l, l->l_cpu);
		lwp_flag_set(l, LW_WEXIT);  // it may not have been posted to us yet
		lock->unlock(l->l_cpu);
		lwp_userret(l);  // ends, or stands still for good
	}
	biglock_drop(l);  // what it does from here on it does alone; those that wait for the lock come to their boundary by it
	proc_let_go(l->l_proc, l->l_cpu);
	(void)post_and_wait(l, LW_WEXIT, after(now(), grace));
	std::exit(status);
}

int proc_shutdown(lwp_t *l, nanotime deadline) noexcept { return post_and_wait(l, LW_WREBOOT, deadline); }

void proc_die(lwp_t *l, int sig, bool snapshot) noexcept {
	if (snapshot) {
		const bool idle = (lwp_flags(l) & LW_IDLE) != 0;
		if (!idle) {
			(void)world_stop(l, after(now(), snapshot_patience));  // who does not come in time is shown without its frames
		}
		mark_all(l, LW_WCORE);
		try {
			write_all("lwp: signal " + std::to_string(sig) + ": every LWP\n" + report_every(l));
		} catch (const std::bad_alloc &) {
			write_all("lwp: no memory to say what LWPs were at\n");
		}
	}
	struct sigaction plain {};
	::sigaction(sig, &plain, nullptr);
	sigset_t only;
	::sigemptyset(&only);
	::sigaddset(&only, sig);
	::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
	::raise(sig);
	::_exit(128 + sig);  // a signal that does not end processes
}

}  // namespace lwp::kern
