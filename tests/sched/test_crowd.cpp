// SPDX-License-Identifier: BSD-2-Clause
//
// Thousands that can all run.  A program of its own: debug builds look through the table of ids as each of those ends that come later.
// vcpus: 1 2
#include <lwp/runtime.hpp>
#include <lwp/thread.hpp>

#include "base/config.h"

#include "../support/support.h"

#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

}  // namespace

// Going through a long line takes longer than those who stand in it are kept waiting for the newest: these are let into the line.  The bound is that of
// runq.h, 4 switches for each and 2 turns, which are shorter than the line then.
TEST(Crowd, NewOnesComeToRunBesideMoreYieldersThanAreServedInATurn) {
	constexpr std::size_t lwps = LWP_ASAN || LWP_TSAN ? 2000 : 20'000;  // a sanitizer keeps too much for each
	constexpr std::size_t too_many = 8 * lwps;
	std::size_t begun = 0;
	std::size_t yields = 0;
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, [&] {
		bool over = false;
		std::vector<lwp::thread> threads;
		for (std::size_t i = 0; i < lwps; i++) {
			threads.emplace_back([&] {
				begun++;
				while (!over) {
					yields++;
					lwp_yield();
				}
			});
		}
		while (begun < lwps && yields < too_many) {
			lwp_yield();
		}
		over = true;
		for (lwp::thread &t : threads) {
			t.join();
		}
	}).join();
	EXPECT_LT(yields, too_many) << "before all had begun";
}
