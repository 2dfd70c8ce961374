// SPDX-License-Identifier: BSD-2-Clause
//
// _lwp_makecontext(), _lwp_create(), _lwp_self(), and what an LWP has of its own: stack, errno, C++ exception state, FP control word.
// vcpus: 1 2 8
#include "../support/support.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cfenv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

struct call {
	lwpid_t self = 0;
	void *argument = nullptr;
	void *private_pointer = nullptr;
	const void *stack = nullptr;
	std::atomic<int> runs{0};
};

void record(void *argument) {
	auto *c = static_cast<call *>(argument);
	c->self = _lwp_self();
	c->argument = argument;
	c->private_pointer = _lwp_getprivate();
	c->stack = __builtin_frame_address(0);  // not a local: a sanitizer may have put those elsewhere
	c->runs.fetch_add(1);
}

int create(void (*start)(void *), void *argument, lwpid_t *lid, void *stack = nullptr, std::size_t size = 0, unsigned long flags = 0) {
	ucontext_t context;
	_lwp_makecontext(&context, start, argument, nullptr, stack, size);
	return error_of(_lwp_create(&context, flags, lid));
}

std::size_t lwps() { return lwp::runtime::stats().lwps; }

void set_private_to_itself(void *cell) { _lwp_setprivate(cell); }

}  // namespace

TEST(Create, RunsTheFunctionOnceWithItsArgumentIdAndPrivatePointer) {
	call c;
	int something = 0;
	ucontext_t context;
	_lwp_makecontext(&context, record, &c, &something, nullptr, 0);
	lwpid_t lid = 0;
	ASSERT_EQ(error_of(_lwp_create(&context, 0, &lid)), 0);
	EXPECT_GT(lid, 0);
	EXPECT_NE(lid, _lwp_self());
	collect(lid);
	EXPECT_EQ(c.runs.load(), 1);
	EXPECT_EQ(c.self, lid);
	EXPECT_EQ(c.argument, &c);
	EXPECT_EQ(c.private_pointer, &something);
}

// The id is stored before the LWP can run, so it may read it.
TEST(Create, StoresTheIdBeforeTheLwpRuns) {
	struct shared {
		lwpid_t lid = 0;
		lwpid_t seen = 0;
	};
	for (std::size_t i = 0; i < rounds(2000); ++i) {
		shared s;
		ASSERT_EQ(create([](void *p) { static_cast<shared *>(p)->seen = static_cast<shared *>(p)->lid; }, &s, &s.lid), 0);
		const lwpid_t lid = s.lid;
		collect(lid);
		ASSERT_EQ(s.seen, lid);
	}
}

// Behaviour 31.
TEST(Create, IdsRiseAndAreNeverZeroNorThoseOfTheLiving) {
	EXPECT_GT(_lwp_self(), 0);
	lwpid_t last = 0;
	std::vector<lwpid_t> living;
	std::set<lwpid_t> seen{_lwp_self()};
	gate leave;
	for (int i = 0; i < 100; ++i) {
		const lwpid_t lid = spawn([&leave] { leave.pass(); });
		EXPECT_GT(lid, last);
		EXPECT_TRUE(seen.insert(lid).second);
		last = lid;
		living.push_back(lid);
		const lwpid_t brief = make_zombie();
		EXPECT_GT(brief, last);
		EXPECT_TRUE(seen.insert(brief).second);
		collect(brief);
		last = brief;
	}
	leave.open();
	for (const lwpid_t lid : living) {
		collect(lid);
	}
}

TEST(Create, ContextWithALibraryStackStartsAnyNumberOfLwps) {
	call c;
	ucontext_t context;
	_lwp_makecontext(&context, record, &c, nullptr, nullptr, 0);
	for (int i = 0; i < 3; ++i) {
		lwpid_t lid = 0;
		ASSERT_EQ(error_of(_lwp_create(&context, 0, &lid)), 0);
		collect(lid);
	}
	EXPECT_EQ(c.runs.load(), 3);
}

