// SPDX-License-Identifier: BSD-2-Clause
//
// The states of an LWP: NetBSD's names and numbers, which lock covers which, and all 49 pairs of states against a matrix written down
// here a second time, by hand, from NetBSD's text and not from the library's table.
#include "core/lwp_state.h"

#include "core/lwp_lock.h"
#include "core/lwp_pool.h"

#include "../support/support.h"

#include <array>
#include <set>
#include <string>

namespace {

using lwp::kern::lock_rank;
using lwp::kern::lock_rank_name;
using lwp::kern::lwp_edge_legal;
using lwp::kern::lwp_edge_reason;
using lwp::kern::lwp_lock_covers;
using lwp::kern::lwp_pool_get;
using lwp::kern::lwp_pool_put;
using lwp::kern::lwp_setstat;
using lwp::kern::lwp_stat;
using lwp::kern::lwp_stat_name;
using lwp::kern::lwp_state;
using lwp::kern::lwp_statreset;
using lwp::kern::lwp_t;
using lwp::kern::spinlock;

constexpr std::array<lwp_stat, 7> states = {
    lwp_stat::idl, lwp_stat::run, lwp_stat::onproc, lwp_stat::sleep, lwp_stat::stop, lwp_stat::suspended, lwp_stat::zomb};

// Row: from, column: to, both in the order of `states`.  An x is a transition that exists.
//
// NetBSD 1.73 has five more.  SLEEP, STOP and SUSPENDED to ONPROC: an LWP that was woken before it had switched away; here whoever wakes it
// needs the lock that is held until the switch is over.  SUSPENDED to SLEEP: an instant inside setrunnable().  ONPROC to ONPROC: a switch that
// picks itself; here it does not begin.  RUN to STOP or SUSPENDED and SLEEP to SUSPENDED are in its comment and in none of its code.
constexpr std::array<const char *, 7> matrix = {
    //            IDL RUN ONPROC SLEEP STOP SUSPENDED ZOMB
    /* IDL       */ ". x x . x x x",
    /* RUN       */ ". x x . . . .",
    /* ONPROC    */ "x x . x x x x",
    /* SLEEP     */ ". x . x x . .",
    /* STOP      */ ". x . x x . .",
    /* SUSPENDED */ ". x . . . x .",
    /* ZOMB      */ "x . . . . . .",
};

bool expected(std::size_t from, std::size_t to) { return matrix[from][2 * to] == 'x'; }

std::string pair(lwp_stat from, lwp_stat to) { return std::string(lwp_stat_name(from)) + " -> " + lwp_stat_name(to); }

// The locks of 1.73's list, by state.
std::set<lock_rank> covering(lwp_stat s) {
	switch (s) {
	case lwp_stat::idl:
	case lwp_stat::onproc:
	case lwp_stat::zomb:
		return {lock_rank::vcpu_lwp};
	case lwp_stat::run:
		return {lock_rank::run_queue, lock_rank::inbox};  // queued here, or on its way to another vCPU's queue
	case lwp_stat::sleep:
		return {lock_rank::sleepq};
	case lwp_stat::stop:
	case lwp_stat::suspended:
		return {lock_rank::vcpu_lwp, lock_rank::sleepq};  // the latter while it is still on a sleep queue
	case lwp_stat::none:
		break;
	}
	return {};
}

constexpr std::array<lock_rank, 8> ranks = {lock_rank::runtime, lock_rank::proc, lock_rank::sleepq, lock_rank::turnstile,
    lock_rank::vcpu_lwp, lock_rank::run_queue, lock_rank::inbox, lock_rank::leaf};

/// Locks of every kind that covers an LWP, and one more of each.
struct locks {
	spinlock sleepq{lock_rank::sleepq, "sleepq"}, sleepq2{lock_rank::sleepq, "sleepq2"};
	spinlock vcpu{lock_rank::vcpu_lwp, "vcpu"}, vcpu2{lock_rank::vcpu_lwp, "vcpu2"};
	spinlock runq{lock_rank::run_queue, "runq"}, runq2{lock_rank::run_queue, "runq2"};
	spinlock p_lock{lock_rank::proc, "p_lock"};

