// SPDX-License-Identifier: BSD-2-Clause
//
// The component tls from outside: two streams meet, and the one without a certificate refuses and is told why.
#include <lwp/lwp.hpp>
#include <lwp/tls.hpp>

#include <cstdio>

int main() {
	auto [a, b] = lwp::unix_stream::pair();
	const lwp::tls_context client(lwp::tls_side::client), server(lwp::tls_side::server);
	lwp::tls_stream ours(std::move(a), client, {.name = "localhost"}), theirs(std::move(b), server);
	std::error_code error, refused;
	lwp::thread t([&] { theirs.handshake(refused); });
	ours.handshake(error);
	t.join();
	std::printf("hello from TLS: %s\n", error.message().c_str());
	return &error.category() == &lwp::openssl_category() && &refused.category() == &lwp::openssl_category() ? 0 : 1;
}
