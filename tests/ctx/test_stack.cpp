// SPDX-License-Identifier: BSD-2-Clause
//
// ctx/stack: guarded, reused, coloured, bounded.  Tests that must start from an empty arena, or end it, run in a child process.
#include "base/config.h"
#include "base/sys.h"
#include "ctx/stack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <random>
#include <set>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace lwp::kern;

const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));

/// Whether the kernel can read the byte: asked by write(2), which fails with EFAULT where a load would fault.
class reader {
public:
	reader() {
		if (::pipe(pipe_) != 0) {
			std::abort();
		}
	}
	~reader() {
		::close(pipe_[0]);
		::close(pipe_[1]);
	}
	bool can_read(const std::byte *p) {
		long n = ::syscall(SYS_write, pipe_[1], p, 1);
		char c;
		return n == 1 && ::read(pipe_[0], &c, 1) == 1;
	}
	bool guarded(const stack &s) {
		bool below = false;
		for (std::size_t i = 1; i <= page; i += page - 1) {
			below = below || can_read(s.s_base - i);
		}
		return !below && can_read(s.s_base) && can_read(s.s_base + s.s_size - 1);
	}

private:
	int pipe_[2];
};

std::size_t mappings() {
	std::ifstream maps("/proc/self/maps");
	std::size_t n = 0;
	for (std::string line; std::getline(maps, line);) {
		n++;
	}
	return n;
}

bool can_mark_guards() {
	void *p = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool can = ::madvise(p, page, 102) == 0;
	::munmap(p, page);
	return can;
}

/// One call for many guards of our own: Linux 6.15 or so.
bool can_mark_many() {
	char *p = static_cast<char *>(::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	const iovec two[] = {{p, page}, {p + 2 * page, page}};
	bool can = ::syscall(SYS_process_madvise, -10001, two, 2, 102, 0) == static_cast<long>(2 * page);
	::munmap(p, 3 * page);
	return can;
}

/// From here on this process's kernel refuses this call, or all of them with this argument.
void forget(long number, unsigned argument, int value, int error) {
	const bool always = value < 0;
	sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t))),
	    BPF_JUMP(
	        static_cast<unsigned short>(BPF_JMP | (always ? BPF_JGE : BPF_JEQ) | BPF_K), always ? 0U : static_cast<unsigned>(value), 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	sock_fprog filter{static_cast<unsigned short>(sizeof(program) / sizeof(program[0])), program};
	if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
		std::fprintf(stderr, "no seccomp here\n");
		std::_Exit(77);
	}
}

/// As before Linux 6.13.
void forget_guard_marks() {
	forget(SYS_madvise, 2, 102, EINVAL);
	forget(SYS_process_madvise, 3, 102, EINVAL);
}

#if LWP_FAULTS
std::atomic<unsigned> single_calls{0};
std::atomic<unsigned> many_calls{0};

/// From here on this process counts the advice that is given on memory.
void count_advice() {
	sys::fault_now.store([](long number, const char *, int, long *) noexcept {
		single_calls += number == SYS_madvise ? 1U : 0U;
		many_calls += number == SYS_process_madvise ? 1U : 0U;
		return sys::fault::none;
	});
}
#endif

