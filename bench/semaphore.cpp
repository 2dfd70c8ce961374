// SPDX-License-Identifier: BSD-2-Clause
//
// Semaphores.  handover: two threads in turn by two semaphores; wall time of one way.  uncontended: wall time of acquire and release together.
// The peers are std's on pthreads.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>
#include <lwp/semaphore.hpp>

#include <semaphore>

namespace bench {
namespace {

template <class Semaphore>
struct rally {
	Semaphore ping{0};
	Semaphore pong{0};
	std::int64_t turns = 0;

	void answer(std::int64_t each) {
		for (std::int64_t i = 0; i < each; ++i) {
			ping.acquire();
			++turns;
			pong.release();
		}
	}
	void serve(std::int64_t each) {
		for (std::int64_t i = 0; i < each; ++i) {
			ping.release();
			pong.acquire();
		}
	}
};

void handover(State &state, unsigned cpus) {
	lwp::runtime rt({.vcpus = cpus});
	constexpr std::int64_t each = 1'000'000;
	rally<lwp::binary_semaphore> game;
	time_batch(state, 2 * each, [&] {
		lwp::thread other([&] { game.answer(each); });
		game.serve(each);
		other.join();
	});
	check(state, game.turns == each, "lost count");
}

void handover_pthread(State &state, unsigned cpus) {
	const confined there(cpus);
	constexpr std::int64_t each = 50'000;
	rally<std::binary_semaphore> game;
	time_batch(state, 2 * each, [&] {
		pthreads other;
		other.start([&] { game.answer(each); });
		game.serve(each);
	});
	check(state, game.turns == each, "lost count");
}

template <class Semaphore>
void alone(State &state) {
	constexpr std::int64_t pairs = 20'000'000;
	Semaphore s{1};
	time_batch(state, pairs, [&] {
		for (std::int64_t i = 0; i < pairs; ++i) {
			s.acquire();
			s.release();
		}
	});
	check(state, s.try_acquire() && !s.try_acquire(), "units lost or made");
}

void lwp_alone(State &state) {
	lwp::runtime rt({.vcpus = 1});
	alone<lwp::counting_semaphore<>>(state);
}

}  // namespace

void add_semaphore() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Semaphore/uncontended/vcpus:1", lwp_alone);
	RegisterBenchmark("BM_Semaphore/uncontended/vcpus:1/pthread", alone<std::counting_semaphore<>>);
	RegisterBenchmark("BM_Semaphore/handover/vcpus:1", handover, 1U);
	RegisterBenchmark("BM_Semaphore/handover/vcpus:1/pthread", handover_pthread, 1U);
	RegisterBenchmark("BM_Semaphore/handover/vcpus:2", handover, 2U);
	RegisterBenchmark("BM_Semaphore/handover/vcpus:2/pthread", handover_pthread, 2U);
}

}  // namespace bench
