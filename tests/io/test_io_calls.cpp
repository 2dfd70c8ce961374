// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of lwp/io.h one by one: results and errors as POSIX has them, and that they block the LWP only.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <lwp/io.hpp>

#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

std::string bytes(std::size_t n, unsigned seed = 1) {
	std::string s(n, '\0');
	dice d(seed);
	for (char &c : s) {
		c = static_cast<char>(d.next());
	}
	return s;
}

std::string temporary_file() {
	char name[] = "/tmp/lwp_io_XXXXXX";
	const int fd = mkstemp(name);
	EXPECT_GE(fd, 0);
	close(fd);
	return name;
}

}  // namespace

TEST(IoRead, BlocksTheLwpOnlyUntilThereIsSomething) {
	pipe_pair p;
	char buffer[8] = {};
	ssize_t got = -2;
	subject s([&](subject &self) {
		self.about_to_block();
		got = lwp_read(p.out, buffer, sizeof(buffer));
	});
	s.await_blocked();
	EXPECT_EQ(lwp_write(p.in, "hello", 5), 5);
	collect(s.lid());
	EXPECT_EQ(got, 5);
	EXPECT_STREQ(buffer, "hello");
}

TEST(IoRead, EndOfFileIsZero) {
	pipe_pair p;
	EXPECT_EQ(lwp_close(p.take_in()), 0);
	char c;
	EXPECT_EQ(lwp_read(p.out, &c, 1), 0);
}

TEST(IoRead, NonblockingDescriptorGivesEagain) {
	pipe_pair p(O_NONBLOCK);
	char c;
	EXPECT_EQ(errno_of(lwp_read(p.out, &c, 1)), EAGAIN);
	socket_pair s(SOCK_STREAM | SOCK_NONBLOCK);
	EXPECT_EQ(errno_of(lwp_read(s.a, &c, 1)), EAGAIN);
	EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, 0)), EAGAIN);
}

// What was found out about a descriptor a moment ago holds for a moment only.
TEST(IoRead, ModesAndTimeoutsThatChangeAreSeen) {
	for (int i = 0; i < 5; i++) {
		socket_pair s(SOCK_STREAM);
		subject reader([&](subject &self) {
			char c;
			for (int k = 0; k < 3; k++) {  // each waits, in blocking mode and for as long as it takes
				self.about_to_block();
				EXPECT_EQ(lwp_recv(s.a, &c, 1, 0), 1);
			}
		});
		for (int k = 0; k < 3; k++) {
			reader.await_blocked();
			EXPECT_EQ(lwp_send(s.b, "x", 1, 0), 1);
		}
		collect(reader.lid());
		char c;
		const timeval tv{0, 1000};
		if (i % 2 == 0) {
			const int flags = fcntl(s.a, F_GETFL);
			EXPECT_EQ(fcntl(s.a, F_SETFL, flags | O_NONBLOCK), 0);
		} else {
			EXPECT_EQ(setsockopt(s.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
		}
		EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, 0)), EAGAIN);
	}
}

TEST(IoRead, Errors) {
	pipe_pair p;
	char c;
	EXPECT_EQ(errno_of(lwp_read(-1, &c, 1)), EBADF);
	EXPECT_EQ(errno_of(lwp_read(9999, &c, 1)), EBADF);
	EXPECT_EQ(errno_of(lwp_read(p.in, &c, 1)), EBADF);  // not open for reading
	EXPECT_EQ(errno_of(lwp_pread(p.out, &c, 1, 0)), ESPIPE);
	EXPECT_EQ(errno_of(lwp_pread(p.out, &c, 1, -1)), EINVAL);
	EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
	EXPECT_EQ(errno_of(lwp_read(p.out, nullptr, 1)), EFAULT);
	const int directory = lwp_openat(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY);
	ASSERT_GE(directory, 0);
	EXPECT_EQ(errno_of(lwp_read(directory, &c, 1)), EISDIR);
	EXPECT_EQ(lwp_close(directory), 0);
}

TEST(IoReadv, ScattersInOrder) {
	pipe_pair p;
	EXPECT_EQ(lwp_write(p.in, "abcdef", 6), 6);
	char a[2], b[8] = {};
	const iovec iov[] = {{a, 2}, {b, 8}};
	EXPECT_EQ(lwp_readv(p.out, iov, 2), 6);
	EXPECT_EQ(std::string(a, 2) + b, "abcdef");
	EXPECT_EQ(errno_of(lwp_readv(p.out, iov, -1)), EINVAL);
}

