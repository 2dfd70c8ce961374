// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that are sent elsewhere, by an affinity or a processor set, while they are popped, stolen, woken, started, yield or end, and while those that they are
// sent to halt.  Each knows by a flag whether it was sent already; if so, it has to be there when it has passed a boundary, or was switched out.
#include "explore/world.h"
#include "sched/idle.h"
#include "sched/place.h"
#include "sched/switch.h"

#include <cerrno>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

vcpu_mask at(std::initializer_list<unsigned> vcpus) {
	vcpu_mask m;
	for (unsigned v : vcpus) {
		m.set(v);
	}
	return m;
}

int send(lwpid_t lid, std::initializer_list<unsigned> vcpus) { return lwp_setaffinity(me(), lid, at(vcpus)); }
bool sent_or_ended(lwpid_t lid, std::initializer_list<unsigned> vcpus) {
	const int error = send(lid, vcpus);
	return error == 0 || error == ESRCH;
}

bool here(std::initializer_list<unsigned> vcpus) { return at(vcpus).test(static_cast<unsigned>(me()->l_cpu->vc_index)); }

void impatient(unsigned vcpu) { sched.sd_vcpu[vcpu]->vc_patience = 0; }

/// Passes a boundary: if it was sent before, it is there after.
void arrive(const kern::atomic<bool> &sent, std::initializer_list<unsigned> vcpus) {
	const bool was = sent.load();
	userret();
	EXPECT(!was || here(vcpus));
}

}  // namespace

// ---- by state, against what the LWP does itself ------------------------------------------------------------------------------

// Queued behind another; that one yields, so it may be popped as it is moved.
SCENARIO_TSO(migrate_queued_against_pop, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1, [] { yield(); }, {.pinned = true});
	lwpid_t b = start(1, [&] { arrive(sent, {0}); }, {.pinned = true});
	race();
	EXPECT(sent_or_ended(b, {0}));
	sent.store(true);
	join(b);
	join(a);
}

// It never calls the library before it was popped: if it was still queued it does not run there at all.
SCENARIO_TSO(migrate_queued_is_at_once, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    while (!sent.load()) {
			    cpu_relax();
		    }
	    },
	    {.pinned = true});
	lwpid_t b = start(1, [] { EXPECT(here({0})); }, {.pinned = true});
	race();
	EXPECT(send(b, {0}) == 0);
	sent.store(true);
	join(b);
	join(a);
}

// Yields among equals: from the moment it is sent it is not queued where it may not be, boundary or not.
SCENARIO_TSO(migrate_running_against_its_yield, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 3; i++) {
			    const bool was = sent.load();
			    const std::uint64_t before = me()->l_ncsw;
			    lwp_yield_cpu(me());
			    EXPECT(!was || me()->l_ncsw == before || here({0}));
		    }
		    arrive(sent, {0});
	    },
	    {.pinned = true});
	lwpid_t b = start(1,
	    [] {
		    yield();
		    yield();
	    },
	    {.pinned = true});
	race();
	EXPECT(sent_or_ended(a, {0}));
	sent.store(true);
	join(a);
	join(b);
}

// A better one comes as it is sent: it goes, or it is preempted and moved.
SCENARIO_TSO(migrate_running_against_preemption, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    for (int i = 0; i < 4; i++) {
			    arrive(sent, {0});
		    }
	    },
	    {.pinned = true});
	race();
	lwpid_t b = start(1, [] {}, {.pinned = true, .priority = 60});
	EXPECT(sent_or_ended(a, {0}));
	sent.store(true);
	join(a);
	join(b);
}

SCENARIO_TSO(migrate_sleeper_against_wakeup, 3) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    (void)park();
		    arrive(sent, {0});
	    },
	    {.pinned = true});
	lwpid_t b = start(2, [&] { unpark(a); }, {.pinned = true});
	race();
	EXPECT(sent_or_ended(a, {0}));
	sent.store(true);
	join(b);
	join(a);
}

