// SPDX-License-Identifier: BSD-2-Clause
//
// A TCP proxy: each connection is passed on to one of the given servers, in turn.  Two LWPs for each connection, one for each direction; the end of one
// direction is passed on while the other goes on (half-close).  --timeout bounds connecting and each wait for a side that takes nothing; --idle the
// time in which neither direction moves.  When a server cannot be reached the next one is tried.
#include "serve.hpp"

#include <array>
#include <vector>

namespace {

/// "host:port", its first address.  Throws.
lwp::endpoint resolve(const std::string &text) {
	const std::size_t colon = text.rfind(':');
	if (colon == std::string::npos) {
		throw std::runtime_error(text + ": not of the form HOST:PORT");
	}
	return lwp::resolve(text.substr(0, colon), text.substr(colon + 1)).front();
}

class session {
public:
	session(const serve::settings &limits, serve::connection &c) : limits_(limits), here_(c) {}
	~session() { here_.tie(nullptr); }
	session(const session &) = delete;
	session &operator=(const session &) = delete;

	void run(const std::vector<lwp::endpoint> &all, std::size_t first) {
		std::error_code error = std::make_error_code(std::errc::host_unreachable);
		for (std::size_t i = 0; error && i < all.size(); i++) {
			there_ = lwp::tcp_stream::connect(
			    all[(first + i) % all.size()], error, lwp::within(serve::seconds(limits_.timeout), here_.cut_token()));
		}
		if (error) {
			return;
		}
		here_.tie(&there_);
		touch();
		const lwp::jthread back({.name = "reply"}, [this] { pump(there_, here_.stream()); });
		pump(here_.stream(), there_);
	}

private:
	void touch() { last_.store(serve::clock::now(), std::memory_order_relaxed); }  // relaxed: a time, nothing is read through it

	/// Until one side ends; an error, or a silence of both, ends both directions.
	void pump(lwp::tcp_stream &from, lwp::tcp_stream &to) {
		std::array<char, 16 * 1024> buffer;
		std::error_code error, ignored;
		for (;;) {
			const std::size_t n = from.read(buffer, error, {.deadline = quiet_until()});
			if (error == std::errc::timed_out && serve::clock::now() < quiet_until()) {
				continue;  // silence on this side, but the other direction moves
			}
			if (n == 0 && !error) {
				to.shutdown_write(ignored);
				return;
			}
			if (n != 0) {
				to.write_all({buffer.data(), n}, error, lwp::within(serve::seconds(limits_.timeout)));
				touch();
			}
			if (error) {
				for (lwp::tcp_stream *side : {&from, &to}) {
					side->shutdown_read(ignored);
					side->shutdown_write(ignored);
				}
				return;
			}
		}
	}
	/// When a silence that began with the last movement has lasted too long.
	[[nodiscard]] serve::time_point quiet_until() const {
		const auto last = last_.load(std::memory_order_relaxed);  // relaxed: as above
		return last + std::chrono::duration_cast<serve::clock::duration>(serve::seconds(limits_.idle));
	}

	const serve::settings &limits_;
	serve::connection &here_;
	lwp::tcp_stream there_;
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
		std::vector<lwp::endpoint> all;
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
