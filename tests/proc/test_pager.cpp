// SPDX-License-Identifier: BSD-2-Clause
//
// The stack pager, table 1.18's swapping: who goes and who does not, what is left of a stack that went, that a woken LWP runs only when it is back, and
// holds.  Sweeps are forced here, by LWPs; the case runs the pager's kernel thread.
// vcpus: 1 2 8
#include "proc/pager.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/pageq.h"

#include "../support/cases.h"
#include "../support/support.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>

#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// All that have slept for no matter how short.
std::size_t sweep() { return pager_sweep(&proc0, 0, curlwp()->l_cpu); }
std::size_t serve() { return pager_serve(curlwp()->l_cpu); }

kinfo_lwp look(lwpid_t lid) {
	for (const kinfo_lwp &k : lwp::every_lwp()) {
		if (k.l_lid == lid) {
			return k;
		}
	}
	return {};
}

/// Writes far down the stack, and leaves it.
[[gnu::noinline]] void use_much_stack() {
	constexpr std::size_t size = 32'000;
	auto *much = static_cast<volatile char *>(__builtin_alloca(size));  // an array might be put elsewhere by a sanitizer
	asm volatile("" : "+r"(much));  // somebody knows it: Clang keeps no more of it than the bytes written, side by side
	for (std::size_t i = 0; i < size; i += 512) {
		much[i] = static_cast<char>(i);
	}
}

/// Pages below its stack pointer that are in memory.  It sleeps.
std::size_t unused_pages(lwpid_t lid) {
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	const lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
	if (l == nullptr) {
		ADD_FAILURE() << "no LWP " << lid;
		return 0;
	}
	std::byte *base = l->l_stack.s_base;
	const auto *sp = static_cast<const std::byte *>(context_sp(l->l_ctx));
	lock->unlock(me);
	const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
	const std::size_t pages = static_cast<std::size_t>(sp - base) / page;
	std::vector<unsigned char> in(pages);
	EXPECT_EQ(::mincore(base, pages * page, in.data()), 0);
	std::size_t n = 0;
	for (unsigned char c : in) {
		n += c & 1U;
	}
	return n;
}

bool portable() { return context_sp(context{}) == nullptr && LWP_PORTABLE_SWITCH != 0; }

bool run(const char *name) {
	if (std::strcmp(name, "storm") != 0) {
		return false;
	}
	// Every sleeper that is not awake again within a millisecond goes; what it keeps on its stack must be what it was.
	std::vector<lwp::thread> all;
	std::atomic<bool> stop{false};
	std::atomic<bool> wrong{false};
	for (unsigned i = 0; i < 40; i++) {
		all.emplace_back([&, i] {
			dice d(i);
			while (!stop.load()) {
				unsigned char kept[3000];
				std::memset(kept, static_cast<int>(i), sizeof kept);
				(void)park_for(std::chrono::microseconds(d.below(8000)));
				for (unsigned char c : kept) {
					if (c != i) {
						wrong = true;
					}
				}
				use_much_stack();
			}
		});
	}
	dice d(7);
	patience p;
	while (lwp::runtime::stats().stacks_paged_in < 100) {
		lwp::thread &t = all[d.below(40)];
		switch (d.below(5)) {
		case 0:
			(void)_lwp_unpark(t.native_handle(), nullptr);
			break;
		case 1:
			(void)_lwp_suspend(t.native_handle());
			(void)_lwp_continue(t.native_handle());
			break;
		case 2: {
			const lwp::stop_the_world world;
			break;
		}
		case 3:
			(void)lwp_hold(t.native_handle());
			lwp_yield();
			(void)lwp_rele(t.native_handle());
			break;
		default:
			(void)park_for(200us);
		}
		if (!p.yield()) {
			std::fputs("too few stacks came back\n", stderr);
			std::_Exit(2);
		}
	}
	stop = true;
	for (lwp::thread &t : all) {
		(void)_lwp_unpark(t.native_handle(), nullptr);
		t.join();
	}
	const lwp::runtime_stats s = lwp::runtime::stats();
	if (wrong.load() || s.stacks_paged_out != s.stacks_paged_in) {
		std::fprintf(stderr, "wrong: %d, out: %lu, in: %lu\n", wrong.load() ? 1 : 0, static_cast<unsigned long>(s.stacks_paged_out),
		    static_cast<unsigned long>(s.stacks_paged_in));
		std::_Exit(3);
	}
	return true;
}

const bool cases = offer_cases(run);

}  // namespace

