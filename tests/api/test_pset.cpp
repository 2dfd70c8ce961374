// SPDX-License-Identifier: BSD-2-Clause
//
// Processor sets: every error of every call, and that nobody is where it may not be.
// vcpus: 1 2 8
#include <lwp/affinity.hpp>

#include "../support/support.h"

#include <memory>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

unsigned vcpus() { return lwp::runtime::vcpus(); }
unsigned last() { return vcpus() - 1; }

__attribute__((noinline)) unsigned here() {
	lwpctl_t *block = nullptr;
	(void)_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block);
	return static_cast<unsigned>(vcpu_of(block));
}

int set_affinity(lwpid_t lid, const lwp::vcpu_set &s) { return error_of(_sched_setaffinity(0, lid, sizeof(cpuset_t), &s.native())); }

psetid_t pset_of(lwpid_t lid) {
	psetid_t id = -7;
	EXPECT_EQ(error_of(pset_bind(PS_QUERY, P_LWPID, static_cast<id_t>(lid), &id)), 0);
	return id;
}

psetid_t pset_of_vcpu(unsigned vcpu) {
	psetid_t id = -7;
	EXPECT_EQ(error_of(pset_assign(PS_QUERY, vcpu, &id)), 0);
	return id;
}

int bind_lwp(psetid_t psid, lwpid_t lid) { return error_of(pset_bind(psid, P_LWPID, static_cast<id_t>(lid), nullptr)); }

template <class Predicate>
bool compute_until(Predicate ready) {
	const auto end = std::chrono::steady_clock::now() + 60s;
	while (!ready()) {
		if (std::chrono::steady_clock::now() > end) {
			return false;
		}
	}
	return true;
}

}  // namespace

TEST(Pset, IdsAreTheLowestFree) {
	psetid_t a;
	psetid_t b;
	psetid_t c;
	ASSERT_EQ(error_of(pset_create(&a)), 0);
	ASSERT_EQ(error_of(pset_create(&b)), 0);
	EXPECT_EQ(a, 1);
	EXPECT_EQ(b, 2);
	EXPECT_EQ(error_of(pset_destroy(a)), 0);
	ASSERT_EQ(error_of(pset_create(&c)), 0);
	EXPECT_EQ(c, a);
	EXPECT_EQ(error_of(pset_destroy(b)), 0);
	EXPECT_EQ(error_of(pset_destroy(c)), 0);
	EXPECT_EQ(error_of(pset_destroy(c)), EINVAL);
}

TEST(Pset, ThereAreAsManyAsThereCanBeVcpus) {
	std::vector<psetid_t> all(LWP_VCPU_MAX);
	for (psetid_t &id : all) {
		ASSERT_EQ(error_of(pset_create(&id)), 0);
	}
	psetid_t more;
	EXPECT_EQ(error_of(pset_create(&more)), ENOMEM);
	for (psetid_t id : all) {
		EXPECT_EQ(error_of(pset_destroy(id)), 0);
	}
}

TEST(Pset, BadArgumentsAreRefused) {
	EXPECT_EQ(error_of(pset_create(nullptr)), EINVAL);
	for (psetid_t id : {PS_NONE, PS_MYID, PS_QUERY, 1, LWP_VCPU_MAX + 1, INT32_MAX, INT32_MIN}) {
		EXPECT_EQ(error_of(pset_destroy(id)), EINVAL) << id;
	}
	for (psetid_t id : {-3, 1, LWP_VCPU_MAX + 1, INT32_MAX, INT32_MIN}) {
		EXPECT_EQ(error_of(pset_assign(id, 0, nullptr)), EINVAL) << id;
		EXPECT_EQ(bind_lwp(id, _lwp_self()), EINVAL) << id;
	}
	for (cpuid_t v : {cpuid_t{vcpus()}, cpuid_t{LWP_VCPU_MAX}, ~cpuid_t{0}}) {
		EXPECT_EQ(error_of(pset_assign(PS_NONE, v, nullptr)), EINVAL);
		EXPECT_EQ(error_of(pset_assign(PS_QUERY, v, nullptr)), EINVAL);
	}
	EXPECT_EQ(error_of(pset_bind(PS_NONE, 7, 0, nullptr)), EINVAL);
	EXPECT_EQ(error_of(pset_bind(PS_NONE, P_PID, static_cast<id_t>(::getpid() + 1), nullptr)), ESRCH);
	const lwpid_t zombie = make_zombie();
	for (lwpid_t lid : {nobody, zombie, lwpid_t{0}}) {
		EXPECT_EQ(bind_lwp(PS_NONE, lid), ESRCH);
		EXPECT_EQ(bind_lwp(PS_QUERY, lid), ESRCH);
	}
	collect(zombie);
}

