// SPDX-License-Identifier: BSD-2-Clause
//
// What a runtime costs that has nothing to do: CPU over five seconds in which every LWP sleeps, alone or with many whose
// deadlines are an hour away.  A whole run; the counter cpu_percent is in percent of one core.
#include "bench.h"
#include "crowd.h"

#include <lwp/lwp.hpp>

#include <chrono>

namespace bench {
namespace {

void idle(State &state, std::size_t sleepers) {
	lwp::runtime rt({.vcpus = 2});
	const crowd asleep(state, sleepers, crowd::park::with_deadline);
	double cpu = 0;
	double wall = 0;
	time_batch(state, 1, [&] {
		cpu = -seconds(CLOCK_PROCESS_CPUTIME_ID);
		wall = -seconds(CLOCK_MONOTONIC);
		lwp::this_thread::sleep_for(std::chrono::seconds(5));
		wall += seconds(CLOCK_MONOTONIC);
		cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
	});
	check(state, wall >= 5, "the five seconds were shorter");
	state.counters["cpu_percent"] = 100 * cpu / wall;
}

}  // namespace

void add_idle() {
	benchmark::RegisterBenchmark("BM_Idle/sleepers:0/vcpus:2", idle, 0U)->Unit(benchmark::kMillisecond);
	benchmark::RegisterBenchmark("BM_Idle/sleepers:100000/vcpus:2", idle, 100'000U)->Unit(benchmark::kMillisecond);
}

}  // namespace bench
