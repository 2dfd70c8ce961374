// SPDX-License-Identifier: BSD-2-Clause
//
// Condition variables.  handover: two threads in turn, each waits for the other; wall time of one way.  broadcast: one notify_all to all that wait,
// until each has had the mutex; wall time for each of them.  held: the notifier has the mutex.  The peers are std's on pthreads.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/condition_variable.hpp>
#include <lwp/lwp.hpp>

#include <condition_variable>
#include <mutex>
#include <vector>

namespace bench {
namespace {

template <class Mutex, class Condition>
struct turns {
	Mutex mutex;
	Condition condition;
	std::int64_t done = 0;  // mutex

	void play(std::int64_t mine, std::int64_t each) {
		std::unique_lock hold(mutex);
		for (std::int64_t i = 0; i < each; ++i) {
			condition.wait(hold, [&] { return done % 2 == mine; });
			++done;
			condition.notify_one();
		}
	}
};

void handover(State &state, unsigned cpus) {
	lwp::runtime rt({.vcpus = cpus});
	constexpr std::int64_t each = 1'000'000;
	turns<lwp::mutex, lwp::condition_variable> game;
	time_batch(state, 2 * each, [&] {
		lwp::thread other([&] { game.play(0, each); });
		game.play(1, each);
		other.join();
	});
	check(state, game.done == 2 * each, "lost count");
}

void handover_pthread(State &state, unsigned cpus) {
	const confined there(cpus);
	constexpr std::int64_t each = 50'000;
	turns<std::mutex, std::condition_variable> game;
	time_batch(state, 2 * each, [&] {
		pthreads other;
		other.start([&] { game.play(0, each); });
		game.play(1, each);
	});
	check(state, game.done == 2 * each, "lost count");
}

template <class Mutex, class Condition>
struct crowd_that_waits {
	Mutex mutex;
	Condition condition;
	std::int64_t waiting = 0;  // mutex
	std::int64_t through = 0;  // mutex
	std::int64_t round = 0;    // mutex

	void take_part(std::int64_t rounds) {
		std::unique_lock hold(mutex);
		for (std::int64_t i = 0; i < rounds; ++i) {
			++waiting;
			condition.wait(hold, [&] { return round > i; });
			++through;
		}
	}
	template <class Yield>
	void lead(State &state, std::int64_t size, std::int64_t rounds, bool held, Yield yield) {
		for (std::int64_t i = 0; i < rounds; ++i) {
			await(waiting, size * (i + 1), yield);
			state.ResumeTiming();
			std::unique_lock hold(mutex);
			++round;
			if (!held) {
				hold.unlock();
			}
			condition.notify_all();
			if (held) {
				hold.unlock();
			}
			await(through, size * (i + 1), yield);
			state.PauseTiming();
		}
	}

private:
	template <class Yield>
	void await(const std::int64_t &number, std::int64_t wanted, Yield yield) {
		for (;;) {
			{
				const std::lock_guard hold(mutex);
				if (number >= wanted) {
					return;
				}
			}
			yield();
		}
	}
};

struct party {
	std::int64_t size;
	unsigned cpus;
	bool held;
	std::int64_t rounds;
};

void broadcast(State &state, party how) {
	lwp::runtime rt({.vcpus = how.cpus});
	crowd_that_waits<lwp::mutex, lwp::condition_variable> game;
	std::vector<lwp::thread> all;
	for (std::int64_t i = 0; i < how.size; ++i) {
		all.emplace_back([&] { game.take_part(how.rounds); });
	}
	time_batch(state, how.size * how.rounds, [&] {
		state.PauseTiming();
		game.lead(state, how.size, how.rounds, how.held, lwp_yield);
		state.ResumeTiming();
	});
	for (lwp::thread &t : all) {
		t.join();
	}
	check(state, game.through == how.size * how.rounds, "lost count");
}

void broadcast_pthread(State &state, party how) {
	const confined there(how.cpus);
	crowd_that_waits<std::mutex, std::condition_variable> game;
	pthreads all;
	for (std::int64_t i = 0; i < how.size; ++i) {
		all.start([&] { game.take_part(how.rounds); });
	}
	time_batch(state, how.size * how.rounds, [&] {
		state.PauseTiming();
		game.lead(state, how.size, how.rounds, how.held, sched_yield);
		state.ResumeTiming();
	});
	all.join();
	check(state, game.through == how.size * how.rounds, "lost count");
}

}  // namespace

void add_condvar() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Condvar/handover/vcpus:1", handover, 1U);
	RegisterBenchmark("BM_Condvar/handover/vcpus:1/pthread", handover_pthread, 1U);
	RegisterBenchmark("BM_Condvar/handover/vcpus:2", handover, 2U);
	RegisterBenchmark("BM_Condvar/handover/vcpus:2/pthread", handover_pthread, 2U);
	RegisterBenchmark("BM_Condvar/broadcast/lwps:10000/vcpus:1", broadcast, party{10'000, 1, false, 20});
	RegisterBenchmark("BM_Condvar/broadcast/lwps:10000/vcpus:2", broadcast, party{10'000, 2, false, 20});
	RegisterBenchmark("BM_Condvar/broadcast/lwps:10000/vcpus:2/pthread", broadcast_pthread, party{10'000, 2, false, 2});
	RegisterBenchmark("BM_Condvar/broadcast_held/lwps:10000/vcpus:1", broadcast, party{10'000, 1, true, 20});
	RegisterBenchmark("BM_Condvar/broadcast_held/lwps:10000/vcpus:2", broadcast, party{10'000, 2, true, 20});
}

}  // namespace bench
