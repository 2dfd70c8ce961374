// SPDX-License-Identifier: BSD-2-Clause
//
// A million LWPs asleep at once, each on its own guarded stack: how long they take to make, what each costs in memory
// (resident pages and page tables, as the kernel counts them), and how long they take to wake and to collect.
#include <lwp/lwp.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

std::atomic<std::size_t> asleep{0};
std::atomic<bool> wake_up{false};
std::atomic<std::uint64_t> sum{0};

void sleeper(void *number) {
	asleep.fetch_add(1);
	while (!wake_up.load()) {
		_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
	}
	sum.fetch_add(reinterpret_cast<std::uintptr_t>(number));
}

double seconds_since(clock_type::time_point begin) { return std::chrono::duration<double>(clock_type::now() - begin).count(); }

// Resident memory and page tables of this process in bytes.
double memory() {
	double kib = 0;
	std::FILE *f = std::fopen("/proc/self/status", "re");
	char line[256];
	while (f != nullptr && std::fgets(line, sizeof(line), f) != nullptr) {
		unsigned long value = 0;
		if (std::sscanf(line, "VmRSS: %lu", &value) == 1 || std::sscanf(line, "VmPTE: %lu", &value) == 1) {
			kib += static_cast<double>(value);
		}
	}
	if (f != nullptr) {
		std::fclose(f);
	}
	return kib * 1024;
}

// One line on a terminal; elsewhere a line for each tenth.
void progress(const char *what, std::size_t done, std::size_t all) {
	static const bool terminal = isatty(STDERR_FILENO) != 0;
	const std::size_t step = std::max<std::size_t>(all / (terminal ? 100 : 10), 1);
	if (done % step == 0 || done == all) {
		std::fprintf(stderr, "%s%s %zu of %zu%s", terminal ? "\r" : "", what, done, all, !terminal || done == all ? "\n" : "");
	}
}

bool create(std::vector<lwpid_t> &lids) {
	ucontext_t context;
	for (std::size_t i = 0; i < lids.size(); ++i) {
		_lwp_makecontext(&context, sleeper, reinterpret_cast<void *>(i + 1), nullptr, nullptr, 0);
		if (_lwp_create(&context, 0, &lids[i]) != 0) {
			std::fprintf(stderr, "\nmillion: LWP %zu: %s\n", i + 1, std::strerror(errno));
			lids.resize(i);
			return false;
		}
		progress("created", i + 1, lids.size());
	}
	while (asleep.load() != lids.size()) {
		lwp_yield();
	}
	return true;
}

bool collect(const std::vector<lwpid_t> &lids) {
	wake_up.store(true);
	for (std::size_t i = 0; i < lids.size(); i += LWP_UNPARK_MAX) {
		_lwp_unpark_all(&lids[i], std::min<std::size_t>(LWP_UNPARK_MAX, lids.size() - i), nullptr);
	}
	for (std::size_t i = 0; i < lids.size(); ++i) {
		if (_lwp_wait(lids[i], nullptr) != 0) {
			std::fprintf(stderr, "\nmillion: waiting for LWP %d: %s\n", lids[i], std::strerror(errno));
			return false;
		}
		progress("collected", i + 1, lids.size());
	}
	return sum.load() == lids.size() * (lids.size() + 1) / 2;
}

int usage(std::FILE *out) {
	std::fputs("usage: million [LWPS]\nPuts LWPS (1000000) LWPs to sleep, measures their memory, wakes and collects them.\n", out);
	return out == stdout ? 0 : 2;
}

}  // namespace

int main(int argc, char **argv) {
	std::size_t count = 1000000;
	if (argc > 1) {
		if (std::strcmp(argv[1], "--help") == 0) {
			return usage(stdout);
		}
		const char *end = argv[1] + std::strlen(argv[1]);
		if (argc > 2 || std::from_chars(argv[1], end, count).ptr != end || count == 0) {
			return usage(stderr);
		}
	}
	std::vector<lwpid_t> lids(count, 0);  // zeros are written: its pages are resident before we measure
	_lwp_self();                          // so is the runtime
	const double before = memory();
	auto begin = clock_type::now();
	const bool all = create(lids);
	const double made = seconds_since(begin);
	const auto n = static_cast<double>(std::max<std::size_t>(lids.size(), 1));
	std::printf("million: %zu LWPs asleep, made in %.2f s, %.0f ns each\n", lids.size(), made, made * 1e9 / n);
	std::printf("million: %.0f bytes each, page tables included\n", (memory() - before) / n);
	std::fflush(stdout);
	begin = clock_type::now();
	if (!collect(lids)) {
		std::fputs("million: not every LWP woke once\n", stderr);
		return 1;
	}
	const double ended = seconds_since(begin);
	std::printf("million: all woken and collected in %.2f s, %.0f ns each\n", ended, ended * 1e9 / n);
	return all ? 0 : 1;
}
