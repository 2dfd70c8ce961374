// SPDX-License-Identifier: BSD-2-Clause
//
// The moment of looking before a halt: when a vCPU may, what takes it away, what gives it back; and that one which waits for nobody halts.
// vcpus: 1 2
#include "sched/linger.h"

#include "io/port.h"
#include "sched/vcpu.h"

#include "../support/support.h"

#include <lwp/io.h>
#include <lwp/thread.hpp>

#include <array>
#include <sys/socket.h>
#include <unistd.h>

using namespace lwp::test;

namespace {

using lwp::kern::lingering;
using lwp::kern::nanotime;
using lwp::kern::sched;

const bool touched = touch_runtime();

constexpr nanotime start = 1'000'000'000, ms = 1'000'000;

/// As after a halt that somebody has ended soon.
lingering one_that_may() {
	lingering li;
	(void)li.told(start, 0);
	li.halted(start, start + lingering::brief / 2, true);
	return li;
}

bool all_halt() {
	for (unsigned v = 0; v < lwp::runtime::vcpus(); v++) {
		if (sched.sd_vcpu[v]->vc_halted.load() != lwp::kern::vc_waits) {
			return false;
		}
	}
	return true;
}

}  // namespace

TEST(Linger, OnlyAfterAShortHaltThatSomebodyEnded) {
	lingering li;
	EXPECT_FALSE(li.may_begin(start)) << "it has not halted yet";
	li.halted(start, start + lingering::brief / 2, true);
	EXPECT_TRUE(li.may_begin(start + ms));
	li.halted(start, start + lingering::brief / 2, false);
	EXPECT_FALSE(li.may_begin(start + ms)) << "a timer ended it";
	li.halted(start, start + lingering::brief, true);
	EXPECT_FALSE(li.may_begin(start + ms)) << "it was long";
}

TEST(Linger, WhatWasInVainIsNotDoneAgainSoonAndEachTimeLater) {
	lingering li = one_that_may();
	nanotime pause = lingering::pause_least;
	nanotime when = start;
	for (int i = 0; i < 30; i++) {
		li.in_vain(when);
		EXPECT_FALSE(li.may_begin(when + lingering::pause_most)) << "the next halt says whether it may";
		li.halted(when, when + 1, true);
		EXPECT_FALSE(li.may_begin(when + pause - 1));
		EXPECT_TRUE(li.may_begin(when + pause));
		when += pause;
		pause = std::min(2 * pause, lingering::pause_most);
	}
	for (int i = 0; i < 30; i++) {
		li.paid();
	}
	li.in_vain(when);
	li.halted(when, when + 1, true);
	EXPECT_TRUE(li.may_begin(when + lingering::pause_least)) << "since then it has paid";
}

TEST(Linger, OthersHaveTheCpuIfTheyWantIt) {
	lingering li = one_that_may();
	nanotime used = 0, when = start, pause = lingering::unwanted_least;
	for (int i = 0; i < 8; i++) {
		when += lingering::ask_each;
		used += lingering::ask_each / 2;  // and half of the time somebody else ran
		EXPECT_TRUE(li.is_to_ask(when));
		EXPECT_FALSE(li.told(when, used));
		EXPECT_FALSE(li.may_begin(when + pause - 1));
		EXPECT_TRUE(li.may_begin(when + pause));
		when += pause;
		pause = std::min(2 * pause, lingering::unwanted_most);
		EXPECT_TRUE(li.told(when, used)) << "of a time in which it did not linger nothing is said";
	}
}

TEST(Linger, AHaltIsNoSignOfOthers) {
	lingering li = one_that_may();
	(void)li.told(start, 0);
	const nanotime when = start + lingering::ask_each;
	li.halted(start, start + lingering::ask_each / 2, true);
	EXPECT_TRUE(li.told(when, lingering::ask_each / 2)) << "half of the time it halted, half of it it ran";
	EXPECT_TRUE(li.told(when + lingering::ask_each, lingering::ask_each / 2 + lingering::ask_each * 7 / 8))
	    << "the kernel has work of its own";
	EXPECT_FALSE(li.told(when + 2 * lingering::ask_each, lingering::ask_each * 11 / 8)) << "nothing of it, and it did not halt";
}

// Messages go to and fro through a kernel thread that is no LWP, so the vCPU halts or lingers for each: none is lost.  After the last one
// nobody lingers for ever, though a read waits still.
TEST(Linger, EachMessageArrivesAndWhoWaitsForNobodyHalts) {
	std::array<int, 2> pair{};
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
	const auto messages = static_cast<int>(lwp::test::rounds(20'000));
	lwp::thread echo([&] {
		char byte;
		while (lwp_read(pair[0], &byte, 1) == 1) {
			EXPECT_EQ(lwp_write(pair[0], &byte, 1), 1);
		}
	});
	std::thread other([&] {
		for (int i = 0; i < messages; i++) {
			char byte = static_cast<char>(i), back = 0;
			EXPECT_EQ(write(pair[1], &byte, 1), 1);
			EXPECT_EQ(read(pair[1], &back, 1), 1);
			EXPECT_EQ(back, byte);
		}
		while (!all_halt()) {
			std::this_thread::yield();
		}
		close(pair[1]);
	});
	echo.join();
	other.join();
	close(pair[0]);
}