	spinlock &usual(lwp_stat s) { return s == lwp_stat::run ? runq : s == lwp_stat::sleep ? sleepq : vcpu; }
	spinlock &another(lwp_stat s) { return s == lwp_stat::run ? runq2 : s == lwp_stat::sleep ? sleepq2 : vcpu2; }
};

/// An LWP that is in `s` under the lock that is usual for it, by legal steps only; not locked.
class lwp_in {
public:
	lwp_in(lwp_stat s, locks &k) : l_(lwp_pool_get()) {
		step(lwp_stat::idl, k.vcpu2);
		if (s == lwp_stat::run || s == lwp_stat::onproc || s == lwp_stat::sleep) {
			step(lwp_stat::run, k.runq2);
		}
		if (s == lwp_stat::onproc || s == lwp_stat::sleep) {
			step(lwp_stat::onproc, k.vcpu2);
		}
		if (s == lwp_stat::idl) {
			lwp_statreset(l_, &k.vcpu);
		}
		if (lwp_state(l_) != s || s == lwp_stat::run) {
			step(s, k.usual(s));
		} else if (s == lwp_stat::onproc) {
			step(lwp_stat::run, k.runq2);
			step(s, k.usual(s));
		}
	}
	~lwp_in() { lwp_pool_put(l_); }
	lwp_in(const lwp_in &) = delete;
	lwp_in &operator=(const lwp_in &) = delete;
	lwp_t *get() { return l_; }

private:
	void step(lwp_stat to, spinlock &lend) {
		spinlock *old = l_->l_mutex.load();
		old->lock();
		lwp_setstat(l_, to, &lend);
		old->unlock();
	}
	lwp_t *l_;
};

}  // namespace

TEST(State, NumbersAndNamesAreThoseOfNetbsd) {
	const struct {
		lwp_stat s;
		int number;
		const char *name;
	} expected[] = {{lwp_stat::idl, 1, "LSIDL"}, {lwp_stat::run, 2, "LSRUN"}, {lwp_stat::sleep, 3, "LSSLEEP"},
	    {lwp_stat::stop, 4, "LSSTOP"}, {lwp_stat::zomb, 5, "LSZOMB"}, {lwp_stat::onproc, 7, "LSONPROC"},
	    {lwp_stat::suspended, 8, "LSSUSPENDED"}};
	for (const auto &e : expected) {
		EXPECT_EQ(static_cast<int>(e.s), e.number) << e.name;
		EXPECT_STREQ(lwp_stat_name(e.s), e.name);
	}
	EXPECT_EQ(std::size(expected), states.size());
}

TEST(State, AllFortyNinePairsAreAsWrittenDown) {
	unsigned legal = 0;
	for (std::size_t from = 0; from < states.size(); from++) {
		for (std::size_t to = 0; to < states.size(); to++) {
			EXPECT_EQ(lwp_edge_legal(states[from], states[to]), expected(from, to)) << pair(states[from], states[to]);
			legal += expected(from, to);
		}
	}
	EXPECT_EQ(legal, 22U);
}

TEST(State, OnlyFreshMemoryComesFromNone) {
	for (lwp_stat s : states) {
		EXPECT_FALSE(lwp_edge_legal(s, lwp_stat::none)) << pair(s, lwp_stat::none);
		EXPECT_EQ(lwp_edge_legal(lwp_stat::none, s), s == lwp_stat::idl || s == lwp_stat::onproc) << pair(lwp_stat::none, s);
	}
}

TEST(State, EveryLegalPairHasAReasonAndNoOther) {
	for (lwp_stat from : states) {
		for (lwp_stat to : states) {
			const char *reason = lwp_edge_reason(from, to);
			ASSERT_EQ(reason != nullptr, lwp_edge_legal(from, to)) << pair(from, to);
			EXPECT_TRUE(reason == nullptr || std::string(reason).size() > 3) << pair(from, to);
		}
	}
}

TEST(State, EachIsCoveredByItsKindsOfLockAndNoOther) {
	for (lwp_stat s : states) {
		const std::set<lock_rank> expected = covering(s);
		for (lock_rank r : ranks) {
			EXPECT_EQ(lwp_lock_covers(r, s), expected.count(r) != 0) << lwp_stat_name(s) << " by " << lock_rank_name(r);
		}
	}
}

