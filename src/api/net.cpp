// SPDX-License-Identifier: BSD-2-Clause
//
// net.hpp's sockets: made, bound, connected, accepted from; datagrams.  Streams read and write by io.cpp.
#include "api/io_call.h"
#include "base/sys.h"

#include <lwp/net.hpp>

#include <cerrno>
#include <fcntl.h>
#include <initializer_list>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace lwp {

using namespace kern;

namespace {

long word(const void *p) noexcept { return reinterpret_cast<long>(p); }

std::error_code errno_code(long negative) noexcept { return {static_cast<int>(-negative), std::generic_category()}; }

/// Whether `result` is no error; sets `error`.
bool succeeded(long result, std::error_code &error) noexcept {
	error = result < 0 ? errno_code(result) : std::error_code();
	return result >= 0;
}

long make(int family, int type) noexcept { return sys::call(SYS_socket, family, type | SOCK_CLOEXEC, 0); }

struct option {
	bool wanted;
	int level, name, value;
};

/// A socket bound to `at`, its options set first: >= 0 or -errno; nothing is left after an error.
long bound(const endpoint &at, int type, std::initializer_list<option> options) noexcept {
	const long fd = make(at.family(), type);
	if (fd < 0) {
		return fd;
	}
	long result = 0;
	for (const option &o : options) {
		if (o.wanted && result == 0) {
			result = detail::socket_set(static_cast<int>(fd), o.level, o.name, o.value);
		}
	}
	result = result == 0 ? sys::call(SYS_bind, fd, word(at.data()), at.size()) : result;
	if (result < 0) {
		(void)sys::call(SYS_close, fd);
		return result;
	}
	return fd;
}

long listening(long fd, int backlog) noexcept {
	const long result = fd < 0 ? fd : sys::call(SYS_listen, fd, backlog);
	if (result < 0 && fd >= 0) {
		(void)sys::call(SYS_close, fd);
	}
	return result < 0 ? result : fd;
}

option v6_only(const endpoint &at, bool on) noexcept { return {at.family() == AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, on ? 1 : 0}; }

/// The next connection, >= 0 or -errno.  accept(2) also tells of connections that died in the queue, which is nobody's business.
long accept_from(int fd, const io_limit &limit) noexcept {
	for (;;) {
		const long result = io_simple(io_kind::accept, fd, nullptr, 0, SOCK_CLOEXEC, io_here, &limit);
		if (result != -ECONNABORTED && result != -EPROTO) {
			return result;
		}
	}
}

/// A socket connected to `to`, >= 0 or -errno; nothing is left after an error.
long connected(const endpoint &to, const io_limit &limit) noexcept {
	const long made = make(to.family(), SOCK_STREAM);
	if (made < 0) {
		return made;
	}
	descriptor fd(static_cast<int>(made));
	const long result = io_simple(io_kind::connect, fd.native_handle(), to.data(), to.size(), 0, io_here, &limit);
	return result < 0 ? result : fd.release();
}

long named(long number, int fd, endpoint *e) noexcept {
	socklen_t size = sizeof(sockaddr_storage);
	const long result = sys::call(number, fd, word(e->data()), word(&size));
	e->resize(result < 0 ? 0 : size);
	return result;
}

struct message {
	message(const void *data, std::size_t size) noexcept : iov{const_cast<void *>(data), size} {
		header.msg_iov = &iov;
		header.msg_iovlen = 1;
	}
	iovec iov;
	msghdr header{};
};

}  // namespace

namespace detail {

int socket_set(int fd, int level, int name, int value) noexcept {
	return static_cast<int>(sys::call(SYS_setsockopt, fd, level, name, word(&value), sizeof(value)));
}

int socket_get(int fd, int level, int name, int *value) noexcept {
	socklen_t size = sizeof(*value);
	return static_cast<int>(sys::call(SYS_getsockopt, fd, level, name, word(value), word(&size)));
}

endpoint socket_local(int fd, std::error_code &error) noexcept {
	endpoint e;
	(void)succeeded(named(SYS_getsockname, fd, &e), error);
	return e;
}

endpoint socket_peer(int fd, std::error_code &error) noexcept {
	endpoint e;
	(void)succeeded(named(SYS_getpeername, fd, &e), error);
	return e;
}

void throw_if(const std::error_code &error, const char *what) {
	if (error) {
		throw io_error(error, what);
	}
}

}  // namespace detail

using detail::throw_if;

// ---- stream_socket -------------------------------------------------------------------------------------------------

void stream_socket::shutdown_write(std::error_code &error) noexcept {
	(void)succeeded(sys::call(SYS_shutdown, native_handle(), SHUT_WR), error);
}

void stream_socket::shutdown_read(std::error_code &error) noexcept {
	(void)succeeded(sys::call(SYS_shutdown, native_handle(), SHUT_RD), error);
}

void stream_socket::shutdown_write() {
	std::error_code error;
	shutdown_write(error);
	throw_if(error, "shutdown_write");
}

void stream_socket::shutdown_read() {
	std::error_code error;
	shutdown_read(error);
	throw_if(error, "shutdown_read");
}

