// SPDX-License-Identifier: BSD-2-Clause
//
// What preemption costs two LWPs that compute on one vCPU: in turns of a slice, against one after the other without it.  Both sides do the same work, by
// turns, so that what slows the machine slows both.  A whole run; its counters are
//   cpu_percent    what the process needs more of CPU time, the monitor's and the substitutes' included; the median of the rounds
//   wall_percent   the same of wall time
//   preemptions    of one round
#include "bench.h"

#include <lwp/lwp.hpp>

#include <algorithm>
#include <vector>

namespace bench {
namespace {

constexpr std::int64_t steps = 250'000'000;  // of each LWP; about a nanosecond each
constexpr std::size_t rounds = 9;

/// Nothing that a compiler can leave out.
std::uint64_t compute() {
	std::uint64_t x = 1;
	for (std::int64_t i = 0; i < steps; i++) {
		x = x * 6364136223846793005U + 1442695040888963407U;
		asm volatile("" : "+r"(x));
	}
	return x;
}

struct cost {
	double wall;
	double cpu;
	std::uint64_t preemptions;
};

cost two(State &state, bool preemption) {
	lwp::runtime rt({.vcpus = 1, .preemption = preemption});
	const std::uint64_t before = lwp::runtime::stats().preemptions;  // vCPUs are used again
	cost c{-seconds(CLOCK_MONOTONIC), -seconds(CLOCK_PROCESS_CPUTIME_ID), 0};
	std::uint64_t sum = 0;
	lwp::thread other([&] { sum += compute(); });
	sum += compute();
	other.join();
	c.wall += seconds(CLOCK_MONOTONIC);
	c.cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
	c.preemptions = lwp::runtime::stats().preemptions - before;
	check(state, sum != 0 && (c.preemptions != 0) == preemption, "not preempted, or without having been asked");
	return c;
}

double median(std::vector<double> &of) {
	std::nth_element(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2), of.end());
	return of[of.size() / 2];
}

void overhead(State &state) {
	std::vector<double> wall;
	std::vector<double> cpu;
	std::uint64_t preemptions = 0;
	time_batch(state, 1, [&] {
		for (std::size_t i = 0; i < rounds; ++i) {
			const cost with = two(state, true);
			const cost without = two(state, false);
			wall.push_back(100 * (with.wall / without.wall - 1));
			cpu.push_back(100 * (with.cpu / without.cpu - 1));
			preemptions = with.preemptions;
		}
	});
	state.counters["cpu_percent"] = median(cpu);
	state.counters["wall_percent"] = median(wall);
	state.counters["preemptions"] = static_cast<double>(preemptions);
}

}  // namespace

void add_preempt() { benchmark::RegisterBenchmark("BM_Preempt/overhead/vcpus:1", overhead)->Unit(benchmark::kMillisecond); }

}  // namespace bench