TEST(Pset, TheDefaultSetIsNeverEmpty) {
	const lwp::processor_set s;
	for (unsigned v = 1; v < vcpus(); v++) {
		EXPECT_EQ(error_of(pset_assign(s.native_handle(), v, nullptr)), 0);
	}
	EXPECT_EQ(error_of(pset_assign(s.native_handle(), 0, nullptr)), EBUSY);
	EXPECT_EQ(pset_of_vcpu(0), PS_NONE);
	EXPECT_EQ(here(), 0U) << "there is no other left for us";
	psetid_t was = -7;
	EXPECT_EQ(error_of(pset_assign(PS_NONE, 0, &was)), 0) << "where it is already";
	EXPECT_EQ(was, PS_NONE);
}

TEST(Pset, ASetWithoutVcpusTakesNobody) {
	const lwp::processor_set s;
	EXPECT_EQ(bind_lwp(s.native_handle(), _lwp_self()), EBUSY);
	EXPECT_EQ(error_of(pset_bind(s.native_handle(), P_PID, 0, nullptr)), EBUSY);
	EXPECT_EQ(pset_of(_lwp_self()), PS_NONE);
	EXPECT_TRUE(s.vcpus().empty());
}

TEST(Pset, ASetWithLwpsKeepsAVcpu) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "a set needs a vCPU beside that of the default one";
	}
	lwp::processor_set s({last()});
	lwp::thread([&] {
		s.bind(_lwp_self());
		EXPECT_EQ(here(), last()) << "the caller has moved";
		EXPECT_EQ(error_of(pset_assign(PS_NONE, last(), nullptr)), EBUSY);
		EXPECT_EQ(pset_of(_lwp_self()), s.native_handle());
		psetid_t was = -7;
		EXPECT_EQ(error_of(pset_bind(PS_NONE, P_LWPID, P_MYID, &was)), 0);
		EXPECT_EQ(was, s.native_handle());
		EXPECT_NE(here(), last());
		EXPECT_EQ(error_of(pset_assign(PS_NONE, last(), &was)), 0);
		EXPECT_EQ(was, s.native_handle());
	}).join();
}

// Neither gets what the other has: an affinity to a vCPU of a set, a vCPU that an LWP has an affinity to.
TEST(Pset, SetsAndAffinitiesKeepApart) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "a set needs a vCPU beside that of the default one";
	}
	lwp::processor_set s;
	gate leave;
	const lwpid_t one = spawn([&] { leave.pass(); });
	EXPECT_EQ(set_affinity(one, {last()}), 0);
	EXPECT_EQ(error_of(pset_assign(s.native_handle(), last(), nullptr)), EPERM);
	EXPECT_EQ(set_affinity(one, {0, last()}), 0);
	EXPECT_EQ(error_of(pset_assign(s.native_handle(), last(), nullptr)), EPERM);
	EXPECT_EQ(set_affinity(one, {0}), 0);
	EXPECT_EQ(error_of(pset_assign(s.native_handle(), last(), nullptr)), 0);
	EXPECT_EQ(set_affinity(one, {last()}), EPERM);
	EXPECT_EQ(set_affinity(one, {0, last()}), EPERM);
	EXPECT_EQ(set_affinity(0, {last()}), EPERM);
	int thrown = 0;
	try {
		lwp::thread({.vcpu = static_cast<int>(last())}, [] {}).join();
	} catch (const std::system_error &e) {
		thrown = e.code().value();
	}
	EXPECT_EQ(thrown, EPERM) << "an attribute is an affinity";
	// One that has an affinity is bound to a set all the same, and goes there when that is taken back.
	EXPECT_EQ(bind_lwp(s.native_handle(), one), 0);
	EXPECT_EQ(lwp::affinity(one), lwp::vcpu_set{0});
	lwp::thread([&] {
		lwp::this_thread::affinity({0});
		s.bind(_lwp_self());
		EXPECT_EQ(here(), 0U);
		lwp::this_thread::affinity({});
		EXPECT_EQ(here(), last());
	}).join();
	leave.open();
	collect(one);
}