// More than a pipe holds: the writer goes to sleep in the middle.
TEST(IoWrite, AllOfItIsWrittenToABlockingPipe) {
	pipe_pair p;
	const std::string out = bytes(1 << 20);
	ssize_t wrote = 0;
	const lwpid_t writer = spawn([&] {
		wrote = lwp_write(p.in, out.data(), out.size());
		EXPECT_EQ(lwp_close(p.take_in()), 0);
	});
	EXPECT_EQ(read_all(p.out), out);
	collect(writer);
	EXPECT_EQ(wrote, static_cast<ssize_t>(out.size()));
}

TEST(IoWrite, AllOfSomeBuffersIsWritten) {
	socket_pair s(SOCK_STREAM);
	const std::string a = bytes(300000, 1), b = bytes(10, 2), c = bytes(700000, 3);
	ssize_t wrote = 0, sent = 0;
	const lwpid_t writer = spawn([&] {
		const iovec iov[] = {{const_cast<char *>(a.data()), a.size()}, {nullptr, 0}, {const_cast<char *>(b.data()), b.size()},
		    {const_cast<char *>(c.data()), c.size()}};
		wrote = lwp_writev(s.a, iov, 4);
		msghdr m{};
		m.msg_iov = const_cast<iovec *>(iov);
		m.msg_iovlen = 4;
		sent = lwp_sendmsg(s.a, &m, 0);
		EXPECT_EQ(lwp_close(s.take_a()), 0);
	});
	EXPECT_TRUE(read_all(s.b) == a + b + c + a + b + c);
	collect(writer);
	EXPECT_EQ(wrote, static_cast<ssize_t>(a.size() + b.size() + c.size()));
	EXPECT_EQ(sent, wrote);
}

TEST(IoWrite, NonblockingDescriptorTakesWhatFits) {
	pipe_pair p(O_NONBLOCK);
	const std::string out = bytes(1 << 20);
	const ssize_t n = lwp_write(p.in, out.data(), out.size());
	EXPECT_GT(n, 0);
	EXPECT_LT(n, static_cast<ssize_t>(out.size()));
	EXPECT_EQ(errno_of(lwp_write(p.in, "x", 1)), EAGAIN);
}

TEST(IoWrite, EpipeWhereSigpipeIsIgnored) {
	const auto old = signal(SIGPIPE, SIG_IGN);
	pipe_pair p;
	EXPECT_EQ(lwp_close(p.take_out()), 0);
	EXPECT_EQ(errno_of(lwp_write(p.in, "x", 1)), EPIPE);
	socket_pair s(SOCK_STREAM);
	EXPECT_EQ(lwp_close(s.take_b()), 0);
	EXPECT_EQ(errno_of(lwp_send(s.a, "x", 1, 0)), EPIPE);
	signal(SIGPIPE, old);
	EXPECT_EQ(errno_of(lwp_send(s.a, "x", 1, MSG_NOSIGNAL)), EPIPE);
}

TEST(IoFile, ReadsAndWritesAtPositions) {
	const std::string name = temporary_file();
	const int fd = lwp_openat(AT_FDCWD, name.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	const std::string out = bytes(200000);
	EXPECT_EQ(lwp_write(fd, out.data(), out.size()), static_cast<ssize_t>(out.size()));
	EXPECT_EQ(lwp_pwrite(fd, "xyz", 3, 100), 3);
	EXPECT_EQ(lwp_fsync(fd), 0);
	EXPECT_EQ(lwp_fdatasync(fd), 0);
	std::string in(out.size() + 100, '\0');
	EXPECT_EQ(lwp_pread(fd, in.data(), in.size(), 0), static_cast<ssize_t>(out.size()));
	in.resize(out.size());
	EXPECT_EQ(in.substr(100, 3), "xyz");
	EXPECT_EQ(in.substr(103), out.substr(103));
	char c;
	EXPECT_EQ(lwp_read(fd, &c, 1), 0);  // the position is at the end, where the write left it
	EXPECT_EQ(lseek(fd, 100, SEEK_SET), 100);
	char xyz[3];
	EXPECT_EQ(lwp_read(fd, xyz, 3), 3);
	EXPECT_EQ(std::string(xyz, 3), "xyz");
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 103);
	EXPECT_EQ(lwp_close(fd), 0);
	unlink(name.c_str());
}