// The same with a timer, which another vCPU may fire.
SCENARIO_TSO(migrate_sleeper_against_timeout, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    (void)park(time_in(1000));
		    arrive(sent, {0});
	    },
	    {.pinned = true});
	race();
	EXPECT(sent_or_ended(a, {0}));
	sent.store(true);
	join(a);
}

SCENARIO_TSO(migrate_suspended_against_continue, 3) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1, [&] { arrive(sent, {0}); }, {.pinned = true, .suspended = true});
	lwpid_t b = start(2, [&] { cont(a); }, {.pinned = true});
	race();
	EXPECT(sent_or_ended(a, {0}));
	sent.store(true);
	join(b);
	join(a);
}

SCENARIO_TSO(migrate_against_exit, 2) {
	lwpid_t a = start(1, [] { yield(); }, {.pinned = true});
	race();
	const int error = send(a, {0});
	EXPECT(error == 0 || error == ESRCH);
	const int again = send(a, {1});
	EXPECT(again == 0 || again == ESRCH);
	join(a);
}

SCENARIO_TSO(migrate_against_exit_of_a_detached_one, 2) {
	lwpid_t a = start(1, [] {}, {.pinned = true, .detached = true});
	race();
	const int error = send(a, {0});
	EXPECT(error == 0 || error == ESRCH);
	lwpid_t b = start(1, [] { EXPECT(here({1})); }, {.pinned = true});  // perhaps made of it
	join(b);
}

// ---- against where it goes ------------------------------------------------------------------------------------------------------

// The vCPU that it is sent to halts this moment.
SCENARIO_TSO(migrate_queued_against_halt, 2) {
	lwpid_t a = start(1, [] {}, {.pinned = true});
	lwpid_t b = start(0, [] { EXPECT(here({1})); }, {.pinned = true});
	impatient(1);
	race();
	EXPECT(send(b, {1}) == 0);
	join(b);
	join(a);
}

// It goes there itself: whoever runs next where it was tells.
SCENARIO_TSO(migrate_self_against_halt, 2) {
	lwpid_t a = start(1, [] {}, {.pinned = true});
	impatient(1);
	race();
	EXPECT(send(lwp_lid(me()), {1}) == 0);
	userret();
	EXPECT(here({1}));
	EXPECT(send(lwp_lid(me()), {0}) == 0);
	userret();
	EXPECT(here({0}));
	EXPECT(send(lwp_lid(me()), {}) == 0);
	join(a);
}

// In the inbox of one that is about to halt: it may stay, and is not overlooked meanwhile.
SCENARIO_TSO(place_of_one_in_an_inbox_against_halt, 2) {
	lwpid_t a = start(1, [] {}, {.pinned = true});
	impatient(1);
	race();
	lwpid_t b = start(1, [] {}, {.pinned = true});
	const int error = send(b, {0, 1});
	EXPECT(error == 0 || error == ESRCH);
	join(b);
	join(a);
}

// Two that change places at once, each from one inbox to the other.
SCENARIO_TSO(migrate_from_inbox_to_inbox, 3) {
	kern::atomic<bool> stop{false};
	const auto computes = [&] {
		while (!stop.load()) {
			cpu_relax();
		}
	};
	lwpid_t busy = start(1, computes, {.pinned = true});
	lwpid_t y = 0;
	const lwpid_t setter = start(2,
	    [&] {
		    while (y == 0) {
			    let_others();
		    }
		    EXPECT(send(y, {1}) == 0);
	    },
	    {.pinned = true});
	race();
	const lwpid_t x = start(1, [] { EXPECT(here({2})); }, {.pinned = true});
	y = start(2, [] { EXPECT(here({1})); }, {.pinned = true});
	EXPECT(send(x, {2}) == 0);
	join(setter);
	stop.store(true);
	join(x);
	join(y);
	join(busy);
}

// ---- against thieves ----------------------------------------------------------------------------------------------------------------

