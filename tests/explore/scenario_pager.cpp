// SPDX-License-Identifier: BSD-2-Clause
//
// The stack pager against wake-ups, holds and itself: nobody runs while his stack is out, or while somebody works on it; and everybody who was woken runs.
#include "explore/world.h"
#include "proc/lwp_life.h"
#include "proc/pager.h"
#include "sched/pageq.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

void sleep_once(nanotime deadline = never) {
	(void)park(deadline);
	EXPECT(stack_in_memory());
	now();  // a point
	EXPECT(stack_in_memory());
}

void sweep() { (void)pager_sweep(&proc0, 0, me()->l_cpu); }
void serve() { (void)pager_serve(me()->l_cpu); }

/// The pager's kernel thread, as an LWP: as long as it is wanted.
struct pager {
	bool wanted = true;
	lwpid_t lid = 0;

	void run(int sweeps) {
		while (wanted) {
			serve();
			if (sweeps-- > 0) {
				sweep();
			}
			let_others();
			yield();
		}
		serve();
	}
};

void all_are_in() { EXPECT(pageq.pq_lwps.empty()); }

}  // namespace

// Swept and woken at once: it is queued when it is back in memory, never before, and never forgotten.
SCENARIO(pager_sweep_against_wakeup, 3) {
	pager p;
	lwpid_t a = start(1, [] { sleep_once(); });
	lwpid_t b = start(2, [&] { p.run(2); }, {.pinned = true});
	race();
	unpark(a);
	join(a);
	p.wanted = false;
	join(b);
	all_are_in();
}

// Woken by its deadline.
SCENARIO(pager_sweep_against_timeout, 3) {
	pager p;
	lwpid_t a = start(1, [] { sleep_once(time_in(soon)); });
	lwpid_t b = start(2, [&] { p.run(2); }, {.pinned = true});
	race();
	join(a);
	p.wanted = false;
	join(b);
	all_are_in();
}

// Two sleeps: the second may be swept while the first one's wake-up still goes on.
SCENARIO(pager_two_sleeps, 3) {
	pager p;
	lwpid_t a = start(1, [] {
		sleep_once();
		sleep_once();
	});
	lwpid_t b = start(2, [&] { p.run(3); }, {.pinned = true});
	race();
	unpark(a);
	while (lwp_unpark(me(), a) == 0) {
		let_others();
		yield();
	}
	join(a);
	p.wanted = false;
	join(b);
	all_are_in();
}

// One sweeps, another serves: the one that serves waits until the sweep is through with it.
SCENARIO(pager_sweep_against_serve, 3) {
	pager p;
	lwpid_t a = start(1, [] { sleep_once(); });
	lwpid_t b = start(2, [&] { p.run(0); }, {.pinned = true});
	race();
	sweep();
	unpark(a);
	sweep();
	serve();
	join(a);
	p.wanted = false;
	join(b);
	all_are_in();
}

// Woken while another sweeps, and served meanwhile: not before the sweep is through with it.
SCENARIO(pager_serve_in_the_middle_of_a_sweep, 3) {
	bool over = false;
	lwpid_t a = start(1, [&] {
		sleep_once();
		over = true;
	});
	lwpid_t b = start(2, [] { sweep(); }, {.pinned = true});
	race();
	unpark(a);
	while (!over) {
		serve();
		let_others();
		yield();
	}
	join(a);
	join(b);
	all_are_in();
}

// Held while it is swept, out, or being woken: it comes back, and stays.
SCENARIO(pager_hold_against_sweep, 3) {
	pager p;
	bool ended = false;
	lwpid_t a = start(1, [&] {
		sleep_once();
		ended = true;
	});
	lwpid_t b = start(2, [&] { p.run(2); }, {.pinned = true});
	race();
	const int held = uvm_lwp_hold(me(), a);
	EXPECT(held == 0);
	unpark(a);
	const int released = uvm_lwp_rele(me(), a);
	EXPECT(released == 0 || released == ESRCH);
	join(a);
	p.wanted = false;
	join(b);
	EXPECT(ended);
	all_are_in();
}

// Held, it is in memory once the sweeps that came before are over.
SCENARIO(pager_hold_brings_it_back, 3) {
	lwpid_t a = start(1, [] { sleep_once(); });
	lwpid_t b = start(2, [] {
		sweep();
		sweep();
	});
	race();
	EXPECT(uvm_lwp_hold(me(), a) == 0);
	join(b);
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, a, me()->l_cpu, &lock);
	EXPECT(l != nullptr && (lwp_flags(l) & (LW_INMEM | LW_PAGING)) == LW_INMEM && l->l_holdcnt == 1);
	lock->unlock(me()->l_cpu);
	unpark(a);
	join(a);
	all_are_in();
}

// Suspended out of its sleep while it is out: it comes in first, to come to the boundary.
SCENARIO(pager_sweep_against_suspend, 3) {
	pager p;
	lwpid_t a = start(1, [] { sleep_once(); });
	lwpid_t b = start(2, [&] { p.run(2); }, {.pinned = true});
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	(void)lwp_unpark(me(), a);
	join(a);
	p.wanted = false;
	join(b);
	all_are_in();
}
