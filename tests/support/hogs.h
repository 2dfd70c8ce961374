// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that compute and call nothing of the library, of several kinds; for tests of preemption.
#pragma once

#include "support.h"

#include "ctx/context.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <stdexcept>
#include <string>

namespace lwp::test {

// proc/preempt.cpp says why; clang links AddressSanitizer's run-time into the program.
#if LWP_TEST_TSAN || (LWP_TEST_ASAN && defined(__clang__)) || LWP_PORTABLE_SWITCH || !defined(__x86_64__)
inline constexpr bool hogs_are_preempted = false;
#else
inline constexpr bool hogs_are_preempted = true;
#endif

#define LWP_SKIP_WITHOUT_PREEMPTION()                                              \
	if (!lwp::test::hogs_are_preempted) {                                          \
		GTEST_SKIP() << "this build has no preemption: proc/preempt.cpp says why"; \
	}

enum class hog_kind : unsigned { loop, heap, stdio, exceptions };
inline constexpr unsigned hog_kinds = 4;

inline const char *hog_name(hog_kind k) {
	constexpr const char *names[] = {"Loop", "Heap", "Stdio", "Exceptions"};
	return names[static_cast<unsigned>(k)];
}

/// One that computes until told to end.  What it counts is seen by others.
class hog {
public:
	explicit hog(hog_kind kind, int vcpu = -1) : kind_(kind), thread_(attributes{.vcpu = vcpu}, [this] { run(); }) {}
	~hog() { end(); }
	hog(const hog &) = delete;
	hog &operator=(const hog &) = delete;
	void end() {
		stop_.store(true, std::memory_order_relaxed);
		if (thread_.joinable()) {
			thread_.join();
		}
	}
	[[nodiscard]] std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }
	[[nodiscard]] lwpid_t lid() const { return thread_.native_handle(); }
	[[nodiscard]] lwpctl_t *control() const { return control_.load(std::memory_order_acquire); }
	/// Until it has computed a bit more.
	void await_progress() const {
		const std::uint64_t before = count();
		EXPECT_TRUE(wait_until([&] { return count() > before; })) << hog_name(kind_);
	}

private:
	void run() {
		lwpctl_t *control = nullptr;
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR, &control)), 0);
		control_.store(control, std::memory_order_release);
		std::FILE *nowhere = kind_ == hog_kind::stdio ? std::fopen("/dev/null", "w") : nullptr;
		while (!stop_.load(std::memory_order_relaxed)) {
			work(nowhere);
			count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
		if (nowhere != nullptr) {
			(void)std::fclose(nowhere);
		}
	}

	__attribute__((noinline)) void work(std::FILE *nowhere) {
		switch (kind_) {
		case hog_kind::loop:
			spend(100);
			break;
		case hog_kind::heap: {
			auto *memory = static_cast<volatile char *>(std::malloc(16 + count() % 2000));
			memory[0] = 'x';
			std::free(const_cast<char *>(memory));
			spend();
			break;
		}
		case hog_kind::stdio:
			(void)std::fprintf(nowhere, "%d %s %f\n", static_cast<int>(count() % 1000), "words", 1.5);
			spend();
			break;
		case hog_kind::exceptions:
			try {
				throw std::runtime_error("a text that does not fit into a short string");
			} catch (const std::runtime_error &e) {
				(void)e.what();
			}
			spend();
			break;
		}
	}
	/// A little work of its own, so that a suspend finds it outside of the C library before long, on the slowest machine too.
	static void spend(int steps = 300) {
		for (int i = 0; i < steps; i++) {
			asm volatile("" : : : "memory");
		}
	}

	hog_kind kind_;
	std::atomic<bool> stop_{false};
	std::atomic<std::uint64_t> count_{0};
	std::atomic<lwpctl_t *> control_{nullptr};
	thread thread_;
};

}  // namespace lwp::test
