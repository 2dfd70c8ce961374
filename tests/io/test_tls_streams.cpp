// SPDX-License-Identifier: BSD-2-Clause
//
// tls.hpp: how streams end, what limits do, and several LWPs on one stream.
// vcpus: 1 2 8
// io: uring epoll
#include "tls_support.h"

#include <sys/ioctl.h>
#include <thread>

using namespace lwp::test;
using namespace std::chrono_literals;
using lwp::tls_errc;
using lwp::tls_side;
using lwp::tls_stream;
using lwp::within;

namespace {

const bool touched = touch_runtime();

/// One whose handshake is done.
struct ready_pair : circle, tls_pair {
	ready_pair() : tls_pair(static_cast<const circle &>(*this)) { handshake(); }
	explicit ready_pair(int version) : circle(limited(version)), tls_pair(static_cast<const circle &>(*this)) { handshake(); }
	using tls_pair::client;
	using tls_pair::server;

private:
	static circle limited(int version) {
		circle c;
		SSL_CTX_set_max_proto_version(c.client.native_handle(), version);
		return c;
	}
};

constexpr int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

}  // namespace

// ---- ends ----------------------------------------------------------------------------------------------------------

TEST(TlsEnd, CloseNotifyIsTheEndAndItsLackIsTruncation) {
	for (const int version : versions) {
		for (const bool notify : {true, false}) {
			ready_pair p(version);
			p.client.write_all("abc", far());
			if (notify) {
				p.client.shutdown(far());
				p.client.shutdown(far());  // again: nothing
			}
			// The half of the socket only: what a close would do to tickets that were not read is another matter.
			ASSERT_EQ(::shutdown(p.client.socket().native_handle(), SHUT_WR), 0);
			std::error_code error;
			char b[8];
			EXPECT_EQ(p.server.read_exactly(b, error, far()), 3U);
			EXPECT_EQ(error, notify ? std::error_code(lwp::io_errc::unexpected_end) : std::error_code(tls_errc::truncated));
			EXPECT_EQ(p.server.read(b, error, far()), 0U);
			EXPECT_EQ(error, notify ? std::error_code() : std::error_code(tls_errc::truncated)) << error.message();
			EXPECT_EQ(p.server.read(b, error, far()), 0U);
			EXPECT_EQ(error, notify ? std::error_code() : std::error_code(tls_errc::truncated)) << "still";
		}
	}
}

