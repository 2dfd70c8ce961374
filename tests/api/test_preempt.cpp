// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that compute and call nothing: others run beside them, they are suspended, stopped, and left behind by a process that ends.  Each test ends only if
// they are interrupted; there are as many of them as vCPUs, at least.
// vcpus: 1 2 4
#include "../support/cases.h"
#include "../support/hogs.h"
#include "../support/support.h"

#include "proc/outside.h"
#include "sched/vcpu.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/signal.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <stdexcept>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>
#if LWP_TEST_ASAN
#include <sanitizer/asan_interface.h>
#endif

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();
const bool preempted = with_preemption();

unsigned vcpus() { return lwp::runtime::vcpus(); }

std::deque<hog> hogs_of(hog_kind kind, unsigned n) {
	std::deque<hog> hogs;
	for (unsigned i = 0; i < n; i++) {
		hogs.emplace_back(kind);
	}
	return hogs;
}

void end_all(std::deque<hog> &hogs) {
	for (hog &h : hogs) {
		h.end();
	}
}

/// LWPs that take turns and end.
void others_run() {
	constexpr int each = 20;
	std::atomic<int> turns{0};
	std::vector<lwp::thread> others;
	for (int i = 0; i < 10; i++) {
		others.emplace_back([&] {
			for (int k = 0; k < each; k++) {
				turns++;
				lwp_yield();
			}
		});
	}
	for (lwp::thread &t : others) {
		t.join();
	}
	EXPECT_EQ(turns, 10 * each);
}

std::uint64_t preemptions() { return lwp::runtime::stats().preemptions; }

class Preempt : public testing::TestWithParam<unsigned> {
protected:
	[[nodiscard]] static hog_kind kind() { return static_cast<hog_kind>(GetParam()); }
};

}  // namespace

TEST_P(Preempt, OthersRunBesideHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus());
	for (hog &h : hogs) {
		h.await_progress();
	}
	others_run();
	end_all(hogs);
}

TEST_P(Preempt, MoreHogsThanVcpusAllComputeOn) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus() + 2);
	for (int round = 0; round < 3; round++) {
		for (hog &h : hogs) {
			h.await_progress();
		}
	}
	end_all(hogs);
}

TEST_P(Preempt, ASuspendedHogStandsStill) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus());
	hog &h = hogs.front();
	h.await_progress();
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(error_of(_lwp_suspend(h.lid())), 0);
		const std::uint64_t before = h.count();
		void *memory = std::malloc(5000);  // it has no lock of the C library
		others_run();
		std::free(memory);
		EXPECT_EQ(h.count(), before);
		ASSERT_EQ(error_of(_lwp_continue(h.lid())), 0);
		h.await_progress();
	}
	end_all(hogs);
}

TEST_P(Preempt, TheWorldStopsWithHogs) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs = hogs_of(kind(), vcpus() + 1);
	for (hog &h : hogs) {
		h.await_progress();
	}
	for (int round = 0; round < 3; round++) {
		{
			const lwp::stop_the_world world;
			ASSERT_TRUE(world.stopped());
			std::vector<std::uint64_t> counts;
			for (const hog &h : hogs) {
				counts.push_back(h.count());
			}
			std::size_t found = 0;
			for (const lwp::stopped_lwp &l : world.lwps()) {
				for (const hog &h : hogs) {
					if (l.lid == h.lid()) {
						found++;
						EXPECT_STREQ(l.state, "LSSTOP");
						EXPECT_GE(l.sp, l.stack_low);
						EXPECT_LT(l.sp, l.stack_high);
					}
				}
			}
			EXPECT_EQ(found, hogs.size());
			for (std::size_t i = 0; i < hogs.size(); i++) {
				EXPECT_EQ(hogs[i].count(), counts[i]);
			}
		}
		for (hog &h : hogs) {
			h.await_progress();
		}
	}
	end_all(hogs);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Preempt, testing::Range(0U, hog_kinds),
    [](const testing::TestParamInfo<unsigned> &kind) { return std::string(hog_name(static_cast<hog_kind>(kind.param))); });

/// Whether the word is on the stack of a stopped LWP, also between its variables, where AddressSanitizer lets nobody look.
__attribute__((no_sanitize("address"))) bool keeps(const lwp::stopped_lwp &l, std::uintptr_t word) {
	for (auto *p = static_cast<const volatile std::uintptr_t *>(l.sp); p < l.stack_high; p++) {
		if (*p == word) {
			return true;
		}
	}
	return false;
}

