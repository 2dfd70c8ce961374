// SPDX-License-Identifier: BSD-2-Clause
//
// The work that every peer does, written once over a small face P of the peer's own calls; go/main.go and tokio/src/main.rs do the same in their
// languages.  No library of ours or theirs here.
//
// A face has run(workers, f), thread(f) with join(), detach(f), yield(), sleep_until(t); and, as far as the peer has them, semaphore, mutex,
// condition, channel(capacity), seat.  run() calls f as a thread of the peer, which has `workers` kernel threads meanwhile; every thread of a
// peer whose stack can be chosen has stack_size.
#pragma once

#include "harness.h"

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

namespace peers {

constexpr std::size_t stack_size = 64 * 1024;  // what ours has by default

// ---- what a peer is given that has a part of it only ---------------------------------------------------------------------

/// For a peer with mutex and condition variable, but no semaphore: what its users write.
template <class Mutex, class Condition>
class made_semaphore {
public:
	explicit made_semaphore(std::ptrdiff_t units) : units_(units) {}
	void acquire() {
		std::unique_lock hold(mutex_);
		condition_.wait(hold, [this] { return units_ > 0; });
		--units_;
	}
	void release() {
		{
			const std::lock_guard hold(mutex_);
			++units_;
		}
		condition_.notify_one();
	}

private:
	Mutex mutex_;
	Condition condition_;
	std::ptrdiff_t units_;  // mutex_
};

/// For C interfaces: calls *p and deletes it.
template <class F>
void *call_and_delete(void *p) {
	const std::unique_ptr<F> call(static_cast<F *>(p));
	(*call)();
	return nullptr;
}

template <class P>
concept with_semaphore = requires {
	typename P::semaphore;
};

/// What a waiter waits at and somebody else opens: the semaphore, or else the seat.
template <class P>
class gate {
public:
	void wait() { seat_.park(); }
	void open() { seat_.unpark(); }

private:
	typename P::seat seat_;
};

template <with_semaphore P>
class gate<P> {
public:
	void wait() { semaphore_.acquire(); }
	void open() { semaphore_.release(); }

private:
	typename P::semaphore semaphore_{0};
};

template <class P>
using threads_of = std::deque<typename P::thread>;

template <class P>
void join(threads_of<P> &all) {
	for (auto &t : all) {
		t.join();
	}
}

/// Threads that yield as long as it lives, and compute between yields if the job says so.
template <class P>
class yield_storm {
public:
	explicit yield_storm(const job &j) {
		for (std::size_t i = 0; i < j.storm; ++i) {
			threads_.emplace_back([this, burst = j.burst] {
				while (!over_.load(std::memory_order_relaxed)) {
					if (burst.count() != 0) {
						compute(burst);
					}
					P::yield();
				}
			});
		}
	}
	~yield_storm() {
		over_.store(true, std::memory_order_relaxed);
		join<P>(threads_);
	}
	yield_storm(const yield_storm &) = delete;
	yield_storm &operator=(const yield_storm &) = delete;

private:
	static void compute(std::chrono::microseconds burst) {
		const clock::time_point until = clock::now() + burst;
		while (clock::now() < until) {
		}
	}
	std::atomic<bool> over_{false};
	threads_of<P> threads_;
};

// ---- switches --------------------------------------------------------------------------------------------------------------

/// `threads` yield, `ops` times together.  An operation is one yield of one kernel thread, so two that do twice as many in the same time read half.
template <class P>
void yield(const job &j) {
	const std::int64_t each = j.ops / static_cast<std::int64_t>(j.threads);
	check(each > 0, "fewer operations than threads");
	std::atomic<bool> go{false};
	std::atomic<std::size_t> begun{0};
	std::atomic<std::int64_t> yields{0};
	threads_of<P> all;
	for (std::size_t i = 0; i < j.threads; ++i) {
		all.emplace_back([&go, &begun, &yields, each] {
			begun.fetch_add(1, std::memory_order_relaxed);
			while (!go.load(std::memory_order_relaxed)) {
				P::yield();
			}
			for (std::int64_t n = 0; n < each; ++n) {
				P::yield();
			}
			yields.fetch_add(each, std::memory_order_relaxed);
		});
	}
	while (begun.load(std::memory_order_relaxed) < j.threads) {
		P::yield();
	}
	P::yield();  // all have touched their stacks
	const stopwatch time;
	go.store(true, std::memory_order_relaxed);
	join<P>(all);
	time.say(each * static_cast<std::int64_t>(j.threads) / j.workers);
	check(yields.load() == each * static_cast<std::int64_t>(j.threads), "a thread did not end");
}

/// Two in turn by park and unpark; an operation is one way.
template <class P>
void park(const job &j) {
	const std::int64_t each = j.ops / 2;
	typename P::seat seat[2];
	// Pairs: the release of one player with the acquire of the other.  A park may end without an unpark, so both look here.
	std::atomic<std::int64_t> turns{0};
	std::atomic<int> ready{0};
	const auto play = [&](int player) {
		seat[player].sit();
		ready.fetch_add(1);
		while (ready.load(std::memory_order_acquire) < 2) {
			P::yield();
		}
		for (std::int64_t n = 0; n < each; ++n) {
			while (turns.load(std::memory_order_acquire) % 2 != player) {
				seat[player].park();
			}
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_release);
			if constexpr (requires { seat[0].hand_over(seat[1]); }) {
				if (player == 0 || n + 1 < each) {  // nobody is left who would end the park after the last turn of all
					seat[player].hand_over(seat[1 - player]);
					continue;
				}
			}
			seat[1 - player].unpark();
		}
	};
	const stopwatch time;
	typename P::thread other([&] { play(1); });
	typename P::thread one([&] { play(0); });
	one.join();
	other.join();
	time.say(2 * each);
	check(turns.load() == 2 * each, "not every turn was taken");
}

