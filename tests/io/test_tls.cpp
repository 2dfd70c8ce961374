// SPDX-License-Identifier: BSD-2-Clause
//
// tls.hpp: who is accepted, what both sides learn, and what refused handshakes say.
// vcpus: 1 2 8
// io: uring epoll
#include "tls_support.h"

using namespace lwp::test;
using lwp::tls_context;
using lwp::tls_errc;
using lwp::tls_side;
using lwp::tls_stream;
using lwp::tls_verify;
using lwp::tls_version;

namespace {

const bool touched = touch_runtime();

}  // namespace

// ---- contexts ------------------------------------------------------------------------------------------------------

TEST(TlsContext, RefusesWhatIsNoCertificateOrKey) {
	authority ca;
	const identity a = ca.issue("a"), b = ca.issue("b");
	tls_context c(tls_side::server);
	std::error_code error;
	c.use_certificate("", error);
	EXPECT_EQ(error, tls_errc::no_pem);
	c.use_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", error);
	EXPECT_EQ(&error.category(), &lwp::openssl_category());
	EXPECT_FALSE(error.message().empty());
	c.use_key(a.certificate, {}, error);
	EXPECT_EQ(error, tls_errc::no_pem);
	c.trust("nothing", error);
	EXPECT_EQ(error, tls_errc::no_pem);
	c.use_key(a.key, {}, error);
	EXPECT_TRUE(error) << "no certificate yet";
	c.use_certificate(a.certificate, error);
	EXPECT_FALSE(error);
	c.use_key(b.key, {}, error);
	EXPECT_TRUE(error) << "of another certificate";
	c.use_key(a.key, {}, error);
	EXPECT_FALSE(error) << error.message();
	EXPECT_EQ(thrown_by([&] { c.use_certificate("x"); }), tls_errc::no_pem);
	EXPECT_EQ(thrown_by([&] { c.trust_file("/nowhere/at/all"); }), std::errc::no_such_file_or_directory);
	EXPECT_EQ(thrown_by([&] { c.use_key_file("/nowhere/at/all"); }), std::errc::no_such_file_or_directory);
	EXPECT_EQ(thrown_by([&] { c.use_certificate_file("/"); }), std::errc::is_a_directory);
	EXPECT_EQ(ERR_peek_error(), 0UL) << "nothing is left in this kernel thread's queue";
}

// OpenSSL would ask at the terminal.
TEST(TlsContext, EncryptedKeysNeedTheirPassphrase) {
	authority ca;
	const identity a = ca.issue("a");
	const std::string key = authority::encrypted(a.key, "sesame");
	tls_context c(tls_side::server);
	c.use_certificate(a.certificate);
	std::error_code error;
	c.use_key(key, {}, error);
	EXPECT_TRUE(error);
	c.use_key(key, "open", error);
	EXPECT_TRUE(error);
	c.use_key(key, "sesame", error);
	EXPECT_FALSE(error) << error.message();
}

