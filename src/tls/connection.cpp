// SPDX-License-Identifier: BSD-2-Clause
#include "tls/connection.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <sys/socket.h>

namespace lwp::detail {
namespace {

constexpr std::size_t record = 16 * 1024;       // plaintext, at most
constexpr std::size_t room_in = record + 1024;  // a whole record with its header and tag, at once
constexpr std::size_t most_post = 2 * room_in;  // what may wait in out_; more than a record, so that one is no reason to wait
constexpr std::size_t keep = 4 * room_in;       // capacity that a buffer keeps when it is empty

std::error_code canceled() noexcept { return std::make_error_code(std::errc::operation_canceled); }

/// The limit has come: nothing is begun.
std::error_code reached(const io_limit &limit) noexcept {
	if (limit.stop.stop_requested()) {
		return canceled();
	}
	const bool passed = limit.deadline != steady_time::max() && std::chrono::steady_clock::now() >= limit.deadline;
	return passed ? std::make_error_code(std::errc::timed_out) : std::error_code();
}

/// What ends a wait and not the stream.
bool is_limit(const std::error_code &e) noexcept {
	return e == std::errc::timed_out || e == std::errc::operation_canceled || e == std::errc::interrupted;
}

// ---- OpenSSL's I/O ---------------------------------------------------------------------------------------------------

tls_connection *of(BIO *bio) noexcept { return static_cast<tls_connection *>(BIO_get_data(bio)); }

int bio_read_call(BIO *bio, char *to, int size) {
	BIO_clear_retry_flags(bio);
	const int n = of(bio)->bio_read(to, size);
	if (n < 0) {
		BIO_set_retry_read(bio);
	}
	return n;
}

int bio_write_call(BIO *bio, const char *from, int size) {
	BIO_clear_retry_flags(bio);
	return of(bio)->bio_write(from, size);
}

long bio_control(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

/// Null: no memory.
BIO_METHOD *make_method() noexcept {
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lwp");
	if (m != nullptr) {
		BIO_meth_set_read(m, bio_read_call);
		BIO_meth_set_write(m, bio_write_call);
		BIO_meth_set_ctrl(m, bio_control);
	}
	return m;
}

/// Made by the first connection.  No LWP waits for its guard: nothing in it gives up the vCPU.
BIO_METHOD *method() noexcept {
	static BIO_METHOD *const the = make_method();
	return the;
}

// ---- who the server must be ----------------------------------------------------------------------------------------

bool is_address(const std::string &name) noexcept {
	in6_addr a;
	return ::inet_pton(AF_INET, name.c_str(), &a) == 1 || ::inet_pton(AF_INET6, name.c_str(), &a) == 1;
}

/// The certificate must be for `name`, unless `any`; and the server learns the name.
std::error_code expect(SSL *ssl, std::string name, bool any) noexcept {
	if (name.ends_with('.')) {
		name.pop_back();  // absolute, as resolvers write it; certificates do not
	}
	bool good = true;
	if (is_address(name)) {
		good = any || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
	} else {
		SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		good = (any || SSL_set1_host(ssl, name.c_str()) == 1) && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
	}
	return good ? std::error_code() : tls_take_error(ssl);
}

}  // namespace

// ---- beginning and end ---------------------------------------------------------------------------------------------

tls_connection::tls_connection(stream_socket &&socket, std::shared_ptr<tls_settings> settings)
    : settings_(std::move(settings)), socket_(socket.release()) {}

tls_connection::~tls_connection() { SSL_free(ssl_); }

std::error_code tls_connection::start(const tls_peer &peer) {
	if (!settings_) {
		return std::make_error_code(std::errc::invalid_argument);
	}
	in_ = std::make_unique_for_overwrite<char[]>(room_in);
	ERR_clear_error();
	ssl_ = SSL_new(settings_->ctx);
	BIO *bio = ssl_ == nullptr || method() == nullptr ? nullptr : BIO_new(method());
	if (bio == nullptr) {
		return tls_take_error();
	}
	BIO_set_data(bio, this);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl_, bio, bio);
	if (settings_->side == tls_side::server) {
		SSL_set_accept_state(ssl_);
		return {};
	}
	SSL_set_connect_state(ssl_);
	const bool verifies = SSL_get_verify_mode(ssl_) != SSL_VERIFY_NONE;
	if (peer.name.size() > 254 || peer.name.find('\0') != std::string::npos || peer.name == "." ||
	    (peer.name.empty() && verifies && !peer.any_name)) {
		return std::make_error_code(std::errc::invalid_argument);
	}
	if (peer.name.empty()) {
		return {};
	}
	if (settings_->sessions) {
		server_ = (peer.any_name ? "*" : "=") + peer.name;  // a session of whoever it was does not stand for one that was verified by name
		if (SSL_SESSION *session = settings_->sessions->take(server_); session != nullptr) {
			(void)SSL_set_session(ssl_, session);  // else it begins a new one
			SSL_SESSION_free(session);
			ERR_clear_error();
		}
	}
	return expect(ssl_, peer.name, peer.any_name);
}

int tls_connection::keep_session(SSL *ssl, SSL_SESSION *session) noexcept {
	const tls_connection *c = of(SSL_get_rbio(ssl));
	try {
		if (c->server_.empty()) {
			return 0;
		}
		c->settings_->sessions->keep(c->server_, session);
		return 1;
	} catch (const std::bad_alloc &) {
		return 0;
	}
}

class tls_connection::inside {
public:
	explicit inside(tls_connection &c) : c_(c), lock(c.lock_) { ++c_.inside_; }
	~inside() {
		--c_.inside_;
		if (c_.closed_) {
			c_.changed_.notify_all();  // close() may destroy everything once it has lock_, which is let go of after this
		}
	}
	inside(const inside &) = delete;
	inside &operator=(const inside &) = delete;

private:
	tls_connection &c_;

public:
	locked lock;  // let go of last: members are destroyed after the destructor's body
};

void tls_connection::close(std::error_code &error) noexcept {
	{
		locked lock(lock_);
		closed_ = true;
		if (inside_ != 0) {
			(void)::shutdown(socket_.native_handle(), SHUT_RDWR);
			changed_.notify_all();
			changed_.wait(lock, [this] { return inside_ == 0; });
		}
	}
	socket_.close(error);
}

// ---- ciphertext ----------------------------------------------------------------------------------------------------

int tls_connection::bio_read(char *to, int size) noexcept {
	const std::size_t n = std::min(static_cast<std::size_t>(std::max(size, 0)), in_end_ - in_at_);
	if (n == 0) {
		return -1;  // also at the socket's end, of which OpenSSL is not told: drive() knows it
	}
	std::memcpy(to, in_.get() + in_at_, n);
	in_at_ += n;
	return static_cast<int>(n);
}

int tls_connection::bio_write(const char *from, int size) noexcept {
	try {
		out_.insert(out_.end(), from, from + size);
		written_ += static_cast<std::size_t>(size);
		return size;
	} catch (const std::bad_alloc &) {
		ERR_raise(ERR_LIB_BIO, ERR_R_MALLOC_FAILURE);
		return -1;
	}
}

/// Waits until somebody has left a role, or all are to leave.  Not until the role is free: whoever leaves it may have done what the caller needs, and have
/// taken it again for something that lasts, before the caller runs.
std::error_code tls_connection::await(locked &lock, const io_limit &limit) noexcept {
	const std::size_t was = changes_;
	if (changed_.wait_until(lock, limit.stop, limit.deadline, [&] { return changes_ != was || closed_; })) {
		return closed_ ? canceled() : std::error_code();
	}
	return limit.stop.stop_requested() ? canceled() : std::make_error_code(std::errc::timed_out);
}

void tls_connection::leave(bool *role) noexcept {
	*role = false;
	++changes_;
	changed_.notify_all();
}

/// Gets more ciphertext, or waits for another who does.
std::error_code tls_connection::receive(locked &lock, const io_limit &limit) noexcept {
	if (receiving_) {
		return await(lock, limit);
	}
	receiving_ = true;
	lock.unlock();
	// in_ is empty, so OpenSSL does not look at it while the socket fills it.
	std::error_code error;
	const std::size_t n = socket_.read({in_.get(), room_in}, error, limit);
	lock.lock();
	leave(&receiving_);
	if (closed_) {
		return canceled();
	}
	in_at_ = 0;
	in_end_ = n;
	eof_ = eof_ || (n == 0 && !error);
	return error;
}

void tls_connection::next_wire() noexcept {
	if (wire_at_ < wire_.size()) {
		return;
	}
	wire_.clear();
	wire_at_ = 0;
	if (wire_.capacity() > keep) {
		std::vector<char>().swap(wire_);
	}
	wire_.swap(out_);
}

/// Sends some of what is pending, or waits for another who does.
std::error_code tls_connection::send(locked &lock, const io_limit &limit) noexcept {
	if (sending_) {
		return await(lock, limit);
	}
	next_wire();
	sending_ = true;
	lock.unlock();
	std::error_code error;
	const std::size_t n = socket_.write_some({wire_.data() + wire_at_, wire_.size() - wire_at_}, error, limit);
	lock.lock();
	wire_at_ += n;
	sent_ += n;
	leave(&sending_);
	return closed_ ? canceled() : error;
}

/// Until the first `mark` bytes of all are sent.
std::error_code tls_connection::send_to(locked &lock, const io_limit &limit, std::size_t mark) noexcept {
	std::error_code error;
	while (!error && sent_ < mark) {
		error = send(lock, limit);
	}
	return error;
}

/// Sends what the socket takes at once.  The number is ours: close() waits for the caller.
void tls_connection::send_now() noexcept {
	while (!sending_ && pending()) {
		next_wire();
		const ssize_t n = ::send(socket_.native_handle(), wire_.data() + wire_at_, wire_.size() - wire_at_, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n <= 0) {
			return;
		}
		wire_at_ += static_cast<std::size_t>(n);
		sent_ += static_cast<std::size_t>(n);
	}
}

// ---- the state machine ---------------------------------------------------------------------------------------------

/// c() is one call of OpenSSL that gives more than 0 for success.  It never wants output: bio_write() takes everything.
template <class Call>
tls_connection::outcome tls_connection::call(Call c) noexcept {
	ERR_clear_error();
	const int result = c();
	if (result > 0) {
		return outcome::done;
	}
	switch (SSL_get_error(ssl_, result)) {
	case SSL_ERROR_WANT_READ:
		return outcome::needs_input;
	case SSL_ERROR_ZERO_RETURN:
		ERR_clear_error();
		return outcome::ended;
	default:
		failed_ = tls_take_error(ssl_);
		return outcome::failed;
	}
}

/// c() again and again until it is done, or the peer has ended its half.
template <class Call>
std::error_code tls_connection::drive(locked &lock, const io_limit &limit, Call c) noexcept {
	for (;;) {
		if (closed_ || failed_) {
			return closed_ ? canceled() : failed_;
		}
		std::error_code error;
		if (out_.size() > most_post) {
			error = send(lock, limit);  // a peer that makes us answer and does not read is not read from either
			if (error) {
				return error;
			}
			continue;
		}
		switch (call(c)) {
		case outcome::done:
		case outcome::ended:
			return {};
		case outcome::failed:
			send_now();  // the alert
			return failed_;
		case outcome::needs_input:
			break;
		}
		if (handshaken_) {
			send_now();
		} else if (pending()) {
			error = send(lock, limit);  // the peer answers to it
			if (error) {
				return error;
			}
			continue;
		}
		error = eof_ ? std::error_code(tls_errc::truncated) : receive(lock, limit);
		if (error) {
			return error;
		}
	}
}

std::error_code tls_connection::shake(locked &lock, const io_limit &limit) noexcept {
	if (handshaken_) {
		return closed_ ? canceled() : failed_;
	}
	std::error_code error = drive(lock, limit, [this] { return SSL_do_handshake(ssl_); });
	if (error) {
		return error;
	}
	if (handshake_end_ == 0) {
		handshake_end_ = written_;
	}
	// No further than that: behind it may be records of a writer who was faster, and a reader must not wait for those.
	// A socket that takes no more is for the next write to tell: what the peer has sent can be read.
	error = send_to(lock, limit, handshake_end_);
	if (is_limit(error)) {
		return error;
	}
	handshaken_ = true;
	return {};
}

// ---- the calls -----------------------------------------------------------------------------------------------------

void tls_connection::handshake(std::error_code &error, const io_limit &limit) noexcept {
	inside here(*this);
	error = reached(limit);
	if (!error) {
		error = shake(here.lock, limit);
	}
}

std::size_t tls_connection::read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	inside here(*this);
	error = reached(limit);
	if (!error) {
		error = shake(here.lock, limit);
	}
	if (error || buffer.empty()) {
		return 0;
	}
	std::size_t n = 0;
	error = drive(here.lock, limit, [&] { return SSL_read_ex(ssl_, buffer.data(), buffer.size(), &n); });
	if (!error) {
		send_now();
	}
	return error ? 0 : n;
}

