// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::runtime: its options, its end, starting again; working without it; and kernel threads that the library did not make.
// These tests make their own runtimes, so nothing outside a test may start the default one: what needs that runs in a child process.
#include "../support/support.h"

#include <sys/resource.h>

#include <dirent.h>
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
TEST(RuntimeDeathTest, ProcessExitsWithItsOwnStatus) { EXPECT_EXIT(main_returns_after_a_simple_use(), testing::ExitedWithCode(7), ""); }

// ---- kernel threads that the library did not make ------------------------------------------------------------------

namespace {

class Foreign : public testing::TestWithParam<unsigned> {
protected:
	/// Runs `body` on a kernel thread of its own while this LWP yields, so that others may run on its vCPU too.
	template <class Body>
	static void on_kernel_thread(Body body) {
		std::atomic<bool> done{false};
		std::thread t([&] {
			body();
			done = true;
		});
		EXPECT_TRUE(wait_until([&done] { return done.load(); }));
		t.join();
	}
	void TearDown() override { expect_clean(); }

private:
	lwp::runtime runtime_{{.vcpus = GetParam()}};
};

}  // namespace

INSTANTIATE_TEST_SUITE_P(Runtime, Foreign, testing::Values(1U, 2U, 8U));

TEST_P(Foreign, IsAnLwpOfItsOwn) {
	std::atomic<lwpid_t> ids[4] = {};
	std::vector<std::thread> threads;
	for (auto &id : ids) {
		threads.emplace_back([&id] {
			id = _lwp_self();
			EXPECT_EQ(_lwp_self(), id.load());
			EXPECT_TRUE(alive(id.load()));
		});
	}
	for (auto &t : threads) {
		t.join();
	}
	std::vector<lwpid_t> all{_lwp_self()};
	for (const auto &id : ids) {
		EXPECT_GT(id.load(), 0);
		all.push_back(id.load());
		EXPECT_FALSE(alive(id.load())) << "its LWP ends with it";
	}
	std::sort(all.begin(), all.end());
	EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
}

TEST_P(Foreign, CreatesAndJoins) {
	on_kernel_thread([] {
		for (int i = 0; i < 200; ++i) {
			int ran = 0;
			lwp::thread t([&ran] {
				lwp_yield();
				++ran;
			});
			t.join();
			ASSERT_EQ(ran, 1);
			collect(spawn([] {}));
		}
		const lwpid_t detached = spawn([] {}, LWP_DETACHED);
		await_end(detached);
	});
}

TEST_P(Foreign, UnparksAnLwpAndIsUnparkedByOne) {
	constexpr int turns = 2000;
	std::atomic<int> ball{0};
	std::atomic<lwpid_t> kernel_thread{0};
	auto play = [&ball](int parity, const std::atomic<lwpid_t> &other) {
		for (int turn = parity; turn < turns; turn += 2) {
			while (ball.load() != turn) {
				(void)park();
			}
			ball.store(turn + 1);
			(void)_lwp_unpark(other.load(), nullptr);
		}
	};
	std::atomic<lwpid_t> green{0};
	gate go;
	lwp::thread t([&] {
		go.pass();
		play(1, kernel_thread);
	});
	green = t.native_handle();
	on_kernel_thread([&] {
		kernel_thread = _lwp_self();
		go.open();
		play(0, green);
	});
	t.join();
	EXPECT_EQ(ball.load(), turns);
}

TEST_P(Foreign, TwoOfThemPlayWithoutAnyLwp) {
	constexpr int turns = 2000;
	std::atomic<int> ball{0};
	std::atomic<lwpid_t> ids[2] = {};
	std::vector<std::thread> threads;
	std::atomic<int> done{0};
	for (int parity = 0; parity < 2; ++parity) {
		threads.emplace_back([&, parity] {
			ids[parity] = _lwp_self();
			EXPECT_TRUE(wait_until([&] { return ids[1 - parity].load() != 0; }));
			for (int turn = parity; turn < turns; turn += 2) {
				while (ball.load() != turn) {
					(void)park();
				}
				ball.store(turn + 1);
				(void)_lwp_unpark(ids[1 - parity].load(), nullptr);
			}
			done.fetch_add(1);
		});
	}
	EXPECT_TRUE(wait_until([&done] { return done.load() == 2; }));
	for (auto &t : threads) {
		t.join();
	}
	EXPECT_EQ(ball.load(), turns);
}

