// SPDX-License-Identifier: BSD-2-Clause
//
// What the example servers share: one LWP for each connection, and around it what a server needs to be left alone on a network.
//
//   limits       --max-clients: who comes when there are so many waits in the kernel's queue until one has gone
//   deadlines    --idle bounds the wait for something new, --timeout the rest of what has begun, and how long a peer may take nothing of what is
//                sent to it.  A connection that oversteps one is closed
//   descriptors  when none are left (EMFILE) accepting pauses, 10 ms at first, twice as long each time up to a second, and goes on
//   the end      SIGTERM or SIGINT: no more are accepted; connections at rest are closed; those at work have --grace seconds to finish; then, or at
//                a second signal, they are cut.  The exit status is 0 in any case
//   more of it   SO_REUSEPORT: several processes may be given the same --port; the kernel shares connections out among them
//
// Signals are not handled but read, by an LWP, from a signalfd: nothing here runs in a signal handler.
// Takes: all_lock_ when a connection begins and ends, and once at the end.
#pragma once

#include "options.hpp"

#include <lwp/io.h>
#include <lwp/mutex.hpp>
#include <lwp/runtime.hpp>
#include <lwp/scope.hpp>
#include <lwp/semaphore.hpp>

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace serve {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
inline constexpr time_point never = time_point::max();

inline time_point after(double seconds) {
	return clock::now() + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
}

/// errno after a call that may have switched: never inlined into the function that made the call (docs/guide.md, errno).
[[gnu::noinline]] inline int last_error() {
	asm volatile("");
	return errno;
}

[[noreturn]] inline void fail(const char *what) { throw std::system_error(last_error(), std::generic_category(), what); }

struct settings {
	unsigned port = 0;
	std::string address = "127.0.0.1";
	unsigned max_clients = 0;
	double idle = 60, timeout = 10, grace = 5;

	void add_to(options &o) {
		o.add("port", "N", "port to listen on; 0: any that is free", &port);
		o.add("bind", "ADDRESS", "IPv4 address to listen on", &address);
		o.add("max-clients", "N", "connections at once; 0: as many as descriptors allow", &max_clients);
		o.add("idle", "SECONDS", "a connection at rest is closed after", &idle);
		o.add("timeout", "SECONDS", "what has begun must be done after", &timeout);
		o.add("grace", "SECONDS", "after SIGTERM connections at work have", &grace);
	}
};

class server;

// ---- one connection ------------------------------------------------------------------------------------------------------

/// A connected socket; used by one LWP that reads and, if it likes, another that writes.
class connection {
public:
	connection(server &, int fd);
	~connection();
	connection(const connection &) = delete;
	connection &operator=(const connection &) = delete;

	/// Waits, at rest, for something new: --idle bounds it, and the server's end ends it.  Bytes | 0 end of the stream, or of the server | -1 errno
	ssize_t read_next(void *buffer, std::size_t size);
	/// Waits for the rest of what has begun, until `deadline`.  Bytes | 0 end of the stream | -1 errno, ETIMEDOUT at the deadline
	ssize_t read_rest(void *buffer, std::size_t size, time_point deadline);
	/// Sends all of it.  False: the peer is gone, or has taken hardly anything for --timeout.
	bool write(std::string_view bytes, int flags = 0) {
		return lwp_send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | flags) == static_cast<ssize_t>(bytes.size());
	}
	/// Before closing on a peer that may still be sending: it gets what was written to it, rather than a reset that overtakes it.
	void linger();
	/// A socket of `talk`'s own that is to be cut when this one is; -1 before it is closed.
	void tie(int fd);
	[[nodiscard]] int fd() const { return fd_; }

private:
	friend class server;
	server &server_;
	const int fd_;
	std::atomic<bool> at_rest_{false};
	int tied_ = -1;  // under all_lock_, as the next
	connection *prev_ = nullptr, *next_ = nullptr;
};

inline void set_timeout(int fd, int option, double seconds) {
	const auto us = static_cast<long>(seconds * 1e6);
	const timeval tv{us / 1'000'000, us % 1'000'000};
	(void)setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv));
}

/// A listening socket that others may share its port with.  Throws std::system_error.
inline int listen_on(const std::string &address, unsigned port) {
	sockaddr_in in{};
	in.sin_family = AF_INET;
	in.sin_port = htons(static_cast<std::uint16_t>(port));
	if (port > 65535 || inet_pton(AF_INET, address.c_str(), &in.sin_addr) != 1) {
		throw std::system_error(EINVAL, std::generic_category(), address + ":" + std::to_string(port));
	}
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||  // accepted sockets inherit it
	    bind(fd, reinterpret_cast<sockaddr *>(&in), sizeof(in)) != 0 || listen(fd, 4096) != 0) {
		fail(("listen on " + address + ":" + std::to_string(port)).c_str());
	}
	return fd;
}

