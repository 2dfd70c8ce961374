// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::runtime: its options, its end, starting again; and working without it.
// These tests make their own runtimes, so nothing outside a test may start the default one: what needs that runs in a child process.
#include "../support/support.h"

#include <sys/resource.h>

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

template <class F>
int error_thrown_by(F f) {
	try {
		f();
	} catch (const std::system_error &e) {
		return e.code().value();
	}
	return 0;
}

std::size_t kernel_threads() {
	std::size_t n = 0;
	DIR *dir = opendir("/proc/self/task");
	while (const dirent *entry = readdir(dir)) {
		n += entry->d_name[0] != '.';
	}
	closedir(dir);
	return n;
}

double cpu_seconds() {
	rusage usage{};
	getrusage(RUSAGE_SELF, &usage);
	auto seconds = [](const timeval &t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
	return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Nothing left but the caller.
void expect_clean() { EXPECT_EQ(what_is_left(), ""); }

/// Ends the child process of a death test: 0 if all went well in it.
[[noreturn]] void finish(bool right = true) { std::_Exit(right && !testing::Test::HasFailure() ? 0 : 1); }

class OnVcpus : public testing::TestWithParam<unsigned> {};

}  // namespace

INSTANTIATE_TEST_SUITE_P(Runtime, OnVcpus, testing::Values(1U, 2U, 8U));

TEST_P(OnVcpus, HasThatManyAndMakesItsCallerLwpOne) {
	lwp::runtime rt({.vcpus = GetParam()});
	EXPECT_EQ(lwp::runtime::vcpus(), GetParam());
	EXPECT_EQ(lwp::runtime::stats().vcpus, GetParam());
	EXPECT_EQ(lwp::thread::hardware_concurrency(), GetParam());
	EXPECT_EQ(_lwp_self(), 1);  // behaviour 31
	expect_clean();
}

TEST_P(OnVcpus, StartsAgainAfterItsEnd) {
	(void)kernel_threads();
	const std::size_t before = kernel_threads();
	for (int round = 0; round < 20; ++round) {
		lwp::runtime rt({.vcpus = GetParam()});
		EXPECT_EQ(_lwp_self(), 1);
		std::atomic<int> sum{0};
		std::vector<lwp::thread> threads;
		for (int i = 1; i <= 20; ++i) {
			threads.emplace_back([&sum, i] {
				lwp_yield();
				lwp::this_thread::sleep_for(10us);
				sum.fetch_add(i);
			});
		}
		for (auto &t : threads) {
			t.join();
		}
		EXPECT_EQ(sum.load(), 210);
		expect_clean();
	}
	// A kernel thread that has been joined may show for a moment longer.
	for (int i = 0; kernel_threads() != before && i < 100000; ++i) {
		std::this_thread::yield();
	}
	EXPECT_EQ(kernel_threads(), before) << "a vCPU outlived its runtime";
}

TEST_P(OnVcpus, EndWaitsForTheOthersAndCollectsThem) {
	std::atomic<int> ended{0};
	{
		lwp::runtime rt({.vcpus = GetParam()});
		for (int i = 0; i < 20; ++i) {
			(void)spawn(
			    [&ended] {
				    lwp::this_thread::sleep_for(2ms);
				    ended.fetch_add(1);
			    },
			    i % 2 == 0 ? LWP_DETACHED : 0);
		}
		(void)make_zombie();
	}
	EXPECT_EQ(ended.load(), 20);
	lwp::runtime again({.vcpus = GetParam()});
	expect_clean();
}

TEST_P(OnVcpus, SecondOneIsEbusy) {
	lwp::runtime rt({.vcpus = GetParam()});
	EXPECT_EQ(error_thrown_by([] { lwp::runtime second; }), EBUSY);
	EXPECT_EQ(error_thrown_by([] { lwp::runtime second({.vcpus = 1}); }), EBUSY);
	lwp::thread t([] { EXPECT_EQ(error_thrown_by([] { lwp::runtime second; }), EBUSY); });
	t.join();
	EXPECT_EQ(lwp::runtime::vcpus(), GetParam());
	expect_clean();
}

TEST(Runtime, OptionOutOfRangeIsEinvalAndLeavesNothing) {
	EXPECT_EQ(error_thrown_by([] { lwp::runtime rt({.vcpus = 257}); }), EINVAL);
	EXPECT_EQ(error_thrown_by([] { lwp::runtime rt({.vcpus = UINT32_MAX}); }), EINVAL);
	EXPECT_EQ(error_thrown_by([] { lwp::runtime rt({.vcpus = 1, .stack_size = 1}); }), EINVAL);
	lwp::runtime rt({.vcpus = 1});
	expect_clean();
}

TEST(Runtime, MostVcpus) {
	lwp::runtime rt({.vcpus = 256});
	EXPECT_EQ(lwp::runtime::vcpus(), 256U);
	std::vector<lwp::thread> threads;
	std::atomic<int> ran{0};
	for (int v = 0; v < 256; v += 17) {
		threads.emplace_back(lwp::attributes{.vcpu = v}, [&ran] { ran.fetch_add(1); });
	}
	for (auto &t : threads) {
		t.join();
	}
	EXPECT_EQ(ran.load(), 16);
}

TEST(Runtime, StackSizeIsTheDefaultOfItsLwps) {
	lwp::runtime rt({.vcpus = 1, .stack_size = 1024 * 1024});
	std::size_t touched = 0;
	lwp::thread t([&touched] {
		volatile char big[900 * 1024];
		for (std::size_t i = 0; i < sizeof(big); i += 1024) {
			big[i] = 1;
			touched += 1024;
		}
	});
	t.join();
	EXPECT_EQ(touched, 900U * 1024);
}

TEST(Runtime, MoreThanMaxLwpsIsEagainAndLeavesNothing) {
	lwp::runtime rt({.vcpus = 2, .max_lwps = 4});
	std::vector<lwpid_t> lids;
	for (int i = 0; i < 3; ++i) {
		lids.push_back(spawn([] {}, LWP_SUSPENDED));
	}
	const auto full = lwp::runtime::stats();
	EXPECT_EQ(full.lwps, 4U);
	for (int i = 0; i < 10; ++i) {
		ucontext_t context;
		lwpid_t lid = 0;
		_lwp_makecontext(
		    &context, [](void *) {}, nullptr, nullptr, nullptr, 0);
		EXPECT_EQ(error_of(_lwp_create(&context, 0, &lid)), EAGAIN);
		EXPECT_EQ(error_of(_lwp_create(&context, LWP_DETACHED, &lid)), EAGAIN);
		EXPECT_EQ(error_thrown_by([] { lwp::thread t([] {}); }), EAGAIN);
	}
	EXPECT_EQ(lwp::runtime::stats().lwps, 4U);
	EXPECT_EQ(lwp::runtime::stats().stacks_in_use, full.stacks_in_use);
	EXPECT_EQ(error_of(_lwp_continue(lids.back())), 0);
	collect(lids.back());
	lids.pop_back();
	lids.push_back(spawn([] {}, LWP_SUSPENDED));
	EXPECT_NE(lids.back(), 0) << "there is room again";
	for (const lwpid_t lid : lids) {
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		collect(lid);
	}
	expect_clean();
}

// Other procs are waited for too, and those collected that nobody has waited for.
TEST(Runtime, EndsWhenOtherProcsHave) {
	for (const unsigned vcpus : {1U, 2U}) {
		std::atomic<int> ended{0};
		{
			lwp::runtime rt({.vcpus = vcpus});
			for (int i = 0; i < 3; i++) {
				const pid_t pid = lwp_proc_create(
				    [](void *n) -> int {
					    for (int k = 0; k < 20; k++) {
						    lwp_yield();
					    }
					    (void)spawn([n] { static_cast<std::atomic<int> *>(n)->fetch_add(1); });
					    _lwp_exit();
				    },
				    &ended, nullptr);
				EXPECT_GT(pid, 0);
				if (i == 0) {
					EXPECT_EQ(lwp_proc_detach(pid), 0);
				}
			}
		}
		EXPECT_EQ(ended.load(), 3);
		EXPECT_EQ(lwp::runtime::stats().lwps, 0U);
		EXPECT_EQ(lwp::runtime::stats().stacks_in_use, 0U);
	}
}

TEST(Runtime, StatsCount) {
	lwp::runtime rt({.vcpus = 2});
	const lwpid_t detached = spawn([] {}, LWP_DETACHED | LWP_SUSPENDED);
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	const lwpid_t zombie = make_zombie();
	subject parked([](subject &s) { s.park_once(); });
	parked.await_blocked();
	subject waiter([&parked](subject &s) {
		s.about_to_block();
		s.set_result(error_of(_lwp_wait(parked.lid(), nullptr)));
	});
	waiter.await_blocked();
	auto s = lwp::runtime::stats();
	EXPECT_EQ(s.lwps, 6U);
	EXPECT_EQ(s.zombies, 1U);
	EXPECT_EQ(s.detached, 1U);
	EXPECT_EQ(s.runnable, 3U) << "we, the parked and the waiting";
	EXPECT_EQ(s.waiting, 1U);
	EXPECT_GE(s.stacks_in_use, 4U);
	EXPECT_LE(s.stacks_in_use, 6U);
	const std::uint64_t switches = s.switches;
	EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 0);
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	EXPECT_EQ(error_of(_lwp_continue(detached)), 0);
	collect(suspended);
	collect(zombie);
	await_end(detached);
	EXPECT_GT(lwp::runtime::stats().switches, switches);
	expect_clean();
}

