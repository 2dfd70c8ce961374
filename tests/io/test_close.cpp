// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_close() beside other closes of the same number, and what it ends: waits on several descriptors, and those of kernel threads from outside.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <cstring>
#include <functional>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

/// By a raw system call: ThreadSanitizer follows descriptors from the C library's calls to close(2)'s, and the library closes by itself.
int new_eventfd(int flags) { return static_cast<int>(::syscall(SYS_eventfd2, 0, flags)); }

const bool touched = touch_runtime();

/// A connection whose close(2) takes until the peer has read, or a second: it lingers, and the peer's window is full.  The kernel frees the
/// number at the beginning of that.
struct lingering {
	lingering() {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		EXPECT_EQ(lwp_connect(fd, server.address(), server.length()), 0);
		peer = lwp_accept4(server.fd, nullptr, nullptr, SOCK_CLOEXEC);
		const linger l{1, 1};
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

/// A kernel thread from outside that makes a call which is to block.  It is an LWP of ours already when the constructor returns.
class outsider {
public:
	explicit outsider(std::function<void()> call)
	    : thread_([this, call = std::move(call)] {
		      (void)_lwp_self();
		      tid_ = static_cast<int>(::syscall(SYS_gettid));
		      call();
		      over_ = true;
	      }) {
		EXPECT_TRUE(wait_until([this] { return tid_ != 0; }));
		stat_ = ::open(("/proc/self/task/" + std::to_string(tid_) + "/stat").c_str(), O_RDONLY | O_CLOEXEC);
		EXPECT_GE(stat_, 0);
	}
	outsider(const outsider &) = delete;
	outsider &operator=(const outsider &) = delete;
	~outsider() {
		EXPECT_TRUE(wait_until([this] { return over_.load(); })) << "the call did not end";
		thread_.join();
		drop(stat_);
	}

	/// It sleeps in the kernel, in poll(2) or whatever else it waits in.
	void await_asleep() const {
		EXPECT_TRUE(wait_until([this] {
			char text[512] = {};
			return ::pread(stat_, text, sizeof(text) - 1, 0) > 0 && std::strstr(text, ") S ") != nullptr;
		}));
	}

private:
	std::atomic<int> tid_{0};
	std::atomic<bool> over_{false};
	int stat_ = -1;
	std::thread thread_;
};

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

// A wait for several ends when one of them is closed: nobody else would tell it.
TEST(Close, EndsAPollOfSeveral) {
	for (const bool outside : {false, true}) {
		socket_pair s(SOCK_STREAM);
		pipe_pair p;
		const int fd = s.take_a();
		pollfd fds[] = {{p.out, POLLIN, 0}, {fd, POLLIN, 0}, {-1, POLLIN, 0}, {fd, POLLPRI, 0}};
		int n = -1;
		const auto poll = [&] { n = lwp_poll(fds, 4, -1); };
		const auto close = [&] { EXPECT_EQ(lwp_close(fd), 0); };
		if (outside) {
			const outsider o(poll);
			o.await_asleep();
			close();
		} else {
			subject waiting([&](subject &self) {
				self.about_to_block();
				poll();
			});
			waiting.await_blocked();
			close();
			collect(waiting.lid());
		}
		EXPECT_EQ(n, 2);
		EXPECT_EQ(fds[0].revents, 0);
		EXPECT_EQ(fds[1].revents, POLLNVAL);
		EXPECT_EQ(fds[2].revents, 0);
		EXPECT_EQ(fds[3].revents, POLLNVAL);
	}
}

// The number is free again only when the poll has let go of it: a file that gets it is not looked at.
TEST(Close, APollOfSeveralMeetsNoOtherFile) {
	for (std::size_t i = 0; i < rounds(200); i++) {
		pipe_pair a, b, full;
		EXPECT_EQ(::write(full.in, "B", 1), 1);
		pollfd fds[] = {{a.out, POLLIN, 0}, {b.out, POLLIN, 0}};
		int n = -1;
		subject waiting([&](subject &self) {
			self.about_to_block();
			n = lwp_poll(fds, 2, -1);
		});
		waiting.await_blocked();
		const int number = a.take_out();
		EXPECT_EQ(lwp_close(number), 0);
		const int again = ::fcntl(full.out, F_DUPFD_CLOEXEC, number);
		collect(waiting.lid());
		EXPECT_EQ(n, 1);
		EXPECT_EQ(fds[0].revents, POLLNVAL);
		EXPECT_EQ(fds[1].revents, 0);
		drop(again);
	}
}

TEST(Close, EndsASelect) {
	pipe_pair a, b;
	fd_set in;
	FD_ZERO(&in);
	FD_SET(a.out, &in);
	FD_SET(b.out, &in);
	int error = 0;
	subject waiting([&](subject &self) {
		self.about_to_block();
		error = error_of(lwp_select(FD_SETSIZE, &in, nullptr, nullptr, nullptr));
	});
	waiting.await_blocked();
	EXPECT_EQ(lwp_close(b.take_out()), 0);
	collect(waiting.lid());
	EXPECT_EQ(error, EBADF);
}

// Kernel threads from outside wait by themselves; a close ends that as it ends the wait of an LWP, whatever call it is.
TEST(Close, EndsTheWaitsOfKernelThreads) {
	listener server;
	socket_pair s(SOCK_STREAM), full(SOCK_STREAM);
	pipe_pair p, polled;
	const int fd[] = {s.take_a(), take(server.fd), p.take_out(), polled.take_out(), full.take_a()};
	int error[5] = {};
	{
		char c[2];
		const std::string much(4 << 20, 'x');
		pollfd one{fd[3], POLLIN, 0};
		const outsider all[] = {
		    outsider([&] { error[0] = errno_of(lwp_recv(fd[0], &c[0], 1, 0)); }),
		    outsider([&] { error[1] = error_of(lwp_accept4(fd[1], nullptr, nullptr, 0)); }),
		    outsider([&] { error[2] = errno_of(lwp_read(fd[2], &c[1], 1)); }),
		    outsider([&] { error[3] = lwp_poll(&one, 1, -1) == 1 && one.revents == POLLNVAL ? ECANCELED : -1; }),
		    outsider([&] { error[4] = lwp_send(fd[4], much.data(), much.size(), 0) > 0 ? ECANCELED : -1; }),  // what was sent before
		};
		for (const outsider &one_of_them : all) {
			one_of_them.await_asleep();
		}
		for (const int number : fd) {
			EXPECT_EQ(lwp_close(number), 0);
			EXPECT_FALSE(is_open(number));
		}
	}
	for (const int e : error) {
		EXPECT_EQ(e, ECANCELED);
	}
}

// A unix listener whose backlog is full: nothing can be waited for but the clock, and whoever closes the socket.
TEST(Close, EndsAConnectOfAKernelThread) {
	sockaddr_un at{};
	at.sun_family = AF_UNIX;
	socklen_t size = sizeof(at);
	const auto *address = reinterpret_cast<const sockaddr *>(&at);
	const auto new_socket = [] { return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); };
	const int server = new_socket(), first = new_socket(), second = new_socket(), third = new_socket();
	ASSERT_EQ(::bind(server, address, sizeof(at.sun_family)), 0);  // to a name that the kernel chooses
	ASSERT_EQ(::getsockname(server, reinterpret_cast<sockaddr *>(&at), &size), 0);
	ASSERT_EQ(::listen(server, 0), 0);
	EXPECT_EQ(lwp_connect(first, address, size), 0);
	int connected = -1, closed = -1;
	{
		const outsider waits([&] { connected = error_of(lwp_connect(second, address, size)); });
		const outsider is_closed([&] { closed = error_of(lwp_connect(third, address, size)); });
		waits.await_asleep();
		is_closed.await_asleep();
		EXPECT_EQ(lwp_close(third), 0);
		EXPECT_EQ(lwp_close(lwp_accept4(server, nullptr, nullptr, SOCK_CLOEXEC)), 0);  // there is room
	}
	EXPECT_EQ(closed, ECANCELED);
	EXPECT_EQ(connected, 0);
	for (const int fd : {first, second, server}) {
		EXPECT_EQ(lwp_close(fd), 0);
	}
}

// Where no descriptor is left to reach it by, it looks by itself now and then.
TEST(Close, EndsTheWaitOfAKernelThreadWithoutDescriptors) {
	socket_pair s(SOCK_STREAM);
	const int fd = s.take_a();
	gate none_left;
	int error = 0;
	rlimit before{};
	ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
	{
		char c;
		const outsider o([&] {
			none_left.pass();
			error = errno_of(lwp_recv(fd, &c, 1, 0));
		});
		const int lowest = ::dup(s.b);
		drop(lowest);
		const rlimit none{static_cast<rlim_t>(lowest), before.rlim_max};
		ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
		none_left.open();
		o.await_asleep();
		EXPECT_EQ(lwp_close(fd), 0);
	}
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
	EXPECT_TRUE(error == ECANCELED || error == EBADF) << error;
}
