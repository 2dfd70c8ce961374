// SPDX-License-Identifier: BSD-2-Clause
//
// A monitor and a hog.  The hog is `for (;;)` and calls nothing of the library, or of anybody else.  With preemption switched on others run beside it all the
// same, on the very virtual CPU that it has; it can be suspended and continued; and a stopped world shows what it keeps on its stack.  The program checks
// each of these itself, and ends though the hog does not.
#include <lwp/lwp.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t marker = 0x6d6f6e69746f7221;  // what the monitor looks for

struct hog {
	std::atomic<std::uint64_t> turns{0};
	bool polite;  // calls the library, where there is no preemption

	// AddressSanitizer would keep its locals elsewhere, to detect their use after its return.
	[[noreturn]] __attribute__((no_sanitize("address"))) void run() {
		const std::uint64_t kept[4] = {marker, marker, marker, marker};
		for (;;) {
			turns.store(turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
			asm volatile("" : : "r"(kept) : "memory");  // somebody may look: all of it stays where it is
			if (polite) {
				lwp_yield();
			}
		}
	}
	[[nodiscard]] std::uint64_t count() const { return turns.load(std::memory_order_relaxed); }
	/// Until it has computed a bit more.
	void await_progress() const {
		const std::uint64_t before = count();
		while (count() == before) {
			lwp::this_thread::sleep_for(1ms);
		}
	}
	/// Gives it time to show that it does not stand still.
	[[nodiscard]] bool stands_still() const {
		const std::uint64_t before = count();
		lwp::this_thread::sleep_for(30ms);
		return count() == before;
	}
};

[[noreturn]] void fail(const char *what) {
	std::fprintf(stderr, "monitor: %s\n", what);
	std::_Exit(1);
}

void check(bool ok, const char *what) {
	if (!ok) {
		fail(what);
	}
}

int state_of(lwpid_t lid) {
	lwpinfo info;
	check(lwp_info(lid, &info) == 0, "the hog is gone");
	return info.li_stat;
}

/// How often the marker is in what a stopped LWP keeps on its stack.
__attribute__((no_sanitize("address", "thread"))) int markers(const lwp::stopped_lwp &l) {
	int found = 0;
	for (const char *at = static_cast<const char *>(l.sp); at + sizeof(marker) <= l.stack_high; at += sizeof(marker)) {
		found += *reinterpret_cast<const volatile std::uint64_t *>(at) == marker ? 1 : 0;
	}
	return found;
}

void watch(const hog &h, lwpid_t lid) {
	h.await_progress();
	lwp::thread({.vcpu = 0}, [] {}).join();
	std::puts("monitor: another LWP has run on the hog's virtual CPU");

	check(_lwp_suspend(lid) == 0, "it is not suspended");
	check(state_of(lid) == LWP_LSSUSPENDED && h.stands_still(), "it runs on, suspended");
	std::puts("monitor: suspended, the hog stands still");

	check(_lwp_continue(lid) == 0, "it is not continued");
	h.await_progress();
	std::puts("monitor: continued, the hog computes");

	{
		const lwp::stop_the_world world;
		const auto all = world.lwps();
		const auto it = std::find_if(all.begin(), all.end(), [lid](const lwp::stopped_lwp &l) { return l.lid == lid; });
		check(it != all.end() && it->name == "hog", "it is not in the world");
		const std::uint64_t before = h.count();
		check(markers(*it) >= 4, "its frames are not on its stack");
		check(h.count() == before, "it runs on in a stopped world");
		std::printf("monitor: in a stopped world the hog is %s, its frames are on its stack\n", it->state);
	}
	h.await_progress();
	std::puts("monitor: the world goes on, the hog too");
}

}  // namespace

int main(int argc, char **argv) {
	const bool polite = argc == 2 && std::strcmp(argv[1], "--polite") == 0;
	if (argc > 1 && !polite) {
		std::fputs(
		    "usage: monitor [--polite]\nWatches an LWP that computes for ever; --polite: one that yields, for builds without preemption.\n",
		    stderr);
		return 2;
	}
	static hog h{.polite = polite};
	try {
		const lwp::runtime rt({.preemption = true});
		lwp::thread t({.name = "hog", .vcpu = 0}, [] { h.run(); });
		watch(h, t.native_handle());
		const std::uint64_t preemptions = lwp::runtime::stats().preemptions;
		check(polite || preemptions >= 3, "it was never preempted");
		std::puts(polite ? "monitor: it was asked politely" : "monitor: it was preempted each time");
		(void)std::fflush(stdout);
		lwp_proc_exit(0, 10);  // ~runtime would wait for the hog
	} catch (const std::exception &e) {
		fail(e.what());
	}
}