TEST(Pset, KernelThreadsAreTheOssToPlace) {
	lwp::processor_set s;
	std::thread([&] { EXPECT_EQ(bind_lwp(PS_NONE, _lwp_self()), EPERM); }).join();
	if (vcpus() == 1) {
		return;
	}
	s.assign(last());
	std::atomic<lwpid_t> lid{0};
	gate leave;
	std::thread outside([&] {
		lid = _lwp_self();
		while (!leave.is_open()) {
			std::this_thread::yield();
		}
	});
	ASSERT_TRUE(wait_until([&] { return lid.load() != 0; }));
	EXPECT_EQ(bind_lwp(s.native_handle(), lid), EPERM);
	EXPECT_EQ(error_of(pset_bind(s.native_handle(), P_PID, P_MYID, nullptr)), 0);
	EXPECT_EQ(pset_of(lid), PS_NONE);
	EXPECT_EQ(pset_of(_lwp_self()), s.native_handle());
	EXPECT_EQ(here(), last());
	leave.open();
	outside.join();
	EXPECT_EQ(error_of(pset_bind(PS_NONE, P_PID, static_cast<id_t>(::getpid()), nullptr)), 0);
	EXPECT_EQ(pset_of(_lwp_self()), PS_NONE);
}

// Queued, running, asleep and suspended ones leave a vCPU that becomes one of a set; when the set is gone they may be there again.
TEST(Pset, AVcpuThatIsAssignedIsLeftByOthers) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "a set needs a vCPU beside that of the default one";
	}
	std::atomic<bool> assigned{false};
	std::atomic<std::size_t> strayed{0};
	std::atomic<unsigned> runs{0};
	std::vector<lwp::thread> all;
	for (unsigned i = 0; i < 3 * vcpus(); i++) {
		all.emplace_back([&, i] {
			for (bool seen = false; !seen; runs++) {
				seen = assigned.load();
				i % 2 == 0 ? (void)lwp_yield() : (void)park_for(50us);
				strayed += seen && here() == last() ? 1U : 0U;
			}
		});
	}
	ASSERT_TRUE(wait_until([&] { return runs >= 10 * vcpus(); }));
	{
		lwp::processor_set s;
		s.assign(last());
		assigned = true;
		for (lwp::thread &t : all) {
			t.join();
		}
		EXPECT_EQ(strayed, 0U);
		EXPECT_EQ(pset_of_vcpu(last()), s.native_handle());
	}
	EXPECT_EQ(pset_of_vcpu(last()), PS_NONE);
	lwp::thread({.vcpu = static_cast<int>(last())}, [] { EXPECT_EQ(here(), last()); }).join();
}

