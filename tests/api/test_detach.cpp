// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_detach() by the state of its target.
// vcpus: 1 2 8
#include "../support/support.h"

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int detach(lwpid_t lid) { return error_of(_lwp_detach(lid)); }

}  // namespace

TEST(Detach, UnknownIsEsrch) {
	EXPECT_EQ(detach(nobody), ESRCH);
	EXPECT_EQ(detach(0), ESRCH);
	EXPECT_EQ(detach(-1), ESRCH);
	EXPECT_EQ(detach(INT32_MIN), ESRCH);
}

TEST(Detach, RunnableOneIsReclaimedWhenItEnds) {
	gate leave;
	const lwpid_t lid = spawn([&leave] { leave.pass(); });
	EXPECT_EQ(detach(lid), 0);
	EXPECT_EQ(lwp::runtime::stats().detached, 1U);
	EXPECT_EQ(error_of(_lwp_wait(lid, nullptr)), ESRCH);
	leave.open();
	await_end(lid);
}

TEST(Detach, SecondTimeIsEinval) {
	gate leave;
	const lwpid_t lid = spawn([&leave] { leave.pass(); });
	EXPECT_EQ(detach(lid), 0);
	EXPECT_EQ(detach(lid), EINVAL);
	leave.open();
	await_end(lid);
}

TEST(Detach, OfOneCreatedDetachedIsEinval) {
	gate leave;
	const lwpid_t lid = spawn([&leave] { leave.pass(); }, LWP_DETACHED);
	EXPECT_EQ(detach(lid), EINVAL);
	leave.open();
	await_end(lid);
}

TEST(Detach, ParkedOne) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	EXPECT_EQ(detach(target.lid()), 0);
	EXPECT_EQ(detach(target.lid()), EINVAL);
	EXPECT_EQ(error_of(_lwp_unpark(target.lid(), nullptr)), 0);
	await_end(target.lid());
	EXPECT_EQ(target.result(), 0);
}

TEST(Detach, SuspendedOne) {
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	EXPECT_EQ(detach(lid), 0);
	EXPECT_EQ(detach(lid), EINVAL);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	await_end(lid);
}

// Behaviour 10.
TEST(Detach, ZombieIsReclaimedAtOnce) {
	const lwpid_t lid = make_zombie();
	EXPECT_EQ(lwp::runtime::stats().lwps, 2U);
	EXPECT_EQ(detach(lid), 0);
	EXPECT_EQ(lwp::runtime::stats().lwps, 1U);
	EXPECT_EQ(lwp::runtime::stats().zombies, 0U);
	EXPECT_EQ(detach(lid), ESRCH);
	EXPECT_EQ(error_of(_lwp_wait(lid, nullptr)), ESRCH);
}

TEST(Detach, Oneself) {
	std::atomic<int> first{-1};
	std::atomic<int> second{-1};
	const lwpid_t lid = spawn([&] {
		first = detach(_lwp_self());
		second = detach(_lwp_self());
	});
	await_end(lid);
	EXPECT_EQ(first.load(), 0);
	EXPECT_EQ(second.load(), EINVAL);
	EXPECT_EQ(error_of(_lwp_wait(lid, nullptr)), ESRCH);
}

// Behaviour 10.
TEST(Detach, TellsTheOneThatWaits) {
	subject target([](subject &s) { s.park_once(); });
	target.await_blocked();
	subject waiter([&target](subject &s) {
		s.about_to_block();
		s.set_result(error_of(_lwp_wait(target.lid(), nullptr)));
	});
	waiter.await_blocked();
	EXPECT_EQ(detach(target.lid()), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), ESRCH);
	EXPECT_EQ(detach(target.lid()), EINVAL);
	EXPECT_EQ(error_of(_lwp_unpark(target.lid(), nullptr)), 0);
	await_end(target.lid());
}