endpoint stream_socket::peer_endpoint() const {
	std::error_code error;
	endpoint e = peer_endpoint(error);
	throw_if(error, "getpeername");
	return e;
}

// ---- TCP -----------------------------------------------------------------------------------------------------------

tcp_stream tcp_stream::connect(const endpoint &to, std::error_code &error, const io_limit &limit) noexcept {
	const long fd = to.family() == AF_UNIX ? -EAFNOSUPPORT : connected(to, limit);
	if (!succeeded(fd, error)) {
		return {};
	}
	(void)detail::socket_set(static_cast<int>(fd), IPPROTO_TCP, TCP_NODELAY, 1);
	return tcp_stream(static_cast<int>(fd));
}

tcp_stream tcp_stream::connect(const std::string &host, std::uint16_t port, std::error_code &error, const io_limit &limit) noexcept {
	for (const endpoint &to : resolve(host, std::to_string(port), {}, error, limit)) {
		tcp_stream s = connect(to, error, limit);
		if (!error || io_limit_reached(limit) != 0) {
			return s;
		}
	}
	return {};
}

tcp_stream tcp_stream::connect(const endpoint &to, const io_limit &limit) {
	std::error_code error;
	tcp_stream s = connect(to, error, limit);
	throw_if(error, "connect");
	return s;
}

tcp_stream tcp_stream::connect(const std::string &host, std::uint16_t port, const io_limit &limit) {
	std::error_code error;
	tcp_stream s = connect(host, port, error, limit);
	throw_if(error, "connect");
	return s;
}

void tcp_stream::reset() noexcept {
	const linger at_once{1, 0};
	(void)sys::call(SYS_setsockopt, native_handle(), SOL_SOCKET, SO_LINGER, word(&at_once), sizeof(at_once));
	std::error_code ignored;
	close(ignored);
}

tcp_listener::tcp_listener(const endpoint &at, const listen_options &o, std::error_code &error) noexcept {
	const long fd = listening(bound(at, SOCK_STREAM,
	                              {{o.reuse_address, SOL_SOCKET, SO_REUSEADDR, 1}, {o.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1},
	                                  v6_only(at, o.v6_only), {o.no_delay, IPPROTO_TCP, TCP_NODELAY, 1}}),  // the accepted ones inherit it
	    o.backlog);
	if (succeeded(fd, error)) {
		*this = tcp_listener(static_cast<int>(fd));
	}
}

tcp_listener::tcp_listener(const endpoint &at, const listen_options &options) {
	std::error_code error;
	*this = tcp_listener(at, options, error);
	throw_if(error, "listen");
}

tcp_stream tcp_listener::accept(std::error_code &error, const io_limit &limit) noexcept {
	const long fd = accept_from(native_handle(), limit);
	return succeeded(fd, error) ? tcp_stream(static_cast<int>(fd)) : tcp_stream();
}

tcp_stream tcp_listener::accept(const io_limit &limit) {
	std::error_code error;
	tcp_stream s = accept(error, limit);
	throw_if(error, "accept");
	return s;
}

// ---- datagrams -----------------------------------------------------------------------------------------------------

datagram datagram_socket::receive_from(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	datagram r;
	message m(buffer.data(), buffer.size());
	m.header.msg_name = r.from.data();
	m.header.msg_namelen = sizeof(sockaddr_storage);
	const long result = io_simple(io_kind::recvmsg, native_handle(), &m.header, 1, 0, io_here, &limit);
	if (!succeeded(result, error)) {
		return {};
	}
	r.size = static_cast<std::size_t>(result);
	r.truncated = (m.header.msg_flags & MSG_TRUNC) != 0;
	r.from.resize(m.header.msg_namelen);
	return r;
}

void datagram_socket::send_to(const_bytes bytes, const endpoint &to, std::error_code &error, const io_limit &limit) noexcept {
	message m(bytes.data(), bytes.size());
	m.header.msg_name = const_cast<sockaddr *>(to.data());
	m.header.msg_namelen = to.size();
	(void)succeeded(io_simple(io_kind::sendmsg, native_handle(), &m.header, 1, MSG_NOSIGNAL, io_here, &limit), error);
}

void datagram_socket::connect(const endpoint &to, std::error_code &error) noexcept {
	(void)succeeded(sys::call(SYS_connect, native_handle(), word(to.data()), to.size()), error);
}

std::size_t datagram_socket::receive(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	const long result = io_simple(io_kind::recv, native_handle(), buffer.data(), buffer.size(), 0, io_here, &limit);
	return succeeded(result, error) ? static_cast<std::size_t>(result) : 0;
}

void datagram_socket::send(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	(void)succeeded(io_simple(io_kind::send, native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL, io_here, &limit), error);
}

datagram datagram_socket::receive_from(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	datagram r = receive_from(buffer, error, limit);
	throw_if(error, "receive_from");
	return r;
}

void datagram_socket::send_to(const_bytes bytes, const endpoint &to, const io_limit &limit) {
	std::error_code error;
	send_to(bytes, to, error, limit);
	throw_if(error, "send_to");
}

