// SPDX-License-Identifier: BSD-2-Clause
//
// What the example servers share: one LWP for each connection, and around it what a server needs to be left alone on a network.
//
//   limits       --max-clients: who comes when there are so many waits in the kernel's queue until one has gone
//   deadlines    --idle bounds the wait for something new, --timeout the rest of what has begun, and how long a peer may take for what is
//                sent to it.  A connection that oversteps one is closed
//   memory       of what a peer does not take the kernel keeps 128 KiB for each connection, not the megabytes to which its buffers would grow:
//                to fill those for hundreds of slow readers takes the CPU from all others
//   descriptors  when none are left (EMFILE) accepting pauses, 10 ms at first, twice as long each time up to a second, and goes on
//   the end      SIGTERM or SIGINT: no more are accepted; connections at rest are closed; those at work have --grace seconds to finish; then, or at
//                a second signal, they are cut.  The exit status is 0 in any case
//   more of it   SO_REUSEPORT: several processes may be given the same --port; the kernel shares connections out among them
//
// Signals are not handled but read, by an LWP, from a signalfd: nothing here runs in a signal handler.
// Takes: all_lock_ when a connection begins and ends, and once at the end.
#pragma once

#include "options.hpp"

#include <lwp/io.hpp>
#include <lwp/mutex.hpp>
#include <lwp/net.hpp>
#include <lwp/runtime.hpp>
#include <lwp/scope.hpp>
#include <lwp/semaphore.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stop_token>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <system_error>
#include <vector>

namespace serve {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using seconds = std::chrono::duration<double>;
inline constexpr time_point never = time_point::max();

inline time_point after(double s) { return lwp::within(seconds(s)).deadline; }

struct settings {
	unsigned port = 0;
	std::string address = "127.0.0.1";
	unsigned max_clients = 0;
	double idle = 60, timeout = 10, grace = 5;

	void add_to(options &o) {
		o.add("port", "N", "port to listen on; 0: any that is free", &port);
		o.add("bind", "ADDRESS", "address to listen on", &address);
		o.add("max-clients", "N", "connections at once; 0: as many as descriptors allow", &max_clients);
		o.add("idle", "SECONDS", "a connection at rest is closed after", &idle);
		o.add("timeout", "SECONDS", "what has begun must be done after", &timeout);
		o.add("grace", "SECONDS", "after SIGTERM connections at work have", &grace);
	}
};

class server;

/// What a server puts between its connections and their sockets, as TLS.  Used like a stream.
class layer {
public:
	layer() = default;
	layer(const layer &) = delete;
	layer &operator=(const layer &) = delete;
	virtual ~layer() = default;
	virtual std::size_t read(lwp::mutable_bytes buffer, std::error_code &error, const lwp::io_limit &limit) = 0;
	virtual void write(lwp::const_bytes bytes, std::error_code &error, const lwp::io_limit &limit) = 0;
	/// No more will be written.
	virtual void end(std::error_code &error, const lwp::io_limit &limit) = 0;
	[[nodiscard]] virtual int socket() const = 0;
};

// ---- one connection ------------------------------------------------------------------------------------------------------

/// A connected socket; used by one LWP that reads and, if it likes, another that writes.
class connection {
public:
	connection(server &, lwp::tcp_stream);
	~connection();
	connection(const connection &) = delete;
	connection &operator=(const connection &) = delete;

	/// Waits, at rest, for something new: --idle bounds it (an error), and the server's end ends it.  Bytes | 0 end of the stream, or of the server
	std::size_t read_next(lwp::mutable_bytes buffer, std::error_code &error);
	/// Waits for the rest of what has begun, until `deadline`.  Bytes | 0 end of the stream.  std::errc::timed_out: the deadline
	std::size_t read_rest(lwp::mutable_bytes buffer, std::error_code &error, time_point deadline) {
		return read(buffer, error, {.deadline = deadline});
	}
	/// Sends all of it.  False: the peer is gone, or has not taken what fits into a socket within --timeout.
	bool write(std::string_view bytes);
	/// make(socket) gives the layer that everything goes through from now on.  It must not block.
	template <class Make>
	void cover(Make make);
	/// Tells the peer, through the layer if there is one, that no more will be written.
	void end(std::error_code &error);
	/// Before closing on a peer that may still be sending: it gets what was written to it, rather than a reset that overtakes it.
	void linger();
	/// A stream of `talk`'s own that is to be cut when this one is; null before it is closed.
	void tie(const lwp::stream_socket *);
	/// Stopped when this one is cut: for what `talk` waits for elsewhere.
	[[nodiscard]] std::stop_token cut_token() const;
	[[nodiscard]] lwp::tcp_stream &stream() { return stream_; }

private:
	friend class server;
	std::size_t read(lwp::mutable_bytes buffer, std::error_code &error, const lwp::io_limit &limit) {
		return layer_ ? layer_->read(buffer, error, limit) : stream_.read(buffer, error, limit);
	}
	[[nodiscard]] int socket() const { return layer_ ? layer_->socket() : stream_.native_handle(); }