SCENARIO_TSO(migrate_against_steal, 3) {
	kern::atomic<bool> sent{false};
	lwpid_t ids[4];
	for (lwpid_t &lid : ids) {
		lid = start(anywhere, [] {});
	}
	lwpid_t a = start(anywhere, [&] { arrive(sent, {2}); });
	race();
	const int error = send(a, {2});
	EXPECT(error == 0 || error == ESRCH);  // it may have run and ended
	sent.store(true);
	for (lwpid_t lid : ids) {
		join(lid);
	}
	join(a);
}

// Of those that have chosen several vCPUs a thief takes who has chosen it.
SCENARIO_TSO(place_of_several_against_steal, 3) {
	lwpid_t ids[4];
	for (int i = 0; i < 4; i++) {
		const bool may = i % 2 == 0;
		ids[i] = start(0, [may] { EXPECT(may ? here({0, 1}) : here({0, 2})); }, {.pinned = true});
		EXPECT(send(ids[i], may ? std::initializer_list<unsigned>{0, 1} : std::initializer_list<unsigned>{0, 2}) == 0);
	}
	race();
	for (lwpid_t lid : ids) {
		join(lid);
	}
}

// One behind one that computes: the watcher takes it, or sends it to the one that may have it.
SCENARIO_TSO(place_of_one_of_several_behind_another, 3) {
	kern::atomic<bool> ran{false};
	lwpid_t busy = start(1,
	    [&] {
		    while (!ran.load()) {
			    cpu_relax();
		    }
	    },
	    {.pinned = true});
	race();
	lwpid_t a = start(1,
	    [&] {
		    EXPECT(here({2}));
		    ran.store(true);
	    },
	    {.pinned = true});
	EXPECT(send(a, {1, 2}) == 0);
	join(a);
	join(busy);
}

// The same in its queue: one that is better took it out of the inbox, and computes.
SCENARIO_TSO(place_of_one_of_several_in_a_queue, 3) {
	kern::atomic<bool> queued{false};
	kern::atomic<bool> ran{false};
	lwpid_t busy = start(1,
	    [&] {
		    while (!queued.load()) {
			    cpu_relax();
		    }
		    yield();
		    while (!ran.load()) {
			    cpu_relax();
		    }
	    },
	    {.pinned = true, .priority = 60});
	race();
	lwpid_t a = start(1,
	    [&] {
		    EXPECT(here({1, 2}));
		    ran.store(true);
	    },
	    {.pinned = true});
	EXPECT(send(a, {1, 2}) == 0);
	queued.store(true);
	join(a);
	join(busy);
}

// ---- several at once --------------------------------------------------------------------------------------------------------------------

SCENARIO_TSO(migrate_by_two, 3) {
	kern::atomic<int> sent{0};
	lwpid_t a = start(1,
	    [&] {
		    while (sent.load() != 2) {
			    userret();
			    let_others();
		    }
		    userret();
		    vcpu_mask mine;
		    EXPECT(lwp_getaffinity(me(), 0, &mine) == 0);
		    EXPECT(mine == at({0}) || mine == at({2}));
		    EXPECT(mine.test(static_cast<unsigned>(me()->l_cpu->vc_index)));
	    },
	    {.pinned = true});
	lwpid_t b = start(2,
	    [&] {
		    EXPECT(send(a, {2}) == 0);
		    sent.fetch_add(1);
	    },
	    {.pinned = true});
	race();
	EXPECT(send(a, {0}) == 0);
	sent.fetch_add(1);
	while (sent.load() != 2) {
		yield();
	}
	join(b);
	join(a);
}

