// SPDX-License-Identifier: BSD-2-Clause
//
// LWP_DEBUG=io says of each vCPU that begins with I/O by what it is done, and why not by a ring.  Each in a process of its own (cases.h): the environment is
// read as a vCPU begins, and a ring that was refused once is not asked for again.
#include "io/port.h"

#include "io_support.h"
#include "support/cases.h"

#include <cerrno>
#include <cstring>
#include <string>

using namespace lwp::test;

namespace {

/// I/O on each of two vCPUs, one after the other.
void io_on_both() {
	const lwp::runtime rt({.vcpus = 2});
	for (const int vcpu : {0, 1}) {
		lwp::thread({.vcpu = vcpu}, [] {
			const pipe_pair p;
			char c = 'x';
			(void)lwp_write(p.in, &c, 1);
			(void)lwp_read(p.out, &c, 1);
		}).join();
	}
}

bool run_this(const char *name) {
	if (std::strcmp(name, "denied with EINVAL") == 0) {
		lwp::kern::io_tune.deny = EINVAL;
	}
	io_on_both();
	return true;
}

const bool cases = offer_cases(run_this);

bool ring_can_be_had() {
	return !uring_denied && ::syscall(SYS_io_uring_setup, 0, nullptr) == -1 && get_errno() != ENOSYS && get_errno() != EPERM;
}

}  // namespace

TEST(IoReport, NothingIsSaidUnasked) {
	for (const char *of : {"", "blocking"}) {
		const outcome o = run_case("plain", {{"LWP_DEBUG", of}, {"LWP_IO", ""}});
		EXPECT_TRUE(o.ended_well());
		EXPECT_EQ(o.text, "");
	}
}

TEST(IoReport, ARing) {
	if (!ring_can_be_had()) {
		GTEST_SKIP() << "io_uring is not to be had here";
	}
	for (const char *way : {"", "uring"}) {
		const outcome o = run_case("plain", {{"LWP_DEBUG", "io"}, {"LWP_IO", way}});
		EXPECT_TRUE(o.ended_well());
		EXPECT_EQ(o.text, "lwp: vCPU 0: I/O by io_uring\nlwp: vCPU 1: I/O by io_uring\n");
	}
}

TEST(IoReport, EpollBecauseItWasAskedFor) {
	const outcome o = run_case("plain", {{"LWP_DEBUG", "blocking,io"}, {"LWP_IO", "epoll"}});
	EXPECT_TRUE(o.ended_well());
	EXPECT_EQ(o.text, "lwp: vCPU 0: I/O by epoll, as LWP_IO says\nlwp: vCPU 1: I/O by epoll, as LWP_IO says\n");
}

// What is forbidden to one vCPU is so to all: the second does not ask.
TEST(IoReport, EpollBecauseRingsAreForbidden) {
	const outcome o = run_case("plain", {{"LWP_DEBUG", "io"}, {"LWP_IO", ""}, {"LWP_TEST_DENY_URING", "1"}});
	EXPECT_TRUE(o.ended_well());
	EXPECT_EQ(o.text,
	    "lwp: vCPU 0: I/O by epoll, because io_uring_setup(2) says: Operation not permitted\n"
	    "lwp: vCPU 1: I/O by epoll, as on other vCPUs\n");
}

// What may go away by itself is asked for again.
TEST(IoReport, EpollBecauseOfSomethingElse) {
	const outcome o = run_case("denied with EINVAL", {{"LWP_DEBUG", "io"}, {"LWP_IO", ""}});
	EXPECT_TRUE(o.ended_well());
	EXPECT_EQ(o.text,
	    "lwp: vCPU 0: I/O by epoll, because io_uring_setup(2) says: Invalid argument\n"
	    "lwp: vCPU 1: I/O by epoll, because io_uring_setup(2) says: Invalid argument\n");
}

TEST(IoReport, ARingOrNothing) {
	const outcome o = run_case("plain", {{"LWP_IO", "uring"}, {"LWP_TEST_DENY_URING", "1"}});
	EXPECT_TRUE(o.aborted());
	EXPECT_EQ(o.count("LWP_IO=uring, but io_uring_setup(2) says: Operation not permitted"), 1U) << o.text;
}
