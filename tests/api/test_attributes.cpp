// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::attributes: what a thread can be given that std's has not: a name, a stack, a vCPU, a class and a priority.
// vcpus: 1 2 8
#include "../support/support.h"

#include <stop_token>
#include <string>
#include <system_error>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class F>
int error_thrown_by(F f) {
	try {
		f();
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code().category(), std::generic_category());
		return e.code().value();
	}
	return 0;
}

}  // namespace

TEST(Attributes, Name) {
	auto named = [](const char *given) {
		char name[LWP_MAXNAME] = "?";
		lwp::thread t({.name = given}, [&name] { EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0); });
		t.join();
		return std::string(name);
	};
	EXPECT_EQ(named("worker"), "worker");
	EXPECT_EQ(named(nullptr), "");
	EXPECT_EQ(named("a name of more than fifteen bytes"), "a name of more ");
}

TEST(Attributes, StackSize) {
	std::size_t touched_bytes = 0;
	lwp::thread t({.stack_size = 2 * 1024 * 1024}, [&touched_bytes] {
		volatile char big[1900 * 1024];
		for (std::size_t i = 0; i < sizeof(big); i += 1024) {
			big[i] = 1;
			touched_bytes += 1024;
		}
	});
	t.join();
	EXPECT_EQ(touched_bytes, 1900U * 1024);
	lwp::thread smallest({.stack_size = 16 * 1024}, [] { lwp_yield(); });
	smallest.join();
	lwp::thread odd({.stack_size = 50001}, [] { lwp_yield(); });
	odd.join();
}

TEST(Attributes, Detached) {
	gate leave;
	std::atomic<lwpid_t> lid{0};
	lwp::thread t({.detached = true}, [&] {
		lid = _lwp_self();
		leave.pass();
	});
	EXPECT_FALSE(t.joinable());
	EXPECT_EQ(t.get_id(), lwp::thread::id());
	EXPECT_TRUE(wait_until([&lid] { return lid.load() != 0; }));
	EXPECT_EQ(error_of(_lwp_detach(lid.load())), EINVAL);
	EXPECT_EQ(error_of(_lwp_wait(lid.load(), nullptr)), ESRCH);
	leave.open();
	await_end(lid.load());
}

// An LWP bound to a vCPU is seen there only, and so are those that it creates.
TEST(Attributes, VcpuIsKeptAndInherited) {
	const auto vcpus = static_cast<int>(lwp::runtime::vcpus());
	for (int v = 0; v < vcpus; ++v) {
		lwp::thread t({.vcpu = v}, [v] {
			auto stay = [v] {
				lwpctl_t *block = nullptr;
				ASSERT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block)), 0);
				for (int i = 0; i < 200; ++i) {
					ASSERT_EQ(vcpu_of(block), v);
					lwp_yield();
				}
				(void)park_for(10us);
				ASSERT_EQ(vcpu_of(block), v);
			};
			stay();
			lwp::thread child(stay);
			child.join();
		});
		t.join();
	}
}

TEST(Attributes, PolicyAndPriorityAreAccepted) {
	for (const auto policy : {lwp::sched_policy::inherit, lwp::sched_policy::other, lwp::sched_policy::fifo, lwp::sched_policy::rr}) {
		for (const int priority : {-1, 0, 31, 63}) {
			std::atomic<bool> ran{false};
			lwp::thread t({.priority = priority, .policy = policy}, [&ran] {
				lwp_yield();
				ran = true;
			});
			t.join();
			EXPECT_TRUE(ran);
		}
	}
}

TEST(Attributes, OutOfRangeIsEinvalAndLeavesNothing) {
	const auto before = lwp::runtime::stats();
	std::atomic<bool> ran{false};
	auto refused = [&ran](const lwp::attributes &attr) {
		return error_thrown_by([&] {
			lwp::thread t(attr, [&ran] { ran = true; });
			t.join();
		});
	};
	EXPECT_EQ(refused({.stack_size = 1}), EINVAL);
	EXPECT_EQ(refused({.stack_size = 16 * 1024 - 1}), EINVAL);
	EXPECT_EQ(refused({.stack_size = std::size_t{1} << 50}), EINVAL);
	EXPECT_EQ(refused({.stack_size = SIZE_MAX}), EINVAL);
	EXPECT_EQ(refused({.priority = 64}), EINVAL);
	EXPECT_EQ(refused({.priority = -2}), EINVAL);
	EXPECT_EQ(refused({.priority = INT32_MAX}), EINVAL);
	EXPECT_EQ(refused({.vcpu = static_cast<int>(lwp::runtime::vcpus())}), EINVAL);
	EXPECT_EQ(refused({.vcpu = -2}), EINVAL);
	EXPECT_EQ(refused({.vcpu = INT32_MAX}), EINVAL);
	EXPECT_EQ(refused({.policy = static_cast<lwp::sched_policy>(77)}), EINVAL);
	const auto after = lwp::runtime::stats();
	EXPECT_EQ(after.lwps, before.lwps);
	EXPECT_EQ(after.stacks_in_use, before.stacks_in_use);
	EXPECT_FALSE(ran);
}

TEST(Attributes, Jthread) {
	char name[LWP_MAXNAME] = "?";
	bool possible = false;
	{
		lwp::jthread t({.name = "jt"}, [&](std::stop_token token) {
			possible = token.stop_possible();
			EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
		});
	}
	EXPECT_STREQ(name, "jt");
	EXPECT_TRUE(possible);
}
