// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::parallel_for and parallel_for_each: each element once, whatever the range, exceptions and stops end the loop, and a tiny one makes few LWPs.
// vcpus: 1 2 8
#include <lwp/parallel.hpp>

#include "../support/support.h"

#include <climits>
#include <deque>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

}  // namespace

TEST(ParallelFor, EachElementOnce) {
	for (const std::size_t n : {0U, 1U, 2U, 3U, 7U, 100U, 10007U}) {
		for (const std::size_t grain : {0U, 1U, 2U, 64U, 20000U}) {
			const std::unique_ptr<std::atomic<int>[]> done(new std::atomic<int>[n]());
			lwp::parallel_for(std::size_t{0}, n, grain, [&](std::size_t i) { done[i]++; });
			for (std::size_t i = 0; i < n; i++) {
				ASSERT_EQ(done[i], 1) << i << " of " << n << " by " << grain;
			}
		}
	}
}

TEST(ParallelFor, RangesOfEveryIndex) {
	std::atomic<long> sum{0};
	lwp::parallel_for(-50, 50, [&](int i) { sum += i; });
	EXPECT_EQ(sum, -50);
	sum = 0;
	lwp::parallel_for(0, std::size_t{10}, [&](auto i) {
		static_assert(std::is_same_v<decltype(i), std::size_t>);
		sum += static_cast<long>(i);
	});
	EXPECT_EQ(sum, 45);
	lwp::parallel_for(5, 5, [](int) { ADD_FAILURE(); });
	lwp::parallel_for(6, 5, [](int) { ADD_FAILURE() << "an empty range"; });
	std::atomic<int> calls{0};
	lwp::parallel_for(INT_MAX - 3, INT_MAX, [&](int i) { calls += i >= INT_MAX - 3; });
	lwp::parallel_for(INT_MIN, INT_MIN + 3, [&](int i) { calls += i < INT_MIN + 3; });
	EXPECT_EQ(calls, 6);
	std::stop_source source;
	std::atomic<std::uint64_t> seen{0};
	// More elements than a signed difference holds; stopped after some.
	EXPECT_FALSE(lwp::parallel_for(source.get_token(), LLONG_MIN, LLONG_MAX, [&](long long) {
		if (++seen == 100) {
			source.request_stop();
		}
	}));
	EXPECT_GE(seen, 100U);
}

TEST(ParallelFor, FirstExceptionEndsTheLoop) {
	for (const std::size_t n : {1U, 10U, 100000U}) {
		std::atomic<std::size_t> done{0};
		try {
			lwp::parallel_for(std::size_t{0}, n, [&](std::size_t i) {
				if (i == n / 2) {
					throw std::runtime_error("here");
				}
				done++;
			});
			ADD_FAILURE();
		} catch (const std::runtime_error &) {
		}
		EXPECT_LT(done, n);
	}
	// All of them throw: one comes out, the rest is dropped.
	EXPECT_THROW(lwp::parallel_for(0, 1000, [](int) { throw 1; }), int);
}

TEST(ParallelFor, StopEndsIt) {
	std::stop_source source;
	source.request_stop();
	EXPECT_FALSE(lwp::parallel_for(source.get_token(), 0, 100, [](int) { ADD_FAILURE() << "begun after the stop"; }));
	EXPECT_TRUE(lwp::parallel_for(std::stop_token(), 0, 100, [](int) {}));
	EXPECT_TRUE(lwp::parallel_for(std::stop_source().get_token(), 0, 100, 10, [](int) {}));
	EXPECT_TRUE(lwp::parallel_for(source.get_token(), 1, 1, [](int) {})) << "nothing to do is all done";
	std::stop_source later;
	std::atomic<int> done{0};
	EXPECT_FALSE(lwp::parallel_for(later.get_token(), 0, 100000, [&](int) {
		if (++done == 500) {
			later.request_stop();
		}
	}));
	EXPECT_LT(done, 100000);
}

TEST(ParallelForEach, IteratorsAndRanges) {
	std::vector<int> v(5000);
	std::iota(v.begin(), v.end(), 0);
	lwp::parallel_for_each(v.begin(), v.end(), [](int &i) { i *= 2; });
	std::deque<long> d(300, 1);
	lwp::parallel_for_each(d, [](long &i) { i++; });
	EXPECT_EQ(std::accumulate(v.begin(), v.end(), 0L), 5000L * 4999);
	EXPECT_EQ(std::accumulate(d.begin(), d.end(), 0L), 600);
	EXPECT_TRUE(lwp::parallel_for_each(std::stop_token(), v, [](int &i) { i = 0; }));
	EXPECT_EQ(std::accumulate(v.begin(), v.end(), 0L), 0);
	lwp::parallel_for_each(std::vector<int>(), [](int) { ADD_FAILURE(); });
}

TEST(Parallel, FromEveryKindOfThreadAndNested) {
	auto body = [] {
		std::atomic<int> sum{0};
		lwp::parallel_for(0, 20, [&](int) { lwp::parallel_for(0, 20, [&](int) { sum++; }); });
		EXPECT_EQ(sum, 400);
	};
	collect(spawn(body));
	std::atomic<bool> done{false};
	std::thread t([&] {
		body();
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	t.join();
}

// Elements that block let others run; on several vCPUs more than one LWP is at work.
TEST(Parallel, ElementsMayBlock) {
	std::atomic<int> done{0};
	lwp::parallel_for(0, 40, [&](int) {
		lwp::this_thread::sleep_for(200us);
		done++;
	});
	EXPECT_EQ(done, 40);
}

TEST(Parallel, HelpersShareTheWork) {
	if (lwp::runtime::vcpus() == 1) {
		GTEST_SKIP() << "one vCPU: a plain loop";
	}
	std::atomic<bool> two{false};
	const lwpid_t caller = _lwp_self();
	lwp::parallel_for(0, 4, [&](int) {
		two = two || _lwp_self() != caller;
		// The first element waits until somebody else has come: the loop must have made one.
		EXPECT_TRUE(wait_until([&] { return two.load(); }));
	});
	EXPECT_TRUE(two);
}

TEST(Parallel, LoopThatIsOverAtOnceLeavesNothing) {
	for (std::size_t k = 0; k < rounds(20000); k++) {
		std::atomic<int> n{0};
		lwp::parallel_for(0, 2, [&](int) { n++; });
		ASSERT_EQ(n, 2);
	}
}