TEST(Create, RunsOnTheCallersStack) {
	constexpr std::size_t size = 128 * 1024;
	std::unique_ptr<char, decltype(&std::free)> stack(static_cast<char *>(std::aligned_alloc(4096, size)), std::free);
	call c;
	lwpid_t lid = 0;
	ASSERT_EQ(create(record, &c, &lid, stack.get(), size), 0);
	collect(lid);
	EXPECT_EQ(c.runs.load(), 1);
	EXPECT_GE(c.stack, stack.get());
	EXPECT_LT(c.stack, stack.get() + size);
}

TEST(Create, TakesACallersStackOfAnyAlignment) {
	constexpr std::size_t size = 128 * 1024;
	std::vector<char> memory(size + 64);
	for (std::size_t shift = 0; shift < 24; shift += 3) {
		call c;
		lwpid_t lid = 0;
		ASSERT_EQ(create(record, &c, &lid, memory.data() + shift, size - shift), 0);
		collect(lid);
		EXPECT_EQ(c.runs.load(), 1);
	}
}

// Behaviour 44: once it has been collected, the LWP is off its stack for good.
TEST(Create, CollectedLwpTouchesItsStackNoMore) {
	constexpr std::size_t size = 64 * 1024;
	std::vector<unsigned char> stack(size);
	for (std::size_t i = 0; i < rounds(5000); ++i) {
		lwpid_t lid = 0;
		ASSERT_EQ(create([](void *) { lwp_yield(); }, nullptr, &lid, stack.data(), size), 0);
		ASSERT_EQ(error_of(_lwp_wait(lid, nullptr)), 0);
		std::memset(stack.data(), 0xa5, size);
		for (int n = 0; n < 3; ++n) {
			lwp_yield();
		}
		for (std::size_t at = 0; at < size; at += 16) {
			ASSERT_EQ(stack[at], 0xa5) << "at " << at << " of " << size;
		}
	}
}

TEST(Create, LibraryStackHasTheSizeAskedFor) {
	constexpr std::size_t size = 1024 * 1024;
	lwpid_t lid = 0;
	std::atomic<int> sum{0};
	ASSERT_EQ(create(
	              [](void *p) {
		              volatile char big[900 * 1024];
		              for (std::size_t i = 0; i < sizeof(big); i += 4096) {
			              big[i] = 1;
			              static_cast<std::atomic<int> *>(p)->fetch_add(big[i]);
		              }
	              },
	              &sum, &lid, nullptr, size),
	    0);
	collect(lid);
	EXPECT_EQ(sum.load(), 225);
}

TEST(Create, DefaultStackHoldsFortyKibibytes) {
	const lwpid_t lid = spawn([] {
		volatile char big[40 * 1024];
		for (std::size_t i = 0; i < sizeof(big); i += 1024) {
			big[i] = 1;
		}
		lwp_yield();
		EXPECT_EQ(big[0], 1);
	});
	collect(lid);
}

TEST(Create, UnknownFlagIsEinval) {
	const std::size_t before = lwps();
	call c;
	for (const unsigned long flag : {0x1UL, 0x20UL, 0x400UL, 0x80000000UL, ~0UL}) {
		lwpid_t lid = 0;
		EXPECT_EQ(create(record, &c, &lid, nullptr, 0, flag), EINVAL) << flag;
		EXPECT_EQ(create(record, &c, &lid, nullptr, 0, flag | LWP_DETACHED), EINVAL) << flag;
	}
	EXPECT_EQ(c.runs.load(), 0);
	EXPECT_EQ(lwps(), before);
}

TEST(Create, NullPointersAreEinval) {
	const std::size_t before = lwps();
	call c;
	lwpid_t lid = 0;
	ucontext_t context;
	_lwp_makecontext(&context, record, &c, nullptr, nullptr, 0);
	EXPECT_EQ(error_of(_lwp_create(nullptr, 0, &lid)), EINVAL);
	EXPECT_EQ(error_of(_lwp_create(&context, 0, nullptr)), EINVAL);
	EXPECT_EQ(create(nullptr, nullptr, &lid), EINVAL);
	EXPECT_EQ(c.runs.load(), 0);
	EXPECT_EQ(lwps(), before);
}