TEST(Pset, ASetRunsItsOwnAndWhatThoseMake) {
	if (vcpus() == 1) {
		GTEST_SKIP() << "a set needs a vCPU beside that of the default one";
	}
	const lwp::vcpu_set mine = lwp::vcpu_set::range(vcpus() / 2, vcpus());
	lwp::processor_set s(mine);
	EXPECT_EQ(s.vcpus(), mine);
	std::atomic<std::size_t> strayed{0};
	const auto check = [&strayed, mine](bool inside) { strayed += mine.contains(here()) == inside ? 0U : 1U; };
	std::function<void(unsigned, bool)> tree = [&](unsigned depth, bool inside) {
		check(inside);
		if (depth != 0) {
			lwp::thread l([&] { tree(depth - 1, inside); });
			lwp::thread r([&] { tree(depth - 1, inside); });
			(void)park_for(10us);
			check(inside);
			l.join();
			r.join();
			check(inside);
		}
	};
	lwp::thread in([&] {
		s.bind(_lwp_self());
		tree(6, true);
		EXPECT_EQ(pset_of(_lwp_self()), s.native_handle());
	});
	lwp::thread out([&] { tree(6, false); });
	in.join();
	out.join();
	EXPECT_EQ(strayed, 0U);
}

// As many as the set has vCPUs compute until all of them do: what is queued behind one is taken by another one of the set, and by no other.
TEST(Pset, ASetIsBalanced) {
	if (vcpus() < 3) {
		GTEST_SKIP() << "it takes two vCPUs beside that of the default set";
	}
	for (unsigned round = 0; round < 5; round++) {
		const lwp::vcpu_set mine = lwp::vcpu_set::range(vcpus() - 3, vcpus());
		lwp::processor_set s(mine);
		std::atomic<unsigned> computing{0};
		std::atomic<std::size_t> strayed{0};
		lwp::thread([&] {
			s.bind(_lwp_self());
			std::vector<lwp::thread> all;
			for (unsigned i = 0; i < 3; i++) {
				all.emplace_back([&] {
					computing++;
					EXPECT_TRUE(compute_until([&] { return computing == 3; }));
					strayed += mine.contains(here()) ? 0U : 1U;
				});
			}
			for (lwp::thread &t : all) {
				t.join();
			}
		}).join();
		EXPECT_EQ(strayed, 0U);
	}
}

TEST(Pset, ADestroyedOneLeavesItsLwpsToTheDefaultSet) {
	gate leave;
	lwpid_t lid = 0;
	{
		lwp::processor_set s;
		if (vcpus() > 1) {
			s.assign(last());
		}
		lid = spawn([&] { leave.pass(); });
		if (vcpus() > 1) {
			s.bind(lid);
			EXPECT_EQ(pset_of(lid), s.native_handle());
		}
	}
	EXPECT_EQ(pset_of(lid), PS_NONE);
	leave.open();
	collect(lid);
}

TEST(Pset, ObjectsThrow) {
	const auto error = [](auto fn) {
		try {
			fn();
		} catch (const std::system_error &e) {
			return e.code().value();
		}
		return 0;
	};
	lwp::processor_set s;
	EXPECT_EQ(error([&] { s.assign(vcpus()); }), EINVAL);
	EXPECT_EQ(error([&] { s.release(vcpus()); }), EINVAL);
	EXPECT_EQ(error([&] { s.release(0); }), EINVAL) << "it is of the default set";
	EXPECT_EQ(error([&] { s.bind(nobody); }), ESRCH);
	EXPECT_EQ(error([&] { s.bind(0); }), ESRCH);
	EXPECT_EQ(error([&] { s.bind(_lwp_self()); }), EBUSY);
	EXPECT_EQ(error([&] { lwp::processor_set::unbind(nobody); }), ESRCH);
	EXPECT_EQ(error([] { lwp::processor_set all(lwp::vcpu_set::range(0, vcpus())); }), EBUSY);
	psetid_t next;
	EXPECT_EQ(error_of(pset_create(&next)), 0);
	EXPECT_EQ(next, s.native_handle() + 1) << "the one that could not be made is gone";
	EXPECT_EQ(error_of(pset_destroy(next)), 0);
	for (unsigned v = 0; v < vcpus(); v++) {
		EXPECT_EQ(pset_of_vcpu(v), PS_NONE);
	}
}
