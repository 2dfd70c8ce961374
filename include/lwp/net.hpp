// SPDX-License-Identifier: BSD-2-Clause
//
// Sockets as objects, and names.  Read the opening of io.hpp first: limits, errors, partial transfers and who may share an object are as there.
//
//   endpoint                                an address: IPv4, IPv6 or a unix path
//   tcp_listener, tcp_stream, udp_socket    and unix_listener, unix_stream, unix_datagram
//   resolve                                 names to endpoints
//
// Sockets are close-on-exec and in blocking mode; they raise no SIGPIPE (EPIPE instead).
// A stream's halves end one by one: shutdown_write() sends the end after all that was written (the peer's read() gives 0), and reading goes on.
// ECONNRESET: the peer sent RST; what it had sent before may be lost.
#pragma once

#include <lwp/io.hpp>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <utility>
#include <vector>

namespace lwp {

// ---- addresses -----------------------------------------------------------------------------------------------------

/// A socket address.
class LWP_API endpoint {
public:
	/// None: family() is AF_UNSPEC.
	endpoint() noexcept;
	/// A numeric IPv4 or IPv6 address ("127.0.0.1", "::1", "fe80::1%eth0") and a port.  Throws io_error: EINVAL not one.  Names: see resolve().
	endpoint(std::string_view address, std::uint16_t port);
	/// From what the kernel says; at most sizeof(sockaddr_storage) bytes count.
	endpoint(const sockaddr *address, socklen_t size) noexcept;

	/// "127.0.0.1:80", "[::1]:80" or "unix:/path".  Error: EINVAL.
	[[nodiscard]] static endpoint parse(std::string_view text);
	[[nodiscard]] static endpoint parse(std::string_view text, std::error_code &error) noexcept;
	/// All interfaces, IPv6 and IPv4 by one socket; a port of 0 lets the kernel choose when it is bound.  IPv4 only where the kernel has no IPv6.
	[[nodiscard]] static endpoint any(std::uint16_t port) noexcept;
	/// 127.0.0.1
	[[nodiscard]] static endpoint loopback(std::uint16_t port) noexcept;
	/// A unix path; one that begins with a NUL is Linux's abstract name.  Throws io_error: ENAMETOOLONG above 107 bytes (or 108 of an abstract one) |
	/// EINVAL a path with a NUL in it.
	[[nodiscard]] static endpoint unix_path(std::string_view path);

	[[nodiscard]] int family() const noexcept { return storage_.ss_family; }  ///< AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC
	[[nodiscard]] std::uint16_t port() const noexcept;                        ///< 0 of a unix path
	[[nodiscard]] endpoint with_port(std::uint16_t port) const noexcept;      ///< the same address, of IP
	/// "127.0.0.1", "::1"; the path of a unix one.
	[[nodiscard]] std::string address() const;
	/// As parse() takes it.
	[[nodiscard]] std::string to_string() const;

	/// The address as bind(2) and its like take it, in size() bytes.
	[[nodiscard]] const sockaddr *data() const noexcept { return reinterpret_cast<const sockaddr *>(&storage_); }
	[[nodiscard]] socklen_t size() const noexcept { return size_; }
	/// To be filled by a system call with at most sizeof(sockaddr_storage) bytes; then resize() says how many.
	[[nodiscard]] sockaddr *data() noexcept { return reinterpret_cast<sockaddr *>(&storage_); }
	void resize(socklen_t size) noexcept { size_ = size; }

