// SPDX-License-Identifier: BSD-2-Clause
//
// TLS for the example servers: a layer between a connection and its socket.  The handshake has a deadline of its own, so that who begins one and does not go
// on is closed like anybody else who is slow.
#pragma once

#include "serve.hpp"

#include <lwp/tls.hpp>

#include <memory>
#include <string>

namespace serve {

/// Files in PEM.
struct identity {
	std::string certificate, key;

	void add_to(options &o) {
		o.add("tls-cert", "FILE", "speak TLS and show this certificate (PEM, with those that lead to its authority)", &certificate);
		o.add("tls-key", "FILE", "the certificate's key (PEM)", &key);
	}
};

class secure_layer final : public layer {
public:
	secure_layer(lwp::tcp_stream socket, const lwp::tls_context &context) : stream_(std::move(socket), context) {}

	void handshake(std::error_code &error, const lwp::io_limit &limit) { stream_.handshake(error, limit); }
	std::size_t read(lwp::mutable_bytes buffer, std::error_code &error, const lwp::io_limit &limit) override {
		return stream_.read(buffer, error, limit);
	}
	void write(lwp::const_bytes bytes, std::error_code &error, const lwp::io_limit &limit) override {
		stream_.write_all(bytes, error, limit);
	}
	void end(std::error_code &error, const lwp::io_limit &limit) override { stream_.shutdown(error, limit); }
	[[nodiscard]] int socket() const override { return stream_.socket().native_handle(); }

private:
	lwp::tls_stream stream_;
};

class secure_context {
public:
	/// Throws std::system_error: the files cannot be read, or are no certificate and its key.
	explicit secure_context(const identity &i) : context_(lwp::tls_side::server) {
		context_.use_certificate_file(i.certificate);
		context_.use_key_file(i.key.empty() ? i.certificate : i.key);
		context_.alpn({"http/1.1"});
	}

	/// False: it did not come to that within `timeout` seconds, or the peer speaks something else.
	bool shake_hands(connection &c, double timeout) const {
		secure_layer *ours = nullptr;
		c.cover([&](lwp::tcp_stream socket) {
			auto made = std::make_unique<secure_layer>(std::move(socket), context_);
			ours = made.get();
			return made;
		});
		std::error_code error;
		ours->handshake(error, lwp::within(seconds(timeout)));
		return !error;
	}

private:
	lwp::tls_context context_;
};

}  // namespace serve
