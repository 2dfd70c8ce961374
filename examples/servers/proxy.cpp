// SPDX-License-Identifier: BSD-2-Clause
//
// A TCP proxy: each connection is passed on to one of the given servers, in turn.  Two LWPs for each connection, one for each direction; the end of one
// direction is passed on while the other goes on (half-close).  --timeout bounds connecting and each wait for a side that takes nothing; --idle the
// time in which neither direction moves.  When a server cannot be reached the next one is tried.
#include "serve.hpp"

#include <array>
#include <netdb.h>
#include <vector>

namespace {

struct target {
	sockaddr_storage address{};
	socklen_t size = 0;
};

/// "host:port".  Throws std::runtime_error.
target resolve(const std::string &text) {
	const std::size_t colon = text.rfind(':');
	addrinfo hints{}, *found = nullptr;
	hints.ai_socktype = SOCK_STREAM;
	const std::string host = text.substr(0, colon);
	const int error = colon == std::string::npos ? EAI_NONAME : lwp_getaddrinfo(host.c_str(), text.c_str() + colon + 1, &hints, &found);
	if (error != 0) {
		throw std::runtime_error(text + ": " + gai_strerror(error));
	}
	target t;
	t.size = found->ai_addrlen;
	std::memcpy(&t.address, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return t;
}

/// A socket of our own, closed with us, and cut with the connection that it serves.
struct upstream {
	explicit upstream(serve::connection &c) : from(c) {}
	~upstream() { drop(); }
	upstream(const upstream &) = delete;
	upstream &operator=(const upstream &) = delete;
	bool connect(const target &t, const serve::settings &limits) {
		drop();
		fd = socket(t.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			return false;
		}
		from.tie(fd);
		const int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve::set_timeout(fd, SO_RCVTIMEO, limits.idle);
		serve::set_timeout(fd, SO_SNDTIMEO, limits.timeout);  // binds connect too
		return lwp_connect(fd, reinterpret_cast<const sockaddr *>(&t.address), t.size) == 0;
	}
	void drop() {
		if (fd >= 0) {
			from.tie(-1);
			lwp_close(fd);
		}
		fd = -1;
	}
	serve::connection &from;
	int fd = -1;
};

class session {
public:
	session(const serve::settings &limits, serve::connection &c) : limits_(limits), c_(c), there_(c) {}

	void run(const std::vector<target> &all, std::size_t first) {
		bool reached = false;
		for (std::size_t i = 0; !reached && i < all.size(); i++) {
			reached = there_.connect(all[(first + i) % all.size()], limits_);
		}
		if (!reached) {
			return;
		}
		touch();
		lwp::thread back({.name = "reply"}, [this] { pump(there_.fd, c_.fd()); });
		pump(c_.fd(), there_.fd);
		back.join();
	}

private:
	void touch() { last_.store(serve::clock::now(), std::memory_order_relaxed); }  // relaxed: a time, nothing is read through it

	/// Until one side ends; an error, or a silence of both, ends both directions.
	void pump(int from, int to) {
		std::array<char, 16 * 1024> buffer;
		for (;;) {
			const ssize_t n = lwp_recv(from, buffer.data(), buffer.size(), 0);
			if (n == 0) {
				shutdown(to, SHUT_WR);
				return;
			}
			if (n < 0 && serve::last_error() == EAGAIN && busy()) {
				continue;  // silence on this side, but the other direction moves
			}
			if (n < 0 || lwp_send(to, buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) {
				shutdown(from, SHUT_RDWR);
				shutdown(to, SHUT_RDWR);
				return;
			}
			touch();
		}
	}
	[[nodiscard]] bool busy() const {
		const serve::time_point last = last_.load(std::memory_order_relaxed);  // relaxed: as above
		return serve::clock::now() - last < std::chrono::duration<double>(limits_.idle);
	}

	const serve::settings &limits_;
	serve::connection &c_;
	upstream there_;
	std::atomic<serve::time_point> last_{};  // when anything moved
};

}  // namespace

int main(int argc, char **argv) {
	serve::settings settings;
	serve::options options(
	    "proxy", "[OPTIONS] HOST:PORT...", "Passes TCP connections on to the servers named, in turn, with two LWPs for each.");
	settings.add_to(options);
	int status = 0;
	if (!options.parse(argc, argv, &status)) {
		return status;
	}
	if (options.rest().empty()) {
		options.help(stderr);
		return 2;
	}
	try {
		serve::server server(settings);
		std::vector<target> all;
		for (const std::string &text : options.rest()) {
			all.push_back(resolve(text));
		}
		std::atomic<std::size_t> turn{0};
		return server.run([&](serve::connection &c) {
			session(settings, c).run(all, turn.fetch_add(1, std::memory_order_relaxed));  // relaxed: only the turn
		});
	} catch (const std::exception &e) {
		std::fprintf(stderr, "proxy: %s\n", e.what());
		return 1;
	}
}
