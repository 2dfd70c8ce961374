// SPDX-License-Identifier: BSD-2-Clause
//
// I/O: an echo server with an LWP for each connection, on one vCPU, and the same written by hand on an io_uring.  The client, a
// kernel thread that never waits, sends each connection its next 64 bytes when the last ones have come back.  Server and client have a CPU each.
// The server's CPU time for each request is what the server costs; requests in a second also depend on the client.
#include "bench.h"

#include <lwp/io.h>
#include <lwp/runtime.hpp>
#include <lwp/thread.hpp>

#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

namespace bench {
namespace {

constexpr std::size_t message = 64;
constexpr double duration = 1.0;

void pin(unsigned cpu) {
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

/// Pins the calling kernel thread for its life, if there are two CPUs.
class pinned {
public:
	explicit pinned(unsigned cpu) {
		sched_getaffinity(0, sizeof(old_), &old_);
		if (CPU_COUNT(&old_) >= 2) {
			pin(cpu);
		}
	}
	~pinned() { sched_setaffinity(0, sizeof(old_), &old_); }
	pinned(const pinned &) = delete;
	pinned &operator=(const pinned &) = delete;

private:
	cpu_set_t old_;
};

/// `count` connected TCP sockets over the loopback interface, the server's ends and the client's.
struct connections {
	explicit connections(std::size_t count) {
		const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		sockaddr_in in{};
		in.sin_family = AF_INET;
		in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		socklen_t size = sizeof(in);
		ok = bind(listener, reinterpret_cast<sockaddr *>(&in), sizeof(in)) == 0 && listen(listener, 128) == 0 &&
		    getsockname(listener, reinterpret_cast<sockaddr *>(&in), &size) == 0;
		for (std::size_t i = 0; ok && i < count; i++) {
			const int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			ok = connect(c, reinterpret_cast<sockaddr *>(&in), sizeof(in)) == 0;
			const int s = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
			const int one = 1;
			ok = ok && s >= 0 && setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
			    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0;
			client.push_back(c);
			server.push_back(s);
		}
		close(listener);
	}
	~connections() {
		for (const int fd : client) {
			close(fd);
		}
		for (const int fd : server) {
			close(fd);
		}
	}
	connections(const connections &) = delete;
	connections &operator=(const connections &) = delete;

	std::vector<int> client, server;
	bool ok = false;
};

/// Sends and receives for `duration` on its own kernel thread, then shuts the connections down.
class load {
public:
	explicit load(const connections &c) : thread_([this, &c] { run(c); }) {}
	~load() { thread_.join(); }
	load(const load &) = delete;
	load &operator=(const load &) = delete;
	std::atomic<std::uint64_t> requests{0};

private:
	void run(const connections &c) {
		const pinned here(1);
		const int set = epoll_create1(EPOLL_CLOEXEC);
		std::array<char, message> out{};
		for (const int fd : c.client) {
			epoll_event e{};
			e.events = EPOLLIN;
			e.data.fd = fd;
			epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
			(void)!send(fd, out.data(), out.size(), MSG_NOSIGNAL);
		}
		const double end = seconds(CLOCK_MONOTONIC) + duration;
		std::uint64_t n = 0;
		std::array<epoll_event, 256> events{};
		while (seconds(CLOCK_MONOTONIC) < end) {
			const int ready = epoll_wait(set, events.data(), static_cast<int>(events.size()), 0);
			for (int i = 0; i < ready; i++) {
				const int fd = events[static_cast<std::size_t>(i)].data.fd;
				if (recv(fd, out.data(), out.size(), MSG_DONTWAIT) > 0) {
					n++;
					(void)!send(fd, out.data(), out.size(), MSG_NOSIGNAL);
				}
			}
		}
		requests = n;
		for (const int fd : c.client) {
			shutdown(fd, SHUT_RDWR);
		}
		close(set);
	}

	std::thread thread_;
};

void serve_lwps(const connections &c) {
	const lwp::runtime rt({.vcpus = 1});
	std::vector<lwp::thread> all;
	for (const int fd : c.server) {
		all.emplace_back([fd] {
			std::array<char, message> buffer;
			ssize_t n;
			while ((n = lwp_recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
				lwp_send(fd, buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL);
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
}

/// The floor: one request in flight for each connection, buffers of their own, one system call for each round.
void serve_uring(const connections &c) {
	io_uring ring;
	io_uring_params params{};
	params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
	params.cq_entries = 4096;
	if (io_uring_queue_init_params(1024, &ring, &params) != 0) {
		return;
	}
	struct peer {
		int fd;
		bool sending;
		std::array<char, message> buffer;
	};
	std::vector<peer> peers(c.server.size());
	const auto ask = [&](peer &p, int bytes) {
		io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		p.sending = bytes > 0;
		if (p.sending) {
			io_uring_prep_send(sqe, p.fd, p.buffer.data(), static_cast<std::size_t>(bytes), MSG_NOSIGNAL);
		} else {
			io_uring_prep_recv(sqe, p.fd, p.buffer.data(), p.buffer.size(), 0);
		}
		io_uring_sqe_set_data(sqe, &p);
	};
	std::size_t open = 0;
	for (const int fd : c.server) {
		peers[open].fd = fd;
		ask(peers[open++], 0);
	}
	while (open != 0) {
		io_uring_submit_and_wait(&ring, 1);
		unsigned head, seen = 0;
		io_uring_cqe *cqe;
		io_uring_for_each_cqe(&ring, head, cqe) {
			peer &p = *static_cast<peer *>(io_uring_cqe_get_data(cqe));
			seen++;
			if (cqe->res <= 0) {
				open--;
			} else {
				ask(p, p.sending ? 0 : cqe->res);
			}
		}
		io_uring_cq_advance(&ring, seen);
	}
	io_uring_queue_exit(&ring);
}

template <class Server>
void echo(State &state, const char *lwp_io, Server serve) {
	const auto count = static_cast<std::size_t>(state.range(0));
	if (lwp_io != nullptr) {
		setenv("LWP_IO", lwp_io, 1);
	}
	double cpu = 0;
	std::uint64_t requests = 0;
	time_batch(state, 1, [&] {
		const connections c(count);
		if (!check(state, c.ok, "no connections")) {
			return;
		}
		load clients(c);
		const pinned here(0);
		const double before = seconds(CLOCK_THREAD_CPUTIME_ID);
		serve(c);
		cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - before;
		requests = clients.requests;
	});
	unsetenv("LWP_IO");
	check(state, requests > 100, "hardly any request was answered");
	state.counters["requests/s"] = static_cast<double>(requests) / duration;
	state.counters["us CPU/request"] = 1e6 * cpu / static_cast<double>(requests);
}

void add(const char *name, const char *lwp_io, void (*serve)(const connections &)) {
	benchmark::RegisterBenchmark(name, [=](State &state) { echo(state, lwp_io, serve); })
	    ->Arg(64)
	    ->ArgName("connections")
	    ->Unit(benchmark::kMillisecond)
	    ->UseRealTime();
}

}  // namespace

void add_io() {
	add("Echo/lwp_io_uring", "uring", serve_lwps);
	add("Echo/lwp_epoll", "epoll", serve_lwps);
	add("Echo/by_hand_io_uring", nullptr, serve_uring);
}

}  // namespace bench