void datagram_socket::connect(const endpoint &to) {
	std::error_code error;
	connect(to, error);
	throw_if(error, "connect");
}

std::size_t datagram_socket::receive(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = receive(buffer, error, limit);
	throw_if(error, "receive");
	return n;
}

void datagram_socket::send(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	send(bytes, error, limit);
	throw_if(error, "send");
}

udp_socket::udp_socket(const endpoint &at, const datagram_options &o, std::error_code &error) noexcept {
	const long fd = bound(at, SOCK_DGRAM,
	    {{o.reuse_address, SOL_SOCKET, SO_REUSEADDR, 1}, {o.reuse_port, SOL_SOCKET, SO_REUSEPORT, 1}, v6_only(at, o.v6_only),
	        {o.broadcast, SOL_SOCKET, SO_BROADCAST, 1}});
	if (succeeded(fd, error)) {
		*this = udp_socket(static_cast<int>(fd));
	}
}

udp_socket::udp_socket(const endpoint &at, const datagram_options &options) {
	std::error_code error;
	*this = udp_socket(at, options, error);
	throw_if(error, "bind");
}

// ---- unix sockets --------------------------------------------------------------------------------------------------

namespace {

/// A socket that has the path is removed; any other file stays, and bind(2) will say so.
void remove_socket(const endpoint &at) noexcept {
	struct stat st {};
	const char *path = reinterpret_cast<const sockaddr_un *>(at.data())->sun_path;
	if (at.family() == AF_UNIX && *path != '\0' && sys::call(SYS_newfstatat, AT_FDCWD, word(path), word(&st), AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISSOCK(st.st_mode)) {
		(void)sys::call(SYS_unlinkat, AT_FDCWD, word(path), 0);
	}
}

long unix_pair(int type, int (&fd)[2]) noexcept { return sys::call(SYS_socketpair, AF_UNIX, type | SOCK_CLOEXEC, 0, word(fd)); }

}  // namespace

unix_stream unix_stream::connect(const endpoint &to, std::error_code &error, const io_limit &limit) noexcept {
	const long fd = to.family() != AF_UNIX ? -EAFNOSUPPORT : connected(to, limit);
	return succeeded(fd, error) ? unix_stream(static_cast<int>(fd)) : unix_stream();
}

unix_stream unix_stream::connect(const endpoint &to, const io_limit &limit) {
	std::error_code error;
	unix_stream s = connect(to, error, limit);
	throw_if(error, "connect");
	return s;
}

std::pair<unix_stream, unix_stream> unix_stream::pair(std::error_code &error) noexcept {
	int fd[2] = {-1, -1};
	(void)succeeded(unix_pair(SOCK_STREAM, fd), error);
	return {unix_stream(fd[0]), unix_stream(fd[1])};
}

std::pair<unix_stream, unix_stream> unix_stream::pair() {
	std::error_code error;
	auto both = pair(error);
	throw_if(error, "socketpair");
	return both;
}

unix_listener::unix_listener(const endpoint &at, const unix_options &o, std::error_code &error) noexcept {
	if (o.replace) {
		remove_socket(at);
	}
	const long fd = at.family() != AF_UNIX ? -EAFNOSUPPORT : listening(bound(at, SOCK_STREAM, {}), o.backlog);
	if (succeeded(fd, error)) {
		*this = unix_listener(static_cast<int>(fd));
	}
}

unix_listener::unix_listener(const endpoint &at, const unix_options &options) {
	std::error_code error;
	*this = unix_listener(at, options, error);
	throw_if(error, "listen");
}

unix_stream unix_listener::accept(std::error_code &error, const io_limit &limit) noexcept {
	const long fd = accept_from(native_handle(), limit);
	return succeeded(fd, error) ? unix_stream(static_cast<int>(fd)) : unix_stream();
}

unix_stream unix_listener::accept(const io_limit &limit) {
	std::error_code error;
	unix_stream s = accept(error, limit);
	throw_if(error, "accept");
	return s;
}

unix_datagram::unix_datagram(const endpoint &at, std::error_code &error) noexcept {
	const long fd = at.family() != AF_UNIX ? -EAFNOSUPPORT : bound(at, SOCK_DGRAM, {});
	if (succeeded(fd, error)) {
		*this = unix_datagram(static_cast<int>(fd));
	}
}

unix_datagram::unix_datagram(const endpoint &at) {
	std::error_code error;
	*this = unix_datagram(at, error);
	throw_if(error, "bind");
}

unix_datagram unix_datagram::unbound() {
	std::error_code error;
	const long fd = make(AF_UNIX, SOCK_DGRAM);
	(void)succeeded(fd, error);
	throw_if(error, "socket");
	return unix_datagram(static_cast<int>(fd));
}

std::pair<unix_datagram, unix_datagram> unix_datagram::pair() {
	int fd[2] = {-1, -1};
	std::error_code error;
	(void)succeeded(unix_pair(SOCK_DGRAM, fd), error);
	throw_if(error, "socketpair");
	return {unix_datagram(fd[0]), unix_datagram(fd[1])};
}

}  // namespace lwp