TEST(Create, ContextNotMadeByMakecontextIsEinval) {
	const std::size_t before = lwps();
	lwpid_t lid = 0;
	ucontext_t context;
	std::memset(&context, 0, sizeof(context));
	EXPECT_EQ(error_of(_lwp_create(&context, 0, &lid)), EINVAL);
	std::memset(&context, 0xff, sizeof(context));
	EXPECT_EQ(error_of(_lwp_create(&context, 0, &lid)), EINVAL);
	ASSERT_EQ(getcontext(&context), 0);
	EXPECT_EQ(error_of(_lwp_create(&context, 0, &lid)), EINVAL);
	EXPECT_EQ(lwps(), before);
}

TEST(Create, StackTooSmallIsEinval) {
	const std::size_t before = lwps();
	call c;
	lwpid_t lid = 0;
	alignas(64) static char tiny[512];
	for (const std::size_t size : {std::size_t{1}, std::size_t{16}, std::size_t{256}, sizeof(tiny)}) {
		EXPECT_EQ(create(record, &c, &lid, tiny, size), EINVAL) << size;
		EXPECT_EQ(create(record, &c, &lid, nullptr, size), EINVAL) << size;
	}
	EXPECT_EQ(create(record, &c, &lid, tiny, 0), EINVAL);
	EXPECT_EQ(c.runs.load(), 0);
	EXPECT_EQ(lwps(), before);
}

// No memory for a stack that may be asked for is another matter: see the death test below.
TEST(Create, StackLargerThanAnyIsEinvalAndLeavesNothing) {
	const auto before = lwp::runtime::stats();
	call c;
	lwpid_t lid = 0;
	EXPECT_EQ(create(record, &c, &lid, nullptr, std::size_t{1} << 50), EINVAL);
	EXPECT_EQ(create(record, &c, &lid, nullptr, SIZE_MAX), EINVAL);
	const auto after = lwp::runtime::stats();
	EXPECT_EQ(after.lwps, before.lwps);
	EXPECT_EQ(after.stacks_in_use, before.stacks_in_use);
	EXPECT_EQ(c.runs.load(), 0);
}

#if !LWP_TEST_ASAN && !LWP_TEST_TSAN
namespace {

// Makes LWPs with big stacks until memory runs out, then uses the library as if nothing had happened.
[[noreturn]] void run_out_of_memory() {
	const std::size_t room = (status_kib("VmSize:") + 2 * 1024 * 1024) * 1024;
	collect(spawn([] {}));
	const rlimit limit{room, room};
	if (setrlimit(RLIMIT_AS, &limit) != 0) {
		std::_Exit(10);
	}
	gate leave;
	std::vector<lwpid_t> lids;
	lids.reserve(1000);
	int error = 0;
	while (error == 0 && lids.size() < 1000) {
		lwpid_t lid = 0;
		error = create([](void *g) { static_cast<gate *>(g)->pass(); }, &leave, &lid, nullptr, 8 * 1024 * 1024);
		if (error == 0) {
			lids.push_back(lid);
		}
	}
	if (error != ENOMEM || lwps() != lids.size() + 1) {
		std::_Exit(11);
	}
	try {
		lwp::thread t({.stack_size = 8 * 1024 * 1024}, [] {});
		t.join();
		std::_Exit(14);
	} catch (const std::system_error &e) {
		if (e.code().value() != ENOMEM || lwps() != lids.size() + 1) {
			std::_Exit(15);
		}
	}
	leave.open();
	for (const lwpid_t lid : lids) {
		if (error_of(_lwp_wait(lid, nullptr)) != 0) {
			std::_Exit(12);
		}
	}
	collect(spawn([] {}));
	std::_Exit(lwps() == 1 && !testing::Test::HasFailure() ? 0 : 13);
}

}  // namespace

TEST(CreateDeathTest, RunningOutOfMemoryIsEnomemAndTheRestGoesOn) { EXPECT_EXIT(run_out_of_memory(), testing::ExitedWithCode(0), ""); }
#endif

