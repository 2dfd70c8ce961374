// SPDX-License-Identifier: BSD-2-Clause
//
// main() of every test binary, the leak check that it runs after each test, and the helpers of support.h.
// The leak check looks at lwp::runtime::stats() and at /proc/self/fd; it does not start a runtime for tests that never used one.
#include "support.h"

#include "cases.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <string>

namespace lwp::test {
namespace {

std::atomic<bool> runtime_touched{false};

// Each open descriptor with what it refers to, less the one that reads the directory.
std::map<int, std::string> open_descriptors() {
	std::map<int, std::string> open;
	DIR *dir = opendir("/proc/self/fd");
	if (dir == nullptr) {
		return open;
	}
	while (dirent *entry = readdir(dir)) {
		if (entry->d_name[0] == '.') {
			continue;
		}
		int fd = std::atoi(entry->d_name);
		if (fd == dirfd(dir)) {
			continue;
		}
		char target[PATH_MAX];
		std::string link = std::string("/proc/self/fd/") + entry->d_name;
		ssize_t n = readlink(link.c_str(), target, sizeof(target));
		open[fd] = n > 0 ? std::string(target, static_cast<std::size_t>(n)) : "?";
	}
	closedir(dir);
	return open;
}

// A vCPU opens what its I/O needs when that begins: an eventfd for ever, the other until its runtime ends; so is the event of proc/outside.h kept.
bool of_a_vcpu(const std::string &target) {
	return target == "anon_inode:[eventfd]" ||
	    (runtime_touched.load() &&
	        (target == "anon_inode:[io_uring]" || target == "anon_inode:[eventpoll]" || target == "anon_inode:[perf_event]"));
}

bool nothing_left(const runtime_stats &s) {
	return s.lwps == 1 && s.zombies == 0 && s.stacks_in_use <= 1 && s.runnable == 1 && s.waiting == 0;
}

class leak_check : public testing::EmptyTestEventListener {
	void OnTestStart(const testing::TestInfo &) override {
		started_touched_ = runtime_touched.load();
		if (started_touched_) {
			(void)runtime::vcpus();  // what the runtime itself opens is open before the count
		}
		before_ = open_descriptors();
	}

	void OnTestEnd(const testing::TestInfo &) override {
		if (runtime_touched.load()) {
			check_runtime();
		}
		if (started_touched_ == runtime_touched.load()) {
			check_descriptors();
		}
	}

	static void check_runtime() {
		const std::string left = what_is_left();
		if (!left.empty()) {
			ADD_FAILURE() << "the test left something behind: " << left;
		}
	}

	void check_descriptors() const {
		for (const auto &[fd, target] : open_descriptors()) {
			if (before_.find(fd) == before_.end() && !of_a_vcpu(target)) {
				ADD_FAILURE() << "the test left descriptor " << fd << " open: " << target;
			}
		}
	}

