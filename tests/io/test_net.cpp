// SPDX-License-Identifier: BSD-2-Clause
//
// net.hpp: addresses and names, TCP, UDP, unix sockets; refused, reset, half closed, stopped.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using lwp::endpoint;
using lwp::io_limit;
using lwp::tcp_listener;
using lwp::tcp_stream;
using lwp::within;

io_limit far() { return within(10min); }

template <class Call>
std::error_code thrown_by(Call call) {
	try {
		call();
	} catch (const std::system_error &e) {
		return e.code();
	}
	return {};
}

/// A path that nobody else has; removed at the end.
struct unix_name {
	unix_name() {
		static int count = 0;
		path = "/tmp/lwp_net_" + std::to_string(::getpid()) + "_" + std::to_string(count++);
	}
	~unix_name() { (void)::unlink(path.c_str()); }
	[[nodiscard]] endpoint at() const { return endpoint::unix_path(path); }
	std::string path;
};

struct connection {
	connection() {
		client = tcp_stream::connect(listener.local_endpoint());
		server = listener.accept();
	}
	tcp_listener listener{endpoint::loopback(0)};
	tcp_stream client, server;
};

std::string rest_of(lwp::stream &s) {
	std::string all;
	char buffer[1000];
	for (std::size_t n; (n = s.read(buffer, far())) != 0;) {
		all.append(buffer, n);
	}
	return all;
}

}  // namespace

// ---- addresses and names -------------------------------------------------------------------------------------------