// What a collector looks for: a pointer that the interrupted loop has in a register only.
TEST(PreemptWorld, RegistersOfAStoppedHogAreOnItsStack) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	constexpr std::uintptr_t pattern = 0x5a17'c0de'1234'5678;
	lwp::thread hog([&] {
		std::uintptr_t hidden = ~pattern;
		asm volatile("" : "+r"(hidden));
		hidden = ~hidden;
		while (!stop.load(std::memory_order_relaxed)) {
			asm volatile("" : "+r"(hidden));
			runs.store(true, std::memory_order_relaxed);
		}
	});
	EXPECT_TRUE(wait_until([&] { return runs.load(); }));
	{
		const lwp::stop_the_world world;
		bool found = false;
		for (const lwp::stopped_lwp &l : world.lwps()) {
			found = found || (l.lid == hog.native_handle() && keeps(l, pattern));
		}
		EXPECT_TRUE(found);
	}
	stop = true;
	hog.join();
}

// Of one priority, on one vCPU: each has its turn, again and again.
TEST(PreemptTurns, HogsOfAVcpuShareIt) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::deque<hog> hogs;
	for (unsigned i = 0; i < 4; i++) {
		hogs.emplace_back(static_cast<hog_kind>(i % hog_kinds), 0);
	}
	for (hog &h : hogs) {
		EXPECT_TRUE(wait_until([&] { return h.control() != nullptr && __atomic_load_n(&h.control()->lc_pctr, __ATOMIC_RELAXED) >= 6; }));
	}
	end_all(hogs);
}

// While an LWP waits in the handler it has no vCPU, and is charged nothing.  A kernel thread that the OS wakes late may be taken for a blocked one, and its place
// given to another: then two have some time at once.
TEST(PreemptTurns, HogsAreChargedWhatTheyHad) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const bool was = lwp::account(true);
	const auto begin = std::chrono::steady_clock::now();
	std::deque<hog> hogs;
	for (int i = 0; i < 4; i++) {
		hogs.emplace_back(hog_kind::loop, 0);
	}
	std::uint64_t sum = 0;
	for (hog &h : hogs) {
		EXPECT_TRUE(wait_until([&] { return h.control() != nullptr && __atomic_load_n(&h.control()->lc_pctr, __ATOMIC_RELAXED) >= 6; }));
	}
	for (hog &h : hogs) {
		lwpinfo info;
		ASSERT_EQ(error_of(lwp_info(h.lid(), &info)), 0);
		EXPECT_GT(info.li_rtime, 0U);
		EXPECT_GE(info.li_nivcsw, 4U);
		sum += info.li_rtime;
	}
	const auto passed = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - begin).count());
	EXPECT_LT(sum, 2 * passed) << "they share one virtual CPU";
	end_all(hogs);
	(void)lwp::account(was);
}

// A better one that wakes is not kept waiting by one that computes.  It is made first: once the other runs nobody else does, on one vCPU.
TEST(PreemptTurns, ABetterLwpRunsBesideAFifoHog) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	lwp::thread better({.priority = 20, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [&] {
		while (!runs.load()) {
			lwp::this_thread::sleep_for(1ms);
		}
		lwp::this_thread::sleep_for(1ms);
		stop = true;
	});
	lwp::thread hog({.priority = 10, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [&] {
		runs = true;
		while (!stop.load(std::memory_order_relaxed)) {
		}
	});
	better.join();
	hog.join();
}

TEST(PreemptBounds, KernelThreadsAreUsedAgain) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const unsigned before = lwp::runtime::stats().spare_vcpus;
	std::deque<hog> hogs;
	for (unsigned i = 0; i < 3; i++) {
		hogs.emplace_back(hog_kind::loop, 0);
	}
	const std::uint64_t from = preemptions();
	EXPECT_TRUE(wait_until([&] { return preemptions() - from >= 40; }));
	end_all(hogs);
	EXPECT_LE(lwp::runtime::stats().spare_vcpus, before + 20);
}

