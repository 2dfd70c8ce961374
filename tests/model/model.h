// SPDX-License-Identifier: BSD-2-Clause
//
// The reference model: what the seven states, the waits and the counters of the proc are after each operation, once everybody has come to rest.
// Plain data and no locks: an operation happens at once, then those that it has made runnable go on, one after the other.
//
// It says nothing about priorities, vCPUs and the order of run queues.  One thing it leaves open: which of the last waiters is told of a deadlock.
#pragma once

#include <cstdint>
#include <lwp/lwp.h>

namespace lwp::model {

constexpr int lwps_most = 12;  // slots
constexpr int maxlwps = 9;     // what the proc allows
constexpr int parts_most = 2;
constexpr int outside = -1;  // not an LWP, but a vCPU that has none to run
constexpr int restart = -3;  // ERESTART: passes the boundary, then calls again
constexpr std::uint64_t no_deadline = UINT64_MAX;

enum class state : std::uint8_t { none, run, sleep, stop, suspended, zomb };
/// The call that an LWP is in.
enum class call : std::uint8_t { none, other, park, wait, wait_any, suspend, sigwait, drain };
enum : unsigned { usr1 = 1, usr2 = 2 };

struct mlwp {
	state s = state::none;
	lwpid_t lid = 0;
	int part = 0, vcpu = 0;
	bool detached = false, ending = false, draining = false, claimed = false;
	bool token = false, wsuspend = false, hook = false;
	unsigned refs = 0;            // besides its own
	unsigned mask = 0, pend = 0;  // signals
	unsigned handled[3] = {}, hooks = 0;
	call in = call::none;
	lwpid_t target = 0;    // of that call
	bool asleep = false;   // its sleep is not over; it may be stopped in it
	bool waiting = false;  // in lwp_wait1(), and nobody has satisfied it
	bool sigwaits = false, sigwaited = false;
	bool interrupted = false;  // a handler without SA_RESTART has run since the call began
	bool at_boundary = false;  // or inside the call
	std::uint64_t deadline = no_deadline;
	std::uint64_t order = 0;  // when its wait began, or its end
	int given = -1;           // the zombie that its wait was given
	int ret = 0;              // how its call ends: an errno value, or restart
	int result = 0;           // of the last one that has ended,
	unsigned done = 0;        // and how many those are
	lwpid_t departed = 0;
};

class proc {
public:
	explicit proc(int parts);

	mlwp l[lwps_most];
	int parts;
	int zombslot[parts_most] = {-1, -1};  // the dead detached one of each part
	int world = -1;                       // who has stopped the world
	unsigned worlds = 0;
	bool stopped = false;

	// The operations.  `a`: who does it; the outcome is a's, or returned for `outside` and for calls that do not block.
	void create(int a, int slot, bool detached, bool suspended, int vcpu, bool bad);
	void exit(int a);
	void park(int a, std::uint64_t deadline, bool late);
	int unpark(lwpid_t t);
	void wait(int a, lwpid_t t);
	void wait_any(int a);
	int detach(lwpid_t t);
	void suspend(int a, lwpid_t t);
	int resume(lwpid_t t);
	int wakeup(lwpid_t t);
	int kill(lwpid_t t, unsigned sig);
	void mask(int a, unsigned mask);
	void sigwait(int a);
	int hook(lwpid_t t);
	int hold(lwpid_t t);
	void release(lwpid_t t);
	void set_stopped(bool on);
	void world_stop(int a);
	void world_go(int a);
	void let_go();
	void time(std::uint64_t now);
	/// a's call ends with this, at the boundary.
	void returns(int a, int result);

	/// Everybody goes on as far as he gets.  told(slots, n): of these the one that was told of a deadlock, or -1.
	template <class Told>
	void settle(Told told) {
		for (;;) {
			run_ready();
			int last[1 + parts_most];
			const int n = deadlocked(last);
			if (n == 0) {
				return;
			}
			const int who = n == 1 ? last[0] : told(last, n);
			if (who < 0) {
				return;  // what follows differs
			}
			end_wait(who, 35 /* EDEADLK */);
		}
	}

	[[nodiscard]] int find(lwpid_t t) const;    // in whatever state; -1: none
	[[nodiscard]] int living(lwpid_t t) const;  // not a zombie
	[[nodiscard]] bool holds(int i) const { return (stopped || world >= 0) && world != i; }
	/// Counters; part -1: of all.
	[[nodiscard]] int nlwps(int part = -1) const;
	[[nodiscard]] int nzlwps(int part = -1) const;
	[[nodiscard]] int nrlwps(int part = -1) const;
	[[nodiscard]] int ndlwps(int part = -1) const;
	[[nodiscard]] int nlwpwait(int part = -1) const;
	[[nodiscard]] int nanywaits() const;

private:
	int ready_[64];
	int nready_ = 0;
	std::uint64_t clock_ = 0;

	void go(int i, bool first = false);
	void run_ready();
	void run_on(int i);
	void boundary(int i);
	void leave_call(int i);
	void begin(int i);
	void sleep(int i);
	void halt(int i, state s);
	void wake(int i, int error, bool first = false);
	void end_wait(int i, int error);
	void post(int i, int error);
	void broadcast();
	void forget(int dead);
	void end(int a);
	void into_line();
	int deadlocked(int *last);
	int candidates(int waiter) const;
	[[nodiscard]] bool flagged(int i) const;
	template <class Fn>
	int count(int part, Fn fn) const;
};

}  // namespace lwp::model
