// SPDX-License-Identifier: BSD-2-Clause
//
// fork(2) and exec with rings that are at work.  The child has none of them: their memory is not copied, and exec closes what it inherits.  It may make system
// calls, exec, _exit.  What the parent has under way goes on, whatever the child does and however long it lives.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <memory>
#include <sys/wait.h>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

/// An LWP that reads what it is sent, byte after byte, until the end.
struct receiver {
	receiver() : lid(spawn([this] { got = read_all(p.out); })) {}
	void send(char c) const { EXPECT_EQ(lwp_write(p.in, &c, 1), 1); }
	std::string finish() {
		drop(p.take_in());
		collect(lid);
		return got;
	}

	pipe_pair p;
	std::string got;
	lwpid_t lid;
};

int status_of(pid_t child) {
	int status = -1;
	EXPECT_EQ(lwp_waitpid(child, &status, 0), child);
	return status;
}

}  // namespace

// The child lives on while the parent's operations, begun before the fork, end.
TEST(IoFork, OperationsOfTheParentGoOn) {
	receiver one, two;
	pipe_pair leash;
	one.send('a');
	const pid_t child = ::fork();
	if (child == 0) {
		::close(leash.in);
		::close(one.p.in);
		::close(two.p.in);
		char c;
		_exit(::read(leash.out, &c, 1) == 0 ? 7 : 8);
	}
	ASSERT_GT(child, 0);
	one.send('b');
	two.send('c');
	EXPECT_EQ(one.finish(), "ab");
	EXPECT_EQ(two.finish(), "c");
	drop(leash.take_in());
	EXPECT_EQ(WEXITSTATUS(status_of(child)), 7);
}

// The child uses the descriptors by plain calls; both have the same open files.
TEST(IoFork, TheChildMayMakeSystemCalls) {
	socket_pair s(SOCK_STREAM);
	std::string got;
	const lwpid_t reader = spawn([&] { got = read_all(s.a); });
	for (int i = 0; i < 10; i++) {
		const pid_t child = ::fork();
		if (child == 0) {
			_exit(::write(s.b, "x", 1) == 1 ? 0 : 1);
		}
		EXPECT_EQ(status_of(child), 0);
	}
	drop(s.take_b());
	collect(reader);
	EXPECT_EQ(got, std::string(10, 'x'));
}

// Forks in the midst of traffic, some of whose requests stand in the ring and are not submitted yet: nobody's are carried out twice.
TEST(IoFork, ForksInTraffic) {
	constexpr unsigned talkers = 10;
	const std::size_t forks = LWP_TEST_ASAN || LWP_TEST_TSAN ? 5 : 20;
	std::atomic<bool> over{false};
	std::atomic<unsigned> wrong{0};
	std::vector<std::unique_ptr<socket_pair>> pairs;
	std::vector<lwpid_t> all;
	for (unsigned i = 0; i < talkers; i++) {
		pairs.push_back(std::make_unique<socket_pair>(SOCK_STREAM));
		socket_pair &s = *pairs.back();
		all.push_back(spawn([&] {
			for (unsigned sent = 0, got = 0; !over; sent++) {
				wrong += lwp_send(s.a, &sent, sizeof(sent), 0) != static_cast<ssize_t>(sizeof(sent));
				wrong += lwp_recv(s.a, &got, sizeof(got), MSG_WAITALL) != static_cast<ssize_t>(sizeof(got)) || got != sent;
			}
			EXPECT_EQ(::shutdown(s.a, SHUT_WR), 0);
		}));
		all.push_back(spawn([&] {
			for (unsigned n; lwp_recv(s.b, &n, sizeof(n), MSG_WAITALL) == static_cast<ssize_t>(sizeof(n));) {
				wrong += lwp_send(s.b, &n, sizeof(n), 0) != static_cast<ssize_t>(sizeof(n));
			}
		}));
	}
	for (std::size_t i = 0; i < forks; i++) {
		const pid_t child = ::fork();
		if (child == 0) {
			if (i % 2 == 0) {
				_exit(0);
			}
			execl("/bin/true", "true", nullptr);
			_exit(99);
		}
		EXPECT_EQ(status_of(child), 0);
	}
	over = true;
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(wrong, 0U);
}
