// SPDX-License-Identifier: BSD-2-Clause
//
// A workload: a small whole program on the library, which says what it finds wrong (inject.h).  It is called in a process of its own, has its own runtime
// from its first to its last line, and bears everything that it does being refused once something was made to fail.
#pragma once

#include <vector>

namespace lwp::faults {

struct workload {
	const char *name;
	const char *io;  // LWP_IO
	void (*run)();
};

const std::vector<workload> &workloads();

// Each stands in the file of its topic, work_<topic>.cpp.
void work_life();
void work_start();
void work_procs();
void work_timers();
void work_specific();
void work_objects();
void work_files();
void work_pipes();
void work_sockets();
void work_processes();
void work_blocking();
void work_adopted();

}  // namespace lwp::faults
