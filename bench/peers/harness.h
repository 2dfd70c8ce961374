// SPDX-License-Identifier: BSD-2-Clause
//
// What the C++ programs of the peers share beside the work: the job on the command line, the figures that are printed, the clock, what is resident.
// No library of ours or theirs here.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace peers {

using clock = std::chrono::steady_clock;

// ---- the job, and what is said about it --------------------------------------------------------------------------------

struct job {
	unsigned workers = 1;
	std::int64_t ops = 1000;
	std::size_t threads = 2;
	std::size_t storm = 0;
	std::chrono::microseconds burst{0};
	std::size_t capacity = 0;
	std::int64_t hold = 0;
	std::string samples;
};

[[noreturn]] inline void fail(const char *what) {
	std::fprintf(stderr, "%s\n", what);
	std::_Exit(1);
}

inline void check(bool ok, const char *what) {
	if (!ok) {
		fail(what);
	}
}

inline void say(const char *name, double value, const char *unit) { std::printf("%s %.6g %s\n", name, value, unit); }

inline double seconds(clockid_t which) {
	timespec t{};
	clock_gettime(which, &t);
	return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// From its beginning to say(): the time of an operation, and the CPU that all kernel threads used for it.
class stopwatch {
public:
	void say(std::int64_t ops) const {
		const double wall = seconds(CLOCK_MONOTONIC) - wall_;
		const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_;
		peers::say("ns_per_op", 1e9 * wall / static_cast<double>(ops), "ns");
		peers::say("cpu_ns_per_op", 1e9 * cpu / static_cast<double>(ops), "ns");
		peers::say("seconds", wall, "s");
	}
	double wall() const { return seconds(CLOCK_MONOTONIC) - wall_; }
	double cpu() const { return seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_; }

private:
	double cpu_ = seconds(CLOCK_PROCESS_CPUTIME_ID);
	double wall_ = seconds(CLOCK_MONOTONIC);
};

inline std::uint64_t since(clock::time_point t) {
	const auto passed = std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - t).count();
	return passed < 0 ? 0 : static_cast<std::uint64_t>(passed);
}

inline void save(const job &j, const std::vector<std::uint64_t> &ns) {
	if (j.samples.empty()) {
		return;
	}
	std::FILE *const file = std::fopen(j.samples.c_str(), "wb");
	check(file != nullptr, "the file of samples cannot be written");
	check(std::fwrite(ns.data(), sizeof ns[0], ns.size(), file) == ns.size(), "the samples cannot be written");
	check(std::fclose(file) == 0, "the samples cannot be written");
}

/// Resident pages and the page tables that map them, in bytes.
inline double resident() {
	std::FILE *const file = std::fopen("/proc/self/status", "r");
	check(file != nullptr, "no /proc/self/status");
	char line[256];
	double kib = 0;
	while (std::fgets(line, sizeof line, file) != nullptr) {
		if (std::strncmp(line, "VmRSS:", 6) == 0 || std::strncmp(line, "VmPTE:", 6) == 0) {
			kib += std::atof(line + 6);
		}
	}
	std::fclose(file);
	return kib * 1024;
}

}  // namespace peers