// A new one has what its creator has when it starts.
SCENARIO_TSO(migrate_creator_against_create, 2) {
	kern::atomic<bool> sent{false};
	lwpid_t a = start(1,
	    [&] {
		    const bool was = sent.load();
		    lwp_options o;
		    lwp_t *l;
		    lwpid_t lid;
		    EXPECT(newlwp(me(), o, &l) == 0);
		    struct facts {
			    const kern::atomic<bool> *sent;
			    bool was;
		    } f{&sent, was};
		    EXPECT(lwp_start(
		               me(), l, [](void *arg) { EXPECT(!static_cast<facts *>(arg)->was || here({0})); }, &f, o, &lid) == 0);
		    join(lid);
	    },
	    {.pinned = true});
	race();
	const int error = send(a, {0});
	EXPECT(error == 0 || error == ESRCH);  // it may have ended
	sent.store(error == 0);
	join(a);
}

// ---- processor sets -----------------------------------------------------------------------------------------------------------------------

namespace {

int make_set() {
	int id = 0;
	EXPECT(lwp_pset_create(me(), &id) == 0);
	return id;
}

}  // namespace

// A vCPU becomes one of a set as an LWP is woken on it, started there, or stolen to it: none of the others stays.
SCENARIO_TSO(pset_assign_against_wakeup, 3) {
	kern::atomic<bool> assigned{false};
	const int set = make_set();
	lwpid_t a = start(1, [&] {
		(void)park();
		arrive(assigned, {0, 1});
	});
	lwpid_t b = start(2, [&] {
		unpark(a);
		arrive(assigned, {0, 1});
	});
	race();
	EXPECT(lwp_pset_assign(me(), set, 2, nullptr) == 0);
	assigned.store(true);
	join(b);
	join(a);
	EXPECT(lwp_pset_destroy(me(), set) == 0);
}

SCENARIO_TSO(pset_assign_against_start, 2) {
	kern::atomic<bool> assigned{false};
	const int set = make_set();
	lwpid_t a = start(1, [&] {
		lwpid_t b = start(anywhere, [&] { arrive(assigned, {0}); });
		arrive(assigned, {0});
		join(b);
	});
	race();
	EXPECT(lwp_pset_assign(me(), set, 1, nullptr) == 0);
	assigned.store(true);
	join(a);
	EXPECT(lwp_pset_destroy(me(), set) == 0);
}

SCENARIO_TSO(pset_assign_against_steal, 3) {
	kern::atomic<bool> assigned{false};
	const int set = make_set();
	lwpid_t ids[4];
	for (lwpid_t &lid : ids) {
		lid = start(anywhere, [&] { arrive(assigned, {0, 1}); });
	}
	race();
	EXPECT(lwp_pset_assign(me(), set, 2, nullptr) == 0);
	assigned.store(true);
	for (lwpid_t lid : ids) {
		join(lid);
	}
	EXPECT(lwp_pset_destroy(me(), set) == 0);
}

// The vCPU of the set that it is bound to halts.
SCENARIO_TSO(pset_bind_against_halt, 2) {
	const int set = make_set();
	lwpid_t a = start(1, [] {});
	impatient(1);
	race();
	EXPECT(lwp_pset_assign(me(), set, 1, nullptr) == 0);
	lwpid_t b = start(anywhere, [] { EXPECT(here({1})); });
	EXPECT(lwp_pset_bind(me(), set, b, nullptr) == 0);
	join(b);
	join(a);
	EXPECT(lwp_pset_destroy(me(), set) == 0);
}

// It is woken as its set goes: it has a place all the time.
SCENARIO_TSO(pset_destroy_against_wakeup, 3) {
	const int set = make_set();
	EXPECT(lwp_pset_assign(me(), set, 1, nullptr) == 0);
	kern::atomic<bool> bound{false};
	lwpid_t a = start(2,
	    [&] {
		    EXPECT(lwp_pset_bind(me(), set, lwp_lid(me()), nullptr) == 0);
		    userret();
		    EXPECT(here({1}));
		    bound.store(true);
		    (void)park();
	    },
	    {.waits = false});
	while (!bound.load()) {
		let_others();
	}
	lwpid_t b = start(2, [&] { unpark(a); });
	race();
	EXPECT(lwp_pset_destroy(me(), set) == 0);
	join(b);
	join(a);
}
