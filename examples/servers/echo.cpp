// SPDX-License-Identifier: BSD-2-Clause
//
// An echo server (RFC 862), one LWP for each connection.  A connection that sends little takes a page of stack; one that fills its buffer gets a
// larger one.
#include "serve.hpp"

#include <array>
#include <memory>

namespace {

constexpr std::size_t large = 64 * 1024;

void echo(serve::connection &c) {
	std::array<char, 1024> small;
	std::unique_ptr<char[]> more;
	std::size_t size = small.size();
	for (;;) {
		char *buffer = more != nullptr ? more.get() : small.data();
		std::error_code error;
		const std::size_t n = c.read_next({buffer, size}, error);
		if (n == 0 || !c.write({buffer, n})) {
			return;
		}
		if (more == nullptr && n == size) {
			more = std::make_unique_for_overwrite<char[]>(size = large);
		}
	}
}

}  // namespace

int main(int argc, char **argv) {
	serve::settings settings;
	serve::options options("echo", "[OPTIONS]", "Sends back what it gets (RFC 862), with one LWP for each connection.");
	settings.add_to(options);
	int status = 0;
	if (!options.parse(argc, argv, &status)) {
		return status;
	}
	try {
		serve::server server(settings);
		return server.run(echo);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "echo: %s\n", e.what());
		return 1;
	}
}
