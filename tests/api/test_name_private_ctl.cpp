// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_setname(), _lwp_getname(), _lwp_setprivate(), _lwp_getprivate(), _lwp_ctl(), _lwp_self(), lwp_yield().
// vcpus: 1 2 8
#include "../support/support.h"

#include <cstring>
#include <string>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

int set_name(lwpid_t lid, const char *name) { return error_of(_lwp_setname(lid, name)); }

std::string name_of(lwpid_t lid) {
	char name[LWP_MAXNAME];
	std::memset(name, 'x', sizeof(name));
	EXPECT_EQ(error_of(_lwp_getname(lid, name, sizeof(name))), 0);
	EXPECT_NE(std::memchr(name, 0, sizeof(name)), nullptr);
	return {name, strnlen(name, sizeof(name))};
}

int turns_of(const lwpctl_t *block) { return __atomic_load_n(&block->lc_pctr, __ATOMIC_ACQUIRE); }

lwpctl_t *control_block() {
	lwpctl_t *block = nullptr;
	EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR, &block)), 0);
	return block;
}

}  // namespace

// Behaviour 41.
TEST(Name, UnnamedIsEmpty) {
	std::string seen = "?";
	collect(spawn([&seen] { seen = name_of(0); }));
	EXPECT_EQ(seen, "");
}

// Behaviour 41.
TEST(Name, IsCutToFifteenBytes) {
	const std::string longest(LWP_MAXNAME - 1, 'n');
	for (const std::size_t length : {15U, 16U, 40U, 4000U}) {
		EXPECT_EQ(set_name(0, std::string(length, 'n').c_str()), 0);
		EXPECT_EQ(name_of(0), longest);
	}
	EXPECT_EQ(set_name(0, "fourteen bytes"), 0);
	EXPECT_EQ(name_of(0), "fourteen bytes");
	EXPECT_EQ(set_name(0, ""), 0);
	EXPECT_EQ(name_of(0), "");
}

// Behaviour 41.
TEST(Name, ZeroIsTheCaller) {
	EXPECT_EQ(set_name(0, "boss"), 0);
	EXPECT_EQ(name_of(_lwp_self()), "boss");
	EXPECT_EQ(set_name(_lwp_self(), "chief"), 0);
	EXPECT_EQ(name_of(0), "chief");
	EXPECT_EQ(set_name(0, ""), 0);
}

TEST(Name, OfAnotherInEveryLivingState) {
	gate leave;
	const lwpid_t runnable = spawn([&leave] { leave.pass(); });
	EXPECT_EQ(set_name(runnable, "runnable"), 0);
	EXPECT_EQ(name_of(runnable), "runnable");
	leave.open();
	collect(runnable);

	std::string own;
	subject parked([&own](subject &s) {
		s.park_once();
		own = name_of(0);
	});
	parked.await_blocked();
	EXPECT_EQ(set_name(parked.lid(), "parked"), 0);
	EXPECT_EQ(name_of(parked.lid()), "parked");
	EXPECT_EQ(parked.result(), -1);
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	collect(parked.lid());
	EXPECT_EQ(own, "parked");

	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	EXPECT_EQ(set_name(suspended, "suspended"), 0);
	EXPECT_EQ(name_of(suspended), "suspended");
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	collect(suspended);
}

// Behaviour 19.
TEST(Name, UnknownOrZombieIsEsrch) {
	char name[LWP_MAXNAME];
	const lwpid_t zombie = make_zombie();
	for (const lwpid_t lid : {nobody, lwpid_t{-1}, INT32_MIN, zombie}) {
		EXPECT_EQ(set_name(lid, "n"), ESRCH) << lid;
		EXPECT_EQ(error_of(_lwp_getname(lid, name, sizeof(name))), ESRCH) << lid;
	}
	collect(zombie);
	EXPECT_EQ(set_name(zombie, "n"), ESRCH);
}

TEST(Name, NullIsEinval) {
	EXPECT_EQ(set_name(0, nullptr), EINVAL);
	EXPECT_EQ(error_of(_lwp_getname(0, nullptr, LWP_MAXNAME)), EINVAL);
}

TEST(Name, BufferTooSmallIsEnametoolongAndIsNotOverrun) {
	EXPECT_EQ(set_name(0, "sixchr"), 0);
	for (std::size_t length = 0; length < 16; ++length) {
		std::vector<char> buffer(length + 1, 'x');
		EXPECT_EQ(error_of(_lwp_getname(0, buffer.data(), length)), length < 7 ? ENAMETOOLONG : 0) << length;
		EXPECT_EQ(buffer[length], 'x');
		if (length >= 7) {
			EXPECT_STREQ(buffer.data(), "sixchr");
		}
	}
	EXPECT_EQ(set_name(0, ""), 0);
	char one = 'x';
	EXPECT_EQ(error_of(_lwp_getname(0, &one, 1)), 0);
	EXPECT_EQ(one, 0);
}