TEST(IoOpenat, Errors) {
	EXPECT_EQ(error_of(lwp_openat(AT_FDCWD, "/nowhere/at/all", O_RDONLY)), ENOENT);
	EXPECT_EQ(error_of(lwp_openat(AT_FDCWD, "/tmp", O_WRONLY)), EISDIR);
	EXPECT_EQ(error_of(lwp_openat(9999, "x", O_RDONLY)), EBADF);
	EXPECT_EQ(error_of(lwp_fsync(9999)), EBADF);
	pipe_pair p;
	EXPECT_EQ(error_of(lwp_fsync(p.out)), EINVAL);
}

TEST(IoClose, Errors) {
	EXPECT_EQ(error_of(lwp_close(-1)), EBADF);
	EXPECT_EQ(error_of(lwp_close(9999)), EBADF);
}

TEST(IoSocket, AcceptConnectSendReceive) {
	listener server;
	int accepted = -1;
	sockaddr_in peer{};
	socklen_t size = sizeof(peer);
	const lwpid_t acceptor = spawn([&] { accepted = lwp_accept4(server.fd, reinterpret_cast<sockaddr *>(&peer), &size, SOCK_CLOEXEC); });
	const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT_EQ(lwp_connect(client, server.address(), server.length()), 0);
	collect(acceptor);
	ASSERT_GE(accepted, 0);
	EXPECT_EQ(size, sizeof(peer));
	EXPECT_EQ(peer.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	EXPECT_NE(fcntl(accepted, F_GETFD) & FD_CLOEXEC, 0);
	EXPECT_EQ(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
	EXPECT_EQ(fcntl(server.fd, F_GETFL) & O_NONBLOCK, 0);
	EXPECT_EQ(lwp_send(client, "ping", 4, 0), 4);
	char buffer[8];
	EXPECT_EQ(lwp_recv(accepted, buffer, 2, MSG_PEEK), 2);
	EXPECT_EQ(lwp_recv(accepted, buffer, 8, 0), 4);
	EXPECT_EQ(errno_of(lwp_recv(accepted, buffer, 8, MSG_DONTWAIT)), EAGAIN);
	EXPECT_EQ(lwp_close(client), 0);
	EXPECT_EQ(lwp_recv(accepted, buffer, 8, 0), 0);
	EXPECT_EQ(lwp_close(accepted), 0);
}

TEST(IoSocket, ConnectErrors) {
	sockaddr_in nobody{};
	{
		const listener gone;
		nobody = gone.in;
	}
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT_EQ(error_of(lwp_connect(fd, reinterpret_cast<sockaddr *>(&nobody), sizeof(nobody))), ECONNREFUSED);
	EXPECT_EQ(lwp_close(fd), 0);
	const listener server;
	const int impatient = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int error = error_of(lwp_connect(impatient, server.address(), server.length()));
	EXPECT_TRUE(error == EINPROGRESS || error == 0) << error;
	EXPECT_EQ(lwp_close(impatient), 0);
	pipe_pair p;
	EXPECT_EQ(error_of(lwp_connect(p.out, server.address(), server.length())), ENOTSOCK);
	EXPECT_EQ(error_of(lwp_accept4(p.out, nullptr, nullptr, 0)), ENOTSOCK);
	const int impatient_server = fcntl(server.fd, F_GETFL);
	EXPECT_EQ(fcntl(server.fd, F_SETFL, impatient_server | O_NONBLOCK), 0);
	int got = -1;
	while ((got = lwp_accept4(server.fd, nullptr, nullptr, SOCK_CLOEXEC)) >= 0) {
		EXPECT_EQ(lwp_close(got), 0);
	}
	EXPECT_EQ(error_of(got), EAGAIN);
}

TEST(IoSocket, WaitallGathersAll) {
	socket_pair s(SOCK_STREAM);
	std::string in(200000, '\0');
	const std::string out = bytes(in.size());
	const lwpid_t writer = spawn([&] {
		for (std::size_t i = 0; i < out.size(); i += 10000) {
			EXPECT_EQ(lwp_send(s.a, out.data() + i, 10000, 0), 10000);
			lwp_yield();
		}
	});
	EXPECT_EQ(lwp_recv(s.b, in.data(), in.size(), MSG_WAITALL), static_cast<ssize_t>(in.size()));
	EXPECT_TRUE(in == out);
	collect(writer);
}

// A message, too: by a ring the kernel waits for all of it, otherwise we do.  A datagram is what it is.
TEST(IoSocket, WaitallGathersAWholeMessage) {
	const auto gather = [] {
		socket_pair s(SOCK_STREAM), d(SOCK_DGRAM);
		const std::string out = bytes(200000);
		const lwpid_t writer = spawn([&] {
			for (std::size_t i = 0; i < out.size(); i += 10000) {
				EXPECT_EQ(lwp_send(s.a, out.data() + i, 10000, 0), 10000);
				lwp_yield();
			}
			EXPECT_EQ(lwp_close(s.take_a()), 0);
		});
		std::string in(out.size(), '\0');
		iovec iov[] = {{in.data(), 70000}, {in.data() + 70000, 80000}};
		msghdr m{};
		m.msg_iov = iov;
		m.msg_iovlen = 2;
		EXPECT_EQ(lwp_recvmsg(s.b, &m, MSG_WAITALL), 150000);
		sockaddr_storage from{};
		socklen_t size = sizeof(from);
		EXPECT_EQ(lwp_recvfrom(s.b, in.data() + 150000, 60000, MSG_WAITALL, reinterpret_cast<sockaddr *>(&from), &size), 50000);
		EXPECT_TRUE(in == out);
		EXPECT_EQ(lwp_send(d.a, "abc", 3, 0), 3);
		EXPECT_EQ(lwp_recvmsg(d.b, &m, MSG_WAITALL), 3);
		collect(writer);
	};
	gather();
	std::atomic<bool> done{false};
	std::thread outside([&] {
		gather();
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
}

// What is in the queue of errors, and what is urgent, is there or not: these calls never wait.
TEST(IoSocket, ErrorsAndUrgentBytesAreNotWaitedFor) {
	const auto ask = [](int fd) {
		char c;
		iovec iov{&c, 1};
		msghdr m{};
		m.msg_iov = &iov;
		m.msg_iovlen = 1;
		EXPECT_EQ(errno_of(lwp_recvmsg(fd, &m, MSG_ERRQUEUE)), EAGAIN);
		EXPECT_EQ(errno_of(lwp_recv(fd, &c, 1, MSG_OOB)), EINVAL);
	};
	listener server;
	const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT_EQ(lwp_connect(client, server.address(), server.length()), 0);
	ask(client);
	std::thread([&] { ask(client); }).join();
	EXPECT_EQ(lwp_close(client), 0);
}

TEST(IoSocket, DatagramsKeepTheirAddresses) {
	const int a = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), b = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const sockaddr_in at_a = bind_somewhere(a), at_b = bind_somewhere(b);
	char buffer[16];
	sockaddr_in from{};
	socklen_t size = sizeof(from);
	ssize_t got = -1;
	subject s([&](subject &self) {
		self.about_to_block();
		got = lwp_recvfrom(b, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr *>(&from), &size);
	});
	s.await_blocked();
	EXPECT_EQ(lwp_sendto(a, "datagram", 8, 0, reinterpret_cast<const sockaddr *>(&at_b), sizeof(at_b)), 8);
	collect(s.lid());
	EXPECT_EQ(got, 8);
	EXPECT_EQ(from.sin_port, at_a.sin_port);
	EXPECT_EQ(size, sizeof(from));
	iovec iov{buffer, 4};
	msghdr m{};
	m.msg_iov = &iov;
	m.msg_iovlen = 1;
	EXPECT_EQ(lwp_sendto(a, "datagram", 8, 0, reinterpret_cast<const sockaddr *>(&at_b), sizeof(at_b)), 8);
	EXPECT_EQ(lwp_recvmsg(b, &m, 0), 4);
	EXPECT_NE(m.msg_flags & MSG_TRUNC, 0);
	EXPECT_EQ(lwp_close(a), 0);
	EXPECT_EQ(lwp_close(b), 0);
}

TEST(IoSocket, SocketTimeoutsAreKept) {
	socket_pair s(SOCK_STREAM);
	const timeval tv{0, 30000};
	EXPECT_EQ(setsockopt(s.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	EXPECT_EQ(setsockopt(s.a, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	char c;
	stopwatch w;
	EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, 0)), EAGAIN);
	EXPECT_GE(w.ms(), 30);
	w = {};
	EXPECT_EQ(errno_of(lwp_read(s.a, &c, 1)), EAGAIN);
	EXPECT_GE(w.ms(), 30);
	const std::string much = bytes(4 << 20);
	w = {};
	const ssize_t n = lwp_send(s.a, much.data(), much.size(), 0);
	EXPECT_GT(n, 0);
	EXPECT_LT(n, static_cast<ssize_t>(much.size()));
	EXPECT_GE(w.ms(), 30);
	EXPECT_EQ(errno_of(lwp_send(s.a, "x", 1, 0)), EAGAIN);
	listener l;
	EXPECT_EQ(setsockopt(l.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	EXPECT_EQ(error_of(lwp_accept4(l.fd, nullptr, nullptr, 0)), EAGAIN);
	// Kept although the vCPU never halts.
	std::atomic<bool> over{false};
	const lwpid_t busy = spawn([&] {
		while (!over) {
			lwp_yield();
		}
	});
	EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, 0)), EAGAIN);
	over = true;
	collect(busy);
}

TEST(IoWakeup, InterruptsWithEintr) {
	pipe_pair p;
	char c;
	int error = -1;
	subject s([&](subject &self) {
		self.about_to_block();
		error = errno_of(lwp_read(p.out, &c, 1));
	});
	s.await_blocked();
	EXPECT_EQ(error_of(_lwp_wakeup(s.lid())), 0);
	collect(s.lid());
	EXPECT_EQ(error, EINTR);
	EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
	EXPECT_EQ(lwp_read(p.out, &c, 1), 1);  // what came later is still there
}

TEST(IoSuspend, StopsAndGoesOn) {
	pipe_pair p;
	char c = 0;
	subject s([&](subject &self) {
		self.about_to_block();
		EXPECT_EQ(lwp_read(p.out, &c, 1), 1);
	});
	s.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(s.lid())), 0);
	EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	EXPECT_TRUE(alive(s.lid()));
	EXPECT_EQ(error_of(_lwp_continue(s.lid())), 0);
	collect(s.lid());
	EXPECT_EQ(c, 'x');
}

TEST(IoPoll, SaysWhatIsReady) {
	pipe_pair p;
	socket_pair s(SOCK_STREAM);
	pollfd fds[] = {{p.out, POLLIN, 0}, {-1, POLLIN, 0}, {s.a, POLLIN, 0}, {s.a, POLLIN, 0}};
	EXPECT_EQ(lwp_poll(fds, 4, 0), 0);
	stopwatch w;
	EXPECT_EQ(lwp_poll(fds, 4, 20), 0);
	EXPECT_GE(w.ms(), 20);
	EXPECT_EQ(lwp_poll(fds, 1, 5), 0);
	EXPECT_EQ(lwp_poll(nullptr, 0, 5), 0);
	int n = -1;
	subject waiting([&](subject &self) {
		self.about_to_block();
		n = lwp_poll(fds, 4, -1);
	});
	waiting.await_blocked();
	EXPECT_EQ(lwp_send(s.b, "x", 1, 0), 1);
	collect(waiting.lid());
	EXPECT_EQ(n, 2);
	EXPECT_EQ(fds[0].revents, 0);
	EXPECT_EQ(fds[2].revents, POLLIN);
	EXPECT_EQ(fds[3].revents, POLLIN);
	pollfd bad{9999, POLLIN, 0};
	EXPECT_EQ(lwp_poll(&bad, 1, -1), 1);
	EXPECT_EQ(bad.revents, POLLNVAL);
}

TEST(IoSelect, SaysWhatIsReady) {
	pipe_pair p;
	fd_set in, out;
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(p.out, &in);
	FD_SET(p.in, &out);
	timeval tv{1, 0};
	EXPECT_EQ(lwp_select(p.in + p.out, &in, &out, nullptr, &tv), 1);
	EXPECT_FALSE(FD_ISSET(p.out, &in));
	EXPECT_TRUE(FD_ISSET(p.in, &out));
	FD_SET(p.out, &in);
	tv = {0, 10000};
	EXPECT_EQ(lwp_select(p.out + 1, &in, nullptr, nullptr, &tv), 0);
	EXPECT_EQ(tv.tv_usec, 0);
	EXPECT_EQ(error_of(lwp_select(-1, nullptr, nullptr, nullptr, nullptr)), EINVAL);
}

TEST(IoSendfile, CopiesAndMovesTheOffset) {
	const std::string name = temporary_file();
	const int fd = lwp_openat(AT_FDCWD, name.c_str(), O_RDWR | O_CLOEXEC);
	const std::string out = bytes(300000);
	EXPECT_EQ(lwp_write(fd, out.data(), out.size()), static_cast<ssize_t>(out.size()));
	socket_pair s(SOCK_STREAM);
	off_t offset = 1000;
	ssize_t n = 0;
	const lwpid_t sender = spawn([&] {
		n = lwp_sendfile(s.a, fd, &offset, out.size());
		EXPECT_EQ(lwp_close(s.take_a()), 0);
	});
	EXPECT_TRUE(read_all(s.b) == out.substr(1000));
	collect(sender);
	EXPECT_EQ(n, static_cast<ssize_t>(out.size() - 1000));
	EXPECT_EQ(offset, static_cast<off_t>(out.size()));
	EXPECT_EQ(lwp_close(fd), 0);
	unlink(name.c_str());
}

TEST(IoOther, NanosleepSleepsAndIsInterrupted) {
	stopwatch w;
	const timespec time{0, 20000000};
	EXPECT_EQ(lwp_nanosleep(&time, nullptr), 0);
	EXPECT_GE(w.ms(), 20);
	const timespec bad{0, 1000000000};
	EXPECT_EQ(error_of(lwp_nanosleep(&bad, nullptr)), EINVAL);
	int error = -1;
	timespec left{};
	subject s([&](subject &self) {
		const timespec hour{3600, 0};
		self.about_to_block();
		error = error_of(lwp_nanosleep(&hour, &left));
	});
	s.await_blocked();
	EXPECT_EQ(error_of(_lwp_wakeup(s.lid())), 0);
	collect(s.lid());
	EXPECT_EQ(error, EINTR);
	EXPECT_GT(left.tv_sec, 3000);
}

// The child shares nothing of ours that it could disturb, and what it inherits is closed by exec.
TEST(IoOther, WaitpidForAChildThatExecs) {
	pipe_pair p;
	std::atomic<bool> ran{false};
	const pid_t child = fork();
	if (child == 0) {
		execl("/bin/sh", "sh", "-c", "ls -l /proc/self/fd | grep -c anon_inode", nullptr);
		_exit(99);
	}
	int status = 0;
	const lwpid_t other = spawn([&] { ran = true; });
	EXPECT_EQ(lwp_waitpid(child, &status, 0), child);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 1);  // grep counts none
	collect(other);
	EXPECT_TRUE(ran);
	EXPECT_EQ(error_of(lwp_waitpid(child, &status, 0)), ECHILD);
	EXPECT_EQ(error_of(lwp_waitpid(-1, &status, 0)), ECHILD);
	const pid_t any = fork();
	if (any == 0) {
		_exit(7);
	}
	EXPECT_EQ(lwp_waitpid(-1, &status, 0), any);
	EXPECT_EQ(WEXITSTATUS(status), 7);
	EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
	char c;
	EXPECT_EQ(lwp_read(p.out, &c, 1), 1);
}

