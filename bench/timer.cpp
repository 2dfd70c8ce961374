// SPDX-License-Identifier: BSD-2-Clause
//
// Many that sleep for one second, all at once.  A whole run; its counters are
//   overshoot_ms  from the first creation to the last end, less the second
//   late_ms       how long after its own deadline the latest one woke
//   cpu_ms        CPU of the process from the first creation to the last end
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace bench {
namespace {

using clock = std::chrono::steady_clock;
constexpr std::chrono::seconds nap{1};

// What the sleepers report.
class wakes {
public:
	void woke(clock::time_point deadline) {
		const std::int64_t late = (clock::now() - deadline).count();
		count_.fetch_add(1, std::memory_order_relaxed);
		if (late < 0) {
			early_.store(true, std::memory_order_relaxed);
		}
		std::int64_t latest = latest_.load(std::memory_order_relaxed);
		while (latest < late && !latest_.compare_exchange_weak(latest, late, std::memory_order_relaxed)) {
		}
	}
	void report(State &state, std::size_t sleepers, double wall, double cpu) const {
		check(state, count_.load() == sleepers, "not every sleeper woke");
		check(state, !early_.load(), "a sleeper woke before its deadline");
		state.counters["overshoot_ms"] = 1e3 * (wall - std::chrono::duration<double>(nap).count());
		state.counters["late_ms"] = 1e-6 * static_cast<double>(latest_.load());
		state.counters["cpu_ms"] = 1e3 * cpu;
	}

private:
	std::atomic<std::size_t> count_{0};
	std::atomic<std::int64_t> latest_{0};
	std::atomic<bool> early_{false};
};

void sleepers(State &state, std::size_t count, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	wakes all;
	std::vector<lwp::thread> threads;
	threads.reserve(count);
	const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	const double begin = seconds(CLOCK_MONOTONIC);
	time_batch(state, 1, [&] {
		for (std::size_t i = 0; i < count; ++i) {
			threads.emplace_back([&all] {
				const clock::time_point deadline = clock::now() + nap;
				lwp::this_thread::sleep_until(deadline);
				all.woke(deadline);
			});
		}
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	all.report(state, count, seconds(CLOCK_MONOTONIC) - begin, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

void sleepers_pthread(State &state, std::size_t count, unsigned cpus) {
	const confined here(cpus);
	wakes all;
	const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	const double begin = seconds(CLOCK_MONOTONIC);
	time_batch(state, 1, [&] {
		pthreads threads;
		for (std::size_t i = 0; i < count; ++i) {
			threads.start([&all] {
				const clock::time_point deadline = clock::now() + nap;
				std::this_thread::sleep_until(deadline);
				all.woke(deadline);
			});
		}
	});
	all.report(state, count, seconds(CLOCK_MONOTONIC) - begin, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

}  // namespace

void add_timer() {
	const auto add = [](const char *name, auto *run, std::size_t count, unsigned cpus) {
		benchmark::RegisterBenchmark(name, run, count, cpus)->Unit(benchmark::kMillisecond);
	};
	add("BM_Timer/sleepers:100000/vcpus:1", sleepers, 100'000, 1);
	add("BM_Timer/sleepers:100000/vcpus:2", sleepers, 100'000, 2);
	add("BM_Timer/sleepers:10000/vcpus:2/pthread", sleepers_pthread, 10'000, 2);
}

}  // namespace bench
