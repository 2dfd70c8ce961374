// SPDX-License-Identifier: BSD-2-Clause
//
// What workloads are written with.
#pragma once

#include "faults/inject.h"
#include "faults/workload.h"

#include <lwp/io.h>
#include <lwp/lwp.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <new>
#include <optional>
#include <system_error>

namespace lwp::faults {

/// Runs `body` on a runtime of so many vCPUs, or has been told that there is none.
template <class Body>
void on_runtime(unsigned vcpus, Body body) {
	std::optional<runtime> rt;
	try {
		rt.emplace(runtime_options{.vcpus = vcpus, .stack_size = 0, .max_lwps = 0});
	} catch (const std::system_error &) {
		REFUSED("the runtime starts");
		return;
	}
	body();
	rt.reset();
}

/// What may throw because memory or an LWP is refused.  True: it did not.
template <class Fn>
bool attempt(Fn fn) {
	try {
		fn();
		return true;
	} catch (const std::system_error &) {
		REFUSED("no system_error");
	} catch (const std::bad_alloc &) {
		REFUSED("no bad_alloc");
	}
	return false;
}

/// An LWP by the C calls, which allocate nothing here.  0: refused.
inline lwpid_t spawn(void (*fn)(void *), void *arg, unsigned long flags = 0, void *stack = nullptr, std::size_t stack_size = 0) {
	ucontext_t context;
	lwpid_t lid = 0;
	_lwp_makecontext(&context, fn, arg, nullptr, stack, stack_size);
	if (_lwp_create(&context, flags, &lid) != 0) {
		MUST(errno == EAGAIN || errno == ENOMEM);
		REFUSED("an LWP is created");
		return 0;
	}
	return lid;
}

/// As many as are given; waits for those that are.
template <std::size_t N>
void all_of(void (*fn)(void *), void *arg) {
	lwpid_t lids[N];
	for (lwpid_t &lid : lids) {
		lid = spawn(fn, arg);
	}
	for (lwpid_t lid : lids) {
		MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
	}
}

inline std::atomic<int> lived;

inline void count_life(void *) {
	for (int i = 0; i < 3; i++) {
		lwp_yield();
	}
	lived++;
}

// No call waits so long: whoever is not woken hangs.  There has to be a timer for it all the same.
constexpr auto long_enough = std::chrono::hours(1);

inline unsigned char byte_at(std::size_t i) { return static_cast<unsigned char>(i * 7 + i / 251); }

/// Closed even if the kernel says that something was wrong: then the number is free as well.
inline void close_it(int fd) { CHECK(lwp_close(fd) == 0); }

}  // namespace lwp::faults