std::size_t tls_connection::write(const_bytes bytes, bool all, std::error_code &error, const io_limit &limit) noexcept {
	inside here(*this);
	error = reached(limit);
	if (!error) {
		error = shake(here.lock, limit);
	}
	std::size_t done = 0, last = 0, mark = written_;
	while (!error) {
		error = send_to(here.lock, limit, mark);  // what was written before, then each record of ours
		if (error || done == bytes.size() || (!all && done != 0)) {
			break;
		}
		last = 0;
		while (!error && pending()) {
			error = send(here.lock, limit);  // one record of one writer at a time waits
		}
		if (error) {
			break;
		}
		error = drive(here.lock, limit, [&]() noexcept {
			const bool ended = (SSL_get_shutdown(ssl_) & SSL_SENT_SHUTDOWN) != 0;
			return ended ? 1 : SSL_write_ex(ssl_, bytes.data() + done, std::min(bytes.size() - done, record), &last);
		});
		if (!error && last == 0) {
			error = std::make_error_code(std::errc::broken_pipe);
		}
		done += last;
		mark = written_;
	}
	// A record that OpenSSL has taken goes out as it is, now or later: a limit leaves it counted.  A socket that is dead has not taken it.
	if (error && !is_limit(error)) {
		return done - last;
	}
	if (!all && done != 0) {
		error.clear();
	}
	return done;
}

void tls_connection::flush(std::error_code &error, const io_limit &limit) noexcept { (void)write({}, true, error, limit); }

void tls_connection::shutdown(std::error_code &error, const io_limit &limit) noexcept {
	inside here(*this);
	error = reached(limit);
	if (!error && !handshaken_) {
		error = std::make_error_code(std::errc::not_connected);
	}
	if (!error) {
		error = drive(here.lock, limit, [this]() noexcept {
			if (SSL_in_init(ssl_) != 0) {  // half a message of the peer's: OpenSSL ends nothing in its midst
				if (const int result = SSL_do_handshake(ssl_); result <= 0) {
					return result;
				}
			}
			const int result = (SSL_get_shutdown(ssl_) & SSL_SENT_SHUTDOWN) != 0 ? 1 : SSL_shutdown(ssl_);
			return result == 0 ? 1 : result;  // 0: sent, and the peer has not ended
		});
	}
	if (!error) {
		error = send_to(here.lock, limit, written_);
	}
}

}  // namespace lwp::detail