/// Two in turn by two semaphores; an operation is one way.
template <class P>
void semaphore(const job &j) {
	const std::int64_t each = j.ops / 2;
	typename P::semaphore ping(0);
	typename P::semaphore pong(0);
	std::int64_t turns = 0;
	const stopwatch time;
	typename P::thread other([&] {
		for (std::int64_t i = 0; i < each; ++i) {
			ping.acquire();
			++turns;
			pong.release();
		}
	});
	for (std::int64_t i = 0; i < each; ++i) {
		ping.release();
		pong.acquire();
	}
	other.join();
	time.say(2 * each);
	check(turns == each, "lost count");
}

/// Two in turn by one condition variable; an operation is one way.
template <class P>
void condvar(const job &j) {
	const std::int64_t each = j.ops / 2;
	typename P::mutex mutex;
	typename P::condition condition;
	std::int64_t done = 0;  // mutex
	const auto play = [&](std::int64_t mine) {
		std::unique_lock hold(mutex);
		for (std::int64_t i = 0; i < each; ++i) {
			condition.wait(hold, [&] { return done % 2 == mine; });
			++done;
			condition.notify_one();
		}
	};
	const stopwatch time;
	typename P::thread other([&] { play(0); });
	play(1);
	other.join();
	time.say(2 * each);
	check(done == 2 * each, "lost count");
}

/// One sends, one receives; an operation is one value.  capacity=0: a rendezvous.
template <class P, bool rendezvous>
void channel(const job &j) {
	const std::int64_t values = j.ops;
	std::int64_t sum = 0;
	typename P::template channel<rendezvous> ch(j.capacity);
	const stopwatch time;
	typename P::thread receiver([&] {
		std::int64_t v = 0;
		while (ch.receive(v)) {
			sum += v;
		}
	});
	typename P::thread sender([&] {
		for (std::int64_t i = 0; i < values; ++i) {
			ch.send(i);
		}
		ch.close();
	});
	sender.join();
	receiver.join();
	time.say(values);
	check(sum == values * (values - 1) / 2, "a value was lost");
}

// ---- lives -----------------------------------------------------------------------------------------------------------------

/// Create one and join it.
template <class P>
void create_join(const job &j) {
	std::int64_t lived = 0;
	const stopwatch time;
	for (std::int64_t i = 0; i < j.ops; ++i) {
		typename P::thread t([&lived] { ++lived; });
		t.join();
	}
	time.say(j.ops);
	check(lived == j.ops, "not every thread ran");
}

/// Create `threads` that nobody joins, then yield until all have run, and so on.
template <class P>
void create_detached(const job &j) {
	const auto at_once = static_cast<std::int64_t>(j.threads);
	const std::int64_t batches = j.ops / at_once;
	check(batches > 0, "fewer operations than threads");
	std::vector<std::atomic<bool>> ran(j.threads);
	const stopwatch time;
	for (std::int64_t i = 0; i < batches; ++i) {
		for (std::atomic<bool> &flag : ran) {
			flag.store(false, std::memory_order_relaxed);
			P::detach([&flag] { flag.store(true, std::memory_order_relaxed); });
		}
		for (std::atomic<bool> &flag : ran) {
			while (!flag.load(std::memory_order_relaxed)) {
				P::yield();
			}
		}
	}
	time.say(batches * at_once);
}

