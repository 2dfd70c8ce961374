// SPDX-License-Identifier: BSD-2-Clause
//
// What a blocked LWP keeps resident: default stack, guard pages on, blocked in _lwp_park().  A whole run; its counters are
//   bytes_per_lwp       resident memory and page tables, over what the process had when main() began
//   page_table_bytes    the page tables in it
//   create_ns, end_ns   to create it and let it block; to unpark it, let it end and collect it
// The pthread row counts user memory alone; the kernel's stack and task struct of a thread are not in a process's figures.
#include "bench.h"
#include "crowd.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>

#include <optional>

namespace bench {
namespace {

void report(State &state, std::size_t blocked, footprint now) {
	const auto each = static_cast<double>(blocked);
	const footprint before = resident_at_start();
	state.counters["bytes_per_lwp"] = (now.pages + now.page_tables - before.pages - before.page_tables) / each;
	state.counters["page_table_bytes"] = (now.page_tables - before.page_tables) / each;
}

void blocked(State &state, std::size_t count) {
	lwp::runtime rt({.vcpus = 1});
	time_batch(state, 1, [&] {
		const double begin = seconds(CLOCK_MONOTONIC);
		std::optional<crowd> all(std::in_place, state, count, crowd::park::for_ever);
		const double full = seconds(CLOCK_MONOTONIC);
		report(state, count, resident());
		check(state, lwp::runtime::stats().lwps == count + 1, "not as many LWPs as were created");
		const double emptying = seconds(CLOCK_MONOTONIC);
		all.reset();
		const double end = seconds(CLOCK_MONOTONIC);
		state.counters["create_ns"] = 1e9 * (full - begin) / static_cast<double>(count);
		state.counters["end_ns"] = 1e9 * (end - emptying) / static_cast<double>(count);
	});
	check(state, lwp::runtime::stats().lwps == 1, "LWPs are left over");
}

void blocked_pthread(State &state, std::size_t count) {
	const confined here(1);
	time_batch(state, 1, [&] {
		std::vector<parking> seats(count);
		pthreads all;
		for (parking &seat : seats) {
			all.start([&seat] { seat.park(); });
		}
		sched_yield();
		report(state, count, resident());
		for (parking &seat : seats) {
			seat.unpark();
		}
	});
}

}  // namespace

void add_memory() {
	benchmark::RegisterBenchmark("BM_Memory/blocked:1000000/vcpus:1", blocked, 1'000'000U)->Unit(benchmark::kMillisecond);
	benchmark::RegisterBenchmark("BM_Memory/blocked:10000/vcpus:1/pthread", blocked_pthread, 10'000U)->Unit(benchmark::kMillisecond);
}

}  // namespace bench
