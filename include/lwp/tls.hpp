// SPDX-License-Identifier: BSD-2-Clause
//
// TLS 1.2 and 1.3 over stream sockets, by OpenSSL.  Read the opening of io.hpp first: limits, errors and partial transfers are as there.
// A component of its own: link lwp::tls (find_package(lwp CONFIG COMPONENTS tls)) or lwp-tls (pkg-config).  No header of OpenSSL is needed.
//
//   lwp::tls_context web(lwp::tls_side::client);
//   web.trust_system();
//   auto s = lwp::tls_stream::connect("example.org", 443, web, lwp::within(10s));      // resolves, connects, shakes hands, checks the name
//   s.write_all("GET / HTTP/1.0\r\nHost: example.org\r\n\r\n");
//   while (auto n = s.read(buffer)) { ... }                                            // 0: the peer has said that this was all
//
// Secure unless told otherwise: a client accepts a certificate only if a trusted authority has signed it, for the name that was asked for, and it
// is valid now.  No TLS below 1.2, no renegotiation, no compression, no early data.
//
//   end          read() gives 0 when the peer has ended its half with a close_notify.  A connection that ends without one was cut off, by the peer's
//                end or by somebody on the way: tls_errc::truncated
//   halves       shutdown() ends ours; reading goes on until the peer ends its own.  close() says nothing to the peer, who finds the stream truncated
//   limits       what ends a wait does not end the stream: the same call may be made again, handshake() too
//   errors       of the socket, as net.hpp says; tls_errc; x509_category(): why a certificate was refused; openssl_category(): all else that OpenSSL says,
//                such as "tlsv1 alert unknown ca" for what the peer has refused.  After one of the last two every call fails with it
//
// Any LWP and any kernel thread may use a stream, several at once: one mutex guards OpenSSL's state, is held while it computes and never across a wait
// for the peer.  So one LWP reads and another writes.  Of two that read each gets some of the bytes; of two that write pieces of up to 16 KiB stay whole.
// Back-pressure: a write returns when the kernel has taken the record.  At most one record (16 KiB) that a limit has cut in two waits in the stream.
// SIGPIPE: never.  An LWP needs 32 KiB of stack; OpenSSL's callbacks run on it with the mutex held and must not block.
#pragma once

#include <lwp/io.hpp>
#include <lwp/net.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

struct ssl_st;      // OpenSSL's SSL
struct ssl_ctx_st;  // and SSL_CTX

namespace lwp {

// ---- errors --------------------------------------------------------------------------------------------------------

/// What neither the socket nor OpenSSL says.
enum class tls_errc {
	truncated = 1,  ///< the connection ended without a close_notify: what came may not be all
	no_pem,         ///< the text has no certificate, or no key, in PEM
};

/// Of tls_errc.
LWP_API const std::error_category &tls_category() noexcept;
/// Why a certificate was refused: X509_V_ERR_* of <openssl/x509_vfy.h>, such as "certificate has expired", "hostname mismatch".
LWP_API const std::error_category &x509_category() noexcept;
/// OpenSSL's packed error codes, as ERR_get_error(3) gives them.
LWP_API const std::error_category &openssl_category() noexcept;
/// How a tls_errc becomes a std::error_code.
inline std::error_code make_error_code(tls_errc e) noexcept { return {static_cast<int>(e), tls_category()}; }

// ---- context -------------------------------------------------------------------------------------------------------

/// Who begins the handshake, and who answers.
enum class tls_side : unsigned char { client, server };
/// Versions of the protocol; the numbers are those on the wire.
enum class tls_version : unsigned short { v1_2 = 0x0303, v1_3 = 0x0304 };

/// Whose certificate is asked for.
enum class tls_verify : unsigned char {
	none,      ///< client: whatever the server shows is accepted, which is no protection; server: none is asked for
	optional,  ///< server only: clients may show one; one that is shown must be good
	required,  ///< the peer must show a good one
};

namespace detail {
struct tls_settings;
class tls_connection;
}  // namespace detail

/// What the streams of one client or service have in common.  Copies refer to the same; streams keep it alive.  Set it up, then share it: a setter must not
/// run beside another call on it or a handshake that uses it.  Setters throw io_error or set `error`; besides the errors named, those of OpenSSL, and ENOMEM.
/// Setters with a path read the file as lwp::file does: they block the LWP only, and fail with open(2)'s and read(2)'s errors.
class LWP_API tls_context {
public:
	/// A client's verifies the server (tls_verify::required) and trusts nobody yet.  A server's needs use_certificate(), and asks for no certificate.
	/// TLS 1.2 and 1.3.
	explicit tls_context(tls_side side);
	tls_context(tls_side side, std::error_code &error) noexcept;