// Every legal pair is walked: state and lock change together, under the old lock, and the LWP is unlocked unless the new one is held.
TEST(State, LegalStepsChangeStateAndLockTogether) {
	locks k;
	for (std::size_t from = 0; from < states.size(); from++) {
		for (std::size_t to = 0; to < states.size(); to++) {
			if (!expected(from, to)) {
				continue;
			}
			SCOPED_TRACE(pair(states[from], states[to]));
			lwp_in l(states[from], k);
			ASSERT_EQ(lwp_state(l.get()), states[from]);
			spinlock *old = l.get()->l_mutex.load();
			EXPECT_EQ(old, &k.usual(states[from]));
			old->lock();
			EXPECT_TRUE(lwp_locked(l.get()));
			lwp_setstat(l.get(), states[to], &k.another(states[to]));
			EXPECT_EQ(lwp_state(l.get()), states[to]);
			EXPECT_EQ(l.get()->l_mutex.load(), &k.another(states[to]));
			EXPECT_FALSE(lwp_locked(l.get())) << "lent to a lock that nobody holds";
			EXPECT_TRUE(old->held()) << "the old lock stays with the caller";
			old->unlock();
		}
	}
}

namespace {

void take_illegal_step(std::size_t from, std::size_t to) {
	locks k;
	lwp_in l(states[from], k);
	l.get()->l_mutex.load()->lock();
	lwp_setstat(l.get(), states[to], &k.another(states[to]));
}

void step_under(lwp_stat from, lwp_stat to, spinlock locks::*lend) {
	locks k;
	lwp_in l(from, k);
	l.get()->l_mutex.load()->lock();
	lwp_setstat(l.get(), to, &(k.*lend));
}

void step_unlocked(lwp_stat from, lwp_stat to) {
	locks k;
	lwp_in l(from, k);
	lwp_setstat(l.get(), to, &k.another(to));
}

void step_with_another_lock_held() {
	locks k;
	lwp_in l(lwp_stat::run, k);
	k.runq2.lock();
	lwp_setstat(l.get(), lwp_stat::onproc, &k.vcpu);
}

constexpr const char *needs_debug = "transitions are checked in debug builds only";

}  // namespace

TEST(StateDeathTest, EveryIllegalPairAbortsAndNamesBothStates) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	for (std::size_t from = 0; from < states.size(); from++) {
		for (std::size_t to = 0; to < states.size(); to++) {
			if (!expected(from, to)) {
				EXPECT_DEATH(take_illegal_step(from, to), "illegal transition " + pair(states[from], states[to]));
			}
		}
	}
}

TEST(StateDeathTest, LockOfTheWrongKindAborts) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(step_under(lwp_stat::onproc, lwp_stat::run, &locks::vcpu2), "vcpu2 does not cover LSRUN");
	EXPECT_DEATH(step_under(lwp_stat::run, lwp_stat::onproc, &locks::runq2), "runq2 does not cover LSONPROC");
	EXPECT_DEATH(step_under(lwp_stat::onproc, lwp_stat::sleep, &locks::runq2), "runq2 does not cover LSSLEEP");
	EXPECT_DEATH(step_under(lwp_stat::onproc, lwp_stat::zomb, &locks::sleepq), "sleepq does not cover LSZOMB");
	EXPECT_DEATH(step_under(lwp_stat::onproc, lwp_stat::suspended, &locks::p_lock), "p_lock does not cover LSSUSPENDED");
}

TEST(StateDeathTest, StepWithoutTheLwpsLockAborts) {
	if (!LWP_DEBUG) {
		GTEST_SKIP() << needs_debug;
	}
	EXPECT_DEATH(step_unlocked(lwp_stat::run, lwp_stat::onproc), "LSRUN -> LSONPROC without runq");
	EXPECT_DEATH(step_unlocked(lwp_stat::sleep, lwp_stat::run), "LSSLEEP -> LSRUN without sleepq");
	EXPECT_DEATH(step_unlocked(lwp_stat::suspended, lwp_stat::run), "LSSUSPENDED -> LSRUN without vcpu");
	EXPECT_DEATH(step_with_another_lock_held(), "LSRUN -> LSONPROC without runq");
}
