// SPDX-License-Identifier: BSD-2-Clause
//
// Time at its edges: sums that do not fit, deadlines that the kernel would refuse.
#include "base/clock.h"

#include "../support/support.h"

#include <cstdint>

namespace {

using lwp::kern::after;
using lwp::kern::nanotime;
using lwp::kern::never;
using lwp::kern::now;
using lwp::kern::to_timespec;

constexpr nanotime second = 1'000'000'000;

}  // namespace

TEST(Clock, NeverGoesBack) {
	nanotime last = now();
	EXPECT_GT(last, 0U);
	for (int i = 0; i < 10000; i++) {
		const nanotime t = now();
		ASSERT_GE(t, last);
		last = t;
	}
}

TEST(Clock, AfterAdds) {
	EXPECT_EQ(after(0, 0), 0U);
	EXPECT_EQ(after(5, 7), 12U);
	EXPECT_EQ(after(never - 8, 7), never - 1) << "the last one that fits";
}

TEST(Clock, AfterSaturatesAtNever) {
	EXPECT_EQ(after(never - 7, 7), never);
	EXPECT_EQ(after(1, never), never);
	EXPECT_EQ(after(1, never - 1), never);
	EXPECT_EQ(after(0, never), never);
	EXPECT_EQ(after(never, 0), never) << "never stays never";
	EXPECT_EQ(after(never, 1), never);
	EXPECT_EQ(after(never, never), never);
	EXPECT_EQ(after(now(), never), never);
}

TEST(Clock, TimespecIsExactToTheNanosecond) {
	for (nanotime t :
	    {nanotime{0}, nanotime{1}, second - 1, second, second + 1, 123 * second + 456'789'012, static_cast<nanotime>(INT64_MAX)}) {
		const timespec ts = to_timespec(t);
		EXPECT_GE(ts.tv_nsec, 0);
		EXPECT_LT(ts.tv_nsec, static_cast<long>(second));
		EXPECT_EQ(static_cast<nanotime>(ts.tv_sec) * second + static_cast<nanotime>(ts.tv_nsec), t);
	}
}

TEST(Clock, TimespecOfMoreThanTheKernelTakesIsCut) {
	const timespec most = to_timespec(static_cast<nanotime>(INT64_MAX));
	for (nanotime t : {static_cast<nanotime>(INT64_MAX) + 1, never - 1, never}) {
		const timespec ts = to_timespec(t);
		EXPECT_EQ(ts.tv_sec, most.tv_sec);
		EXPECT_EQ(ts.tv_nsec, most.tv_nsec);
	}
	// The kernel takes it: a wait until then is refused for no other reason than that it is far away.
	EXPECT_GT(most.tv_sec, static_cast<time_t>(now() / second) + 200LL * 365 * 86400);
}
