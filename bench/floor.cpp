// SPDX-License-Identifier: BSD-2-Clause
//
// The floor: what the machine charges for the things that operations of the library are made of.  No library here.
// BM_Floor/fiber_resume is the unit of the table's ratios: ONE resume of a bare boost::context::fiber.  stack_page: of each of 100,000 stacks of 64 KiB one
// page is touched, then all are given back: what the kernel has to do for a thread with a stack of its own.
#include "bench.h"

#include <boost/context/fiber.hpp>

#include <sys/mman.h>

#include <atomic>
#include <utility>

namespace bench {
namespace {

namespace ctx = boost::context;

void fiber_resume(State &state) {
	constexpr std::int64_t rounds = 10'000'000;
	std::int64_t resumed = 0;
	bool stop = false;
	ctx::fiber other([&](ctx::fiber &&back) {
		while (!stop) {
			++resumed;
			back = std::move(back).resume();
		}
		return std::move(back);
	});
	time_batch(state, 2 * rounds, [&] {  // there and back: two
		for (std::int64_t i = 0; i < rounds; ++i) {
			other = std::move(other).resume();
		}
	});
	check(state, resumed == rounds, "the fiber did not run once a round");
	stop = true;
	other = std::move(other).resume();
}

// The cheapest spin lock: xchg to take it, a store to let it go.
class spinlock {
public:
	void lock() {
		while (taken_.exchange(1, std::memory_order_acquire) != 0) {  // pairs with the release in unlock()
		}
	}
	void unlock() { taken_.store(0, std::memory_order_release); }

private:
	std::atomic<std::uint32_t> taken_{0};
};

void spinlock_pair(State &state) {
	constexpr std::int64_t pairs = 20'000'000;
	spinlock lock;
	std::int64_t inside = 0;
	time_batch(state, pairs, [&] {
		for (std::int64_t i = 0; i < pairs; ++i) {
			benchmark::DoNotOptimize(lock);
			lock.lock();
			++inside;
			lock.unlock();
		}
	});
	check(state, inside == pairs, "the lock was not taken once a pair");
}

void stack_page(State &state) {
	constexpr std::size_t stack = 64 * 1024;
	constexpr std::size_t count = 100'000;
	bool mapped = true;
	time_batch(state, count, [&] {
		void *all = mmap(nullptr, count * stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (all == MAP_FAILED) {
			mapped = false;
			return;
		}
		(void)madvise(all, count * stack, MADV_NOHUGEPAGE);  // no more than was touched
		for (std::size_t i = 1; i <= count; ++i) {
			static_cast<volatile char *>(all)[i * stack - 64] = 1;
		}
		munmap(all, count * stack);
	});
	check(state, mapped, "no memory");
}

}  // namespace

void add_floor() {
	benchmark::RegisterBenchmark("BM_Floor/fiber_resume", fiber_resume);
	benchmark::RegisterBenchmark("BM_Floor/spinlock", spinlock_pair);
	benchmark::RegisterBenchmark("BM_Floor/stack_page", stack_page);
}

}  // namespace bench
