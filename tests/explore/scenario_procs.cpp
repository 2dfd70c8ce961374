// SPDX-License-Identifier: BSD-2-Clause
//
// Procs: the last exit against another one, against a kill, against who waits for the proc, against its parent's end.
#include "explore/world.h"
#include "proc/signal.h"
#include "sync/grant.h"

#include <csignal>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1000;

// Memory of the program's, which is put back before each schedule; that of the heap is not.
constexpr unsigned procs_most = 3;
proc_t memory[procs_most];
procshare shares[procs_most][4];

struct child {
	proc_t *p = nullptr;
	pid_t pid = 0;

	child() {
		static unsigned used;
		static_assert(kern::part_max >= 4);
		if (used == 0) {
			for (unsigned i = 0; i < procs_most; i++) {
				memory[i].p_shares = shares[i];
				memory[i].p_nshares = 4;
				proc_keep(&memory[i]);
			}
		}
		used++;
		EXPECT(proc_make(me(), 0, &p) == 0);
		pid = proc_pid(p);
	}
	/// Its first LWP.
	template <class Fn>
	lwpid_t begin(int vcpu, Fn fn) const {
		return start(vcpu, fn, {.into = p});
	}
};

/// 0 and how it ended, or ECHILD.
int wait_for_proc(pid_t pid, int *status) {
	pid_t which = 0;
	const int error = restart([&] { return proc_wait1(me(), pid, true, never, &which, status); });
	EXPECT(error == ECHILD || which == pid);
	return error;
}

void tell(pid_t pid, int sig = SIGKILL) {
	const int error = proc_signal(me(), pid, sig);
	EXPECT(error == 0 || error == ESRCH);
	userret();
}

/// It was killed, or ended by itself before.
void ended(pid_t pid) {
	int status = -1;
	EXPECT(wait_for_proc(pid, &status) == 0);
	EXPECT(status == 0 || status == SIGKILL);
	EXPECT(proc_signal(me(), pid, 0) == ESRCH);
}

/// Until nobody has this number.
void gone(pid_t pid) {
	while (proc_signal(me(), pid, 0) != ESRCH) {
		(void)park(time_in(soon));
	}
}

}  // namespace

// The last LWP ends while somebody waits for the proc: no end is missed, and what is collected is off its stack.
SCENARIO(proc_end_against_wait, 2) {
	child c;
	(void)c.begin(1, [] {});
	race();
	ended(c.pid);
}

SCENARIO(proc_end_against_wait_for_any, 2) {
	child c;
	(void)c.begin(1, [] {});
	race();
	pid_t which = 0;
	int status = -1;
	EXPECT(restart([&] { return proc_wait1(me(), -1, true, never, &which, &status); }) == 0);
	EXPECT(which == c.pid && status == 0);
}

// Two end at the same time, each of its own part: one of them is the last, and finds what the other leaves.
SCENARIO(proc_two_are_the_last, 3) {
	child c;
	(void)start(1,
	    [] {
		    (void)start(2, [] {});
		    await_arm();
	    },
	    {.waits = false, .into = c.p});
	while (awaiting_arm() != 2) {
		let_others();
	}
	race();
	ended(c.pid);
}

// The same, but one of them waits for the other, which is in another part.
SCENARIO(proc_last_waits_for_the_other, 3) {
	child c;
	(void)c.begin(1, [] { join(start(2, [] {})); });
	race();
	ended(c.pid);
}

SCENARIO(proc_end_against_kill, 2) {
	child c;
	(void)c.begin(1, [] { userret(); });
	race();
	tell(c.pid);
	ended(c.pid);
}

// Killed by another than the one who waits.
SCENARIO(proc_kill_against_wait, 3) {
	child c;
	(void)c.begin(1, [] { (void)park(); });
	const pid_t pid = c.pid;
	lwpid_t killer = start(2, [pid] { tell(pid); });
	race();
	ended(pid);
	join(killer);
}

// Of two that wait one collects it, and the other learns that it is gone.
SCENARIO(proc_end_against_two_waits, 3) {
	child c;
	(void)c.begin(1, [] {});
	const pid_t pid = c.pid;
	kern::atomic<int> got{0};
	auto wait = [&got, pid] {
		int status;
		const int error = wait_for_proc(pid, &status);
		EXPECT(error == 0 || error == ECHILD);
		got.fetch_add(error == 0 ? 1 : 0);
	};
	lwpid_t other = start(2, wait);
	race();
	wait();
	join(other);
	EXPECT(got.load() == 1);
}

// Let go of while it ends: it is collected by itself, or by who lets it go.
SCENARIO(proc_end_against_detach, 2) {
	child c;
	(void)c.begin(1, [] {});
	race();
	EXPECT(proc_detach(me(), c.pid) == 0);
	gone(c.pid);
}

