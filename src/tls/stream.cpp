// SPDX-License-Identifier: BSD-2-Clause
//
// tls_stream: a connection that can be moved, or none.
#include "tls/connection.h"

#include <openssl/err.h>

#include <new>

namespace lwp {

using detail::tls_connection;
using detail::tls_throw_if;

namespace {

std::error_code none() noexcept { return std::make_error_code(std::errc::bad_file_descriptor); }

/// Of an SSL: the subject of what the peer has shown.
std::string subject_of(SSL *ssl) {
	std::string text;
	X509 *certificate = SSL_get1_peer_certificate(ssl);
	if (certificate == nullptr) {
		return text;
	}
	if (BIO *bio = BIO_new(BIO_s_mem()); bio != nullptr) {
		X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
		char piece[256];
		for (int n; (n = BIO_read(bio, piece, sizeof(piece))) > 0;) {
			text.append(piece, static_cast<std::size_t>(n));
		}
		BIO_free(bio);
	}
	X509_free(certificate);
	ERR_clear_error();
	return text;
}

std::string text_of(const char *text) { return text != nullptr ? text : ""; }

}  // namespace

tls_stream::tls_stream() noexcept = default;

tls_stream::tls_stream(stream_socket &&socket, const tls_context &context, const tls_peer &peer, std::error_code &error) noexcept {
	stream_socket ours(std::move(socket));  // closed whatever happens
	try {
		connection_ = std::make_unique<tls_connection>(std::move(ours), context.settings_);
		error = connection_->start(peer);
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
	}
	if (error) {
		connection_.reset();
	}
}

tls_stream::tls_stream(stream_socket &&socket, const tls_context &context, const tls_peer &peer) {
	std::error_code error;
	*this = tls_stream(std::move(socket), context, peer, error);
	tls_throw_if(error, "tls_stream");
}

tls_stream::tls_stream(tls_stream &&) noexcept = default;

tls_stream &tls_stream::operator=(tls_stream &&other) noexcept {
	if (this != &other) {
		std::error_code ignored;
		close(ignored);
		connection_ = std::move(other.connection_);
	}
	return *this;
}

tls_stream::~tls_stream() {
	std::error_code ignored;
	close(ignored);
}

tls_stream tls_stream::connect(
    const std::string &host, std::uint16_t port, const tls_context &context, std::error_code &error, const io_limit &limit) noexcept {
	tcp_stream socket = tcp_stream::connect(host, port, error, limit);
	if (error) {
		return {};
	}
	try {
		tls_stream s(std::move(socket), context, {.name = host}, error);
		if (!error) {
			s.handshake(error, limit);
		}
		return error ? tls_stream() : std::move(s);
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
		return {};
	}
}

void tls_stream::close(std::error_code &error) noexcept {
	error.clear();
	if (connection_) {
		connection_->close(error);
		connection_.reset();  // nobody is inside
	}
}

// ---- calls ---------------------------------------------------------------------------------------------------------

void tls_stream::handshake(std::error_code &error, const io_limit &limit) noexcept {
	connection_ ? connection_->handshake(error, limit) : void(error = none());
}

std::size_t tls_stream::read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	if (!connection_) {
		error = none();
		return 0;
	}
	return connection_->read(buffer, error, limit);
}

std::size_t tls_stream::read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	std::size_t done = 0;
	do {
		const std::size_t n = read(buffer.from(done), error, limit);
		done += n;
		if (error) {
			break;
		}
		if (n == 0 && done < buffer.size()) {
			error = io_errc::unexpected_end;
			break;
		}
	} while (done < buffer.size());
	return done;
}

std::size_t tls_stream::write_some(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	if (!connection_) {
		error = none();
		return 0;
	}
	return connection_->write(bytes, false, error, limit);
}

std::size_t tls_stream::write_all(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	if (!connection_) {
		error = none();
		return 0;
	}
	return connection_->write(bytes, true, error, limit);
}

void tls_stream::flush(std::error_code &error, const io_limit &limit) noexcept {
	connection_ ? connection_->flush(error, limit) : void(error = none());
}

void tls_stream::shutdown(std::error_code &error, const io_limit &limit) noexcept {
	connection_ ? connection_->shutdown(error, limit) : void(error = none());
}

// ---- what is known -------------------------------------------------------------------------------------------------

bool tls_stream::is_open() const noexcept { return connection_ != nullptr; }

std::string tls_stream::version() const {
	return connection_ ? connection_->about([](SSL *ssl) { return text_of(SSL_get_version(ssl)); }) : std::string();
}

std::string tls_stream::cipher() const {
	return connection_ ? connection_->about([](SSL *ssl) { return text_of(SSL_get_cipher_name(ssl)); }) : std::string();
}

std::string tls_stream::alpn() const {
	return connection_ ? connection_->about([](SSL *ssl) {
		const unsigned char *data = nullptr;
		unsigned size = 0;
		SSL_get0_alpn_selected(ssl, &data, &size);
		return std::string(data, data + size);
	})
	                   : std::string();
}

std::string tls_stream::server_name() const {
	return connection_ ? connection_->about([](SSL *ssl) { return text_of(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)); })
	                   : std::string();
}

bool tls_stream::resumed() const {
	return connection_ && connection_->about([](SSL *ssl) { return SSL_session_reused(ssl) == 1; });
}

std::string tls_stream::peer_subject() const { return connection_ ? connection_->about(subject_of) : std::string(); }

const tcp_stream &tls_stream::socket() const noexcept {
	static const tcp_stream no_socket;
	return connection_ ? connection_->socket() : no_socket;
}

ssl_st *tls_stream::native_handle() const noexcept { return connection_ ? connection_->ssl() : nullptr; }

// ---- the throwing forms --------------------------------------------------------------------------------------------

tls_stream tls_stream::connect(const std::string &host, std::uint16_t port, const tls_context &context, const io_limit &limit) {
	std::error_code error;
	tls_stream s = connect(host, port, context, error, limit);
	tls_throw_if(error, "connect");
	return s;
}

void tls_stream::handshake(const io_limit &limit) {
	std::error_code error;
	handshake(error, limit);
	tls_throw_if(error, "handshake");
}

std::size_t tls_stream::read(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read(buffer, error, limit);
	tls_throw_if(error, "read", n);
	return n;
}

std::size_t tls_stream::read_exactly(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read_exactly(buffer, error, limit);
	tls_throw_if(error, "read_exactly", n);
	return n;
}

std::size_t tls_stream::write_some(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_some(bytes, error, limit);
	tls_throw_if(error, "write_some", n);
	return n;
}

std::size_t tls_stream::write_all(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_all(bytes, error, limit);
	tls_throw_if(error, "write_all", n);
	return n;
}

void tls_stream::flush(const io_limit &limit) {
	std::error_code error;
	flush(error, limit);
	tls_throw_if(error, "flush");
}

void tls_stream::shutdown(const io_limit &limit) {
	std::error_code error;
	shutdown(error, limit);
	tls_throw_if(error, "shutdown");
}

void tls_stream::close() {
	std::error_code error;
	close(error);
	tls_throw_if(error, "close");
}

}  // namespace lwp
