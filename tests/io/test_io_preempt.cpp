// SPDX-License-Identifier: BSD-2-Clause
//
// Operations in flight while LWPs compute that call nothing: they come through, whichever vCPU they were begun on and wherever that is by now.
// vcpus: 1 2 8
// computes: hogs
// io: uring epoll denied
#include "../support/hogs.h"
#include "../support/support.h"

#include <lwp/io.h>

#include <array>
#include <atomic>
#include <deque>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
const bool preempted = with_preemption();

struct ends {
	std::array<int, 2> fd{};
	ends() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd.data()), 0); }
	~ends() {
		(void)lwp_close(fd[0]);
		(void)lwp_close(fd[1]);
	}
	ends(const ends &) = delete;
	ends &operator=(const ends &) = delete;
};

void read_byte(int fd, char expected) {
	char c = 0;
	ASSERT_EQ(lwp_read(fd, &c, 1), 1);
	EXPECT_EQ(c, expected);
}

void write_byte(int fd, char c) { ASSERT_EQ(lwp_write(fd, &c, 1), 1); }

}  // namespace

// Two LWPs that send a byte to and fro; each waits for the other, and both for the vCPU.
TEST(IoPreempt, BytesGoToAndFroBesideHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	constexpr int pairs = 3;
	const int trips = static_cast<int>(rounds(30));
	std::deque<ends> sockets(pairs);
	std::deque<hog> hogs;
	for (unsigned i = 0; i <= lwp::runtime::vcpus(); i++) {
		hogs.emplace_back(static_cast<hog_kind>(i % hog_kinds));
	}
	std::vector<lwp::thread> players;
	for (ends &s : sockets) {
		players.emplace_back([&s, trips] {
			for (int i = 0; i < trips; i++) {
				write_byte(s.fd[0], static_cast<char>(i));
				read_byte(s.fd[0], static_cast<char>(i + 1));
			}
		});
		players.emplace_back([&s, trips] {
			for (int i = 0; i < trips; i++) {
				read_byte(s.fd[1], static_cast<char>(i));
				write_byte(s.fd[1], static_cast<char>(i + 1));
			}
		});
	}
	for (lwp::thread &t : players) {
		t.join();
	}
	for (hog &h : hogs) {
		h.end();
	}
}

// Begun, and ended by a kernel thread that the library does not know, while a hog has the vCPU: the monitor takes the completions.
TEST(IoPreempt, ReadsInFlightEndWhileAHogComputes) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	constexpr int readers = 8;
	for (int round = 0; round < 3; round++) {
		std::deque<ends> sockets(readers);
		std::atomic<int> began{0};
		std::vector<lwp::thread> all;
		for (ends &s : sockets) {
			all.emplace_back(lwp::attributes{.vcpu = 0}, [&s, &began] {
				began++;
				read_byte(s.fd[0], 'x');
			});
		}
		EXPECT_TRUE(wait_until([&] { return began == readers; }));
		std::atomic<bool> computes{false};
		std::atomic<bool> stop{false};
		lwp::thread hog({.vcpu = 0}, [&] {
			while (!stop.load(std::memory_order_relaxed)) {
				computes.store(true, std::memory_order_relaxed);
			}
		});
		std::thread outside([&] {
			while (!computes) {
				std::this_thread::yield();
			}
			for (ends &s : sockets) {
				EXPECT_EQ(::write(s.fd[1], "x", 1), 1);
			}
		});
		for (lwp::thread &t : all) {
			t.join();
		}
		stop = true;
		hog.join();
		outside.join();
	}
}

// With nobody queued behind the hog: its vCPU looks at neither clock nor port, and still sleepers wake and deadlines of operations pass.
TEST(IoPreempt, TimersRunOutWhileAHogComputes) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	ends s;
	std::atomic<bool> stop{false};
	lwp::thread sleeper({.vcpu = 0}, [&] {
		for (int i = 0; i < 5; i++) {
			lwp::this_thread::sleep_for(2ms);
		}
		stop = true;
	});
	lwp::thread hog({.vcpu = 0}, [&] {
		while (!stop.load(std::memory_order_relaxed)) {
		}
	});
	sleeper.join();
	hog.join();
}