// Whoever waits for it is told when it is let go of.
SCENARIO(proc_wait_against_detach, 3) {
	child c;
	(void)c.begin(1, [] { (void)park(); });
	const pid_t pid = c.pid;
	lwpid_t waiter = start(2, [pid] {
		int status;
		EXPECT(wait_for_proc(pid, &status) == ECHILD);
	});
	race();
	EXPECT(proc_detach(me(), pid) == 0);
	join(waiter);
	tell(pid);
	gone(pid);
}

// Killed while it makes another LWP: that is told too, or begins with it.
SCENARIO(proc_kill_against_create, 3) {
	child c;
	(void)c.begin(1, [] { (void)start(anywhere, [] { (void)park(); }); });
	race();
	tell(c.pid);
	ended(c.pid);
}

SCENARIO(proc_kill_against_create_suspended, 2) {
	child c;
	(void)c.begin(1, [] { (void)start(anywhere, [] {}, {.suspended = true}); });
	race();
	tell(c.pid);
	ended(c.pid);
}

// Killed while one suspends the other: nobody stays behind.
SCENARIO(proc_kill_against_suspend, 3) {
	child c;
	(void)c.begin(1, [] {
		lwpid_t other = start(2, [] { (void)park(); });
		(void)suspend(other);
		(void)park();
	});
	race();
	tell(c.pid);
	ended(c.pid);
}

// Killed on its way into a sleep, and in it.
SCENARIO(proc_kill_against_park, 2) {
	child c;
	(void)c.begin(1, [] { (void)park(); });
	race();
	tell(c.pid);
	ended(c.pid);
}

// Killed in a wait whose record another takes at the same time: it waits for the give, or has taken it back.
SCENARIO(proc_kill_against_grant, 3) {
	child c;
	static kern::atomic<grant *> hung;
	(void)c.begin(1, [] {
		grant g(me());
		hung.store(&g);
		for (;;) {
			const int error = grant_wait(&g, "test");
			if (error == 0 || error == ETIMEDOUT) {
				break;
			}
			userret();
		}
	});
	lwpid_t giver = start(2, [] {
		// Nobody uses that stack again: of a grant that is gone it can be seen that it was taken.
		if (grant *g = hung.load(); g != nullptr && grant_take(g, 1)) {
			grant_give(g, me()->l_cpu);
		}
	});
	race();
	tell(c.pid);
	join(giver);
	ended(c.pid);
}

// Stopped and continued while it ends.
SCENARIO(proc_stop_against_end, 2) {
	child c;
	(void)c.begin(1, [] { userret(); });
	race();
	tell(c.pid, SIGSTOP);
	tell(c.pid, SIGCONT);
	ended(c.pid);
}

// Killed while it is stopped.
SCENARIO(proc_stop_against_kill, 3) {
	child c;
	(void)c.begin(1, [] { (void)park(); });
	const pid_t pid = c.pid;
	lwpid_t stopper = start(2, [pid] { tell(pid, SIGSTOP); });
	race();
	tell(pid);
	ended(pid);
	join(stopper);
}

// The world is stopped while another proc ends, and while one is made.
SCENARIO(proc_world_against_end, 2) {
	child c;
	(void)c.begin(1, [] { userret(); });
	race();
	EXPECT(world_stop(me(), never) == 0);
	const proc_counts n = proc_count(nullptr);
	yield();
	EXPECT(proc_count(nullptr).nlwps == n.nlwps);
	world_continue(me());
	ended(c.pid);
}

// A parent ends while its child does: the child is collected by the one or by itself, once.
SCENARIO(proc_parent_against_child, 3) {
	static kern::atomic<pid_t> grandchild;
	child c;
	(void)c.begin(1, [] {
		child g;
		grandchild.store(g.pid);
		(void)g.begin(2, [] {});
	});
	race();
	ended(c.pid);
	gone(grandchild.load());
}

// An id is looked up without a lock while structs go from proc to proc: an LWP of ours, or nobody.
SCENARIO(proc_find_against_recycling, 2) {
	child c;
	lwpid_t ours = start(anywhere, [] {}, {.detached = true});
	(void)c.begin(1, [] {
		lwpid_t a = start(anywhere, [] {}, {.detached = true});
		(void)a;
	});
	race();
	for (lwpid_t lid = ours; lid < ours + 6; lid++) {
		spinlock *lock;
		if (lwp_t *l = lwp_find_and_lock(me()->l_proc, lid, me()->l_cpu, &lock); l != nullptr) {
			EXPECT(l->l_proc == &proc0 && lwp_lid(l) == lid);
			lock->unlock();
		}
	}
	ended(c.pid);
}

// A struct is used for another proc at once.
SCENARIO(proc_made_anew, 2) {
	child c;
	(void)c.begin(1, [] {});
	race();
	ended(c.pid);
	child d;
	EXPECT(d.pid != c.pid);
	(void)d.begin(anywhere, [] { (void)park(); });
	tell(d.pid);
	ended(d.pid);
}