inline std::string name_of(int listener) {
	sockaddr_in in{};
	socklen_t size = sizeof(in);
	char text[INET_ADDRSTRLEN] = "";
	getsockname(listener, reinterpret_cast<sockaddr *>(&in), &size);
	return std::string(inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text))) + ":" + std::to_string(ntohs(in.sin_port));
}

// ---- the server ----------------------------------------------------------------------------------------------------------

namespace detail {

/// Blocks SIGTERM and SIGINT in the calling kernel thread and all it will make; before the library has made any.
struct blocked_signals {
	blocked_signals() {
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigaddset(&set, SIGINT);
		pthread_sigmask(SIG_BLOCK, &set, nullptr);
		std::signal(SIGPIPE, SIG_IGN);
	}
	sigset_t set;
};

/// As many descriptors as the system lets us have; how many that are.
inline std::size_t raise_descriptor_limit() {
	rlimit limit{};
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

}  // namespace detail

/// Construct it first thing in main: it starts the runtime, after it has blocked the signals that it reads.
class server {
public:
	/// Throws std::system_error: it cannot listen, or the runtime cannot start.
	explicit server(const settings &s)
	    : settings_(s), descriptors_(detail::raise_descriptor_limit()), listener_(listen_on(s.address, s.port)), room_(most_clients()) {
		make_ports();
	}
	server(const server &) = delete;
	server &operator=(const server &) = delete;

	/// Serves until SIGTERM or SIGINT: talk(connection &) in an LWP for each connection.  `talk` must not throw but std::bad_alloc.
	int run(const std::function<void(connection &)> &talk) {
		const int signals = signalfd(-1, &signals_.set, SFD_CLOEXEC);
		if (signals < 0) {
			fail("signalfd");
		}
		std::printf("listening on %s\n", name_of(listener_).c_str());
		std::fflush(stdout);
		lwp::jthread acceptor({.name = "acceptor"}, [&] { accept_all(talk); });
		signalfd_siginfo info;
		while (lwp_read(signals, &info, sizeof(info)) < 0 && last_error() == EINTR) {
		}
		ending_ = true;
		lwp_close(listener_);  // ends the accept
		room_.release();       // and a wait for room
		acceptor.join();
		end_those_at_rest();
		lwp::jthread cutter({.name = "cutter"}, [&] { cut_after_grace(signals); });
		connections_.join();
		lwp_close(signals);  // ends the cutter's wait
		return 0;
	}
	[[nodiscard]] bool ending() const { return ending_; }
	[[nodiscard]] std::size_t clients() const { return count_; }
	[[nodiscard]] const settings &limits() const { return settings_; }

private:
	friend class connection;

	[[nodiscard]] std::ptrdiff_t most_clients() const {
		const std::size_t most = descriptors_ > 64 ? descriptors_ - 32 : 32;  // some are the library's, and files
		return static_cast<std::ptrdiff_t>(settings_.max_clients != 0 ? settings_.max_clients : most);
	}

	/// Lets every vCPU do I/O once, so that what it needs for that is made now, while there are descriptors for it.
	void make_ports() const {
		std::vector<lwp::jthread> all;
		for (unsigned i = 0; i < lwp::runtime::vcpus(); i++) {
			all.emplace_back(lwp::attributes{.name = "warm-up", .vcpu = static_cast<int>(i)}, [this] {
				pollfd p{listener_, POLLIN, 0};
				(void)lwp_poll(&p, 1, 1);
			});
		}
	}

	void accept_all(const std::function<void(connection &)> &talk) {
		constexpr auto shortest = std::chrono::milliseconds(10), longest = std::chrono::milliseconds(1000);
		auto pause = shortest;
		for (;;) {
			room_.acquire();
			const int fd = ending_ ? -1 : lwp_accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
			if (fd >= 0 && start(fd, talk)) {
				pause = shortest;
				continue;
			}
			const int error = fd >= 0 ? EAGAIN : last_error();
			room_.release();
			if (ending_) {
				return;
			}
			if (error == ECONNABORTED || error == EINTR) {
				continue;
			}
			// EMFILE and its like.  Nobody tells us when there is a descriptor again, so look now and then; who wants to connect waits in the kernel.
			lwp::this_thread::sleep_for(pause);
			pause = std::min(2 * pause, longest);
		}
	}

