// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_close() beside other closes of the same number.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

/// By a raw system call: ThreadSanitizer follows descriptors from the C library's calls to close(2)'s, and the library closes by itself.
int new_eventfd(int flags) { return static_cast<int>(::syscall(SYS_eventfd2, 0, flags)); }

const bool touched = touch_runtime();

/// A connection whose close(2) takes until the peer has read, or some seconds: it lingers, and the peer's window is full.  The kernel frees the
/// number at the beginning of that.
struct lingering {
	lingering() {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(lwp_connect(fd, server.address(), server.length()), 0);
		peer = lwp_accept4(server.fd, nullptr, nullptr, SOCK_CLOEXEC);
		const linger l{1, 3};
		EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
		const std::string much(1'000'000, 'x');
		while (::send(fd, much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
		}
	}
	~lingering() { drop(peer); }
	lingering(const lingering &) = delete;
	lingering &operator=(const lingering &) = delete;

	listener server;
	int fd, peer;
};

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

// close(2) of A runs, the number is free, B gets it and is closed: that is no second close of A.  B must be closed, too, and not leak.
TEST(Close, OfANewOwnerWhileTheOldCloseRuns) {
	lingering a;
	pipe_pair b;
	std::atomic<bool> closed{false};
	std::thread closer([&] {
		EXPECT_EQ(lwp_close(a.fd), 0);
		closed = true;
	});
	EXPECT_TRUE(wait_until([&] { return closed || !is_open(a.fd); }));
	const int number = ::fcntl(b.in, F_DUPFD_CLOEXEC, a.fd);  // the writing end once more
	EXPECT_EQ(lwp_close(number), 0);
	EXPECT_FALSE(is_open(number));
	closer.join();
	drop(b.take_in());
	char c;
	EXPECT_EQ(lwp_read(b.out, &c, 1), 0);  // no writing end is left
}

// Two close one open file: one of them is told so.
TEST(Close, OfAnOpenFileTwiceIsAnError) {
	for (std::size_t i = 0; i < rounds(200); i++) {
		socket_pair s(SOCK_STREAM);
		const int fd = s.take_a();
		int errors[2];
		const lwpid_t other = spawn([&] { errors[1] = error_of(lwp_close(fd)); });
		errors[0] = error_of(lwp_close(fd));
		collect(other);
		EXPECT_EQ(errors[0] + errors[1], EBADF);
		EXPECT_FALSE(is_open(fd));
	}
}

// Numbers go round among many that open and close: each close finds its own file.
TEST(Close, NumbersGoRound) {
	std::vector<lwpid_t> all;
	for (int i = 0; i < 8; i++) {
		all.push_back(spawn([] {
			for (std::size_t k = 0; k < rounds(300); k++) {
				const int fd = new_eventfd(EFD_CLOEXEC);
				EXPECT_EQ(error_of(lwp_close(fd)), 0);
			}
		}));
	}
	std::thread outside([] {
		for (std::size_t k = 0; k < rounds(300); k++) {
			const int fd = new_eventfd(EFD_CLOEXEC);
			EXPECT_EQ(error_of(lwp_close(fd)), 0);
		}
	});
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	outside.join();
}
