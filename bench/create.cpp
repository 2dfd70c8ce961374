// SPDX-License-Identifier: BSD-2-Clause
//
// What an LWP costs from birth to burial, when a dead one is there to be recycled.  Always one creator.
// join: create one and join it.  detached: create one and yield until it has run, so there is one at a time and every life includes
// two switches.  detached/batch:64: create 64, then yield until all have run: what a server does that takes its input in batches.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>

#include <array>
#include <atomic>

namespace bench {
namespace {

void join(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t lives = 1'000'000;
	std::int64_t lived = 0;
	time_batch(state, lives, [&] {
		for (std::int64_t i = 0; i < lives; ++i) {
			lwp::thread t([&lived] { ++lived; });
			t.join();
		}
	});
	check(state, lived == lives, "not every LWP ran");
	check(state, lwp::runtime::stats().lwps == 1, "LWPs are left over");
}

void join_pthread(State &state, unsigned cpus) {
	const confined here(cpus);
	constexpr std::int64_t lives = 3'000;
	std::int64_t lived = 0;
	bool started = true;
	time_batch(state, lives, [&] {
		for (std::int64_t i = 0; i < lives && started; ++i) {
			pthread_t thread;
			started = start_pthread(&thread, nullptr, [&lived] { ++lived; }) == 0;
			if (started) {
				pthread_join(thread, nullptr);
			}
		}
	});
	check(state, lived == lives, "not every thread ran");
}

// Each life sets its own flag: that it ran is known without a locked instruction.
template <std::size_t at_once>
void detached(State &state, unsigned vcpus) {
	lwp::runtime rt({.vcpus = vcpus});
	constexpr std::int64_t batches = 1'000'000 / at_once;
	std::array<std::atomic<bool>, at_once> ran{};
	time_batch(state, batches * static_cast<std::int64_t>(at_once), [&] {
		for (std::int64_t i = 0; i < batches; ++i) {
			for (std::atomic<bool> &flag : ran) {
				flag.store(false, std::memory_order_relaxed);
				lwp::thread({.detached = true}, [&flag] { flag.store(true, std::memory_order_relaxed); });
			}
			for (std::atomic<bool> &flag : ran) {
				while (!flag.load(std::memory_order_relaxed)) {
					lwp_yield();
				}
			}
		}
	});
	// The last ones may be in their exits on the other vCPU; the runtime's destructor waits for them.
	check(state, lwp::runtime::stats().lwps <= 1 + at_once, "LWPs are left over");
}

template <std::size_t at_once>
void detached_pthread(State &state, unsigned cpus) {
	const confined here(cpus);
	constexpr std::int64_t batches = 3'200 / at_once;
	std::array<std::atomic<bool>, at_once> ran{};
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool started = true;
	time_batch(state, batches * static_cast<std::int64_t>(at_once), [&] {
		for (std::int64_t i = 0; i < batches && started; ++i) {
			for (std::atomic<bool> &flag : ran) {
				flag.store(false, std::memory_order_relaxed);
				pthread_t thread;
				started = started && start_pthread(&thread, &attr, [&flag] { flag.store(true, std::memory_order_relaxed); }) == 0;
			}
			for (std::atomic<bool> &flag : ran) {
				while (started && !flag.load(std::memory_order_relaxed)) {
					sched_yield();
				}
			}
		}
	});
	pthread_attr_destroy(&attr);
	check(state, started, "pthread_create failed");
}

}  // namespace

void add_create() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Create/join/vcpus:1", join, 1U);
	RegisterBenchmark("BM_Create/join/vcpus:1/pthread", join_pthread, 1U);
	RegisterBenchmark("BM_Create/join/vcpus:2", join, 2U);
	RegisterBenchmark("BM_Create/join/vcpus:2/pthread", join_pthread, 2U);
	RegisterBenchmark("BM_Create/detached/vcpus:1", detached<1>, 1U);
	RegisterBenchmark("BM_Create/detached/vcpus:1/pthread", detached_pthread<1>, 1U);
	RegisterBenchmark("BM_Create/detached/vcpus:2", detached<1>, 2U);
	RegisterBenchmark("BM_Create/detached/vcpus:2/pthread", detached_pthread<1>, 2U);
	RegisterBenchmark("BM_Create/detached/batch:64/vcpus:1", detached<64>, 1U);
	RegisterBenchmark("BM_Create/detached/batch:64/vcpus:1/pthread", detached_pthread<64>, 1U);
	RegisterBenchmark("BM_Create/detached/batch:64/vcpus:2", detached<64>, 2U);
	RegisterBenchmark("BM_Create/detached/batch:64/vcpus:2/pthread", detached_pthread<64>, 2U);
}

}  // namespace bench
