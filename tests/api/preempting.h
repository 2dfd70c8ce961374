// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of preemption are written with: LWPs that compute, others that run beside them, and looks at one that is to stand still.
#pragma once

#include "../support/cases.h"
#include "../support/hogs.h"
#include "../support/support.h"

#include "sched/vcpu.h"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <dlfcn.h>
#include <ucontext.h>
#include <vector>

namespace lwp::test {

using namespace std::chrono_literals;

inline const bool touched = touch_runtime();
inline const bool preempted = with_preemption();

inline unsigned vcpus() { return lwp::runtime::vcpus(); }

inline std::deque<hog> hogs_of(hog_kind kind, unsigned n) {
	std::deque<hog> hogs;
	for (unsigned i = 0; i < n; i++) {
		hogs.emplace_back(kind);
	}
	return hogs;
}

inline void end_all(std::deque<hog> &hogs) {
	for (hog &h : hogs) {
		h.end();
	}
}

/// LWPs that take turns and end.
inline void others_run() {
	constexpr int each = 20;
	std::atomic<int> turns{0};
	std::vector<lwp::thread> others;
	for (int i = 0; i < 10; i++) {
		others.emplace_back([&] {
			for (int k = 0; k < each; k++) {
				turns++;
				lwp_yield();
			}
		});
	}
	for (lwp::thread &t : others) {
		t.join();
	}
	EXPECT_EQ(turns, 10 * each);
}

inline std::uint64_t preemptions() { return lwp::runtime::stats().preemptions; }

/// It is hardly ever outside of the C library.
inline void prints_until(const std::atomic<bool> &stop, std::atomic<std::uint64_t> &turns) {
	std::FILE *nowhere = std::fopen("/dev/null", "w");
	while (!stop.load(std::memory_order_relaxed)) {
		(void)std::fprintf(nowhere, "%d %s %f\n", 1000, "words", 1.5);
		turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
	}
	(void)std::fclose(nowhere);
}

inline bool a_way_out_is_open() {
	bool open = false;
	lwp::kern::sched_each_vcpu([&open](const lwp::kern::vcpu_t *vc) {
		for (const lwp::kern::way_out &w : vc->vc_ways) {
			open = open || w.w_open.load();
		}
	});
	return open;
}

/// Where an LWP was interrupted that waits in the handler on that vCPU; 0: none does, or it has gone on meanwhile.
__attribute__((no_sanitize("address"))) inline std::uintptr_t interrupted_at([[maybe_unused]] const lwp::kern::vcpu_t *vc) {
#if defined(__x86_64__)
	const std::uint64_t switches = vc->vc_switches.load();
	const lwp::kern::lwp_t *l = __atomic_load_n(&vc->vc_curlwp, __ATOMIC_ACQUIRE);
	if (!vc->vc_frozen.load() || l == nullptr || l->l_boundsp == nullptr) {
		return 0;
	}
	const std::uintptr_t pc = static_cast<const volatile std::uintptr_t *>(l->l_boundsp)[REG_RIP];  // its registers are there
	return vc->vc_frozen.load() && vc->vc_switches.load() == switches ? pc : 0;
#else
	return 0;
#endif
}

/// Suspends it so many times, each time after it has gone on.  How many of these it waits about to call __cxa_begin_catch.
inline int suspended_again_and_again(const lwp::thread &hog, const std::atomic<std::uint64_t> &turns, int times) {
	const auto begin_catch = reinterpret_cast<std::uintptr_t>(::dlsym(RTLD_DEFAULT, "__cxa_begin_catch"));
	int catching = 0;
	for (int round = 0; round < times; round++) {
		EXPECT_TRUE(wait_until([&, before = turns.load()] { return turns > before; }));
		EXPECT_EQ(error_of(_lwp_suspend(hog.native_handle())), 0);
		EXPECT_FALSE(a_way_out_is_open());
		lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) { catching += interrupted_at(vc) == begin_catch ? 1 : 0; });
		const std::uint64_t before = turns;
		others_run();
		EXPECT_EQ(turns, before);
		EXPECT_EQ(error_of(_lwp_continue(hog.native_handle())), 0);
	}
	return catching;
}

}  // namespace lwp::test
