// SPDX-License-Identifier: BSD-2-Clause
//
// Credentials: the object and its count, who works with which from when on, and every EPERM that one gives.
// vcpus: 1 2 8
#include <lwp/credential.hpp>
#include <lwp/pset.h>
#include <lwp/sched.h>

#include "../support/cases.h"
#include "../support/support.h"

#include <unistd.h>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

constexpr std::uint32_t but_sched = LWP_PRIV_ALL & ~LWP_PRIV_SCHED;

int set(lwpid_t lid, int policy, int priority) {
	const sched_param p{.sched_priority = priority};
	return error_of(_sched_setparam(0, lid, policy, &p));
}

/// While it lives the proc has another credential; LWP_PRIV_SETCRED it keeps, to go back.
class under {
public:
	explicit under(const lwp::credential::settings &s) { lwp::credential(s).publish(); }
	~under() { before_.publish(); }
	under(const under &) = delete;
	under &operator=(const under &) = delete;

private:
	lwp::credential before_;
};

void count(void *n) { static_cast<std::atomic<int> *>(n)->fetch_add(1); }

bool run(const char *name) {
	if (std::string(name) != "give up") {
		return false;
	}
	// For good, so in a process of its own.
	const uid_t uid = lwp::credential().uid();
	lwp::credential({.uid = uid, .privileges = LWP_PRIV_AFFINITY | LWP_PRIV_USER(1)}).publish();
	const auto refused = [](const lwp::credential::settings &s) {
		return error_of(lwp_proc_setcred(lwp::credential(s).native_handle())) == EPERM;
	};
	bool right = refused({.uid = uid, .privileges = LWP_PRIV_SCHED}) && refused({.uid = uid + 1}) &&
	    refused({.uid = uid, .privileges = LWP_PRIV_ALL});
	const lwp::credential less({.uid = uid, .privileges = LWP_PRIV_USER(1)});
	right = right && error_of(lwp_proc_setcred(less.native_handle())) == 0 && lwp::credential() == less;
	right = right && refused({.uid = uid, .privileges = LWP_PRIV_AFFINITY});
	std::exit(right ? 0 : 1);
}

const bool cases = offer_cases(run);

}  // namespace

TEST(Kauth, AProcessBeginsWithEveryPrivilegeOfItsUser) {
	const lwp::credential first;
	EXPECT_EQ(first.uid(), ::getuid());
	EXPECT_EQ(first.privileges(), LWP_PRIV_ALL);
	EXPECT_EQ(first.data(), nullptr);
	EXPECT_EQ(error_of(kauth_authorize(LWP_PRIV_ALL)), 0);
	kauth_cred_t cr = kauth_cred_get();
	kauth_cred_hold(cr);
	kauth_cred_free(cr);
	EXPECT_EQ(kauth_cred_getrefcnt(cr), 1U);
}

TEST(Kauth, ItIsCountedAndGoesWithItsLastReference) {
	std::atomic<int> destroyed{0};
	kauth_cred_t cr = kauth_cred_alloc();
	ASSERT_NE(cr, nullptr);
	EXPECT_EQ(kauth_cred_getrefcnt(cr), 1U);
	EXPECT_EQ(kauth_cred_getuid(cr), 0U);
	EXPECT_EQ(kauth_cred_getprivs(cr), 0U);
	EXPECT_EQ(error_of(kauth_cred_setdata(cr, &destroyed, count)), 0);
	EXPECT_EQ(kauth_cred_getdata(cr), &destroyed);
	kauth_cred_hold(cr);
	EXPECT_EQ(kauth_cred_getrefcnt(cr), 2U);
	kauth_cred_free(cr);
	EXPECT_EQ(destroyed.load(), 0);
	EXPECT_EQ(error_of(kauth_cred_setdata(cr, nullptr, nullptr)), 0) << "nobody else has it any more";
	EXPECT_EQ(destroyed.load(), 1) << "what was there before";
	EXPECT_EQ(error_of(kauth_cred_setdata(cr, &destroyed, count)), 0);
	kauth_cred_free(cr);
	EXPECT_EQ(destroyed.load(), 2);
	kauth_cred_free(nullptr);
}

