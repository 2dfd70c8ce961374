// SPDX-License-Identifier: BSD-2-Clause
//
// The C face of traces.
#include "api/errno.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/trace.h>

#include <cerrno>

using namespace lwp::kern;

extern "C" {

int lwp_trace_start(lwpid_t lid, size_t records) {
	const in_library l;
	return c_result(records == 0 || records > LWP_TRACE_MOST ? EINVAL : lwp_trace_begin(l, lid, records));
}

int lwp_trace_stop(lwpid_t lid) {
	const in_library l;
	return c_result(lwp_trace_end(l, lid));
}

ssize_t lwp_trace_read(lwpid_t lid, struct lwp_trace_record *records, size_t room) {
	const in_library l;
	std::size_t count = 0;
	const int error = records == nullptr && room != 0 ? EINVAL : lwp_trace_tell(l, lid, records, room, &count);
	return error != 0 ? c_result(error) : static_cast<ssize_t>(count);
}

ssize_t lwp_trace_sums(lwpid_t lid, struct lwp_trace_sum *sums, size_t room) {
	const in_library l;
	std::size_t count = 0;
	const int error = sums == nullptr && room != 0 ? EINVAL : lwp_trace_tell_sums(l, lid, sums, room, &count);
	return error != 0 ? c_result(error) : static_cast<ssize_t>(count);
}

}  // extern "C"