// Behaviour 46: with nothing to do the vCPUs sleep, with and without LWPs that wait for a far deadline.
TEST(Runtime, IdleUsesNoCpu) {
	lwp::runtime rt({.vcpus = 8});
	std::vector<std::unique_ptr<subject>> sleepers;
	for (int round = 0; round < 2; ++round) {
		lwp::this_thread::sleep_for(50ms);  // let the vCPUs settle: only the measurement below is judged
		const double before = cpu_seconds();
		lwp::this_thread::sleep_for(1s);
		EXPECT_LT(cpu_seconds() - before, 0.1) << sleepers.size() << " sleepers";
		for (int i = 0; i < 200 && round == 0; ++i) {
			sleepers.push_back(std::make_unique<subject>([](subject &s) {
				s.about_to_block();
				s.set_result(park_for(1h));
			}));
		}
	}
	for (const auto &s : sleepers) {
		EXPECT_EQ(error_of(_lwp_unpark(s->lid(), nullptr)), 0);
		collect(s->lid());
	}
	expect_clean();
}

// ---- without naming a runtime ----------------------------------------------------------------------------------------

namespace {

[[noreturn]] void zero_ceremony() {
	bool ran = false;
	lwp::thread t([&ran] { ran = true; });
	t.join();
	finish(ran && _lwp_self() == 1 && lwp::runtime::vcpus() >= 1);
}

[[noreturn]] void implicit_then_explicit() {
	(void)_lwp_self();
	finish(error_thrown_by([] { lwp::runtime rt; }) == EBUSY);
}

[[noreturn]] void implicit_after_explicit() {
	{
		lwp::runtime rt({.vcpus = 3});
		lwp::thread t([] {});
		t.join();
	}
	bool ran = false;
	lwp::thread t([&ran] { ran = true; });
	t.join();
	finish(ran);
}

[[noreturn]] void vcpus_from_environment(const char *text, unsigned expected) {
	setenv("LWP_VCPUS", text, 1);
	finish(lwp::runtime::vcpus() == expected);
}

[[noreturn]] void default_vcpus() {
	unsetenv("LWP_VCPUS");
	cpu_set_t mask;
	CPU_ZERO(&mask);
	sched_getaffinity(0, sizeof(mask), &mask);
	const unsigned n = lwp::runtime::vcpus();
	finish(n >= 1 && n <= static_cast<unsigned>(CPU_COUNT(&mask)));
}

[[noreturn]] void vcpus_of_a_mask_of_one() {
	unsetenv("LWP_VCPUS");
	cpu_set_t mask;
	sched_getaffinity(0, sizeof(mask), &mask);
	int first = 0;
	while (!CPU_ISSET(first, &mask)) {
		++first;
	}
	CPU_ZERO(&mask);
	CPU_SET(first, &mask);
	sched_setaffinity(0, sizeof(mask), &mask);
	finish(lwp::runtime::vcpus() == 1);
}

[[noreturn]] void option_beats_environment() {
	setenv("LWP_VCPUS", "3", 1);
	lwp::runtime rt({.vcpus = 2});
	finish(lwp::runtime::vcpus() == 2);
}

// The first call of the library comes from a kernel thread that ends soon.
[[noreturn]] void first_call_from_another_kernel_thread() {
	lwpid_t inner = 0;
	std::thread([&inner] {
		lwp::thread t([&inner] { inner = _lwp_self(); });
		t.join();
	}).join();
	bool ran = false;
	lwp::thread t([&ran] { ran = true; });
	t.join();
	finish(ran && inner > 0);
}

/// From here on no file can be opened, until it is destroyed.
class no_descriptors {
public:
	no_descriptors() {
		getrlimit(RLIMIT_NOFILE, &before_);
		const rlimit none{0, before_.rlim_max};
		setrlimit(RLIMIT_NOFILE, &none);
	}
	~no_descriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
	no_descriptors(const no_descriptors &) = delete;
	no_descriptors &operator=(const no_descriptors &) = delete;

private:
	rlimit before_{};
};

// The vCPUs are there already when the monitor's eventfd is made.  (Every other step that can be refused: tests/faults, the workload start.)
[[noreturn]] void starts_once_there_are_descriptors() {
	const std::size_t before = kernel_threads();
	{
		const no_descriptors now;
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(error_thrown_by([] { lwp::runtime rt({.vcpus = 3}); }), EMFILE);
			EXPECT_EQ(lwp::runtime::stats().vcpus, 0U);
		}
	}
	for (int i = 0; kernel_threads() != before && i < 100'000; i++) {  // one that has ended may be listed for a moment yet
		std::this_thread::yield();
	}
	EXPECT_EQ(kernel_threads(), before);
	std::atomic<int> ran{0};
	{
		lwp::runtime rt({.vcpus = 3});
		for (int i = 0; i < 10; i++) {
			lwp::thread([&ran] { ran++; }).join();
		}
	}
	finish(ran == 10);
}

