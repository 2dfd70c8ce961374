// SPDX-License-Identifier: BSD-2-Clause
#include "faults/workload.h"

#include "faults/inject.h"

#include <lwp/io.h>
#include <lwp/lwp.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace lwp::faults {
namespace {

using namespace std::chrono_literals;

/// Runs `body` on a runtime of so many vCPUs, or has been told that there is none.
template <class Body>
void on_runtime(unsigned vcpus, Body body) {
	std::optional<runtime> rt;
	try {
		rt.emplace(runtime_options{.vcpus = vcpus, .stack_size = 0, .max_lwps = 0});
	} catch (const std::system_error &) {
		REFUSED("the runtime starts");
		return;
	}
	body();
	rt.reset();
}

/// What may throw because memory or an LWP is refused.  True: it did not.
template <class Fn>
bool attempt(Fn fn) {
	try {
		fn();
		return true;
	} catch (const std::system_error &) {
		REFUSED("no system_error");
	} catch (const std::bad_alloc &) {
		REFUSED("no bad_alloc");
	}
	return false;
}

/// An LWP by the C calls, which allocate nothing here.  0: refused.
lwpid_t spawn(void (*fn)(void *), void *arg, unsigned long flags = 0, void *stack = nullptr, std::size_t stack_size = 0) {
	ucontext_t context;
	lwpid_t lid = 0;
	_lwp_makecontext(&context, fn, arg, nullptr, stack, stack_size);
	if (_lwp_create(&context, flags, &lid) != 0) {
		MUST(errno == EAGAIN || errno == ENOMEM);
		REFUSED("an LWP is created");
		return 0;
	}
	return lid;
}

/// As many as are given; waits for those that are.
template <std::size_t N>
void all_of(void (*fn)(void *), void *arg) {
	lwpid_t lids[N];
	for (lwpid_t &lid : lids) {
		lid = spawn(fn, arg);
	}
	for (lwpid_t lid : lids) {
		MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
	}
}

// ---- the life of LWPs ------------------------------------------------------------------------------------------------------

std::atomic<int> lived;
std::atomic<int> made;
std::atomic<int> destroyed;

void count_life(void *) {
	for (int i = 0; i < 3; i++) {
		lwp_yield();
	}
	lived++;
}

void nap(void *) {
	timespec ts = {0, 200'000};
	_lwp_park(CLOCK_MONOTONIC, 0, &ts, 0, nullptr, nullptr);
	CHECK(errno == ETIMEDOUT);  // ENOMEM: no room for a timer
	lived++;
}

void work_life() {
	on_runtime(2, [] {
		lived = made = 0;
		for (int round = 0; round < 3; round++) {
			lwpid_t lids[12];
			for (lwpid_t &lid : lids) {
				lid = spawn(round == 1 ? nap : count_life, nullptr, round == 2 ? LWP_SUSPENDED : 0);
				made += lid != 0 ? 1 : 0;
			}
			for (lwpid_t lid : lids) {
				if (lid != 0 && round == 2) {
					MUST(_lwp_continue(lid) == 0);
				}
			}
			for (lwpid_t lid : lids) {
				MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
			}
		}
		MUST(lived == made);  // nobody is lost, and nobody who was refused runs
		static std::atomic<bool> ran;
		ran = false;
		if (spawn([](void *) { ran = true; }, nullptr, LWP_DETACHED) != 0) {
			while (!ran) {
				lwp_yield();
			}
		}
		(void)spawn(count_life, nullptr, LWP_DETACHED);
		lwpctl_t *control = nullptr;
		CHECK(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &control) == 0);
		// Other sizes of stack; many LWPs at once, so that tables grow.
		const lwpid_t large = spawn(count_life, nullptr, 0, nullptr, 1U << 20);
		MUST(large == 0 || _lwp_wait(large, nullptr) == 0);
		constexpr int many = 600;
		static lwpid_t crowd[many];
		for (lwpid_t &lid : crowd) {
			lid = spawn([](void *) { _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); }, nullptr);
		}
		for (lwpid_t lid : crowd) {
			MUST(lid == 0 || _lwp_unpark(lid, nullptr) == 0);
		}
		for (lwpid_t lid : crowd) {
			MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
		}
	});
}

