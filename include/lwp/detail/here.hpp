// SPDX-License-Identifier: BSD-2-Clause
//
// Who runs here, for code that stands in the application: with it a lock that nobody else wants is taken and given back without a call.
//
// The library has one pointer for each kernel thread.  It leads to the words below; it is null on a kernel thread that the library has not met, and on
// all of them if the library wants to be called each time: a debug build, one with a sanitizer, an explored schedule (testing.hpp).
//
// This is ABI: an application that was compiled with this header runs with later libraries.  One whose words mean something else keeps `lwp_here_1`, null
// for ever, and has another name for its own; so old code calls.
//
// An LWP moves to another kernel thread in calls only: who is interrupted by preemption goes on where it was.  So what is found here is right until the
// next call, and no longer; the pointer is read anew each time, by an asm that no compiler takes a value or an address from a former one for.
#pragma once

#include <lwp/lwp.h>

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(__ILP32__)
#define LWP_HERE 1
extern "C" LWP_API __thread __attribute__((tls_model("initial-exec"))) const unsigned char *lwp_here_1;
#else
#define LWP_HERE 0
#endif

#define LWP_HERE_INLINE inline __attribute__((always_inline))

namespace lwp::detail {

class here {
public:
	// Where what is: who runs, an address that is a multiple of 64; and whether somebody better waits.
	static constexpr std::size_t lwp_at = 0, resched_at = 8;
	// Of the LWP: its flags, and those of them that are looked at when a call returns.
	static constexpr std::size_t flags_at = 96;
	static constexpr std::uint32_t boundary = 0x0d1f0400;
	static constexpr std::uintptr_t lock_flags = 7;  // of a mutex's word; the rest is its owner

	/// False: call the library.
	LWP_HERE_INLINE here() noexcept {
#if LWP_HERE
		__asm__ volatile("movq lwp_here_1@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(words_));
#endif
	}
	LWP_HERE_INLINE explicit operator bool() const noexcept { return __builtin_expect(words_ != nullptr, 1); }

	/// The caller, as locks name their owners.
	[[nodiscard]] LWP_HERE_INLINE std::uintptr_t lwp() const noexcept { return load<std::uintptr_t>(words_ + lwp_at); }
	/// Whether a call that gives something back would have to do more than that, at its boundary.
	[[nodiscard]] LWP_HERE_INLINE bool boundary_due(std::uintptr_t lwp) const noexcept {
		return load<unsigned char>(words_ + resched_at) != 0 ||
		    (load<std::uint32_t>(reinterpret_cast<const unsigned char *>(lwp) + flags_at) & boundary) != 0;
	}

private:
	template <class T>
	static LWP_HERE_INLINE T load(const unsigned char *at) noexcept {
		// relaxed: the first is the caller's own, of the others it matters that they are seen at some boundary
		return __atomic_load_n(static_cast<const T *>(static_cast<const void *>(at)), __ATOMIC_RELAXED);
	}
	const unsigned char *words_ = nullptr;
};

/// The first word of a lock, for code that stands in the application.
LWP_HERE_INLINE std::uintptr_t *lock_word_of(unsigned char *bytes) noexcept {
	return static_cast<std::uintptr_t *>(static_cast<void *>(bytes));
}
/// Whether an exchange is worth it: one in vain costs as much as one that is not, and the call tries again.  relaxed: a guess
LWP_HERE_INLINE bool lock_word_is(unsigned char *bytes, std::uintptr_t value) noexcept {
	return __builtin_expect(__atomic_load_n(lock_word_of(bytes), __ATOMIC_RELAXED) == value, 1);
}
/// Takes a lock: with `acquire` and, since whoever waits looks at the owner, `release` (sync/mutex.h).
LWP_HERE_INLINE bool lock_word_take(unsigned char *bytes, std::uintptr_t from, std::uintptr_t to) noexcept {
	return lock_word_is(bytes, from) &&
	    __builtin_expect(__atomic_compare_exchange_n(lock_word_of(bytes), &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED), 1);
}
/// Gives it back: the last access.
LWP_HERE_INLINE bool lock_word_give(unsigned char *bytes, std::uintptr_t from, std::uintptr_t to) noexcept {
	// release: pairs with the acquire of the next owner
	return lock_word_is(bytes, from) &&
	    __builtin_expect(__atomic_compare_exchange_n(lock_word_of(bytes), &from, to, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED), 1);
}

}  // namespace lwp::detail