// Each computes for more than a slice with a lock that all others want, and they wait for it in the kernel: more of them than there may be substitutes.
TEST(PreemptLocks, WhoHoldsALockOfTheApplicationIsNotForgotten) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	constexpr int many = 300;
	std::mutex m;
	int had = 0;
	std::vector<lwp::thread> all;
	for (int i = 0; i < many; i++) {
		all.emplace_back([&] {
			const std::lock_guard hold(m);
			for (const auto until = std::chrono::steady_clock::now() + 12ms; std::chrono::steady_clock::now() < until;) {
			}
			had++;
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(had, many);
}

// It does nothing of its own between two calls of the C library: hundreds of looks find it there, and those that the handler makes by itself must not be
// mistaken for answers to the monitor's.
TEST(PreemptStill, OneThatIsHardlyEverOutsideOfTheCLibrary) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		std::FILE *nowhere = std::fopen("/dev/null", "w");
		while (!stop.load(std::memory_order_relaxed)) {
			(void)std::fprintf(nowhere, "%d %s %f\n", 1000, "words", 1.5);
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
		(void)std::fclose(nowhere);
	});
	for (int round = 0; round < 60; round++) {
		EXPECT_TRUE(wait_until([&, before = turns.load()] { return turns > before; }));
		ASSERT_EQ(error_of(_lwp_suspend(hog.native_handle())), 0);
		const std::uint64_t before = turns;
		std::printf("%s", "");  // it has no lock of the C library
		others_run();
		EXPECT_EQ(turns, before);
		ASSERT_EQ(error_of(_lwp_continue(hog.native_handle())), 0);
	}
	bool by_itself = false;
	lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) { by_itself = by_itself || vc->vc_prober.load() >= 0; });
	EXPECT_TRUE(by_itself) << "the handler had a timer to ask again by itself";
	stop = true;
	hog.join();
}

namespace {

/// Whether this process may have breakpoints of the CPU; without, those who look must do.
bool breakpoints_permitted() {
	perf_event_attr attr{};
	attr.type = PERF_TYPE_BREAKPOINT;
	attr.size = sizeof attr;
	attr.sample_period = 1;
	attr.disabled = 1;
	attr.exclude_kernel = 1;
	attr.exclude_hv = 1;
	attr.bp_type = HW_BREAKPOINT_X;
	attr.bp_addr = reinterpret_cast<std::uintptr_t>(&breakpoints_permitted);
	attr.bp_len = sizeof(long);
	const long fd = ::syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0UL);
	if (fd >= 0) {
		::close(static_cast<int>(fd));
	}
	return fd >= 0 && ::prctl(PR_GET_SECCOMP) == 0;
}

bool a_way_out_is_open() {
	bool open = false;
	lwp::kern::sched_each_vcpu([&open](const lwp::kern::vcpu_t *vc) {
		for (const lwp::kern::way_out &w : vc->vc_ways) {
			open = open || w.w_open.load();
		}
	});
	return open;
}

bool a_way_out_was_watched() {
	bool was = false;
	lwp::kern::sched_each_vcpu([&was](const lwp::kern::vcpu_t *vc) {
		for (const lwp::kern::way_out &w : vc->vc_ways) {
			was = was || w.w_at != 0;
		}
	});
	return was;
}

/// Where an LWP was interrupted that waits in the handler on that vCPU; 0: none does, or it has gone on meanwhile.
__attribute__((no_sanitize("address"))) std::uintptr_t interrupted_at([[maybe_unused]] const lwp::kern::vcpu_t *vc) {
#if defined(__x86_64__)
	const std::uint64_t switches = vc->vc_switches.load();
	const lwp::kern::lwp_t *l = __atomic_load_n(&vc->vc_curlwp, __ATOMIC_ACQUIRE);
	if (!vc->vc_frozen.load() || l == nullptr || l->l_boundsp == nullptr) {
		return 0;
	}
	const std::uintptr_t pc = static_cast<const volatile std::uintptr_t *>(l->l_boundsp)[REG_RIP];  // its registers are there
	return vc->vc_frozen.load() && vc->vc_switches.load() == switches ? pc : 0;
#else
	return 0;
#endif
}

/// Suspends it so many times, each time after it has gone on.  How many of these it waits about to call __cxa_begin_catch.
int suspended_again_and_again(const lwp::thread &hog, const std::atomic<std::uint64_t> &turns, int times) {
	const auto begin_catch = reinterpret_cast<std::uintptr_t>(::dlsym(RTLD_DEFAULT, "__cxa_begin_catch"));
	int catching = 0;
	for (int round = 0; round < times; round++) {
		EXPECT_TRUE(wait_until([&, before = turns.load()] { return turns > before; }));
		EXPECT_EQ(error_of(_lwp_suspend(hog.native_handle())), 0);
		EXPECT_FALSE(a_way_out_is_open());
		lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) { catching += interrupted_at(vc) == begin_catch ? 1 : 0; });
		const std::uint64_t before = turns;
		others_run();
		EXPECT_EQ(turns, before);
		EXPECT_EQ(error_of(_lwp_continue(hog.native_handle())), 0);
	}
	return catching;
}

}  // namespace

