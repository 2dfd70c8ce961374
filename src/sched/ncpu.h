// SPDX-License-Identifier: BSD-2-Clause
//
// How many vCPUs a runtime has that was not told.
#pragma once

namespace lwp::kern {

/// LWP_VCPUS if it is set (a value that is no number from 1 to 256 ends the program with a message), else the CPUs of the process's affinity
/// mask, but no more than the quota of its cgroup, rounded up.
unsigned vcpus_wanted() noexcept;

/// Whether a cgroup's quota limits the CPU time of this process, as it was when this was first asked.
bool cpus_are_rationed() noexcept;

/// CPUs that a cgroup's quota gives: `max` as in cpu.max ("200000 100000", "max 100000"); 0 if it sets no limit.
unsigned cpus_of_quota(const char *max) noexcept;

}  // namespace lwp::kern