// Behaviour 12.
TEST(Create, SuspendedDoesNotRunUntilContinued) {
	const std::size_t runnable = lwp::runtime::stats().runnable;
	std::atomic<bool> ran{false};
	const lwpid_t lid = spawn([&ran] { ran = true; }, LWP_SUSPENDED);
	EXPECT_EQ(lwp::runtime::stats().runnable, runnable);
	EXPECT_TRUE(alive(lid));
	for (int i = 0; i < 100; ++i) {
		lwp_yield();
	}
	EXPECT_FALSE(ran);
	EXPECT_EQ(error_of(_lwp_suspend(lid)), 0) << "it is suspended already";
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	collect(lid);
	EXPECT_TRUE(ran);
}

TEST(Create, SuspendedAndDetached) {
	std::atomic<bool> ran{false};
	const lwpid_t lid = spawn([&ran] { ran = true; }, LWP_SUSPENDED | LWP_DETACHED);
	EXPECT_EQ(error_of(_lwp_wait(lid, nullptr)), ESRCH);
	EXPECT_FALSE(ran);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	await_end(lid);
	EXPECT_TRUE(ran);
}

// Behaviour 11.
TEST(Create, HundredThousandDetachedLeaveNothingBehind) {
	std::atomic<std::size_t> done{0};
	const std::size_t all = rounds(100000);
	std::size_t made = 0;
	std::size_t warm_stacks = 0;
	std::size_t warm_rss = 0;
	while (made < all) {
		for (int i = 0; i < 50; ++i, ++made) {
			ASSERT_GT(spawn([&done] { done.fetch_add(1, std::memory_order_relaxed); }, LWP_DETACHED), 0);
		}
		ASSERT_TRUE(wait_until([&] { return done.load() == made && lwps() == 1; }));
		const auto s = lwp::runtime::stats();
		if (made == 1000) {
			warm_stacks = s.stacks_in_use + s.stacks_cached;
			warm_rss = status_kib("VmRSS:");
		}
		if (made > 1000) {
			// They are made on one vCPU and may end on another, each of which keeps some: bounded, but not by what was there first.
			ASSERT_LE(s.stacks_in_use + s.stacks_cached, warm_stacks + 2000 * s.vcpus);
		}
	}
#if !LWP_TEST_ASAN && !LWP_TEST_TSAN
	EXPECT_LT(status_kib("VmRSS:"), warm_rss + 16 * 1024 * (lwp::runtime::vcpus() + 1));
#else
	(void)warm_rss;
#endif
}

TEST(Create, RecycledLwpStartsAfresh) {
	for (int i = 0; i < 100; ++i) {
		const lwpid_t lid = spawn(
		    [] {
			    char name[LWP_MAXNAME] = "?";
			    EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
			    EXPECT_STREQ(name, "");
			    EXPECT_EQ(_lwp_getprivate(), nullptr);
			    EXPECT_EQ(park_for(std::chrono::nanoseconds(1)), ETIMEDOUT) << "an unpark was left from the one before";
			    EXPECT_EQ(error_of(_lwp_setname(0, "used")), 0);
			    set_private_to_itself(name);
			    EXPECT_EQ(error_of(_lwp_unpark(_lwp_self(), nullptr)), 0);
		    },
		    i % 2 == 0 ? LWP_DETACHED : 0);
		if (i % 2 == 0) {
			await_end(lid);
		} else {
			collect(lid);
		}
	}
}