TEST(TlsEnd, OneHalfEndsTheOtherGoesOn) {
	for (const int version : versions) {
		ready_pair p(version);
		const std::string answer = pattern(300'000);
		p.client.write_all("question", far());
		p.client.shutdown(far());
		EXPECT_EQ(thrown_by([&] { p.client.write_all("more", far()); }), std::errc::broken_pipe);
		const lwpid_t server = spawn([&] {
			std::error_code error;
			EXPECT_EQ(read_to_end(p.server, error), "question");
			EXPECT_FALSE(error);
			EXPECT_EQ(p.server.write_all(answer, far()), answer.size());
			p.server.shutdown(far());
		});
		std::error_code error;
		EXPECT_TRUE(read_to_end(p.client, error) == answer);
		EXPECT_FALSE(error) << error.message();
		collect(server);
	}
}

// Half a record, then the end.
TEST(TlsEnd, InTheMidstOfARecord) {
	ready_pair p;
	const char half[] = {23, 3, 3, 0, 100, 'x', 'y'};
	ASSERT_EQ(::send(p.client.socket().native_handle(), half, sizeof(half), MSG_NOSIGNAL), static_cast<ssize_t>(sizeof(half)));
	ASSERT_EQ(::shutdown(p.client.socket().native_handle(), SHUT_WR), 0);
	char b[8];
	EXPECT_EQ(thrown_by([&] { p.server.read(b, far()); }), tls_errc::truncated);
}

TEST(TlsEnd, GarbageAfterTheHandshake) {
	ready_pair p;
	const std::string noise = "this is no record of TLS at all";
	ASSERT_EQ(::send(p.client.socket().native_handle(), noise.data(), noise.size(), MSG_NOSIGNAL), static_cast<ssize_t>(noise.size()));
	std::error_code error, again;
	char b[8];
	EXPECT_EQ(p.server.read(b, error, far()), 0U);
	EXPECT_EQ(&error.category(), &lwp::openssl_category());
	EXPECT_EQ(p.server.write_all("x", again, far()), 0U);
	EXPECT_EQ(again, error);
	// The alert has been sent.
	EXPECT_EQ(p.client.read(b, error, far()), 0U);
	EXPECT_EQ(&error.category(), &lwp::openssl_category()) << error.message();
}

TEST(TlsEnd, NoSigpipe) {
	ready_pair p;
	p.server.close();
	std::error_code error;  // SIGPIPE would end the test
	while (!error) {
		p.client.write_all("x", error, far());
	}
	EXPECT_EQ(error, std::errc::broken_pipe);
	p.client.shutdown(error, far());
	EXPECT_TRUE(error);
}

// ---- limits --------------------------------------------------------------------------------------------------------

TEST(TlsLimit, AHandshakeGoesOnAfterADeadline) {
	const circle c;
	tls_pair p(c);
	std::error_code error;
	p.client.handshake(error, within(2ms));
	EXPECT_EQ(error, std::errc::timed_out);
	char b[4];
	EXPECT_EQ(p.client.read(b, error, within(2ms)), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(p.client.write_all("x", error, within(2ms)), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
	p.client.shutdown(error, far());
	EXPECT_EQ(error, std::errc::not_connected);
	p.handshake();
	p.client.write_all("late", far());
	EXPECT_EQ(p.server.read_exactly(b, far()), 4U);
}

TEST(TlsLimit, WhatHasPassedBeforeTransfersNothing) {
	ready_pair p;
	p.client.write_all("x", far());
	std::stop_source stop;
	stop.request_stop();
	char b[1];
	std::error_code error;
	for (const bool stopped : {false, true}) {
		const lwp::io_limit limit =
		    stopped ? lwp::io_limit{.stop = stop.get_token()} : lwp::io_limit{.deadline = std::chrono::steady_clock::now()};
		const std::errc why = stopped ? std::errc::operation_canceled : std::errc::timed_out;
		EXPECT_EQ(p.server.read(b, error, limit), 0U);
		EXPECT_EQ(error, why);
		EXPECT_EQ(p.server.write_all("y", error, limit), 0U);
		EXPECT_EQ(error, why);
		p.server.shutdown(error, limit);
		EXPECT_EQ(error, why);
		p.server.handshake(error, limit);
		EXPECT_EQ(error, why);
	}
	EXPECT_EQ(p.server.read(b, far()), 1U);
	p.server.write_all("z", far());
	EXPECT_EQ(p.client.read(b, far()), 1U);
	EXPECT_EQ(*b, 'z');
}

TEST(TlsLimit, AStopEndsAHandshakeAndARead) {
	const circle c;
	tls_pair p(c);
	const auto stopped = [](auto call) {
		std::stop_source stop;
		std::error_code error;
		subject s([&](subject &self) {
			self.about_to_block();
			call(error, within(10min, stop.get_token()));
		});
		s.await_blocked();
		stop.request_stop();
		collect(s.lid());
		EXPECT_EQ(error, std::errc::operation_canceled);
	};
	stopped([&](std::error_code &error, const lwp::io_limit &limit) { p.server.handshake(error, limit); });
	p.handshake();
	char b[1];
	stopped([&](std::error_code &error, const lwp::io_limit &limit) { p.server.read(b, error, limit); });
	p.client.write_all("x", far());
	EXPECT_EQ(p.server.read(b, far()), 1U);
}

// A write that the peer does not take ends at the limit; what it reports arrives, once, and in order.
TEST(TlsLimit, WhatAWriteReportsArrives) {
	const std::string sent = pattern(4'000'000);
	for (const bool all : {true, false}) {
		ready_pair p;
		std::size_t n = 0;
		std::error_code error;
		while (error != std::errc::timed_out || n == 0) {  // the first could be late from the beginning
			const lwp::const_bytes rest = lwp::const_bytes(sent).from(n);
			ASSERT_LT(n, sent.size());
			n += all ? p.client.write_all(rest, error, within(50ms)) : p.client.write_some(rest, error, within(50ms));
		}
		ASSERT_LT(n, sent.size()) << "more than any socket holds";
		p.client.flush(error, within(1ms));  // there may be half a record
		p.client.write_some("", error, within(1ms));
		const lwpid_t writer = spawn([&] {
			EXPECT_EQ(p.client.write_all(lwp::const_bytes(sent).from(n), far()), sent.size() - n);
			p.client.flush(far());
			p.client.shutdown(far());
		});
		std::error_code end;
		EXPECT_TRUE(read_to_end(p.server, end) == sent);
		EXPECT_FALSE(end) << end.message();
		collect(writer);
	}
}

// lwp::writer has nothing left when the stream has taken all and sent half: its flush() asks the stream all the same.
TEST(TlsLimit, AWritersFlushIsTheStreamsToo) {
	const std::string sent = pattern(4'000'000);
	ready_pair p;
	lwp::writer out(p.client, 10'000);
	std::size_t n = 0;
	std::error_code error;
	while (!error) {
		ASSERT_LT(n, sent.size());
		n += out.write(std::string_view(sent).substr(n, 9'000), error, within(50ms));
	}
	EXPECT_EQ(error, std::errc::timed_out);
	out.flush(error, within(1ms));
	EXPECT_EQ(error, std::errc::timed_out) << "nobody reads: what is buffered, here or there, is not sent";
	out.flush(error, within(1ms));
	EXPECT_EQ(error, std::errc::timed_out) << "still";
	const lwpid_t writer = spawn([&] {
		out.flush(far());
		p.client.shutdown(far());
	});
	std::error_code end;
	EXPECT_TRUE(read_to_end(p.server, end) == sent.substr(0, n));
	EXPECT_FALSE(end) << end.message();
	collect(writer);
}

// ---- several LWPs --------------------------------------------------------------------------------------------------

// Both write more than the socket holds and read at the same time, without a handshake() of their own: the first call of each LWP is part of it.
TEST(TlsShared, LargeTransfersInBothDirectionsAtOnce) {
	for (const int version : versions) {
		circle c;
		SSL_CTX_set_max_proto_version(c.client.native_handle(), version);
		tls_pair p(c);
		const std::size_t size = rounds(4'000'000);
		const std::string up = pattern(size, 1), down = pattern(size, 2);
		const auto write = [](tls_stream &s, const std::string &text) {
			dice d(text.size());
			for (std::size_t at = 0; at < text.size();) {
				const std::size_t n = std::min<std::size_t>(1 + d.below(50'000), text.size() - at);
				ASSERT_EQ(s.write_all(std::string_view(text).substr(at, n), far()), n);
				at += n;
			}
			s.shutdown(far());
		};
		const auto read = [](tls_stream &s, const std::string &text) {
			std::error_code error;
			EXPECT_TRUE(read_to_end(s, error) == text);
			EXPECT_FALSE(error) << error.message();
		};
		const lwpid_t ids[] = {spawn([&] { write(p.client, up); }), spawn([&] { read(p.client, down); }),
		    spawn([&] { write(p.server, down); }), spawn([&] { read(p.server, up); })};
		for (const lwpid_t id : ids) {
			collect(id);
		}
	}
}

// A reader answers to a key update while its own side is blocked in a write, and never waits for that.
TEST(TlsShared, KeyUpdatesOnTheWay) {
	ready_pair p;
	const std::string up = pattern(rounds(1'000'000), 1), down = pattern(rounds(1'000'000), 2);
	const lwpid_t reader = spawn([&] {
		std::error_code error;
		EXPECT_TRUE(read_to_end(p.server, error) == up);
		EXPECT_FALSE(error) << error.message();
	});
	const lwpid_t writer = spawn([&] {
		p.server.write_all(down, far());
		p.server.shutdown(far());
	});
	// One LWP, so that nobody else is inside as the keys change; the server is blocked in its write meanwhile.
	for (std::size_t at = 0; at < up.size(); at += 10'000) {
		ASSERT_EQ(SSL_key_update(p.client.native_handle(), SSL_KEY_UPDATE_REQUESTED), 1);
		p.client.write_all(std::string_view(up).substr(at, 10'000), far());
	}
	p.client.shutdown(far());
	std::error_code error;
	EXPECT_TRUE(read_to_end(p.client, error) == down);
	EXPECT_FALSE(error) << error.message();
	collect(reader);
	collect(writer);
}

TEST(TlsShared, RenegotiationIsRefused) {
	circle c;
	SSL_CTX_set_max_proto_version(c.client.native_handle(), TLS1_2_VERSION);
	SSL_CTX_clear_options(c.client.native_handle(), SSL_OP_NO_RENEGOTIATION);
	tls_pair p(c);
	p.handshake();
	ASSERT_EQ(SSL_renegotiate(p.client.native_handle()), 1);
	std::error_code ours, theirs;
	const lwpid_t server = spawn([&] {
		char b[1];
		p.server.read(b, theirs, far());
	});
	p.client.write_all("x", ours, far());
	EXPECT_EQ(ERR_GET_REASON(static_cast<unsigned long>(ours.value())), SSL_R_NO_RENEGOTIATION) << ours.message();
	p.client.close();
	collect(server);
	EXPECT_TRUE(theirs);
}

TEST(TlsShared, CloseEndsAReaderAndAWriter) {
	ready_pair p;
	const std::string much = pattern(4'000'000);
	std::error_code reading, writing;
	subject reader([&](subject &self) {
		char b[1];
		self.about_to_block();
		p.client.read(b, reading, far());
	});
	reader.await_blocked();
	std::atomic<bool> written{false};
	const lwpid_t writer = spawn([&] {
		p.client.write_all(much, writing, far());
		written = true;
	});
	// The writer is inside once the peer has something to read.
	char b[1];
	EXPECT_EQ(p.server.read(b, far()), 1U);
	EXPECT_FALSE(written);
	p.client.close();
	collect(reader.lid());
	collect(writer);
	EXPECT_EQ(reading, std::errc::operation_canceled) << reading.message();
	EXPECT_EQ(writing, std::errc::operation_canceled) << writing.message();
	EXPECT_FALSE(p.client.is_open());
}

// The LWP that reads is between two operations when the close comes: its number must not be used again.
TEST(TlsShared, CloseWaitsForWhoIsBetweenTwoOperations) {
	const circle c;
	for (std::size_t i = 0; i < rounds(300); ++i) {
		tls_pair p(c);
		std::error_code ours, theirs;
		const lwpid_t client = spawn([&] { p.client.handshake(ours, far()); });
		// Its hello is there, so it is inside.
		EXPECT_TRUE(wait_until([&] {
			int n = 0;
			return ::ioctl(p.server.socket().native_handle(), FIONREAD, &n) == 0 && n > 0;
		}));
		const lwpid_t server = spawn([&] { p.server.handshake(theirs, far()); });
		for (std::size_t turns = i % 7; turns > 0; --turns) {
			lwp::this_thread::yield();
		}
		p.client.close();
		collect(client);
		collect(server);
		EXPECT_TRUE(!ours || ours == std::errc::operation_canceled) << ours.message();
	}
}

TEST(TlsShared, KernelThreadsToo) {
	ready_pair p;
	std::thread t([&] {
		char b[5];
		EXPECT_EQ(p.server.read_exactly(b, far()), 5U);
		p.server.write_all(pattern(200'000), far());
		p.server.shutdown(far());
	});
	p.client.write_all("hello", far());
	std::error_code error;
	EXPECT_EQ(read_to_end(p.client, error).size(), 200'000U);
	EXPECT_FALSE(error);
	t.join();
}

TEST(TlsShared, LinesThroughReaderAndWriter) {
	ready_pair p;
	const lwpid_t server = spawn([&] {
		lwp::reader in(p.server);
		lwp::writer out(p.server);
		std::error_code error;
		while (auto line = in.read_line(error, far())) {
			out.write("<");
			out.write(*line);
			out.write(">\n");
			out.flush(far());
		}
		EXPECT_FALSE(error);
		p.server.shutdown(far());
	});
	lwp::reader in(p.client);
	for (int i = 0; i < 50; ++i) {
		p.client.write_all(std::to_string(i) + "\r\n", far());
		EXPECT_EQ(in.read_line(far()), std::string("<").append(std::to_string(i)).append(">"));
	}
	p.client.shutdown(far());
	EXPECT_FALSE(in.read_line(far()));
	collect(server);
}

TEST(TlsShared, ManyConnectionsAtOnce) {
	static const circle c;
	lwp::tcp_listener listener(lwp::endpoint::loopback(0));
	const lwp::endpoint at = listener.local_endpoint();
	const std::size_t count = LWP_TEST_ASAN || LWP_TEST_TSAN ? 40 : 200;
	lwp::scope servers, clients;
	std::atomic<std::size_t> good{0};
	servers.spawn([&] {
		for (std::size_t i = 0; i < count; ++i) {
			servers.spawn([s = tls_stream(listener.accept(far()), c.server)]() mutable {
				std::error_code error;
				const std::string got = read_to_end(s, error);
				EXPECT_FALSE(error) << error.message();
				s.write_all(got, far());
				s.shutdown(far());
			});
		}
	});
	for (std::size_t i = 0; i < count; ++i) {
		clients.spawn([&, i] {
			tls_stream s(lwp::tcp_stream::connect(at, far()), c.client, {.name = "localhost"});
			const std::string text = pattern(1000 + i, i);
			s.write_all(text, far());
			s.shutdown(far());
			std::error_code error;
			good += read_to_end(s, error) == text && !error ? 1 : 0;
		});
	}
	clients.join();
	servers.join();
	EXPECT_EQ(good, count);
}