	/// Who we are: certificates in PEM, our own first, then those between it and the authority; and our own one's key.  An encrypted key needs
	/// `passphrase`; nobody is ever asked for it.  tls_errc::no_pem.  The key must be set after its certificate: an error if it does not fit.
	void use_certificate(std::string_view pem);
	void use_certificate(std::string_view pem, std::error_code &error) noexcept;
	void use_certificate_file(const std::string &path);
	void use_certificate_file(const std::string &path, std::error_code &error) noexcept;
	void use_key(std::string_view pem, const std::string &passphrase = {});
	void use_key(std::string_view pem, const std::string &passphrase, std::error_code &error) noexcept;
	void use_key_file(const std::string &path, const std::string &passphrase = {});
	void use_key_file(const std::string &path, const std::string &passphrase, std::error_code &error) noexcept;

	/// Whom we trust: authorities' certificates in PEM, one or more; those of the system (SSL_CERT_FILE and SSL_CERT_DIR replace them).  Each call adds.
	/// A server names those of trust() and trust_file() to clients.  The system's directory is read during handshakes, by OpenSSL, as plain files.
	void trust(std::string_view pem);
	void trust(std::string_view pem, std::error_code &error) noexcept;
	void trust_file(const std::string &path);
	void trust_file(const std::string &path, std::error_code &error) noexcept;
	void trust_system();
	void trust_system(std::error_code &error) noexcept;

	/// EINVAL optional, of a client.
	void verify(tls_verify v);
	void verify(tls_verify v, std::error_code &error) noexcept;

	/// Application protocols (ALPN), best first, 1 to 255 bytes each; EINVAL otherwise.  A client offers them; a server chooses its own first that was offered
	/// and refuses the handshake if there is none.  Who offers nothing gets no protocol.
	void alpn(const std::vector<std::string> &protocols);
	void alpn(const std::vector<std::string> &protocols, std::error_code &error) noexcept;

	/// The oldest version; EINVAL for what is older than 1.2.
	void min_version(tls_version v);
	void min_version(tls_version v, std::error_code &error) noexcept;

	/// How many session tickets a TLS 1.3 server sends after each handshake (2).  A client that closes without having read them resets the connection, as
	/// TCP has it: 0 for protocols in which clients only write.
	void session_tickets(std::size_t count);
	void session_tickets(std::size_t count, std::error_code &error) noexcept;

	/// Of a server: clients that ask for `name` (SNI), or with "*.example.org" for a name with one label in place of the star, are shown the certificate of
	/// `other`, and get its application protocols; all else is ours.  What nobody has named is answered by our own certificate.  EINVAL: one of the two is no server's, or
	/// both are the same, or the name is empty.
	void certificate_for(std::string_view name, const tls_context &other);
	void certificate_for(std::string_view name, const tls_context &other, std::error_code &error) noexcept;

	/// Of a client: keeps the newest session of each server, by name, and offers it to the next connection with that name (of TLS 1.3 once): a handshake without
	/// certificates.  The server was verified when the session began, and is not again.  A TLS 1.2 session is kept only if its stream was shut down by either side.
	/// EINVAL of a server, which lets clients resume as it is.
	void resume_sessions();
	void resume_sessions(std::error_code &error) noexcept;

	/// For which side it was made.
	[[nodiscard]] tls_side side() const noexcept;
	/// For what is not here: ciphers, groups, callbacks.  It stays ours.  Null if the constructor has failed.
	[[nodiscard]] ssl_ctx_st *native_handle() const noexcept;

private:
	friend class tls_stream;
	std::shared_ptr<detail::tls_settings> settings_;
};

// ---- stream --------------------------------------------------------------------------------------------------------

/// Of a client's stream: who the server must be.
struct tls_peer {
	/// A DNS name (internationalized ones in their ASCII form) or a numeric address.  The certificate must be for it; a DNS name is also told to the server (SNI).
	/// EINVAL: it is empty though the context verifies, or has a NUL in it, or is too long.  A server's stream ignores it.
	std::string name = {};
	bool any_name = false;  ///< the certificate may be for any name: for closed circles with an authority of their own
};

/// A TLS connection.  Owns its socket.  Can be moved while nobody is in a call.
class LWP_API tls_stream {
public:
	/// None: every call is EBADF.
	tls_stream() noexcept;
	/// Takes over a connected tcp_stream or unix_stream; the context says which side we are.  Nothing is sent yet: handshake(), or the first other call, does that.
	/// Errors: EINVAL as tls_peer says, or the context has failed | ENOMEM.  After an error the socket is closed.
	tls_stream(stream_socket &&socket, const tls_context &context, const tls_peer &peer = {});
	tls_stream(stream_socket &&socket, const tls_context &context, const tls_peer &peer, std::error_code &error) noexcept;
	tls_stream(tls_stream &&) noexcept;
	tls_stream &operator=(tls_stream &&) noexcept;
	/// As close(), errors ignored.
	~tls_stream();

