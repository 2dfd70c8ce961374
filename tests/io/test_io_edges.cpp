// SPDX-License-Identifier: BSD-2-Clause
//
// The edges of lwp/io.h's calls: flags that mean something only together or only for some sockets, sizes and numbers at the end of their range, calls
// without work to do.
// vcpus: 1 2
// io: uring epoll denied
#include "io_support.h"

#include <lwp/io.hpp>
#include <lwp/runtime.hpp>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdint>
#include <dirent.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

/// In this LWP, and in a kernel thread that the library does not know.
template <class Body>
void here_and_outside(Body body) {
	body();
	std::atomic<bool> done{false};
	std::thread outside([&] {
		body();
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
}

/// A TCP connection.
struct connection {
	connection() : client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
		EXPECT_EQ(lwp_connect(client, l.address(), lwp::test::listener::length()), 0);
		server = lwp_accept4(l.fd, nullptr, nullptr, SOCK_CLOEXEC);
		EXPECT_GE(server, 0);
	}
	~connection() {
		drop(client);
		drop(server);
	}
	connection(const connection &) = delete;
	connection &operator=(const connection &) = delete;

	listener l;
	int client, server = -1;
};

unsigned kernel_threads() {
	unsigned n = 0;
	DIR *dir = ::opendir("/proc/self/task");
	while (::readdir(dir) != nullptr) {
		n++;
	}
	::closedir(dir);
	return n;
}

}  // namespace

// MSG_WAITALL is for streams.  One that waited for more would put two messages into one.
TEST(IoWaitall, ADatagramIsWhatItIs) {
	here_and_outside([] {
		for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
			socket_pair s(type);
			char in[10] = {};
			EXPECT_EQ(lwp_send(s.a, "abc", 3, 0), 3);
			EXPECT_EQ(lwp_send(s.a, "defg", 4, 0), 4);
			EXPECT_EQ(lwp_recv(s.b, in, sizeof(in), MSG_WAITALL), 3) << type;
			iovec iov{in, sizeof(in)};
			msghdr m{};
			m.msg_iov = &iov;
			m.msg_iovlen = 1;
			EXPECT_EQ(lwp_recvmsg(s.b, &m, MSG_WAITALL), 4) << type;
			EXPECT_STREQ(in, "defg");
		}
	});
}

// With MSG_PEEK fewer bytes may come than MSG_WAITALL asks for, but never the same ones twice.
TEST(IoWaitall, NothingIsPeekedAtTwice) {
	here_and_outside([] {
		connection c;
		const std::string all = "abcdefghijklm";
		EXPECT_EQ(lwp_send(c.client, all.data(), 3, 0), 3);
		const lwpid_t later = spawn([&] {
			lwp_yield();
			EXPECT_EQ(lwp_send(c.client, all.data() + 3, 10, 0), 10);
		});
		char in[16] = {};
		const ssize_t n = lwp_recv(c.server, in, 10, MSG_PEEK | MSG_WAITALL);
		ASSERT_GE(n, 3);
		EXPECT_EQ(std::string(in, static_cast<std::size_t>(n)), all.substr(0, static_cast<std::size_t>(n)));
		iovec iov{in, 10};
		msghdr m{};
		m.msg_iov = &iov;
		m.msg_iovlen = 1;
		const ssize_t k = lwp_recvmsg(c.server, &m, MSG_PEEK | MSG_WAITALL);
		ASSERT_GE(k, 3);
		EXPECT_EQ(std::string(in, static_cast<std::size_t>(k)), all.substr(0, static_cast<std::size_t>(k)));
		EXPECT_EQ(lwp_recv(c.server, in, all.size(), MSG_WAITALL), static_cast<ssize_t>(all.size()));
		EXPECT_EQ(std::string(in, all.size()), all);
		collect(later);
	});
}

// A size that no result can tell is an error of the caller's, not a long transfer.
TEST(IoSizes, MoreThanAResultCanCount) {
	here_and_outside([] {
		pipe_pair p;
		char c = 'x';
		EXPECT_EQ(lwp_write(p.in, &c, 1), 1);
		for (const std::size_t size : {std::size_t{SSIZE_MAX} + 1, SIZE_MAX}) {
			EXPECT_EQ(errno_of(lwp_write(p.in, &c, size)), EINVAL);
			EXPECT_EQ(errno_of(lwp_read(p.out, &c, size)), EINVAL);
			EXPECT_EQ(errno_of(lwp_read(-1, &c, size)), EBADF);
		}
		char in[8];
		EXPECT_EQ(lwp_read(p.out, in, sizeof(in)), 1);
	});
}

