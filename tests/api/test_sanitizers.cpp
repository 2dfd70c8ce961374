// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 2
//
// The sanitizers still see what LWPs do: planted bugs, each in a process of its own (cases.h), must be reported by the sanitizer that knows of such; and
// what comes close to one and is none must not.  In builds without that sanitizer the case is not run.
#include "support/cases.h"
#include "support/hogs.h"
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <ostream>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

/// What comes between the lines of a bug: others run.
void (*between)() = [] { lwp_yield(); };

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

const lwpctl_t *preempted_one;  // the control block of the LWP that is preempted

unsigned turns_had() { return static_cast<unsigned>(__atomic_load_n(&preempted_one->lc_pctr, __ATOMIC_RELAXED)); }

/// By an LWP that calls nothing while it is taken off its vCPU and brought back, again and again.
void by_a_preempted_lwp(void (*bug)()) {
	std::atomic<bool> stop{false};
	between = [] {
		for (const unsigned before = turns_had(); turns_had() - before < 3;) {
		}
	};
	lwp::thread one({.vcpu = 0}, [bug] {
		lwpctl_t *control = nullptr;
		if (_lwp_ctl(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR, &control) == 0) {
			preempted_one = control;
			between();
			bug();
		}
	});
	lwp::thread other({.vcpu = 0}, [&stop] {
		while (!stop) {
			lwp_yield();
		}
	});
	one.join();
	stop = true;
	other.join();
}

volatile int sink;

// ---- memory

void beyond_its_frame() {
	char buffer[16] = "fifteen letters";
	char *volatile p = buffer;
	between();
	sink = p[sizeof(buffer)];
}

