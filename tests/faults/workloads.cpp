// SPDX-License-Identifier: BSD-2-Clause
#include "faults/workload.h"

#include "faults/inject.h"

#include <lwp/io.h>
#include <lwp/lwp.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <optional>
#include <poll.h>
#include <stop_token>
#include <string>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
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

// ---- procs -------------------------------------------------------------------------------------------------------------------

std::atomic<int> begun;

void work_procs() {
	on_runtime(2, [] {
		begun = 0;
		int given = 0;
		proc procs[4];
		for (int i = 0; i < 4; i++) {
			const auto body = [i] {
				begun++;
				all_of<3>(count_life, nullptr);
				return 10 + i;
			};
			given += attempt([&] { procs[i] = proc(body); }) ? 1 : 0;
		}
		for (int i = 0; i < 4; i++) {
			if (procs[i]) {
				MUST(procs[i].wait().code() == 10 + i);
			}
		}
		MUST(begun == given);  // whoever was refused has not run
		// It would sleep for ever.
		proc sleeper;
		const auto sleep = [] { return _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); };
		if (attempt([&] { sleeper = proc(sleep); })) {
			sleeper.kill();
			MUST(sleeper.wait().signal() == SIGKILL);
		}
	});
}

/// On the only vCPU: whoever waits with a deadline, by a timer or, without room for one, by looking at the clock, lets others run.
void work_timers() {
	on_runtime(1, [] {
		static std::atomic<bool> ran;
		const auto until_it_ran = [](auto wait) {
			ran = false;
			const lwpid_t other = spawn([](void *) { ran = true; }, nullptr);
			while (other != 0 && !ran) {
				wait();
			}
			MUST(other == 0 || _lwp_wait(other, nullptr) == 0);
		};
		until_it_ran([] { lwp::this_thread::sleep_for(50us); });
		until_it_ran([] {
			const timespec ts = {0, 50'000};
			CHECK(lwp_nanosleep(&ts, nullptr) == 0);
		});
		lwp::mutex m;
		lwp::condition_variable cv;
		until_it_ran([&] {
			std::unique_lock hold(m);
			(void)cv.wait_for(hold, 50us);
		});
		lwp::condition_variable_any any;
		until_it_ran([&] {
			std::unique_lock hold(m);
			(void)any.wait_for(hold, 50us);
		});
		lwp::counting_semaphore<> none(0);
		until_it_ran([&] { MUST(!none.try_acquire_for(50us)); });
		lwp::event never_set;
		until_it_ran([&] { MUST(!never_set.wait_for(50us)); });
		lwp::wait_group all;
		all.add(1);
		until_it_ran([&] { MUST(!all.wait_for(50us)); });
		all.done();
		attempt([&] {
			lwp::channel<int> empty(1);
			until_it_ran([&] { MUST(!empty.receive_for(50us)); });
		});
		attempt([&] {
			std::stop_source stop;
			until_it_ran([&] { (void)lwp::this_thread::sleep_for(50us, stop.get_token()); });
		});
		// Held by one that sleeps: waited for with a deadline, again and again.
		lwp::timed_mutex held;
		lwp::shared_timed_mutex shared;
		static lwp::timed_mutex *first;
		static lwp::shared_timed_mutex *second;
		first = &held;
		second = &shared;
		static std::atomic<bool> locked;
		locked = false;
		const lwpid_t owner = spawn(
		    [](void *) {
			    const std::lock_guard hold_first(*first);
			    const std::lock_guard hold_second(*second);
			    locked = true;
			    lwp::this_thread::sleep_for(300us);
		    },
		    nullptr);
		if (owner != 0) {
			while (!locked) {
				lwp_yield();
			}
			while (!held.try_lock_for(50us)) {
			}
			held.unlock();
			while (!shared.try_lock_shared_for(50us)) {
			}
			shared.unlock_shared();
			while (!shared.try_lock_for(50us)) {
			}
			shared.unlock();
			MUST(_lwp_wait(owner, nullptr) == 0);
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
			all_of<4>(
			    [](void *) {
				    static int value;
				    if (lwp_tss_set(shown, &value) == 0) {
					    MUST(lwp_tss_get(shown) == &value);
				    } else {
					    REFUSED("tss_set");
				    }
			    },
			    nullptr);
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

// ---- bytes that wait for each other --------------------------------------------------------------------------------------------

// No call waits so long: whoever is not woken hangs.  There has to be a timer for it all the same.
constexpr auto long_enough = 1h;
constexpr std::size_t much = 300'000;  // more than a pipe or a socket takes at once

const char *pattern() {
	static const auto bytes = [] {
		std::array<char, much> b;
		for (std::size_t i = 0; i < b.size(); i++) {
			b[i] = static_cast<char>(byte_at(i));
		}
		return b;
	}();
	return bytes.data();
}

/// Reads to the end, or to an error; what comes is what was sent.
template <class In>
std::size_t read_all(In &in, std::error_code &error) {
	static char buffer[50'000];
	std::size_t got = 0;
	while (const std::size_t n = in.read(mutable_bytes(buffer, sizeof(buffer)), error, within(long_enough))) {
		MUST(got + n <= much && std::memcmp(buffer, pattern() + got, n) == 0);
		got += n;
	}
	return got;
}

/// One LWP writes more than fits, the caller reads it.  Who gives up closes its end, so the other one ends too.
template <class In, class Out>
void carry(In &in, Out &out) {
	std::size_t sent = 0;
	std::size_t got = 0;
	std::error_code read_error;
	if (attempt([&] {
		    lwp::thread writer([&] {
			    std::error_code error;
			    sent = out.write_all(const_bytes(pattern(), much), error, within(long_enough));
			    CHECK(!error && sent == much);
			    out.close(error);
			    CHECK(!error);
		    });
		    got = read_all(in, read_error);
		    CHECK(!read_error);
		    std::error_code error;
		    in.close(error);
		    CHECK(!error);
		    writer.join();
	    })) {
		MUST(got <= sent && (read_error || got == sent));
	}
}

/// Nobody writes: a deadline, a stop request and a close end the wait.
template <class In>
void nothing_comes(In &in) {
	char c;
	std::error_code error;
	CHECK(in.read(mutable_bytes(&c, 1), error, within(200us)) == 0 && error == std::errc::timed_out);
	attempt([&] {
		std::stop_source stop;
		lwp::thread stopper([&] { stop.request_stop(); });
		CHECK(in.read(mutable_bytes(&c, 1), error, within(long_enough, stop.get_token())) == 0 && error == std::errc::operation_canceled);
		stopper.join();
	});
	attempt([&] {
		static int fd;
		static std::atomic<bool> there;
		fd = in.native_handle();
		there = false;
		lwp::thread blocked([] {
			char one;
			there = true;
			MUST(lwp_read(fd, &one, 1) <= 0);
		});
		while (!there) {
			lwp_yield();
		}
		lwp::this_thread::sleep_for(100us);
		(void)in.release();
		close_it(fd);
		blocked.join();
	});
}

void work_pipes() {
	on_runtime(2, [] {
		attempt([] { lwp::pipe unused; });  // the first that the table of descriptors hears of is a close
		attempt([] {
			lwp::pipe p;
			carry(p.read_end, p.write_end);
		});
		attempt([] {
			lwp::pipe p;
			nothing_comes(p.read_end);
		});
		attempt([] {
			lwp::pipe p;
			const const_bytes pieces[] = {"one\n", "two\n", "three"};
			std::error_code error;
			CHECK(p.write_end.write_gather(pieces, error) == 13 && !error);
			p.write_end.close(error);
			reader lines(p.read_end, 64);
			unsigned n = 0;
			while (lines.read_line(error, within(long_enough))) {
				n++;
			}
			CHECK(n == 3 && !error);
		});
		// Room that never comes: what was written before counts.
		attempt([] {
			lwp::pipe p;
			std::error_code error;
			const std::size_t n = p.write_end.write_all(const_bytes(pattern(), much), error, within(300us));
			CHECK(n < much && error == std::errc::timed_out);
			p.write_end.close(error);
			MUST(read_all(p.read_end, error) <= n);
		});
		// By the C calls, which have no limits: ready, not ready, ready.
		attempt([] {
			lwp::pipe p;
			const int in = p.read_end.native_handle();
			pollfd both[2] = {{in, POLLIN, 0}, {p.write_end.native_handle(), POLLOUT, 0}};
			CHECK(lwp_poll(both, 2, 1000) == 1 && both[1].revents == POLLOUT);
			both[1].fd = -1;
			CHECK(lwp_poll(both, 2, 1) == 0);
			CHECK(lwp_poll(both, 1, 1) == 0);
			fd_set readable;
			FD_ZERO(&readable);
			FD_SET(in, &readable);
			timeval left = {0, 500};
			CHECK(lwp_select(in + 1, &readable, nullptr, nullptr, &left) == 0);
			std::error_code error;
			if (p.write_end.write_all("x", error) == 1) {
				CHECK(lwp_poll(both, 2, -1) == 1 && both[0].revents == POLLIN);
			} else {
				REFUSED("a write");
			}
		});
	});
}

/// Answers one client until that ends.  Without it nobody is to wait for one.
template <class Listener>
void serve(Listener &listener) {
	std::error_code error;
	auto client = listener.accept(error, within(long_enough));
	CHECK(!error);
	static char buffer[4096];
	while (!error) {
		const std::size_t n = client.read(mutable_bytes(buffer, sizeof(buffer)), error, within(long_enough));
		if (n == 0) {
			break;
		}
		(void)client.write_all(const_bytes(buffer, n), error, within(long_enough));
	}
	CHECK(!error);
	listener.close(error);  // refuses those that wait for accept()
}

template <class Stream, class Listener>
void echo(Listener &listener, const endpoint &at) {
	lwp::thread server([&] { serve(listener); });
	std::error_code error;
	Stream s = Stream::connect(at, error, within(long_enough));
	if (error) {
		REFUSED("a connection");
		listener.close(error);  // ends the accept()
	} else {
		constexpr std::size_t size = 10'000;
		CHECK(s.write_all(const_bytes(pattern(), size), error, within(long_enough)) == size);
		if (!error) {
			s.shutdown_write(error);
		}
		if (error) {
			REFUSED("a request");
		} else {
			const std::size_t got = read_all(s, error);
			CHECK(got == size && !error);
		}
		s.close(error);
	}
	server.join();
}

void work_sockets() {
	on_runtime(2, [] {
		attempt([] {
			auto [a, b] = unix_stream::pair();
			carry(a, b);
		});
		attempt([] {
			auto [a, b] = unix_stream::pair();
			nothing_comes(a);
		});
		attempt([] {
			tcp_listener listener(endpoint::loopback(0));
			echo<tcp_stream>(listener, listener.local_endpoint());
		});
		char path[] = "/tmp/lwp-faults-XXXXXX";
		MUST(::mkdtemp(path) != nullptr);
		char name[sizeof(path) + 2];
		std::snprintf(name, sizeof(name), "%s/s", path);
		attempt([&] {
			unix_listener listener(endpoint::unix_path(name));
			echo<unix_stream>(listener, endpoint::unix_path(name));
		});
		// Nobody accepts, and the backlog is full: nothing tells when there is room.
		attempt([&] {
			unix_listener listener(endpoint::unix_path(name), {.backlog = 0, .replace = true});
			std::error_code error;
			const unix_stream first = unix_stream::connect(endpoint::unix_path(name), error, within(long_enough));
			CHECK(!error);
			const unix_stream second = unix_stream::connect(endpoint::unix_path(name), error, within(2ms));
			CHECK(error == std::errc::timed_out);
		});
		::unlink(name);
		::rmdir(path);
		attempt([] {
			udp_socket a(endpoint::loopback(0));
			udp_socket b(endpoint::loopback(0));
			char buffer[100];
			std::error_code error;
			CHECK(a.receive_from(mutable_bytes(buffer, 100), error, within(200us)).size == 0 && error == std::errc::timed_out);
			b.send_to("hello", a.local_endpoint(), error, within(long_enough));
			if (error) {
				REFUSED("a datagram");
				return;
			}
			const datagram d = a.receive_from(mutable_bytes(buffer, 100), error, within(long_enough));
			CHECK(!error && d.size == 5 && d.from == b.local_endpoint());
			b.connect(a.local_endpoint());
			b.send("again", within(long_enough));
			CHECK(a.receive(mutable_bytes(buffer, 100), error, within(long_enough)) == 5);
		});
		// The timeout of a socket; or, if the kernel does not say what that is, the other side ends it.
		attempt([] {
			auto [a, b] = unix_stream::pair();
			const timeval soon = {0, 1000};
			MUST(::setsockopt(a.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) == 0);
			char c;
			const lwpid_t later = spawn(
			    [](void *fd) {
				    lwp::this_thread::sleep_for(20ms);
				    ::shutdown(static_cast<int>(reinterpret_cast<std::intptr_t>(fd)), SHUT_RDWR);
			    },
			    reinterpret_cast<void *>(static_cast<std::intptr_t>(b.native_handle())));
			if (later != 0) {
				MUST(lwp_recv(a.native_handle(), &c, 1, 0) <= 0);
				MUST(_lwp_wait(later, nullptr) == 0);
			}
		});
	});
}

// ---- child processes -----------------------------------------------------------------------------------------------------------

void work_processes() {
	on_runtime(2, [] {
		attempt([] {
			process p({"/bin/cat"}, {.in = stdio::pipe(), .out = stdio::pipe(), .error = stdio::null()});
			std::error_code error;
			const bool sent = p.standard_input().write_all("hello", error, within(long_enough)) == 5;
			CHECK(sent);
			p.standard_input().close(error);
			char text[8];
			const std::size_t n = p.standard_output().read_exactly(mutable_bytes(text, 5), error, within(long_enough));
			CHECK(n == 5 && std::memcmp(text, "hello", 5) == 0);
			const exit_status how = p.wait(error, within(long_enough));
			CHECK(!error && how.code() == 0);
			MUST(error || how.exited());
		});
		// One that runs on is killed and collected.  (If it could not be killed it would be waited for.)
		attempt([] {
			process p({"/bin/sleep", "3"}, {.out = stdio::null(), .error = stdio::to_out(), .new_group = true});
			std::error_code error;
			(void)p.wait(error, within(300us));
			CHECK(error == std::errc::timed_out);
			p.kill(SIGTERM, error);
			CHECK(!error);
			if (!error) {
				const exit_status how = p.wait(error, within(long_enough));
				CHECK(how.signal() == SIGTERM);
			}
		});
		attempt([] { process p({"/bin/sleep", "3"}); });
		attempt([] {
			process p({"/bin/true"});
			p.detach();
		});
		attempt([] {
			std::error_code error;
			process p({"/bin/there-is-no-such-program"}, {.out = stdio::pipe()}, error);
			CHECK(error == std::errc::no_such_file_or_directory);
		});
		const pid_t pid = ::fork();
		if (pid == 0) {
			::_exit(5);
		}
		int status = 0;
		if (lwp_waitpid(pid, &status, 0) != pid) {
			REFUSED("a child is waited for");
			MUST(::waitpid(pid, &status, 0) == pid);
		}
		MUST(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	});
}

}  // namespace

const std::vector<workload> &workloads() {
	static const std::vector<workload> list = {
	    {"life", "", work_life},
	    {"procs", "", work_procs},
	    {"timers", "", work_timers},
	    {"specific", "", work_specific},
	    {"objects", "", work_objects},
	    {"files", "", work_files},
	    {"files_epoll", "epoll", work_files},
	    {"pipes", "", work_pipes},
	    {"pipes_epoll", "epoll", work_pipes},
	    {"sockets", "", work_sockets},
	    {"sockets_epoll", "epoll", work_sockets},
	    {"processes", "", work_processes},
	    {"processes_epoll", "epoll", work_processes},
	    {"blocking", "", work_blocking},
	    {"adopted", "", work_adopted},
	};
	return list;
}

}  // namespace lwp::faults