/// Runs `body` in a child; what it returns is the exit status.
int in_child(const std::function<int()> &body) {
	std::fflush(nullptr);
	pid_t pid = ::fork();
	if (pid == 0) {
		std::_Exit(body());
	}
	int status = 0;
	::waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define IN_CHILD_EXPECT(condition)                                                       \
	do {                                                                                 \
		if (!(condition)) {                                                              \
			std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			return 1;                                                                    \
		}                                                                                \
	} while (false)

TEST(Stack, SizesOutOfBoundsAreRefused) {
	stack s;
	EXPECT_EQ(stack_alloc(s, 0), EINVAL);
	EXPECT_EQ(stack_alloc(s, stack_min - 1), EINVAL);
	EXPECT_EQ(stack_alloc(s, stack_max + 1), EINVAL);
	EXPECT_EQ(stack_alloc(s, SIZE_MAX), EINVAL);
	EXPECT_EQ(s.s_base, nullptr);
}

TEST(Stack, EverySizeIsAtLeastWhatWasAskedAndNotAQuarterMore) {
	reader r;
	std::set<std::size_t> sizes{stack_min, stack_default, stack_max};
	for (std::size_t size = stack_min; size <= stack_max; size *= 2) {
		for (std::size_t more : {std::size_t{0}, std::size_t{1}, size / 4, size / 4 + 1, size / 2, size / 4 * 3, size - 1}) {
			sizes.insert(std::min(size + more, stack_max));
		}
	}
	for (std::size_t size : sizes) {
		stack s;
		ASSERT_EQ(stack_alloc(s, size), 0) << size;
		EXPECT_GE(s.s_size, size);
		EXPECT_LE(s.s_size, size + size / 4 + page);
		EXPECT_EQ(s.s_size % page, 0U);
		EXPECT_EQ(reinterpret_cast<std::uintptr_t>(s.s_base) % page, 0U);
		EXPECT_FALSE(s.s_foreign);
		EXPECT_TRUE(r.guarded(s)) << size;
		s.s_base[0] = std::byte{1};
		stack_top(s)[-1] = std::byte{2};
		stack_free(s);
		EXPECT_EQ(s.s_base, nullptr) << "a freed stack is forgotten";
	}
}

TEST(Stack, TheDefaultSizeIsExact) {
	for (std::size_t size : {stack_min, stack_default, std::size_t{131072}, std::size_t{262144}, std::size_t{8} << 20}) {
		stack s;
		ASSERT_EQ(stack_alloc(s, size), 0);
		EXPECT_EQ(s.s_size, size);
		stack_free(s);
	}
}

TEST(Stack, TheLastOneFreedIsTheNextOneHandedOut) {
	std::vector<stack> some(10);
	for (stack &s : some) {
		ASSERT_EQ(stack_alloc(s, stack_default), 0);
	}
	std::vector<std::byte *> freed;
	for (stack &s : some) {
		freed.push_back(s.s_base);
		stack_free(s);
	}
	for (stack &s : some) {
		ASSERT_EQ(stack_alloc(s, stack_default), 0);
		EXPECT_EQ(s.s_base, freed.back());
		freed.pop_back();
	}
	for (stack &s : some) {
		stack_free(s);
	}
}

TEST(Stack, ClassesDoNotMix) {
	stack small;
	stack large;
	ASSERT_EQ(stack_alloc(small, 3 * stack_min), 0);
	std::byte *base = small.s_base;
	stack_free(small);
	ASSERT_EQ(stack_alloc(large, 4 * stack_min), 0);
	EXPECT_NE(large.s_base, base);
	EXPECT_GE(large.s_size, 4 * stack_min);
	stack_free(large);
}

TEST(Stack, NeighboursHaveDifferentColours) {
	std::vector<stack> some(stack_colours * 4);
	std::vector<std::size_t> times(stack_colours);
	for (stack &s : some) {
		ASSERT_EQ(stack_alloc(s, 5 * stack_min), 0);
		ASSERT_EQ(s.s_colour % stack_colour_step, 0U);
		ASSERT_LT(s.s_colour / stack_colour_step, stack_colours);
		EXPECT_LE(s.s_colour, 1024U) << "a parked LWP must fit the rest of its page";
		EXPECT_EQ(reinterpret_cast<std::uintptr_t>(stack_top(s)) % 64, 0U);
		times[s.s_colour / stack_colour_step]++;
	}
	EXPECT_EQ(*std::min_element(times.begin(), times.end()), 4U);
	EXPECT_EQ(*std::max_element(times.begin(), times.end()), 4U);
	for (stack &s : some) {
		stack_free(s);
	}
}

TEST(Stack, ForeignMemoryIsTakenAsItIs) {
	stack before;
	ASSERT_EQ(stack_alloc(before, stack_default), 0);
	stack_stats stats = stack_statistics();
	alignas(64) static std::byte memory[stack_min];
	stack s;
	stack_foreign(s, memory, sizeof(memory));
	EXPECT_EQ(s.s_base, memory);
	EXPECT_EQ(s.s_size, sizeof(memory));
	EXPECT_EQ(s.s_colour, 0U);
	EXPECT_TRUE(s.s_foreign);
	stack_foreign(s, memory + 1, sizeof(memory) - 2);
	EXPECT_EQ(s.s_base, memory + 16);
	EXPECT_EQ(stack_top(s), memory + sizeof(memory) - 16);
	stack_foreign(s, memory + 1, 7);
	EXPECT_EQ(s.s_size, 0U);
	stack_foreign(s, memory, sizeof(memory));
	stack_free(s);
	EXPECT_EQ(s.s_base, nullptr);
	EXPECT_EQ(stack_statistics().in_use, stats.in_use);
	EXPECT_EQ(stack_statistics().cached, stats.cached);
	stack_free(before);
}

TEST(Stack, StatisticsCountBothKinds) {
	stack_stats before = stack_statistics();
	stack s;
	ASSERT_EQ(stack_alloc(s, 6 * stack_min), 0);
	EXPECT_EQ(stack_statistics().in_use, before.in_use + 1);
	stack_free(s);
	stack_stats after = stack_statistics();
	EXPECT_EQ(after.in_use, before.in_use);
	EXPECT_GE(after.cached, 1U);
}

bool resident(std::byte *p) {
	unsigned char here = 0;
	return ::mincore(reinterpret_cast<void *>(reinterpret_cast<std::uintptr_t>(p) & ~(page - 1)), page, &here) == 0 && (here & 1) != 0;
}

TEST(Stack, OldFreeStacksGiveTheirMemoryBackAndStayGuarded) {
	reader r;
	constexpr std::size_t count = 6000;
	std::vector<stack> all(count);
	for (stack &s : all) {
		ASSERT_EQ(stack_alloc(s, 7 * stack_min), 0);
		std::memset(stack_top(s) - 512, 0xa5, 512);
	}
	std::vector<stack> was = all;
	for (stack &s : all) {
		stack_free(s);
	}
	EXPECT_FALSE(resident(stack_top(was.front()) - 1)) << "the one freed first";
	EXPECT_TRUE(resident(stack_top(was.back()) - 1)) << "the one freed last";
	std::size_t cold = 0;
	for (stack &s : was) {
		cold += resident(stack_top(s) - 1) ? 0 : 1;
	}
	EXPECT_GT(cold, 1000U);
	EXPECT_LT(cold, count - 1000);
	std::set<std::byte *> again;
	for (stack &s : all) {
		ASSERT_EQ(stack_alloc(s, 7 * stack_min), 0);
		ASSERT_TRUE(again.insert(s.s_base).second) << "handed out twice";
		ASSERT_TRUE(r.guarded(s));
	}
	for (stack &s : was) {
		EXPECT_TRUE(again.contains(s.s_base)) << "a cold stack must be used before a new one is made";
	}
	for (stack &s : all) {
		stack_free(s);
	}
}

TEST(Stack, AHundredThousandNeedFewMappings) {
	if (!can_mark_guards()) {
		GTEST_SKIP() << "no MADV_GUARD_INSTALL: two mappings for each stack";
	}
	reader r;
	std::size_t before = mappings();
	std::vector<stack> all(100000);
	for (stack &s : all) {
		ASSERT_EQ(stack_alloc(s, stack_default), 0);
	}
	EXPECT_LT(mappings(), before + 100);
	for (std::size_t i = 0; i < all.size(); i += 997) {
		EXPECT_TRUE(r.guarded(all[i])) << i;
	}
	for (stack &s : all) {
		stack_free(s);
	}
}

/// Stacks of a size that no other test has a crowd of.
constexpr std::size_t size_of_crowd = stack_min + 1;

// Which of the next slots are guarded: below each stack is the guard that the top of the slot before ends at.
std::size_t guarded_ahead(reader &r, const stack &s) {
	std::size_t n = 0;
	while (n < 1000 && !r.can_read(s.s_base + s.s_size + n * (s.s_size + page))) {
		n++;
	}
	return n;
}

TEST(Stack, GuardsAreMadeAheadForCrowdsOnlyAndNotForMany) {
	const int status = in_child([] {
		reader r;
		std::vector<stack> all(600);
		std::size_t in_use = 0;
		std::size_t most = 0;
		for (stack &s : all) {
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
			IN_CHILD_EXPECT(r.guarded(s));
			in_use++;
			const std::size_t ahead = guarded_ahead(r, s);
			IN_CHILD_EXPECT(ahead <= in_use / 8 && ahead < 32);
			most = std::max(most, ahead);
		}
		IN_CHILD_EXPECT(most == (can_mark_many() ? 31U : 0U));
		return 0;
	});
	EXPECT_EQ(status, 0);
}

TEST(Stack, WithoutAdviceForManyEachIsGuardedByItself) {
	for (int error : {EPERM, EINVAL, ENOSYS, EBADF, ENOMEM}) {
		const int status = in_child([error] {
			forget(SYS_process_madvise, 0, -1, error);
			reader r;
			std::vector<stack> all(6000);
			for (stack &s : all) {
				IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
				IN_CHILD_EXPECT(r.guarded(s));
				IN_CHILD_EXPECT(&s - all.data() > 1000 || guarded_ahead(r, s) == 0);  // later ones may be the last of an arena
				stack_top(s)[-1] = std::byte{1};
			}
			std::vector<stack> was = all;
			std::shuffle(all.begin(), all.end(), std::mt19937(1));
			for (stack &s : all) {
				stack_free(s);
			}
			const auto cold = std::count_if(was.begin(), was.end(), [](const stack &s) { return !resident(stack_top(s) - 1); });
			IN_CHILD_EXPECT(cold > 1000 && cold < 5000);
			return 0;
		});
		if (status == 77) {
			GTEST_SKIP() << "no seccomp filter allowed here";
		}
		EXPECT_EQ(status, 0) << error;
	}
}

// Of many pieces the kernel did only the first ones: the others are not taken for guarded.
TEST(Stack, WhereTheKernelStopsInTheMiddleNobodyIsUnguarded) {
	if (!can_mark_many()) {
		GTEST_SKIP() << "guards are made one by one here";
	}
	const int status = in_child([] {
		reader r;
		std::vector<stack> all(400);
		for (stack &s : all) {
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
		}
		stack s;
		do {  // until the next one begins a new call
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
		} while (guarded_ahead(r, s) != 0);
		constexpr std::size_t there = 5;
		std::byte *hole = s.s_base + s.s_size + there * (s.s_size + page);
		IN_CHILD_EXPECT(::munmap(hole, page) == 0);
		for (std::size_t i = 0; i < there; i++) {
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
			IN_CHILD_EXPECT(r.guarded(s));
		}
		IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == ENOMEM);
		IN_CHILD_EXPECT(
		    ::mmap(hole, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_STACK, -1, 0) == hole);
		IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
		IN_CHILD_EXPECT(s.s_base == hole + page && r.guarded(s));
		return 0;
	});
	EXPECT_EQ(status, 0);
}

