// SPDX-License-Identifier: BSD-2-Clause
//
// Accounts of CPU time, against sums and shares that are computed the slow way, second by second, as NetBSD's sched_pstats() does.
#include "core/cpu_account.h"

#include "../support/support.h"

#include <cmath>

namespace {

using lwp::kern::cpu_account;
using lwp::kern::nanotime;

constexpr nanotime second = cpu_account::second;

double share(const cpu_account &a, nanotime when) { return static_cast<double>(a.share(when)) / static_cast<double>(cpu_account::one); }

}  // namespace

TEST(CpuAccount, TimeIsSummed) {
	cpu_account a;
	a.charge(5, 7);
	a.charge(100, 100);
	a.charge(second - 1, second + 1);
	a.charge(10 * second, 13 * second);
	EXPECT_EQ(a.ca_rtime, 2U + 2U + 3 * second);
}

TEST(CpuAccount, OneThatAlwaysRunsHasAWholeOne) {
	cpu_account a;
	a.charge(0, 300 * second);
	EXPECT_NEAR(share(a, 300 * second), 1.0, 0.001);
	// In many pieces it is the same.
	cpu_account b;
	for (nanotime t = 0; t < 300 * second; t += second / 4) {
		b.charge(t, t + second / 4);
	}
	EXPECT_EQ(b.ca_rtime, a.ca_rtime);
	EXPECT_EQ(b.share(300 * second), a.share(300 * second));
}

TEST(CpuAccount, TwentySecondsOfRestLeaveOneOverE) {
	cpu_account a;
	a.charge(0, 1000 * second);
	EXPECT_NEAR(share(a, 1020 * second), std::exp(-1.0), 0.001);
	EXPECT_NEAR(share(a, 1060 * second), std::exp(-3.0), 0.001) << "95 % of it is of the last minute";
	EXPECT_EQ(a.share(1400 * second), 0U);
	EXPECT_EQ(a.share(1000000 * second), 0U);
}

TEST(CpuAccount, ALongRunForgetsWhatWasBefore) {
	cpu_account a;
	a.charge(0, second);
	a.charge(2 * second, 1'000'000 * second);
	EXPECT_EQ(a.ca_rtime, second + 999'998 * second);
	EXPECT_NEAR(share(a, 1'000'000 * second), 1.0, 0.001);
}

// To look at it changes nothing, and a look at the past is one at the begin of its second.
TEST(CpuAccount, ToLookAtItChangesNothing) {
	cpu_account a;
	a.charge(7 * second, 9 * second + second / 2);
	const auto before = a.share(9 * second);
	(void)a.share(500 * second);
	EXPECT_EQ(a.share(9 * second), before);
	EXPECT_EQ(a.share(1), before);
	cpu_account b = a;
	b.charge(9 * second + second / 2, 9 * second + second / 2);
	EXPECT_EQ(b.share(20 * second), a.share(20 * second));
}

TEST(CpuAccount, IsWhatASecondlyWalkFinds) {
	lwp::test::dice d(lwp::test::seed());
	for (int round = 0; round < 200; round++) {
		cpu_account a;
		double expected = 0;
		nanotime t = d.below(1'000'000'000);
		nanotime used = 0;
		std::uint64_t at = t / second;
		nanotime rtime = 0;
		for (int i = 0; i < 300; i++) {
			const nanotime run = d.one_in(4) ? d.next() % (3 * second) : d.next() % (second / 10);
			const nanotime rest = d.one_in(20) ? d.next() % (9 * second) : d.next() % (second / 5);
			a.charge(t, t + run);
			rtime += run;
			for (nanotime end = t + run, from = t; from != end;) {  // the slow way
				if (from / second != at) {
					expected = expected * std::exp(-0.05) + (1 - std::exp(-0.05)) * static_cast<double>(used) / second;
					used = 0;
					at++;
					continue;
				}
				const nanotime to = std::min(end, (at + 1) * second);
				used += to - from;
				from = to;
			}
			t += run + rest;
		}
		for (; at < t / second; at++) {
			expected = expected * std::exp(-0.05) + (1 - std::exp(-0.05)) * static_cast<double>(used) / second;
			used = 0;
		}
		ASSERT_NEAR(share(a, t), expected, 0.001);
		ASSERT_EQ(a.ca_rtime, rtime);
	}
}
