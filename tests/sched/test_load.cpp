// SPDX-License-Identifier: BSD-2-Clause
//
// What is counted for the load averages, and that somebody samples: a vCPU whose LWPs switch, and, for LWPs that never call, the monitor.  core/test_load_average.cpp
// is about the numbers.  Times are said, not waited for.
// vcpus: 1 2 8
#include "sched/load.h"

#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/usage.h>

#include <atomic>
#include <cmath>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

/// The newest sample: how many LWPs it must have been of.  `before`: the averages without it.
double sampled(const load_average &before, const load_average &after) {
	constexpr auto one = static_cast<double>(load_average::one);
	const double keep = static_cast<double>(load_average::keeps[0]) / one;
	return (static_cast<double>(after.la_load[0]) / one - static_cast<double>(before.la_load[0]) / one * keep) / (1 - keep);
}

/// One is due now.
nanotime make_due() {
	sched_load_begin(now() - load_average::interval);
	return sched_load_due.load();
}

/// In a real-time LWP on the last vCPU, while the caller sleeps.
template <class Body>
void direct(const Body &body) {
	const lwpid_t caller = _lwp_self();
	lwp::thread({.priority = 10, .vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1, .policy = lwp::sched_policy::fifo}, [&] {
		for (lwpinfo i{}; i.li_stat != LWP_LSSLEEP;) {
			(void)park_for(std::chrono::milliseconds(1));
			ASSERT_EQ(error_of(lwp_info(caller, &i)), 0);
		}
		body();
	}).join();
}

}  // namespace

TEST(Load, CountsWhoRunsAndWhoIsQueued) {
	direct([] {
		sched_load_begin(now());
		const load_average none = sched_load(now());
		std::vector<lwp::thread> queued;
		for (unsigned i = 0; i < 5; i++) {
			queued.emplace_back(lwp::attributes{.priority = 1}, [] {});  // none of them runs before we wait
		}
		const load_average first = sched_load(none.la_due);
		EXPECT_NEAR(sampled(none, first), 6, 0.001);
		for (lwp::thread &t : queued) {
			t.join();
		}
		const load_average second = sched_load(first.la_due);
		EXPECT_NEAR(sampled(first, second), 1, 0.001) << "sleepers and the dead are not counted";
		sched_load_begin(now());
	});
}

TEST(Load, OneThatNeverSwitchesCountsForAllSamplesThatWereMissed) {
	direct([] {
		sched_load_begin(now());
		const load_average first = sched_load(sched_load_due.load());
		const load_average hour = sched_load(first.la_due + 3600 * cpu_account::second);
		EXPECT_NEAR(static_cast<double>(hour.la_load[1]) / static_cast<double>(load_average::one), 1, 0.01);
		sched_load_begin(now());
	});
}

TEST(Load, WhatSwitchedMeanwhileIsNotTakenForBusy) {
	direct([] {
		sched_load_begin(now());
		const load_average first = sched_load(sched_load_due.load());
		(void)park_for(std::chrono::milliseconds(1));
		const load_average hour = sched_load(first.la_due + 3600 * cpu_account::second + load_average::late + 1);
		EXPECT_EQ(hour.la_load[0], 0U);
		sched_load_begin(now());
	});
}

TEST(Load, IsSampledWhereLwpsSwitch) {
	const nanotime due = make_due();
	EXPECT_TRUE(wait_until([due] { return sched_load_due.load() > due; }));
}

// The caller computes, and so does one on each other vCPU: nobody but the monitor can have done it.
TEST(Load, IsSampledByTheMonitorWhereNobodyCalls) {
	std::atomic<unsigned> there{0};
	std::atomic<bool> over{false};
	std::vector<lwp::thread> hogs;
	lwp::thread({.vcpu = 0}, [&] {
		for (unsigned i = 1; i < lwp::runtime::vcpus(); i++) {
			hogs.emplace_back(lwp::attributes{.vcpu = static_cast<int>(i)}, [&] {
				there++;
				while (!over.load(std::memory_order_relaxed)) {
				}
			});
		}
		while (there != hogs.size()) {
		}
		const nanotime due = make_due();
		for (const nanotime limit = now() + 20 * cpu_account::second; sched_load_due.load() == due && now() < limit;) {
		}
		EXPECT_GT(sched_load_due.load(), due);
		over = true;
	}).join();
	for (lwp::thread &t : hogs) {
		t.join();
	}
}

TEST(Load, TheNextIsDueFiveSecondsLater) {
	sched_load_begin(1'000);
	EXPECT_EQ(sched_load_due.load(), 1'000 + load_average::interval);
	sched_load_begin(now());
}
