// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that compute in the C library and stand still soon, with no lock of it.
// vcpus: 1 2 4
#include "preempting.h"

#include "proc/outside.h"

#include <cstdio>
#include <cstring>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdexcept>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace lwp::test;

// It does nothing of its own between two calls of the C library: hundreds of looks find it there, and those that the handler makes by itself must not be
// mistaken for answers to the monitor's.
TEST(PreemptStill, OneThatIsHardlyEverOutsideOfTheCLibrary) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] { prints_until(stop, turns); });
	for (int round = 0; round < 60; round++) {
		EXPECT_TRUE(wait_until([&, before = turns.load()] { return turns > before; }));
		ASSERT_EQ(error_of(_lwp_suspend(hog.native_handle())), 0);
		const std::uint64_t before = turns;
		std::printf("%s", "");  // it has no lock of the C library
		others_run();
		EXPECT_EQ(turns, before);
		ASSERT_EQ(error_of(_lwp_continue(hog.native_handle())), 0);
	}
	bool by_itself = false;
	lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) { by_itself = by_itself || vc->vc_prober.load() >= 0; });
	EXPECT_TRUE(by_itself) << "the handler had a timer to ask again by itself";
	stop = true;
	hog.join();
}

namespace {

/// Whether this process may have breakpoints of the CPU; without, those who look must do.
bool breakpoints_permitted() {
	perf_event_attr attr{};
	attr.type = PERF_TYPE_BREAKPOINT;
	attr.size = sizeof attr;
	attr.sample_period = 1;
	attr.disabled = 1;
	attr.exclude_kernel = 1;
	attr.exclude_hv = 1;
	attr.bp_type = HW_BREAKPOINT_X;
	attr.bp_addr = reinterpret_cast<std::uintptr_t>(&breakpoints_permitted);
	attr.bp_len = sizeof(long);
	const long fd = ::syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0UL);
	if (fd >= 0) {
		::close(static_cast<int>(fd));
	}
	return fd >= 0 && ::prctl(PR_GET_SECCOMP) == 0;
}

bool a_way_out_was_watched() {
	bool was = false;
	lwp::kern::sched_each_vcpu([&was](const lwp::kern::vcpu_t *vc) {
		for (const lwp::kern::way_out &w : vc->vc_ways) {
			was = was || w.w_at != 0;
		}
	});
	return was;
}

}  // namespace

// Milliseconds in the C library, then a few nanoseconds outside, and so on: of ten thousand looks one may find it there.  It is met as it comes out.
TEST(PreemptStill, OneWhoseCallsAreLong) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	if (!breakpoints_permitted()) {
		GTEST_SKIP() << "no breakpoints here";
	}
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		const std::vector<char> text(std::size_t{24} << 20, 'x');
		while (!stop.load(std::memory_order_relaxed)) {
			const void *found = std::memchr(text.data(), 'y', text.size());
			asm volatile("" : : "r"(found));
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
	});
	(void)suspended_again_and_again(hog, turns, 20);
	EXPECT_TRUE(a_way_out_was_watched());
	stop = true;
	hog.join();
}

// What throws does not come back: who catches is met.
TEST(PreemptStill, OneThatThrowsFromFarBelow) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	struct below {
		static int go(int depth) {
			if (depth == 0) {
				throw std::runtime_error("far below");
			}
			const int below_it = go(depth - 1);
			return below_it + 1;
		}
	};
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		while (!stop.load(std::memory_order_relaxed)) {
			try {
				turns.store(turns.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(below::go(50)), std::memory_order_relaxed);
			} catch (const std::runtime_error &) {
				turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
			}
		}
	});
	const int catching = suspended_again_and_again(hog, turns, 40);
	// By looks alone it is found there once or twice: about to enter a function is one instruction.
	EXPECT_TRUE(catching > 10 || !breakpoints_permitted()) << "it was met as it caught " << catching << " times only";
	stop = true;
	hog.join();
}

// AddressSanitizer's malloc and syslog(3) read it with a lock held.
TEST(PreemptStill, TheClockIsInTheCLibrary) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	(void)vcpus();  // it is looked up as the runtime starts
	if (const std::uintptr_t vdso = ::getauxval(AT_SYSINFO_EHDR); vdso != 0) {
		EXPECT_FALSE(lwp::kern::outside(vdso));
	}
	EXPECT_TRUE(lwp::kern::outside(reinterpret_cast<std::uintptr_t>(&others_run)));
}
