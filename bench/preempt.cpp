// SPDX-License-Identifier: BSD-2-Clause
//
// What preemption costs two LWPs that compute on one vCPU: in turns of a slice, against one after the other.  Both rows do the same work; the second
// half of a percent is the clock's.
#include "bench.h"

#include <lwp/lwp.hpp>

#include <optional>

namespace bench {
namespace {

constexpr std::int64_t steps = 400'000'000;  // of each

/// About a nanosecond each, and nothing that a compiler can leave out.
std::uint64_t compute() {
	std::uint64_t x = 1;
	for (std::int64_t i = 0; i < steps; i++) {
		x = x * 6364136223846793005U + 1442695040888963407U;
		asm volatile("" : "+r"(x));
	}
	return x;
}

void two(State &state, bool in_turns) {
	lwp::runtime rt({.vcpus = 1});
	std::uint64_t sum = 0;
	time_batch(state, 2 * steps, [&] {
		lwp::thread other([&] {
			std::optional<lwp::no_preempt> guard;
			if (!in_turns) {
				guard.emplace();
			}
			sum += compute();
		});
		{
			std::optional<lwp::no_preempt> guard;
			if (!in_turns) {
				guard.emplace();
			}
			sum += compute();
		}
		other.join();
	});
	const std::uint64_t preempted = lwp::runtime::stats().preemptions;
	state.counters["preemptions"] = static_cast<double>(preempted);
	check(state, sum != 0 && (preempted != 0) == in_turns, "not as the row says");
}

}  // namespace

void add_preempt() {
	benchmark::RegisterBenchmark("BM_Preempt/overhead", [](State &s) { two(s, true); });
	benchmark::RegisterBenchmark("BM_Preempt/one_after_the_other", [](State &s) { two(s, false); });
}

}  // namespace bench