[[gnu::noinline]] char *of_a_frame_that_ends() {
	char buffer[16] = "fifteen letters";
	char *volatile p = buffer;
	between();  // its frame is the LWP's, whoever runs it
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

void beyond_its_memory() {
	char *volatile p = new char[16]{};
	between();
	sink = p[16];
	delete[] p;
}

void nobody_has_it() {
	int *volatile p = new int[100]{};
	p = nullptr;
	sink = p == nullptr;
}

void too_large_a_number() {
	volatile int most = INT_MAX;
	between();
	sink = most + 1;
}

/// Frames that end and come again, exceptions, switches in between: all is in order.
[[gnu::noinline]] int deep(int n, void (*in_between)()) {
	char frame[64];
	std::memset(frame, n, sizeof(frame));
	in_between();
	if (n == 0) {
		throw 7;
	}
	return deep(n - 1, in_between) + frame[n];
}

void frames_and_throws(void (*in_between)()) {
	try {
		sink = deep(20, in_between);
	} catch (int) {
		in_between();
	}
}

void nothing_wrong() {
	for (int i = 0; i < 50; i++) {
		frames_and_throws([] { lwp_yield(); });
	}
}

void nothing_wrong_for_long() {
	for (const unsigned before = turns_had(); turns_had() - before < 20;) {
		frames_and_throws([] { sink = 1; });
	}
}

/// Its frame is left by a throw, so it is not known to be gone until somebody looks for such.
[[gnu::noinline]] void throws(int n) {
	char frame[4000];
	std::memset(frame, n, sizeof(frame));
	asm volatile("" : : "r"(frame) : "memory");
	throw n;
}

/// A frame that stays, below others that are looked for whenever it is interrupted.
void stays_below_throws() {
	char frame[4000];
	std::memset(frame, 'x', sizeof(frame));
	asm volatile("" : : "r"(frame) : "memory");
	for (const unsigned before = turns_had(); turns_had() - before < 20;) {
		try {
			throws(1);
		} catch (int n) {
			sink = n;
		}
		for (const char c : frame) {
			if (c != 'x') {
				std::fputs("somebody else has its frame\n", stderr);
				std::_Exit(9);
			}
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

enum class sees : unsigned char { address, thread, any, address_of_preempted, preempted };

struct planted {
	const char *name;
	sees by;
	void (*run)();
	const char *says;        // null: nothing
	const char *where = "";  // and in the stack of which function,
	const char *of = "";     // and of whose frame
};

const planted cases_list[] = {
    {"beyond_its_frame", sees::address, [] { by_an_lwp(beyond_its_frame); }, "stack-buffer-overflow", "beyond_its_frame",
        "beyond_its_frame"},
    {"after_its_frame", sees::address, [] { by_an_lwp(after_its_frame); }, "stack-use-after-return", "after_its_frame",
        "of_a_frame_that_ends"},
    {"after_it_was_freed", sees::address, [] { by_an_lwp(after_it_was_freed); }, "heap-use-after-free", "after_it_was_freed"},
    {"beyond_its_memory", sees::address, [] { by_an_lwp(beyond_its_memory); }, "heap-buffer-overflow", "beyond_its_memory"},
    {"nobody_has_it", sees::address, [] { by_an_lwp(nobody_has_it); }, "detected memory leaks"},
    {"too_large_a_number", sees::address, [] { by_an_lwp(too_large_a_number); }, "signed integer overflow"},
    {"unordered", sees::thread, unordered, "data race"},
    {"unordered_after_switches", sees::thread, unordered_after_switches, "data race"},
    {"under_another_mutex", sees::thread, under_another_mutex, "data race"},
    {"nothing_wrong", sees::any, [] { by_an_lwp(nothing_wrong); }, nullptr},
    {"under_one_mutex", sees::any, under_one_mutex, nullptr},
    {"beyond_its_frame_preempted", sees::address_of_preempted, [] { by_a_preempted_lwp(beyond_its_frame); }, "stack-buffer-overflow",
        "beyond_its_frame", "beyond_its_frame"},
    {"after_its_frame_preempted", sees::address_of_preempted, [] { by_a_preempted_lwp(after_its_frame); }, "stack-use-after-return",
        "after_its_frame", "of_a_frame_that_ends"},
    {"beyond_its_memory_preempted", sees::address_of_preempted, [] { by_a_preempted_lwp(beyond_its_memory); }, "heap-buffer-overflow",
        "beyond_its_memory"},
    {"nothing_wrong_preempted", sees::preempted, [] { by_a_preempted_lwp(nothing_wrong_for_long); }, nullptr},
    {"stays_below_throws_preempted", sees::preempted, [] { by_a_preempted_lwp(stays_below_throws); }, nullptr},
};

std::ostream &operator<<(std::ostream &out, const planted &p) { return out << p.name; }

/// The first line with that in it, and the one after it.
std::string line_with(const std::string &text, const char *part) {
	const std::size_t at = text.find(part);
	const std::size_t end = at == std::string::npos ? at : text.find('\n', at);
	return at == std::string::npos ? "" : text.substr(at, end == std::string::npos ? end : text.find('\n', end + 1) - at);
}

class Sanitizers : public testing::TestWithParam<planted> {};

TEST_P(Sanitizers, SeeLwps) {
	const planted &p = GetParam();
	const bool preempted = p.by == sees::preempted || p.by == sees::address_of_preempted;
	if (((p.by == sees::address || p.by == sees::address_of_preempted) && !LWP_TEST_ASAN) || (p.by == sees::thread && !LWP_TEST_TSAN)) {
		GTEST_SKIP() << "not built with the sanitizer that sees it";
	}
	if (preempted) {
		LWP_SKIP_WITHOUT_PREEMPTION();
	}
	const outcome o = run_case(p.name,
	    {{"ASAN_OPTIONS", "detect_stack_use_after_return=1:detect_leaks=1:abort_on_error=0"}, {"LWP_PREEMPT", preempted ? "on" : "off"}});
	if (p.says == nullptr) {
		EXPECT_TRUE(o.ended_well()) << o.status << '\n' << o.text;
		EXPECT_EQ(o.text, "");
	} else {
		EXPECT_FALSE(o.ended_well());
		EXPECT_NE(o.count(p.says), 0U) << p.says << " is not in\n" << o.text;
		EXPECT_NE(line_with(o.text, "#0 ").find(p.where), std::string::npos) << p.where << " is not in\n" << o.text;
		EXPECT_NE(line_with(o.text, " in frame").find(p.of), std::string::npos) << p.of << " is not in\n" << o.text;
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