TEST(Kauth, ItDoesNotChangeOnceAnotherHasIt) {
	kauth_cred_t cr = kauth_cred_alloc();
	EXPECT_EQ(error_of(kauth_cred_setuid(cr, 7)), 0);
	EXPECT_EQ(error_of(kauth_cred_setprivs(cr, LWP_PRIV_SETCRED | LWP_PRIV_USER(15))), 0);
	kauth_cred_hold(cr);
	EXPECT_EQ(error_of(kauth_cred_setuid(cr, 8)), EBUSY);
	EXPECT_EQ(error_of(kauth_cred_setprivs(cr, 0)), EBUSY);
	EXPECT_EQ(error_of(kauth_cred_setdata(cr, cr, nullptr)), EBUSY);
	kauth_cred_free(cr);
	kauth_cred_t other = kauth_cred_dup(cr);
	EXPECT_EQ(kauth_cred_getuid(other), 7U);
	EXPECT_EQ(kauth_cred_getprivs(other), LWP_PRIV_SETCRED | LWP_PRIV_USER(15));
	EXPECT_EQ(error_of(kauth_cred_setuid(other, 9)), 0);
	EXPECT_EQ(kauth_cred_getuid(cr), 7U);
	// One that was the proc's stays as it is, though the caller has the only reference again.
	const lwp::credential before;
	EXPECT_EQ(error_of(lwp_proc_setcred(other)), 0);
	before.publish();
	EXPECT_EQ(kauth_cred_getrefcnt(other), 1U);
	EXPECT_EQ(error_of(kauth_cred_setuid(other, 1)), EBUSY);
	kauth_cred_free(cr);
	kauth_cred_free(other);
	EXPECT_EQ(error_of(kauth_cred_setuid(kauth_cred_get(), 1)), EBUSY);
}

TEST(Kauth, WhatIsPublishedIsTheCallersAtOnce) {
	const lwp::credential next({.uid = 4711, .privileges = LWP_PRIV_SETCRED});
	const lwp::credential before;
	next.publish();
	EXPECT_EQ(lwp::credential(), next);
	EXPECT_EQ(lwp::credential().uid(), 4711U);
	EXPECT_EQ(error_of(kauth_authorize(LWP_PRIV_SETCRED)), 0);
	EXPECT_EQ(error_of(kauth_authorize(LWP_PRIV_SETCRED | LWP_PRIV_USER(0))), EPERM);
	before.publish();
	EXPECT_EQ(lwp::credential(), before);
	EXPECT_EQ(kauth_cred_getrefcnt(next.native_handle()), 1U) << "the proc and the caller have given it back";
	EXPECT_EQ(error_of(lwp_proc_setcred(nullptr)), EINVAL);
}

// By state: who runs, who is parked, who is suspended, who is not made yet.  Nobody's sleep ends by it.
TEST(Kauth, EveryLwpTakesItWhereItsNextCallReturns) {
	std::atomic<int> destroyed{0};
	gate go;
	std::atomic<uid_t> runs{0};
	std::atomic<uid_t> parks{0};
	std::atomic<uid_t> waits{0};
	const lwpid_t runner = spawn([&] {
		go.pass();
		runs = kauth_cred_getuid(kauth_cred_get());
	});
	subject parked([&](subject &s) {
		s.park_once();
		parks = kauth_cred_getuid(kauth_cred_get());
	});
	const lwpid_t suspended = spawn([&] { waits = kauth_cred_getuid(kauth_cred_get()); }, LWP_SUSPENDED);
	parked.await_blocked();
	{
		const under other({.uid = 12, .privileges = LWP_PRIV_ALL, .data = &destroyed, .destroy = count});
		const lwpid_t born = spawn([&] { EXPECT_EQ(kauth_cred_getuid(kauth_cred_get()), 12U); });
		collect(born);
		EXPECT_TRUE(parked.blocked());
		EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
		EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
		go.open();
		collect(runner);
		collect(parked.lid());
		collect(suspended);
		EXPECT_EQ(destroyed.load(), 0);
	}
	EXPECT_EQ(parked.result(), 0);
	EXPECT_EQ(runs.load(), 12U);
	EXPECT_EQ(parks.load(), 12U);
	EXPECT_EQ(waits.load(), 12U);
	EXPECT_EQ(destroyed.load(), 1) << "the last to let go was the caller";
}

