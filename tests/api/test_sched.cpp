// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of lwp/sched.h: every error, by the state of the target, and what a change does to an LWP that is queued, asleep, running or suspended.
// vcpus: 1 2 8
#include <lwp/sched.h>

#include "../support/support.h"

#include <lwp/mutex.hpp>

#include <string>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

constexpr sched_param none{.sched_priority = LWP_PRI_NONE};

sched_param pri(int p) { return {.sched_priority = p}; }

int set(lwpid_t lid, int policy, int priority) {
	const sched_param p = pri(priority);
	return error_of(_sched_setparam(0, lid, policy, &p));
}

std::pair<int, int> get(lwpid_t lid) {
	int policy = -7;
	sched_param p{-7};
	EXPECT_EQ(error_of(_sched_getparam(0, lid, &policy, &p)), 0);
	return {policy, p.sched_priority};
}

/// In a real-time LWP better than its actors, which stays on one vCPU; so do those that it makes.
template <class Body>
void direct(const Body &body) {
	lwp::thread({.priority = 63, .vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1, .policy = lwp::sched_policy::fifo}, body).join();
}

template <class Predicate>
bool nap_until(Predicate ready) {
	for (unsigned i = 0; i < 60'000; i++) {
		if (ready()) {
			return true;
		}
		(void)park_for(1ms);
	}
	return ready();
}

lwp::thread actor(int priority, std::function<void()> body) {
	return lwp::thread({.priority = priority, .policy = lwp::sched_policy::fifo}, std::move(body));
}

}  // namespace

TEST(Sched, WhatIsSetIsRead) {
	const lwpid_t self = _lwp_self();
	const auto before = get(0);
	EXPECT_EQ(before.first, SCHED_OTHER);
	EXPECT_EQ(set(self, SCHED_FIFO, 7), 0);
	EXPECT_EQ(get(0), std::pair(SCHED_FIFO, 7));
	EXPECT_EQ(get(self), std::pair(SCHED_FIFO, 7));
	EXPECT_EQ(set(self, SCHED_RR, LWP_PRI_NONE), 0);
	EXPECT_EQ(get(self), std::pair(SCHED_RR, 7)) << "another class of the same band: the priority stays";
	EXPECT_EQ(set(self, LWP_SCHED_NONE, 63), 0);
	EXPECT_EQ(get(self), std::pair(SCHED_RR, 63));
	EXPECT_EQ(set(self, LWP_SCHED_NONE, LWP_PRI_NONE), 0);
	EXPECT_EQ(get(self), std::pair(SCHED_RR, 63));
	EXPECT_EQ(set(self, SCHED_OTHER, LWP_PRI_NONE), 0);
	EXPECT_EQ(get(self), before);
	EXPECT_EQ(set(self, SCHED_FIFO, LWP_PRI_NONE), 0);
	EXPECT_EQ(get(self), std::pair(SCHED_FIFO, 0));
	EXPECT_EQ(set(self, SCHED_OTHER, LWP_PRI_NONE), 0);
	EXPECT_EQ(error_of(_sched_getparam(::getpid(), self, nullptr, nullptr)), 0);
}

TEST(Sched, BadArgumentsAreRefused) {
	const lwpid_t self = _lwp_self();
	EXPECT_EQ(error_of(_sched_setparam(0, self, SCHED_FIFO, nullptr)), EINVAL);
	EXPECT_EQ(set(self, -2, LWP_PRI_NONE), EINVAL);
	EXPECT_EQ(set(self, 3, LWP_PRI_NONE), EINVAL);
	EXPECT_EQ(set(self, SCHED_FIFO, 64), EINVAL);
	EXPECT_EQ(set(self, SCHED_FIFO, -2), EINVAL);
	EXPECT_EQ(set(self, SCHED_OTHER, 5), EINVAL);
	EXPECT_EQ(set(self, LWP_SCHED_NONE, 5), EINVAL) << "time-sharing as it is";
	EXPECT_EQ(set(0, LWP_SCHED_NONE, 5), EINVAL);
	EXPECT_EQ(error_of(_sched_setparam(::getpid() + 1, self, SCHED_OTHER, &none)), ESRCH);
	EXPECT_EQ(error_of(_sched_getparam(::getpid() + 1, self, nullptr, nullptr)), ESRCH);
}

TEST(Sched, NobodyIsNotFoundNorIsAZombie) {
	EXPECT_EQ(set(nobody, SCHED_FIFO, 1), ESRCH);
	EXPECT_EQ(set(-1, SCHED_FIFO, 1), ESRCH);
	EXPECT_EQ(error_of(_sched_getparam(0, nobody, nullptr, nullptr)), ESRCH);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(set(zombie, SCHED_FIFO, 1), ESRCH);
	EXPECT_EQ(error_of(_sched_getparam(0, zombie, nullptr, nullptr)), ESRCH);
	collect(zombie);
}

TEST(Sched, AllAreSetAtOnce) {
	gate leave;
	const lwpid_t a = spawn([&] { leave.pass(); });
	const lwpid_t b = spawn([&] { leave.pass(); }, LWP_SUSPENDED);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(set(0, SCHED_RR, 5), 0);
	for (lwpid_t lid : {a, b, _lwp_self()}) {
		EXPECT_EQ(get(lid), std::pair(SCHED_RR, 5));
	}
	EXPECT_EQ(set(0, SCHED_OTHER, LWP_PRI_NONE), 0);
	EXPECT_EQ(get(b).first, SCHED_OTHER);
	leave.open();
	EXPECT_EQ(error_of(_lwp_continue(b)), 0);
	collect(a);
	collect(b);
	collect(zombie);
}

