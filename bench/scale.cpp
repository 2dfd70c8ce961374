// SPDX-License-Identifier: BSD-2-Clause
//
// What a second vCPU brings: the same work on one and then on two, in the same row, so that what else the machine does meets both.  A whole
// run; the counter `speedup` is the time on one divided by the time on two.
//   independent   64 LWPs that compute a few microseconds, yield, and so on: nothing is shared.  Twice is the most there is.
//   fork          a tree of LWPs that compute at the leaves; parents join
//   handover      two LWPs in turn, so only one can ever run: a second vCPU should do no harm
//   pipeline      eight LWPs in a ring that pass one token on, the same
#include "bench.h"

#include <lwp/lwp.hpp>
#include <lwp/semaphore.hpp>

#include <array>
#include <atomic>
#include <deque>
#include <vector>

namespace bench {
namespace {

/// Computes, about a microsecond for each 1000 steps, without memory.
std::uint64_t compute(std::uint64_t x, int steps) {
	for (int i = 0; i < steps; ++i) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

std::uint64_t independent() {
	constexpr int lwps = 64;
	std::atomic<std::uint64_t> sum{0};
	std::vector<lwp::thread> threads;
	for (int i = 0; i < lwps; ++i) {
		threads.emplace_back([&sum, i] {
			std::uint64_t x = static_cast<std::uint64_t>(i) + 1;
			for (int n = 0; n < 400; ++n) {
				x = compute(x, 5'000);
				lwp_yield();
			}
			sum.fetch_add(x, std::memory_order_relaxed);
		});
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	return sum.load();
}

std::uint64_t tree(std::uint64_t seed, int depth) {
	if (depth == 0) {
		return compute(seed + 1, 2'000);
	}
	std::array<std::uint64_t, 4> parts{};
	std::vector<lwp::thread> threads;
	for (std::size_t i = 0; i < parts.size(); ++i) {
		threads.emplace_back([&parts, i, seed, depth] { parts[i] = tree(seed * 4 + i, depth - 1); });
	}
	std::uint64_t sum = 0;
	for (std::size_t i = 0; i < parts.size(); ++i) {
		threads[i].join();
		sum += parts[i];
	}
	return sum;
}

std::uint64_t fork() { return tree(1, 7); }  // 16,384 leaves

/// A token goes round so many LWPs so many times.
std::uint64_t ring(std::size_t lwps, std::int64_t rounds) {
	std::deque<lwp::binary_semaphore> seats;
	for (std::size_t i = 0; i < lwps; ++i) {
		seats.emplace_back(0);
	}
	std::uint64_t passed = 0;  // whoever has the token
	std::vector<lwp::thread> threads;
	for (std::size_t i = 0; i < lwps; ++i) {
		threads.emplace_back([&, i] {
			for (std::int64_t n = 0; n < rounds; ++n) {
				seats[i].acquire();
				++passed;
				seats[(i + 1) % lwps].release();
			}
		});
	}
	seats[0].release();
	for (lwp::thread &t : threads) {
		t.join();
	}
	return passed;
}

std::uint64_t handover() { return ring(2, 500'000); }
std::uint64_t pipeline() { return ring(8, 125'000); }

void scale(State &state, std::uint64_t (*work)()) {
	std::array<double, 3> times{};
	std::array<std::uint64_t, 3> results{};
	time_batch(state, 1, [&] {
		for (const unsigned vcpus : {1U, 2U}) {
			lwp::runtime rt({.vcpus = vcpus});
			const double begin = seconds(CLOCK_MONOTONIC);
			results[vcpus] = work();
			times[vcpus] = seconds(CLOCK_MONOTONIC) - begin;
		}
	});
	check(state, results[1] == results[2], "two vCPUs found something else than one");
	state.counters["speedup"] = times[1] / times[2];
	state.counters["one_ms"] = 1e3 * times[1];
}

}  // namespace

void add_scale() {
	const auto add = [](const char *name, std::uint64_t (*work)()) {
		benchmark::RegisterBenchmark(name, scale, work)->Unit(benchmark::kMillisecond);
	};
	add("BM_Scale/independent/vcpus:2", independent);
	add("BM_Scale/fork/vcpus:2", fork);
	add("BM_Scale/handover/vcpus:2", handover);
	add("BM_Scale/pipeline/vcpus:2", pipeline);
}

}  // namespace bench