// Nothing to do is no error, and is not waited for.
TEST(IoSizes, NothingToTransfer) {
	here_and_outside([] {
		pipe_pair p;
		socket_pair s(SOCK_STREAM);
		for (const int fd : {p.out, s.a}) {
			EXPECT_EQ(lwp_read(fd, nullptr, 0), 0);
			EXPECT_EQ(lwp_readv(fd, nullptr, 0), 0);
		}
		for (const int fd : {p.in, s.a}) {
			EXPECT_EQ(lwp_write(fd, nullptr, 0), 0);
			EXPECT_EQ(lwp_writev(fd, nullptr, 0), 0);
		}
		EXPECT_EQ(lwp_send(s.a, nullptr, 0, 0), 0);
		EXPECT_EQ(lwp_sendfile(p.in, s.a, nullptr, 0), 0);
		EXPECT_EQ(lwp_poll(nullptr, 0, 0), 0);
		EXPECT_EQ(lwp_poll(nullptr, 0, 1), 0);
		pollfd none{-1, POLLIN, 0};
		EXPECT_EQ(lwp_poll(&none, 1, 1), 0);
	});
}

// An address that nobody has is EFAULT, by whatever the call is carried out.
TEST(IoErrors, AddressesThatNobodyHas) {
	here_and_outside([] {
		pipe_pair p;
		socket_pair s(SOCK_STREAM);
		void *nowhere = reinterpret_cast<void *>(8);
		EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
		EXPECT_EQ(lwp_write(s.a, "x", 1), 1);
		EXPECT_EQ(errno_of(lwp_read(p.out, nowhere, 1)), EFAULT);
		EXPECT_EQ(errno_of(lwp_write(p.in, nowhere, 1)), EFAULT);
		EXPECT_EQ(errno_of(lwp_recv(s.b, nowhere, 1, 0)), EFAULT);
		EXPECT_EQ(errno_of(lwp_recvmsg(s.b, nullptr, 0)), EFAULT);
		EXPECT_EQ(errno_of(lwp_sendmsg(s.b, nullptr, 0)), EFAULT);
		EXPECT_EQ(error_of(lwp_openat(AT_FDCWD, nullptr, O_RDONLY)), EFAULT);
		EXPECT_EQ(error_of(lwp_poll(static_cast<pollfd *>(nowhere), 1, 1)), EFAULT);
		EXPECT_EQ(errno_of(lwp_read(p.out, &nowhere, 1)), -1);  // it is there still
	});
}