	server &server_;
	lwp::tcp_stream stream_;
	std::unique_ptr<layer> layer_;  // both change under all_lock_
	std::atomic<bool> at_rest_{false};
	const lwp::stream_socket *tied_ = nullptr;  // under all_lock_, as the next
	connection *prev_ = nullptr, *next_ = nullptr;
};

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
	    : settings_(s), descriptors_(detail::raise_descriptor_limit()), listener_(listen_on(s)), room_(most_clients()) {
		make_ports();
	}
	server(const server &) = delete;
	server &operator=(const server &) = delete;

	/// Serves until SIGTERM or SIGINT: talk(connection &) in an LWP for each connection.  What `talk` throws ends its connection.
	int run(const std::function<void(connection &)> &talk) {
		lwp::file signals(signalfd(-1, &signals_.set, SFD_CLOEXEC));
		if (!signals) {
			throw std::system_error(errno, std::generic_category(), "signalfd");
		}
		std::printf("listening on %s\n", listener_.local_endpoint().to_string().c_str());
		std::fflush(stdout);
		lwp::jthread acceptor({.name = "acceptor"}, [&](const std::stop_token &stop) { accept_all(talk, stop); });
		read_signal(signals, {});
		ending_ = true;
		acceptor.request_stop();  // ends the accept
		room_.release();          // and a wait for room
		acceptor.join();
		listener_.close();
		end_those_at_rest();
		lwp::jthread cutter({.name = "cutter"}, [&](const std::stop_token &stop) {
			if (read_signal(signals, lwp::within(seconds(settings_.grace), stop)) != std::errc::operation_canceled) {
				cut_all();
			}
		});
		connections_.join();
		return 0;  // which stops the cutter
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

	static lwp::tcp_listener listen_on(const settings &s) {
		if (s.port > 65535) {
			throw std::system_error(EINVAL, std::generic_category(), "--port");
		}
		lwp::tcp_listener listener(lwp::endpoint(s.address, static_cast<std::uint16_t>(s.port)), {.reuse_port = true});
		listener.set_option(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 128 * 1024);  // its connections inherit it
		return listener;
	}

	/// Lets every vCPU do I/O once, so that what it needs for that is made now, while there are descriptors for it.
	void make_ports() {
		std::vector<lwp::jthread> all;
		for (unsigned i = 0; i < lwp::runtime::vcpus(); i++) {
			all.emplace_back(lwp::attributes{.name = "warm-up", .vcpu = static_cast<int>(i)}, [] {
				std::error_code ignored;
				auto [one, other] = lwp::unix_stream::pair();
				char byte;
				(void)one.read({&byte, 1}, ignored, lwp::within(std::chrono::milliseconds(1)));
			});
		}
	}

	/// Waits for a signal.
	static std::error_code read_signal(lwp::file &signals, const lwp::io_limit &limit) {
		std::error_code error;
		signalfd_siginfo info;
		do {
			signals.read({&info, sizeof(info)}, error, limit);
		} while (error == std::errc::interrupted);
		return error;
	}

	void accept_all(const std::function<void(connection &)> &talk, const std::stop_token &stop) {
		constexpr auto shortest = std::chrono::milliseconds(10), longest = std::chrono::milliseconds(1000);
		auto pause = shortest;
		for (;;) {
			room_.acquire();
			std::error_code error;
			lwp::tcp_stream stream = listener_.accept(error, {.stop = stop});
			if (!error && start(std::move(stream), talk)) {
				pause = shortest;
				continue;
			}
			room_.release();
			if (ending_) {
				return;
			}
			// EMFILE and its like.  Nobody tells us when there is a descriptor again, so look now and then; who wants to connect waits in the kernel.
			if (lwp::this_thread::sleep_for(pause, stop)) {
				pause = std::min(2 * pause, longest);
			}
		}
	}

	bool start(lwp::tcp_stream stream, const std::function<void(connection &)> &talk) {
		try {
			connections_.start({.name = "client"}, [this, stream = std::move(stream), &talk]() mutable {
				{
					connection c(*this, std::move(stream));
					try {
						talk(c);
					} catch (const std::exception &) {  // no memory, or no LWP: this connection's end, not the server's
					}
				}
				room_.release();
			});
			return true;
		} catch (const std::exception &) {  // too many LWPs, or no memory
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
		if (cut_.stop_requested()) {  // it was accepted, and others were cut before it came here
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
		shutdown(c.socket(), SHUT_RDWR);
		if (c.tied_ != nullptr) {
			shutdown(c.tied_->native_handle(), SHUT_RDWR);
		}
	}
	void cut_all() {
		std::lock_guard held(all_lock_);
		cut_.request_stop();
		for (const connection *c = all_; c != nullptr; c = c->next_) {
			cut(*c);
		}
	}

	/// A connection that goes to rest says so and then looks at ending_; ending_ was set before we look whether it is at rest.  Both in the one order
	/// of seq_cst: either it sees the end or we see it at rest.
	void end_those_at_rest() {
		std::lock_guard held(all_lock_);
		for (const connection *c = all_; c != nullptr; c = c->next_) {
			if (c->at_rest_) {
				shutdown(c->socket(), SHUT_RD);
			}
		}
	}

	detail::blocked_signals signals_;  // first: the runtime's kernel threads inherit it
	const settings settings_;
	const std::size_t descriptors_;
	lwp::runtime runtime_;
	lwp::tcp_listener listener_;
	std::atomic<bool> ending_{false};
	lwp::counting_semaphore<> room_;  // connections that may still come
	lwp::mutex all_lock_;
	connection *all_ = nullptr;  // under all_lock_
	std::stop_source cut_;       // requested under all_lock_
	std::atomic<std::size_t> count_{0};
	lwp::scope connections_;  // last: nobody uses the rest when it has gone
};

inline connection::connection(server &s, lwp::tcp_stream stream) : server_(s), stream_(std::move(stream)) { s.enter(this); }

inline connection::~connection() { server_.leave(this); }

inline void connection::tie(const lwp::stream_socket *other) {
	std::lock_guard held(server_.all_lock_);
	tied_ = other;
	if (server_.cut_.stop_requested()) {
		server::cut(*this);
	}
}

inline std::stop_token connection::cut_token() const { return server_.cut_.get_token(); }

inline std::size_t connection::read_next(lwp::mutable_bytes buffer, std::error_code &error) {
	at_rest_ = true;
	if (server_.ending_) {  // who ended us may have looked before we said that we rest
		shutdown(socket(), SHUT_RD);
	}
	const std::size_t n = read(buffer, error, lwp::within(seconds(server_.limits().idle)));
	at_rest_.store(false, std::memory_order_relaxed);  // relaxed: seen late, it only ends a connection whose next byte came after the end
	return n;
}

inline bool connection::write(std::string_view bytes) {
	constexpr std::size_t piece = 256 * 1024;  // large ones get --timeout for each of these
	std::error_code error;
	for (std::size_t at = 0; at < bytes.size() && !error; at += piece) {
		const lwp::io_limit limit = lwp::within(seconds(server_.limits().timeout));
		layer_ ? layer_->write(bytes.substr(at, piece), error, limit) : void(stream_.write_all(bytes.substr(at, piece), error, limit));
	}
	return !error;
}

template <class Make>
void connection::cover(Make make) {
	std::lock_guard held(server_.all_lock_);
	layer_ = make(std::move(stream_));
	if (server_.cut_.stop_requested()) {
		server::cut(*this);
	}
}

inline void connection::end(std::error_code &error) {
	layer_ ? layer_->end(error, lwp::within(std::chrono::seconds(1))) : stream_.shutdown_write(error);
}

inline void connection::linger() {
	std::error_code error;
	end(error);
	char scrap[4096];
	const time_point end = after(1);
	for (std::size_t most = 1 << 20; most >= sizeof(scrap) && read_rest({scrap, sizeof(scrap)}, error, end) > 0; most -= sizeof(scrap)) {
	}
}

}  // namespace serve
