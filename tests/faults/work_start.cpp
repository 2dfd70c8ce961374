// SPDX-License-Identifier: BSD-2-Clause
//
// Starts of a runtime, with all that belongs to one.
#include "faults/common.h"

#include <cerrno>
#include <csignal>
#include <dirent.h>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <system_error>

namespace lwp::faults {
namespace {

/// Kernel threads of this process.
unsigned kthreads() {
	unsigned n = 0;
	DIR *dir = ::opendir("/proc/self/task");
	MUST(dir != nullptr);
	while (const dirent *entry = ::readdir(dir)) {
		n += entry->d_name[0] != '.' ? 1U : 0U;
	}
	::closedir(dir);
	return n;
}

bool same_mask(const sigset_t &mask) {
	sigset_t now_mask;
	::pthread_sigmask(SIG_SETMASK, nullptr, &now_mask);
	for (int sig = 1; sig < SIGRTMAX; sig++) {
		if (sigismember(&mask, sig) != sigismember(&now_mask, sig)) {
			return false;
		}
	}
	return true;
}

}  // namespace

/// Everything that a start may make: vCPUs, the monitor and the maker of substitutes, the pager.  One that fails half-way leaves no kernel thread and no signal
/// blocked, says so by an error that the header names, and the next one may succeed.
void work_start() {
	sigset_t mask;
	::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
	for (int round = 0; round < 3; round++) {
		std::optional<runtime> rt;
		try {
			rt.emplace(runtime_options{.vcpus = 4, .stack_pager_ms = 1000});
		} catch (const std::system_error &e) {
			REFUSED("the runtime starts");
			const int error = e.code().value();
			MUST(error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE || error == EPERM);
		}
		if (rt) {
			MUST(runtime::stats().vcpus == 4 && _lwp_self() == 1);
			all_of<8>(count_life, nullptr);
			rt.reset();
		}
		MUST(runtime::stats().vcpus == 0);
		while (kthreads() != 1) {  // one that was waited for may be listed for a moment yet
			::sched_yield();
		}
		MUST(same_mask(mask));
	}
}

}  // namespace lwp::faults
