// SPDX-License-Identifier: BSD-2-Clause
//
// Skynet (github.com/atemerev/skynet): a tree of LWPs, ten children to each, whose leaves are numbered; every parent joins its
// children and hands up the sum.  One LWP for each node, the root is the caller.  Per leaf; the counter `ms` is the whole tree.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>

#include <array>
#include <numeric>

namespace bench {
namespace {

constexpr std::size_t children = 10;

std::int64_t sum_of_leaves(std::int64_t first, std::int64_t leaves) {
	if (leaves == 1) {
		return first;
	}
	const std::int64_t share = leaves / static_cast<std::int64_t>(children);
	std::array<std::int64_t, children> sums;
	std::array<lwp::thread, children> threads;
	for (std::size_t i = 0; i < children; ++i) {
		const std::int64_t from = first + static_cast<std::int64_t>(i) * share;
		threads[i] = lwp::thread([&sum = sums[i], from, share] { sum = sum_of_leaves(from, share); });
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	return std::accumulate(sums.begin(), sums.end(), std::int64_t{0});
}

std::int64_t sum_of_leaves_pthread(std::int64_t first, std::int64_t leaves) {
	if (leaves == 1) {
		return first;
	}
	const std::int64_t share = leaves / static_cast<std::int64_t>(children);
	std::array<std::int64_t, children> sums;
	{
		pthreads threads;
		for (std::size_t i = 0; i < children; ++i) {
			const std::int64_t from = first + static_cast<std::int64_t>(i) * share;
			threads.start([&sum = sums[i], from, share] { sum = sum_of_leaves_pthread(from, share); });
		}
	}
	return std::accumulate(sums.begin(), sums.end(), std::int64_t{0});
}

template <class Sum>
void grow(State &state, std::int64_t leaves, Sum sum_of) {
	std::int64_t sum = 0;
	const double begin = seconds(CLOCK_MONOTONIC);
	time_batch(state, leaves, [&] { sum = sum_of(0, leaves); });
	state.counters["ms"] = 1e3 * (seconds(CLOCK_MONOTONIC) - begin);
	check(state, sum == leaves * (leaves - 1) / 2, "the sum is wrong");
}

void skynet(State &state, std::int64_t leaves, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	grow(state, leaves, sum_of_leaves);
}

void skynet_pthread(State &state, std::int64_t leaves, unsigned cpus) {
	const confined here(cpus);
	grow(state, leaves, sum_of_leaves_pthread);
}

}  // namespace

void add_skynet() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Skynet/leaves:1000000/vcpus:1", skynet, 1'000'000, 1U);
	RegisterBenchmark("BM_Skynet/leaves:1000/vcpus:1/pthread", skynet_pthread, 1000, 1U);
	RegisterBenchmark("BM_Skynet/leaves:1000000/vcpus:2", skynet, 1'000'000, 2U);
	RegisterBenchmark("BM_Skynet/leaves:1000/vcpus:2/pthread", skynet_pthread, 1000, 2U);
}

}  // namespace bench