TEST(Endpoint, FromTextAndBack) {
	for (const char *text : {"127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[fe80::1%1]:9", "unix:/tmp/x"}) {
		EXPECT_EQ(endpoint::parse(text).to_string(), text);
		EXPECT_EQ(endpoint::parse(text), endpoint::parse(text));
	}
	for (const char *text : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1", "::1:80",
	         "[127.0.0.1]:80", "[::1]", "[::1%nowhere]:1", "localhost:80", "unix:", "1.2.3:4"}) {
		std::error_code error;
		EXPECT_EQ(endpoint::parse(text, error).family(), AF_UNSPEC) << text;
		EXPECT_EQ(error, std::errc::invalid_argument) << text;
	}
	EXPECT_EQ(thrown_by([] { (void)endpoint::parse("x"); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([] { (void)endpoint("localhost", 80); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([] { (void)endpoint(std::string(500, '1'), 80); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([] { (void)endpoint::unix_path(std::string(108, 'x')); }), std::errc::filename_too_long);
	EXPECT_EQ(endpoint::unix_path(std::string(107, 'x')).address().size(), 107U);
	EXPECT_EQ(endpoint::unix_path(std::string("\0abc", 4)).address(), std::string("\0abc", 4));
}

TEST(Endpoint, ComparesAndKnowsItsParts) {
	const endpoint four("10.0.0.1", 80), six("::1", 80);
	EXPECT_EQ(four.family(), AF_INET);
	EXPECT_EQ(six.family(), AF_INET6);
	EXPECT_EQ(six.port(), 80);
	EXPECT_EQ(four.with_port(81).to_string(), "10.0.0.1:81");
	EXPECT_EQ(six.with_port(81), endpoint("::1", 81));
	EXPECT_NE(four, six);
	EXPECT_NE(four, four.with_port(81));
	EXPECT_TRUE((four < six) != (six < four));
	EXPECT_EQ(endpoint(), endpoint());
	EXPECT_EQ(endpoint().to_string(), "");
	EXPECT_EQ(endpoint(four.data(), four.size()), four);
	EXPECT_EQ(endpoint::loopback(7), endpoint("127.0.0.1", 7));
	EXPECT_EQ(endpoint::any(7).port(), 7);
}

TEST(Resolve, NumbersNamesAndFailures) {
	EXPECT_EQ(lwp::resolve("127.0.0.1", "80"), std::vector<endpoint>{endpoint("127.0.0.1", 80)});
	EXPECT_EQ(lwp::resolve("127.0.0.1", "80", {.family = AF_INET}, far()).front().port(), 80);
	for (const endpoint &e : lwp::resolve("localhost", "1", {}, far())) {
		EXPECT_TRUE(e.address() == "127.0.0.1" || e.address() == "::1") << e.to_string();
	}
	EXPECT_EQ(lwp::resolve("", "5", {.family = AF_INET, .passive = true}).front(), endpoint("0.0.0.0", 5));
	std::error_code error;
	EXPECT_TRUE(lwp::resolve("127.0.0.1", "no such service", {}, error).empty());
	EXPECT_EQ(error.category(), lwp::resolve_category());
	EXPECT_FALSE(error.message().empty());
	EXPECT_EQ(thrown_by([] { (void)lwp::resolve("::1", "1", {.family = AF_INET}, far()); }).category(), lwp::resolve_category());
	std::stop_source stop;
	stop.request_stop();
	EXPECT_TRUE(lwp::resolve("localhost", "1", {}, error, {.stop = stop.get_token()}).empty());
	EXPECT_EQ(error, std::errc::operation_canceled);
	(void)lwp::resolve("localhost", "1", {}, error, {.deadline = std::chrono::steady_clock::now()});
	EXPECT_EQ(error, std::errc::timed_out);
}

// ---- TCP -----------------------------------------------------------------------------------------------------------

TEST(Tcp, ConnectsAndKnowsItsEnds) {
	connection c;
	EXPECT_EQ(c.client.peer_endpoint(), c.listener.local_endpoint());
	EXPECT_EQ(c.client.local_endpoint(), c.server.peer_endpoint());
	EXPECT_NE(c.client.option(IPPROTO_TCP, TCP_NODELAY), 0);
	EXPECT_NE(c.server.option(IPPROTO_TCP, TCP_NODELAY), 0);
	c.client.no_delay(false);
	EXPECT_EQ(c.client.option(IPPROTO_TCP, TCP_NODELAY), 0);
	c.client.keep_alive(true);
	EXPECT_NE(c.client.option(SOL_SOCKET, SO_KEEPALIVE), 0);
	for (const int fd : {c.client.native_handle(), c.server.native_handle(), c.listener.native_handle()}) {
		EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
		EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	}
	tcp_stream moved(std::move(c.client));
	EXPECT_FALSE(c.client.is_open());
	moved.write_all("hi");
	char two[2];
	EXPECT_EQ(c.server.read_exactly(two), 2U);
	EXPECT_EQ(thrown_by([&] { c.client.set_option(SOL_SOCKET, SO_KEEPALIVE, 1); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { (void)c.client.option(SOL_SOCKET, SO_KEEPALIVE); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { (void)c.client.local_endpoint(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { (void)c.client.peer_endpoint(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { c.client.shutdown_write(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { c.client.shutdown_read(); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { (void)tcp_listener().accept(); }), std::errc::bad_file_descriptor);
}

TEST(Tcp, ConnectsByName) {
	const tcp_listener l(endpoint("127.0.0.1", 0));
	tcp_stream s = tcp_stream::connect("localhost", l.local_endpoint().port(), far());  // ::1, if it comes first, refuses
	EXPECT_EQ(s.peer_endpoint(), l.local_endpoint());
	std::error_code error;
	s = tcp_stream::connect("127.0.0.1", l.local_endpoint().port(), error);
	EXPECT_FALSE(error);
	std::stop_source stop;
	stop.request_stop();
	EXPECT_FALSE(tcp_stream::connect("localhost", 1, error, {.stop = stop.get_token()}).is_open());
	EXPECT_EQ(error, std::errc::operation_canceled);
}

TEST(Tcp, RefusedAndTaken) {
	tcp_listener l(endpoint::loopback(0));
	const endpoint at = l.local_endpoint();
	EXPECT_EQ(thrown_by([&] { tcp_listener other(at); }), std::errc::address_in_use);
	l.close();
	std::error_code error;
	EXPECT_FALSE(tcp_stream::connect(at, error).is_open());
	EXPECT_EQ(error, std::errc::connection_refused);
	EXPECT_EQ(thrown_by([&] { (void)tcp_stream::connect(at, far()); }), std::errc::connection_refused);
	EXPECT_EQ(thrown_by([&] { (void)tcp_stream::connect("127.0.0.1", at.port()); }), std::errc::connection_refused);
	EXPECT_FALSE(tcp_stream::connect(endpoint::unix_path("/x"), error).is_open());
	EXPECT_EQ(error, std::errc::address_family_not_supported);
	const tcp_listener again(at);  // at once
	EXPECT_EQ(again.local_endpoint(), at);
}

TEST(Tcp, SeveralShareAPort) {
	tcp_listener a(endpoint::loopback(0), {.reuse_port = true});
	const tcp_listener b(a.local_endpoint(), {.reuse_port = true});
	EXPECT_EQ(a.local_endpoint(), b.local_endpoint());
}

TEST(Tcp, HalfClose) {
	connection c;
	std::string got;
	const lwpid_t server = spawn([&] {
		got = rest_of(c.server);
		c.server.write_all("answer to " + got);  // our half goes on
		c.server.shutdown_write();
	});
	c.client.write_all("question");
	c.client.shutdown_write();
	EXPECT_EQ(rest_of(c.client), "answer to question");
	std::error_code error;
	c.client.write_some("x", error);
	EXPECT_EQ(error, std::errc::broken_pipe);
	collect(server);
}

TEST(Tcp, ShutdownOfReadingEndsABlockedRead) {
	connection c;
	std::size_t n = 9;
	subject s([&](subject &self) {
		char b;
		self.about_to_block();
		n = c.client.read({&b, 1});
	});
	s.await_blocked();
	c.client.shutdown_read();
	collect(s.lid());
	EXPECT_EQ(n, 0U);
}

TEST(Tcp, ResetIsSeen) {
	connection c;
	std::error_code error;
	subject s([&](subject &self) {
		char b;
		self.about_to_block();
		c.client.read({&b, 1}, error, far());
	});
	s.await_blocked();
	c.server.reset();
	EXPECT_FALSE(c.server.is_open());
	collect(s.lid());
	EXPECT_EQ(error, std::errc::connection_reset);
	EXPECT_TRUE(wait_until([&] {
		c.client.write_some("x", error);
		return error == std::errc::broken_pipe;
	}));
	c.server.reset();  // nothing, again
}

TEST(Tcp, AcceptIsStoppedAndTimedOut) {
	tcp_listener l(endpoint::loopback(0));
	std::error_code error;
	EXPECT_FALSE(l.accept(error, within(2ms)).is_open());
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(thrown_by([&] { (void)l.accept(within(1ms)); }), std::errc::timed_out);
	std::stop_source stop;
	subject s([&](subject &self) {
		self.about_to_block();
		(void)l.accept(error, {.stop = stop.get_token()});
	});
	s.await_blocked();
	stop.request_stop();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
	const tcp_stream client = tcp_stream::connect(l.local_endpoint(), far());
	EXPECT_TRUE(l.accept(far()).is_open());
}

// Each of many that wait in accept() at once gets a connection, none an error: also where the library makes a listener nonblocking for a moment,
// which others must not take for the application's wish.
TEST(Tcp, ManyAcceptAtOnce) {
	const std::size_t turns = rounds(50);
	for (std::size_t turn = 0; turn < turns; turn++) {
		tcp_listener l(endpoint::loopback(0));
		std::atomic<unsigned> got{0};
		std::vector<lwpid_t> all;
		for (int i = 0; i < 16; i++) {
			all.push_back(spawn([&] {
				std::error_code error;
				const tcp_stream s = l.accept(error);
				EXPECT_FALSE(error) << error.message();
				got += s.is_open();
			}));
		}
		std::thread outside([&] {
			std::error_code error;
			const tcp_stream s = l.accept(error);
			EXPECT_FALSE(error) << error.message();
			got += s.is_open();
		});
		std::vector<tcp_stream> clients;
		for (int i = 0; i < 17; i++) {
			clients.push_back(tcp_stream::connect(l.local_endpoint()));
			if (i % 4 == 0) {
				lwp_yield();
			}
		}
		for (const lwpid_t lid : all) {
			collect(lid);
		}
		outside.join();
		EXPECT_EQ(got, 17U);
	}
}

// ---- datagrams -----------------------------------------------------------------------------------------------------

TEST(Udp, SendsReceivesAndTruncates) {
	lwp::udp_socket a(endpoint::loopback(0)), b(endpoint::loopback(0));
	a.send_to("hello", b.local_endpoint());
	char buffer[8] = {};
	lwp::datagram d = b.receive_from(buffer, far());
	EXPECT_EQ(d.size, 5U);
	EXPECT_FALSE(d.truncated);
	EXPECT_EQ(d.from, a.local_endpoint());
	b.send_to("longer than that", d.from, far());
	d = a.receive_from(buffer);
	EXPECT_TRUE(d.truncated);
	EXPECT_EQ(d.size, 8U);
	a.send_to("", b.local_endpoint());
	d = b.receive_from(buffer, far());
	EXPECT_EQ(d.size, 0U);
	EXPECT_EQ(d.from, a.local_endpoint());
	a.connect(b.local_endpoint());
	b.connect(a.local_endpoint());
	a.send("one");
	EXPECT_EQ(b.receive(buffer, far()), 3U);
	std::error_code error;
	a.send(std::string(70'000, 'x'), error);
	EXPECT_EQ(error, std::errc::message_size);
	EXPECT_EQ(thrown_by([&] { a.send_to(std::string(70'000, 'x'), b.local_endpoint()); }), std::errc::message_size);
	b.receive_from(buffer, error, within(1ms));
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(b.receive(buffer, error, within(1ms)), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(thrown_by([&] { b.receive(buffer, within(1ms)); }), std::errc::timed_out);
	EXPECT_EQ(thrown_by([&] { b.receive_from(buffer, within(1ms)); }), std::errc::timed_out);
	std::stop_source stop;
	subject s([&](subject &self) {
		self.about_to_block();
		b.receive_from(buffer, error, {.stop = stop.get_token()});
	});
	s.await_blocked();
	stop.request_stop();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
	EXPECT_EQ(thrown_by([&] { lwp::udp_socket taken(a.local_endpoint()); }), std::errc::address_in_use);
	lwp::udp_socket none;
	EXPECT_EQ(thrown_by([&] { none.send("x"); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { none.connect(endpoint::loopback(1)); }), std::errc::bad_file_descriptor);
}

TEST(UnixDatagram, BlocksTheSenderAndKeepsOrder) {
	auto [a, b] = lwp::unix_datagram::pair();
	const lwpid_t sender = spawn([&, &from = a] {
		for (int i = 0; i < 2000; i++) {
			from.send(std::to_string(i), i % 2 == 0 ? io_limit{} : far());
		}
	});
	char buffer[16];
	for (int i = 0; i < 2000; i++) {
		const std::size_t n = b.receive(buffer, far());
		EXPECT_EQ(std::string(buffer, n), std::to_string(i));
	}
	collect(sender);
	const unix_name name;
	lwp::unix_datagram server(name.at());
	lwp::unix_datagram client = lwp::unix_datagram::unbound();
	client.send_to("x", name.at());
	const lwp::datagram d = server.receive_from(buffer);
	EXPECT_EQ(d.size, 1U);
	EXPECT_EQ(d.from.address(), "");
	EXPECT_EQ(thrown_by([&] { lwp::unix_datagram taken(name.at()); }), std::errc::address_in_use);
}

// ---- unix sockets --------------------------------------------------------------------------------------------------

TEST(Unix, ConnectsByPath) {
	const unix_name name;
	std::error_code error;
	EXPECT_FALSE(lwp::unix_stream::connect(name.at(), error).is_open());
	EXPECT_EQ(error, std::errc::no_such_file_or_directory);
	lwp::unix_listener l(name.at());
	EXPECT_EQ(l.local_endpoint().address(), name.path);
	lwp::unix_stream client = lwp::unix_stream::connect(name.at());
	lwp::unix_stream server = l.accept();
	client.write_all("abc");
	client.close();
	EXPECT_EQ(rest_of(server), "abc");
	EXPECT_EQ(thrown_by([&] { lwp::unix_listener taken(name.at()); }), std::errc::address_in_use);
	l.close();
	EXPECT_EQ(thrown_by([&] { (void)lwp::unix_stream::connect(name.at(), far()); }), std::errc::connection_refused);
	l = lwp::unix_listener(name.at(), {.replace = true});
	EXPECT_TRUE(lwp::unix_stream::connect(name.at(), far()).is_open());
	EXPECT_TRUE(l.accept(error, far()).is_open());
	EXPECT_FALSE(l.accept(error, within(1ms)).is_open());
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_FALSE(lwp::unix_stream::connect(endpoint::loopback(1), error).is_open());
	EXPECT_EQ(error, std::errc::address_family_not_supported);
	EXPECT_EQ(thrown_by([] { lwp::unix_listener wrong(endpoint::loopback(0)); }), std::errc::address_family_not_supported);
}

// `replace` removes sockets only.
TEST(Unix, ReplaceLeavesOtherFiles) {
	const unix_name name;
	const int fd = ::open(name.path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	::close(fd);
	EXPECT_EQ(thrown_by([&] { lwp::unix_listener l(name.at(), {.replace = true}); }), std::errc::address_in_use);
	EXPECT_EQ(::access(name.path.c_str(), F_OK), 0);
}

namespace {

/// A listener whose backlog is full.
struct full_backlog {
	full_backlog() : listener(name.at(), {.backlog = 0}) { first = lwp::unix_stream::connect(name.at()); }
	unix_name name;
	lwp::unix_listener listener;
	lwp::unix_stream first;
};

}  // namespace

TEST(UnixBacklog, FullBlocksUntilThereIsRoom) {
	full_backlog f;
	std::atomic<bool> connected{false};
	subject s([&](subject &self) {
		self.about_to_block();
		EXPECT_TRUE(lwp::unix_stream::connect(f.name.at()).is_open());
		connected = true;
	});
	s.await_blocked();
	EXPECT_FALSE(connected);
	EXPECT_TRUE(f.listener.accept().is_open());
	EXPECT_TRUE(f.listener.accept().is_open());
	collect(s.lid());
	EXPECT_TRUE(connected);
}

TEST(UnixBacklog, FullEndsAtTheLimit) {
	full_backlog f;
	std::error_code error;
	EXPECT_FALSE(lwp::unix_stream::connect(f.name.at(), error, within(3ms)).is_open());
	EXPECT_EQ(error, std::errc::timed_out);
	std::stop_source stop;
	subject s([&](subject &self) {
		self.about_to_block();
		(void)lwp::unix_stream::connect(f.name.at(), error, {.stop = stop.get_token()});
	});
	s.await_blocked();
	stop.request_stop();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
	std::thread([&] {
		EXPECT_FALSE(lwp::unix_stream::connect(f.name.at(), error, within(3ms)).is_open());
		EXPECT_EQ(error, std::errc::timed_out);
	}).join();
}

// The C call: close, interrupt, suspend and SO_SNDTIMEO reach it too.
TEST(UnixBacklog, FullAndOtherEnds) {
	full_backlog f;
	const endpoint at = f.name.at();
	lwp::unix_stream s(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	int error = 0;
	const auto connect = [&](subject &self) {
		self.about_to_block();
		error = error_of(lwp_connect(s.native_handle(), at.data(), at.size()));
	};
	{
		subject one(connect);
		one.await_blocked();
		EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(one.lid()) == 0 || error != 0; }));
		collect(one.lid());
		EXPECT_EQ(error, EINTR);
	}
	{
		subject one(connect);
		one.await_blocked();
		EXPECT_EQ(_lwp_suspend(one.lid()), 0);
		EXPECT_EQ(_lwp_continue(one.lid()), 0);
		s.close();
		collect(one.lid());
		EXPECT_EQ(error, ECANCELED);
	}
	s = lwp::unix_stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	const timeval soon{0, 2000};
	ASSERT_EQ(::setsockopt(s.native_handle(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
	EXPECT_EQ(error_of(lwp_connect(s.native_handle(), at.data(), at.size())), EAGAIN);
	ASSERT_EQ(::fcntl(s.native_handle(), F_SETFL, O_NONBLOCK), 0);
	EXPECT_EQ(error_of(lwp_connect(s.native_handle(), at.data(), at.size())), EAGAIN);
}

// ---- descriptors run out -------------------------------------------------------------------------------------------

TEST(Net, AcceptSaysThatThereAreNoDescriptorsAndRecovers) {
	tcp_listener l(endpoint::loopback(0));
	tcp_stream client = tcp_stream::connect(l.local_endpoint());
	client.write_all("x");
	rlimit old{};
	ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
	const int highest = ::dup(0);  // the lowest that is free
	::close(highest);
	const rlimit none{static_cast<rlim_t>(highest), old.rlim_max};
	std::error_code error;
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
	(void)l.accept(error, far());
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
	EXPECT_EQ(error, std::errc::too_many_files_open);
	tcp_stream s = l.accept(error, far());
	char c = 0;
	EXPECT_EQ(s.read({&c, 1}, far()), 1U);
}
