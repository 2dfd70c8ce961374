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
#include "model/play.h"
#include "proc/runtime.h"
#include "sched/idle.h"

#include <lwp/signal.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>

namespace lwp::model {

using namespace kern;
using explore::fail;

namespace {

constexpr unsigned passes_most = 2'000;  // through mailboxes without coming to rest
constexpr nanotime second = 1'000'000'000;

bool given;           // the step is chosen
bool applied = true;  // the last one, to the model
bool over;            // LWP 1 has returned
unsigned passes;

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

}  // namespace

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

namespace {

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

void handler(int sig) {
	for (member &who : members) {
		if (who.lid == _lwp_self()) {
			who.handled[sig == SIGUSR1 ? usr1 : usr2]++;
		}
	}
}

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