[[noreturn]] void implied_without_descriptors() {
	const no_descriptors now;
	(void)_lwp_self();
	finish(false);
}

[[noreturn]] void main_returns_after_a_simple_use() {
	lwp::thread t([] { lwp_yield(); });
	t.join();
	std::exit(7);
}

}  // namespace

TEST(RuntimeDeathTest, NobodyHasToNameIt) { EXPECT_EXIT(zero_ceremony(), testing::ExitedWithCode(0), ""); }
TEST(RuntimeDeathTest, NamedOneAfterTheImpliedOneIsEbusy) { EXPECT_EXIT(implicit_then_explicit(), testing::ExitedWithCode(0), ""); }
TEST(RuntimeDeathTest, ImpliedOneAfterANamedOneEnded) { EXPECT_EXIT(implicit_after_explicit(), testing::ExitedWithCode(0), ""); }
TEST(RuntimeDeathTest, EnvironmentSaysHowManyVcpus) {
	EXPECT_EXIT(vcpus_from_environment("1", 1), testing::ExitedWithCode(0), "");
	EXPECT_EXIT(vcpus_from_environment("5", 5), testing::ExitedWithCode(0), "");
}
TEST(RuntimeDeathTest, DefaultIsNoMoreThanTheAffinityMask) {
	EXPECT_EXIT(default_vcpus(), testing::ExitedWithCode(0), "");
	EXPECT_EXIT(vcpus_of_a_mask_of_one(), testing::ExitedWithCode(0), "");
}
TEST(RuntimeDeathTest, OptionBeatsTheEnvironment) { EXPECT_EXIT(option_beats_environment(), testing::ExitedWithCode(0), ""); }
TEST(RuntimeDeathTest, FirstCallFromAnotherKernelThread) {
	EXPECT_EXIT(first_call_from_another_kernel_thread(), testing::ExitedWithCode(0), "");
}
TEST(RuntimeDeathTest, StartsOnceThereAreDescriptors) {
	if (::dlsym(RTLD_DEFAULT, "__ubsan_handle_dynamic_type_cache_miss") != nullptr) {
		GTEST_SKIP() << "UndefinedBehaviorSanitizer looks at what is thrown by way of a pipe";
	}
	if (LWP_TEST_TSAN) {
		GTEST_SKIP() << "ThreadSanitizer begins a kernel thread of its own at some time";
	}
	EXPECT_EXIT(starts_once_there_are_descriptors(), testing::ExitedWithCode(0), "");
}
TEST(RuntimeDeathTest, AnImpliedOneThatCannotStartEndsTheProcess) {
	EXPECT_EXIT(implied_without_descriptors(), testing::KilledBySignal(SIGABRT), "the runtime cannot be started: error 24");
}
TEST(RuntimeDeathTest, ProcessExitsWithItsOwnStatus) { EXPECT_EXIT(main_returns_after_a_simple_use(), testing::ExitedWithCode(7), ""); }
