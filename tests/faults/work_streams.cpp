// SPDX-License-Identifier: BSD-2-Clause
//
// Bytes that wait for each other: pipes and sockets.
#include "faults/common.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <stop_token>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <system_error>
#include <unistd.h>

namespace lwp::faults {
namespace {

using namespace std::chrono_literals;

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

}  // namespace

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

}  // namespace lwp::faults
