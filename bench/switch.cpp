// SPDX-License-Identifier: BSD-2-Clause
//
// What it costs to go from one LWP to another: by lwp_yield(), and by handing over with _lwp_park() that unparks the other.
// Yield rows are per yield and vCPU (wall time * vCPUs / yields); park_unpark rows are per one-way hand-over.
// yield_accounted is a yield while the time that LWPs have their vCPUs is counted (<lwp/usage.h>).
// park_unpark/vcpus:2 goes from one vCPU to the other while a yielding LWP keeps each of them busy, so that none is asleep.
#include "bench.h"
#include "pthread_peer.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <vector>

namespace bench {
namespace {

// ---- yield

struct yielders {
	unsigned threads;
	unsigned cpus;
	std::int64_t yields;  // of all together
	bool accounted = false;
};

void yield(State &state, yielders how) {
	lwp::runtime rt({.vcpus = how.cpus, .accounting = how.accounted});
	const std::int64_t each = how.yields / how.threads;
	std::atomic<bool> go{false};
	std::vector<lwp::thread> threads;
	for (unsigned i = 0; i < how.threads; ++i) {
		threads.emplace_back([&go, each] {
			while (!go.load(std::memory_order_relaxed)) {
				lwp_yield();
			}
			for (std::int64_t n = 0; n < each; ++n) {
				lwp_yield();
			}
		});
	}
	lwp_yield();  // all have begun and touched their stacks
	const std::uint64_t before = lwp::runtime::stats().switches;
	time_batch(state, each * how.threads / how.cpus, [&] {
		go.store(true, std::memory_order_relaxed);
		for (lwp::thread &t : threads) {
			t.join();
		}
	});
	const std::uint64_t switches = lwp::runtime::stats().switches - before;
	// A few yields find nobody else: when the other vCPU has taken the rest, and in the last LWPs that are left.
	check(state, switches >= static_cast<std::uint64_t>(how.yields) * 9 / 10, "fewer context switches than yields");
}

void yield_pthread(State &state, yielders how) {
	const confined cpus(how.cpus);
	const std::int64_t each = how.yields / how.threads;
	std::atomic<bool> go{false};
	std::atomic<std::int64_t> yields{0};
	pthreads threads;
	for (unsigned i = 0; i < how.threads; ++i) {
		threads.start([&go, &yields, each] {
			while (!go.load(std::memory_order_relaxed)) {
				sched_yield();
			}
			for (std::int64_t n = 0; n < each; ++n) {
				sched_yield();
			}
			yields.fetch_add(each, std::memory_order_relaxed);
		});
	}
	time_batch(state, each * how.threads / how.cpus, [&] {
		go.store(true, std::memory_order_relaxed);
		threads.join();
	});
	check(state, yields.load() == each * how.threads, "a thread did not end");
}

// ---- park and unpark

// Whose turn it is.  park() may return without an unpark, so both sides look here; it counts the hand-overs, too.
struct table_tennis {
	std::atomic<std::int64_t> turns{0};

