// SPDX-License-Identifier: BSD-2-Clause
//
// A storm over LWPs that compute: they are suspended, continued, stopped with the world, ended and replaced, while others take turns, wait and are joined.
// LWP_STORM_SECONDS: for so long, instead of a number of rounds.
// vcpus: 1 2 8
// computes: hogs
#include "../support/hogs.h"
#include "../support/support.h"

#include <lwp/lwp.hpp>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
const bool preempted = with_preemption();

/// True until the storm has had its rounds, or its time if that is given.
class weather {
public:
	explicit weather(std::size_t n) : left_(n) {
		if (const char *text = std::getenv("LWP_STORM_SECONDS"); text != nullptr) {
			timed_ = true;
			end_ = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(text));
		}
	}
	bool goes_on() {
		rounds_++;
		return timed_ ? std::chrono::steady_clock::now() < end_ : left_-- > 0;
	}
	[[nodiscard]] std::size_t rounds() const { return rounds_ - 1; }

private:
	std::size_t left_;
	std::size_t rounds_ = 0;
	bool timed_ = false;
	std::chrono::steady_clock::time_point end_{};
};

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
	weather storm(rounds(60));
	while (storm.goes_on()) {
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
	const lwp::runtime_stats stats = lwp::runtime::stats();
	std::printf("%zu rounds, %llu preemptions\n", storm.rounds(), static_cast<unsigned long long>(stats.preemptions));
}
