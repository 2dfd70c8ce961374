// SPDX-License-Identifier: BSD-2-Clause
//
// What the compiler and the build say about this build: sanitizers, debug checks, branch hints.  Macros only.
#pragma once

#if defined(__has_feature)
#define LWP_HAS_FEATURE(x) __has_feature(x)
#else
#define LWP_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || LWP_HAS_FEATURE(address_sanitizer)
#define LWP_ASAN 1
#else
#define LWP_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || LWP_HAS_FEATURE(thread_sanitizer)
#define LWP_TSAN 1
#else
#define LWP_TSAN 0
#endif

#ifndef LWP_DEBUG
#define LWP_DEBUG 0  // asserts and lock ranks
#endif

#ifndef LWP_EXPLORE
#define LWP_EXPLORE 0  // the build of tests/explore: atomics, clock and futexes are the explorer's
#endif

#ifndef LWP_PORTABLE_SWITCH
#define LWP_PORTABLE_SWITCH 0  // switch with the public boost::context::fiber only
#endif

// Applications call the library for each lock, whatever <lwp/detail/here.hpp> could do without: a call checks more, or an LWP looks otherwise.
#define LWP_BY_CALL (LWP_DEBUG || LWP_ASAN || LWP_TSAN || LWP_EXPLORE || LWP_PORTABLE_SWITCH)

#define LWP_LIKELY(x) __builtin_expect(!!(x), 1)
#define LWP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LWP_NOINLINE __attribute__((noinline))
#define LWP_ALWAYS_INLINE inline __attribute__((always_inline))