	/// A client's stream to `host`, ready: resolves, connects, shakes hands, and has verified that it is `host`.  Blocks; the limit is for all of it.
	/// Errors: those of tcp_stream::connect() and handshake().
	[[nodiscard]] static tls_stream connect(
	    const std::string &host, std::uint16_t port, const tls_context &context, const io_limit &limit = {});
	[[nodiscard]] static tls_stream connect(const std::string &host, std::uint16_t port, const tls_context &context, std::error_code &error,
	    const io_limit &limit = {}) noexcept;

	/// Shakes hands, unless that is done; blocks.  Afterwards the peer is verified, as far as we verify it.  A TLS 1.3 client learns from its first read()
	/// whether the server accepts *its* certificate.
	/// Errors: x509_category() we refuse the peer's certificate | openssl_category() all other refusals, ours and the peer's, and what is no TLS |
	/// tls_errc::truncated the peer has gone.
	void handshake(const io_limit &limit = {});
	void handshake(std::error_code &error, const io_limit &limit = {}) noexcept;

	/// As stream's, after the handshake; 0 after the peer's close_notify only.
	/// tls_errc::truncated the connection ended without one.
	std::size_t read(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// io_errc::unexpected_end, tls_errc::truncated: the stream ended before, with and without a close_notify.
	std::size_t read_exactly(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// As stream's, after the handshake.  Of a record that a limit has cut in two all bytes count as written: the rest is sent by the next write, flush()
	/// or shutdown(), before anything else.  EPIPE: after shutdown(), or the peer has closed.
	std::size_t write_some(const_bytes bytes, const io_limit &limit = {});
	std::size_t write_some(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// With an error and bytes.size() as result all is written but for such a rest.
	std::size_t write_all(const_bytes bytes, const io_limit &limit = {});
	std::size_t write_all(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// Sends the rest of a record that a limit has cut in two; blocks until the kernel has taken it.
	void flush(const io_limit &limit = {});
	void flush(std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Ends our half: sends a close_notify after all that was written; blocks until the kernel has taken it.  Nothing can be written afterwards, reading
	/// goes on.  Called again, it does what is left of that.  ENOTCONN the handshake is not done.
	void shutdown(const io_limit &limit = {});
	void shutdown(std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Closes the socket.  Other LWPs that are in a call on it get std::errc::operation_canceled, and are waited for.  There is no stream afterwards.
	/// The peer gets no close_notify that shutdown() has not sent: an end by an exception must not look like a whole answer.
	void close();
	void close(std::error_code &error) noexcept;

	/// Whether there is a connection that close() has not ended.
	[[nodiscard]] bool is_open() const noexcept;
	explicit operator bool() const noexcept { return is_open(); }

	// ---- what the handshake has come to: empty, or 0, before, and without a stream.  None blocks

	/// "TLSv1.3"
	[[nodiscard]] std::string version() const;
	/// "TLS_AES_256_GCM_SHA384"
	[[nodiscard]] std::string cipher() const;
	/// The application protocol that both agreed on; empty: none.
	[[nodiscard]] std::string alpn() const;
	/// The DNS name that the client asked for (SNI).
	[[nodiscard]] std::string server_name() const;
	/// Subject of the peer's certificate as RFC 2253 has it, "CN=alice,O=Example"; empty: it has shown none.  Verified if the context verifies.
	[[nodiscard]] std::string peer_subject() const;

	/// Whether the handshake has resumed a session.
	[[nodiscard]] bool resumed() const;

	/// The socket, for its addresses and options; -1 as descriptor without a stream.  To read from it or write to it breaks the stream.
	[[nodiscard]] const tcp_stream &socket() const noexcept;
	/// For what is not here, while no other LWP is in a call.  It stays ours, and its calls that read or write must not be made.  Null without a stream.
	[[nodiscard]] ssl_st *native_handle() const noexcept;

private:
	std::unique_ptr<detail::tls_connection> connection_;
};

}  // namespace lwp

template <>
struct std::is_error_code_enum<lwp::tls_errc> : std::true_type {};
