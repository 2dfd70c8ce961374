// SPDX-License-Identifier: BSD-2-Clause
//
// The floor: what the machine charges for the things that operations of the library are made of.  No library here.
// BM_Floor/fiber_resume is the unit of the table's ratios: ONE resume of a bare boost::context::fiber.  stack_page: of each of 100,000 stacks of 64 KiB one
// page is touched, then all are given back: what the kernel has to do for a thread with a stack of its own.  stack_guard: the same stacks get guard pages, 32 by one call.
#include "bench.h"

#include <boost/context/fiber.hpp>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

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

void stack_guard(State &state) {
	constexpr long self = -10001;  // PIDFD_SELF_THREAD_GROUP
	constexpr int guard_install = 102;
	constexpr std::size_t page = 4096;
	constexpr std::size_t stack = 64 * 1024 + page;
	constexpr std::size_t count = 100'000;
	constexpr std::size_t at_once = 32;
	static_assert(count % at_once == 0);
	bool made = true;
	time_batch(state, count, [&] {
		void *all = mmap(nullptr, count * stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (all == MAP_FAILED) {
			made = false;
			return;
		}
		for (std::size_t i = 0; i < count && made; i += at_once) {
			iovec pages[at_once];
			for (std::size_t k = 0; k < at_once; ++k) {
				pages[k] = {static_cast<char *>(all) + (i + k) * stack, page};
			}
			made = syscall(SYS_process_madvise, self, pages, at_once, guard_install, 0) == static_cast<long>(at_once * page);
		}
		munmap(all, count * stack);
	});
	check(state, made, "this kernel marks guard pages one by one");
}

}  // namespace

void add_floor() {
	benchmark::RegisterBenchmark("BM_Floor/fiber_resume", fiber_resume);
	benchmark::RegisterBenchmark("BM_Floor/spinlock", spinlock_pair);
	benchmark::RegisterBenchmark("BM_Floor/stack_page", stack_page);
	benchmark::RegisterBenchmark("BM_Floor/stack_guard", stack_guard);
}

}  // namespace bench
