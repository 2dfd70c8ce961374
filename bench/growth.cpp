// SPDX-License-Identifier: BSD-2-Clause
//
// What one operation costs as everything around it grows: among 10 to 1,000,000 LWPs, at 1 to 10,000 timers a millisecond.  The price should
// be the same in each row of a family, or the memory's: a million LWPs do not fit any cache, so each switch among them misses some lines.
//   handover      two LWPs in turn by semaphores, beside so many that are parked; one way
//   create_join   a life, beside so many that are parked
//   yield         one yield of so many LWPs that do nothing else
//   timers        LWPs that sleep for 10 ms again and again, as many as make so many timers a millisecond.  A whole run; its counters are
//                 cpu_ns, CPU of the process for each timer, and late_us, how late the median one was
#include "bench.h"
#include "crowd.h"

#include <lwp/lwp.hpp>
#include <lwp/semaphore.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <vector>

namespace bench {
namespace {

using clock = std::chrono::steady_clock;

void handover(State &state, std::size_t parked) {
	lwp::runtime rt({.vcpus = 1});
	const crowd around(state, parked, crowd::park::for_ever);
	constexpr std::int64_t each = 500'000;
	lwp::binary_semaphore ping{0};
	lwp::binary_semaphore pong{0};
	std::int64_t turns = 0;
	time_batch(state, 2 * each, [&] {
		lwp::thread other([&] {
			for (std::int64_t i = 0; i < each; ++i) {
				ping.acquire();
				++turns;
				pong.release();
			}
		});
		for (std::int64_t i = 0; i < each; ++i) {
			ping.release();
			pong.acquire();
		}
		other.join();
	});
	check(state, turns == each, "lost count");
}

void create_join(State &state, std::size_t parked) {
	lwp::runtime rt({.vcpus = 1});
	const crowd around(state, parked, crowd::park::for_ever);
	constexpr std::int64_t lives = 500'000;
	std::int64_t lived = 0;
	time_batch(state, lives, [&] {
		for (std::int64_t i = 0; i < lives; ++i) {
			lwp::thread t([&lived] { ++lived; });
			t.join();
		}
	});
	check(state, lived == lives, "not every LWP ran");
}

void yield(State &state, std::size_t lwps) {
	lwp::runtime rt({.vcpus = 1});
	const auto count = static_cast<std::int64_t>(lwps);
	const std::int64_t each = std::max<std::int64_t>(10, 5'000'000 / count);
	std::atomic<bool> go{false};
	std::size_t begun = 0;  // one vCPU
	std::vector<lwp::thread> threads;
	threads.reserve(lwps);
	for (std::size_t i = 0; i < lwps; ++i) {
		threads.emplace_back([&go, &begun, each] {
			++begun;
			while (!go.load(std::memory_order_relaxed)) {
				lwp_yield();
			}
			for (std::int64_t n = 0; n < each; ++n) {
				lwp_yield();
			}
		});
	}
	while (begun < lwps) {
		lwp_yield();
	}
	lwp_yield();  // all have touched their stacks
	const std::uint64_t before = lwp::runtime::stats().switches;
	time_batch(state, each * count, [&] {
		go.store(true, std::memory_order_relaxed);
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	const std::uint64_t switches = lwp::runtime::stats().switches - before;
	check(state, switches >= static_cast<std::uint64_t>(each * count) * 9 / 10, "fewer context switches than yields");
}

void timers(State &state, std::size_t per_ms) {
	static constexpr std::chrono::milliseconds period{10};
	constexpr std::size_t rounds = 50;
	const std::size_t lwps = 10 * per_ms;
	lwp::runtime rt({.vcpus = 1});
	std::vector<std::int64_t> late(lwps * rounds);
	bool early = false;  // one vCPU
	std::vector<lwp::thread> threads;
	threads.reserve(lwps);
	const clock::time_point begin = clock::now() + std::chrono::milliseconds(50) + std::chrono::nanoseconds(500 * lwps);
	for (std::size_t i = 0; i < lwps; ++i) {
		threads.emplace_back([&late, &early, i, lwps, begin] {
			clock::time_point deadline = begin + i * std::chrono::nanoseconds(period) / lwps;  // spread evenly
			lwp::this_thread::sleep_until(deadline);
			for (std::size_t k = 0; k < rounds; ++k) {
				deadline += period;
				lwp::this_thread::sleep_until(deadline);
				late[i * rounds + k] = (clock::now() - deadline).count();
				early |= late[i * rounds + k] < 0;
			}
		});
	}
	lwp::this_thread::sleep_until(begin + period);
	double cpu = -seconds(CLOCK_PROCESS_CPUTIME_ID);
	time_batch(state, 1, [&] {
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
	check(state, !early, "one woke before its deadline");
	std::nth_element(late.begin(), late.begin() + static_cast<std::ptrdiff_t>(late.size() / 2), late.end());
	state.counters["cpu_ns"] = 1e9 * cpu / static_cast<double>(late.size());
	state.counters["late_us"] = 1e-3 * static_cast<double>(late[late.size() / 2]);
}

}  // namespace

void add_growth() {
	const auto add = [](const char *family, auto *run, std::initializer_list<std::size_t> sizes, const char *of) {
		std::vector<benchmark::internal::Benchmark *> rows;
		for (const std::size_t n : sizes) {
			std::string name = "BM_Growth/";
			name.append(family).append(of).append(std::to_string(n)).append("/vcpus:1");
			rows.push_back(benchmark::RegisterBenchmark(name.c_str(), run, n));
		}
		return rows;
	};
	add("handover", handover, {10, 1'000, 100'000, 1'000'000}, "/parked:");
	add("create_join", create_join, {10, 1'000, 100'000, 1'000'000}, "/parked:");
	add("yield", yield, {10, 1'000, 100'000, 1'000'000}, "/lwps:");
	for (auto *row : add("timers", timers, {1, 10, 100, 1'000, 10'000}, "/per_ms:")) {
		row->Unit(benchmark::kMillisecond);
	}
}

}  // namespace bench