TEST(Pager, ASleeperKeepsWhatItUsesAndNoMore) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	const pager_stats before = pager_statistics();
	subject s([](subject &self) {
		use_much_stack();
		unsigned char kept[512];
		std::memset(kept, 0xa5, sizeof kept);
		self.park_once();
		for (unsigned char c : kept) {
			EXPECT_EQ(c, 0xa5);
		}
		use_much_stack();
	});
	s.await_blocked();
	EXPECT_GT(unused_pages(s.lid()), 2U);
	EXPECT_EQ(look(s.lid()).l_inmem, 1);
	EXPECT_EQ(sweep(), 1U);
	EXPECT_EQ(unused_pages(s.lid()), 0U);
	EXPECT_EQ(look(s.lid()).l_inmem, 0);
	EXPECT_EQ(look(s.lid()).l_stat, LSSLEEP);
	EXPECT_EQ(sweep(), 0U) << "it is out already";
	EXPECT_EQ(serve(), 0U) << "nobody has woken it";
	// Woken it is to run, and waits for its stack: LSRUN, and on no run queue.
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	EXPECT_EQ(look(s.lid()).l_stat, LSRUN);
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	EXPECT_EQ(s.result(), -1);
	EXPECT_EQ(look(s.lid()).l_stat, LSRUN);
	EXPECT_EQ(serve(), 1U);
	collect(s.lid());
	EXPECT_EQ(s.result(), 0);
	const pager_stats after = pager_statistics();
	EXPECT_EQ(after.out - before.out, 1U);
	EXPECT_EQ(after.in - before.in, 1U);
	EXPECT_GT(after.bytes, before.bytes);
}

TEST(Pager, WhoDoesNotGo) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	gate leave;
	const lwpid_t runs = spawn([&] { leave.pass(); });
	const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED);
	const lwpid_t zombie = make_zombie();
	// On a stack of its creator's.
	std::vector<char> memory(64 * 1024);
	static std::atomic<bool> parked;
	parked = false;
	ucontext_t context;
	_lwp_makecontext(
	    &context,
	    [](void *) {
		    parked = true;
		    EXPECT_EQ(park(), 0);
	    },
	    nullptr, nullptr, memory.data(), memory.size());
	lwpid_t foreign;
	ASSERT_EQ(error_of(_lwp_create(&context, 0, &foreign)), 0);
	EXPECT_TRUE(wait_until([&] { return parked.load() && look(foreign).l_stat == LSSLEEP; }));
	// A kernel thread of the application.
	std::atomic<lwpid_t> outside_lid{0};
	std::thread outside([&] {
		outside_lid = _lwp_self();
		EXPECT_EQ(park(), 0);
	});
	EXPECT_TRUE(wait_until([&] { return outside_lid.load() != 0 && look(outside_lid).l_stat == LSSLEEP; }));
	EXPECT_EQ(sweep(), 0U);
	// One that has not slept for long enough.
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_EQ(pager_sweep(&proc0, 3'600'000'000'000, curlwp()->l_cpu), 0U);
	EXPECT_EQ(error_of(lwp_hold(s.lid())), 0);
	EXPECT_EQ(sweep(), 0U);
	for (lwpid_t lid : {runs, suspended, foreign, outside_lid.load(), s.lid()}) {
		EXPECT_EQ(look(lid).l_inmem, 1) << lid;
	}
	leave.open();
	EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
	for (lwpid_t lid : {foreign, outside_lid.load(), s.lid()}) {
		EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), 0);
	}
	outside.join();
	for (lwpid_t lid : {runs, suspended, zombie, foreign, s.lid()}) {
		collect(lid);
	}
}

