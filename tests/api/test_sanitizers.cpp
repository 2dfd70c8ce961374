// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 2
//
// The sanitizers still see what LWPs do: planted bugs, each in a process of its own (cases.h), must be reported by the sanitizer that knows of such; and
// what comes close to one and is none must not.  In builds without that sanitizer the case is not run.
#include "support/cases.h"
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstring>
#include <mutex>
#include <ostream>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

/// By an LWP that has been switched out and back, and has slept: perhaps it is on another vCPU now.
void by_an_lwp(void (*bug)()) {
	lwp::thread other([] {
		for (int i = 0; i < 20; i++) {
			lwp_yield();
		}
	});
	lwp::thread([bug] {
		for (int i = 0; i < 10; i++) {
			lwp_yield();
			lwp::this_thread::sleep_for(10us);
		}
		bug();
	}).join();
	other.join();
}

volatile int sink;

// ---- memory

void beyond_its_frame() {
	char buffer[16] = "fifteen letters";
	char *volatile p = buffer;
	lwp_yield();
	sink = p[sizeof(buffer)];
}

[[gnu::noinline]] char *of_a_frame_that_ends() {
	char buffer[16] = "fifteen letters";
	char *volatile p = buffer;
	lwp_yield();  // its frame is the LWP's, whoever runs it
	return p;
}

void after_its_frame() {
	char *volatile p = of_a_frame_that_ends();
	sink = p[3];
}

void after_it_was_freed() {
	char *volatile p = new char[16]{};
	lwp::thread([p] { delete[] p; }).join();
	sink = p[3];
}

void nobody_has_it() {
	int *volatile p = new int[100]{};
	p = nullptr;
	sink = p == nullptr;
}

void too_large_a_number() {
	volatile int most = INT_MAX;
	lwp_yield();
	sink = most + 1;
}

/// Frames that end and come again, exceptions, switches in between: all is in order.
[[gnu::noinline]] int deep(int n) {
	char frame[64];
	std::memset(frame, n, sizeof(frame));
	lwp_yield();
	if (n == 0) {
		throw 7;
	}
	return deep(n - 1) + frame[n];
}

void nothing_wrong() {
	for (int i = 0; i < 50; i++) {
		try {
			sink = deep(20);
		} catch (int) {
			lwp_yield();
		}
	}
}

// ---- races

int shared;
std::atomic<int> there;

/// Returns in both once both are here: each on a vCPU of its own, and nothing orders what they do.
void meet() {
	there.fetch_add(1, std::memory_order_relaxed);
	while (there.load(std::memory_order_relaxed) < 2) {
	}
}

/// Many times: of two that come in the same moment ThreadSanitizer may miss both.
void touch() {
	for (int i = 0; i < 100; i++) {
		shared++;
		asm volatile("" : : : "memory");
	}
}

void two(void (*body)()) {
	lwp::thread a(body);
	lwp::thread b(body);
	a.join();
	b.join();
}

void unordered() {
	two([] {
		meet();
		touch();
	});
}

void unordered_after_switches() {
	two([] {
		for (int i = 0; i < 20; i++) {
			lwp_yield();
			lwp::this_thread::sleep_for(10us);
		}
		meet();
		touch();
	});
}

void under_another_mutex() {
	two([] {
		meet();
		lwp::mutex own;
		const std::lock_guard hold(own);
		touch();
	});
}

void under_one_mutex() {
	static lwp::mutex m;
	two([] {
		meet();
		for (int i = 0; i < 100; i++) {
			const std::lock_guard hold(m);
			shared++;
			lwp_yield();
		}
	});
}

// ---- all of them

enum class sees : unsigned char { address, thread, any };

struct planted {
	const char *name;
	sees by;
	void (*run)();
	const char *says;  // null: nothing
};

const planted cases_list[] = {
    {"beyond_its_frame", sees::address, [] { by_an_lwp(beyond_its_frame); }, "stack-buffer-overflow"},
    {"after_its_frame", sees::address, [] { by_an_lwp(after_its_frame); }, "stack-use-after-return"},
    {"after_it_was_freed", sees::address, [] { by_an_lwp(after_it_was_freed); }, "heap-use-after-free"},
    {"nobody_has_it", sees::address, [] { by_an_lwp(nobody_has_it); }, "detected memory leaks"},
    {"too_large_a_number", sees::address, [] { by_an_lwp(too_large_a_number); }, "signed integer overflow"},
    {"unordered", sees::thread, unordered, "data race"},
    {"unordered_after_switches", sees::thread, unordered_after_switches, "data race"},
    {"under_another_mutex", sees::thread, under_another_mutex, "data race"},
    {"nothing_wrong", sees::any, [] { by_an_lwp(nothing_wrong); }, nullptr},
    {"under_one_mutex", sees::any, under_one_mutex, nullptr},
};

std::ostream &operator<<(std::ostream &out, const planted &p) { return out << p.name; }

class Sanitizers : public testing::TestWithParam<planted> {};

TEST_P(Sanitizers, SeeLwps) {
	const planted &p = GetParam();
	if ((p.by == sees::address && !LWP_TEST_ASAN) || (p.by == sees::thread && !LWP_TEST_TSAN)) {
		GTEST_SKIP() << "not built with the sanitizer that sees it";
	}
	const outcome o = run_case(p.name, {{"ASAN_OPTIONS", "detect_stack_use_after_return=1:detect_leaks=1:abort_on_error=0"}});
	if (p.says == nullptr) {
		EXPECT_TRUE(o.ended_well()) << o.status << '\n' << o.text;
		EXPECT_EQ(o.text, "");
	} else {
		EXPECT_FALSE(o.ended_well());
		EXPECT_NE(o.count(p.says), 0U) << p.says << " is not in\n" << o.text;
	}
}

INSTANTIATE_TEST_SUITE_P(Planted, Sanitizers, testing::ValuesIn(cases_list), [](const auto &i) { return std::string(i.param.name); });

const bool cases = offer_cases([](const char *wanted) {
	for (const planted &p : cases_list) {
		if (std::strcmp(p.name, wanted) == 0) {
			p.run();
			return true;
		}
	}
	return false;
});

}  // namespace