// The books are as they were, and so are the guards.
TEST(Stack, InAForkedChildGuardsThatWereMadeAheadAreThere) {
	const int status = in_child([] {
		std::vector<stack> all(410);
		for (stack &s : all) {
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
		}
		return in_child([] {
			reader r;
			for (int i = 0; i < 100; i++) {
				stack s;
				IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
				IN_CHILD_EXPECT(r.guarded(s));
			}
			return 0;
		});
	});
	EXPECT_EQ(status, 0);
}

#if LWP_FAULTS
TEST(Stack, ACrowdIsGuardedAndGivenBackByFewCalls) {
	if (!can_mark_many()) {
		GTEST_SKIP() << "one call for each here";
	}
	const int status = in_child([] {
		constexpr std::size_t crowd = 8192;
		count_advice();
		std::vector<stack> all(crowd);
		for (stack &s : all) {
			IN_CHILD_EXPECT(stack_alloc(s, size_of_crowd) == 0);
		}
		IN_CHILD_EXPECT(single_calls <= 32);  // the first sixteen, and one for each arena
		IN_CHILD_EXPECT(many_calls <= 64 + crowd / 32);
		single_calls = many_calls = 0;
		std::shuffle(all.begin(), all.end(), std::mt19937(1));
		for (stack &s : all) {
			stack_free(s);
		}
		IN_CHILD_EXPECT(single_calls <= 64);  // where all but one are neighbours
		IN_CHILD_EXPECT(many_calls >= 64 && many_calls <= crowd / 2 / 64 * 2);
		return 0;
	});
	EXPECT_EQ(status, 0);
}
#endif

