// SPDX-License-Identifier: BSD-2-Clause
#include <lwp/mutex.hpp>
#include <lwp/testing.hpp>
#include <lwp/thread.hpp>

#include <cstdio>

int main() {
	// Finds the deadlock only if calls are steps, and passes the hour only if the clock is the component's.
	const auto both = [](lwp::mutex &first, lwp::mutex &second) {
		const std::lock_guard one(first);
		const std::lock_guard other(second);
	};
	const auto r = lwp::testing::explore(
	    [&] {
		    lwp::this_thread::sleep_for(std::chrono::minutes(30));
		    lwp::mutex a;
		    lwp::mutex b;
		    lwp::thread t([&] { both(b, a); });
		    both(a, b);
		    t.join();
	    },
	    {.schedules = 500, .quiet = true});
	std::printf("explored: %s after %llu schedules\n", lwp::testing::to_string(r.how), static_cast<unsigned long long>(r.schedules));
	return r.how == lwp::testing::outcome::deadlock && r.repeated ? 0 : 1;
}