TEST(IoOther, GetaddrinfoFindsNumbers) {
	addrinfo hints{}, *result = nullptr;
	hints.ai_flags = AI_NUMERICHOST;
	EXPECT_EQ(lwp_getaddrinfo("127.0.0.1", "80", &hints, &result), 0);
	ASSERT_NE(result, nullptr);
	freeaddrinfo(result);
	EXPECT_EQ(lwp_getaddrinfo("no number", nullptr, &hints, &result), EAI_NONAME);
}

// A kernel thread from outside blocks itself, and meets LWPs at the other end.
TEST(IoForeign, KernelThreadMakesTheCalls) {
	socket_pair s(SOCK_STREAM);
	std::atomic<bool> done{false};
	std::thread outside([&] {
		char c = 0;
		EXPECT_EQ(lwp_read(s.a, &c, 1), 1);
		EXPECT_EQ(lwp_write(s.a, &c, 1), 1);
		pollfd p{s.a, POLLIN, 0};
		EXPECT_EQ(lwp_poll(&p, 1, 5), 0);
		const timespec time{0, 1000};
		EXPECT_EQ(lwp_nanosleep(&time, nullptr), 0);
		addrinfo hints{}, *result = nullptr;
		hints.ai_flags = AI_NUMERICHOST;
		EXPECT_EQ(lwp_getaddrinfo("127.0.0.1", "80", &hints, &result), 0);
		freeaddrinfo(result);
		done = true;
	});
	for (int i = 0; i < 10; i++) {
		lwp_yield();
	}
	char c = 'x';
	EXPECT_EQ(lwp_write(s.b, &c, 1), 1);
	EXPECT_EQ(lwp_read(s.b, &c, 1), 1);
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
}

