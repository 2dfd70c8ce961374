// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that compute and call nothing: others run beside them, they are suspended, stopped, and left behind by a process that ends.  Each test ends only if
// they are interrupted; there are as many of them as vCPUs, at least.
// vcpus: 1 2 4
#include "preempting.h"

#include "proc/outside.h"
#include "sched/vcpu.h"

#include <lwp/proc.hpp>
#include <lwp/signal.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <dlfcn.h>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <vector>
#if LWP_TEST_ASAN
#include <sanitizer/asan_interface.h>
#endif

using namespace lwp::test;

namespace {

class Preempt : public testing::TestWithParam<unsigned> {
protected:
	[[nodiscard]] static hog_kind kind() { return static_cast<hog_kind>(GetParam()); }
};

}  // namespace

TEST_P(Preempt, OthersRunBesideHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus());
	for (hog &h : hogs) {
		h.await_progress();
	}
	others_run();
	end_all(hogs);
}

TEST_P(Preempt, MoreHogsThanVcpusAllComputeOn) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus() + 2);
	for (int round = 0; round < 3; round++) {
		for (hog &h : hogs) {
			h.await_progress();
		}
	}
	end_all(hogs);
}

TEST_P(Preempt, ASuspendedHogStandsStill) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus());
	hog &h = hogs.front();
	h.await_progress();
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(error_of(_lwp_suspend(h.lid())), 0);
		const std::uint64_t before = h.count();
		void *memory = std::malloc(5000);  // it has no lock of the C library
		others_run();
		std::free(memory);
		EXPECT_EQ(h.count(), before);
		ASSERT_EQ(error_of(_lwp_continue(h.lid())), 0);
		h.await_progress();
	}
	end_all(hogs);
}

TEST_P(Preempt, TheWorldStopsWithHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus() + 1);
	for (hog &h : hogs) {
		h.await_progress();
	}
	for (int round = 0; round < 3; round++) {
		{
			const lwp::stop_the_world world;
			ASSERT_TRUE(world.stopped());
			std::vector<std::uint64_t> counts;
			for (const hog &h : hogs) {
				counts.push_back(h.count());
			}
			std::size_t found = 0;
			for (const lwp::stopped_lwp &l : world.lwps()) {
				for (const hog &h : hogs) {
					if (l.lid == h.lid()) {
						found++;
						EXPECT_STREQ(l.state, "LSSTOP");
						EXPECT_GE(l.sp, l.stack_low);
						EXPECT_LT(l.sp, l.stack_high);
					}
				}
			}
			EXPECT_EQ(found, hogs.size());
			for (std::size_t i = 0; i < hogs.size(); i++) {
				EXPECT_EQ(hogs[i].count(), counts[i]);
			}
		}
		for (hog &h : hogs) {
			h.await_progress();
		}
	}
	end_all(hogs);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Preempt, testing::Range(0U, hog_kinds),
    [](const testing::TestParamInfo<unsigned> &kind) { return std::string(hog_name(static_cast<hog_kind>(kind.param))); });

/// Whether the word is on the stack of a stopped LWP, also between its variables, where AddressSanitizer lets nobody look.
__attribute__((no_sanitize("address"))) bool keeps(const lwp::stopped_lwp &l, std::uintptr_t word) {
	for (auto *p = static_cast<const volatile std::uintptr_t *>(l.sp); p < l.stack_high; p++) {
		if (*p == word) {
			return true;
		}
	}
	return false;
}

// What a collector looks for: a pointer that the interrupted loop has in a register only.
TEST(PreemptWorld, RegistersOfAStoppedHogAreOnItsStack) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	constexpr std::uintptr_t pattern = 0x5a17'c0de'1234'5678;
	lwp::thread hog([&] {
		std::uintptr_t hidden = ~pattern;
		asm volatile("" : "+r"(hidden));
		hidden = ~hidden;
		while (!stop.load(std::memory_order_relaxed)) {
			asm volatile("" : "+r"(hidden));
			runs.store(true, std::memory_order_relaxed);
		}
	});
	EXPECT_TRUE(wait_until([&] { return runs.load(); }));
	{
		const lwp::stop_the_world world;
		bool found = false;
		for (const lwp::stopped_lwp &l : world.lwps()) {
			found = found || (l.lid == hog.native_handle() && keeps(l, pattern));
		}
		EXPECT_TRUE(found);
	}
	stop = true;
	hog.join();
}

// Of one priority, on one vCPU: each has its turn, again and again.
TEST(PreemptTurns, HogsOfAVcpuShareIt) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs;
	for (unsigned i = 0; i < 4; i++) {
		hogs.emplace_back(static_cast<hog_kind>(i % hog_kinds), 0);
	}
	for (hog &h : hogs) {
		EXPECT_TRUE(wait_until([&] { return h.control() != nullptr && __atomic_load_n(&h.control()->lc_pctr, __ATOMIC_RELAXED) >= 6; }));
	}
	end_all(hogs);
}