	bool started_touched_ = false;
	std::map<int, std::string> before_;
};

struct start_record {
	std::function<void()> body;
};

void start(void *argument) {
	// Moved out first: a body that ends in _lwp_exit() does not come back to free it.
	auto *record = static_cast<start_record *>(argument);
	std::function<void()> body = std::move(record->body);
	delete record;
	body();
}

}  // namespace

bool with_preemption() {
	(void)::setenv("LWP_PREEMPT", "on", 0);
	return true;
}

bool touch_runtime() {
	runtime_touched.store(true);
	return true;
}

__attribute__((noinline)) int get_errno() {
	asm volatile("" ::: "memory");
	return errno;
}

__attribute__((noinline)) void set_errno(int value) {
	asm volatile("" ::: "memory");
	errno = value;
}

__attribute__((noinline)) int error_of(int result) {
	if (result == 0) {
		return 0;
	}
	return result == -1 ? get_errno() : -1;
}

unsigned stress() {
	const char *text = std::getenv("LWP_STRESS");
	const int n = text != nullptr ? std::atoi(text) : 1;
	return n < 1 ? 1U : static_cast<unsigned>(n);
}

std::size_t rounds(std::size_t n) {
	const std::size_t all = n * stress();
	return LWP_TEST_ASAN || LWP_TEST_TSAN ? (all + 9) / 10 : all;
}

std::size_t race_rounds(std::size_t n) {
	return std::getenv("LWP_STRESS") != nullptr ? std::max<std::size_t>(rounds(n), 100'000) : rounds(n);
}

std::uint64_t seed() {
	const char *text = std::getenv("LWP_SEED");
	const std::uint64_t value = text != nullptr ? std::strtoull(text, nullptr, 0)
	                                            : static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
	std::printf("LWP_SEED=%llu\n", static_cast<unsigned long long>(value));
	std::fflush(stdout);
	return value;
}

std::uint64_t dice::next() {
	std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

bool patience::yield() {
	lwp_yield();
	if (++turns_ % 64 != 0) {
		return true;
	}
	sched_yield();
	const auto now = std::chrono::steady_clock::now();
	if (end_ == std::chrono::steady_clock::time_point{}) {
		end_ = now + std::chrono::minutes(1);
	}
	return now < end_;
}

lwpid_t spawn(std::function<void()> body, unsigned long flags) {
	ucontext_t context;
	lwpid_t lid = 0;
	auto *record = new start_record{std::move(body)};
	_lwp_makecontext(&context, start, record, nullptr, nullptr, 0);
	const int error = error_of(_lwp_create(&context, flags, &lid));
	if (error != 0) {
		delete record;
		ADD_FAILURE() << "_lwp_create: " << std::strerror(error);
		return 0;
	}
	return lid;
}

bool alive(lwpid_t lid) { return _lwp_kill(lid, 0) == 0; }

void await_end(lwpid_t lid) {
	EXPECT_TRUE(wait_until([lid] { return !alive(lid); })) << "LWP " << lid << " did not end";
}

void collect(lwpid_t lid) {
	lwpid_t departed = 0;
	EXPECT_EQ(error_of(_lwp_wait(lid, &departed)), 0) << "waiting for LWP " << lid;
	EXPECT_EQ(departed, lid);
}

lwpid_t make_zombie() {
	const lwpid_t lid = spawn([] {});
	await_end(lid);
	return lid;
}

std::string what_is_left() {
	// A detached LWP that has done its work may still be on its way out.
	if (wait_until([] { return nothing_left(runtime::stats()); })) {
		return "";
	}
	const runtime_stats s = runtime::stats();
	std::ostringstream text;
	text << "lwps " << s.lwps << " (1), zombies " << s.zombies << " (0), stacks in use " << s.stacks_in_use << " (0 or 1), runnable "
	     << s.runnable << " (1), waiting " << s.waiting << " (0), detached " << s.detached;
	return text.str();
}

int park() { return error_of(_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr)); }

int park_for(std::chrono::nanoseconds time) {
	timespec ts{};
	ts.tv_sec = static_cast<time_t>(time.count() / 1000000000);
	ts.tv_nsec = static_cast<long>(time.count() % 1000000000);
	return error_of(_lwp_park(CLOCK_MONOTONIC, 0, &ts, 0, nullptr, nullptr));
}

subject::subject(body b, unsigned long flags) : body_(std::move(b)) {
	lid_ = spawn(
	    [this] {
		    lwpctl_t *block = nullptr;
		    EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR, &block)), 0);
		    control_.store(block, std::memory_order_release);
		    body_(*this);
	    },
	    flags);
}

void subject::about_to_block() { marked_.store(true, std::memory_order_release); }

bool subject::blocked() const { return marked_.load(std::memory_order_acquire) && vcpu_of(control()) == LWPCTL_CPU_NONE; }

void subject::await_blocked() const {
	EXPECT_TRUE(wait_until([this] { return blocked(); })) << "LWP " << lid_ << " did not block";
}

void subject::park_once() {
	about_to_block();
	const int r = park();
	marked_.store(false, std::memory_order_release);
	set_result(r);
}

int vcpu_of(const lwpctl_t *block) { return __atomic_load_n(&block->lc_curcpu, __ATOMIC_ACQUIRE); }

std::size_t status_kib(const char *key) {
	std::FILE *f = std::fopen("/proc/self/status", "re");
	if (f == nullptr) {
		return 0;
	}
	char line[256];
	std::size_t value = 0;
	while (std::fgets(line, sizeof(line), f) != nullptr) {
		if (std::strncmp(line, key, std::strlen(key)) == 0) {
			value = std::strtoull(line + std::strlen(key), nullptr, 10);
			break;
		}
	}
	std::fclose(f);
	return value;
}

}  // namespace lwp::test

extern "C" void __gcov_dump() __attribute__((weak));  // a build that measures coverage

namespace {
bool in_death_test_child = false;

/// What the end of a process by abort() has executed is counted, too.
const bool counts_aborts = [] {
	if (__gcov_dump != nullptr) {
		std::signal(SIGABRT, [](int) {
			std::signal(SIGABRT, SIG_DFL);
			__gcov_dump();
			std::raise(SIGABRT);
		});
	}
	return true;
}();
}  // namespace

// The child of a death test ends wherever it stands, with LWPs alive: what their stacks refer to is no leak.
extern "C" int __lsan_is_turned_off() { return in_death_test_child ? 1 : 0; }

int main(int argc, char **argv) {
	(void)::setenv("LWP_PREEMPT", "off", 0);  // see with_preemption()
	if (int status = 0; lwp::test::ran_case(argc, argv, &status)) {
		return status;
	}
	for (int i = 1; i < argc; ++i) {
		in_death_test_child = in_death_test_child || std::strncmp(argv[i], "--gtest_internal_run_death_test=", 32) == 0;
	}
	testing::InitGoogleTest(&argc, argv);
	// A death test runs in a fresh process: a fork of one with vCPUs would have none of their kernel threads.
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	testing::UnitTest::GetInstance()->listeners().Append(new lwp::test::leak_check);
	return RUN_ALL_TESTS();
}
