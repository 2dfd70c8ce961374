// SPDX-License-Identifier: BSD-2-Clause
#include "model/model.h"

#include <cerrno>
#include <initializer_list>

namespace lwp::model {

static_assert(EDEADLK == 35);

proc::proc(int n) : parts(n) {
	l[0].s = state::run;
	l[0].lid = 1;
}

// ---- looking ------------------------------------------------------------------------------------------------------------

int proc::find(lwpid_t t) const {
	for (int i = 0; i < lwps_most; i++) {
		if (l[i].s != state::none && l[i].lid == t) {
			return i;
		}
	}
	return -1;
}

int proc::living(lwpid_t t) const {
	const int i = find(t);
	return i >= 0 && l[i].s != state::zomb ? i : -1;
}

template <class Fn>
int proc::count(int part, Fn fn) const {
	int n = 0;
	for (const mlwp &x : l) {
		n += x.s != state::none && (part < 0 || x.part == part) && fn(x) ? 1 : 0;
	}
	return n;
}

int proc::nlwps(int part) const {
	return count(part, [](const mlwp &) { return true; });
}
int proc::nzlwps(int part) const {
	return count(part, [](const mlwp &x) { return x.ending; });
}
int proc::nrlwps(int part) const {
	return count(part, [](const mlwp &x) { return x.s == state::run || x.s == state::sleep; });
}
int proc::ndlwps(int part) const {
	return count(part, [](const mlwp &x) { return x.detached; });
}
int proc::nlwpwait(int part) const {
	return count(part, [](const mlwp &x) { return x.waiting && x.s != state::stop; });
}
int proc::nanywaits() const {
	return count(-1, [](const mlwp &x) { return x.waiting && x.in == call::wait_any; });
}

int proc::candidates(int waiter) const { return nlwps() - ndlwps() - (l[waiter].detached ? 0 : 1); }

bool proc::flagged(int i) const { return holds(i) || (l[i].pend & ~l[i].mask) != 0 || l[i].wsuspend || l[i].hook; }

// ---- running ------------------------------------------------------------------------------------------------------------

void proc::go(int i, bool first) {
	for (int k = 0; k < nready_; k++) {
		if (ready_[k] == i) {
			return;
		}
	}
	if (first) {
		for (int k = nready_; k > 0; k--) {
			ready_[k] = ready_[k - 1];
		}
	}
	ready_[first ? 0 : nready_] = i;
	nready_++;
}

void proc::run_ready() {
	while (nready_ != 0) {
		const int i = ready_[0];
		nready_--;
		for (int k = 0; k < nready_; k++) {
			ready_[k] = ready_[k + 1];
		}
		if (l[i].s == state::run) {
			run_on(i);
		}
	}
}

/// It runs again where it left off: at the boundary, or inside a call whose sleep is over.
void proc::run_on(int i) {
	mlwp &x = l[i];
	if (x.at_boundary || x.in == call::none) {
		boundary(i);
		return;
	}
	switch (x.in) {
	case call::drain:
		x.refs > 0 ? sleep(i) : end(i);
		return;
	case call::suspend:
		if (x.ret == 0) {
			const int t = living(x.target);
			if (t < 0) {
				x.ret = ESRCH;
			} else if (l[t].s != state::suspended && l[t].s != state::stop && l[t].wsuspend) {
				if (!flagged(i)) {
					sleep(i);
					return;
				}
				x.ret = restart;
			}
		}
		break;
	case call::sigwait:
		x.ret = x.sigwaited ? 0 : x.ret == EINTR ? EINTR : restart;
		x.sigwaits = x.sigwaited = false;
		break;
	default:
		if (x.given >= 0) {
			x.departed = l[x.given].lid;
			forget(x.given);
			x.given = -1;
		}
	}
	boundary(i);
}

void proc::boundary(int i) {
	mlwp &x = l[i];
	x.at_boundary = true;
	for (;;) {
		if (holds(i)) {
			halt(i, state::stop);
			return;
		}
		if (const unsigned set = x.pend & ~x.mask; set != 0) {
			const unsigned sig = (set & usr1) != 0 ? usr1 : usr2;
			x.pend &= ~sig;
			x.handled[sig]++;
			x.interrupted = x.interrupted || sig == usr1;
		} else if (x.wsuspend) {
			halt(i, state::suspended);
			return;
		} else if (x.hook) {
			x.hook = false;
			x.hooks++;
		} else {
			break;
		}
	}
	x.at_boundary = false;
	leave_call(i);
}

void proc::leave_call(int i) {
	mlwp &x = l[i];
	if (x.in == call::none) {
		return;
	}
	if (x.ret == restart && x.in != call::park && !x.interrupted) {
		begin(i);
		return;
	}
	x.result = x.ret == restart ? EINTR : x.ret;
	x.in = call::none;
	x.done++;
}

void proc::returns(int a, int result) {
	l[a].in = call::other;
	l[a].ret = result;
	boundary(a);
}

void proc::sleep(int i) {
	l[i].s = state::sleep;
	l[i].asleep = true;
	l[i].ret = 0;
}

void proc::halt(int i, state s) {
	l[i].s = s;
	broadcast();
}

void proc::wake(int i, int error, bool first) {
	mlwp &x = l[i];
	x.asleep = false;
	x.deadline = no_deadline;
	x.ret = error;
	if (x.s == state::sleep) {
		x.s = state::run;
		go(i, first);
	}
}

void proc::end_wait(int i, int error) {
	l[i].waiting = false;
	wake(i, error, true);
}

/// It has something to do at the boundary: whoever runs comes there, whoever sleeps is kicked.
void proc::post(int i, int error) {
	mlwp &x = l[i];
	if (x.s == state::run) {
		go(i);
	} else if (x.s == state::sleep && x.in != call::drain) {
		const bool waits = x.waiting;
		x.waiting = false;
		wake(i, waits && error == 0 ? restart : error);
	}
}

void proc::broadcast() {
	for (int i = 0; i < lwps_most; i++) {
		if (l[i].asleep && (l[i].in == call::suspend || l[i].in == call::drain)) {
			wake(i, 0);
		}
	}
}

/// Who, of those that nobody is left to wake, began to wait last: one for each list.  Tells those that have nobody to wait for.
int proc::deadlocked(int *last) {
	if (nlwpwait() == 0) {
		return 0;
	}
	for (int i = 0; i < lwps_most; i++) {
		if (l[i].s != state::none && l[i].waiting && l[i].in == call::wait_any && candidates(i) == 0) {
			end_wait(i, ESRCH);
		}
	}
	if (stopped || world >= 0 || nlwpwait() == 0 || nrlwps() != nlwpwait()) {
		run_ready();
		return 0;
	}
	int n = 0;
	for (int list = -1; list < parts; list++) {  // those for any, and those for the LWPs of each part
		int best = -1;
		for (int i = 0; i < lwps_most; i++) {
			if (l[i].waiting && (l[i].in == call::wait_any ? -1 : l[find(l[i].target)].part) == list &&
			    (best < 0 || l[i].order > l[best].order)) {
				best = i;
			}
		}
		if (best >= 0) {
			last[n++] = best;
		}
	}
	return n;
}

// ---- the operations ----------------------------------------------------------------------------------------------------

void proc::create(int a, int slot, bool detached, bool suspended, int vcpu, bool bad) {
	const int part = l[a].vcpu;  // a part for each vCPU
	if (zombslot[part] >= 0) {
		forget(zombslot[part]);  // made anew
	}
	if (bad || nlwps() >= maxlwps) {
		returns(a, bad ? EINVAL : EAGAIN);
		return;
	}
	mlwp &x = l[slot];
	x = mlwp{};
	x.part = part;
	x.vcpu = vcpu;
	x.detached = detached;
	x.wsuspend = suspended;
	x.mask = l[a].mask;
	x.at_boundary = true;
	x.s = suspended ? state::suspended : holds(slot) ? state::stop : state::run;
	if (x.s == state::run) {
		go(slot, true);
	}
	returns(a, 0);
}

void proc::forget(int dead) {
	if (zombslot[l[dead].part] == dead) {
		zombslot[l[dead].part] = -1;
	} else {
		broadcast();
	}
	l[dead].s = state::none;
}

void proc::exit(int a) {
	if (world == a) {
		world = -1;
		worlds = 0;
		into_line();
	}
	l[a].ending = true;
	if (l[a].refs > 0) {
		l[a].draining = true;
		l[a].in = call::drain;
		sleep(a);
		return;
	}
	end(a);
}

void proc::end(int a) {
	mlwp &x = l[a];
	x.draining = true;
	x.s = state::zomb;
	x.order = ++clock_;
	if (x.detached) {
		if (zombslot[x.part] >= 0) {
			forget(zombslot[x.part]);
		}
		zombslot[x.part] = a;
	} else {
		for (const call kind : {call::wait, call::wait_any}) {
			for (;;) {
				int first = -1;
				for (int i = 0; i < lwps_most; i++) {
					if (l[i].waiting && l[i].in == kind && (kind == call::wait_any || l[i].target == x.lid) &&
					    (first < 0 || l[i].order < l[first].order)) {
						first = i;
					}
				}
				if (first < 0 || (kind == call::wait_any && x.claimed)) {
					break;
				}
				l[first].given = x.claimed ? -1 : a;
				end_wait(first, x.claimed ? ESRCH : 0);
				x.claimed = true;
			}
		}
	}
	broadcast();
}

void proc::park(int a, std::uint64_t deadline, bool late) {
	mlwp &x = l[a];
	x.in = call::park;
	x.interrupted = false;
	if (late || x.token) {
		x.ret = late ? ETIMEDOUT : EALREADY;
		x.token = x.token && late;
		boundary(a);
		return;
	}
	sleep(a);
	x.deadline = deadline;
}

int proc::unpark(lwpid_t t) {
	const int i = living(t);
	if (i < 0) {
		return ESRCH;
	}
	if (l[i].asleep && l[i].in == call::park) {
		wake(i, 0);
	} else {
		l[i].token = true;
	}
	return 0;
}

void proc::wait(int a, lwpid_t t) {
	l[a].in = call::wait;
	l[a].target = t;
	l[a].interrupted = false;
	begin(a);
}

void proc::wait_any(int a) {
	l[a].in = call::wait_any;
	l[a].interrupted = false;
	begin(a);
}

/// Enters the call that it is in, for the first time or again.
void proc::begin(int i) {
	mlwp &x = l[i];
	if (x.in == call::suspend) {
		suspend(i, x.target);
		return;
	}
	if (x.in == call::sigwait) {
		x.ret = 0;
		if ((x.pend & usr1) != 0) {
			x.pend &= ~usr1;
			boundary(i);
			return;
		}
		sleep(i);
		x.sigwaits = true;
		return;
	}
	const bool any = x.in == call::wait_any;
	int t = any ? -1 : find(x.target);
	if (any) {  // the oldest zombie of its own part, then of the others in their order
		for (int k = 0; k <= parts && t < 0; k++) {
			for (int j = 0; j < lwps_most; j++) {
				if (l[j].s == state::zomb && !l[j].detached && !l[j].claimed && l[j].part == (k == 0 ? x.part : k - 1) &&
				    (t < 0 || l[j].order < l[t].order)) {
					t = j;
				}
			}
		}
	}
	x.ret = 0;
	if (!any && t == i) {
		x.ret = EDEADLK;
	} else if (any ? t < 0 && candidates(i) == 0 : t < 0 || l[t].detached || l[t].claimed) {
		x.ret = ESRCH;
	} else if (t >= 0 && l[t].s == state::zomb) {
		x.departed = l[t].lid;
		forget(t);
	} else {
		for (int j = t; j >= 0 && x.ret == 0; j = l[j].waiting && l[j].in == call::wait ? find(l[j].target) : -1) {
			x.ret = j == i ? EDEADLK : 0;
		}
		x.waiting = true;
		x.order = ++clock_;
		if (x.ret == 0 && nrlwps() == nlwpwait()) {
			x.ret = EDEADLK;
		}
		if (x.ret == 0) {
			sleep(i);
			return;
		}
		x.waiting = false;
	}
	boundary(i);
}

int proc::detach(lwpid_t t) {
	const int i = find(t);
	if (i < 0 || l[i].claimed) {
		return ESRCH;
	}
	if (l[i].detached) {
		return EINVAL;
	}
	if (l[i].s == state::zomb) {
		forget(i);
		return 0;
	}
	l[i].detached = true;
	for (int j = 0; j < lwps_most; j++) {
		if (l[j].waiting && l[j].in == call::wait && l[j].target == t) {
			end_wait(j, ESRCH);
		}
	}
	return 0;
}

void proc::suspend(int a, lwpid_t target) {
	mlwp &x = l[a];
	if (x.in != call::suspend) {
		x.interrupted = false;
	}
	x.in = call::suspend;
	x.target = target;
	const int t = living(target);
	if (t == a) {
		x.ret = nrlwps() == 1 ? EDEADLK : 0;
		x.wsuspend = x.ret == 0;
		boundary(a);
		return;
	}
	if (t >= 0 && l[t].s != state::suspended) {
		l[t].wsuspend = true;
		post(t, 0);
	}
	x.ret = t < 0 ? ESRCH : 0;
	if (t < 0 || l[t].s == state::suspended || l[t].s == state::stop) {
		boundary(a);
		return;
	}
	sleep(a);
}

int proc::resume(lwpid_t t) {
	const int i = living(t);
	if (i < 0) {
		return ESRCH;
	}
	l[i].wsuspend = false;
	if (l[i].s == state::suspended) {
		l[i].s = state::run;
		go(i);
	}
	broadcast();
	return 0;
}

int proc::wakeup(lwpid_t t) {
	const int i = living(t);
	if (i < 0 || !l[i].asleep) {
		return i < 0 ? ESRCH : ENODEV;
	}
	if (l[i].in == call::drain) {
		return EBUSY;
	}
	l[i].waiting = false;
	wake(i, EINTR);
	return 0;
}

int proc::kill(lwpid_t t, unsigned sig) {
	const int i = living(t);
	if (i < 0 || sig == 0) {
		return i < 0 ? ESRCH : 0;
	}
	mlwp &x = l[i];
	if (sig == usr1 && x.sigwaits) {
		x.sigwaits = false;
		x.sigwaited = true;
		if (x.asleep) {
			wake(i, 0);
		}
		return 0;
	}
	x.pend |= sig;
	if ((x.mask & sig) == 0) {
		post(i, restart);
	}
	return 0;
}

void proc::mask(int a, unsigned mask) {
	l[a].mask = mask;
	returns(a, 0);
}

void proc::sigwait(int a) {
	l[a].in = call::sigwait;
	l[a].interrupted = false;
	begin(a);
}

int proc::hook(lwpid_t t) {
	const int i = living(t);
	if (i < 0 || l[i].hook) {
		return i < 0 ? ESRCH : EBUSY;
	}
	l[i].hook = true;
	post(i, 0);
	return 0;
}

int proc::hold(lwpid_t t) {
	const int i = find(t);
	if (i < 0 || l[i].draining) {
		return ESRCH;
	}
	l[i].refs++;
	return 0;
}

void proc::release(lwpid_t t) {
	const int i = find(t);
	if (--l[i].refs == 0 && l[i].draining) {
		broadcast();
	}
}

/// Who is to stand still does, others go on.
void proc::into_line() {
	for (int i = 0; i < lwps_most; i++) {
		mlwp &x = l[i];
		if (x.s == state::none || x.s == state::zomb) {
			continue;
		}
		if (holds(i)) {
			x.s == state::sleep ? void(x.s = state::stop) : x.s == state::run ? go(i) : void();
		} else if (x.s == state::stop) {
			x.s = x.asleep ? state::sleep : state::run;
			if (!x.asleep) {
				go(i);
			} else if (flagged(i)) {
				post(i, (x.pend & ~x.mask) != 0 ? restart : 0);
			}
		}
	}
	broadcast();
}

void proc::set_stopped(bool on) {
	if (stopped != on) {
		stopped = on;
		into_line();
	}
}

void proc::world_stop(int a) {
	if (world != a) {
		world = a;
		into_line();
	}
	worlds++;
	returns(a, 0);
}

void proc::world_go(int a) {
	if (world == a && --worlds == 0) {
		world = -1;
		into_line();
	}
	returns(a, 0);
}

void proc::let_go() {
	stopped = false;
	world = -1;
	worlds = 0;
	into_line();
}

void proc::time(std::uint64_t now) {
	for (int i = 0; i < lwps_most; i++) {
		if (l[i].asleep && l[i].deadline != no_deadline && l[i].deadline <= now) {
			wake(i, ETIMEDOUT);
		}
	}
}

}  // namespace lwp::model
