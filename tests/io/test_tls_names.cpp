// SPDX-License-Identifier: BSD-2-Clause
//
// tls.hpp: what contexts choose by name: a server its certificate, a client the session that it resumes.
// vcpus: 1 2 8
// io: uring epoll
#include "tls_support.h"

#include <tuple>
#include <vector>

using namespace lwp::test;
using lwp::tls_context;
using lwp::tls_peer;
using lwp::tls_side;
using lwp::tls_version;

namespace {

const bool touched = touch_runtime();

}  // namespace

// ---- what is chosen by name ----------------------------------------------------------------------------------------

namespace {

/// A server with certificates for several names.
struct several : circle {
	several() : net(tls_side::server), all(tls_side::server) {
		for (const auto &[context, name, names] :
		    {std::tuple{&net, "net", "DNS:www.example.net"}, std::tuple{&all, "all", "DNS:*.example.com"}}) {
			const identity i = ca.issue(name, {.names = names});
			context->use_certificate(i.certificate);
			context->use_key(i.key);
		}
		all.alpn({"all"});
		server.certificate_for("www.example.net", net);
		server.certificate_for("*.Example.com", all);
	}
	tls_context net, all;
};

/// Who the server of `c` is to a client that asks for `name`.
std::string shown(const circle &c, const std::string &name) {
	tls_pair p(c, {.name = name});
	p.handshake();
	say_and_hear(p.client, p.server, "x");
	return p.client.peer_subject();
}

}  // namespace

TEST(TlsNames, TheCertificateIsTheNamesOwn) {
	const several c;
	EXPECT_EQ(shown(c, "localhost"), "CN=server");
	EXPECT_EQ(shown(c, "www.example.org"), "CN=server");
	EXPECT_EQ(shown(c, "www.example.net"), "CN=net");
	EXPECT_EQ(shown(c, "WWW.Example.NET"), "CN=net");
	EXPECT_EQ(shown(c, "a.example.com"), "CN=all");
	EXPECT_EQ(shown(c, "127.0.0.1"), "CN=server");  // an address is not told
	tls_pair p(c, {.name = "b.a.example.com"});     // the star is one label
	expect_refused(p, X509_V_ERR_HOSTNAME_MISMATCH);
}

TEST(TlsNames, TheProtocolsAreTheNamesOwn) {
	several c;
	c.client.alpn({"ours", "all"});
	c.server.alpn({"ours"});
	tls_pair one(c, {.name = "localhost"}), other(c, {.name = "a.example.com"});
	one.handshake();
	other.handshake();
	EXPECT_EQ(one.client.alpn(), "ours");
	EXPECT_EQ(other.client.alpn(), "all");
}

TEST(TlsNames, RefusesWhatMakesNoSense) {
	circle c;
	const auto refused = [](tls_context &to, std::string_view name, const tls_context &other) {
		return thrown_by([&] { to.certificate_for(name, other); }) == std::errc::invalid_argument;
	};
	tls_context more(tls_side::server);
	EXPECT_TRUE(refused(c.client, "a", more));
	EXPECT_TRUE(refused(c.server, "a", c.client));
	EXPECT_TRUE(refused(c.server, "a", c.server));
	EXPECT_TRUE(refused(c.server, "", more));
	EXPECT_EQ(thrown_by([&] { c.server.resume_sessions(); }), std::errc::invalid_argument);
}

// ---- sessions ------------------------------------------------------------------------------------------------------

namespace {

/// A connection that is used, and ended by both; whether it resumed a session.
bool resumes(const circle &c, const tls_peer &peer = {.name = "localhost"}) {
	tls_pair p(c, peer);
	p.handshake();
	EXPECT_EQ(p.client.resumed(), p.server.resumed());
	EXPECT_EQ(p.client.peer_subject(), "CN=server");
	say_and_hear(p.client, p.server, "question");
	say_and_hear(p.server, p.client, "answer");  // tickets come before it
	p.server.shutdown(far());
	std::error_code error;
	EXPECT_EQ(read_to_end(p.client, error), "");
	p.client.shutdown(far());
	return p.client.resumed();
}

}  // namespace

TEST(TlsSessions, AreResumedIfTheClientWants) {
	for (const tls_version v : {tls_version::v1_2, tls_version::v1_3}) {
		circle c;
		if (v == tls_version::v1_2) {
			SSL_CTX_set_max_proto_version(c.client.native_handle(), TLS1_2_VERSION);
		}
		EXPECT_FALSE(resumes(c));
		EXPECT_FALSE(resumes(c)) << "nobody asked for it";
		c.client.resume_sessions();
		EXPECT_FALSE(resumes(c));
		EXPECT_TRUE(resumes(c));
		EXPECT_TRUE(resumes(c)) << "a resumed one brings the next";
	}
}

TEST(TlsSessions, AreOfOneNameAndOneServer) {
	circle c;
	c.client.resume_sessions();
	EXPECT_FALSE(resumes(c));
	EXPECT_FALSE(resumes(c, {.name = "www.example.org"}));
	EXPECT_FALSE(resumes(c, {.name = "localhost", .any_name = true})) << "nothing was verified by name there";
	tls_context restarted(tls_side::server);  // its keys for tickets are others
	restarted.use_certificate(c.id.certificate);
	restarted.use_key(c.id.key);
	c.server = restarted;
	EXPECT_FALSE(resumes(c));
	EXPECT_TRUE(resumes(c));
}

// Several LWPs take and keep sessions of one context at once; each handshake is whole, resumed or not.
TEST(TlsSessions, ManyAtOnce) {
	if (LWP_TEST_TSAN) {
		GTEST_SKIP() << "the counts inside libcrypto order its frees; ThreadSanitizer does not see them";
	}
	circle c;
	c.client.resume_sessions();
	std::vector<lwpid_t> all;
	for (int i = 0; i < 8; i++) {
		all.push_back(spawn([&] {
			for (int k = 0; k < 4; k++) {
				(void)resumes(c);
			}
		}));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
}
