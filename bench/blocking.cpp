// SPDX-License-Identifier: BSD-2-Clause
//
// What it costs to say that a system call may block: an empty region with nobody waiting, and one with an LWP waiting, which a substitute runs
// meanwhile.  Beside them the least that the kernel does for anybody.
#include "bench.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {
namespace {

constexpr std::int64_t regions = 1'000'000;
constexpr std::int64_t handed_over = 20'000;

void region(State &state) {
	lwp::runtime rt({.vcpus = 1});
	time_batch(state, regions, [] {
		for (std::int64_t i = 0; i < regions; i++) {
			lwp::blocking([] {});
		}
	});
	check(state, lwp::runtime::stats().blocking_regions == static_cast<std::uint64_t>(regions), "regions were lost");
}

/// Each region ends when the LWP that was queued behind it has run.
void hand_over(State &state) {
	lwp::runtime rt({.vcpus = 1});
	std::int64_t ran = 0;
	time_batch(state, handed_over, [&] {
		for (std::int64_t i = 0; i < handed_over; i++) {
			std::atomic<bool> done{false};
			lwp::thread other([&] { done = true; });
			lwp::blocking([&] {
				while (!done) {
					(void)::syscall(SYS_sched_yield);
				}
			});
			other.join();
			ran++;
		}
	});
	check(state, ran == handed_over, "not every LWP ran");
}

void system_call(State &state) {
	time_batch(state, regions, [] {
		for (std::int64_t i = 0; i < regions; i++) {
			(void)::syscall(SYS_getppid);
		}
	});
}

}  // namespace

void add_blocking() {
	benchmark::RegisterBenchmark("BM_Blocking/region", region);
	benchmark::RegisterBenchmark("BM_Blocking/hand_over", hand_over);
	benchmark::RegisterBenchmark("BM_Blocking/system_call", system_call);
}

}  // namespace bench
