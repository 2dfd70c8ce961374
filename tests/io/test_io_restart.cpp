// SPDX-License-Identifier: BSD-2-Clause
//
// I/O in runtimes that come and go, with rings of every mode and size, and without a ring for every reason.  main's thread never becomes an LWP
// of a default runtime here, so each test has runtimes of its own.
// vcpus: 2
// io: any denied
#include "base/sys.h"
#include "io/port.h"

#include "io_support.h"

#include <dirent.h>
#include <fstream>
#include <vector>

using namespace lwp::test;

namespace {

using lwp::kern::io_tune;

/// Pairs of LWPs that play ping-pong, more of them than a small ring holds.
void ping_pong(unsigned pairs, unsigned turns) {
	std::vector<lwpid_t> all;
	std::atomic<unsigned> sum{0};
	for (unsigned i = 0; i < pairs; i++) {
		int fd[2];
		ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
		for (const int side : {0, 1}) {
			all.push_back(spawn([&, side, mine = fd[side]] {
				for (unsigned k = 0; k < turns; k++) {
					unsigned got = 0;
					if (side == 0) {
						EXPECT_EQ(lwp_send(mine, &k, sizeof(k), 0), static_cast<ssize_t>(sizeof(k)));
					}
					EXPECT_EQ(lwp_recv(mine, &got, sizeof(got), 0), static_cast<ssize_t>(sizeof(got)));
					if (side == 1) {
						EXPECT_EQ(lwp_send(mine, &got, sizeof(got), 0), static_cast<ssize_t>(sizeof(got)));
					} else {
						sum += got == k;
					}
				}
				EXPECT_EQ(lwp_close(mine), 0);
			}));
		}
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(sum, pairs * turns);
}

unsigned descriptors() {
	unsigned n = 0;
	DIR *dir = ::opendir("/proc/self/fd");
	while (::readdir(dir) != nullptr) {
		n++;
	}
	::closedir(dir);
	return n;
}

/// How often the eventfds of this process were written to: the library reads none of them while it watches it.
unsigned long wakes() {
	unsigned long sum = 0;
	for (int fd = 0; fd < 1024; fd++) {
		std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
		for (std::string word; info >> word;) {
			unsigned long count = 0;
			if (word == "eventfd-count:" && info >> std::hex >> count) {
				sum += count;
			}
		}
	}
	return sum;
}

#if LWP_FAULTS && !LWP_TEST_ASAN && !LWP_TEST_TSAN
std::atomic<unsigned> enters{0};

lwp::kern::sys::fault count_enters(long number, const char *, int, long *) noexcept {
	enters += number == SYS_io_uring_enter;
	return lwp::kern::sys::fault::none;
}
#endif

}  // namespace

// A wake-up between vCPUs costs a system call; one that runs, or waits in its own port for what it has asked for, needs none.
TEST(IoRestart, NobodyWakesAVcpuThatIsAlone) {
	const lwp::runtime rt({.vcpus = 1});
	ping_pong(5, 5);
	const unsigned long before = wakes();
	ping_pong(50, 50);
	EXPECT_EQ(wakes(), before);
}

#if LWP_FAULTS && !LWP_TEST_ASAN && !LWP_TEST_TSAN
// One LWP after the other writes its request down, and one system call takes them all.
TEST(IoRestart, RequestsGoToTheKernelTogether) {
	const lwp::runtime rt({.vcpus = 1});
	constexpr unsigned crowd = 200;
	ping_pong(1, 1);
	std::vector<std::unique_ptr<socket_pair>> pairs;
	std::vector<lwpid_t> all;
	unsigned waiting = 0;
	for (unsigned i = 0; i < crowd; i++) {
		pairs.push_back(std::make_unique<socket_pair>(SOCK_STREAM));
		all.push_back(spawn([&, s = pairs.back().get()] {
			char c;
			waiting++;
			EXPECT_EQ(lwp_recv(s->b, &c, 1, 0), 1);
			EXPECT_EQ(lwp_send(s->b, &c, 1, 0), 1);
		}));
	}
	EXPECT_TRUE(wait_until([&] { return waiting == crowd; }));
	for (const auto &s : pairs) {
		EXPECT_EQ(::send(s->a, "x", 1, 0), 1);
	}
	enters = 0;
	lwp::kern::sys::fault_now.store(count_enters, std::memory_order_release);
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	lwp::kern::sys::fault_now.store(nullptr, std::memory_order_release);
	EXPECT_LT(enters, crowd / 2);  // of epoll none
}
#endif

TEST(IoRestart, NothingButTheEventfdsStays) {
	for (int i = 0; i < 20; i++) {
		const unsigned before = descriptors();
		{
			const lwp::runtime rt({.vcpus = 2});
			ping_pong(20, 20);
		}
		const unsigned after = descriptors();
		if (i > 0) {
			EXPECT_LE(after, before + 1) << i;  // a vCPU may have its first I/O late
		}
	}
}

TEST(IoRestart, EveryModeOfTheRing) {
	for (const int mode : {0, 1}) {
		io_tune = {.first_mode = mode};
		const lwp::runtime rt({.vcpus = 2});
		ping_pong(50, 50);
	}
	io_tune = {};
}

// SQ full, CQ full, EBUSY.
TEST(IoRestart, RingsThatAreMuchTooSmall) {
	for (const unsigned entries : {1U, 2U, 8U}) {
		for (const int mode : {0, 1}) {
			for (const unsigned vcpus : {1U, 3U}) {
				io_tune = {.sq_entries = entries, .cq_entries = 2 * entries, .first_mode = mode};
				const lwp::runtime rt({.vcpus = vcpus});
				ping_pong(100, 20);
			}
		}
	}
	io_tune = {};
}

TEST(IoRestart, EveryReasonAgainstARing) {
	for (const int error : {ENOMEM, ENOSYS, EPERM, EINVAL, EMFILE}) {
		io_tune = {.deny = error};
		const lwp::runtime rt({.vcpus = 2});
		ping_pong(50, 20);
	}
	io_tune = {};
}