// While an LWP waits in the handler it has no vCPU, and is charged nothing.  A kernel thread that the OS wakes late may be taken for a blocked one, and its place
// given to another: then two have some time at once.
TEST(PreemptTurns, HogsAreChargedWhatTheyHad) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const bool was = lwp::account(true);
	const auto begin = std::chrono::steady_clock::now();
	std::deque<hog> hogs;
	for (int i = 0; i < 4; i++) {
		hogs.emplace_back(hog_kind::loop, 0);
	}
	std::uint64_t sum = 0;
	for (hog &h : hogs) {
		EXPECT_TRUE(wait_until([&] { return h.control() != nullptr && __atomic_load_n(&h.control()->lc_pctr, __ATOMIC_RELAXED) >= 6; }));
	}
	for (hog &h : hogs) {
		lwpinfo info;
		ASSERT_EQ(error_of(lwp_info(h.lid(), &info)), 0);
		EXPECT_GT(info.li_rtime, 0U);
		EXPECT_GE(info.li_nivcsw, 4U);
		sum += info.li_rtime;
	}
	const auto passed = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin).count());
	EXPECT_LT(sum, 2 * passed) << "they share one virtual CPU";
	end_all(hogs);
	(void)lwp::account(was);
}

// A better one that wakes is not kept waiting by one that computes.  It is made first: once the other runs nobody else does, on one vCPU.
TEST(PreemptTurns, ABetterLwpRunsBesideAFifoHog) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	lwp::thread better({.priority = 20, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [&] {
		while (!runs.load()) {
			lwp::this_thread::sleep_for(1ms);
		}
		lwp::this_thread::sleep_for(1ms);
		stop = true;
	});
	lwp::thread hog({.priority = 10, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [&] {
		runs = true;
		while (!stop.load(std::memory_order_relaxed)) {
		}
	});
	better.join();
	hog.join();
}

TEST(PreemptBounds, KernelThreadsAreUsedAgain) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const unsigned before = lwp::runtime::stats().spare_vcpus;
	std::deque<hog> hogs;
	for (unsigned i = 0; i < 3; i++) {
		hogs.emplace_back(hog_kind::loop, 0);
	}
	const std::uint64_t from = preemptions();
	EXPECT_TRUE(wait_until([&] { return preemptions() - from >= 40; }));
	end_all(hogs);
	EXPECT_LE(lwp::runtime::stats().spare_vcpus, before + 20);
}

// Each computes for more than a slice with a lock that all others want, and they wait for it in the kernel: more of them than there may be substitutes.
TEST(PreemptLocks, WhoHoldsALockOfTheApplicationIsNotForgotten) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	constexpr int many = 300;
	std::mutex m;
	int had = 0;
	std::vector<lwp::thread> all;
	for (int i = 0; i < many; i++) {
		all.emplace_back([&] {
			const std::lock_guard hold(m);
			for (const auto until = std::chrono::steady_clock::now() + 12ms; std::chrono::steady_clock::now() < until;) {
			}
			had++;
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(had, many);
}

#if LWP_TEST_ASAN

namespace {

std::string file_of(std::uintptr_t pc) {
	Dl_info info{};
	return ::dladdr(reinterpret_cast<void *>(pc), &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

}  // namespace

// Its locks are spun for, by LWPs in calls of the library too, which would never let one run that was taken off with such a lock.  One that allocates and frees
// is hardly anywhere else.
TEST(PreemptTurns, NobodyIsTakenOffInTheRunTimeOfAddressSanitizer) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const auto in_it = reinterpret_cast<std::uintptr_t>(&__asan_region_is_poisoned);
	const std::string runtime = file_of(in_it);
	EXPECT_TRUE(lwp::kern::outside_spins(in_it) && !lwp::kern::outside(in_it));
	std::atomic<bool> stop{false};
	std::deque<lwp::thread> hogs;
	for (int i = 0; i < 2; i++) {
		hogs.emplace_back(lwp::attributes{.vcpu = 0}, [&stop] {
			while (!stop.load(std::memory_order_relaxed)) {
				void *memory = std::malloc(100);
				asm volatile("" : : "r"(memory) : "memory");
				std::free(memory);
			}
		});
	}
	unsigned seen = 0;
	lwp::thread looks({.vcpu = 0}, [&] {
		EXPECT_TRUE(wait_until([&] {
			const lwp::no_preempt here;  // both are off, and stay so
			lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) {
				if (const std::uintptr_t pc = interrupted_at(vc); pc != 0) {
					EXPECT_NE(file_of(pc), runtime);
					seen++;
				}
			});
			return seen >= 20;
		}));
	});
	looks.join();
	stop = true;
	for (lwp::thread &t : hogs) {
		t.join();
	}
}

#endif

// A handler of the process's signals in an LWP that computes waits for its next call.
TEST(PreemptSignal, AHandlerRunsAtTheNextCall) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	static std::atomic<int> handled{0};
	struct sigaction act {};
	act.sa_handler = [](int) { handled++; };
	ASSERT_EQ(lwp_sigaction(SIGUSR1, &act, nullptr), 0);
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	lwp::thread hog([&] {
		runs = true;
		while (!stop.load(std::memory_order_relaxed)) {
		}
		lwp_yield();
	});
	EXPECT_TRUE(wait_until([&] { return runs.load(); }));
	EXPECT_EQ(error_of(_lwp_kill(hog.native_handle(), SIGUSR1)), 0);
	others_run();
	EXPECT_EQ(handled, 0);
	stop = true;
	hog.join();
	EXPECT_EQ(handled, 1);
	act.sa_handler = SIG_DFL;
	ASSERT_EQ(lwp_sigaction(SIGUSR1, &act, nullptr), 0);
}
