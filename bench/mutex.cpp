// SPDX-License-Identifier: BSD-2-Clause
//
// Mutexes: what a pair of lock and unlock costs, alone and under contention.  The peers are std's on pthreads.
// Rows are wall time per pair, all threads together.  contended: each thread does nothing but lock, count, unlock.  yielding: the owner yields in
// every 16th turn while it has the mutex, so that the others come to wait for one that does not run.  inherit: a better one waits for a worse one.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>
#include <lwp/shared_mutex.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

namespace bench {
namespace {

struct crew {
	unsigned threads;
	unsigned cpus;
	std::int64_t pairs;  // of all together
	bool yielding = false;
};

// ---- alone

template <class Mutex>
void alone(State &state, std::int64_t pairs) {
	Mutex m;
	std::int64_t n = 0;
	time_batch(state, pairs, [&] {
		for (std::int64_t i = 0; i < pairs; ++i) {
			m.lock();
			++n;
			benchmark::DoNotOptimize(n);
			m.unlock();
		}
	});
	check(state, n == pairs, "lost count");
}

template <class Mutex>
void alone_shared(State &state, std::int64_t pairs) {
	Mutex m;
	time_batch(state, pairs, [&] {
		for (std::int64_t i = 0; i < pairs; ++i) {
			m.lock_shared();
			m.unlock_shared();
		}
	});
	check(state, m.try_lock(), "a reader is left");
	m.unlock();
}

/// A second thread, asleep, as in any program that needs a mutex: without one glibc leaves the atomics out.
class company {
public:
	company() {
		thread_.start([this] { seat_.park(); });
	}
	~company() { seat_.unpark(); }
	company(const company &) = delete;
	company &operator=(const company &) = delete;

private:
	parking seat_;
	pthreads thread_;
};

void pthread_alone(State &state, std::int64_t pairs) {
	company other;
	alone<std::mutex>(state, pairs);
}

void pthread_alone_shared(State &state, std::int64_t pairs) {
	company other;
	alone_shared<std::shared_mutex>(state, pairs);
}

template <class Mutex>
void lwp_alone(State &state, std::int64_t pairs) {
	lwp::runtime rt({.vcpus = 1});
	alone<Mutex>(state, pairs);
}

template <class Mutex>
void lwp_alone_shared(State &state, std::int64_t pairs) {
	lwp::runtime rt({.vcpus = 1});
	alone_shared<Mutex>(state, pairs);
}

// ---- inversion

/// One has the mutex and wakes a better one, which comes to wait for it, lends its priority, is handed the mutex, and sleeps until the next round.
void inherit(State &state, std::int64_t rounds) {
	lwp::runtime rt({.vcpus = 1});
	lwp::mutex m;
	std::int64_t had = 0;
	lwp::thread high({.priority = 60}, [&] {
		while (had < rounds) {
			(void)_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
			m.lock();
			++had;
			m.unlock();
		}
	});
	lwp::thread low({.priority = 10}, [&] {
		time_batch(state, rounds, [&] {
			for (std::int64_t i = 0; i < rounds; ++i) {
				m.lock();
				(void)_lwp_unpark(high.native_handle(), nullptr);
				m.unlock();
			}
		});
	});
	low.join();
	high.join();
	check(state, had == rounds, "a round without a wait");
}

// ---- together

template <class Mutex>
struct contest {
	alignas(64) Mutex mutex;
	alignas(64) std::int64_t count = 0;  // mutex
	alignas(64) std::atomic<bool> go{false};