// Each end of a FIFO is open when the other one is, and not before.
TEST(IoOpenat, AFifoWaitsForItsOtherEnd) {
	const std::string path = "/tmp/lwp_fifo_" + std::to_string(::getpid());
	ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
	for (const int first : {O_RDONLY, O_WRONLY}) {
		int waits = -1;
		subject s([&](subject &self) {
			self.about_to_block();
			waits = lwp_openat(AT_FDCWD, path.c_str(), first | O_CLOEXEC);
		});
		s.await_blocked();
		EXPECT_EQ(waits, -1) << first;
		const int comes = lwp_openat(AT_FDCWD, path.c_str(), (first == O_RDONLY ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
		EXPECT_GE(comes, 0);
		collect(s.lid());
		EXPECT_GE(waits, 0) << first;
		char c = 0;
		EXPECT_EQ(lwp_write(first == O_RDONLY ? comes : waits, "x", 1), 1);
		EXPECT_EQ(lwp_read(first == O_RDONLY ? waits : comes, &c, 1), 1);
		EXPECT_EQ(lwp_close(waits), 0);
		EXPECT_EQ(lwp_close(comes), 0);
	}
	EXPECT_EQ(error_of(lwp_openat(AT_FDCWD, path.c_str(), O_WRONLY | O_NONBLOCK)), ENXIO);
	const int both = lwp_openat(AT_FDCWD, path.c_str(), O_RDWR | O_CLOEXEC);
	EXPECT_GE(both, 0);
	EXPECT_EQ(lwp_close(both), 0);
	EXPECT_EQ(::unlink(path.c_str()), 0);
}

// Those who wait for the other end leave helper threads for those who come with it, however many they are.
TEST(IoOpenat, ManyFifosAtOnce) {
	constexpr int count = 40;
	const std::string prefix = "/tmp/lwp_fifos_" + std::to_string(::getpid()) + "_";
	std::vector<lwpid_t> all;
	for (const int mode : {O_RDONLY, O_WRONLY}) {
		for (int i = 0; i < count; i++) {
			const std::string path = prefix + std::to_string(i);
			EXPECT_TRUE(::mkfifo(path.c_str(), 0600) == 0 || mode == O_WRONLY);
			all.push_back(spawn([path, mode] {
				const int fd = lwp_openat(AT_FDCWD, path.c_str(), mode | O_CLOEXEC);
				EXPECT_GE(fd, 0);
				char c = 'x';
				EXPECT_EQ(mode == O_RDONLY ? lwp_read(fd, &c, 1) : lwp_write(fd, &c, 1), 1);
				EXPECT_EQ(lwp_close(fd), 0);
			}));
		}
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	for (int i = 0; i < count; i++) {
		EXPECT_EQ(::unlink((prefix + std::to_string(i)).c_str()), 0);
	}
}

// Of a connection on which each receive has to wait the next ones may be taken to have to wait, too.  What they are told is the same.
TEST(IoReceive, AfterManyThatHadToWait) {
	for (int turn = 0; turn < 3; turn++) {
		socket_pair s(SOCK_STREAM);
		char buffer[64];
		ssize_t last = 0;
		const lwpid_t echo = spawn([&] {
			char own[64];
			for (ssize_t n; (n = lwp_recv(s.b, own, sizeof(own), 0)) > 0;) {
				EXPECT_EQ(lwp_send(s.b, own, static_cast<std::size_t>(n), 0), n);
			}
		});
		for (int i = 0; i < 20; i++) {
			EXPECT_EQ(lwp_send(s.a, "xyz", 3, 0), 3);
			EXPECT_EQ(lwp_recv(s.a, buffer, sizeof(buffer), 0), 3);
		}
		switch (turn) {
		case 0:  // its mode has changed
			EXPECT_EQ(::fcntl(s.a, F_SETFL, O_NONBLOCK), 0);
			for (int i = 0; i < 3; i++) {
				EXPECT_EQ(errno_of(lwp_recv(s.a, buffer, sizeof(buffer), 0)), EAGAIN);
			}
			EXPECT_EQ(::fcntl(s.a, F_SETFL, 0), 0);
			break;
		case 1: {  // it has a timeout now
			const timeval timeout{0, 20'000};
			EXPECT_EQ(::setsockopt(s.a, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
			EXPECT_EQ(errno_of(lwp_recv(s.a, buffer, sizeof(buffer), 0)), EAGAIN);
			break;
		}
		default:  // there is something, and more than fits
			EXPECT_EQ(lwp_send(s.a, std::string(100, 'm').data(), 100, 0), 100);
			for (ssize_t got = 0; got < 100; got += last) {
				last = lwp_recv(s.a, buffer, 10, 0);
				ASSERT_GT(last, 0);
			}
		}
		EXPECT_EQ(::shutdown(s.a, SHUT_WR), 0);
		collect(echo);
	}
}

// Who finds something whenever he asks lets others run after some microseconds of that, however long each operation takes.
TEST(IoTurns, AreShortAlsoWhereNothingBlocks) {
	if (lwp::runtime::vcpus() != 1) {
		GTEST_SKIP() << "on several vCPUs nobody waits for anybody's turn";
	}
	constexpr std::size_t much = 1024 * 1024;  // ten microseconds each, or more
	constexpr int rounds = 200, readers = 2;
	int last = -1, in_a_row = 0, most = 0, there = 0;
	bool ended = false;
	std::vector<lwpid_t> all;
	for (int i = 0; i < readers; i++) {
		all.push_back(spawn([&, i] {
			const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
			EXPECT_GE(fd, 0);
			std::vector<char> buffer(much);
			there++;
			for (int round = 0; round < rounds; round++) {
				EXPECT_GT(lwp_read(fd, buffer.data(), much), 0);
				in_a_row = last == i && there == readers ? in_a_row + 1 : 1;
				last = i;
				most = there == readers && !ended ? std::max(most, in_a_row) : most;
			}
			ended = true;
			EXPECT_EQ(lwp_close(fd), 0);
		}));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_LE(most, 4);
}

// Those who wait for any child leave helper threads for calls that have an end, however many they are.
TEST(IoWaitpid, ManyWaitForAnyChild) {
	constexpr int count = 40;
	const pid_t child = ::fork();
	ASSERT_GE(child, 0);
	if (child == 0) {
		for (;;) {
			::pause();
		}
	}
	std::atomic<int> waiting{0}, found{0}, found_none{0};
	std::vector<lwpid_t> all;
	for (int i = 0; i < count; i++) {
		all.push_back(spawn([&, i] {
			waiting++;
			const pid_t got = lwp_waitpid(-1, nullptr, i % 2 == 0 ? 0 : WUNTRACED);
			found += got == child ? 1 : 0;
			found_none += got == -1 && get_errno() == ECHILD ? 1 : 0;
		}));
	}
	EXPECT_TRUE(wait_until([&] { return waiting == count; }));
	std::atomic<bool> looked_up{false}, written{false};
	all.push_back(spawn([&] {
		addrinfo hints{}, *result = nullptr;
		hints.ai_flags = AI_NUMERICHOST;
		EXPECT_EQ(lwp_getaddrinfo("127.0.0.1", nullptr, &hints, &result), 0);
		freeaddrinfo(result);
		looked_up = true;
	}));
	all.push_back(spawn([&] {
		const std::string path = "/tmp/lwp_beside_" + std::to_string(::getpid());
		const int fd = lwp_openat(AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		EXPECT_GE(fd, 0);
		EXPECT_EQ(lwp_fsync(fd), 0);
		EXPECT_EQ(lwp_close(fd), 0);
		EXPECT_EQ(::unlink(path.c_str()), 0);
		written = true;
	}));
	EXPECT_TRUE(wait_until([&] { return looked_up && written; }));
	EXPECT_EQ(::kill(child, SIGKILL), 0);
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(found, 1);
	EXPECT_EQ(found_none, count - 1);
}

// The table of descriptors goes as far as descriptors do.
TEST(IoNumbers, TheHighestDescriptorToo) {
	rlimit old{}, most{};
	ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
	most = {old.rlim_max, old.rlim_max};
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &most), 0);
	{
		pipe_pair p;
		const int high = ::fcntl(p.out, F_DUPFD_CLOEXEC, static_cast<int>(most.rlim_max) - 1);
		ASSERT_EQ(high, static_cast<int>(most.rlim_max) - 1);
		char c = 0;
		EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
		EXPECT_EQ(lwp_read(high, &c, 1), 1);
		ssize_t got = 0;
		subject s([&](subject &self) {
			self.about_to_block();
			got = errno_of(lwp_read(high, &c, 1));
		});
		s.await_blocked();
		EXPECT_EQ(lwp_close(high), 0);
		collect(s.lid());
		EXPECT_EQ(got, ECANCELED);
	}
	EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
}

// What the page cache has is read by the vCPU's own kernel thread: a hand-over to another costs twenty times as much.
TEST(IoFile, WhatIsInThePageCacheNeedsNoKernelThread) {
	char name[] = "/tmp/lwp_io_XXXXXX";
	const int fd = ::mkstemp(name);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(::unlink(name), 0);
	std::string block(4096, 'x');
	for (int i = 0; i < 64; i++) {
		EXPECT_EQ(::write(fd, block.data(), block.size()), 4096);
	}
	const auto cached = [&](off_t at) {
		iovec iov{block.data(), block.size()};
		return ::preadv2(fd, &iov, 1, at, RWF_NOWAIT) == 4096;
	};
	EXPECT_EQ(lwp_pread(fd, block.data(), block.size(), 0), 4096);
	const unsigned before = kernel_threads();
	bool all = true;
	for (off_t at = 0; at < 64 * 4096; at += 4096) {
		all = all && cached(at);
		EXPECT_EQ(lwp_pread(fd, block.data(), block.size(), at), 4096);
	}
	if (all) {  // else this file system cannot say, or has given the pages back
		EXPECT_EQ(kernel_threads(), before);
	}
	EXPECT_EQ(lwp_close(fd), 0);
}

// A flood of connections that are reset fills the listener's queue.  Who is connected already is served among them, not after them.
TEST(IoFairness, WhoIsConnectedDoesNotWaitBehindTheBacklog) {
	constexpr unsigned flood = 200;
	connection kept;
	unsigned served = 0, before = flood;  // under lock
	lwp::mutex lock;
	subject s([&](subject &self) {
		char c;
		self.about_to_block();
		EXPECT_EQ(lwp_recv(kept.server, &c, 1, 0), 1);
		EXPECT_EQ(lwp_send(kept.server, &c, 1, 0), 1);
		const std::lock_guard hold(lock);
		before = served;
	});
	s.await_blocked();
	for (unsigned i = 0; i < flood; i++) {
		const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(::connect(fd, kept.l.address(), lwp::test::listener::length()), 0);
		const linger at_once{1, 0};
		EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
		EXPECT_EQ(::close(fd), 0);
	}
	const lwpid_t acceptor = spawn([&] {
		std::vector<lwpid_t> all;
		for (unsigned i = 0; i < flood; i++) {
			const int fd = lwp_accept4(kept.l.fd, nullptr, nullptr, SOCK_CLOEXEC);
			EXPECT_GE(fd, 0);
			all.push_back(spawn([&, fd] {
				char c;
				EXPECT_EQ(errno_of(lwp_recv(fd, &c, 1, 0)), ECONNRESET);
				EXPECT_EQ(lwp_close(fd), 0);
				const std::lock_guard hold(lock);
				served++;
			}));
		}
		for (const lwpid_t lid : all) {
			collect(lid);
		}
	});
	EXPECT_EQ(::send(kept.client, "x", 1, 0), 1);
	collect(s.lid());
	collect(acceptor);
	EXPECT_EQ(served, flood);
	if (lwp::runtime::vcpus() == 1) {  // else the kernel has a say in it
		EXPECT_LT(before, flood / 2);
	}
}