// It waits by itself, and so keeps modes, flags and timeouts by itself.
TEST(IoForeign, KernelThreadKeepsModesAndTimeouts) {
	std::thread([] {
		char c;
		socket_pair s(SOCK_STREAM);
		const std::string much = bytes(4 << 20);
		EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, MSG_DONTWAIT)), EAGAIN);
		const timeval tv{0, 30000};
		EXPECT_EQ(setsockopt(s.a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
		EXPECT_EQ(setsockopt(s.a, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
		stopwatch w;
		EXPECT_EQ(errno_of(lwp_recv(s.a, &c, 1, 0)), EAGAIN);
		EXPECT_GE(w.ms(), 30);
		const ssize_t n = lwp_send(s.a, much.data(), much.size(), 0);
		EXPECT_GT(n, 0);
		EXPECT_LT(n, static_cast<ssize_t>(much.size()));
		listener l;
		EXPECT_EQ(setsockopt(l.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
		EXPECT_EQ(error_of(lwp_accept4(l.fd, nullptr, nullptr, 0)), EAGAIN);
		EXPECT_EQ(fcntl(l.fd, F_GETFL) & O_NONBLOCK, 0);
		pipe_pair p(O_NONBLOCK);
		EXPECT_EQ(errno_of(lwp_read(p.out, &c, 1)), EAGAIN);
		EXPECT_LT(lwp_write(p.in, much.data(), much.size()), static_cast<ssize_t>(much.size()));
		EXPECT_EQ(errno_of(lwp_write(p.in, "x", 1)), EAGAIN);
	}).join();
}

TEST(IoForeign, KernelThreadAcceptsConnectsAndWritesMuch) {
	listener server;
	const std::string out = bytes(3 << 20);
	std::atomic<bool> done{false};
	std::thread outside([&] {
		const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(lwp_connect(client, server.address(), server.length()), 0);
		const int accepted = lwp_accept4(server.fd, nullptr, nullptr, SOCK_CLOEXEC);
		EXPECT_GE(accepted, 0);
		EXPECT_EQ(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
		EXPECT_EQ(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
		const lwpid_t reader = spawn([&] { EXPECT_TRUE(read_all(accepted) == out); });
		EXPECT_EQ(lwp_write(client, out.data(), out.size()), static_cast<ssize_t>(out.size()));
		EXPECT_EQ(lwp_close(client), 0);
		collect(reader);
		EXPECT_EQ(lwp_close(accepted), 0);
		sockaddr_in nobody{};
		{
			const listener gone;
			nobody = gone.in;
		}
		const int refused = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(error_of(lwp_connect(refused, reinterpret_cast<sockaddr *>(&nobody), sizeof(nobody))), ECONNREFUSED);
		EXPECT_EQ(lwp_close(refused), 0);
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
}

// A file is ready at any time, also one that is not in memory: its bytes come, and not the deadline.
TEST(IoForeign, KernelThreadReadsAFileThatIsNotInMemory) {
	const std::string name = temporary_file(), out = bytes(300000);
	const int fd = lwp_openat(AT_FDCWD, name.c_str(), O_RDWR | O_CLOEXEC);
	EXPECT_EQ(lwp_write(fd, out.data(), out.size()), static_cast<ssize_t>(out.size()));
	EXPECT_EQ(lwp_fsync(fd), 0);
	EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	lwp::file f(fd);
	std::atomic<bool> done{false};
	std::thread outside([&] {
		std::string in(out.size(), '\0');
		std::error_code error;
		EXPECT_EQ(f.read_exactly_at(0, in, error, lwp::within(std::chrono::seconds(30))), in.size());
		EXPECT_FALSE(error) << error.message();
		EXPECT_TRUE(in == out);
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
	unlink(name.c_str());
}