TEST(Sched, AQueuedOneMovesInItsQueue) {
	direct([] {
		std::string order;
		lwp::thread a = actor(10, [&] { order += 'a'; });
		lwp::thread b = actor(10, [&] { order += 'b'; });
		lwp::thread c = actor(20, [&] { order += 'c'; });
		EXPECT_EQ(set(b.native_handle(), SCHED_RR, 30), 0);
		EXPECT_EQ(set(c.native_handle(), LWP_SCHED_NONE, 10), 0) << "behind its equals";
		EXPECT_TRUE(order.empty());
		a.join();
		b.join();
		c.join();
		EXPECT_EQ(order, "bac");
	});
}

TEST(Sched, ASleeperMovesInItsQueue) {
	direct([] {
		std::string order;
		lwp::mutex m;
		m.lock();
		std::vector<lwp::thread> waiting;
		for (char name : {'a', 'b', 'c'}) {
			gate about;
			waiting.push_back(actor(10, [&, name] {
				about.open();
				m.lock();
				order += name;
				m.unlock();
			}));
			ASSERT_TRUE(nap_until([&] { return about.is_open(); }));
		}
		EXPECT_EQ(set(waiting[2].native_handle(), LWP_SCHED_NONE, 30), 0);
		EXPECT_EQ(set(waiting[0].native_handle(), LWP_SCHED_NONE, 5), 0);
		m.unlock();
		for (lwp::thread &t : waiting) {
			t.join();
		}
		EXPECT_EQ(order, "cba");
	});
}

TEST(Sched, OneThatLowersItselfGivesWayAtOnce) {
	direct([] {
		bool ran = false;
		lwp::thread other = actor(10, [&] { ran = true; });
		EXPECT_FALSE(ran);
		EXPECT_EQ(set(_lwp_self(), LWP_SCHED_NONE, 5), 0);
		EXPECT_TRUE(ran);
		other.join();
	});
}

TEST(Sched, OneThatIsRaisedRunsAtOnce) {
	direct([] {
		bool ran = false;
		EXPECT_EQ(set(_lwp_self(), LWP_SCHED_NONE, 20), 0);
		lwp::thread other = actor(10, [&] { ran = true; });
		EXPECT_EQ(set(other.native_handle(), LWP_SCHED_NONE, 30), 0);
		EXPECT_TRUE(ran);
		other.join();
	});
}

TEST(Sched, ASuspendedOneAndAParkedOneRunWithTheNewPriority) {
	direct([] {
		std::string order;
		const auto say = [&](char name) { order += name; };
		lwp::thread queued = actor(10, [&] { say('q'); });
		const lwpid_t suspended = spawn([&] { say('s'); }, LWP_SUSPENDED);
		EXPECT_EQ(set(suspended, SCHED_FIFO, 20), 0);
		subject parked([&](subject &s) {
			s.park_once();
			say('p');
		});
		ASSERT_TRUE(nap_until([&] { return parked.blocked(); }));
		EXPECT_EQ(order, "q");
		order.clear();
		lwp::thread again = actor(10, [&] { say('q'); });
		EXPECT_EQ(set(parked.lid(), SCHED_RR, 15), 0);
		EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
		EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
		collect(suspended);
		collect(parked.lid());
		again.join();
		queued.join();
		EXPECT_EQ(order, "spq");
	});
}

TEST(Sched, ProtectionsNestAndAreTakenBackOneByOne) {
	direct([] {
		EXPECT_EQ(set(_lwp_self(), LWP_SCHED_NONE, 5), 0);
		EXPECT_EQ(error_of(_sched_protect(-2)), ENOENT);
		EXPECT_EQ(error_of(_sched_protect(-1)), EINVAL);
		EXPECT_EQ(error_of(_sched_protect(64)), EPERM);
		EXPECT_EQ(error_of(_sched_protect(-3)), EPERM);
		EXPECT_EQ(error_of(_sched_protect(20)), 0);
		EXPECT_EQ(_sched_protect(-2), 20);
		EXPECT_EQ(error_of(_sched_protect(10)), 0);
		EXPECT_EQ(_sched_protect(-2), 20) << "the best of them";
		bool ran = false;
		lwp::thread other = actor(15, [&] { ran = true; });
		EXPECT_EQ(error_of(_sched_protect(-1)), 0);
		EXPECT_FALSE(ran);
		EXPECT_EQ(get(0), std::pair(SCHED_FIFO, 5)) << "what it was given";
		EXPECT_EQ(error_of(_sched_protect(-1)), 0);
		EXPECT_TRUE(ran) << "no longer protected: it has given way";
		EXPECT_EQ(error_of(_sched_protect(-2)), ENOENT);
		other.join();
	});
}

// One that ends protected leaves nothing to whoever is made of it.
TEST(Sched, NothingIsInheritedOfAProtection) {
	const auto given = get(0);
	lwp::thread([] {
		EXPECT_EQ(error_of(_sched_protect(20)), 0);
		lwp::thread([] { EXPECT_EQ(error_of(_sched_protect(-2)), ENOENT); }).join();
	}).join();
	lwp::thread([given] {
		EXPECT_EQ(error_of(_sched_protect(-2)), ENOENT);
		EXPECT_EQ(get(0), given);
	}).join();
}