	template <class Yield>
	void take_part(std::int64_t turns, bool yielding, Yield yield) {
		while (!go.load(std::memory_order_relaxed)) {
			yield();
		}
		for (std::int64_t i = 0; i < turns; ++i) {
			mutex.lock();
			++count;
			if (yielding && i % 16 == 0) {
				yield();
			}
			mutex.unlock();
		}
	}
};

void together(State &state, crew how) {
	lwp::runtime rt({.vcpus = how.cpus});
	const auto game = std::make_unique<contest<lwp::mutex>>();
	const std::int64_t each = how.pairs / how.threads;
	std::vector<lwp::thread> threads;
	for (unsigned i = 0; i < how.threads; ++i) {
		threads.emplace_back([&, each] { game->take_part(each, how.yielding, lwp_yield); });
	}
	lwp_yield();
	time_batch(state, each * how.threads, [&] {
		game->go.store(true, std::memory_order_relaxed);
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	check(state, game->count == each * how.threads, "lost count");
}

void together_pthread(State &state, crew how) {
	const confined cpus(how.cpus);
	const auto game = std::make_unique<contest<std::mutex>>();
	const std::int64_t each = how.pairs / how.threads;
	pthreads threads;
	for (unsigned i = 0; i < how.threads; ++i) {
		threads.start([&, each] { game->take_part(each, how.yielding, sched_yield); });
	}
	time_batch(state, each * how.threads, [&] {
		game->go.store(true, std::memory_order_relaxed);
		threads.join();
	});
	check(state, game->count == each * how.threads, "lost count");
}

// Every 64th turn is a writer's, if there are writers.
template <class Mutex>
void read_in_turns(Mutex &m, std::int64_t turns, bool write, std::int64_t &value) {
	for (std::int64_t i = 0; i < turns; ++i) {
		if (write && i % 64 == 0) {
			m.lock();
			++value;
			m.unlock();
		} else {
			m.lock_shared();
			benchmark::DoNotOptimize(value);
			m.unlock_shared();
		}
	}
}

void shared(State &state, crew how, bool write) {
	lwp::runtime rt({.vcpus = how.cpus});
	lwp::shared_mutex m;
	std::int64_t value = 0;
	const std::int64_t each = how.pairs / how.threads;
	std::vector<lwp::thread> threads;
	time_batch(state, each * how.threads, [&] {
		for (unsigned i = 0; i < how.threads; ++i) {
			threads.emplace_back([&, each] { read_in_turns(m, each, write, value); });
		}
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	check(state, value == (write ? (each + 63) / 64 * how.threads : 0), "lost count");
}

void shared_pthread(State &state, crew how, bool write) {
	const confined cpus(how.cpus);
	std::shared_mutex m;
	std::int64_t value = 0;
	const std::int64_t each = how.pairs / how.threads;
	pthreads threads;
	time_batch(state, each * how.threads, [&] {
		for (unsigned i = 0; i < how.threads; ++i) {
			threads.start([&, each] { read_in_turns(m, each, write, value); });
		}
		threads.join();
	});
	check(state, value == (write ? (each + 63) / 64 * how.threads : 0), "lost count");
}

}  // namespace

void add_mutex() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Mutex/uncontended/vcpus:1", lwp_alone<lwp::mutex>, 20'000'000);
	RegisterBenchmark("BM_Mutex/uncontended/vcpus:1/pthread", pthread_alone, 20'000'000);
	RegisterBenchmark("BM_Mutex/inherit/vcpus:1", inherit, 1'000'000);
	RegisterBenchmark("BM_Mutex/contended/lwps:2/vcpus:2", together, crew{2, 2, 10'000'000});
	RegisterBenchmark("BM_Mutex/contended/lwps:2/vcpus:2/pthread", together_pthread, crew{2, 2, 5'000'000});
	RegisterBenchmark("BM_Mutex/contended/lwps:1000/vcpus:2", together, crew{1000, 2, 10'000'000});
	RegisterBenchmark("BM_Mutex/contended/lwps:1000/vcpus:2/pthread", together_pthread, crew{1000, 2, 5'000'000});
	RegisterBenchmark("BM_Mutex/yielding/lwps:1000/vcpus:1", together, crew{1000, 1, 2'000'000, true});
	RegisterBenchmark("BM_Mutex/yielding/lwps:1000/vcpus:1/pthread", together_pthread, crew{1000, 1, 200'000, true});
	RegisterBenchmark("BM_Mutex/yielding/lwps:1000/vcpus:2", together, crew{1000, 2, 2'000'000, true});
	RegisterBenchmark("BM_Mutex/yielding/lwps:1000/vcpus:2/pthread", together_pthread, crew{1000, 2, 200'000, true});
	RegisterBenchmark("BM_SharedMutex/read_uncontended/vcpus:1", lwp_alone_shared<lwp::shared_mutex>, 20'000'000);
	RegisterBenchmark("BM_SharedMutex/read_uncontended/vcpus:1/pthread", pthread_alone_shared, 10'000'000);
	RegisterBenchmark("BM_SharedMutex/readers/lwps:1000/vcpus:2", shared, crew{1000, 2, 10'000'000}, false);
	RegisterBenchmark("BM_SharedMutex/readers/lwps:1000/vcpus:2/pthread", shared_pthread, crew{1000, 2, 5'000'000}, false);
	RegisterBenchmark("BM_SharedMutex/mixed/lwps:1000/vcpus:2", shared, crew{1000, 2, 10'000'000}, true);
	RegisterBenchmark("BM_SharedMutex/mixed/lwps:1000/vcpus:2/pthread", shared_pthread, crew{1000, 2, 5'000'000}, true);
}

}  // namespace bench
