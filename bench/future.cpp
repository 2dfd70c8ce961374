// SPDX-License-Identifier: BSD-2-Clause
//
// What a result costs.  set_get: a promise is set and its future read, by one LWP.  handover: an LWP waits for each result and is woken by it.
// async: an LWP is made for each result.  scope: a child is started in a scope and has ended before the next but 64.  parallel_for: a loop of two empty
// elements, which is the dearest an element gets, beside the plain loop.
#include "bench.h"

#include <lwp/future.hpp>
#include <lwp/parallel.hpp>
#include <lwp/runtime.hpp>
#include <lwp/scope.hpp>

#include <atomic>
#include <cstdint>
#include <future>
#include <vector>

namespace bench {
namespace {

template <template <class> class Promise>
void set_get(State &state) {
	lwp::runtime rt({.vcpus = 1});
	constexpr std::int64_t results = 1'000'000;
	std::int64_t sum = 0;
	time_batch(state, results, [&] {
		for (std::int64_t i = 0; i < results; ++i) {
			Promise<int> p;
			auto f = p.get_future();
			p.set_value(1);
			sum += f.get();
		}
	});
	check(state, sum == results, "a result was lost");
}

void handover(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t results = 200'000;
	std::vector<lwp::promise<int>> promises(results);
	std::vector<lwp::future<int>> futures;
	for (auto &p : promises) {
		futures.push_back(p.get_future());
	}
	std::int64_t sum = 0;
	time_batch(state, results, [&] {
		lwp::thread waiter([&] {
			for (auto &f : futures) {
				sum += f.get();
			}
		});
		for (auto &p : promises) {
			p.set_value(1);
			lwp::this_thread::yield();
		}
		waiter.join();
	});
	check(state, sum == results, "a result was lost");
}

void async(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t results = 500'000;
	std::int64_t sum = 0;
	time_batch(state, results, [&] {
		for (std::int64_t i = 0; i < results; ++i) {
			sum += lwp::async([] { return 1; }).get();
		}
	});
	check(state, sum == results, "a result was lost");
}

void children(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t count = 1'000'000;
	std::atomic<std::int64_t> ran{0};
	time_batch(state, count, [&] {
		lwp::scope scope;
		for (std::int64_t i = 0; i < count; ++i) {
			scope.start([&ran] { ran.fetch_add(1, std::memory_order_relaxed); });
			if (i % 64 == 63) {
				scope.join();
			}
		}
		scope.join();
	});
	check(state, ran == count, "not every child ran");
}

void tiny_loop(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t loops = 100'000;
	std::atomic<std::int64_t> ran{0};
	time_batch(state, loops, [&] {
		for (std::int64_t i = 0; i < loops; ++i) {
			lwp::parallel_for(0, 2, [&ran](int) { ran.fetch_add(1, std::memory_order_relaxed); });
		}
	});
	check(state, ran == 2 * loops, "not every element was done");
}

void long_loop(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t elements = 1'000'000;
	std::vector<std::uint32_t> out(elements);
	time_batch(state, elements, [&] {
		lwp::parallel_for(std::size_t{0}, out.size(), [&out](std::size_t i) {
			auto x = static_cast<std::uint32_t>(i) | 1U;
			for (int k = 0; k < 100; ++k) {
				x = x * 1664525U + 1013904223U;
			}
			out[i] = x | 1U;
		});
	});
	bool all = true;
	for (const std::uint32_t x : out) {
		all = all && x != 0;
	}
	check(state, all, "not every element was done");
}

}  // namespace

void add_future() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Future/set_get", set_get<lwp::promise>);
	RegisterBenchmark("BM_Future/set_get/std", set_get<std::promise>);
	RegisterBenchmark("BM_Future/handover/vcpus:1", handover, 1U);
	RegisterBenchmark("BM_Future/handover/vcpus:2", handover, 2U);
	RegisterBenchmark("BM_Future/async/vcpus:1", async, 1U);
	RegisterBenchmark("BM_Future/async/vcpus:2", async, 2U);
	RegisterBenchmark("BM_Future/scope/vcpus:1", children, 1U);
	RegisterBenchmark("BM_Future/scope/vcpus:2", children, 2U);
	RegisterBenchmark("BM_Future/parallel_for:2/vcpus:1", tiny_loop, 1U);
	RegisterBenchmark("BM_Future/parallel_for:2/vcpus:2", tiny_loop, 2U);
	RegisterBenchmark("BM_Future/parallel_for/vcpus:1", long_loop, 1U);
	RegisterBenchmark("BM_Future/parallel_for/vcpus:2", long_loop, 2U);
}

}  // namespace bench