void work_specific() {
	on_runtime(1, [] {
		specificdata_key_t keys[3] = {};
		bool there[3];
		destroyed = 0;
		for (int i = 0; i < 3; i++) {
			there[i] = lwp_specific_key_create(&keys[i], [](void *) { destroyed++; }) == 0;
			CHECK(there[i]);
		}
		lwp_tss_t tss{};
		const bool has_tss = lwp_tss_create(&tss, nullptr) == 0;
		CHECK(has_tss);
		static lwp_tss_t shown;
		shown = tss;
		if (has_tss) {
			all_of<4>([](void *) {
				static int value;
				if (lwp_tss_set(shown, &value) == 0) {
					MUST(lwp_tss_get(shown) == &value);
				} else {
					REFUSED("tss_set");
				}
			}, nullptr);
			(void)lwp_tss_delete(tss);
		}
		for (int i = 0; i < 3; i++) {
			if (there[i]) {
				lwp_specific_key_delete(keys[i]);
			}
		}
	});
}

// ---- the C++ face ------------------------------------------------------------------------------------------------------------

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

// ---- I/O ------------------------------------------------------------------------------------------------------------------------

unsigned char byte_at(std::size_t i) { return static_cast<unsigned char>(i * 7 + i / 251); }

/// Closed even if the kernel says that something was wrong: then the number is free as well.
void close_it(int fd) { CHECK(lwp_close(fd) == 0); }

void work_files() {
	on_runtime(2, [] {
		char path[] = "/tmp/lwp-faults-XXXXXX";
		const int made_fd = ::mkostemp(path, O_CLOEXEC);
		MUST(made_fd >= 0);
		::close(made_fd);
		const int fd = lwp_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
		CHECK(fd >= 0);
		if (fd >= 0) {
			static char out[100'000];
			static char in[sizeof(out)];
			for (std::size_t i = 0; i < sizeof(out); i++) {
				out[i] = static_cast<char>(byte_at(i));
			}
			std::size_t put = 0;
			while (put < sizeof(out)) {
				const ssize_t n = lwp_pwrite(fd, out + put, sizeof(out) - put, static_cast<off_t>(put));
				if (n <= 0) {
					REFUSED("a pwrite");
					break;
				}
				put += static_cast<std::size_t>(n);
			}
			CHECK(lwp_fsync(fd) == 0);
			CHECK(lwp_fdatasync(fd) == 0);
			ssize_t n = lwp_pread(fd, in, put, 0);
			CHECK(n == static_cast<ssize_t>(put));
			MUST(n < 0 || std::memcmp(in, out, static_cast<std::size_t>(n)) == 0);
			iovec iov[2] = {{in, 100}, {in + 100, 100}};
			n = lwp_readv(fd, iov, 2);
			CHECK(n == 200);
			MUST(n < 0 || std::memcmp(in, out, static_cast<std::size_t>(n)) == 0);
			CHECK(lwp_writev(fd, iov, 2) == 200);
			n = lwp_read(fd, in, 100);
			CHECK(n == 100);
			CHECK(lwp_write(fd, in, 10) == 10);
			int ends[2];
			MUST(::pipe2(ends, O_CLOEXEC) == 0);
			off_t offset = 0;
			CHECK(lwp_sendfile(ends[1], fd, &offset, 5000) == 5000);
			close_it(ends[0]);
			close_it(ends[1]);
			close_it(fd);
		}
		attempt([&] {
			file f(path, {.write = true});
			MUST(f.size() >= 0);
			f.resize(10);
			(void)f.seek(0, SEEK_SET);
			f.write_all_at(2, const_bytes("xy", 2));
			char two[2];
			f.read_exactly_at(2, mutable_bytes(two, 2));
			MUST(two[0] == 'x' && two[1] == 'y');
			f.sync();
			f.sync_data();
		});
		::unlink(path);
	});
}

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
					(void)s.read(mutable_bytes(buffer, 4), error, {.deadline = std::chrono::steady_clock::now() + 1ms, .stop = stop.get_token()});
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

}  // namespace

const std::vector<workload> &workloads() {
	static const std::vector<workload> list = {
	    {"life", "", work_life},
	    {"specific", "", work_specific},
	    {"objects", "", work_objects},
	    {"files", "", work_files},
	    {"files_epoll", "epoll", work_files},
	    {"blocking", "", work_blocking},
	    {"adopted", "", work_adopted},
	};
	return list;
}

}  // namespace lwp::faults