TEST(Private, IsNullUntilSet) {
	void *first = &first;
	collect(spawn([&first] { first = _lwp_getprivate(); }));
	EXPECT_EQ(first, nullptr);
}

TEST(Private, BelongsToTheLwp) {
	std::vector<int> cells(20);
	std::vector<lwpid_t> lids;
	void *const before = _lwp_getprivate();
	for (int &cell : cells) {
		lids.push_back(spawn([&cell] {
			_lwp_setprivate(&cell);
			for (int i = 0; i < 200; ++i) {
				lwp_yield();
				ASSERT_EQ(_lwp_getprivate(), &cell);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
	EXPECT_EQ(_lwp_getprivate(), before);
}

TEST(Self, IsTheSameAllAlongAndNobodyElses) {
	const lwpid_t boss = _lwp_self();
	std::vector<lwpid_t> lids;
	for (int n = 0; n < 20; ++n) {
		lids.push_back(spawn([boss] {
			const lwpid_t self = _lwp_self();
			EXPECT_NE(self, boss);
			for (int i = 0; i < 200; ++i) {
				lwp_yield();
				ASSERT_EQ(_lwp_self(), self);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
		EXPECT_EQ(_lwp_self(), boss);
	}
}

TEST(Yield, ReturnsZeroAlsoWithNobodyElse) {
	for (int i = 0; i < 100; ++i) {
		ASSERT_EQ(lwp_yield(), 0);
	}
}

// Behaviour 40.
TEST(Ctl, UnknownFeatureIsEnodev) {
	lwpctl_t *block = nullptr;
	for (const int features : {0x4, 0x80, 0x4 | LWPCTL_FEATURE_CURCPU, -1}) {
		EXPECT_EQ(error_of(_lwp_ctl(features, &block)), ENODEV) << features;
		EXPECT_EQ(block, nullptr);
	}
}

TEST(Ctl, NullPointerIsEinval) { EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, nullptr)), EINVAL); }

// Behaviour 40.
TEST(Ctl, SameBlockAtEachCallAndAnotherForEachLwp) {
	lwpctl_t *const mine = control_block();
	EXPECT_EQ(control_block(), mine);
	lwpctl_t *pctr_only = nullptr;
	EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_PCTR, &pctr_only)), 0);
	EXPECT_EQ(pctr_only, mine);
	lwpctl_t *other = nullptr;
	const lwpid_t lid = spawn([&other] {
		other = control_block();
		lwp_yield();
		EXPECT_EQ(control_block(), other);
	});
	await_end(lid);
	EXPECT_NE(other, mine);
	collect(lid);
}

// Behaviour 40.
TEST(Ctl, SaysWhereTheCallerRuns) {
	const auto vcpus = static_cast<int>(lwp::runtime::vcpus());
	const lwpctl_t *const block = control_block();
	for (int i = 0; i < 100; ++i) {
		const int at = vcpu_of(block);
		ASSERT_GE(at, 0);
		ASSERT_LT(at, vcpus);
		lwp_yield();
	}
}

// Behaviour 40.
TEST(Ctl, ShowsAsleepEndedAndSwitchedIn) {
	subject s([](subject &self) {
		self.park_once();
		self.park_once();
	});
	s.await_blocked();
	EXPECT_EQ(vcpu_of(s.control()), LWPCTL_CPU_NONE);
	const int before = turns_of(s.control());
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	EXPECT_TRUE(wait_until([&s] { return s.result() == 0; }));
	s.await_blocked();
	EXPECT_GT(turns_of(s.control()), before);
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	await_end(s.lid());
	EXPECT_EQ(vcpu_of(s.control()), LWPCTL_CPU_EXITED) << "valid until it is collected";
	collect(s.lid());
}

TEST(Ctl, SuspendedIsOnNoVcpu) {
	std::atomic<lwpctl_t *> block{nullptr};
	std::atomic<bool> leave{false};
	const lwpid_t lid = spawn([&] {
		block = control_block();
		while (!leave.load()) {
			lwp_yield();
		}
	});
	EXPECT_TRUE(wait_until([&] { return block.load() != nullptr; }));
	EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
	EXPECT_TRUE(wait_until([&] { return vcpu_of(block.load()) == LWPCTL_CPU_NONE; }));
	const int turns = turns_of(block.load());
	for (int i = 0; i < 50; ++i) {
		lwp_yield();
	}
	EXPECT_EQ(turns_of(block.load()), turns);
	leave = true;
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
}
