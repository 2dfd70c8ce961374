// SPDX-License-Identifier: BSD-2-Clause
//
// Kernel threads that block: those of vCPUs, and those of the application.
#include "faults/common.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <mutex>
#include <stop_token>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace lwp::faults {

using namespace std::chrono_literals;

void work_blocking() {
	on_runtime(1, [] {
		lived = 0;
		// Two that block the only vCPU, and one that must go on meanwhile, or after.
		lwpid_t lids[3];
		for (int i = 0; i < 3; i++) {
			lids[i] = spawn(
			    i == 2 ? count_life : [](void *) { lwp::blocking([] { ::usleep(1000); }); lived++; }, nullptr);
		}
		int there = 0;
		for (lwpid_t lid : lids) {
			there += lid != 0 ? 1 : 0;
			MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
		}
		MUST(lived == there);
		// One that says nothing: the monitor finds it, and another vCPU runs the writer.  If there can be none, a kernel thread lets it go on.
		static int ends[2];
		MUST(::pipe2(ends, O_CLOEXEC) == 0);
		static std::atomic<bool> written;
		written = false;
		attempt([] {
			std::thread rescue([] {
				for (int i = 0; i < 100 && !written; i++) {
					::usleep(500);
				}
				MUST(written || ::write(ends[1], "y", 1) == 1);
			});
			const lwpid_t silent = spawn(
			    [](void *) {
				    char c;
				    MUST(::read(ends[0], &c, 1) == 1);
			    },
			    nullptr);
			const lwpid_t writer = spawn(
			    [](void *) {
				    MUST(::write(ends[1], "x", 1) == 1);
				    written = true;
			    },
			    nullptr);
			MUST(silent == 0 || _lwp_wait(silent, nullptr) == 0);
			MUST(writer == 0 || _lwp_wait(writer, nullptr) == 0);
			lwp::blocking([&rescue] { rescue.join(); });
		});
		::close(ends[0]);
		::close(ends[1]);
	});
}

/// Kernel threads of the application: they block by themselves.
void work_adopted() {
	on_runtime(1, [] {
		lwp::mutex m;
		int turns = 0;
		int ends[2];
		MUST(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
		attempt([&] {
			std::thread t([&] {
				for (int i = 0; i < 20; i++) {
					std::lock_guard hold(m);
					turns++;
				}
				lwp::this_thread::sleep_for(100us);
				char c = 0;
				ssize_t n;
				while ((n = lwp_read(ends[0], &c, 1)) < 0 && errno == EINTR) {
				}
				CHECK(n == 1 && c == 'x');
				std::error_code error;
				pipe_read_end s(::dup(ends[0]));
				attempt([&] {
					std::stop_source stop;
					char buffer[4];
					(void)s.read(
					    mutable_bytes(buffer, 4), error, {.deadline = std::chrono::steady_clock::now() + 1ms, .stop = stop.get_token()});
				});
			});
			for (int i = 0; i < 20; i++) {
				{
					std::lock_guard hold(m);
					turns++;
				}
				lwp_yield();
			}
			ssize_t n;
			while ((n = lwp_write(ends[1], "x", 1)) < 0 && errno == EINTR) {
			}
			if (n != 1) {
				REFUSED("a write");
				MUST(::write(ends[1], "x", 1) == 1);
			}
			lwp::blocking([&t] { t.join(); });
			MUST(turns == 40);
		});
		close_it(ends[0]);
		close_it(ends[1]);
	});
}

}  // namespace lwp::faults
