// SPDX-License-Identifier: BSD-2-Clause
//
// What preemption costs two LWPs that compute on one vCPU: in turns of a slice, against one after the other without it; and one alone, which is never
// interrupted.  Both sides do the same work, by turns, so that what slows the machine slows both.  A whole run; its counters are
//   cpu_percent    what the process needs more of CPU time, the monitor's and the substitutes' included; the median of the rounds
//   wall_percent   the same of wall time
//   preemptions    of one round
//
// And how long a suspend takes of an LWP that does nothing but compute, by itself or in the C library, on one vCPU, from the call to its return; counters:
//   median_ms, p99_ms, worst_ms
#include "bench.h"

#include <lwp/lwp.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
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

cost run(State &state, bool preemption, bool two) {
	lwp::runtime rt({.vcpus = 1, .preemption = preemption});
	const std::uint64_t before = lwp::runtime::stats().preemptions;  // vCPUs are used again
	cost c{-seconds(CLOCK_MONOTONIC), -seconds(CLOCK_PROCESS_CPUTIME_ID), 0};
	std::uint64_t sum = 0;
	lwp::thread other;
	if (two) {
		other = lwp::thread([&] { sum += compute(); });
	}
	sum += compute();
	if (two) {
		other.join();
	}
	c.wall += seconds(CLOCK_MONOTONIC);
	c.cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
	c.preemptions = lwp::runtime::stats().preemptions - before;
	check(state, sum != 0 && (c.preemptions != 0) == (preemption && two), "not preempted, or without having been asked");
	return c;
}

double median(std::vector<double> &of) {
	std::nth_element(of.begin(), of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2), of.end());
	return of[of.size() / 2];
}

void overhead(State &state, bool two) {
	std::vector<double> wall;
	std::vector<double> cpu;
	std::uint64_t preemptions = 0;
	time_batch(state, 1, [&] {
		for (std::size_t i = 0; i < rounds; ++i) {
			const cost with = run(state, true, two);
			const cost without = run(state, false, two);
			wall.push_back(100 * (with.wall / without.wall - 1));
			cpu.push_back(100 * (with.cpu / without.cpu - 1));
			preemptions = with.preemptions;
		}
	});
	state.counters["cpu_percent"] = median(cpu);
	state.counters["wall_percent"] = median(wall);
	state.counters["preemptions"] = static_cast<double>(preemptions);
}

// ---- suspends ------------------------------------------------------------------------------------------------------

enum class work : unsigned { loop, heap, stdio, exceptions };
constexpr const char *work_names[] = {"loop", "heap", "stdio", "exceptions"};

/// Nothing else, between two looks whether it is to end: what it does of its own are the calls.
void some(work kind, std::FILE *nowhere) {
	switch (kind) {
	case work::loop:
		for (int i = 0; i < 1000; i++) {
			asm volatile("" : : : "memory");
		}
		break;
	case work::heap: {
		void *memory = std::malloc(100);
		asm volatile("" : "+r"(memory));
		std::free(memory);
		break;
	}
	case work::stdio:
		(void)std::fprintf(nowhere, "%d %s %f\n", 1000, "words", 1.5);
		break;
	case work::exceptions:
		try {
			throw std::runtime_error("a text that does not fit into a short string");
		} catch (const std::runtime_error &e) {
			benchmark::DoNotOptimize(e.what());
		}
		break;
	}
}

void suspends(State &state, work kind) {
	constexpr std::size_t times = 200;
	lwp::runtime rt({.vcpus = 1, .preemption = true});
	std::FILE *nowhere = std::fopen("/dev/null", "w");
	std::atomic<bool> over{false};
	std::atomic<std::uint64_t> done{0};
	std::vector<double> took;
	bool all = nowhere != nullptr;
	lwp::thread hog([&] {
		while (!over.load(std::memory_order_relaxed)) {
			some(kind, nowhere);
			done.store(done.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
	});
	time_batch(state, 1, [&] {
		for (std::size_t i = 0; i < times; ++i) {
			const std::uint64_t before = done.load(std::memory_order_relaxed);
			do {
				lwp::this_thread::sleep_for(std::chrono::microseconds(1000 + i * 37 % 3000));  // it runs meanwhile, and is taken off for us
			} while (done.load(std::memory_order_relaxed) == before);
			const double begin = seconds(CLOCK_MONOTONIC);
			all = _lwp_suspend(hog.native_handle()) == 0 && all;
			took.push_back(seconds(CLOCK_MONOTONIC) - begin);
			all = _lwp_continue(hog.native_handle()) == 0 && all;
		}
	});
	over.store(true, std::memory_order_relaxed);
	hog.join();
	check(state, all && std::fclose(nowhere) == 0, "a suspend or a continue failed");
	std::sort(took.begin(), took.end());
	state.counters["median_ms"] = 1e3 * took[times / 2];
	state.counters["p99_ms"] = 1e3 * took[times - 1 - times / 100];
	state.counters["worst_ms"] = 1e3 * took.back();
}

}  // namespace

void add_preempt() {
	benchmark::RegisterBenchmark("BM_Preempt/overhead/vcpus:1", overhead, true)->Unit(benchmark::kMillisecond);
	benchmark::RegisterBenchmark("BM_Preempt/alone/vcpus:1", overhead, false)->Unit(benchmark::kMillisecond);
	for (const work kind : {work::loop, work::heap, work::stdio, work::exceptions}) {
		const std::string name = std::string("BM_Preempt/suspend/") + work_names[static_cast<unsigned>(kind)] + "/vcpus:1";
		benchmark::RegisterBenchmark(name.c_str(), suspends, kind)->Unit(benchmark::kMillisecond);
	}
}

}  // namespace bench
