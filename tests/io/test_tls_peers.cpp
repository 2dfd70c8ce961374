// SPDX-License-Identifier: BSD-2-Clause
//
// tls.hpp against programs of others: openssl s_server and s_client, curl.  Those that are not installed are skipped, and it is said.
// vcpus: 1 2 8
// io: uring epoll
#include "tls_support.h"

#include <lwp/process.hpp>

#include <fstream>

using namespace lwp::test;
using lwp::process;
using lwp::stdio;
using lwp::tls_stream;

namespace {

const bool touched = touch_runtime();

/// Whether `program` can be started.
bool installed(const char *program, const char *argument) {
	std::error_code error;
	process p({program, argument}, {.in = stdio::null(), .out = stdio::null(), .error = stdio::null()}, error);
	return !error && p.wait(far()).success();
}

#define LWP_NEEDS(program, argument)                                     \
	if (!installed(program, argument)) {                                 \
		GTEST_SKIP() << program " is not installed: nothing was tested"; \
	}

/// The circle's files, for programs.
class files {
public:
	explicit files(const circle &c) {
		char name[] = "/tmp/lwp_tls_XXXXXX";
		EXPECT_NE(::mkdtemp(name), nullptr);
		folder_ = name;
		write("ca.pem", c.ca.certificate());
		write("cert.pem", c.id.certificate);
		write("key.pem", c.id.key);
	}
	~files() {
		for (const std::string &name : names_) {
			EXPECT_EQ(::unlink(path(name).c_str()), 0);
		}
		EXPECT_EQ(::rmdir(folder_.c_str()), 0);
	}
	files(const files &) = delete;
	files &operator=(const files &) = delete;
	[[nodiscard]] std::string path(const std::string &name) const { return folder_ + "/" + name; }

private:
	void write(const std::string &name, const std::string &text) {
		std::ofstream(path(name)) << text;
		names_.push_back(name);
	}
	std::string folder_;
	std::vector<std::string> names_;
};

std::string all_of(lwp::pipe_read_end &from) {
	std::string all;
	char buffer[4000];
	for (std::size_t n; (n = from.read(buffer, far())) != 0;) {
		all.append(buffer, n);
	}
	return all;
}

/// Answers one request of HTTP/1.1 and closes.
void serve_http(lwp::tcp_stream socket, const circle &c, const std::string &body) {
	tls_stream s(std::move(socket), c.server);
	std::error_code error;
	lwp::reader in(s);
	while (auto line = in.read_line(error, far())) {
		if (line->empty()) {
			break;
		}
	}
	if (!error) {
		s.write_all(
		    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body, error, far());
		s.shutdown(error, far());
		char b[1];
		s.read(b, error, far());  // until the client closes
	}
}

}  // namespace

TEST(TlsPeers, OpensslServer) {
	LWP_NEEDS("openssl", "version");
	const circle c;
	const files f(c);
	for (const char *version : {"-tls1_2", "-tls1_3"}) {
		// -rev: sends each line back reversed
		process p({"openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev", version, "-cert", f.path("cert.pem"), "-key",
		              f.path("key.pem")},
		    {.in = stdio::null(), .out = stdio::pipe(), .error = stdio::null()});
		lwp::reader out(p.standard_output());
		std::uint16_t port = 0;
		while (port == 0) {
			const auto line = out.read_line(far());
			ASSERT_TRUE(line) << "it ended";
			if (line->starts_with("ACCEPT ")) {
				port = static_cast<std::uint16_t>(std::stoi(std::string(line->substr(line->rfind(':') + 1))));
			}
		}
		tls_stream s = tls_stream::connect("127.0.0.1", port, c.client, far());
		EXPECT_EQ(s.version(), std::string_view(version) == "-tls1_2" ? "TLSv1.2" : "TLSv1.3");
		lwp::reader in(s);
		for (const auto &[line, back] : {std::pair("hello", "olleh"), std::pair("0123456789", "9876543210")}) {
			s.write_all(line + std::string("\n"), far());
			EXPECT_EQ(in.read_line(far()), back);
		}
		s.shutdown(far());
		EXPECT_FALSE(in.read_line(far()));
		s.close();
		EXPECT_TRUE(p.wait(far()).success());
	}
}