	/// The same bytes: order among them means nothing.
	friend LWP_API bool operator==(const endpoint &, const endpoint &) noexcept;
	/// An order for containers: by the bytes of the address.
	friend LWP_API std::strong_ordering operator<=>(const endpoint &, const endpoint &) noexcept;

private:
	sockaddr_storage storage_;
	socklen_t size_;
};

// ---- names ---------------------------------------------------------------------------------------------------------

/// Errors of resolve() by getaddrinfo(3)'s numbers, EAI_NONAME and so on.
LWP_API const std::error_category &resolve_category() noexcept;

/// What resolve() is to look for.
struct resolve_options {
	int family = 0;        ///< AF_INET or AF_INET6: only those; 0: both
	bool passive = false;  ///< an empty host means all interfaces, to listen on, and not this machine
};

/// The endpoints of `host` (a name or a numeric address) and `service` (a port number or a name of /etc/services), best first; not empty.  By getaddrinfo(3) on a
/// helper thread: blocks the LWP only, and at the limit leaves the look-up to end by itself.
/// Errors: of resolve_category(), ENOMEM, and those of every blocking call.
[[nodiscard]] LWP_API std::vector<endpoint> resolve(
    const std::string &host, const std::string &service, const resolve_options &options = {}, const io_limit &limit = {});
[[nodiscard]] LWP_API std::vector<endpoint> resolve(const std::string &host, const std::string &service, const resolve_options &options,
    std::error_code &error, const io_limit &limit = {}) noexcept;

// ---- what sockets have in common -----------------------------------------------------------------------------------

namespace detail {

// Options of any socket, by descriptor; -errno.
LWP_API int socket_set(int fd, int level, int name, int value) noexcept;
LWP_API int socket_get(int fd, int level, int name, int *value) noexcept;
LWP_API endpoint socket_local(int fd, std::error_code &error) noexcept;
LWP_API endpoint socket_peer(int fd, std::error_code &error) noexcept;
LWP_API void throw_if(const std::error_code &error, const char *what);

/// Members of every socket class.  None blocks.
template <class Socket>
class socket_members {
public:
	/// getsockname(2): with the port that the kernel chose.
	[[nodiscard]] endpoint local_endpoint() const {
		std::error_code error;
		endpoint e = local_endpoint(error);
		throw_if(error, "getsockname");
		return e;
	}
	[[nodiscard]] endpoint local_endpoint(std::error_code &error) const noexcept { return socket_local(handle(), error); }
	/// setsockopt(2), getsockopt(2) of an int: set_option(SOL_SOCKET, SO_RCVBUF, 1 << 20).
	void set_option(int level, int name, int value) {
		std::error_code error;
		set_option(level, name, value, error);
		throw_if(error, "setsockopt");
	}
	void set_option(int level, int name, int value, std::error_code &error) noexcept {
		error.assign(-socket_set(handle(), level, name, value), std::generic_category());
	}
	[[nodiscard]] int option(int level, int name) const {
		std::error_code error;
		const int value = option(level, name, error);
		throw_if(error, "getsockopt");
		return value;
	}
	[[nodiscard]] int option(int level, int name, std::error_code &error) const noexcept {
		int value = 0;
		error.assign(-socket_get(handle(), level, name, &value), std::generic_category());
		return value;
	}

private:
	[[nodiscard]] int handle() const noexcept { return static_cast<const Socket *>(this)->native_handle(); }
};

}  // namespace detail

/// A connection: stream's calls, and the ends of its halves.
class LWP_API stream_socket : public stream, public detail::socket_members<stream_socket> {
public:
	/// shutdown(2).  Never blocks.  write: the peer reads the end once it has read what was written before.  read: reads that are blocked, and all later
	/// ones, give 0 when what has arrived is read.  Errors: ENOTCONN.
	void shutdown_write();
	void shutdown_write(std::error_code &error) noexcept;
	void shutdown_read();
	void shutdown_read(std::error_code &error) noexcept;

	/// getpeername(2).  ENOTCONN: it is gone.
	[[nodiscard]] endpoint peer_endpoint() const;
	[[nodiscard]] endpoint peer_endpoint(std::error_code &error) const noexcept { return detail::socket_peer(native_handle(), error); }

protected:
	stream_socket() noexcept = default;
	/// Takes `fd` over.
	explicit stream_socket(int fd) noexcept : stream(fd, kind::socket) {}
};

// ---- TCP -----------------------------------------------------------------------------------------------------------

/// A TCP connection.
class LWP_API tcp_stream : public stream_socket {
public:
	tcp_stream() noexcept = default;
	/// Takes `fd` over.
	explicit tcp_stream(int fd) noexcept : stream_socket(fd) {}

