// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2 8
#include <lwp/mutex.hpp>
#include <lwp/thread.hpp>

#include <gtest/gtest.h>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

TEST(Mutex, CountsExactlyWithYieldsInside) {
	lwp::mutex m;
	long n = 0;
	std::vector<lwp::thread> ts;
	for (int i = 0; i < 64; i++) {
		ts.emplace_back([&, i] {
			for (int k = 0; k < 500; k++) {
				std::lock_guard hold(m);
				long v = n;
				if (k % 16 == i % 16) lwp::this_thread::yield();
				n = v + 1;
			}
		});
	}
	std::vector<std::thread> ks;
	for (int i = 0; i < 2; i++) ks.emplace_back([&] { for (int k = 0; k < 2000; k++) { std::lock_guard hold(m); n++; } });
	for (auto &t : ts) t.join();
	for (auto &t : ks) t.join();
	EXPECT_EQ(n, 64 * 500 + 2 * 2000);
}

TEST(Mutex, Timed) {
	lwp::timed_mutex m;
	m.lock();
	lwp::thread t([&] { EXPECT_FALSE(m.try_lock_for(2ms)); EXPECT_FALSE(m.try_lock_for(0ms)); EXPECT_TRUE(m.try_lock_for(10s)); m.unlock(); });
	lwp::this_thread::sleep_for(20ms);
	m.unlock();
	t.join();
	m.lock();
	EXPECT_THROW(m.lock(), std::system_error);
	m.unlock();
}
