// SPDX-License-Identifier: BSD-2-Clause
//
// The system calls this library makes by itself, as raw calls: they return a value or -errno and never touch errno, because errno
// belongs to the LWP and its address to the kernel thread.
#pragma once

#include "base/atomic.h"

#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lwp::kern::sys {

/// syscall(2) without errno: glibc's wrapper sets errno of whatever kernel thread it returns on, so it is put back.
inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
#if defined(__x86_64__)
	long result;
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
#else
	int saved = errno;
	long result = ::syscall(number, a, b, c, d, e, f);
	if (result == -1) {
		result = -errno;
	}
	errno = saved;
	return result;
#endif
}

#if LWP_EXPLORE
inline long futex_wait(atomic<std::uint32_t> *word, std::uint32_t expected, const timespec *deadline) noexcept {
	return explore::futex_wait(word, expected, deadline);
}
inline long futex_wake(atomic<std::uint32_t> *word, int count) noexcept { return explore::futex_wake(word, count); }
inline long membarrier(int) noexcept { return explore::membarrier(); }
inline void yield() noexcept { explore::point(explore::op::yield, nullptr, __FILE__, __LINE__); }
#else
/// Sleeps while *word == expected, until woken or the absolute CLOCK_MONOTONIC deadline (null: for ever).  May return early.
inline long futex_wait(atomic<std::uint32_t> *word, std::uint32_t expected, const timespec *deadline) noexcept {
	return call(SYS_futex, reinterpret_cast<long>(word), FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, static_cast<long>(expected),
	    reinterpret_cast<long>(deadline), 0, static_cast<long>(FUTEX_BITSET_MATCH_ANY));
}

inline long futex_wake(atomic<std::uint32_t> *word, int count) noexcept {
	return call(SYS_futex, reinterpret_cast<long>(word), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count);
}

inline long membarrier(int command) noexcept { return call(SYS_membarrier, command, 0, 0); }

inline void yield() noexcept { call(SYS_sched_yield); }
#endif

inline long write(int fd, const void *data, std::size_t size) noexcept {
	return call(SYS_write, fd, reinterpret_cast<long>(data), static_cast<long>(size));
}

}  // namespace lwp::kern::sys