	bool start(int fd, const std::function<void(connection &)> &talk) {
		try {
			connections_.start({.name = "client"}, [this, fd, &talk] {
				{
					connection c(*this, fd);
					try {
						talk(c);
					} catch (const std::bad_alloc &) {  // this connection's end, not the server's
					}
				}
				room_.release();
			});
			return true;
		} catch (const std::exception &) {  // too many LWPs, or no memory
			close(fd);
			return false;
		}
	}

	void enter(connection *c) {
		std::lock_guard held(all_lock_);
		c->next_ = all_;
		if (all_ != nullptr) {
			all_->prev_ = c;
		}
		all_ = c;
		count_++;
		if (cut_) {  // it was accepted, and others were cut before it came here
			cut(*c);
		}
	}
	void leave(connection *c) {
		std::lock_guard held(all_lock_);
		(c->prev_ != nullptr ? c->prev_->next_ : all_) = c->next_;
		if (c->next_ != nullptr) {
			c->next_->prev_ = c->prev_;
		}
		count_--;
	}
	static void cut(const connection &c) {
		shutdown(c.fd_, SHUT_RDWR);
		if (c.tied_ >= 0) {
			shutdown(c.tied_, SHUT_RDWR);
		}
	}

	/// A connection that goes to rest says so and then looks at ending_; ending_ was set before we look whether it is at rest.  Both in the one order
	/// of seq_cst: either it sees the end or we see it at rest.
	void end_those_at_rest() {
		std::lock_guard held(all_lock_);
		for (const connection *c = all_; c != nullptr; c = c->next_) {
			if (c->at_rest_) {
				shutdown(c->fd_, SHUT_RD);
			}
		}
	}

	void cut_after_grace(int signals) {
		pollfd p{signals, POLLIN, 0};
		const int n = lwp_poll(&p, 1, static_cast<int>(settings_.grace * 1000));
		if (n == 1 && p.revents != POLLIN) {
			return;  // closed: all have ended
		}
		std::lock_guard held(all_lock_);
		cut_ = true;
		for (const connection *c = all_; c != nullptr; c = c->next_) {
			cut(*c);
		}
	}

	detail::blocked_signals signals_;  // first: the runtime's kernel threads inherit it
	const settings settings_;
	const std::size_t descriptors_;
	const int listener_;
	lwp::runtime runtime_;
	std::atomic<bool> ending_{false};
	lwp::counting_semaphore<> room_;  // connections that may still come
	lwp::mutex all_lock_;
	connection *all_ = nullptr;  // under all_lock_, as the next
	bool cut_ = false;
	std::atomic<std::size_t> count_{0};
	lwp::scope connections_;  // last: nobody uses the rest when it has gone
};

inline connection::connection(server &s, int fd) : server_(s), fd_(fd) {
	set_timeout(fd, SO_RCVTIMEO, s.limits().idle);
	set_timeout(fd, SO_SNDTIMEO, s.limits().timeout);
	s.enter(this);
}

inline connection::~connection() {
	server_.leave(this);
	lwp_close(fd_);
}

inline void connection::tie(int fd) {
	std::lock_guard held(server_.all_lock_);
	tied_ = fd;
	if (server_.cut_) {
		server::cut(*this);
	}
}

inline ssize_t connection::read_next(void *buffer, std::size_t size) {
	at_rest_ = true;
	if (server_.ending_) {  // who ended us may have looked before we said that we rest
		shutdown(fd_, SHUT_RD);
	}
	const ssize_t n = lwp_recv(fd_, buffer, size, 0);
	at_rest_ = false;
	return n;
}

inline ssize_t connection::read_rest(void *buffer, std::size_t size, time_point deadline) {
	for (;;) {
		const ssize_t n = lwp_recv(fd_, buffer, size, MSG_DONTWAIT);
		if (n >= 0 || last_error() != EAGAIN) {
			return n;
		}
		const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
		pollfd p{fd_, POLLIN, 0};
		if (left <= 0 || lwp_poll(&p, 1, static_cast<int>(left)) == 0) {
			errno = ETIMEDOUT;
			return -1;
		}
	}
}

inline void connection::linger() {
	shutdown(fd_, SHUT_WR);
	char scrap[4096];
	const time_point end = after(1);
	for (std::size_t most = 1 << 20; most >= sizeof(scrap) && read_rest(scrap, sizeof(scrap), end) > 0; most -= sizeof(scrap)) {
	}
}

}  // namespace serve