template <class P>
std::int64_t sum_of_leaves(std::int64_t first, std::int64_t leaves) {
	if (leaves == 1) {
		return first;
	}
	constexpr std::size_t children = 10;
	const std::int64_t share = leaves / static_cast<std::int64_t>(children);
	std::array<std::int64_t, children> sums;
	std::array<std::optional<typename P::thread>, children> threads;
	for (std::size_t i = 0; i < children; ++i) {
		const std::int64_t from = first + static_cast<std::int64_t>(i) * share;
		threads[i].emplace([&sum = sums[i], from, share] { sum = sum_of_leaves<P>(from, share); });
	}
	std::int64_t sum = 0;
	for (std::size_t i = 0; i < children; ++i) {
		threads[i]->join();
		sum += sums[i];
	}
	return sum;
}

/// A tree of threads, ten children to each, whose `threads` leaves (a power of ten) are numbered; every parent joins its children and hands up
/// their sum.  Per leaf; `ops` trees, one after the other.
template <class P>
void skynet(const job &j) {
	const auto leaves = static_cast<std::int64_t>(j.threads);
	bool right = true;
	const stopwatch time;
	for (std::int64_t i = 0; i < j.ops; ++i) {
		right = right && sum_of_leaves<P>(0, leaves) == leaves * (leaves - 1) / 2;
	}
	time.say(j.ops * leaves);
	check(right, "wrong sum");
}

// ---- mutexes ---------------------------------------------------------------------------------------------------------------

/// Lock and unlock with nobody else there; a second thread exists, as in any program that needs a mutex.
template <class P>
void mutex_alone(const job &j) {
	gate<P> over;
	typename P::thread company([&] { over.wait(); });
	typename P::mutex m;
	volatile std::int64_t n = 0;
	const stopwatch time;
	for (std::int64_t i = 0; i < j.ops; ++i) {
		m.lock();
		n = n + 1;
		m.unlock();
	}
	time.say(j.ops);
	check(n == j.ops, "lost count");
	over.open();
	company.join();
}

/// `threads` lock, count and unlock; hold=N: each yields in every N-th turn while it has the mutex.  Per pair, all together.
template <class P>
void mutex(const job &j) {
	struct {
		alignas(64) typename P::mutex mutex;
		alignas(64) std::int64_t count = 0;  // mutex
		alignas(64) std::atomic<bool> go{false};
	} game;
	const std::int64_t each = j.ops / static_cast<std::int64_t>(j.threads);
	const std::int64_t hold = j.hold;
	check(each > 0, "fewer operations than threads");
	threads_of<P> all;
	for (std::size_t i = 0; i < j.threads; ++i) {
		all.emplace_back([&game, each, hold] {
			while (!game.go.load(std::memory_order_relaxed)) {
				P::yield();
			}
			for (std::int64_t n = 0; n < each; ++n) {
				game.mutex.lock();
				++game.count;
				if (hold != 0 && n % hold == 0) {
					P::yield();
				}
				game.mutex.unlock();
			}
		});
	}
	P::yield();
	const stopwatch time;
	game.go.store(true, std::memory_order_relaxed);
	join<P>(all);
	const std::int64_t pairs = each * static_cast<std::int64_t>(j.threads);
	time.say(pairs);
	check(game.count == pairs, "lost count");
}

// ---- many ------------------------------------------------------------------------------------------------------------------

/// `threads` blocked: what each of them keeps resident.
template <class P>
void memory(const job &j) {
	const auto count = static_cast<double>(j.threads);
	gate<P> warm;
	typename P::thread first([&] { warm.wait(); });
	warm.open();
	first.join();

	std::vector<std::unique_ptr<gate<P>>> gates;
	constexpr bool one_for_all = with_semaphore<P>;
	gates.resize(one_for_all ? 1 : j.threads);
	for (auto &g : gates) {
		g = std::make_unique<gate<P>>();
	}
	std::atomic<std::size_t> begun{0};
	threads_of<P> all;
	const double before = resident();
	const stopwatch time;
	for (std::size_t i = 0; i < j.threads; ++i) {
		gate<P> &mine = *gates[one_for_all ? 0 : i];
		all.emplace_back([&begun, &mine] {
			begun.fetch_add(1, std::memory_order_relaxed);
			mine.wait();
		});
		if (i % 256 == 0) {
			P::yield();
		}
	}
	while (begun.load(std::memory_order_relaxed) < j.threads) {
		P::yield();
	}
	P::yield();
	say("bytes_per_thread", (resident() - before) / count, "B");
	say("create_ns", 1e9 * time.wall() / count, "ns");
	for (std::size_t i = 0; i < j.threads; ++i) {
		gates[one_for_all ? 0 : i]->open();
		if (i % 256 == 0) {
			P::yield();  // State Threads looks at those again that are woken and have not run
		}
	}
	join<P>(all);
	say("seconds", time.wall(), "s");
}