TEST(Pager, HoldsAreCountedAndBringItBack) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	subject s([](subject &self) { self.park_once(); });
	s.await_blocked();
	EXPECT_EQ(error_of(lwp_rele(s.lid())), EINVAL);
	EXPECT_EQ(sweep(), 1U);
	EXPECT_EQ(error_of(lwp_hold(s.lid())), 0);
	EXPECT_EQ(look(s.lid()).l_inmem, 1);
	EXPECT_EQ(look(s.lid()).l_stat, LSSLEEP) << "it sleeps on";
	EXPECT_EQ(error_of(lwp_hold(s.lid())), 0);
	EXPECT_EQ(look(s.lid()).l_holdcnt, 2);
	EXPECT_EQ(sweep(), 0U);
	EXPECT_EQ(error_of(lwp_rele(s.lid())), 0);
	EXPECT_EQ(sweep(), 0U);
	EXPECT_EQ(error_of(lwp_rele(s.lid())), 0);
	EXPECT_EQ(error_of(lwp_rele(s.lid())), EINVAL);
	EXPECT_EQ(sweep(), 1U);
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	EXPECT_EQ(error_of(lwp_hold(s.lid())), 0) << "woken, and not back yet";
	EXPECT_EQ(serve(), 1U);
	collect(s.lid());
	EXPECT_EQ(error_of(lwp_hold(nobody)), ESRCH);
	EXPECT_EQ(error_of(lwp_rele(nobody)), ESRCH);
	const lwpid_t zombie = make_zombie();
	EXPECT_EQ(error_of(lwp_hold(zombie)), ESRCH);
	EXPECT_EQ(error_of(lwp_rele(zombie)), ESRCH);
	collect(zombie);
	// Oneself; and whoever comes after in the same memory is not held.
	lwp::thread([] {
		EXPECT_EQ(error_of(lwp_hold(0)), 0);
		EXPECT_EQ(look(_lwp_self()).l_holdcnt, 1);
		for (int i = 1; i < UINT16_MAX; i++) {
			ASSERT_EQ(error_of(lwp_hold(0)), 0);
		}
		EXPECT_EQ(error_of(lwp_hold(0)), EAGAIN);
	}).join();
	lwp::thread([] { EXPECT_EQ(error_of(lwp_rele(0)), EINVAL); }).join();
}

// By what ends the sleep of one that is out.
TEST(Pager, WhateverEndsTheSleep) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	const auto out = [](subject &s) {
		s.await_blocked();
		EXPECT_EQ(sweep(), 1U);
	};
	{
		subject s([](subject &self) { self.park_once(); });
		out(s);
		EXPECT_EQ(error_of(_lwp_wakeup(s.lid())), 0);
		EXPECT_EQ(serve(), 1U);
		collect(s.lid());
		EXPECT_EQ(s.result(), EINTR);
	}
	{
		subject s([](subject &self) {
			self.about_to_block();
			self.set_result(park_for(1ms));
		});
		// It may be over before it is swept: then there is nothing to serve.
		EXPECT_TRUE(wait_until([&] {
			(void)sweep();
			(void)serve();
			return s.result() != -1;
		}));
		collect(s.lid());
		EXPECT_EQ(s.result(), ETIMEDOUT);
	}
	{
		subject s([](subject &self) { self.park_once(); });
		out(s);
		lwp::thread suspender([&] {
			EXPECT_EQ(error_of(_lwp_suspend(s.lid())), 0);
			EXPECT_EQ(look(s.lid()).l_stat, LSSUSPENDED);
			EXPECT_EQ(look(s.lid()).l_inmem, 1);
			EXPECT_EQ(error_of(_lwp_continue(s.lid())), 0);
		});
		EXPECT_TRUE(wait_until([&] { return serve() == 1; }));
		suspender.join();
		collect(s.lid());
		EXPECT_EQ(s.result(), 0);
	}
}

// It waits for another, or for a mutex, and is out when that comes.
TEST(Pager, ManyAtOnce) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	lwp::mutex mutex;
	std::atomic<int> done{0};
	std::vector<lwp::thread> all;
	{
		const std::lock_guard hold(mutex);
		for (int i = 0; i < 100; i++) {
			all.emplace_back([&] {
				use_much_stack();
				const std::lock_guard mine(mutex);
				done.fetch_add(1);
			});
		}
		EXPECT_TRUE(wait_until([] {
			const auto every = lwp::every_lwp();
			std::size_t asleep = 0;
			for (const kinfo_lwp &k : every) {
				asleep += k.l_stat == LSSLEEP ? 1U : 0U;
			}
			return asleep == 100;
		}));
		std::size_t swept = 0;
		while (const std::size_t n = sweep()) {
			swept += n;
		}
		EXPECT_EQ(swept, 100U);
	}
	EXPECT_TRUE(wait_until([&] {
		(void)serve();
		return done.load() == 100;
	}));
	for (lwp::thread &t : all) {
		t.join();
	}
}

TEST(Pager, Storm) {
	if (portable()) {
		GTEST_SKIP() << "where a stack ends is not known";
	}
	const outcome o = run_case("storm", {{"LWP_STACK_PAGER", "1"}});
	EXPECT_TRUE(o.ended_well()) << o.text;
}