// Milliseconds in the C library, then a few nanoseconds outside, and so on: of ten thousand looks one may find it there.  It is met as it comes out.
TEST(PreemptStill, OneWhoseCallsAreLong) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	if (!breakpoints_permitted()) {
		GTEST_SKIP() << "no breakpoints here";
	}
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		const std::vector<char> text(std::size_t{24} << 20, 'x');
		while (!stop.load(std::memory_order_relaxed)) {
			const void *found = std::memchr(text.data(), 'y', text.size());
			asm volatile("" : : "r"(found));
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
	});
	(void)suspended_again_and_again(hog, turns, 20);
	EXPECT_TRUE(a_way_out_was_watched());
	stop = true;
	hog.join();
}

// What throws does not come back: who catches is met.
TEST(PreemptStill, OneThatThrowsFromFarBelow) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	struct below {
		static int go(int depth) {
			if (depth == 0) {
				throw std::runtime_error("far below");
			}
			const int below_it = go(depth - 1);
			return below_it + 1;
		}
	};
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		while (!stop.load(std::memory_order_relaxed)) {
			try {
				turns.store(turns.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(below::go(50)), std::memory_order_relaxed);
			} catch (const std::runtime_error &) {
				turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
			}
		}
	});
	const int catching = suspended_again_and_again(hog, turns, 40);
	// By looks alone it is found there once or twice: about to enter a function is one instruction.
	EXPECT_TRUE(catching > 10 || !breakpoints_permitted()) << "it was met as it caught " << catching << " times only";
	stop = true;
	hog.join();
}

// AddressSanitizer's malloc and syslog(3) read it with a lock held.
TEST(PreemptStill, TheClockIsInTheCLibrary) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	(void)vcpus();  // it is looked up as the runtime starts
	if (const std::uintptr_t vdso = ::getauxval(AT_SYSINFO_EHDR); vdso != 0) {
		EXPECT_FALSE(lwp::kern::outside(vdso));
	}
	EXPECT_TRUE(lwp::kern::outside(reinterpret_cast<std::uintptr_t>(&others_run)));
}

#if LWP_TEST_ASAN

namespace {

std::string file_of(std::uintptr_t pc) {
	Dl_info info{};
	return ::dladdr(reinterpret_cast<void *>(pc), &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

}  // namespace

// Its locks are spun for, by LWPs in calls of the library too, which would never let one run that was taken off with such a lock.  One that allocates and frees
// is hardly anywhere else.
TEST(PreemptTurns, NobodyIsTakenOffInTheRunTimeOfAddressSanitizer) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const auto in_it = reinterpret_cast<std::uintptr_t>(&__asan_region_is_poisoned);
	const std::string runtime = file_of(in_it);
	EXPECT_TRUE(lwp::kern::outside_spins(in_it) && !lwp::kern::outside(in_it));
	std::atomic<bool> stop{false};
	std::deque<lwp::thread> hogs;
	for (int i = 0; i < 2; i++) {
		hogs.emplace_back(lwp::attributes{.vcpu = 0}, [&stop] {
			while (!stop.load(std::memory_order_relaxed)) {
				void *memory = std::malloc(100);
				asm volatile("" : : "r"(memory) : "memory");
				std::free(memory);
			}
		});
	}
	unsigned seen = 0;
	lwp::thread looks({.vcpu = 0}, [&] {
		EXPECT_TRUE(wait_until([&] {
			const lwp::no_preempt here;  // both are off, and stay so
			lwp::kern::sched_each_vcpu([&](const lwp::kern::vcpu_t *vc) {
				if (const std::uintptr_t pc = interrupted_at(vc); pc != 0) {
					EXPECT_NE(file_of(pc), runtime);
					seen++;
				}
			});
			return seen >= 20;
		}));
	});
	looks.join();
	stop = true;
	for (lwp::thread &t : hogs) {
		t.join();
	}
}

#endif

// A handler of the process's signals in an LWP that computes waits for its next call.
TEST(PreemptSignal, AHandlerRunsAtTheNextCall) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	static std::atomic<int> handled{0};
	struct sigaction act {};
	act.sa_handler = [](int) { handled++; };
	ASSERT_EQ(lwp_sigaction(SIGUSR1, &act, nullptr), 0);
	std::atomic<bool> stop{false};
	std::atomic<bool> runs{false};
	lwp::thread hog([&] {
		runs = true;
		while (!stop.load(std::memory_order_relaxed)) {
		}
		lwp_yield();
	});
	EXPECT_TRUE(wait_until([&] { return runs.load(); }));
	EXPECT_EQ(error_of(_lwp_kill(hog.native_handle(), SIGUSR1)), 0);
	others_run();
	EXPECT_EQ(handled, 0);
	stop = true;
	hog.join();
	EXPECT_EQ(handled, 1);
	act.sa_handler = SIG_DFL;
	ASSERT_EQ(lwp_sigaction(SIGUSR1, &act, nullptr), 0);
}

