// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of I/O share: pairs of descriptors that close themselves, a listener on the loopback interface, and the filter that denies
// io_uring when the environment says LWP_TEST_DENY_URING.
#pragma once

#include "../support/support.h"

#include <lwp/io.h>

#include <arpa/inet.h>
#include <chrono>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lwp::test {

class stopwatch {
public:
	[[nodiscard]] long ms() const {
		return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin_).count());
	}

private:
	std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// As error_of(), for calls that return how many bytes: errno of one that failed, -1 of one that did not.
inline int errno_of(ssize_t n) { return n == -1 ? get_errno() : -1; }

inline int take(int &fd) {
	const int was = fd;
	fd = -1;
	return was;
}

inline void drop(int fd) {
	if (fd >= 0) {
		EXPECT_EQ(::close(fd), 0);
	}
}

/// `in` is written to, `out` is read from.
struct pipe_pair {
	explicit pipe_pair(int flags = 0) {
		int fd[2];
		EXPECT_EQ(::pipe2(fd, flags | O_CLOEXEC), 0);
		out = fd[0];
		in = fd[1];
	}
	~pipe_pair() {
		drop(in);
		drop(out);
	}
	pipe_pair(const pipe_pair &) = delete;
	pipe_pair &operator=(const pipe_pair &) = delete;
	int take_in() { return take(in); }
	int take_out() { return take(out); }

	int in = -1, out = -1;
};

struct socket_pair {
	explicit socket_pair(int type) {
		int fd[2];
		EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fd), 0);
		a = fd[0];
		b = fd[1];
	}
	~socket_pair() {
		drop(a);
		drop(b);
	}
	socket_pair(const socket_pair &) = delete;
	socket_pair &operator=(const socket_pair &) = delete;
	int take_a() { return take(a); }
	int take_b() { return take(b); }

	int a = -1, b = -1;
};

inline sockaddr_in bind_somewhere(int fd) {
	sockaddr_in in{};
	in.sin_family = AF_INET;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr *>(&in), sizeof(in)), 0);
	socklen_t size = sizeof(in);
	EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr *>(&in), &size), 0);
	return in;
}

/// Listens on a port of the loopback interface.
struct listener {
	listener() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), in(bind_somewhere(fd)) { EXPECT_EQ(::listen(fd, 1024), 0); }
	~listener() { drop(fd); }
	listener(const listener &) = delete;
	listener &operator=(const listener &) = delete;
	[[nodiscard]] const sockaddr *address() const { return reinterpret_cast<const sockaddr *>(&in); }
	[[nodiscard]] static socklen_t length() { return sizeof(sockaddr_in); }

	int fd;
	sockaddr_in in;
};

/// Until the end of the file.
inline std::string read_all(int fd) {
	std::string all;
	char buffer[10000];
	for (;;) {
		const ssize_t n = lwp_read(fd, buffer, sizeof(buffer));
		EXPECT_GE(n, 0);
		if (n <= 0) {
			return all;
		}
		all.append(buffer, static_cast<std::size_t>(n));
	}
}

/// From here on io_uring_setup(2) fails with EPERM in this process.
inline void deny_uring() {
	sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program{4, code};
	if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		std::perror("seccomp");
		std::abort();
	}
}

/// Before main(), so before there is a vCPU: filters are inherited by threads.
inline const bool uring_denied = [] {
	if (std::getenv("LWP_TEST_DENY_URING") == nullptr) {
		return false;
	}
	deny_uring();
	return true;
}();

}  // namespace lwp::test
