// SPDX-License-Identifier: BSD-2-Clause
//
// Load averages at times that the test says: against the formula in floating point, sample by sample, as NetBSD computes them.
#include "core/load_average.h"

#include "../support/support.h"

#include <cmath>

namespace {

using lwp::kern::load_average;
using lwp::kern::nanotime;

constexpr nanotime step = load_average::interval;
constexpr double constants[] = {12, 60, 180};

double load(const load_average &a, unsigned i) { return static_cast<double>(a.la_load[i]) / static_cast<double>(load_average::one); }

/// NetBSD's: each five seconds.
struct by_the_book {
	double load[load_average::averages] = {};
	void sample(double lwps) {
		for (unsigned i = 0; i < load_average::averages; i++) {
			const double keep = std::exp(-1 / constants[i]);
			load[i] = load[i] * keep + lwps * (1 - keep);
		}
	}
};

}  // namespace

TEST(LoadAverage, NothingIsSampledBeforeItIsDue) {
	load_average a;
	a.sample(1000 * step, 7, 7);
	EXPECT_EQ(a.la_load[0], 0U) << "there is no runtime";
	a.begin(100);
	a.sample(100 + step - 1, 7, 7);
	EXPECT_EQ(a.la_load[0], 0U);
	EXPECT_EQ(a.la_due, 100 + step);
	a.sample(100 + step, 7, 7);
	EXPECT_GT(a.la_load[0], 0U);
	EXPECT_EQ(a.la_due, 100 + 2 * step);
}

TEST(LoadAverage, IsNetBSDs) {
	load_average a;
	by_the_book b;
	a.begin(0);
	for (unsigned i = 1; i < 1000; i++) {
		const unsigned lwps = i * 7919 % 23;
		a.sample(i * step + i % 50 * 1'000'000, lwps, 0);
		b.sample(lwps);
		for (unsigned k = 0; k < load_average::averages; k++) {
			ASSERT_NEAR(load(a, k), b.load[k], 0.01) << i;
		}
	}
}

TEST(LoadAverage, ALoadThatStaysTheSameIsToldExactly) {
	load_average a;
	a.begin(0);
	for (unsigned i = 1; i < 5000; i++) {
		a.sample(i * step, 1'000'000, 0);
	}
	for (unsigned k = 0; k < load_average::averages; k++) {
		EXPECT_NEAR(load(a, k), 1e6, 1);
	}
}

TEST(LoadAverage, WhatNobodyLookedAtDecays) {
	load_average a;
	by_the_book b;
	a.begin(0);
	for (unsigned i = 1; i <= 100; i++) {
		a.sample(i * step, 8, 8);
		b.sample(8);
	}
	// Ten minutes later one comes, and is there as the last sample is due: 119 of nothing, and it.
	a.sample(220 * step, 1, 0);
	for (unsigned i = 0; i < 119; i++) {
		b.sample(0);
	}
	b.sample(1);
	for (unsigned k = 0; k < load_average::averages; k++) {
		EXPECT_NEAR(load(a, k), b.load[k], 0.01);
	}
	EXPECT_EQ(a.la_due, 221 * step);
}

TEST(LoadAverage, WhatRanThroughoutCountsForWhatNobodyLookedAt) {
	load_average a;
	a.begin(0);
	a.sample(1000 * step, 3, 3);
	EXPECT_NEAR(load(a, 0), 3, 0.01);
	EXPECT_NEAR(load(a, 1), 3, 0.01);
	EXPECT_NEAR(load(a, 2), 3, 0.03);
}

TEST(LoadAverage, WhoWakesUpLongAfterASampleWasDueIsNotInIt) {
	load_average a;
	a.begin(0);
	a.sample(step + load_average::late + 1, 1, 0);
	EXPECT_EQ(a.la_load[0], 0U);
	a.sample(2 * step + load_average::late, 1, 0);
	EXPECT_GT(a.la_load[0], 0U);
}

TEST(LoadAverage, YearsOfNothingAreForgotten) {
	load_average a;
	a.begin(0);
	a.sample(step, 1000, 0);
	a.sample(100'000'000 * step, 0, 0);
	for (unsigned k = 0; k < load_average::averages; k++) {
		EXPECT_EQ(a.la_load[k], 0U);
	}
}
