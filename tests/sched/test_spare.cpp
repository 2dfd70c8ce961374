// SPDX-License-Identifier: BSD-2-Clause
//
// Substitutes end with their runtime, and the next one, of whatever size, makes its own; what the monitor says when it is asked to.
#include "sched/spare.h"

#include "../support/support.h"

#include <array>
#include <cstdlib>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

std::size_t kernel_threads() { return status_kib("Threads:"); }

/// Every vCPU of the runtime and some more are blocked at once; then all go on.
void use_substitutes(std::size_t more, bool said) {
	std::array<int, 2> fd{};
	ASSERT_EQ(::pipe(fd.data()), 0);
	const std::size_t n = lwp::runtime::vcpus() + more;
	std::vector<lwp::thread> readers;
	std::atomic<std::size_t> inside{0};
	for (std::size_t i = 0; i < n; i++) {
		readers.emplace_back(lwp::attributes{.name = "reader"}, [&] {
			char c = 0;
			inside++;
			EXPECT_EQ(said ? lwp::blocking([&] { return ::read(fd[0], &c, 1); }) : ::read(fd[0], &c, 1), 1);
		});
	}
	EXPECT_TRUE(wait_until([&] { return inside == n; }));
	const std::string bytes(n, 'x');
	EXPECT_EQ(::write(fd[1], bytes.data(), n), static_cast<ssize_t>(n));
	for (lwp::thread &t : readers) {
		t.join();
	}
	::close(fd[0]);
	::close(fd[1]);
}

}  // namespace

TEST(Spare, EndsWithTheRuntime) {
	std::thread([] {}).join();  // a sanitizer may start a kernel thread of its own with the first one
	const std::size_t before = kernel_threads();
	for (const unsigned vcpus : {1U, 3U, 1U, 8U, 2U}) {
		for (const bool said : {true, false}) {
			const lwp::runtime rt({.vcpus = vcpus});
			use_substitutes(5, said);
			EXPECT_GT(lwp::runtime::stats().spare_vcpus, 0U);
			EXPECT_EQ(lwp::runtime::stats().vcpus, vcpus);
			EXPECT_EQ(lwp::runtime::vcpus(), vcpus);
		}
		// A kernel thread that was joined may be counted a moment longer.
		for (int i = 0; i < 30'000 && kernel_threads() != before; i++) {
			std::this_thread::sleep_for(1ms);
		}
		EXPECT_EQ(kernel_threads(), before);
	}
}

// Short regions with nobody waiting share one substitute, which sleeps all the time.
TEST(Spare, OneIsEnoughForRegionsOneAfterTheOther) {
	const lwp::runtime rt({.vcpus = 1});
	for (int i = 0; i < 10000; i++) {
		lwp::blocking([] {});
	}
	EXPECT_EQ(lwp::runtime::stats().spare_vcpus, 1U);
	EXPECT_EQ(lwp::kern::spares.sp_noff, 0U);
}

// Once everything is over the counts are as if nothing had been: every place has its own vCPU, the substitutes rest.
TEST(Spare, AfterwardsEverybodyIsBack) {
	const lwp::runtime rt({.vcpus = 3});
	for (int round = 0; round < 20; round++) {
		use_substitutes(4, round % 2 == 0);
		EXPECT_TRUE(wait_until([] {
			if (lwp::kern::spares.sp_noff != 0) {
				lwp::blocking([] { std::this_thread::sleep_for(1ms); });  // lets those that are on their way have the CPU
				return false;
			}
			return true;
		}));
		for (unsigned i = 0; i < 3; i++) {
			EXPECT_EQ(static_cast<lwp::kern::vcpu_t *>(lwp::kern::sched.sd_vcpu[i]), lwp::kern::sched.sd_all[i]);
		}
	}
}

TEST(Spare, TheMonitorNamesWhomItFinds) {
	::setenv("LWP_DEBUG", "blocking", 1);
	testing::internal::CaptureStderr();
	{
		const lwp::runtime rt({.vcpus = 1});
		use_substitutes(2, false);
	}
	const std::string said = testing::internal::GetCapturedStderr();
	::unsetenv("LWP_DEBUG");
	EXPECT_NE(said.find("'reader' is blocked in the kernel"), std::string::npos) << said;
}

TEST(Spare, TheSearchCanBeSwitchedOff) {
	::setenv("LWP_BLOCKING", "off", 1);
	{
		const lwp::runtime rt({.vcpus = 2});
		const auto before = lwp::runtime::stats().blocked_found;
		lwp::thread other([] { ::usleep(20'000); });
		::usleep(20'000);
		other.join();
		EXPECT_EQ(lwp::runtime::stats().blocked_found, before);
		use_substitutes(5, true);  // those that say so are served all the same
	}
	::unsetenv("LWP_BLOCKING");
}
