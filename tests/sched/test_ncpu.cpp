// SPDX-License-Identifier: BSD-2-Clause
//
// How many vCPUs a runtime gets that was not told: the quota of a cgroup, the affinity mask, LWP_VCPUS.
#include "sched/ncpu.h"

#include "../support/support.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <sched.h>
#include <unistd.h>

namespace {

using lwp::kern::cpus_of_quota;
using lwp::kern::vcpus_wanted;

/// Prints what a program with this LWP_VCPUS would get and ends.
[[noreturn]] void wanted_with(const char *text) {
	setenv("LWP_VCPUS", text, 1);
	std::fprintf(stderr, "wanted %u\n", vcpus_wanted());
	_exit(0);
}

/// The same without LWP_VCPUS, on one CPU of those that we have.
[[noreturn]] void wanted_on_one_cpu() {
	unsetenv("LWP_VCPUS");
	cpu_set_t all;
	CPU_ZERO(&all);
	if (sched_getaffinity(0, sizeof(all), &all) != 0) {
		_exit(77);
	}
	int last = -1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		last = CPU_ISSET(cpu, &all) ? cpu : last;
	}
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	if (sched_setaffinity(0, sizeof(one), &one) != 0) {
		_exit(77);
	}
	std::fprintf(stderr, "wanted %u\n", vcpus_wanted());
	_exit(0);
}

}  // namespace

TEST(Ncpu, QuotaIsRoundedUpToWholeCpus) {
	EXPECT_EQ(cpus_of_quota("100000 100000\n"), 1U);
	EXPECT_EQ(cpus_of_quota("200000 100000"), 2U);
	EXPECT_EQ(cpus_of_quota("150000 100000\n"), 2U);
	EXPECT_EQ(cpus_of_quota("200001 100000"), 3U);
	EXPECT_EQ(cpus_of_quota("50000 100000"), 1U) << "half a CPU is one that waits half of the time";
	EXPECT_EQ(cpus_of_quota("1 1000000"), 1U);
	EXPECT_EQ(cpus_of_quota("75000 25000"), 3U) << "any period";
}

TEST(Ncpu, NoQuotaIsNoLimit) {
	EXPECT_EQ(cpus_of_quota("max 100000\n"), 0U);
	EXPECT_EQ(cpus_of_quota("max"), 0U);
	EXPECT_EQ(cpus_of_quota("-1 100000"), 0U) << "how version 1 says it";
}

TEST(Ncpu, WhatCannotBeReadIsNoLimit) {
	for (const char *text : {"", "\n", " ", "nonsense", "200000", "200000 ", "200000 nonsense", "200000 0", "0 100000", "0 0"}) {
		EXPECT_EQ(cpus_of_quota(text), 0U) << "'" << text << "'";
	}
}

TEST(Ncpu, LargeQuotaIsCutToTheMost) {
	EXPECT_EQ(cpus_of_quota("25600000 100000"), 256U);
	EXPECT_EQ(cpus_of_quota("25600001 100000"), 256U);
	EXPECT_EQ(cpus_of_quota("9000000000000000000 1"), 256U);
}

TEST(NcpuDeathTest, EnvironmentDecides) {
	for (const char *text : {"1", "2", "3", "256"}) {
		EXPECT_EXIT(wanted_with(text), testing::ExitedWithCode(0), std::string("wanted ") + text + "\n");
	}
}

TEST(NcpuDeathTest, EmptyEnvironmentIsAsIfUnset) { EXPECT_EXIT(wanted_with(""), testing::ExitedWithCode(0), "wanted [1-9]"); }

TEST(NcpuDeathTest, BadEnvironmentEndsTheProgramWithAMessage) {
	for (const char *text : {"0", "-1", "257", "100000000000000000000", "two", "2x", "2 ", "1.5", "0x2"}) {
		EXPECT_EXIT(
		    wanted_with(text), testing::KilledBySignal(SIGABRT), std::string("LWP_VCPUS='") + text + "' is no number from 1 to 256");
	}
}

TEST(NcpuDeathTest, AffinityMaskLimits) { EXPECT_EXIT(wanted_on_one_cpu(), testing::ExitedWithCode(0), "wanted 1\n"); }
