// SPDX-License-Identifier: BSD-2-Clause
//
// All LWPs by state, and the one that stands for them: table 1.18's list of LWPs and representative, quirk Q26.
// vcpus: 1 2 8
#include "proc/list.h"

#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/proc.hpp>
#include <lwp/sched.h>
#include <lwp/signal.h>

#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// 0: not there.
kinfo_lwp find(lwpid_t lid) {
	for (const kinfo_lwp &k : lwp::every_lwp()) {
		if (k.l_lid == lid) {
			return k;
		}
	}
	return {};
}

/// What the proc would be represented by if it looked like this.
struct scene {
	lwpid_t who;
	unsigned running;
};

scene representative() {
	scene s{};
	s.who = lwp_proc_representative(&s.running);
	return s;
}

}  // namespace

TEST(List, ShowsEveryLwpAsItIs) {
	gate leave;
	subject parked([](subject &s) { s.park_once(); });
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED | LWP_DETACHED);
	const lwpid_t zombie = make_zombie();
	const lwpid_t runs = spawn([&] { leave.pass(); });
	EXPECT_EQ(error_of(_lwp_setname(runs, "runs")), 0);
	const sched_param p{.sched_priority = 5};
	EXPECT_EQ(error_of(_sched_setparam(0, suspended, SCHED_FIFO, &p)), 0);
	parked.await_blocked();

	kinfo_lwp k = find(_lwp_self());
	EXPECT_EQ(k.l_stat, LSONPROC);
	EXPECT_GE(k.l_cpuid, 0);
	EXPECT_LT(k.l_cpuid, static_cast<int>(lwp::runtime::vcpus()));
	EXPECT_EQ(k.l_wchan, 0U);
	EXPECT_EQ(k.l_detached, 0);

	k = find(parked.lid());
	EXPECT_EQ(k.l_stat, LSSLEEP);
	EXPECT_EQ(k.l_cpuid, LWPCTL_CPU_NONE);
	EXPECT_STREQ(k.l_wmesg, "parked");
	EXPECT_NE(k.l_wchan, 0U);
	EXPECT_EQ(k.l_usrpri, static_cast<int>(pri_default));
	EXPECT_EQ(k.l_class, SCHED_OTHER);

	k = find(suspended);
	EXPECT_EQ(k.l_stat, LSSUSPENDED);
	EXPECT_EQ(k.l_detached, 1);
	EXPECT_EQ(k.l_class, SCHED_FIFO);
	EXPECT_EQ(k.l_usrpri, pri_user_rt + 5);
	EXPECT_EQ(k.l_priority, pri_user_rt + 5);

	EXPECT_EQ(find(zombie).l_stat, LSZOMB);
	k = find(runs);
	EXPECT_TRUE(k.l_stat == LSRUN || k.l_stat == LSONPROC) << k.l_stat;
	EXPECT_STREQ(k.l_name, "runs");

	EXPECT_EQ(lwp::every_lwp().size(), 5U);
	EXPECT_EQ(lwp_proc_list(nullptr, 0), 5);
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_list(nullptr, 1))), EINVAL);
	kinfo_lwp two[2];
	EXPECT_EQ(lwp_proc_list(two, 2), 5);
	EXPECT_NE(two[0].l_lid, two[1].l_lid);

	leave.open();
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	collect(zombie);
	collect(parked.lid());
	collect(runs);
	EXPECT_EQ(find(zombie).l_lid, 0);
	// A detached one that has ended is nobody's.
	await_end(suspended);
	EXPECT_TRUE(wait_until([&] { return find(suspended).l_lid == 0; }));
}

TEST(List, ShowsKernelThreadsThatHaveCalled) {
	gate leave;
	std::atomic<lwpid_t> lid{0};
	std::thread outside([&] {
		lid = _lwp_self();
		while (!leave.is_open()) {
			std::this_thread::yield();
		}
	});
	ASSERT_TRUE(wait_until([&] { return lid.load() != 0; }));
	const kinfo_lwp k = find(lid);
	EXPECT_EQ(k.l_stat, LSONPROC);
	EXPECT_EQ(k.l_cpuid, LWPCTL_CPU_NONE);
	EXPECT_EQ(k.l_detached, 1);
	leave.open();
	outside.join();
}

