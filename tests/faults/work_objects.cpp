// SPDX-License-Identifier: BSD-2-Clause
//
// The objects of the C++ face.
#include "faults/common.h"

#include <chrono>
#include <mutex>
#include <stop_token>

namespace lwp::faults {

using namespace std::chrono_literals;

void work_objects() {
	on_runtime(2, [] {
		lwp::mutex m;
		lwp::condition_variable cv;
		int turns = 0;
		int workers = 0;
		{
			lwp::thread a;
			lwp::thread b;
			const auto body = [&] {
				for (int i = 0; i < 50; i++) {
					std::unique_lock hold(m);
					turns++;
					cv.notify_all();
					if (i % 10 == 0) {
						(void)cv.wait_for(hold, 50us);
					}
				}
			};
			workers += attempt([&] { a = lwp::thread(body); }) ? 1 : 0;
			workers += attempt([&] { b = lwp::thread(body); }) ? 1 : 0;
			if (a.joinable()) {
				a.join();
			}
			if (b.joinable()) {
				b.join();
			}
		}
		MUST(turns == 50 * workers);
		attempt([] {
			lwp::channel<int> c(4);
			lwp::thread sender([&c] {
				for (int i = 0; i < 100; i++) {
					c.send(i);
				}
				c.close();
			});
			int expected = 0;
			while (auto v = c.receive()) {
				MUST(*v == expected++);
			}
			sender.join();
			MUST(expected == 100);
		});
		attempt([] {
			auto f = lwp::async([] { return 42; });
			MUST(f.get() == 42);
		});
		attempt([] {
			lwp::promise<int> p;
			auto f = p.get_future();
			CHECK(f.wait_for(100us) == std::future_status::timeout);
			p.set_value(1);
			MUST(f.get() == 1);
		});
		attempt([] {
			std::atomic<int> sum{0};
			lwp::scope s;
			for (int i = 1; i <= 4; i++) {
				s.spawn([&sum, i] { sum += i; });
			}
			s.join();
			MUST(sum == 10);
		});
		attempt([] {
			lwp::ticker t(100us);
			CHECK(t.receive().has_value());
		});
		lwp::this_thread::sleep_for(200us);
		attempt([] { (void)lwp::deadlock_report(); });
	});
}

}  // namespace lwp::faults
