// SPDX-License-Identifier: BSD-2-Clause
//
// What it costs to reach an LWP, or all of them, from outside.
//   BM_Signal/directed        _lwp_kill() of another LWP, and its handler there; beside it a signal to oneself
//   BM_Suspend/running        suspend and continue of one that runs on another vCPU; .../runnable: that is queued behind the caller
//   BM_World/stop             the world stopped, and let go on, among so many that are parked.  A whole run; its counters are us, of the median of the
//                             rounds, and ns_per_lwp
#include "bench.h"
#include "crowd.h"

#include <lwp/lwp.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <string>
#include <vector>

namespace bench {
namespace {

std::atomic<std::int64_t> handled{0};

/// SIGUSR1 is counted while it lives.
class counted_signal {
public:
	counted_signal() {
		struct sigaction action {};
		action.sa_handler = [](int) { handled.store(handled.load(std::memory_order_relaxed) + 1, std::memory_order_release); };
		lwp_sigaction(SIGUSR1, &action, &before_);
		handled = 0;
	}
	~counted_signal() { lwp_sigaction(SIGUSR1, &before_, nullptr); }
	counted_signal(const counted_signal &) = delete;
	counted_signal &operator=(const counted_signal &) = delete;

private:
	struct sigaction before_ {};
};

void signal_oneself(State &state, std::int64_t signals) {
	lwp::runtime rt({.vcpus = 1});
	const counted_signal on;
	time_batch(state, signals, [&] {
		for (std::int64_t i = 0; i < signals; ++i) {
			_lwp_kill(_lwp_self(), SIGUSR1);
		}
	});
	check(state, handled == signals, "a signal was not taken");
}

/// The other one sleeps, wakes for its signal, handles it and sleeps again; the sender yields to it.
void signal_directed(State &state, std::int64_t signals) {
	lwp::runtime rt({.vcpus = 1});
	const counted_signal on;
	bool over = false;  // one vCPU
	lwp::thread target([&over] {
		while (!over) {
			_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
		}
	});
	lwp_yield();
	time_batch(state, signals, [&] {
		for (std::int64_t i = 0; i < signals; ++i) {
			_lwp_kill(target.native_handle(), SIGUSR1);
			while (handled.load(std::memory_order_acquire) == i) {  // pairs with the release in the handler
				lwp_yield();
			}
		}
	});
	over = true;
	_lwp_unpark(target.native_handle(), nullptr);
	target.join();
	check(state, handled == signals, "a signal was not taken");
}

/// It yields all the time, so it comes to its boundary soon; two vCPUs: it runs beside us.
void suspend(State &state, unsigned vcpus, std::int64_t rounds) {
	lwp::runtime rt({.vcpus = vcpus});
	std::atomic<bool> over{false};
	std::atomic<std::int64_t> turns{0};
	lwp::thread target({.vcpu = static_cast<int>(vcpus) - 1}, [&] {
		while (!over.load(std::memory_order_relaxed)) {
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
			lwp_yield();
		}
	});
	lwp::thread suspender({.vcpu = 0}, [&] {
		std::int64_t ran = 0;
		while (turns.load(std::memory_order_relaxed) == 0) {
			lwp_yield();
		}
		time_batch(state, rounds, [&] {
			for (std::int64_t i = 0; i < rounds; ++i) {
				const bool done = _lwp_suspend(target.native_handle()) == 0;
				const std::int64_t before = turns.load(std::memory_order_relaxed);
				const bool on = _lwp_continue(target.native_handle()) == 0;
				while (turns.load(std::memory_order_relaxed) == before) {
					lwp_yield();
				}
				ran += done && on ? 1 : 0;
			}
		});
		check(state, ran == rounds, "a suspend or a continue failed");
	});
	suspender.join();
	over.store(true, std::memory_order_relaxed);
	target.join();
}

void world(State &state, std::size_t parked) {
	constexpr std::size_t rounds = 21;
	lwp::runtime rt({.vcpus = 1});
	const crowd around(state, parked, crowd::park::for_ever);
	std::vector<double> took;
	bool all = true;
	time_batch(state, 1, [&] {
		for (std::size_t i = 0; i < rounds; ++i) {
			const double begin = seconds(CLOCK_MONOTONIC);
			{
				const lwp::stop_the_world w;
				all = all && w.stopped();
			}
			took.push_back(seconds(CLOCK_MONOTONIC) - begin);
		}
	});
	check(state, all, "the world was not stopped");
	std::nth_element(took.begin(), took.begin() + rounds / 2, took.end());
	state.counters["us"] = 1e6 * took[rounds / 2];
	state.counters["ns_per_lwp"] = 1e9 * took[rounds / 2] / static_cast<double>(parked);
}

}  // namespace

void add_stop() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Signal/oneself/vcpus:1", signal_oneself, 1'000'000);
	RegisterBenchmark("BM_Signal/directed/vcpus:1", signal_directed, 500'000);
	RegisterBenchmark("BM_Suspend/runnable/vcpus:1", suspend, 1U, 500'000);
	RegisterBenchmark("BM_Suspend/running/vcpus:2", suspend, 2U, 20'000);
	for (const std::size_t n : {std::size_t{1'000}, std::size_t{100'000}}) {
		RegisterBenchmark(("BM_World/stop/lwps:" + std::to_string(n) + "/vcpus:1").c_str(), world, n)->Unit(benchmark::kMillisecond);
	}
}

}  // namespace bench
