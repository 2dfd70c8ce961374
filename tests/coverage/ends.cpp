// SPDX-License-Identifier: BSD-2-Clause
//
// Linked to each program of a build that measures coverage (LWP_COVERAGE).  gcov writes its counts at exit(3); many tests end their process otherwise,
// and what they did counts as well.  So the ends that the program and the libraries under it call come here first: _exit, _Exit, abort, and raise
// of a signal that ends the process.  What the kernel ends by itself (SIGKILL, a fault) is lost.
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <dlfcn.h>
#include <unistd.h>

extern "C" void __gcov_dump(void);
extern "C" void __gcov_reset(void);

namespace {

/// Adds what was counted so far to the files, and begins anew.  By one kernel thread at a time: of two that end the process at once one is enough.
void keep() noexcept {
	static std::atomic<bool> busy{false};
	if (!busy.exchange(true)) {
		__gcov_dump();
		__gcov_reset();
		busy = false;
	}
}

template <class Fn>
Fn *next(const char *name) noexcept {
	return reinterpret_cast<Fn *>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void _exit(int status) {
	keep();
	next<void(int)>("_exit")(status);
	__builtin_unreachable();
}

void _Exit(int status) noexcept { _exit(status); }

void abort() noexcept {
	keep();
	next<void()>("abort")();
	__builtin_unreachable();
}

int raise(int sig) noexcept {
	struct sigaction action {};
	if (::sigaction(sig, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
		keep();
	}
	return next<int(int)>("raise")(sig);
}
}