// Whoever lets go of the last reference destroys it, with no lock held: what destroys it may block.
TEST(Kauth, TheLastOneDestroysItAndMayBlock) {
	static std::atomic<lwpid_t> destroyed_by;
	destroyed_by = 0;
	int data = 0;
	const lwp::credential before;
	lwp::credential({.uid = 1,
	                    .privileges = LWP_PRIV_ALL,
	                    .data = &data,
	                    .destroy =
	                        [](void *) {
		                        lwp_yield();
		                        destroyed_by = _lwp_self();
	                        }})
	    .publish();
	const lwpid_t keeper = spawn([] {}, LWP_SUSPENDED);  // born with it
	before.publish();
	EXPECT_EQ(destroyed_by.load(), 0);
	EXPECT_EQ(error_of(_lwp_continue(keeper)), 0);
	collect(keeper);
	EXPECT_EQ(destroyed_by.load(), keeper);
}

TEST(Kauth, SetparamAsksForAPrivilege) {
	// They sleep: a real-time one that yields leaves nothing to us.
	const lwpid_t ts = spawn([] { (void)park(); });
	const lwpid_t rt = spawn([] { (void)park(); });
	ASSERT_EQ(set(rt, SCHED_FIFO, 10), 0);
	{
		const under other({.privileges = but_sched});
		EXPECT_EQ(set(ts, SCHED_FIFO, LWP_PRI_NONE), EPERM);
		EXPECT_EQ(set(ts, SCHED_RR, 0), EPERM);
		EXPECT_EQ(set(ts, SCHED_OTHER, LWP_PRI_NONE), 0) << "what it has";
		EXPECT_EQ(set(rt, SCHED_RR, LWP_PRI_NONE), EPERM) << "another real-time class";
		EXPECT_EQ(set(rt, SCHED_FIFO, 11), EPERM);
		EXPECT_EQ(set(rt, LWP_SCHED_NONE, 11), EPERM);
		EXPECT_EQ(set(rt, SCHED_FIFO, 9), 0) << "less than it had";
		EXPECT_EQ(set(rt, LWP_SCHED_NONE, 10), EPERM) << "there is no way back";
		EXPECT_EQ(set(0, SCHED_FIFO, 3), EPERM) << "all or none";
		EXPECT_EQ(set(0, LWP_SCHED_NONE, 3), EINVAL) << "malformed first";
		EXPECT_EQ(set(nobody, SCHED_FIFO, 3), ESRCH);
		EXPECT_EQ(set(ts, SCHED_FIFO, 99), EINVAL);
		int policy = -1;
		sched_param p{-1};
		EXPECT_EQ(error_of(_sched_getparam(0, rt, &policy, &p)), 0);
		EXPECT_EQ(std::pair(policy, p.sched_priority), std::pair(SCHED_FIFO, 9));
		EXPECT_EQ(set(rt, SCHED_OTHER, LWP_PRI_NONE), 0);
		EXPECT_EQ(set(rt, SCHED_FIFO, LWP_PRI_NONE), EPERM);
		EXPECT_EQ(set(0, SCHED_OTHER, LWP_PRI_NONE), 0);
	}
	EXPECT_EQ(set(ts, SCHED_FIFO, 1), 0);
	for (lwpid_t lid : {ts, rt}) {
		EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), 0);
	}
	collect(ts);
	collect(rt);
}

TEST(Kauth, AffinityAsksForAPrivilege) {
	psetid_t mine = 0;
	ASSERT_EQ(error_of(pset_create(&mine)), 0);
	{
		const under other({.privileges = LWP_PRIV_ALL & ~LWP_PRIV_AFFINITY});
		const cpuset_t none{};
		psetid_t id = 0;
		EXPECT_EQ(error_of(_sched_setaffinity(0, _lwp_self(), cpuset_size(&none), &none)), EPERM);
		EXPECT_EQ(error_of(pset_create(&id)), EPERM);
		EXPECT_EQ(error_of(pset_create(nullptr)), EINVAL) << "malformed first";
		EXPECT_EQ(error_of(pset_destroy(mine)), EPERM);
		EXPECT_EQ(error_of(pset_assign(mine, 0, nullptr)), EPERM);
		EXPECT_EQ(error_of(pset_assign(PS_QUERY, 0, &id)), 0);
		EXPECT_EQ(id, PS_NONE);
		EXPECT_EQ(error_of(pset_bind(PS_NONE, P_LWPID, static_cast<id_t>(_lwp_self()), nullptr)), EPERM);
		EXPECT_EQ(error_of(pset_bind(PS_QUERY, P_LWPID, static_cast<id_t>(_lwp_self()), &id)), 0);
	}
	EXPECT_EQ(error_of(pset_destroy(mine)), 0);
}