// ---- in processes of their own -------------------------------------------------------------------------------------

namespace {

void fail_case(const char *what) {
	std::fputs(what, stderr);
	std::_Exit(9);
}

/// As many as there are vCPUs, and one more, that never end.
void endless_hogs() {
	for (unsigned i = 0; i <= vcpus(); i++) {
		lwp::thread([] {
			for (;;) {
				asm volatile("");
			}
		}).detach();
	}
	others_run();
}

void ends_by_proc_exit() {
	endless_hogs();
	lwp_proc_exit(0, 50);
}

void ends_by_shutdown() {
	endless_hogs();
	if (lwp_proc_shutdown(60'000) != 0) {
		fail_case("not everybody stood still\n");
	}
	std::_Exit(0);
}

/// Others would have had three turns here.
void nobody_else_runs(const std::atomic<int> &turns) {
	const lwp::kern::vcpu_t *vc = lwp::kern::curcpu_or_null();
	const int before = turns;
	for (int refused = 0; refused < 3; refused++) {
		const_cast<lwp::kern::vcpu_t *>(vc)->vc_expired = 0;
		while (vc->vc_expired.load(std::memory_order_relaxed) == 0) {  // until somebody has left word
		}
	}
	if (turns != before) {
		fail_case("another LWP ran\n");
	}
}

/// Calls `hog` while another LWP wants that vCPU.
void beside_another(void (*hog)(const std::atomic<int> &turns)) {
	std::atomic<bool> stop{false};
	std::atomic<int> turns{0};
	lwp::thread other({.vcpu = 0}, [&] {
		while (!stop) {
			turns++;
			lwp_yield();
		}
	});
	lwp::thread one({.vcpu = 0}, [&] { hog(turns); });
	one.join();
	stop = true;
	other.join();
}

void no_preempt_holds() {
	beside_another([](const std::atomic<int> &turns) {
		const lwp::no_preempt here;
		nobody_else_runs(turns);
	});
}

const std::atomic<int> *fork_turns;

// A signal would make it begin again.  What is registered before the runtime starts is called in the middle.
void no_signal_in_fork() {
	(void)::pthread_atfork([] { nobody_else_runs(*fork_turns); }, nullptr, nullptr);
	beside_another([](const std::atomic<int> &turns) {
		fork_turns = &turns;
		const pid_t child = ::fork();
		if (child == 0) {
			::_exit(7);
		}
		int status = 0;
		while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
		}
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
			fail_case("the child did not end as it should\n");
		}
	});
}

bool signal_is_taken() {
	struct sigaction now {};
	::sigaction(SIGURG, nullptr, &now);
	return now.sa_handler != SIG_DFL;
}

const lwp::runtime_options asks_for_it = {.preemption = true};

void on_if_asked_for() {
	const lwp::runtime rt(asks_for_it);
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus());
	others_run();
	end_all(hogs);
	if (!signal_is_taken()) {
		fail_case("it is off\n");
	}
}

void sigurg_is_left_alone() {
	if (signal_is_taken()) {
		fail_case("SIGURG was taken\n");
	}
}

void off() {
	const lwp::runtime rt(asks_for_it);
	sigurg_is_left_alone();
}

void off_if_blocked() {
	sigset_t set;
	::sigfillset(&set);
	::pthread_sigmask(SIG_BLOCK, &set, nullptr);
	off();
}

std::atomic<int> own_signals{0};

void handler_stays(const struct sigaction &act) {
	::sigaction(SIGURG, &act, nullptr);
	const std::uint64_t from = preemptions();
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	if (!wait_until([&] { return preemptions() - from >= 5; })) {
		fail_case("nobody was preempted\n");
	}
	if (own_signals != 0) {
		fail_case("the handler was called for the monitor's signals\n");
	}
	::kill(::getpid(), SIGURG);
	if (!wait_until([] { return own_signals == 1; })) {
		fail_case("the handler was not called\n");
	}
	end_all(hogs);
}

