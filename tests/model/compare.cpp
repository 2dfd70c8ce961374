// SPDX-License-Identifier: BSD-2-Clause
//
// The step in the model; and whether the library's LWPs, their waits and the counters of the proc are what the model says.  Looks into the library under all locks and
// changes nothing there.
#include "model/play.h"
#include "proc/lwp_life.h"
#include "proc/signal.h"

#include <cerrno>
#include <csignal>
#include <cstring>

namespace lwp::model {

using namespace kern;
using explore::fail;

namespace {

void differ(const char *what, int slot, long model, long library) {
	x->at = next - 1;
	fail("after step %u, %s: %s of LWP %d is %ld, should be %ld", next - 1, about(now_step.what).name, what,
	    slot < 0 ? 0 : members[slot].lid, library, model);
}

void same(const char *what, int slot, long model, long library) {
	if (model != library) {
		differ(what, slot, model, library);
	}
}

row expected(const mlwp &k, row seen) {
	switch (k.s) {
	case state::none:
		return row::nobody;
	case state::run:
		return seen == row::onproc ? row::onproc : row::run;
	case state::sleep:
		return row::sleep;
	case state::stop:
		return row::stop;
	case state::suspended:
		return row::suspended;
	case state::zomb:
		return row::zomb;
	}
	return row::nobody;
}

void compare_one(int i) {
	const mlwp &k = m().l[i];
	const member &who = members[i];
	if (who.lid == 0) {
		same("state", i, static_cast<long>(state::none), static_cast<long>(k.s));
		return;
	}
	const lwp_t *l = real(who.lid);
	const row r = row_of(l);
	if (expected(k, r) != r) {
		x->at = next - 1;
		fail("after step %u, %s: LWP %d is %s, should be %s", next - 1, about(now_step.what).name, who.lid, row_name(r),
		    row_name(expected(k, row::run)));
	}
	same("calls that have ended", i, k.done, who.done);
	same("result", i, k.result, who.result);
	same("the departed", i, k.departed, who.departed);
	same("handlers of SIGUSR1", i, k.handled[usr1], who.handled[usr1]);
	same("handlers of SIGUSR2", i, k.handled[usr2], who.handled[usr2]);
	same("hooks called", i, k.hooks, who.hooks);
	if (l == nullptr) {
		return;
	}
	same("l_refcnt", i, 1 + k.refs, l->l_refcnt);
	same("LPR_DETACHED", i, k.detached, (l->l_prflag & LPR_DETACHED) != 0);
	same("LPR_DRAINING", i, k.draining, (l->l_prflag & LPR_DRAINING) != 0);
	same("LPR_CLAIMED", i, k.claimed, (l->l_prflag & LPR_CLAIMED) != 0);
	const waitrec *wr = l->l_wait.load();
	same("a wait", i, k.waiting, wr != nullptr);
	if (wr != nullptr) {
		same("whom it waits for", i, k.in == call::wait_any ? 0 : k.target, wr->wr_target == nullptr ? 0 : lwp_lid(wr->wr_target));
	}
	if (k.s == state::zomb) {
		return;
	}
	const std::uint32_t flags = lwp_flags(l);
	same("LW_UNPARKED", i, k.token, (flags & LW_UNPARKED) != 0);
	same("LW_WSUSPEND", i, k.wsuspend, (flags & LW_WSUSPEND) != 0);
	same("LW_WSTOP", i, m().holds(i), (flags & LW_WSTOP) != 0);
	same("LW_SINTR", i, k.asleep && k.in != call::drain, (flags & LW_SINTR) != 0);
	same("LW_TIMED", i, k.asleep && k.deadline != no_deadline, (flags & LW_TIMED) != 0);
	same("l_wchan", i, k.asleep, l->l_wchan != nullptr);
	same("l_hook", i, k.hook, l->l_hook != nullptr);
	same("l_sigmask", i, ((k.mask & usr1) != 0) + 2 * ((k.mask & usr2) != 0),
	    ((l->l_sigmask & sigbit(SIGUSR1)) != 0) + 2 * ((l->l_sigmask & sigbit(SIGUSR2)) != 0));
	same("l_sigpend", i, ((k.pend & usr1) != 0) + 2 * ((k.pend & usr2) != 0),
	    ((l->l_sigpend & sigbit(SIGUSR1)) != 0) + 2 * ((l->l_sigpend & sigbit(SIGUSR2)) != 0));
}

/// Of these waiters the one that waits no more; they are asked one by one, in the library.
int who_was_told(const int *slots, int n) {
	for (int i = 0; i < n; i++) {
		const lwp_t *l = real(members[slots[i]].lid);
		if (l == nullptr || l->l_wait.load() == nullptr) {
			return slots[i];
		}
	}
	return -1;
}

}  // namespace

row row_of(const lwp_t *l) {
	if (l == nullptr) {
		return row::nobody;
	}
	switch (lwp_state(l)) {
	case lwp_stat::none:
		return row::nobody;
	case lwp_stat::idl:
		return row::idl;
	case lwp_stat::run:
		return row::run;
	case lwp_stat::onproc:
		return row::onproc;
	case lwp_stat::sleep:
		return row::sleep;
	case lwp_stat::stop:
		return row::stop;
	case lwp_stat::suspended:
		return row::suspended;
	case lwp_stat::zomb:
		return row::zomb;
	}
	return row::nobody;
}

bool at_rest() {
	const proc_scope hold(&proc0, here());
	for (const member &who : members) {
		const lwp_t *l = who.lid != 0 ? real(who.lid) : nullptr;
		const row r = row_of(l);
		if ((r == row::run || r == row::onproc) && (!who.at_mailbox || (lwp_flags(l) & LW_USERRET) != 0)) {
			return false;
		}
		if (r == row::sleep && std::strcmp(l->l_wmesg, "world") == 0) {
			return false;
		}
	}
	return true;
}

void compare() {
	const proc_scope hold(&proc0, here());
	m().settle(who_was_told);
	for (int i = 0; i < lwps_most; i++) {
		compare_one(i);
	}
	for (int part = 0; part < m().parts; part++) {
		const procpart &pp = proc0_parts[part];
		same("pp_nlwps", -1, m().nlwps(part), pp.pp_nlwps);
		same("pp_nzlwps", -1, m().nzlwps(part), pp.pp_nzlwps);
		same("pp_nrlwps", -1, m().nrlwps(part), pp.pp_nrlwps.load());
		same("pp_ndlwps", -1, m().ndlwps(part), pp.pp_ndlwps);
		same("pp_nlwpwait + pp_nfarwait", -1, m().nlwpwait(part), long{pp.pp_nlwpwait.load()} + long{pp.pp_nfarwait.load()});
		const lwp_t *dead = pp.pp_zomblwp.load();
		same("pp_zomblwp", -1, m().zombslot[part] < 0 ? 0 : members[m().zombslot[part]].lid, dead == nullptr ? 0 : lwp_lid(dead));
	}
	same("p_nanywaits", -1, m().nanywaits(), proc0.p_nanywaits.load());
	same("p_world", -1, m().world < 0 ? 0 : members[m().world].lid, proc0.p_world == nullptr ? 0 : lwp_lid(proc0.p_world));
	same("p_stopped", -1, m().stopped, proc0.p_stopped);
	proc_check(&proc0);
}

void apply(int a) {
	proc &k = m();
	int result = 0;
	switch (now_step.what) {
	case op::create:
	case op::create_bad:
		k.create(a, fresh, (now_step.arg & 1) != 0, (now_step.arg & 6) == 6, now_step.target % k.parts, now_step.what == op::create_bad);
		if (members[fresh].lid != 0 && k.l[fresh].s != state::none) {
			k.l[fresh].lid = members[fresh].lid;
		}
		return;
	case op::leave:
		k.exit(a);
		return;
	case op::park:
	case op::park_late:
		k.park(a, no_deadline, now_step.what == op::park_late);
		return;
	case op::park_until:
		k.park(a, until, false);
		return;
	case op::wait:
		k.wait(a, target);
		return;
	case op::wait_any:
		k.wait_any(a);
		return;
	case op::suspend:
		k.suspend(a, target);
		return;
	case op::mask:
		k.mask(a, now_step.arg & 3U);
		return;
	case op::sigwait:
		k.sigwait(a);
		return;
	case op::world_stop:
		k.world_stop(a);
		return;
	case op::world_go:
		k.world_go(a);
		return;
	case op::finish:
		return;
	case op::unpark:
		result = k.unpark(target);
		break;
	case op::unpark_all:
		for (const member &who : members) {
			(void)(who.lid != 0 ? k.unpark(who.lid) : 0);
		}
		break;
	case op::detach:
		result = k.detach(target);
		break;
	case op::resume:
		result = k.resume(target);
		break;
	case op::wakeup:
		result = k.wakeup(target);
		break;
	case op::kill_none:
		result = k.kill(target, 0);
		break;
	case op::kill_usr1:
		result = k.kill(target, usr1);
		break;
	case op::kill_usr2:
		result = k.kill(target, usr2);
		break;
	case op::kill_stop:
	case op::kill_cont:
		result = k.kill(target, 0);
		if (result == 0) {
			k.set_stopped(now_step.what == op::kill_stop);
		}
		break;
	case op::setparam:
		result = k.living(target) < 0 ? ESRCH : 0;
		break;
	case op::protect:
		break;
	case op::hook:
		result = k.hook(target);
		break;
	case op::hold:
		result = k.hold(target);
		break;
	case op::release:
		if (const int t = k.find(target); t >= 0 && k.l[t].refs != 0) {
			k.release(target);
		}
		break;
	case op::proc_stop:
	case op::proc_go:
		k.set_stopped(now_step.what == op::proc_stop);
		break;
	case op::let_go:
		k.let_go();
		break;
	case op::time:
		k.time(until);
		break;
	case op::count:
		break;
	}
	if (a == outside) {
		same("result", -1, result, outcome);
	} else {
		k.returns(a, result);
	}
}

}  // namespace lwp::model
