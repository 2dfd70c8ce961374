// SPDX-License-Identifier: BSD-2-Clause
//
// One TLS connection: OpenSSL's state machine between two buffers of ciphertext, and who carries these to and from the socket.
//
//   user's bytes  --SSL_write-->  out_  --send-->  wire_  --write_some-->  socket
//   user's bytes  <--SSL_read--   in_   <--receive------------------------ socket
//
//   lock_      held around every call of OpenSSL, which computes and never waits: its I/O is the two buffers (bio_read, bio_write).
//              Never held across a wait but that for changed_, which lets it go.
//   roles      one LWP at a time receives (receiving_), one sends (sending_), without lock_.  Whoever needs what the other is after waits until that
//              one has left its role once, then asks OpenSSL again.
//   post       what a reader has to send (answers to key updates, alerts) it sends only as far as that takes no waiting: two peers that both write and
//              answer before they read would wait for each other.  Up to most_post bytes wait for whoever sends next.
//   close      marks, ends the socket's halves, which ends every wait, and lets all that are inside leave before the number is closed: a
//              call that is between two operations would otherwise go on with a number that is somebody else's.
#pragma once

#include "tls/error.h"
#include "tls/settings.h"

#include <lwp/condition_variable.hpp>
#include <lwp/mutex.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lwp::detail {

class tls_connection {
public:
	tls_connection(stream_socket &&socket, std::shared_ptr<tls_settings> settings);
	~tls_connection();
	tls_connection(const tls_connection &) = delete;
	tls_connection &operator=(const tls_connection &) = delete;

	/// Before all others, once.
	[[nodiscard]] std::error_code start(const tls_peer &peer);

	// As tls_stream's.
	void handshake(std::error_code &error, const io_limit &limit) noexcept;
	std::size_t read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept;
	std::size_t write(const_bytes bytes, bool all, std::error_code &error, const io_limit &limit) noexcept;
	void flush(std::error_code &error, const io_limit &limit) noexcept;
	void shutdown(std::error_code &error, const io_limit &limit) noexcept;
	void close(std::error_code &error) noexcept;

	/// ask(ssl) if the handshake is done, else what is empty of that type.
	template <class Ask>
	[[nodiscard]] auto about(Ask ask) {
		const std::lock_guard<mutex> lock(lock_);
		return handshaken_ ? ask(ssl_) : decltype(ask(ssl_))();
	}

	[[nodiscard]] const tcp_stream &socket() const noexcept { return socket_; }
	[[nodiscard]] SSL *ssl() const noexcept { return ssl_; }

	// OpenSSL's I/O; with lock_ held, as they are called by its calls.
	int bio_read(char *to, int size) noexcept;
	int bio_write(const char *from, int size) noexcept;
	/// SSL_CTX_sess_set_new_cb(3): 1, the session is ours.
	static int keep_session(SSL *ssl, SSL_SESSION *session) noexcept;

private:
	using locked = std::unique_lock<mutex>;
	enum class outcome : unsigned char { done, needs_input, ended, failed };

	/// One that is inside a call: holds lock_, and keeps close() from going on.
	class inside;

	template <class Call>
	outcome call(Call c) noexcept;
	template <class Call>
	std::error_code drive(locked &lock, const io_limit &limit, Call c) noexcept;
	std::error_code shake(locked &lock, const io_limit &limit) noexcept;
	std::error_code receive(locked &lock, const io_limit &limit) noexcept;
	std::error_code send(locked &lock, const io_limit &limit) noexcept;
	std::error_code send_to(locked &lock, const io_limit &limit, std::size_t mark) noexcept;
	void send_now() noexcept;
	void next_wire() noexcept;
	std::error_code await(locked &lock, const io_limit &limit) noexcept;
	void leave(bool *role) noexcept;
	[[nodiscard]] bool pending() const noexcept { return sent_ != written_; }

	// (: fixed by start().  m: lock_.  r: receiver, with receiving_ set.  s: sender, with sending_ set, or m while it is not.
	const std::shared_ptr<tls_settings> settings_;  // (
	tcp_stream socket_;                             // (: until close(), when nobody else is inside; a unix_stream's number too
	SSL *ssl_ = nullptr;                            // (: the pointer; m: what it points to
	std::string server_;                            // (: a client's, whose session this is; empty: none is kept

	mutex lock_;
	condition_variable_any changed_;  // m: a role is free, or all are to leave, or all have left
	unsigned inside_ = 0;             // m: calls
	bool closed_ = false;             // m
	bool handshaken_ = false;         // m: done and sent
	bool eof_ = false;                // m: the socket's end has been read
	bool receiving_ = false;          // m
	bool sending_ = false;            // m
	std::size_t changes_ = 0;         // m: how often a role was left
	std::size_t written_ = 0;         // m: bytes of ciphertext, ever
	std::size_t sent_ = 0;            // m: of those
	std::size_t handshake_end_ = 0;   // m: written_ when the handshake was done
	std::error_code failed_;          // m: what every call says from now on

	std::unique_ptr<char[]> in_;  // m; r while [in_at_, in_end_) is empty
	std::size_t in_at_ = 0;       // m
	std::size_t in_end_ = 0;      // m
	std::vector<char> out_;       // m
	std::vector<char> wire_;      // s
	std::size_t wire_at_ = 0;     // s: sent so far
};

}  // namespace lwp::detail