void own_handler_stays() {
	struct sigaction act {};
	act.sa_handler = [](int) { own_signals++; };
	handler_stays(act);
}

std::atomic<pid_t> own_sender{0};

void own_handler_is_told_who() {
	struct sigaction act {};
	act.sa_flags = SA_SIGINFO;
	act.sa_sigaction = [](int, siginfo_t *info, void *) {
		own_sender = info->si_pid;
		own_signals++;
	};
	handler_stays(act);
	if (own_sender != ::getpid()) {
		fail_case("the handler was told of another sender\n");
	}
}

// By default SIGURG is ignored.  What the monitor uses in its place would have ended the process without us.
void others_signal_is_ignored() {
	(void)vcpus();
	::kill(::getpid(), SIGURG);
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	others_run();
	end_all(hogs);
}

constexpr int chosen_signal = 40;

void others_signal_ends_it() {
	(void)vcpus();
	::kill(::getpid(), chosen_signal);
	for (;;) {
		lwp_yield();
	}
}

void another_signal() {
	const std::uint64_t from = preemptions();
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	if (!wait_until([&] { return preemptions() - from >= 5; })) {
		fail_case("nobody was preempted\n");
	}
	sigurg_is_left_alone();
	end_all(hogs);
}

/// Of a signal that is queued each time: none is left over that would end the process.
void another_signal_meets_it() {
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] {
		std::FILE *nowhere = std::fopen("/dev/null", "w");
		while (!stop.load(std::memory_order_relaxed)) {
			(void)std::fprintf(nowhere, "%d %s %f\n", 1000, "words", 1.5);
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		}
		(void)std::fclose(nowhere);
	});
	(void)suspended_again_and_again(hog, turns, 60);
	stop = true;
	hog.join();
	if (testing::Test::HasFailure()) {
		fail_case("it did not stand still\n");
	}
}

struct process_case {
	const char *name;
	void (*run)();
	const char *preempt;
	// The monitor takes a kernel thread that waits for a page for a blocked one, and lets others run: not what most of these look at.
	const char *blocking = "off";
};

const process_case process_cases[] = {
    {"EndsByProcExit", ends_by_proc_exit, "on"},
    {"EndsByShutdown", ends_by_shutdown, "on"},
    {"NoPreemptHolds", no_preempt_holds, "on"},
    {"OwnHandlerStays", own_handler_stays, "on"},
    {"OwnHandlerIsToldWho", own_handler_is_told_who, "on"},
    {"OthersSignalIsIgnored", others_signal_is_ignored, "on"},
    {"AnotherSignal", another_signal, "40"},
    {"AnotherSignalMeetsIt", another_signal_meets_it, "40"},
    {"NoSignalInFork", no_signal_in_fork, "on"},
    {"OnIfAskedFor", on_if_asked_for, "", ""},
    {"OffIfSwitchedOff", off, "off", ""},
    {"OffIfNobodyIsFoundBlocked", off, "", "off"},
    {"OffIfTheSignalIsBlocked", off_if_blocked, "", ""},
};

const process_case ends_by_signal = {"OthersSignalEndsIt", others_signal_ends_it, "40"};

class PreemptProcess : public testing::TestWithParam<process_case> {};

}  // namespace

TEST_P(PreemptProcess, EndsWell) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const outcome o = run_case(GetParam().name, {{"LWP_PREEMPT", GetParam().preempt}, {"LWP_BLOCKING", GetParam().blocking}});
	EXPECT_TRUE(o.ended_well()) << o.status << ' ' << o.text;
}

TEST(PreemptSignal, OneOfSomebodyElseEndsTheProcessAsEver) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const outcome o = run_case(ends_by_signal.name, {{"LWP_PREEMPT", ends_by_signal.preempt}, {"LWP_BLOCKING", ends_by_signal.blocking}});
	EXPECT_TRUE(WIFSIGNALED(o.status) && WTERMSIG(o.status) == chosen_signal) << o.status << ' ' << o.text;
}

INSTANTIATE_TEST_SUITE_P(Cases, PreemptProcess, testing::ValuesIn(process_cases),
    [](const testing::TestParamInfo<process_case> &c) { return std::string(c.param.name); });

const bool cases = offer_cases([](const char *wanted) {
	if (std::strcmp(ends_by_signal.name, wanted) == 0) {
		ends_by_signal.run();
		return true;
	}
	for (const process_case &c : process_cases) {
		if (std::strcmp(c.name, wanted) == 0) {
			c.run();
			return true;
		}
	}
	return false;
});
