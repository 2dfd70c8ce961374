// SPDX-License-Identifier: BSD-2-Clause
//
// A program with LWPs in every pose, to be looked at: it comes to everybody_is_there(), and then dumps core, or, with an argument, waits to be killed.
#include <lwp/lwp.h>
#include <lwp/lwp.hpp>
#include <lwp/usage.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

lwp::mutex owned;
std::atomic<int> there{0};
std::atomic<bool> end{false};

bool asleep(lwpid_t lid) {
	lwpinfo info;
	return lwp_info(lid, &info) == 0 && info.li_stat == LWP_LSSLEEP;
}

void named(const char *name) {
	(void)_lwp_setname(0, name);
	there++;
}

}  // namespace

// Not in an unnamed namespace: the test looks for these names.
[[gnu::noinline]] void deepest(int depth) {
	const volatile int mark = depth + 1000;
	lwp::this_thread::sleep_for(std::chrono::hours(1));
	(void)mark;
}
// The compiler is not to make a loop of it, nor to leave a call as the last thing.
[[gnu::noinline]] void deep(int depth) {  // NOLINT(misc-no-recursion)
	depth < 3 ? deep(depth + 1) : deepest(depth);
	asm volatile("");
}
[[gnu::noinline]] void wants_mutex() {
	owned.lock();
	asm volatile("");
	owned.unlock();
}
[[gnu::noinline]] void computes() {
	while (!end) {
	}
	asm volatile("");
}
[[gnu::noinline]] void everybody_is_there() { asm volatile(""); }

int main(int argc, char **) {
	named("first");
	owned.lock();
	lwp::thread sleeper([] { named("sleeper"), deep(0); });
	lwp::thread waiter([] { named("waiter"), wants_mutex(); });
	lwp::thread hog([] { named("hog"), computes(); });
	lwp::thread still([] { named("still"), lwp::this_thread::sleep_for(std::chrono::hours(1)); });
	std::thread outside([] { named("outside"), lwp::this_thread::sleep_for(std::chrono::hours(1)); });
	while (there < 6) {
		lwp::this_thread::yield();
	}
	(void)_lwp_suspend(still.native_handle());
	for (lwpid_t lid : {sleeper.native_handle(), waiter.native_handle()}) {
		while (!asleep(lid)) {
			lwp::this_thread::yield();
		}
	}
	everybody_is_there();
	if (argc > 1) {
		std::puts("ready");
		std::fflush(stdout);
		lwp::this_thread::sleep_for(std::chrono::hours(1));
	}
	std::abort();
}
