// SPDX-License-Identifier: BSD-2-Clause
//
// How it stays deterministic: nobody is preempted (arm() is never called), so a vCPU goes on with an LWP until that gives it away.  LWPs that have
// nothing to do stand at their mailbox, where they yield.  Once everybody who can run stands there with nothing left for him at the boundary, all has
// come to rest: whoever notices applies the last step to the model, compares the two, and says who does the next one.  If nobody can run, a vCPU
// that is about to halt does it, as a signal of the OS or a kernel thread from outside would.
//
// It looks into the library under all locks and changes nothing there but by the calls that are tested.
#include "model/driver.h"

#include "explore/world.h"
#include "model/model.h"
#include "proc/runtime.h"
#include "proc/signal.h"
#include "sched/callout.h"
#include "sched/idle.h"

#include "base/sys.h"

#include <lwp/lwp.h>
#include <lwp/proc.h>
#include <lwp/signal.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace lwp::model {
namespace {

using namespace kern;
using explore::fail;

constexpr unsigned passes_most = 2'000;  // through mailboxes without coming to rest
constexpr lwpid_t nobody = 0x3fffffff;
constexpr nanotime second = 1'000'000'000;

exchange *x;  // put back like all else, and set again

struct member {
	lwpid_t lid = 0;
	bool at_mailbox = false;
	unsigned done = 0;
	int result = 0;
	lwpid_t departed = 0;
	unsigned handled[3] = {};
	unsigned hooks = 0;
	int slot = 0;
};
member members[lwps_most];
alignas(proc) std::byte model_memory[sizeof(proc)];

proc &m() { return *reinterpret_cast<proc *>(model_memory); }

unsigned next;        // step to be done
bool given;           // it is chosen, and done by
int actor;            // this slot, or outside
bool applied = true;  // the last one, to the model
step now_step;        // the chosen one,
lwpid_t target;       // about whom,
int fresh;            // into which slot the new one goes
nanotime until;       // its deadline
int outcome;          // of one done outside
bool over;            // LWP 1 has returned
unsigned passes;

const operation &about(op o) { return operations[static_cast<std::size_t>(o)]; }

vcpu_t *here() { return curcpu_or_null(); }

lwp_t *real(lwpid_t lid) { return lwp_find_any(&proc0, lid); }

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

// ---- comparing ---------------------------------------------------------------------------------------------------------

/// Everybody who can run stands at his mailbox.
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

// ---- the next step -------------------------------------------------------------------------------------------------------

void choose_tidying() {
	const proc &k = m();
	now_step = {};
	const auto first = [&k](auto fn) {
		for (int i = 0; i < lwps_most; i++) {
			if (k.l[i].s != state::none && fn(k.l[i])) {
				return i;
			}
		}
		return -1;
	};
	actor = first([](const mlwp &l) { return l.s == state::run; });  // outside if there is none
	const auto say = [](op o, int slot) {
		now_step.what = o;
		target = slot < 0 ? 0 : members[slot].lid;
	};
	if (k.stopped || k.world >= 0) {
		say(op::let_go, -1);
	} else if (int i = first([](const mlwp &l) { return l.refs > 0; }); i >= 0) {
		say(op::release, i);
	} else if (i = first([](const mlwp &l) { return l.s == state::suspended; }); i >= 0) {
		say(op::resume, i);
	} else if (i = first([](const mlwp &l) { return l.s == state::sleep; }); i >= 0) {
		say(op::wakeup, i);
	} else if (i = first([&k](const mlwp &l) { return l.s == state::run && &l != k.l; }); i >= 0) {
		say(op::leave, -1);
		actor = i;
	} else if (i = first([](const mlwp &l) { return l.s == state::zomb && !l.detached && !l.claimed; }); i >= 0) {
		say(op::wait, i);
	} else {
		say(op::finish, -1);
	}
}

/// False: nobody there can do it, it is passed over.
bool choose_drawn(const step &s) {
	const proc &k = m();
	int able[lwps_most];
	int n = 0;
	int there[lwps_most + 1];
	int all = 0;
	fresh = -1;
	for (int i = 0; i < lwps_most; i++) {
		if (k.l[i].s == state::run) {
			able[n++] = i;
		}
		if (k.l[i].s != state::none) {
			there[all++] = i;
		} else if (fresh < 0) {
			fresh = i;
		}
	}
	now_step = s;
	actor = n == 0 ? outside : able[s.actor % n];
	const int t = s.target % (all + 1);
	target = t == all ? (s.arg % 2 != 0 ? nobody : -5) : members[there[t]].lid;
	switch (s.what) {
	case op::leave:
		if (actor == 0) {
			return false;  // with LWP 1 the process would end: tests/api/test_exit.cpp
		}
		break;
	case op::release:
	case op::hold:
		if (target < 0) {
			target = nobody;
		}
		break;
	case op::world_go:
		if (actor == outside || k.world != actor) {
			return false;
		}
		break;
	default:
		break;
	}
	if (s.what == op::release && (t == all || k.l[there[t]].refs == 0)) {
		return false;
	}
	return actor != outside || about(s.what).by == who::any;
}

nanotime first_deadline() {
	nanotime first = never;
	for (const mlwp &k : m().l) {
		first = k.s != state::none && k.asleep ? std::min<nanotime>(first, k.deadline) : first;
	}
	return first;
}

void mark() {
	const std::size_t o = static_cast<std::size_t>(now_step.what);
	const proc_scope hold(&proc0, here());
	switch (about(now_step.what).about) {
	case whom::self:
		x->seen[static_cast<std::size_t>(row::onproc)][o]++;
		return;
	case whom::target:
		x->seen[static_cast<std::size_t>(target > 0 ? row_of(real(target)) : row::nobody)][o]++;
		return;
	case whom::all:
		for (const member &who : members) {
			if (const lwp_t *l = who.lid != 0 ? real(who.lid) : nullptr; l != nullptr) {
				x->seen[static_cast<std::size_t>(row_of(l))][o]++;
			}
		}
	}
}

/// At rest: looks back, and ahead.
void take_stock() {
	if (given) {
		return;
	}
	passes = 0;
	if (!applied) {
		applied = true;
		apply(actor);
	}
	compare();
	for (;;) {
		if (next >= x->nsteps) {
			choose_tidying();
			next++;
			break;
		}
		if (choose_drawn(x->steps[next++])) {
			break;
		}
	}
	x->done++;
	if (next > x->nsteps + 400) {
		fail("it cannot be tidied up");
	}
	until = now_step.what == op::time
	    ? first_deadline()
	    : explore::time_in((1 + nanotime{now_step.arg}) * 10 * second + next * (second / 100));  // none within what a run takes
	mark();
	if (x->trace) {
		std::printf("  %3u  ", next - 1);
		actor == outside ? std::printf("outside  ") : std::printf("LWP %-4d ", members[actor].lid);
		std::printf("%s", about(now_step.what).name);
		if (about(now_step.what).about == whom::target) {
			std::printf(" %d", target);
		}
		std::printf(now_step.what == op::create ? " (%s%s vCPU %d)\n" : "\n", (now_step.arg & 1) != 0 ? "detached" : "",
		    (now_step.arg & 6) == 6 ? " suspended" : "", now_step.target % m().parts);
		std::fflush(stdout);
	}
	given = true;
}

// ---- doing it ------------------------------------------------------------------------------------------------------------

void mailbox(member *);

void live(void *arg) {
	auto *who = static_cast<member *>(arg);
	mailbox(who);
	if (who->slot % 2 != 0) {
		_lwp_exit();
	}
}

int errno_of(int result) { return result == 0 ? 0 : errno; }

void handler(int sig) {
	for (member &who : members) {
		if (who.lid == _lwp_self()) {
			who.handled[sig == SIGUSR1 ? usr1 : usr2]++;
		}
	}
}

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

/// What does not block: `l` may be an idle LWP.
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

/// By an LWP.  Its results are what the application sees.
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

/// True: go on; false: the LWP ends.
bool perform(member *who) {
	given = false;
	applied = false;
	if (now_step.what == op::leave || now_step.what == op::finish) {
		return false;
	}
	who->at_mailbox = false;
	const int result = call_as(who);
	who->result = result;
	who->done++;
	x->results[static_cast<unsigned>(result) < 200 ? result : 0]++;
	return true;
}

void mailbox(member *who) {
	for (;;) {
		who->at_mailbox = true;
		if (at_rest()) {
			take_stock();
			if (actor == who->slot) {
				if (!perform(who)) {
					who->at_mailbox = false;
					return;
				}
				continue;
			}
		}
		if (++passes > passes_most) {
			fail("after step %u, %s: it does not come to rest", next - 1, about(now_step.what).name);
		}
		lwp_yield();
		if (m().parts > 1) {
			explore::let_others();
		}
	}
}

// ---- a vCPU with nobody to run --------------------------------------------------------------------------------------------

bool nobody_runs() {
	const proc_scope hold(&proc0, here());
	return proc_count(&proc0).nlwps != 0 && [] {
		for (const member &who : members) {
			const row r = row_of(who.lid != 0 ? real(who.lid) : nullptr);
			if (r == row::run || r == row::onproc) {
				return false;
			}
		}
		return true;
	}();
}

bool model_park(vcpu_t *vc, nanotime deadline) {
	if (!over && at_rest() && nobody_runs()) {
		take_stock();
		if (actor != outside) {
			fail("after step %u: LWP %d should run, and nobody does", next - 1, members[actor].lid);
		}
		given = false;
		applied = false;
		outcome = call_now(vc->vc_idle);
		x->results[static_cast<unsigned>(outcome) < 200 ? outcome : 0]++;
		return true;
	}
	futex_parker.park(vc, deadline);
	return false;
}

const parker model_parker = {model_park, [](vcpu_t *vc) { futex_parker.unpark(vc); }, nullptr, nullptr, nullptr, nullptr, nullptr};

void body() {
	::new (model_memory) proc(static_cast<int>(x->vcpus));
	for (unsigned i = 0; i < x->vcpus; i++) {
		sched.sd_vcpu[i]->vc_parker.store(&model_parker);
	}
	explore::me()->l_bound = 0;
	proc0.p_maxlwps = maxlwps;
	proc0_parts[0].pp_allowance = maxlwps - 1;
	struct sigaction act {};
	act.sa_handler = handler;
	(void)lwp_sigaction(SIGUSR1, &act, nullptr);
	act.sa_flags = SA_RESTART;
	(void)lwp_sigaction(SIGUSR2, &act, nullptr);
	members[0].lid = 1;
	mailbox(&members[0]);
	over = true;
}

exchange *asked;  // for the bodies; put back to this value, which never changes

}  // namespace

SCENARIO(model_one, 1) {
	x = asked;
	body();
}

SCENARIO(model_two, 2) {
	x = asked;
	body();
}

void run_steps(exchange *e) {
	asked = e;
	const explore::setup *how = nullptr;
	for (const explore::scenario &s : explore::scenarios()) {
		if (s.kthreads == e->vcpus) {
			how = &explore::setup_of(s);
		}
	}
	const explore::outcome o = explore::run(*how, {});
	e->failed = o.failed;
	std::snprintf(e->why, sizeof(e->why), "%s", o.why.c_str());
}

}  // namespace lwp::model
