// SPDX-License-Identifier: BSD-2-Clause
//
// Whether collecting one dead LWP stays flat while others live: create one and _lwp_wait(0) for it, with `live` LWPs beside
// it: the caller, and the rest undetached and blocked in _lwp_park().  pthreads cannot wait for any thread: no peer.
#include "bench.h"
#include "crowd.h"

#include <lwp/lwp.hpp>

namespace bench {
namespace {

void any(State &state, std::size_t live) {
	lwp::runtime rt({.vcpus = 1});
	const crowd others(state, live - 1, crowd::park::for_ever);
	constexpr std::int64_t lives = 500'000;
	std::int64_t lived = 0;
	std::int64_t collected = 0;
	ucontext_t context;
	_lwp_makecontext(
	    &context, [](void *count) { ++*static_cast<std::int64_t *>(count); }, &lived, nullptr, nullptr, 0);
	time_batch(state, lives, [&] {
		for (std::int64_t i = 0; i < lives; ++i) {
			lwpid_t born = 0;
			lwpid_t departed = 0;
			_lwp_create(&context, 0, &born);
			_lwp_wait(0, &departed);
			collected += born != 0 && departed == born ? 1 : 0;
		}
	});
	check(state, lived == lives && collected == lives, "not every LWP ran and was collected");
}

}  // namespace

void add_wait() {
	benchmark::RegisterBenchmark("BM_Wait/any/live:10/vcpus:1", any, 10U);
	benchmark::RegisterBenchmark("BM_Wait/any/live:1000/vcpus:1", any, 1000U);
	benchmark::RegisterBenchmark("BM_Wait/any/live:1000000/vcpus:1", any, 1'000'000U);
}

}  // namespace bench