TEST(Kauth, ProtectionAsksForAPrivilege) {
	lwp::thread([] {
		EXPECT_EQ(set(_lwp_self(), SCHED_FIFO, 20), 0);
		{
			const under other({.privileges = but_sched});
			EXPECT_EQ(error_of(_sched_protect(21)), EPERM);
			EXPECT_EQ(error_of(_sched_protect(-2)), ENOENT) << "nothing is left of it";
			EXPECT_EQ(error_of(_sched_protect(20)), 0);
			EXPECT_EQ(error_of(_sched_protect(-1)), 0);
		}
		EXPECT_EQ(error_of(_sched_protect(21)), 0);
		EXPECT_EQ(error_of(_sched_protect(-1)), 0);
	}).join();
}

TEST(Kauth, NewOnesGetNoMoreThanTheirCreatorMayGive) {
	const auto made = [](const lwp::attributes &a) {
		try {
			lwp::thread(a, [] {}).join();
			return 0;
		} catch (const std::system_error &e) {
			return e.code().value();
		}
	};
	{
		const under other({.privileges = LWP_PRIV_SETCRED});
		EXPECT_EQ(made({}), 0);
		EXPECT_EQ(made({.policy = lwp::sched_policy::fifo}), EPERM);
		EXPECT_EQ(made({.policy = lwp::sched_policy::rr}), EPERM);
		EXPECT_EQ(made({.priority = 63}), EPERM);
		EXPECT_EQ(made({.priority = 64}), EINVAL);
		EXPECT_EQ(made({.priority = 0}), 0) << "less";
		EXPECT_EQ(made({.vcpu = 0}), EPERM);
		EXPECT_EQ(made({.vcpu = 100000}), EINVAL);
	}
	EXPECT_EQ(made({.priority = 63, .vcpu = 0, .policy = lwp::sched_policy::fifo}), 0);
}

// Whoever knows that a credential was published is judged by it, though it has passed no boundary since.
TEST(Kauth, WhoKnowsOfItIsJudgedByIt) {
	gate ready;
	gate published;
	std::atomic<int> error{-1};
	const lwp::credential before;
	lwp::thread judged([&] {
		ready.open();
		if (lwp::runtime::vcpus() == 1) {
			published.pass();
		} else {
			while (!published.is_open()) {  // no call of the library, so no boundary
			}
		}
		error = error_of(kauth_authorize(LWP_PRIV_USER(3)));
	});
	ready.pass();
	lwp::credential({.privileges = LWP_PRIV_SETCRED}).publish();
	published.open();
	judged.join();
	before.publish();
	EXPECT_EQ(error.load(), EPERM);
}

// Many publish, many ask, many are born and end: each credential is destroyed once, and none that somebody has.
TEST(Kauth, Storm) {
	constexpr int most = 64;
	struct alive {
		std::atomic<bool> there{true};
	};
	static std::vector<alive> objects(4096);
	for (alive &a : objects) {
		a.there = true;
	}
	std::atomic<std::size_t> next{0};
	std::atomic<std::size_t> gone{0};
	static std::atomic<std::size_t> *destroyed;
	destroyed = &gone;
	std::atomic<bool> wrong{false};
	const lwp::credential before;
	const auto use = [&] {
		const lwp::credential mine;
		const auto *a = static_cast<alive *>(mine.data());
		if (a != nullptr && !a->there.load()) {
			wrong = true;
		}
	};
	std::vector<lwp::thread> all;
	for (int i = 0; i < most; i++) {
		all.emplace_back([&, i] {
			for (std::size_t k = rounds(20); k-- > 0;) {
				if (i % 8 == 0) {
					const std::size_t n = next.fetch_add(1);
					if (n < objects.size()) {
						lwp::credential({.privileges = LWP_PRIV_ALL,
						                    .data = &objects[n],
						                    .destroy =
						                        [](void *p) {
							                        static_cast<alive *>(p)->there = false;
							                        destroyed->fetch_add(1);
						                        }})
						    .publish();
					}
				} else if (i % 8 == 1) {
					lwp::thread(use).join();
				}
				use();
				lwp_yield();
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	before.publish();
	EXPECT_FALSE(wrong.load());
	EXPECT_EQ(gone.load(), std::min(next.load(), objects.size()));
}

TEST(Kauth, WhatIsGivenUpCannotBeTakenBack) {
	const outcome o = run_case("give up", {});
	EXPECT_TRUE(o.ended_well()) << o.text;
}
