// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of procs share: LWPs and procs that are begun in one line, and what is said of them.
#pragma once

#include "../support/support.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/signal.h>
#include <lwp/usage.h>

#include <csignal>
#include <cstddef>
#include <new>
#include <system_error>

namespace lwp::test {

/// Starts an LWP without memory of the heap, so that it leaves none if it is made to end.
template <class F>
lwpid_t begin(F f) {
	alignas(lwp::thread) std::byte room[sizeof(lwp::thread)];
	return (::new (static_cast<void *>(room)) lwp::thread(f))->native_handle();  // never destroyed: it may be joined by its id
}
template <class F>
void begin_detached(F f) {
	const lwp::thread t({.detached = true}, f);
}

/// The error number of what a call throws; 0 if it throws nothing.
template <class F>
int thrown(F call) {
	try {
		(void)call();
	} catch (const std::system_error &e) {
		return e.code().value();
	}
	return 0;
}

inline int return_7(void *) { return 7; }
inline int park_for_ever(void *) {
	for (;;) {
		(void)park();
	}
}

inline int until_orphan(void *) {
	while (lwp_proc_parent() != 1) {
		lwp_yield();
	}
	return 0;
}

inline pid_t create(int (*fn)(void *), void *arg = nullptr, const lwp_proc_attr *attr = nullptr) {
	const pid_t pid = lwp_proc_create(fn, arg, attr);
	EXPECT_GT(pid, 0);
	return pid;
}

/// Collects it; how it ended, or -1.
inline int how_ended(pid_t pid) {
	int status = -1;
	EXPECT_EQ(lwp_proc_wait(pid, &status, 0), pid);
	return status;
}

/// A child that says its first LWP's id and parks until it is killed.
struct idler {
	std::atomic<lwpid_t> lid{0};
	lwp::proc proc{[this] {
		lid = _lwp_self();
		(void)park_for_ever(nullptr);
	}};
	idler() {
		EXPECT_TRUE(wait_until([this] { return lid.load() != 0; }));
	}
};

/// A handler of this proc, by lwp_sigaction().
inline void handle(int sig, void (*handler)(int), int flags = 0) {
	struct sigaction act {};
	act.sa_handler = handler;
	act.sa_flags = flags;
	EXPECT_EQ(error_of(lwp_sigaction(sig, &act, nullptr)), 0);
}

}  // namespace lwp::test
