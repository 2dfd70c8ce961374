// SPDX-License-Identifier: BSD-2-Clause
//
// What the library's code calls in the explorer's build (LWP_EXPLORE=1) instead of the CPU and the kernel: atomics, futexes, membarrier,
// the clock, pauses.  Each call is a point at which the explorer may let another virtual kernel thread go on (engine.h).
//
// Included by src/base/atomic.h, and by nothing else of the library.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

struct timespec;

namespace lwp::kern {
struct vcpu_t;
}

namespace lwp::explore {

enum class op : std::uint8_t { load, store, rmw, fence, relax, yield, futex_wait, futex_wake, membarrier, clock, note };

/// A point where others may go on.  `line` of `file` is about to do `what` to *address.
void point(op what, const void *address, const char *file, int line) noexcept;

// Stores as x86 makes them: they wait, in order, in the store buffer of their CPU, whose own loads see them.  Without `delays` there is no buffer.
extern bool delays;
void store_delayed(void *address, const void *value, unsigned size) noexcept;
/// The newest value of *address that waits in the running CPU's buffer; false if there is none.
bool load_own(const void *address, void *value, unsigned size) noexcept;
/// Everything that waits there is stored.
void drain_own() noexcept;

std::uint64_t clock_now() noexcept;
long futex_wait(const void *word, std::uint32_t expected, const timespec *deadline) noexcept;
long futex_wake(const void *word, int count) noexcept;
long membarrier() noexcept;

/// What curcpu_or_null() says; and storage for what else belongs to a kernel thread.
extern kern::vcpu_t *current_vcpu;
void set_current_vcpu(kern::vcpu_t *) noexcept;
constexpr unsigned kthread_bytes = 1024;
void *kthread_storage() noexcept;

/// std::atomic's face, as far as the library uses it.
template <class T>
class atomic {
	static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
	using order = std::memory_order;

public:
	static constexpr bool is_always_lock_free = true;

	constexpr atomic() noexcept : value_() {}
	constexpr atomic(T value) noexcept : value_(value) {}
	atomic(const atomic &) = delete;
	atomic &operator=(const atomic &) = delete;
	operator T() const noexcept { return load(); }

	T load(order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) const noexcept {
		point(op::load, this, file, line);
		T value;
		return delays && load_own(&value_, &value, sizeof(T)) ? value : value_;
	}
	void store(T value, order o = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		point(op::store, this, file, line);
		if (!delays) {
			value_ = value;
			return;
		}
		store_delayed(&value_, &value, sizeof(T));
		if (o == std::memory_order_seq_cst) {
			drain_own();
		}
	}
	T exchange(T value, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return modify([value](T) { return value; }, file, line);
	}
	template <class U>
	T fetch_add(U n, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return modify([n](T old) { return static_cast<T>(old + static_cast<T>(n)); }, file, line);
	}
	template <class U>
	T fetch_sub(U n, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return modify([n](T old) { return static_cast<T>(old - static_cast<T>(n)); }, file, line);
	}
	T fetch_and(T bits, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return modify([bits](T old) { return static_cast<T>(old & bits); }, file, line);
	}
	T fetch_or(T bits, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return modify([bits](T old) { return static_cast<T>(old | bits); }, file, line);
	}
	bool compare_exchange_strong(
	    T &expected, T wanted, order, order, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return compare_exchange(expected, wanted, file, line);
	}
	bool compare_exchange_strong(T &expected, T wanted, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(),
	    int line = __builtin_LINE()) noexcept {
		return compare_exchange(expected, wanted, file, line);
	}
	bool compare_exchange_weak(
	    T &expected, T wanted, order, order, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
		return compare_exchange(expected, wanted, file, line);
	}
	bool compare_exchange_weak(T &expected, T wanted, order = std::memory_order_seq_cst, const char *file = __builtin_FILE(),
	    int line = __builtin_LINE()) noexcept {
		return compare_exchange(expected, wanted, file, line);
	}

private:
	template <class Fn>
	T modify(Fn fn, const char *file, int line) noexcept {
		point(op::rmw, this, file, line);
		if (delays) {
			drain_own();
		}
		const T old = value_;
		value_ = fn(old);
		return old;
	}
	bool compare_exchange(T &expected, T wanted, const char *file, int line) noexcept {
		point(op::rmw, this, file, line);
		if (delays) {
			drain_own();
		}
		if (value_ == expected) {
			value_ = wanted;
			return true;
		}
		expected = value_;
		return false;
	}

	T value_;
};

inline void fence(std::memory_order o, const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept {
	point(op::fence, nullptr, file, line);
	if (delays && o == std::memory_order_seq_cst) {
		drain_own();
	}
}

}  // namespace lwp::explore
