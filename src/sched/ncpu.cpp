// SPDX-License-Identifier: BSD-2-Clause
#include "sched/ncpu.h"

#include "base/assert.h"
#include "base/sys.h"
#include "sched/vcpu.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sched.h>

namespace lwp::kern {
namespace {

unsigned cpus_of_mask() noexcept {
	for (int size = 1024; size <= 1 << 20; size *= 2) {  // the kernel says EINVAL while the set is too small
		cpu_set_t *set = CPU_ALLOC(size);
		if (set == nullptr) {
			break;
		}
		const std::size_t bytes = CPU_ALLOC_SIZE(size);
		const long result =
		    sys::library(SYS_sched_getaffinity, [&]() noexcept -> long { return ::sched_getaffinity(0, bytes, set) == 0 ? 0 : -EINVAL; });
		const int count = result == 0 ? CPU_COUNT_S(bytes, set) : 0;
		CPU_FREE(set);
		if (count > 0) {
			return static_cast<unsigned>(count);
		}
	}
	return 1;
}

bool read_line(const char *path, char *line, int size) noexcept {
	std::FILE *f = std::fopen(path, "re");
	if (f == nullptr) {
		return false;
	}
	const bool read = std::fgets(line, size, f) != nullptr;
	std::fclose(f);
	return read;
}

/// Version 2: the quota of the process's cgroup and of every one above it; 0 for none.
unsigned cpus_of_cgroup() noexcept {
	char line[1024];
	char group[1024] = "/";
	if (std::FILE *f = std::fopen("/proc/self/cgroup", "re")) {
		while (std::fgets(line, sizeof(line), f) != nullptr) {
			if (std::strncmp(line, "0::", 3) == 0) {
				line[std::strcspn(line, "\n")] = '\0';
				std::snprintf(group, sizeof(group), "%s", line + 3);
			}
		}
		std::fclose(f);
	}
	unsigned least = 0;
	for (;;) {
		char path[1100];
		std::snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
		if (read_line(path, line, sizeof(line))) {
			const unsigned cpus = cpus_of_quota(line);
			least = least == 0 || cpus == 0 ? std::max(least, cpus) : std::min(least, cpus);
		}
		char *slash = std::strrchr(group, '/');
		if (slash == nullptr || group[0] == '\0') {
			return least;
		}
		*slash = '\0';
	}
}

/// Version 1.
unsigned cpus_of_cgroup_1() noexcept {
	char quota[64];
	char period[64];
	if (!read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof(quota)) || quota[0] == '-' ||
	    !read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof(period))) {
		return 0;
	}
	char both[160];
	std::snprintf(both, sizeof(both), "%.*s %s", static_cast<int>(std::strcspn(quota, "\n")), quota, period);
	return cpus_of_quota(both);
}

}  // namespace

unsigned cpus_of_quota(const char *max) noexcept {
	char *rest;
	const unsigned long long quota = std::strtoull(max, &rest, 10);
	if (rest == max) {
		return 0;  // "max"
	}
	const unsigned long long period = std::strtoull(rest, nullptr, 10);
	if (quota == 0 || period == 0) {
		return 0;
	}
	return static_cast<unsigned>(std::min<unsigned long long>((quota + period - 1) / period, vcpu_max));
}

bool cpus_are_rationed() noexcept {
	static const bool rationed = cpus_of_cgroup() != 0 || cpus_of_cgroup_1() != 0;
	return rationed;
}

unsigned vcpus_wanted() noexcept {
	if (const char *text = std::getenv("LWP_VCPUS"); text != nullptr && *text != '\0') {
		char *rest;
		const long n = std::strtol(text, &rest, 10);
		if (*rest != '\0' || n < 1 || n > static_cast<long>(vcpu_max)) {
			fatal("LWP_VCPUS='%s' is no number from 1 to %u", text, vcpu_max);
		}
		return static_cast<unsigned>(n);
	}
	unsigned n = std::min(cpus_of_mask(), vcpu_max);
	for (unsigned quota : {cpus_of_cgroup(), cpus_of_cgroup_1()}) {
		if (quota != 0) {
			n = std::min(n, quota);
		}
	}
	return n;
}

}  // namespace lwp::kern