TEST(TlsPeers, OpensslClient) {
	LWP_NEEDS("openssl", "version");
	circle c;
	c.server.alpn({"lines"});
	const files f(c);
	for (const char *version : {"-tls1_2", "-tls1_3"}) {
		lwp::tcp_listener listener(lwp::endpoint("127.0.0.1", 0));
		process p({"openssl", "s_client", "-connect", "127.0.0.1:" + std::to_string(listener.local_endpoint().port()), "-quiet", version,
		              "-CAfile", f.path("ca.pem"), "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost",
		              "-alpn", "other,lines"},
		    {.in = stdio::pipe(), .out = stdio::pipe(), .error = stdio::null()});
		tls_stream s(listener.accept(far()), c.server);
		s.handshake(far());
		EXPECT_EQ(s.server_name(), "localhost");
		EXPECT_EQ(s.alpn(), "lines");
		p.standard_input().write_all("from the client\n", far());
		lwp::reader in(s);
		EXPECT_EQ(in.read_line(far()), "from the client");
		const std::string much(300'000, 'x');
		s.write_all(much, far());
		s.shutdown(far());
		EXPECT_TRUE(all_of(p.standard_output()) == much);
		EXPECT_TRUE(p.wait(far()).success());
	}
}

// Its commands: K updates the keys of both sides, Q ends.
TEST(TlsPeers, OpensslClientUpdatesItsKeys) {
	LWP_NEEDS("openssl", "version");
	const circle c;
	lwp::tcp_listener listener(lwp::endpoint("127.0.0.1", 0));
	process p({"openssl", "s_client", "-connect", "127.0.0.1:" + std::to_string(listener.local_endpoint().port()), "-tls1_3"},
	    {.in = stdio::pipe(), .out = stdio::null(), .error = stdio::pipe()});
	tls_stream s(listener.accept(far()), c.server);
	s.handshake(far());
	lwp::reader in(s), said(p.standard_error());
	for (int i = 0; i < 3; ++i) {
		p.standard_input().write_all("a line\n", far());
		EXPECT_EQ(in.read_line(far()), "a line");
		s.write_all("an answer\n", far());
		p.standard_input().write_all("K\n", far());
		// A command is one read of its input: nothing may be written before it says that it has done this one.
		for (auto line = said.read_line(far()); line != "KEYUPDATE"; line = said.read_line(far())) {
			ASSERT_TRUE(line) << "it ended";
		}
	}
	p.standard_input().write_all("the last\n", far());
	EXPECT_EQ(in.read_line(far()), "the last");
	p.standard_input().write_all("Q\n", far());
	std::error_code error;
	EXPECT_FALSE(in.read_line(error, far()));
	p.wait(far());
}

TEST(TlsPeers, Curl) {
	LWP_NEEDS("curl", "--version");
	const circle c;
	const files f(c);
	lwp::tcp_listener listener(lwp::endpoint("127.0.0.1", 0));
	const std::string port = std::to_string(listener.local_endpoint().port());
	const std::string body(100'000, 'b');
	const auto curl = [&](const std::string &host) {
		// .curlrc and proxies of the environment are none of ours
		return process({"curl", "--disable", "--noproxy", "*", "--silent", "--show-error", "--cacert", f.path("ca.pem"), "--resolve",
		                   host + ":" + port + ":127.0.0.1", "https://" + host + ":" + port + "/"},
		    {.in = stdio::null(), .out = stdio::pipe(), .error = stdio::null()});
	};
	{
		process p = curl("www.example.org");
		const lwpid_t server = spawn([&] { serve_http(listener.accept(far()), c, body); });
		EXPECT_TRUE(all_of(p.standard_output()) == body);
		EXPECT_TRUE(p.wait(far()).success());
		collect(server);
	}
	process p = curl("example.com");
	const lwpid_t server = spawn([&] { serve_http(listener.accept(far()), c, body); });
	EXPECT_EQ(all_of(p.standard_output()), "");
	EXPECT_EQ(p.wait(far()).code(), 60) << "the certificate is for others";
	collect(server);
}
