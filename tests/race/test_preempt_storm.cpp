// SPDX-License-Identifier: BSD-2-Clause
//
// A storm over LWPs that compute: they are suspended, continued, stopped with the world, ended and replaced, while others take turns, wait and are joined.
// vcpus: 1 2 8
#include "../support/hogs.h"
#include "../support/support.h"

#include <lwp/lwp.hpp>

#include <memory>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
const bool preempted = with_preemption();

}  // namespace

TEST(PreemptStorm, NothingIsLostAmongHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	dice d(seed());
	const unsigned many = lwp::runtime::vcpus() + 3;
	std::vector<std::unique_ptr<hog>> hogs(many);
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::mutex m;
	std::vector<lwp::thread> others;
	for (int i = 0; i < 4; i++) {
		others.emplace_back([&, i] {
			while (!stop) {
				const std::lock_guard hold(m);
				turns++;
				if (i % 2 == 0) {
					lwp_yield();
				}
			}
		});
	}
	for (std::size_t round = 0, n = rounds(60); round < n; round++) {
		std::unique_ptr<hog> &h = hogs[d.below(many)];
		if (h == nullptr) {
			h = std::make_unique<hog>(static_cast<hog_kind>(d.below(hog_kinds)), d.one_in(3) ? 0 : -1);
			continue;
		}
		switch (d.below(5)) {
		case 0:
			h.reset();
			break;
		case 1: {
			ASSERT_EQ(error_of(_lwp_suspend(h->lid())), 0);
			const std::uint64_t before = h->count();
			for (unsigned i = 0; i < d.below(20); i++) {
				lwp_yield();
			}
			EXPECT_EQ(h->count(), before);
			ASSERT_EQ(error_of(_lwp_continue(h->lid())), 0);
			break;
		}
		case 2: {
			const lwp::stop_the_world world;
			const std::uint64_t before = h->count();
			EXPECT_GE(world.lwps().size(), 5U);
			EXPECT_EQ(h->count(), before);
			break;
		}
		case 3:
			h->await_progress();
			break;
		default:
			lwp::this_thread::sleep_for(std::chrono::microseconds(d.below(3000)));
		}
	}
	hogs.clear();
	stop = true;
	for (lwp::thread &t : others) {
		t.join();
	}
	EXPECT_GT(turns, 0U);
}