// Under the storm of births and ends each list is of one moment: no id twice, the caller in it, none that was never made.
TEST(List, OfOneMoment) {
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> churn;
	for (int i = 0; i < 4; i++) {
		churn.emplace_back([&] {
			while (!stop.load()) {
				lwp::thread([] { lwp_yield(); }).join();
			}
		});
	}
	for (std::size_t i = rounds(200); i-- > 0;) {
		const std::vector<kinfo_lwp> all = lwp::every_lwp();
		bool self = false;
		for (std::size_t k = 0; k < all.size(); k++) {
			ASSERT_GT(all[k].l_lid, k == 0 ? 0 : all[k - 1].l_lid);
			ASSERT_NE(all[k].l_stat, LSIDL);
			self |= all[k].l_lid == _lwp_self();
		}
		ASSERT_TRUE(self);
		ASSERT_LE(all.size(), 9U);
		lwp_yield();
	}
	stop = true;
	for (lwp::thread &t : churn) {
		t.join();
	}
}

// The caller runs, so it or another that runs stands for all.
TEST(Representative, RunsIfAnybodyDoes) {
	subject parked([](subject &s) { s.park_once(); });
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	parked.await_blocked();
	EXPECT_EQ(representative().who, _lwp_self());
	EXPECT_EQ(representative().running, 1U);
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(parked.lid());
	collect(suspended);
	EXPECT_EQ(representative().who, _lwp_self());
}

// Asked of proc_representative_lwp() by somebody who is no LWP of it: a scene with nobody who runs.
TEST(Representative, PrefersSleepersToStoppedToSuspended) {
	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	lwp_t *me = curlwp();
	{
		const proc_scope hold(&proc0, me->l_cpu);
		// Without the caller, as the scan would find them: by its own order of kinds.
		std::size_t running = 0;
		EXPECT_EQ(proc_representative_lwp(&proc0, &running), me);
		EXPECT_EQ(running, 1U);
		procpart *pp = me->l_part;
		pp->pp_lwps.erase(me);
		const lwp_t *found = proc_representative_lwp(&proc0, &running);
		EXPECT_EQ(lwp_lid(found), parked.lid());
		EXPECT_EQ(running, 0U);
		EXPECT_EQ(pp->pp_lwps.insert(me), 0);
	}
	EXPECT_EQ(error_of(_lwp_suspend(parked.lid())), 0);
	{
		const proc_scope hold(&proc0, me->l_cpu);
		procpart *pp = me->l_part;
		pp->pp_lwps.erase(me);
		std::size_t running = 7;
		const lwp_t *found = proc_representative_lwp(&proc0, &running);
		ASSERT_NE(found, nullptr);
		EXPECT_EQ(lwp_state(found), lwp_stat::suspended);
		EXPECT_EQ(running, 0U);
		EXPECT_EQ(pp->pp_lwps.insert(me), 0);
	}
	EXPECT_EQ(error_of(_lwp_continue(parked.lid())), 0);
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(parked.lid());
	collect(suspended);
}

// Quirk Q26: a zombie stands for nobody, and where none lives there is none.
TEST(Representative, IsNoZombie) {
	const lwpid_t zombie = make_zombie();
	lwp_t *me = curlwp();
	{
		const proc_scope hold(&proc0, me->l_cpu);
		procpart *pp = me->l_part;
		pp->pp_lwps.erase(me);
		std::size_t running = 7;
		EXPECT_EQ(proc_representative_lwp(&proc0, &running), nullptr);
		EXPECT_EQ(running, 0U);
		EXPECT_EQ(pp->pp_lwps.insert(me), 0);
	}
	collect(zombie);
}

TEST(Representative, TookTheLastSignal) {
	struct sigaction act {};
	act.sa_handler = [](int) {};
	struct sigaction before {};
	ASSERT_EQ(error_of(lwp_sigaction(SIGUSR1, &act, &before)), 0);
	std::atomic<bool> handled{false};
	subject target([&](subject &s) {
		s.park_once();
		handled = true;
		s.park_once();
	});
	target.await_blocked();
	EXPECT_EQ(error_of(_lwp_kill(target.lid(), SIGUSR1)), 0);
	EXPECT_TRUE(wait_until([&] { return handled.load(); }));
	target.await_blocked();
	EXPECT_EQ(representative().who, target.lid());
	EXPECT_EQ(error_of(_lwp_unpark(target.lid(), nullptr)), 0);
	collect(target.lid());
	EXPECT_EQ(representative().who, _lwp_self()) << "it has ended";
	EXPECT_EQ(error_of(lwp_sigaction(SIGUSR1, &before, nullptr)), 0);
}
