// SPDX-License-Identifier: BSD-2-Clause
//
// The helper threads: how many there are, what those with work that may never end cost the others, that they end, and what becomes of an operation where
// none can be made.
// vcpus: 2
#include "api/io_call.h"
#include "base/sys.h"
#include "sched/vcpu.h"

#include "io_support.h"

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using namespace lwp::test;
using lwp::kern::helped;
using lwp::kern::io_helped;

namespace {

const bool touched = touch_runtime();

constexpr std::size_t most = 16;  // as src/io/helper.cpp has it

/// Where calls block their kernel threads until all are let go.
class yard {
public:
	long enter() {
		std::unique_lock hold(lock_);
		opened_.wait(hold, [this] { return open_; });
		return 7;
	}
	void open() {
		const std::lock_guard hold(lock_);
		open_ = true;
		opened_.notify_all();
	}

private:
	std::mutex lock_;
	std::condition_variable opened_;
	bool open_ = false;
};

/// LWPs that each go into a yard by a helper.
class crowd {
public:
	/// All of them wait, or are refused, when it returns.
	crowd(yard &y, std::size_t count, helped until) {
		for (std::size_t i = 0; i < count; i++) {
			all_.push_back(std::make_unique<subject>([&y, until](subject &self) {
				self.about_to_block();
				self.set_result(static_cast<int>(io_helped([&y] { return y.enter(); }, until)));
			}));
		}
		for (const auto &s : all_) {
			EXPECT_TRUE(wait_until([&s] { return s->blocked() || s->result() != -1; }));
		}
	}
	void collect_all() {
		for (const auto &s : all_) {
			collect(s->lid());
			EXPECT_EQ(s->result(), 7);
		}
	}

private:
	std::vector<std::unique_ptr<subject>> all_;
};

/// Without the monitor, its maker and the substitutes, which are counted with them.
unsigned helpers() { return lwp::kern::sched.sd_helpers.load() - 2 - lwp::runtime::stats().spare_vcpus; }

/// They end after some idle seconds.
[[nodiscard]] bool none_is_left() {
	return wait_until([] {
		lwp::this_thread::sleep_for(std::chrono::milliseconds(10));
		return helpers() == 0;
	});
}

#if LWP_FAULTS
lwp::kern::sys::fault no_kernel_thread(long number, const char *, int, long *result) noexcept {
	*result = -EAGAIN;
	return number == SYS_clone ? lwp::kern::sys::fault::instead : lwp::kern::sys::fault::none;
}

class without_kernel_threads {
public:
	without_kernel_threads() { lwp::kern::sys::fault_now.store(no_kernel_thread, std::memory_order_release); }
	~without_kernel_threads() { lwp::kern::sys::fault_now.store(nullptr, std::memory_order_release); }
	without_kernel_threads(const without_kernel_threads &) = delete;
	without_kernel_threads &operator=(const without_kernel_threads &) = delete;
};
#endif

}  // namespace

TEST(Helper, SixteenAtMostAndWhatIsMoreWaits) {
	yard y;
	crowd many(y, 40, helped::soon);
	EXPECT_EQ(helpers(), most);
	y.open();
	many.collect_all();
	EXPECT_EQ(helpers(), most);
}

// Else a program that waits for enough other ends of FIFOs would do no other I/O.
TEST(Helper, WhatMayNeverEndIsNotCounted) {
	ASSERT_TRUE(none_is_left());  // one that has just done its work is not idle yet
	yard never_mind;
	yard y;
	crowd endless(never_mind, most + 4, helped::endless);
	EXPECT_EQ(helpers(), most + 4);
	crowd others(y, most + 1, helped::soon);
	const bool enough = helpers() == 2 * most + 4;
	EXPECT_TRUE(enough);
	if (!enough) {
		never_mind.open();  // else nobody might come to them
	}
	y.open();
	others.collect_all();
	never_mind.open();
	endless.collect_all();
}

TEST(Helper, HandlesNoSignals) {
	sigset_t there;
	sigemptyset(&there);
	EXPECT_EQ(io_helped([&there]() -> long { return ::pthread_sigmask(SIG_SETMASK, nullptr, &there); }), 0);
	for (const int sig : {SIGINT, SIGTERM, SIGCHLD, SIGALRM, SIGUSR1, SIGRTMIN + 1}) {
		EXPECT_EQ(sigismember(&there, sig), 1) << sig;
	}
}

TEST(Helper, KernelThreadsFromOutsideNeedNone) {
	std::thread([] {
		const pid_t self = ::gettid();
		EXPECT_EQ(io_helped([]() -> long { return ::gettid(); }), self);
	}).join();
}

TEST(Helper, TheyEndAndComeAgain) {
	EXPECT_EQ(io_helped([]() -> long { return 3; }), 3);
	EXPECT_GE(helpers(), 1U);
	EXPECT_TRUE(none_is_left());
	EXPECT_EQ(io_helped([]() -> long { return 4; }), 4);
	EXPECT_EQ(helpers(), 1U);
}

#if LWP_FAULTS
TEST(Helper, WhereNoneCanBeMadeItIsEagain) {
	ASSERT_TRUE(none_is_left());
	bool called = false;
	const auto call = [&called]() -> long {
		called = true;
		return 0;
	};
	{
		const without_kernel_threads now;
		EXPECT_EQ(io_helped(call), -EAGAIN);
	}
	// One that waits for what may never come is no help.
	yard never_mind;
	crowd endless(never_mind, 1, helped::endless);
	{
		const without_kernel_threads now;
		EXPECT_EQ(io_helped(call), -EAGAIN);
	}
	EXPECT_FALSE(called);
	EXPECT_EQ(io_helped(call), 0);
	EXPECT_TRUE(called);
	never_mind.open();
	endless.collect_all();
}

TEST(Helper, WhereNoOtherCanBeMadeOneWithWorkThatEndsComesToIt) {
	ASSERT_TRUE(none_is_left());
	yard y;
	crowd first(y, 1, helped::soon);
	const without_kernel_threads now;
	crowd second(y, 3, helped::soon);
	EXPECT_EQ(helpers(), 1U);
	y.open();
	first.collect_all();
	second.collect_all();
}
#endif
