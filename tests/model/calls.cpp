// SPDX-License-Identifier: BSD-2-Clause
//
// The step in the library: by an LWP through the calls of the application where it may block, else by whoever runs.
#include "core/lwp_lock.h"
#include "model/play.h"
#include "proc/lwp_life.h"
#include "proc/signal.h"
#include "sched/callout.h"

#include "base/sys.h"

#include <lwp/lwp.h>
#include <lwp/signal.h>

#include <cerrno>
#include <csignal>

namespace lwp::model {

using namespace kern;
using explore::fail;

namespace {

void live(void *arg) {
	auto *who = static_cast<member *>(arg);
	mailbox(who);
	if (who->slot % 2 != 0) {
		_lwp_exit();
	}
}

int errno_of(int result) { return result == 0 ? 0 : errno; }

void called(void *arg) { static_cast<member *>(arg)->hooks++; }

int create(lwp_t *l) {
	lwp_options o;
	o.detached = (now_step.arg & 1) != 0;
	o.suspended = (now_step.arg & 6) == 6;
	o.vcpu = static_cast<int>(now_step.target) % m().parts;
	o.priority = now_step.what == op::create_bad ? 64 : -1;
	lwp_t *l2;
	int error = newlwp(l, o, &l2);
	if (error == 0) {
		member &who = members[fresh];
		who = {};
		who.slot = fresh;
		error = lwp_start(l, l2, live, &who, o, &who.lid);
		if (error != 0) {
			lwp_abandon(l2);
			who.lid = 0;
		}
	}
	return error;
}

int set_and_get(lwp_t *l) {
	int policy = -1;
	int priority = -1;
	if (lwp_setparam(l, target > 0 ? target : nobody, 0, 3) != EINVAL) {
		fail("a time-sharing LWP was given a priority");
	}
	if (int error = lwp_setparam(l, target > 0 ? target : nobody, static_cast<int>(sched_class::fifo), now_step.arg % 64)) {
		return error;
	}
	if (lwp_getparam(l, target, &policy, &priority) != 0 || policy != 1 || priority != now_step.arg % 64) {
		fail("a priority that was set is not there");
	}
	return lwp_setparam(l, target, static_cast<int>(sched_class::other), -1);
}

}  // namespace

int call_now(lwp_t *l) {
	const lwpid_t t = target;
	switch (now_step.what) {
	case op::create:
	case op::create_bad:
		return create(l);
	case op::unpark:
		return lwp_unpark(l, t);
	case op::unpark_all:
		for (const member &who : members) {
			(void)(who.lid != 0 ? lwp_unpark(l, who.lid) : 0);
		}
		return 0;
	case op::detach:
		return lwp_detach(l, t);
	case op::resume:
		return lwp_continue(l, t);
	case op::wakeup:
		return lwp_wakeup(l, t);
	case op::kill_none:
		return signal_send(l, t, 0);
	case op::kill_usr1:
		return signal_send(l, t, SIGUSR1);
	case op::kill_usr2:
		return signal_send(l, t, SIGUSR2);
	case op::kill_stop:
		return signal_send(l, t, SIGSTOP);
	case op::kill_cont:
		return signal_send(l, t, SIGCONT);
	case op::setparam:
		return set_and_get(l);
	case op::protect: {
		const int error = lwp_protect(l, now_step.arg % 64);
		return error != 0 ? error : lwp_protect(l, -1);
	}
	case op::hook: {
		for (member &who : members) {
			if (who.lid == t) {
				return kern::lwp_need_userret(l, t, called, &who);
			}
		}
		return kern::lwp_need_userret(l, t, called, nullptr);
	}
	case op::hold: {
		lock_scope hold(proc_part(&proc0, t)->pp_lock, l->l_cpu);
		lwp_t *other = real(t);
		return other != nullptr && lwp_addref(other) ? 0 : ESRCH;
	}
	case op::release: {
		lwp_t *other;
		{
			lock_scope hold(proc_part(&proc0, t)->pp_lock, l->l_cpu);
			other = real(t);
		}
		lwp_delref(&proc0, other);
		return 0;
	}
	case op::proc_stop:
		proc_stop(&proc0, l->l_cpu);
		return 0;
	case op::proc_go:
		proc_continue(&proc0, l->l_cpu);
		return 0;
	case op::let_go:
		proc_let_go(&proc0, l->l_cpu);
		return 0;
	case op::world_go:
		world_continue(l);
		return 0;
	case op::time:
		if (until == never) {
			return 0;
		}
		explore::advance_clock(until);
		for (int i = 0; i < m().parts; i++) {
			callout_run(sched.sd_vcpu[i], explore::time_in(0));
		}
		return 0;
	default:
		fail("an operation that is not done here");
	}
}

int call_as(member *who) {
	lwp_t *l = explore::me();
	switch (now_step.what) {
	case op::park:
		return errno_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr));
	case op::park_until:
	case op::park_late: {
		timespec ts = to_timespec(now_step.what == op::park_late ? 1 : until);
		return errno_of(_lwp_park(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, 0, nullptr, nullptr));
	}
	case op::wait:
		return errno_of(_lwp_wait(target, &who->departed));
	case op::wait_any:
		return errno_of(_lwp_wait(0, &who->departed));
	case op::suspend:
		return errno_of(_lwp_suspend(target));
	case op::mask: {
		const sigset_t set =
		    sigset_of(((now_step.arg & usr1) != 0 ? sigbit(SIGUSR1) : 0) | ((now_step.arg & usr2) != 0 ? sigbit(SIGUSR2) : 0));
		return errno_of(lwp_sigprocmask(SIG_SETMASK, &set, nullptr));
	}
	case op::sigwait: {
		const sigset_t set = sigset_of(sigbit(SIGUSR1));
		const int sig = lwp_sigtimedwait(&set, nullptr, nullptr);
		return sig == SIGUSR1 ? 0 : errno;
	}
	case op::world_stop: {
		const int error = world_stop(l, never);
		lwp_userret(l);
		return error;
	}
	default:
		break;
	}
	const int error = call_now(l);
	lwp_userret(l);
	return error;
}

}  // namespace lwp::model