// Behaviour 45, errno.
TEST(Create, ErrnoBelongsToTheLwp) {
	std::vector<lwpid_t> lids;
	for (int n = 1; n <= 8; ++n) {
		lids.push_back(spawn([n] {
			set_errno(n);
			for (int i = 0; i < 1000; ++i) {
				lwp_yield();
				if (i % 100 == 0) {
					(void)park_for(std::chrono::microseconds(10));
					set_errno(n);
				}
				ASSERT_EQ(get_errno(), n);
			}
		}));
	}
	set_errno(4711);
	for (int i = 0; i < 500; ++i) {
		lwp_yield();
		ASSERT_EQ(get_errno(), 4711);
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
}

// Behaviour 45, FP control word: rounding mode and exception flags' masks stay with the LWP that set them.
TEST(Create, RoundingModeBelongsToTheLwp) {
	const int ours = std::fegetround();
	std::vector<lwpid_t> lids;
	const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
	for (int n = 0; n < 8; ++n) {
		lids.push_back(spawn([mode = modes[n % 4]] {
			ASSERT_EQ(std::fesetround(mode), 0);
			for (int i = 0; i < 1000; ++i) {
				lwp_yield();
				ASSERT_EQ(std::fegetround(), mode);
			}
			(void)park_for(std::chrono::microseconds(10));
			ASSERT_EQ(std::fegetround(), mode);
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
		EXPECT_EQ(std::fegetround(), ours);
	}
}

// Behaviour 45, exceptions: the stack of caught ones and the count of uncaught ones follow the LWP.
TEST(Create, ExceptionStateBelongsToTheLwp) {
	struct yields_while_unwinding {
		int expected;
		~yields_while_unwinding() {
			for (int i = 0; i < 10; ++i) {
				lwp_yield();
				EXPECT_EQ(std::uncaught_exceptions(), expected);
			}
		}
	};
	std::vector<lwpid_t> lids;
	for (int n = 0; n < 8; ++n) {
		lids.push_back(spawn([n] {
			for (int i = 0; i < 100; ++i) {
				const std::string mine = std::to_string(n * 1000 + i);
				try {
					yields_while_unwinding y{1};
					throw std::runtime_error(mine);
				} catch (const std::runtime_error &outer) {
					lwp_yield();
					try {
						throw std::logic_error("inner");
					} catch (const std::logic_error &) {
						lwp_yield();
					}
					lwp_yield();
					EXPECT_EQ(outer.what(), mine);
					try {
						lwp_yield();
						throw;
					} catch (const std::exception &again) {
						lwp_yield();
						EXPECT_EQ(again.what(), mine);
					}
				}
				EXPECT_EQ(std::current_exception(), nullptr);
				EXPECT_EQ(std::uncaught_exceptions(), 0);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
}

namespace {

#if defined(__clang__)
__attribute__((noinline, optnone))
#else
__attribute__((noinline, optimize("O0")))
#endif
int
recurse(int n) {
	volatile char frame[1024];
	frame[0] = static_cast<char>(n);
	return n == 0 ? 0 : recurse(n - 1) + frame[0];
}

[[noreturn]] void overflow() {
	const lwpid_t lid = spawn([] {
		(void)_lwp_setname(0, "deep");
		(void)recurse(1 << 20);
	});
	(void)_lwp_wait(lid, nullptr);
	std::_Exit(0);
}

}  // namespace

// Behaviour 44, the guard.
TEST(CreateDeathTest, OverflowHitsTheGuardAndSaysWhoseStackItWas) {
	const char *message = "LWP [0-9]+ 'deep' overflowed its [0-9]+ KiB stack";
#if LWP_TEST_ASAN || LWP_TEST_TSAN
	EXPECT_DEATH(overflow(), message);
#else
	EXPECT_EXIT(overflow(), testing::KilledBySignal(SIGSEGV), message);
#endif
}

// Behaviour 46: LWPs that block do not stop the others, on however few vCPUs.
TEST(Create, BlockedLwpsDoNotStopTheOthers) {
	std::vector<std::unique_ptr<subject>> blocked;
	for (int i = 0; i < 50; ++i) {
		blocked.push_back(std::make_unique<subject>([](subject &s) { s.park_once(); }));
	}
	for (const auto &s : blocked) {
		s->await_blocked();
	}
	std::atomic<int> turns{0};
	const lwpid_t a = spawn([&turns] {
		for (int i = 0; i < 1000; ++i) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	collect(a);
	EXPECT_EQ(turns.load(), 1000);
	for (const auto &s : blocked) {
		EXPECT_EQ(s->result(), -1);
		EXPECT_EQ(error_of(_lwp_unpark(s->lid(), nullptr)), 0);
		collect(s->lid());
		EXPECT_EQ(s->result(), 0);
	}
}