// A stack is written with its owner's number and read back: two owners would see each other.
TEST(Stack, NoStackHasTwoOwners) {
	constexpr int rounds = 3000;
	std::atomic<int> clashes{0};
	auto work = [&](unsigned seed) {
		std::mt19937 random(seed);
		std::vector<stack> mine;
		auto tag = [](const stack &s) { return reinterpret_cast<std::atomic<unsigned> *>(stack_top(s) - 64); };
		for (int i = 0; i < rounds; i++) {
			if (mine.size() < 50 && random() % 2 == 0) {
				stack s;
				if (stack_alloc(s, stack_min + random() % 2 * stack_min) == 0) {
					new (tag(s)) std::atomic<unsigned>(seed);
					mine.push_back(s);
				}
			} else if (!mine.empty()) {
				std::size_t k = random() % mine.size();
				clashes += tag(mine[k])->load(std::memory_order_relaxed) != seed ? 1 : 0;
				stack_free(mine[k]);
				mine[k] = mine.back();
				mine.pop_back();
			}
		}
		for (stack &s : mine) {
			stack_free(s);
		}
	};
	std::size_t in_use = stack_statistics().in_use;
	std::vector<std::thread> threads;
	for (unsigned t = 1; t <= 4; t++) {
		threads.emplace_back(work, t);
	}
	for (std::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(clashes, 0);
	EXPECT_EQ(stack_statistics().in_use, in_use);
}

// The address space is used up by stacks; then one is given back and must serve again.
TEST(Stack, NoMemoryIsAnErrorAndNotTheEnd) {
	int status = in_child([] {
		std::size_t pages = 0;
		std::ifstream("/proc/self/statm") >> pages;
		rlimit limit{pages * page + (std::size_t{5} << 30), RLIM_INFINITY};
		limit.rlim_max = limit.rlim_cur;
		IN_CHILD_EXPECT(::setrlimit(RLIMIT_AS, &limit) == 0);
		reader r;
		stack last;
		int error = 0;
		std::size_t made = 0;
		for (;;) {
			stack s;
			error = stack_alloc(s, stack_max);
			if (error != 0) {
				IN_CHILD_EXPECT(s.s_base == nullptr);
				break;
			}
			last = s;
			made++;
			IN_CHILD_EXPECT(made < 100);
		}
		IN_CHILD_EXPECT(error == ENOMEM);
		IN_CHILD_EXPECT(made >= 3);
		IN_CHILD_EXPECT(stack_statistics().in_use == made);
		stack_free(last);
		IN_CHILD_EXPECT(stack_alloc(last, stack_max) == 0);
		IN_CHILD_EXPECT(r.guarded(last));
		stack small;
		IN_CHILD_EXPECT(stack_alloc(small, stack_min) == 0);
		IN_CHILD_EXPECT(r.guarded(small));
		return 0;
	});
	EXPECT_EQ(status, 0);
}

TEST(Stack, WithoutGuardMarksPagesAreProtected) {
	int status = in_child([] {
		forget_guard_marks();
		reader r;
		std::vector<stack> all(200);
		for (stack &s : all) {
			IN_CHILD_EXPECT(stack_alloc(s, stack_max / 1024 * 3) == 0);
			IN_CHILD_EXPECT(r.guarded(s));
		}
		IN_CHILD_EXPECT(mappings() > 200);
		return 0;
	});
	if (status == 77) {
		GTEST_SKIP() << "no seccomp filter allowed here";
	}
	EXPECT_EQ(status, 0);
}

// Two mappings for each guard: vm.max_map_count ends it, and no unguarded stack may be handed out instead.
TEST(Stack, AtTheMappingLimitItIsEnomemAndNeverUnguarded) {
	std::size_t limit = 0;
	std::ifstream("/proc/sys/vm/max_map_count") >> limit;
	if (LWP_ASAN || LWP_TSAN || limit == 0 || limit > 200000) {
		GTEST_SKIP() << "needs a process of its own with a moderate vm.max_map_count";
	}
	int status = in_child([limit] {
		forget_guard_marks();
		reader r;
		std::vector<stack> all(limit);
		std::size_t made = 0;
		int error = 0;
		while (made < limit && (error = stack_alloc(all[made], 2 * stack_min)) == 0) {
			made++;
		}
		IN_CHILD_EXPECT(error == ENOMEM);
		IN_CHILD_EXPECT(made > limit / 3 && made < limit);
		IN_CHILD_EXPECT(all[made].s_base == nullptr);
		IN_CHILD_EXPECT(stack_statistics().in_use == made);
		IN_CHILD_EXPECT(stack_alloc(all[made], 2 * stack_min) == ENOMEM);
		for (std::size_t i = 0; i < made; i++) {
			IN_CHILD_EXPECT(r.guarded(all[i]));
		}
		stack_free(all[made - 1]);
		IN_CHILD_EXPECT(stack_alloc(all[made - 1], 2 * stack_min) == 0);
		IN_CHILD_EXPECT(r.guarded(all[made - 1]));
		return 0;
	});
	if (status == 77) {
		GTEST_SKIP() << "no seccomp filter allowed here";
	}
	EXPECT_EQ(status, 0);
}

}  // namespace