/// `threads` that sleep for a second: how late each wakes, how late the last is joined, and the CPU of it all.
template <class P>
void sleepers(const job &j) {
	static constexpr std::chrono::seconds nap{1};
	std::vector<std::uint64_t> late(j.threads);
	std::atomic<bool> early{false};
	threads_of<P> all;
	const stopwatch time;
	for (std::uint64_t &mine : late) {
		all.emplace_back([&mine, &early] {
			const clock::time_point deadline = clock::now() + nap;
			P::sleep_until(deadline);
			mine = since(deadline);
			if (clock::now() < deadline) {
				early.store(true, std::memory_order_relaxed);
			}
		});
	}
	join<P>(all);
	const double wall = time.wall();
	say("overshoot_ms", 1e3 * (wall - std::chrono::duration<double>(nap).count()), "ms");
	say("cpu_ms", 1e3 * time.cpu(), "ms");
	say("seconds", wall, "s");
	check(!early.load(), "a sleeper woke before its deadline");
	save(j, late);
}

// ---- latencies: each one is kept ----------------------------------------------------------------------------------------------

/// From just before one opens the gate of another to the other's next instruction; the one waits for the other's answer at once.
template <class P>
void handover_latency(const job &j) {
	const std::int64_t each = j.ops / 2;
	std::vector<std::uint64_t> ns[2];
	ns[0].reserve(static_cast<std::size_t>(each));
	ns[1].reserve(static_cast<std::size_t>(each));
	gate<P> gates[2];
	clock::time_point opened{};  // whoever has the turn: a gate hands it over
	const yield_storm<P> storm(j);
	const auto play = [&](int me) {
		for (std::int64_t i = 0; i < each; ++i) {
			if (me == 1 || i > 0) {
				gates[me].wait();
				ns[me].push_back(since(opened));
			}
			opened = clock::now();
			gates[1 - me].open();
		}
	};
	const stopwatch time;
	typename P::thread other([&] { play(1); });
	typename P::thread one([&] { play(0); });
	one.join();
	other.join();
	time.say(2 * each);
	ns[0].insert(ns[0].end(), ns[1].begin(), ns[1].end());
	save(j, ns[0]);
}

/// From just before the gate is opened to the woken thread's next instruction; the waker sleeps between any two, so that nobody else runs then.
template <class P>
void wake_latency(const job &j) {
	static constexpr std::chrono::microseconds pause{100};
	std::vector<std::uint64_t> ns;
	ns.reserve(static_cast<std::size_t>(j.ops));
	gate<P> bell;
	clock::time_point opened{};         // the gate, and seen
	std::atomic<std::int64_t> seen{0};  // acquire and release pair: `opened` has been read
	const yield_storm<P> storm(j);
	const stopwatch time;
	typename P::thread sleeper([&] {
		for (std::int64_t i = 0; i < j.ops; ++i) {
			bell.wait();
			ns.push_back(since(opened));
			seen.store(i + 1, std::memory_order_release);
		}
	});
	typename P::thread waker([&] {
		for (std::int64_t i = 0; i < j.ops; ++i) {
			P::sleep_until(clock::now() + pause);
			while (seen.load(std::memory_order_acquire) < i) {
				P::yield();
			}
			opened = clock::now();
			bell.open();
		}
	});
	waker.join();
	sleeper.join();
	time.say(j.ops);
	save(j, ns);
}

/// How late one wakes that sleeps for a millisecond, again and again.
template <class P>
void timer_latency(const job &j) {
	std::vector<std::uint64_t> ns;
	ns.reserve(static_cast<std::size_t>(j.ops));
	const yield_storm<P> storm(j);
	const stopwatch time;
	typename P::thread sleeper([&] {
		for (std::int64_t i = 0; i < j.ops; ++i) {
			const clock::time_point deadline = clock::now() + std::chrono::milliseconds(1);
			P::sleep_until(deadline);
			ns.push_back(since(deadline));
		}
	});
	sleeper.join();
	time.say(j.ops);
	save(j, ns);
}

}  // namespace peers