	// Pairs: the release of one player with the acquire of the other, so that what was done before the hand-over is seen after it.
	bool mine(int player) const { return turns.load(std::memory_order_acquire) % 2 == player; }
	void pass() { turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
};

// Player 0 has the first turn; each takes `rounds` turns.
void play(table_tennis &game, int player, std::int64_t rounds, const std::atomic<lwpid_t> &other) {
	for (std::int64_t n = 0; n < rounds; ++n) {
		while (!game.mine(player)) {
			_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
		}
		game.pass();
		if (player == 1 && n + 1 == rounds) {
			_lwp_unpark(other.load(std::memory_order_relaxed), nullptr);  // the last turn of all: nobody would unpark us
		} else {
			_lwp_park(CLOCK_MONOTONIC, 0, nullptr, other.load(std::memory_order_relaxed), nullptr, nullptr);
		}
	}
}

void park_unpark(State &state, unsigned vcpus, std::int64_t rounds) {
	lwp::runtime rt({.vcpus = vcpus});
	table_tennis game;
	std::atomic<lwpid_t> lid[2] = {};
	std::atomic<bool> go{false};
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> players;
	std::vector<lwp::thread> busy;
	for (int player : {0, 1}) {
		const int vcpu = vcpus == 2 ? player : -1;
		players.emplace_back(lwp::attributes{.vcpu = vcpu}, [&, player] {
			lid[player].store(_lwp_self(), std::memory_order_relaxed);
			while (!go.load(std::memory_order_acquire)) {  // pairs with the release below: both ids are there
				lwp_yield();
			}
			play(game, player, rounds, lid[1 - player]);
		});
		if (vcpus == 2) {
			busy.emplace_back(lwp::attributes{.vcpu = vcpu}, [&stop] {
				while (!stop.load(std::memory_order_relaxed)) {
					lwp_yield();
				}
			});
		}
	}
	while (lid[0].load() == 0 || lid[1].load() == 0) {
		lwp_yield();
	}
	time_batch(state, 2 * rounds, [&] {
		go.store(true, std::memory_order_release);
		for (lwp::thread &t : players) {
			t.join();
		}
	});
	stop.store(true, std::memory_order_relaxed);
	for (lwp::thread &t : busy) {
		t.join();
	}
	check(state, game.turns.load() == 2 * rounds, "not every turn was taken");
}

void park_unpark_pthread(State &state, unsigned cpus, std::int64_t rounds) {
	table_tennis game;
	parking seat[2];
	std::atomic<bool> go{false};
	std::atomic<bool> stop{false};
	pthreads players;
	pthreads busy;
	for (unsigned player : {0U, 1U}) {
		const confined here(1, cpus == 2 ? player : 0);  // what is started here inherits it
		players.start([&, player] {
			while (!go.load(std::memory_order_relaxed)) {
				sched_yield();
			}
			for (std::int64_t n = 0; n < rounds; ++n) {
				while (!game.mine(static_cast<int>(player))) {
					seat[player].park();
				}
				game.pass();
				seat[1 - player].unpark();
			}
		});
		if (cpus == 2) {
			busy.start([&stop] {
				while (!stop.load(std::memory_order_relaxed)) {
					sched_yield();
				}
			});
		}
	}
	time_batch(state, 2 * rounds, [&] {
		go.store(true, std::memory_order_relaxed);
		players.join();
	});
	stop.store(true, std::memory_order_relaxed);
	check(state, game.turns.load() == 2 * rounds, "not every turn was taken");
}

}  // namespace

void add_switch() {
	using benchmark::RegisterBenchmark;
	RegisterBenchmark("BM_Switch/yield/lwps:2/vcpus:1", yield, yielders{2, 1, 20'000'000});
	RegisterBenchmark("BM_Switch/yield/lwps:2/vcpus:1/pthread", yield_pthread, yielders{2, 1, 200'000});
	RegisterBenchmark("BM_Switch/yield_accounted/lwps:2/vcpus:1", yield, yielders{2, 1, 20'000'000, true});
	RegisterBenchmark("BM_Switch/yield/lwps:1000/vcpus:1", yield, yielders{1000, 1, 20'000'000});
	RegisterBenchmark("BM_Switch/yield/lwps:1000/vcpus:1/pthread", yield_pthread, yielders{1000, 1, 100'000});
	RegisterBenchmark("BM_Switch/yield/lwps:1000/vcpus:2", yield, yielders{1000, 2, 40'000'000});
	RegisterBenchmark("BM_Switch/yield/lwps:1000/vcpus:2/pthread", yield_pthread, yielders{1000, 2, 100'000});
	RegisterBenchmark("BM_Switch/park_unpark/vcpus:1", park_unpark, 1U, 2'000'000);
	RegisterBenchmark("BM_Switch/park_unpark/vcpus:1/pthread", park_unpark_pthread, 1U, 50'000);
	RegisterBenchmark("BM_Switch/park_unpark/vcpus:2", park_unpark, 2U, 100'000);
	RegisterBenchmark("BM_Switch/park_unpark/vcpus:2/pthread", park_unpark_pthread, 2U, 5'000);
}

}  // namespace bench
