// SPDX-License-Identifier: BSD-2-Clause
//
// Operations in flight on a vCPU whose kernel thread is blocked: they come through while it is.  Each test ends only if they do, because what ends
// the blocked call is done by the LWP that waits for the operation, and it is bound to the same vCPU.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include "../support/support.h"

#include "sched/vcpu.h"

#include <lwp/io.h>

#include <array>
#include <atomic>
#include <memory>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

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

/// Blocks the kernel thread until something comes.
void raw_read(int fd) {
	char c = 0;
	EXPECT_EQ(::read(fd, &c, 1), 1);
}

void raw_write(int fd) { EXPECT_EQ(::write(fd, "x", 1), 1); }

/// Until the vCPU that acts as `v` has so many operations in flight.
void await_in_flight(int v, unsigned n) {
	EXPECT_TRUE(wait_until([&] { return lwp::kern::sched.sd_vcpu[v]->vc_pending == n; }));
}

/// An LWP of vCPU `v` waits for a byte; another blocks that vCPU by `block`, until the first has its byte; a kernel thread from outside sends it
/// once `blocked` is said.
template <class Block>
void in_flight(int v, Block block) {
	ends data;
	ends wake;
	lwp::thread reader({.vcpu = v}, [&] {
		char c = 0;
		EXPECT_EQ(lwp_read(data.fd[0], &c, 1), 1);
		raw_write(wake.fd[1]);
	});
	await_in_flight(v, 1);
	std::atomic<bool> blocked{false};
	std::thread outside([&] {
		while (!blocked) {
			std::this_thread::sleep_for(1ms);
		}
		raw_write(data.fd[1]);
	});
	lwp::thread blocker({.vcpu = v}, [&] { block(blocked, wake.fd[0]); });
	blocker.join();
	reader.join();
	lwp::blocking([&] { outside.join(); });
}

int vcpus() { return static_cast<int>(lwp::runtime::vcpus()); }

}  // namespace

TEST(IoBlocking, CompletionsComeWhileTheVcpuIsInARegion) {
	for (int round = 0; round < 20; round++) {
		in_flight(round % vcpus(), [](std::atomic<bool> &blocked, int fd) {
			lwp::blocking([&] {
				blocked = true;
				raw_read(fd);
			});
		});
	}
}

TEST(IoBlocking, CompletionsComeWhileTheVcpuIsBlockedWithoutHavingSaidSo) {
	for (int round = 0; round < 10; round++) {
		in_flight(round % vcpus(), [](std::atomic<bool> &blocked, int fd) {
			blocked = true;
			raw_read(fd);
		});
	}
}

// A sleep of the C library neither ends early nor keeps the others waiting: rounds go back and forth during it.  For two seconds, where the vCPU is
// the only one.
TEST(IoBlocking, TrafficDuringALongSleep) {
	const unsigned seconds = vcpus() == 1 ? 2 : 1;
	ends e;
	std::atomic<bool> asleep{false};
	std::atomic<bool> awake{false};
	std::atomic<int> during{0};
	lwp::thread ping({.vcpu = 0}, [&] {
		char c = 'x';
		while (!awake) {
			EXPECT_EQ(lwp_write(e.fd[0], &c, 1), 1);
			EXPECT_EQ(lwp_read(e.fd[0], &c, 1), 1);
			during += asleep && !awake ? 1 : 0;
			lwp::this_thread::sleep_for(1ms);
		}
		EXPECT_EQ(::shutdown(e.fd[0], SHUT_RDWR), 0);
	});
	lwp::thread pong({.vcpu = 0}, [&] {
		char c = 0;
		while (lwp_read(e.fd[1], &c, 1) == 1) {
			EXPECT_EQ(lwp_write(e.fd[1], &c, 1), 1);
		}
	});
	lwp::thread sleeper({.vcpu = 0}, [&] {
		asleep = true;
		do {
			const auto begin = std::chrono::steady_clock::now();
			EXPECT_EQ(::sleep(seconds), 0U);  // not one signal disturbs it
			EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(seconds));
		} while (during < 10);
		awake = true;
	});
	sleeper.join();
	ping.join();
	pong.join();
	EXPECT_GE(during, 10);
}

// Deadlines and closes of operations that are in flight on a vCPU that is away.  Each round waits for a deadline that leaves time to get there.
TEST(IoBlocking, OperationsEndWhileTheVcpuIsInARegion) {
	for (int round = 0; round < 4; round++) {
		const int v = round % vcpus();
		ends timed;
		ends closed;
		ends wake;
		std::atomic<bool> timed_out{false};
		lwp::thread by_deadline({.vcpu = v}, [&] {
			pollfd p{timed.fd[0], POLLIN, 0};
			EXPECT_EQ(lwp_poll(&p, 1, 300), 0);
			timed_out = true;
			raw_write(wake.fd[1]);
		});
		lwp::thread by_close({.vcpu = v}, [&] {
			char c = 0;
			EXPECT_EQ(lwp_read(closed.fd[0], &c, 1), -1);
			EXPECT_EQ(get_errno(), ECANCELED);
			raw_write(wake.fd[1]);
		});
		EXPECT_TRUE(wait_until([&] { return timed_out || lwp::kern::sched.sd_vcpu[v]->vc_pending == 2; }));
		std::atomic<bool> inside{false};
		lwp::thread blocker({.vcpu = v}, [&] {
			lwp::blocking([&] {
				inside = true;
				raw_read(wake.fd[0]);
				raw_read(wake.fd[0]);
			});
		});
		EXPECT_TRUE(wait_until([&] { return inside.load(); }));
		EXPECT_EQ(lwp_close(closed.fd[0]), 0);
		closed.fd[0] = -1;
		blocker.join();
		by_deadline.join();
		by_close.join();
	}
}

// Many operations and many regions at a time, on all vCPUs: nothing is lost and nothing comes twice.
TEST(IoBlocking, StormOfRegionsAndTraffic) {
	const int n = static_cast<int>(rounds(200));
	std::vector<lwp::thread> all;
	std::vector<std::unique_ptr<ends>> pairs;
	std::atomic<int> bytes{0};
	for (int k = 0; k < 8; k++) {
		pairs.push_back(std::make_unique<ends>());
		ends *e = pairs.back().get();
		all.emplace_back([&, e] {
			for (int i = 0; i < n; i++) {
				char c = static_cast<char>(i);
				EXPECT_EQ(lwp_write(e->fd[0], &c, 1), 1);
				EXPECT_EQ(lwp_read(e->fd[0], &c, 1), 1);
				EXPECT_EQ(c, static_cast<char>(i + 1));
				if (i % 4 == 0) {
					lwp::blocking([] { std::this_thread::sleep_for(50us); });
				}
			}
		});
		all.emplace_back([&, e] {
			for (int i = 0; i < n; i++) {
				char c = 0;
				EXPECT_EQ(lwp_read(e->fd[1], &c, 1), 1);
				EXPECT_EQ(c, static_cast<char>(i));
				c = static_cast<char>(c + 1);
				if (i % 4 == 2) {
					std::this_thread::sleep_for(50us);  // without a word
				}
				EXPECT_EQ(lwp_write(e->fd[1], &c, 1), 1);
				bytes++;
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(bytes, 8 * n);
}
