// SPDX-License-Identifier: BSD-2-Clause
#include "faults/workload.h"

namespace lwp::faults {

const std::vector<workload> &workloads() {
	static const std::vector<workload> list = {
	    {"life", "", work_life},
	    {"start", "", work_start},
	    {"procs", "", work_procs},
	    {"timers", "", work_timers},
	    {"specific", "", work_specific},
	    {"objects", "", work_objects},
	    {"files", "", work_files},
	    {"files_epoll", "epoll", work_files},
	    {"pipes", "", work_pipes},
	    {"pipes_epoll", "epoll", work_pipes},
	    {"sockets", "", work_sockets},
	    {"sockets_epoll", "epoll", work_sockets},
	    {"processes", "", work_processes},
	    {"processes_epoll", "epoll", work_processes},
	    {"blocking", "", work_blocking},
	    {"adopted", "", work_adopted},
	};
	return list;
}

}  // namespace lwp::faults