TEST_P(Foreign, TokenTimeoutAndErrors) {
	on_kernel_thread([] {
		EXPECT_EQ(error_of(_lwp_unpark(_lwp_self(), nullptr)), 0);
		EXPECT_EQ(park(), EALREADY);
		const auto begin = std::chrono::steady_clock::now();
		EXPECT_EQ(park_for(1ms), ETIMEDOUT);
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 1ms);
		EXPECT_EQ(error_of(_lwp_wait(nobody, nullptr)), ESRCH);
		EXPECT_EQ(error_of(_lwp_wait(_lwp_self(), nullptr)), EDEADLK);
		EXPECT_EQ(error_of(_lwp_unpark(nobody, nullptr)), ESRCH);
		EXPECT_EQ(error_of(_lwp_wakeup(_lwp_self())), ENODEV);
		EXPECT_EQ(lwp_yield(), 0);
	});
}

TEST_P(Foreign, Sleeps) {
	on_kernel_thread([] {
		const auto begin = std::chrono::steady_clock::now();
		lwp::this_thread::sleep_for(2ms);
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
		lwp::this_thread::sleep_for(-1ms);
	});
}

TEST_P(Foreign, SuspendsAndContinuesAnLwp) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	lwp::thread t([&] {
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	on_kernel_thread([&] {
		for (int i = 0; i < 100; ++i) {
			ASSERT_EQ(error_of(_lwp_suspend(t.native_handle())), 0);
			const std::size_t before = turns.load();
			for (int n = 0; n < 20; ++n) {
				lwp_yield();
			}
			ASSERT_EQ(turns.load(), before);
			ASSERT_EQ(error_of(_lwp_continue(t.native_handle())), 0);
			ASSERT_TRUE(wait_until([&] { return turns.load() != before; }));
		}
	});
	stop = true;
	t.join();
}

TEST_P(Foreign, IsSuspendedAndContinued) {
	std::atomic<lwpid_t> id{0};
	std::atomic<bool> stop{false};
	std::atomic<bool> done{false};
	std::atomic<std::size_t> turns{0};
	std::thread t([&] {
		id = _lwp_self();
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return turns.load() > 0; }));
	for (int i = 0; i < 100; ++i) {
		ASSERT_EQ(error_of(_lwp_suspend(id.load())), 0);
		const std::size_t before = turns.load();
		for (int n = 0; n < 20; ++n) {
			lwp_yield();
		}
		EXPECT_EQ(turns.load(), before);
		EXPECT_EQ(error_of(_lwp_continue(id.load())), 0);
		EXPECT_TRUE(wait_until([&] { return turns.load() != before; }));
	}
	stop = true;
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	t.join();
}

TEST_P(Foreign, SuspendedWhileParkedComesBackFromPark) {
	std::atomic<lwpid_t> id{0};
	std::atomic<int> result{-1};
	std::thread t([&] {
		id = _lwp_self();
		result = park();
	});
	EXPECT_TRUE(wait_until([&] { return id.load() != 0; }));
	ASSERT_EQ(error_of(_lwp_suspend(id.load())), 0);
	EXPECT_EQ(result.load(), -1);
	EXPECT_EQ(error_of(_lwp_continue(id.load())), 0);
	// If the suspend met it before it parked, it parks now.
	EXPECT_TRUE(wait_until([&] {
		if (result.load() == -1) {
			(void)_lwp_unpark(id.load(), nullptr);
		}
		return result.load() != -1;
	}));
	t.join();
	EXPECT_TRUE(result.load() == 0 || result.load() == EALREADY) << result.load();
}