TEST(TlsContext, RefusesWhatMakesNoSense) {
	tls_context c(tls_side::client);
	EXPECT_EQ(thrown_by([&] { c.verify(tls_verify::optional); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([&] { c.alpn({}); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([&] { c.alpn({"h2", ""}); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([&] { c.alpn({std::string(256, 'x')}); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([&] { c.min_version(static_cast<tls_version>(0x0301)); }), std::errc::invalid_argument);
	c.trust_system();
	EXPECT_NE(c.native_handle(), nullptr);
	EXPECT_EQ(c.side(), tls_side::client);
}

TEST(TlsStream, NeedsANameWhoeverVerifies) {
	const circle c;
	std::error_code error;
	for (const std::string &name : {std::string(), std::string("a\0b", 3), std::string(300, 'x'), std::string(".")}) {
		auto [a, b] = lwp::unix_stream::pair();
		const int fd = a.native_handle();
		const tls_stream s(std::move(a), c.client, {.name = name}, error);
		EXPECT_EQ(error, std::errc::invalid_argument) << name;
		EXPECT_FALSE(s.is_open());
		EXPECT_LT(::fcntl(fd, F_GETFD), 0) << "closed";
	}
	tls_pair p(c, {.any_name = true});
	p.handshake();
}

TEST(TlsStream, WithoutOneEveryCallSaysBadf) {
	tls_stream s;
	char b[1];
	std::error_code e;
	const auto badf = [&] { return std::exchange(e, {}) == std::errc::bad_file_descriptor; };
	s.handshake(e);
	EXPECT_TRUE(badf());
	EXPECT_EQ(s.read(b, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(s.read_exactly(b, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(s.write_some("x", e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(s.write_all("x", e), 0U);
	EXPECT_TRUE(badf());
	s.flush(e);
	EXPECT_TRUE(badf());
	s.shutdown(e);
	EXPECT_TRUE(badf());
	s.close(e);
	EXPECT_FALSE(e);
	EXPECT_TRUE(s.version().empty() && s.cipher().empty() && s.alpn().empty() && s.server_name().empty() && s.peer_subject().empty());
	EXPECT_FALSE(s.socket().is_open());
	EXPECT_EQ(s.native_handle(), nullptr);
	EXPECT_EQ(thrown_by([&] { s.handshake(); }), std::errc::bad_file_descriptor);
	static_assert(std::is_nothrow_move_constructible_v<tls_stream> && !std::is_copy_constructible_v<tls_stream>);
}

// ---- handshakes ----------------------------------------------------------------------------------------------------

TEST(TlsHandshake, BothVersionsBothWays) {
	for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
		circle c;
		SSL_CTX_set_max_proto_version(c.server.native_handle(), version);
		tls_pair p(c);
		EXPECT_EQ(p.client.version(), "");
		p.handshake();
		EXPECT_EQ(p.client.version(), version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3");
		EXPECT_EQ(p.server.cipher(), p.client.cipher());
		EXPECT_FALSE(p.server.cipher().empty());
		EXPECT_EQ(p.server.server_name(), "localhost");
		EXPECT_EQ(p.client.peer_subject(), "CN=server");
		EXPECT_EQ(p.server.peer_subject(), "");
		p.client.handshake();  // again: nothing
		say_and_hear(p.client, p.server, "hello");
		say_and_hear(p.server, p.client, "world");
		tls_stream moved(std::move(p.server));
		EXPECT_FALSE(p.server.is_open());
		say_and_hear(moved, p.client, "again");
	}
}

TEST(TlsHandshake, OverTcpByNameOfTheHost) {
	const circle c;
	lwp::tcp_listener listener(lwp::endpoint("127.0.0.1", 0));
	const std::uint16_t port = listener.local_endpoint().port();
	const lwpid_t server = spawn([&] {
		for (int i = 0; i < 2; ++i) {
			tls_stream s(listener.accept(far()), c.server);
			char b[2];
			std::error_code error;
			if (s.read_exactly(b, error, far()) == 2) {  // shakes hands by itself
				s.write_all("ok", far());
				EXPECT_EQ(s.read(b, far()), 0U);
				s.shutdown(far());
			} else {
				EXPECT_EQ(&error.category(), &lwp::openssl_category()) << error.message();
			}
		}
	});
	{
		tls_stream s = tls_stream::connect("127.0.0.1", port, c.client, far());
		EXPECT_EQ(s.socket().peer_endpoint().port(), port);
		say_and_hear(s, s, "");
		s.write_all("hi", far());
		char b[2];
		EXPECT_EQ(s.read_exactly(b, far()), 2U);
		s.shutdown(far());
		EXPECT_EQ(s.read(b, far()), 0U);
	}
	tls_context nobody(tls_side::client);
	EXPECT_EQ(thrown_by([&] { (void)tls_stream::connect("127.0.0.1", port, nobody, far()); }).category(), lwp::x509_category());
	collect(server);
	listener.close();
	EXPECT_EQ(thrown_by([&] { (void)tls_stream::connect("127.0.0.1", port, c.client, far()); }), std::errc::connection_refused);
}

TEST(TlsHandshake, NamesAndAddresses) {
	const circle c;
	for (const char *good : {"localhost", "localhost.", "www.example.org", "127.0.0.1"}) {
		tls_pair p(c, {.name = good});
		p.handshake();
		EXPECT_EQ(p.server.server_name(), *good == '1' ? "" : std::string_view(good) == "localhost." ? "localhost" : good);
	}
	for (const char *bad : {"example.org", "a.b.example.org", "localhos", "server"}) {
		tls_pair p(c, {.name = bad});
		expect_refused(p, X509_V_ERR_HOSTNAME_MISMATCH);
	}
	for (const char *bad : {"127.0.0.2", "::1"}) {
		tls_pair p(c, {.name = bad});
		expect_refused(p, X509_V_ERR_IP_ADDRESS_MISMATCH);
	}
}

TEST(TlsHandshake, UntrustedExpiredNotYetValid) {
	circle c;
	authority other("another authority");
	const auto use = [&](const identity &id) {
		c.server = tls_context(tls_side::server);
		c.server.use_certificate(id.certificate);
		c.server.use_key(id.key);
	};
	use(other.issue("server", {.names = "DNS:localhost"}));
	tls_pair untrusted(c);
	expect_refused(untrusted, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
	use(c.ca.issue("server", {.names = "DNS:localhost", .from = -7200, .until = -3600}));
	tls_pair expired(c);
	expect_refused(expired, X509_V_ERR_CERT_HAS_EXPIRED);
	EXPECT_EQ(lwp::x509_category().message(X509_V_ERR_CERT_HAS_EXPIRED), "certificate has expired");
	use(c.ca.issue("server", {.names = "DNS:localhost", .from = 3600, .until = 7200}));
	tls_pair early(c);
	expect_refused(early, X509_V_ERR_CERT_NOT_YET_VALID);
	c.client.verify(tls_verify::none);
	tls_pair whatever(c, {});
	whatever.handshake();
	c.client.verify(tls_verify::required);
	use(c.ca.issue("server", {.names = "DNS:localhost", .rsa = true}));
	tls_pair good(c);
	good.handshake();
}

TEST(TlsHandshake, VersionsThatDoNotMeet) {
	circle c;
	c.server.min_version(tls_version::v1_3);
	SSL_CTX_set_max_proto_version(c.client.native_handle(), TLS1_2_VERSION);
	tls_pair p(c);
	const auto [ours, theirs] = p.handshakes();
	EXPECT_EQ(ERR_GET_REASON(static_cast<unsigned long>(ours.value())), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION) << ours.message();
	EXPECT_EQ(ERR_GET_REASON(static_cast<unsigned long>(theirs.value())), SSL_R_UNSUPPORTED_PROTOCOL) << theirs.message();
}

TEST(TlsHandshake, Alpn) {
	circle c;
	c.server.alpn({"h2", "http/1.1"});
	tls_pair silent(c);
	silent.handshake();
	EXPECT_EQ(silent.client.alpn(), "");
	EXPECT_EQ(silent.server.alpn(), "");
	c.client.alpn({"x", "http/1.1", "h2"});
	tls_pair agreed(c);
	agreed.handshake();
	EXPECT_EQ(agreed.client.alpn(), "h2");  // the server's order
	EXPECT_EQ(agreed.server.alpn(), "h2");
	c.client.alpn({"x"});
	tls_pair none(c);
	const auto [ours, theirs] = none.handshakes();
	EXPECT_EQ(ERR_GET_REASON(static_cast<unsigned long>(ours.value())), SSL_AD_REASON_OFFSET + SSL_AD_NO_APPLICATION_PROTOCOL)
	    << ours.message();
	EXPECT_EQ(&theirs.category(), &lwp::openssl_category());
}

TEST(TlsHandshake, ClientsShowThemselves) {
	for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
		circle c;
		SSL_CTX_set_max_proto_version(c.server.native_handle(), version);
		c.server.trust(c.ca.certificate());
		c.server.verify(tls_verify::optional);
		tls_pair nameless(c);
		nameless.handshake();
		EXPECT_EQ(nameless.server.peer_subject(), "");

		// With TLS 1.3 the client is through before the server has looked at it: the first read says so.
		c.server.verify(tls_verify::required);
		const auto refused = [&](const std::error_code &why) {
			tls_pair p(c);
			const lwpid_t server = spawn([&] {
				std::error_code error;
				p.server.handshake(error, far());
				EXPECT_EQ(error.category(), why.category()) << error.message();
				if (&why.category() == &lwp::x509_category()) {
					EXPECT_EQ(error, why) << error.message();
				}
			});
			std::error_code error;
			char b[1];
			p.client.read(b, error, far());
			EXPECT_EQ(&error.category(), &lwp::openssl_category()) << error.message();
			collect(server);
		};
		refused({1, lwp::openssl_category()});

		const identity alice = c.ca.issue("alice");
		c.client.use_certificate(alice.certificate);
		c.client.use_key(alice.key);
		tls_pair known(c);
		known.handshake();
		EXPECT_EQ(known.server.peer_subject(), "CN=alice");
		say_and_hear(known.client, known.server, "it is me");

		const identity mallory = authority("nobody's authority").issue("mallory");
		c.client.use_certificate(mallory.certificate);
		c.client.use_key(mallory.key);
		refused({X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, lwp::x509_category()});
	}
}

TEST(TlsHandshake, GarbageIsToldAndStays) {
	const circle c;
	const std::string noise = pattern(5000);
	for (const std::string &sent : {std::string("GET / HTTP/1.0\r\n\r\n"), noise, std::string("\x16\x03\x01\xff\xff") + noise}) {
		for (const bool client : {false, true}) {
			auto [a, b] = lwp::unix_stream::pair();
			b.write_all(sent, far());
			tls_stream s(std::move(a), client ? c.client : c.server, {.name = "localhost"});
			std::error_code error, again;
			s.handshake(error, far());
			EXPECT_EQ(&error.category(), &lwp::openssl_category()) << error.message();
			char x[1];
			EXPECT_EQ(s.read(x, again, far()), 0U);
			EXPECT_EQ(again, error);
			EXPECT_EQ(s.write_all("x", again, far()), 0U);
			EXPECT_EQ(again, error);
			s.shutdown(again, far());
			EXPECT_EQ(again, std::errc::not_connected);
		}
	}
	EXPECT_EQ(ERR_peek_error(), 0UL);
}

// What an error left in the queue of this kernel thread must not be taken for an error of a connection.
TEST(TlsHandshake, ErrorsOfOthersAreNotOurs) {
	const circle c;
	tls_pair p(c);
	const auto poison = [] { ERR_raise(ERR_LIB_USER, ERR_R_INTERNAL_ERROR); };
	poison();
	p.handshake();
	poison();
	say_and_hear(p.client, p.server, "hello");
	poison();
	p.client.shutdown(far());
	poison();
	char b[1];
	EXPECT_EQ(p.server.read(b, far()), 0U);
	ERR_clear_error();
}

TEST(TlsHandshake, ThePeerGoesAway) {
	const circle c;
	for (const bool client : {false, true}) {
		tls_pair p(c);
		(client ? p.server : p.client).close();
		std::error_code error;
		(client ? p.client : p.server).handshake(error, far());
		// A client's own hello meets a closed socket; a server reads the end.
		EXPECT_EQ(error, client ? std::make_error_code(std::errc::broken_pipe) : std::error_code(tls_errc::truncated)) << error.message();
	}
}

TEST(TlsHandshake, FitsA32KStack) {
#if !LWP_TEST_ASAN && !LWP_TEST_TSAN
	circle c;
	const identity rsa = c.ca.issue("server", {.names = "DNS:localhost", .rsa = true});
	c.server.use_certificate(rsa.certificate);
	c.server.use_key(rsa.key);
	tls_pair p(c);
	lwp::thread server(lwp::attributes{.stack_size = 32 * 1024}, [&] {
		p.server.handshake(far());
		p.server.write_all("hello", far());
	});
	lwp::thread client(lwp::attributes{.stack_size = 32 * 1024}, [&] {
		char b[5];
		EXPECT_EQ(p.client.read_exactly(b, far()), 5U);
	});
	server.join();
	client.join();
#endif
}
