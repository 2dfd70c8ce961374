// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2 8
//
// What profilers do: a signal's handler, which comes anywhere, walks the stack that it finds, by frame pointers or unwind information.
#include "support/support.h"

#include <lwp/lwp.h>
#include <lwp/lwp.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct frame {
	const frame *next;
	void *return_address;
};

/// How many frames the chain of frame pointers has from `f` to its null pointer; -1: it leads elsewhere.
int chain_length(const frame *f) {
	for (int n = 0; n < 1000; n++) {
		if (f->next == nullptr) {
			return n;
		}
		const auto step = reinterpret_cast<std::uintptr_t>(f->next) - reinterpret_cast<std::uintptr_t>(f);
		if (step == 0 || step > (1U << 20) || step % alignof(void *) != 0) {
			return -1;
		}
		f = f->next;
	}
	return -1;
}

#if defined(__x86_64__) || defined(__aarch64__)
int chain = -2;

__attribute__((noinline)) void walks(void *) {
	chain = chain_length(static_cast<const frame *>(__builtin_frame_address(0)));
	_lwp_exit();
}

TEST(Profiler, FramePointersOfAnLwpEndWithANullPointer) {
	for (int round = 0; round < 3; round++) {  // also one whose stack and context were another's
		ucontext_t context;
		lwpid_t lid = 0;
		chain = -2;
		_lwp_makecontext(&context, walks, nullptr, nullptr, nullptr, 0);
		ASSERT_EQ(_lwp_create(&context, 0, &lid), 0);
		ASSERT_EQ(_lwp_wait(lid, nullptr), 0);
		EXPECT_GE(chain, 2) << "start_routine() and context_begin() at least";
		EXPECT_LE(chain, 6);
	}
}
#endif

std::atomic<unsigned> samples{0}, rooted{0};

void sample(int) {
	const int error = errno;
	void *frames[128];
	const int n = ::backtrace(frames, 128);
	samples.fetch_add(1, std::memory_order_relaxed);
	if (n > 3) {
		rooted.fetch_add(1, std::memory_order_relaxed);
	}
	errno = error;
}

/// Ends the sampling with the scope.
class sampled {
public:
	sampled() {
		void *frames[1];
		(void)::backtrace(frames, 1);  // loads what it needs now
		struct sigaction act {};
		act.sa_handler = sample;
		act.sa_flags = SA_RESTART;
		EXPECT_EQ(::sigaction(SIGPROF, &act, &before_), 0);
		sigevent event{};
		event.sigev_notify = SIGEV_SIGNAL;
		event.sigev_signo = SIGPROF;
		EXPECT_EQ(::timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer_), 0);
		const itimerspec each{{0, 100'000}, {0, 100'000}};
		EXPECT_EQ(::timer_settime(timer_, 0, &each, nullptr), 0);
	}
	~sampled() {
		(void)::timer_delete(timer_);
		std::this_thread::sleep_for(10ms);  // one that is on its way finds the handler yet
		(void)::sigaction(SIGPROF, &before_, nullptr);
	}
	sampled(const sampled &) = delete;
	sampled &operator=(const sampled &) = delete;

private:
	timer_t timer_{};
	struct sigaction before_ {};
};

/// Switches, creates, ends, throws, sleeps: whatever a sample could come in the middle of.
void everything(std::chrono::milliseconds time) {
	const auto end = std::chrono::steady_clock::now() + time;
	lwp::channel<int> values(1);
	std::vector<lwp::thread> all;
	all.emplace_back([&] {
		for (int i = 0; std::chrono::steady_clock::now() < end; i++) {
			values.send(i);
		}
		values.close();
	});
	all.emplace_back([&] {
		while (values.receive()) {
		}
	});
	all.emplace_back([&] {
		while (std::chrono::steady_clock::now() < end) {
			lwp::thread([] { lwp::this_thread::yield(); }).join();
		}
	});
	all.emplace_back([&] {
		while (std::chrono::steady_clock::now() < end) {
			try {
				throw std::string("an exception");
			} catch (const std::string &) {
				lwp::this_thread::sleep_for(10us);
			}
		}
	});
	for (lwp::thread &t : all) {
		t.join();
	}
}

TEST(Profiler, SamplesEverywhereHarmNothing) {
#if defined(__SANITIZE_THREAD__)
	GTEST_SKIP() << "ThreadSanitizer holds signals back";
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
	GTEST_SKIP() << "ThreadSanitizer holds signals back";
#endif
#endif
	samples = rooted = 0;
	{
		const sampled while_it_lasts;
		everything(500ms * lwp::test::stress());
	}
	EXPECT_GT(samples, 20U);
	EXPECT_GT(rooted, samples / 4) << "most are of code with unwind information";
}

}  // namespace
