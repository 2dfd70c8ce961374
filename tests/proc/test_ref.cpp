// SPDX-License-Identifier: BSD-2-Clause
//
// References: who holds one keeps an LWP from ending, not from running.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// The LWP with this id and a reference to it, or null.
lwp_t *addref(lwpid_t lid) {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	lwp_t *l = lwp_find_any(&proc0, lid);
	return l != nullptr && lwp_addref(l) ? l : nullptr;
}

bool draining(lwpid_t lid) {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	const lwp_t *l = lwp_find_any(&proc0, lid);
	return l != nullptr && (l->l_prflag & LPR_DRAINING) != 0;
}

lwp_stat state_of(lwpid_t lid) {
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	const lwp_t *l = lwp_find_any(&proc0, lid);
	return l == nullptr ? lwp_stat::none : lwp_state(l);
}

}  // namespace

// Behaviour 30.
TEST(Reference, KeepsAnLwpFromEndingUntilItIsGivenBack) {
	for (const unsigned long flags : {0UL, LWP_DETACHED}) {
		std::atomic<bool> returned{false};
		subject s(
		    [&returned](subject &self) {
			    self.park_once();
			    returned = true;
		    },
		    flags);
		s.await_blocked();
		lwp_t *l = addref(s.lid());
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(lwp_unpark(curlwp(), s.lid()), 0);
		EXPECT_TRUE(wait_until([&] { return draining(s.lid()); }));
		EXPECT_TRUE(returned) << "a reference does not keep it from running";
		for (int i = 0; i < 100; i++) {
			lwp_yield();
		}
		EXPECT_NE(state_of(s.lid()), lwp_stat::zomb);
		EXPECT_NE(state_of(s.lid()), lwp_stat::none);
		EXPECT_EQ(lwp_lid(l), s.lid()) << "it is still that LWP";
		lwp_delref(&proc0, l);
		await_end(s.lid());
		if (flags == 0) {
			collect(s.lid());
		}
	}
}

TEST(Reference, AllOfThemHaveToBeGivenBack) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	std::vector<lwp_t *> refs;
	for (int i = 0; i < 5; i++) {
		refs.push_back(addref(s.lid()));
		ASSERT_NE(refs.back(), nullptr);
	}
	EXPECT_EQ(lwp_unpark(curlwp(), s.lid()), 0);
	EXPECT_TRUE(wait_until([&] { return draining(s.lid()); }));
	for (std::size_t i = 0; i < refs.size(); i++) {
		EXPECT_NE(state_of(s.lid()), lwp_stat::zomb) << refs.size() - i << " references are out";
		lwp_delref(&proc0, refs[i]);
		lwp_yield();
	}
	collect(s.lid());
}

TEST(Reference, GivenBackBeforeTheEndIsAsIfItHadNotBeen) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	lwp_t *l = addref(s.lid());
	ASSERT_NE(l, nullptr);
	lwp_delref(&proc0, l);
	EXPECT_EQ(lwp_unpark(curlwp(), s.lid()), 0);
	collect(s.lid());
}

// Quirk Q17: once an LWP drains its references there are no new ones, and asking for one is no error.
TEST(Reference, NewOneIsRefusedOnceTheLwpIsOnItsWayOut) {
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	lwp_t *l = addref(s.lid());
	ASSERT_NE(l, nullptr);
	EXPECT_EQ(lwp_unpark(curlwp(), s.lid()), 0);
	EXPECT_TRUE(wait_until([&] { return draining(s.lid()); }));
	EXPECT_EQ(addref(s.lid()), nullptr);
	lwp_delref(&proc0, l);
	await_end(s.lid());
	EXPECT_EQ(state_of(s.lid()), lwp_stat::zomb);
	EXPECT_EQ(addref(s.lid()), nullptr) << "nor to a zombie";
	collect(s.lid());
}

// A recycled struct begins with no reference and is not draining.
TEST(Reference, NextLifeOfTheStructHasItsOwn) {
	for (int life = 0; life < 10; life++) {
		subject s([](subject &self) { self.park_once(); });
		s.await_blocked();
		lwp_t *l = addref(s.lid());
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(l->l_refcnt, 2U);
		EXPECT_EQ(lwp_unpark(curlwp(), s.lid()), 0);
		lwp_delref(&proc0, l);
		collect(s.lid());
	}
}

// Inspectors take and give back references to LWPs that end under their eyes: what they hold is that LWP for as long as they hold it.
TEST(Reference, HeldByManyWhileTheLwpsEnd) {
	const std::size_t n = rounds(3000);
	std::atomic<lwpid_t> current{0};
	std::atomic<bool> stop{false};
	std::atomic<unsigned> held{0};
	std::atomic<unsigned> wrong{0};
	std::vector<lwpid_t> inspectors;
	for (int i = 0; i < 3; i++) {
		inspectors.push_back(spawn([&] {
			while (!stop) {
				const lwpid_t lid = current;
				if (lwp_t *l = addref(lid)) {
					held++;
					lwp_yield();
					wrong += lwp_lid(l) != lid || lwp_state(l) == lwp_stat::zomb || lwp_state(l) == lwp_stat::none;
					lwp_delref(&proc0, l);
				} else {
					lwp_yield();
				}
			}
		}));
	}
	for (std::size_t k = 0; k < n; k++) {
		const lwpid_t lid = spawn([] { lwp_yield(); });
		current = lid;
		collect(lid);
	}
	stop = true;
	for (const lwpid_t lid : inspectors) {
		collect(lid);
	}
	EXPECT_EQ(wrong, 0U);
	EXPECT_GT(held, 0U);
}
