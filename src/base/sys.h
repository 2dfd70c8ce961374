// SPDX-License-Identifier: BSD-2-Clause
//
// The system calls this library makes by itself, as raw calls: they return a value or -errno and never touch errno, because errno
// belongs to the LWP and its address to the kernel thread.  Those that the C library or liburing makes for us, and that may fail, pass here too.
//
// With LWP_FAULTS (debug builds) each of them can be made to fail by a test (tests/faults).  Without, the two macros below are empty.
#pragma once

#include "base/atomic.h"

#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace lwp::kern::sys {

#if LWP_FAULTS && !LWP_EXPLORE
/// What becomes of a call: made as ever | not made, *result is what it says | made, and then that is what it says.
enum class fault { none, instead, after };
/// Asked before each call; by any kernel thread, in the middle of anything.
using fault_hook = fault (*)(long number, const char *file, int line, long *result) noexcept;
inline constinit atomic<fault_hook> fault_now{nullptr};

inline fault fault_of(long number, const char *file, int line, long *result) noexcept {
	const fault_hook hook = fault_now.load(std::memory_order_acquire);  // pairs with the store of the test
	return LWP_UNLIKELY(hook != nullptr) ? hook(number, file, line, result) : fault::none;
}
// The last parameters of a function: where it is called; and to hand them on.
#define LWP_CALLED_AT , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define LWP_CALL_AT , file, line
// First thing in a function: the call fails here if a test says so.
#define LWP_FAULT_POINT(number, real)                                    \
	long faulty = 0;                                                     \
	switch (::lwp::kern::sys::fault_of((number), file, line, &faulty)) { \
	case ::lwp::kern::sys::fault::none:                                  \
		break;                                                           \
	case ::lwp::kern::sys::fault::after:                                 \
		(void)(real);                                                    \
		[[fallthrough]];                                                 \
	case ::lwp::kern::sys::fault::instead:                               \
		return faulty;                                                   \
	}
#else
#define LWP_CALLED_AT
#define LWP_CALL_AT
#define LWP_FAULT_POINT(number, real)
#endif

/// syscall(2) without errno: glibc's wrapper sets errno of whatever kernel thread it returns on, so it is put back.
LWP_ALWAYS_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) noexcept {
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

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0 LWP_CALLED_AT) noexcept {
	LWP_FAULT_POINT(number, raw(number, a, b, c, d, e, f))
	return raw(number, a, b, c, d, e, f);
}

/// A function of a library that makes this system call: `fn` returns a value or -errno.
template <class Fn>
LWP_ALWAYS_INLINE long library([[maybe_unused]] long number, Fn fn LWP_CALLED_AT) noexcept {
	LWP_FAULT_POINT(number, fn())
	return fn();
}

/// Private memory of zeros; -ENOMEM or the like.  The C library's call, since sanitizers watch that.
inline long map(void **memory, std::size_t bytes, int flags = 0 LWP_CALLED_AT) noexcept {
	return library(SYS_mmap, [=]() noexcept -> long {
		const int saved = errno;
		void *m = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
		const long result = m == MAP_FAILED ? -errno : 0;
		errno = saved;
		*memory = m;
		return result;
	} LWP_CALL_AT);
}

/// The same, null if there is none.
inline void *map(std::size_t bytes, int flags = 0 LWP_CALLED_AT) noexcept {
	void *memory = nullptr;
	return map(&memory, bytes, flags LWP_CALL_AT) == 0 ? memory : nullptr;
}

/// Cannot fail for what map() gave; null is nothing.
inline void unmap(void *memory, std::size_t bytes) noexcept {
	if (memory != nullptr) {
		const int saved = errno;
		(void)::munmap(memory, bytes);
		errno = saved;
	}
}

/// madvise(2) of many pieces of our own memory in one call.  How many bytes of them, from the first piece on; or -errno, then none.
/// EBADF, EINVAL or EPERM from a kernel that does not know PIDFD_SELF, or not this advice for many pieces.
inline long advise(const iovec *pieces, std::size_t count, int advice LWP_CALLED_AT) noexcept {
	constexpr long self = -10001;  // PIDFD_SELF_THREAD_GROUP: right in a forked child, too
	return call(SYS_process_madvise, self, reinterpret_cast<long>(pieces), static_cast<long>(count), advice, 0, 0 LWP_CALL_AT);
}

/// 0 | EAGAIN, ENOMEM, EPERM
inline int thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *), void *arg LWP_CALLED_AT) noexcept {
	return static_cast<int>(
	    -library(SYS_clone, [=]() noexcept -> long { return -::pthread_create(thread, attributes, main, arg); } LWP_CALL_AT));
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
inline long futex_wait(atomic<std::uint32_t> *word, std::uint32_t expected, const timespec *deadline LWP_CALLED_AT) noexcept {
	return call(SYS_futex, reinterpret_cast<long>(word), FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, static_cast<long>(expected),
	    reinterpret_cast<long>(deadline), 0, static_cast<long>(FUTEX_BITSET_MATCH_ANY) LWP_CALL_AT);
}

// It cannot fail: nor does a yield, which would do no harm.
inline long futex_wake(atomic<std::uint32_t> *word, int count) noexcept {
	return raw(SYS_futex, reinterpret_cast<long>(word), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count);
}

inline long membarrier(int command LWP_CALLED_AT) noexcept { return call(SYS_membarrier, command, 0, 0, 0, 0, 0 LWP_CALL_AT); }

inline void yield() noexcept { raw(SYS_sched_yield); }
#endif

/// Makes a nonblocking eventfd readable.  It cannot fail: EAGAIN only says that it is that already.
inline void signal_eventfd(int fd) noexcept {
	const std::uint64_t one = 1;
	(void)raw(SYS_write, fd, reinterpret_cast<long>(&one), sizeof(one));
}

/// Flags of an open file: F_GETFL and F_SETFL have nothing to refuse but a number that names none.
inline long file_flags(int fd, int command, long flags = 0) noexcept { return raw(SYS_fcntl, fd, command, flags); }

inline long write(int fd, const void *data, std::size_t size LWP_CALLED_AT) noexcept {
	return call(SYS_write, fd, reinterpret_cast<long>(data), static_cast<long>(size), 0, 0, 0 LWP_CALL_AT);
}

}  // namespace lwp::kern::sys