TEST_P(Foreign, HasNamePrivatePointerAndControlBlock) {
	on_kernel_thread([] {
		char name[LWP_MAXNAME] = "?";
		EXPECT_EQ(error_of(_lwp_setname(0, "foreign")), 0);
		EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
		EXPECT_STREQ(name, "foreign");
		EXPECT_EQ(_lwp_getprivate(), nullptr);
		_lwp_setprivate(name);
		EXPECT_EQ(_lwp_getprivate(), name);
		lwpctl_t *a = nullptr;
		lwpctl_t *b = nullptr;
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &a)), 0);
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &b)), 0);
		EXPECT_EQ(a, b);
	});
}

// _lwp_exit() on a kernel thread of the application is pthread_exit(3): unlike those of other LWPs its frames are unwound.
TEST_P(Foreign, ExitEndsTheKernelThread) {
	static std::atomic<int> unwound;
	static std::atomic<lwpid_t> id;
	static std::atomic<bool> came_back;
	unwound = 0;
	id = 0;
	came_back = false;
	pthread_t thread{};
	ASSERT_EQ(pthread_create(
	              &thread, nullptr,
	              [](void *) -> void * {
		              struct frame {
			              frame() = default;
			              frame(const frame &) = delete;
			              frame &operator=(const frame &) = delete;
			              ~frame() { unwound.fetch_add(1); }
		              } f;
		              id = _lwp_self();
		              _lwp_exit();
		              came_back = true;
		              return nullptr;
	              },
	              nullptr),
	    0);
	EXPECT_TRUE(wait_until([] { return unwound.load() == 1; }));
	ASSERT_EQ(pthread_join(thread, nullptr), 0);
	EXPECT_FALSE(came_back);
	EXPECT_FALSE(alive(id.load()));
}

// Its specific data ends with it, as an LWP's does.
TEST_P(Foreign, SpecificDataIsDestroyedWithIt) {
	static std::atomic<int> living;
	struct counted {
		counted() { living.fetch_add(1); }
		counted(const counted &) = delete;
		counted &operator=(const counted &) = delete;
		~counted() { living.fetch_sub(1); }
	};
	lwp::specific<counted> s;
	living = 0;
	on_kernel_thread([&s] {
		(void)s.get();
		EXPECT_EQ(living.load(), 1);
	});
	EXPECT_EQ(living.load(), 0);
}

TEST_P(Foreign, ManyAtOnceDoEverything) {
	std::vector<std::thread> threads;
	std::atomic<int> done{0};
	for (int n = 0; n < 8; ++n) {
		threads.emplace_back([&done, n] {
			for (int i = 0; i < 50; ++i) {
				std::vector<lwp::thread> children;
				for (int c = 0; c < 4; ++c) {
					children.emplace_back([] {
						lwp_yield();
						(void)park_for(std::chrono::microseconds(20));
					});
				}
				(void)park_for(std::chrono::microseconds(n));
				for (auto &t : children) {
					t.join();
				}
			}
			done.fetch_add(1);
		});
	}
	EXPECT_TRUE(wait_until([&done] { return done.load() == 8; }));
	for (auto &t : threads) {
		t.join();
	}
}

// While every LWP waits, one kernel thread that is outside the library may still end it: no deadlock is seen where there is none.
TEST_P(Foreign, KernelThreadOutsideTheLibraryCountsAsHope) {
	std::atomic<lwpid_t> target{0};
	std::atomic<bool> known{false};
	std::atomic<bool> waiting{false};
	std::thread t([&] {
		(void)_lwp_self();
		known = true;
		while (!waiting.load()) {
			std::this_thread::yield();
		}
		EXPECT_EQ(error_of(_lwp_continue(target.load())), 0);
	});
	EXPECT_TRUE(wait_until([&] { return known.load(); }));
	target = spawn([] {}, LWP_SUSPENDED);
	waiting = true;
	collect(target.load());
	t.join();
}