	/// Connects; blocks.  TCP_NODELAY is set.  Errors: those of socket(2) and connect(2).  After an error there is no socket.
	[[nodiscard]] static tcp_stream connect(const endpoint &to, const io_limit &limit = {});
	[[nodiscard]] static tcp_stream connect(const endpoint &to, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// Resolves, and connects to the first endpoint that answers; the error is the last one's.  The limit is for all of it.
	[[nodiscard]] static tcp_stream connect(const std::string &host, std::uint16_t port, const io_limit &limit = {});
	[[nodiscard]] static tcp_stream connect(
	    const std::string &host, std::uint16_t port, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// TCP_NODELAY: on for new connections, since a write_all() or flush() is meant to leave at once.
	void no_delay(bool on) { set_option(6, 1, on ? 1 : 0); }
	/// SO_KEEPALIVE: peers that vanished are noticed when nothing is sent.
	void keep_alive(bool on) { set_option(SOL_SOCKET, SO_KEEPALIVE, on ? 1 : 0); }
	/// Closes with RST: what is under way, in either direction, is thrown away.  As close() otherwise.
	void reset() noexcept;
};

/// How to listen.
struct listen_options {
	int backlog = 4096;         ///< connections that wait for accept(); the kernel cuts it to net.core.somaxconn
	bool reuse_address = true;  ///< also while connections of a former listener linger
	bool reuse_port = false;    ///< several sockets, of one or more processes, share the port; the kernel spreads connections
	bool v6_only = false;       ///< an IPv6 socket takes no IPv4
	bool no_delay = true;       ///< TCP_NODELAY of the accepted streams
};

/// Waits for TCP connections.  Any number of LWPs may accept() at once.
class LWP_API tcp_listener : public descriptor, public detail::socket_members<tcp_listener> {
public:
	tcp_listener() noexcept = default;
	/// Takes over `fd`, which listens already, for example one that was inherited.
	explicit tcp_listener(int fd) noexcept : descriptor(fd) {}
	/// Binds and listens; never blocks.  Errors: those of socket(2), bind(2) (EADDRINUSE, EACCES) and listen(2).
	explicit tcp_listener(const endpoint &at, const listen_options &options = {});
	tcp_listener(const endpoint &at, const listen_options &options, std::error_code &error) noexcept;

	/// The next connection; blocks until there is one.  Connections that died in the queue are passed over.
	/// Errors: EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the queue; let some time pass before the next call.
	[[nodiscard]] tcp_stream accept(const io_limit &limit = {});
	[[nodiscard]] tcp_stream accept(std::error_code &error, const io_limit &limit = {}) noexcept;
};

// ---- datagrams -----------------------------------------------------------------------------------------------------

/// What receive_from() got.
struct datagram {
	std::size_t size = 0;    ///< bytes in the buffer
	bool truncated = false;  ///< the datagram was longer; the rest is gone
	endpoint from;           ///< family() AF_UNSPEC: a unix socket without a name
};

/// Datagrams, sent and received whole.  Any number of LWPs may use it at once.
class LWP_API datagram_socket : public descriptor, public detail::socket_members<datagram_socket> {
public:
	/// The next datagram; blocks until there is one.  Of one that is longer than `buffer` the rest is gone.  An empty datagram is one of 0 bytes.
	datagram receive_from(mutable_bytes buffer, const io_limit &limit = {});
	datagram receive_from(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// Sends one; blocks until there is room for it.  EMSGSIZE it is too long | ECONNREFUSED an earlier one met nobody.
	void send_to(const_bytes bytes, const endpoint &to, const io_limit &limit = {});
	void send_to(const_bytes bytes, const endpoint &to, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// The one peer of send() and receive(), from then on.  Never blocks.
	void connect(const endpoint &to);
	void connect(const endpoint &to, std::error_code &error) noexcept;
	/// As receive_from() and send_to(), with the connected peer.  ENOTCONN, EDESTADDRREQ: there is none.
	std::size_t receive(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t receive(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	void send(const_bytes bytes, const io_limit &limit = {});
	void send(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;

protected:
	datagram_socket() noexcept = default;
	/// Takes `fd` over.
	explicit datagram_socket(int fd) noexcept : descriptor(fd) {}
};

/// How a datagram socket is made.
struct datagram_options {
	bool reuse_address = false;  ///< SO_REUSEADDR: others may be bound to the same address
	bool reuse_port = false;     ///< SO_REUSEPORT: several sockets share the port; the kernel spreads datagrams
	bool v6_only = false;        ///< an IPv6 socket that gets no IPv4
	bool broadcast = false;      ///< SO_BROADCAST: may send to a broadcast address
};

/// A UDP socket.
class LWP_API udp_socket : public datagram_socket {
public:
	udp_socket() noexcept = default;
	/// Takes `fd` over.
	explicit udp_socket(int fd) noexcept : datagram_socket(fd) {}
	/// Bound to `at`; never blocks.  A client says endpoint::any(0), or endpoint("0.0.0.0", 0) to speak IPv4 only.
	explicit udp_socket(const endpoint &at, const datagram_options &options = {});
	udp_socket(const endpoint &at, const datagram_options &options, std::error_code &error) noexcept;
};

// ---- unix sockets --------------------------------------------------------------------------------------------------

/// A connection within this machine.
class LWP_API unix_stream : public stream_socket {
public:
	unix_stream() noexcept = default;
	/// Takes `fd` over.
	explicit unix_stream(int fd) noexcept : stream_socket(fd) {}

	/// Connects; blocks, also while the listener's backlog is full.  ENOENT, ECONNREFUSED: nobody listens.
	[[nodiscard]] static unix_stream connect(const endpoint &to, const io_limit &limit = {});
	[[nodiscard]] static unix_stream connect(const endpoint &to, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// socketpair(2): two that are connected to each other.
	[[nodiscard]] static std::pair<unix_stream, unix_stream> pair();
	[[nodiscard]] static std::pair<unix_stream, unix_stream> pair(std::error_code &error) noexcept;
};

/// How to listen at a path.
struct unix_options {
	int backlog = 4096;    ///< connections that wait for accept(); the kernel cuts it to net.core.somaxconn
	bool replace = false;  ///< a socket that has the path already is removed first, whoever listens there
};

/// Waits for connections at a path.  The path outlives it: remove it when the service ends.
class LWP_API unix_listener : public descriptor, public detail::socket_members<unix_listener> {
public:
	unix_listener() noexcept = default;
	/// Takes over `fd`, which listens already.
	explicit unix_listener(int fd) noexcept : descriptor(fd) {}
	/// Never blocks.  EADDRINUSE the path exists.
	explicit unix_listener(const endpoint &at, const unix_options &options = {});
	unix_listener(const endpoint &at, const unix_options &options, std::error_code &error) noexcept;

	/// As tcp_listener's.
	[[nodiscard]] unix_stream accept(const io_limit &limit = {});
	[[nodiscard]] unix_stream accept(std::error_code &error, const io_limit &limit = {}) noexcept;
};

/// Datagrams within this machine: reliable, in order; a full receiver blocks the sender.
class LWP_API unix_datagram : public datagram_socket {
public:
	unix_datagram() noexcept = default;
	/// Takes `fd` over.
	explicit unix_datagram(int fd) noexcept : datagram_socket(fd) {}
	/// Bound to a path.
	explicit unix_datagram(const endpoint &at);
	unix_datagram(const endpoint &at, std::error_code &error) noexcept;
	/// Without a name: to send, and to receive by connect() only.
	[[nodiscard]] static unix_datagram unbound();
	[[nodiscard]] static std::pair<unix_datagram, unix_datagram> pair();
};

}  // namespace lwp
