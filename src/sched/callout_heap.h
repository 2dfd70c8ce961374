// SPDX-License-Identifier: BSD-2-Clause
//
// The timer heap: who is due first, among any number of timers, and out again in the middle.  A 4-ary min-heap: half as deep as a
// binary one, and the four children of an entry share one cache line.
//
// Takes no lock: the owner's lock covers the heap and the co_ fields of what is in it.  Never throws, never touches errno.  Memory
// comes straight from the kernel, so that no allocator is entered with that lock held, and grows by remapping, so that the insert
// that doubles a million entries does not copy them.
//
// Entries are 16 bytes, {deadline, callout}: comparing two touches no callout.  Equal deadlines are first in, first out, by a number
// that is kept in the callout, where it costs nothing (it fills up co_index), and is looked at only when two deadlines are equal.
// In the entry it would make four children one and a half cache lines for a case that nanoseconds make rare.
#pragma once

#include "base/assert.h"
#include "base/config.h"
#include "base/sys.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lwp::kern {

inline constexpr std::uint32_t callout_idle = UINT32_MAX;

/// A timer; what it does when it is due is added by derivation.
struct callout {
	std::uint64_t co_deadline = 0;          // ns, CLOCK_MONOTONIC; set before insert, fixed while in a heap
	std::uint32_t co_index = callout_idle;  // place in the heap, or callout_idle
	std::uint32_t co_sequence = 0;          // order of insertion; of two with equal deadlines the lower is due first
};

/// Whether it was inserted first.  The number wraps around: right as long as fewer than 2^31 inserts lie between two equals that wait at the same time.
inline bool callout_older(const callout *a, const callout *b) noexcept {
	return static_cast<std::int32_t>(a->co_sequence - b->co_sequence) < 0;
}

class callout_heap {
public:
	/// The count of inserts begins there; only a test that wants to see it wrap around needs another start.
	explicit callout_heap(std::uint32_t first_sequence = 0) noexcept : sequence_(first_sequence) {}
	~callout_heap() { (void)resize(0); }
	callout_heap(const callout_heap &) = delete;
	callout_heap &operator=(const callout_heap &) = delete;

	/// Enters an idle callout by its co_deadline.  Returns 0 | ENOMEM, nothing changed
	[[nodiscard]] int insert(callout *c) noexcept {
		c->co_sequence = next_sequence();
		return enter(c);
	}
	std::uint32_t next_sequence() noexcept { return sequence_++; }

	/// As insert(), of one that keeps its place among equals: it has a number from next_sequence().
	[[nodiscard]] int enter(callout *c) noexcept {
		LWP_ASSERT(c->co_index == callout_idle);
		if (LWP_UNLIKELY(root + size_ >= capacity_)) {
			if (capacity_ >= most || resize(capacity_ == 0 ? least : capacity_ * 2) != 0) {
				return ENOMEM;
			}
		}
		rise(root + size_++, {c->co_deadline, c});
		return 0;
	}

	/// Takes out a callout that is in this heap.
	void remove(callout *c) noexcept {
		std::uint32_t hole = c->co_index;
		LWP_ASSERT(hole >= root && hole < root + size_ && heap_[hole].what == c);
		c->co_index = callout_idle;
		entry last = heap_[root + --size_];
		if (last.what != c) {
			refill(hole, last);
		}
		// An eighth, not a half: a heap that goes up and down around one size is not resized over and over.
		if (LWP_UNLIKELY(capacity_ > least && size_ < capacity_ / 8)) {
			(void)resize(capacity_ / 2);  // no harm if the kernel will not
		}
	}

	/// The one that is due first, null if there is none.
	[[nodiscard]] callout *top() const noexcept { return size_ == 0 ? nullptr : heap_[root].what; }

	/// The deadline of top(), UINT64_MAX if there is none; touches no callout.
	[[nodiscard]] std::uint64_t top_deadline() const noexcept { return size_ == 0 ? UINT64_MAX : heap_[root].deadline; }

	/// Takes out top(); null if there is none.
	callout *pop() noexcept {
		callout *c = top();
		if (c != nullptr) {
			remove(c);
		}
		return c;
	}

	[[nodiscard]] std::size_t size() const noexcept { return size_; }
	[[nodiscard]] bool empty() const noexcept { return size_ == 0; }

private:
	struct entry {
		std::uint64_t deadline;
		callout *what;
	};
	// The array begins at a page and the root in its fourth entry, so the children of p, 4p-8 to 4p-5, are one 64-byte line.
	static constexpr std::uint32_t root = 3;
	static constexpr std::uint32_t least = 4096 / sizeof(entry);  // entries in the smallest array: a page
	static constexpr std::uint32_t most = 1U << 31;
	static constexpr std::uint32_t parent(std::uint32_t p) noexcept { return p / 4 + 2; }
	static constexpr std::uint64_t first_child(std::uint32_t p) noexcept { return std::uint64_t{p} * 4 - 8; }

	static bool before(const entry &a, const entry &b) noexcept {
		if (LWP_LIKELY(a.deadline != b.deadline)) {
			return a.deadline < b.deadline;
		}
		return callout_older(a.what, b.what);
	}
	void place(std::uint32_t p, const entry &e) noexcept {
		heap_[p] = e;
		e.what->co_index = p;
	}
	/// Puts e where p is, or above.
	void rise(std::uint32_t p, const entry &e) noexcept {
		while (p != root && before(e, heap_[parent(p)])) {
			place(p, heap_[parent(p)]);
			p = parent(p);
		}
		place(p, e);
	}
	/// Puts e, until now the last, into the subtree of the hole p, or above.  The hole sinks to the bottom first: e came from there,
	/// so it will seldom rise far again, and the way down need not compare with it.
	void refill(std::uint32_t p, const entry &e) noexcept {
		const std::uint64_t end = root + size_;
		for (std::uint64_t c; (c = first_child(p)) < end;) {
			std::uint32_t child = least_child(c, end);
			place(p, heap_[child]);
			p = child;
		}
		rise(p, e);
	}
	std::uint32_t least_child(std::uint64_t c, std::uint64_t end) const noexcept {
		if (LWP_LIKELY(c + 4 <= end)) {
			// Which child it is cannot be predicted: a knockout without branches, then one look whether two of them are equally early.
			const entry *e = heap_ + c;
			const std::uint64_t a = std::min(e[0].deadline, e[1].deadline);
			const std::uint64_t b = std::min(e[2].deadline, e[3].deadline);
			const std::uint64_t earliest = std::min(a, b);
			const unsigned is = static_cast<unsigned>(e[0].deadline == earliest) | static_cast<unsigned>(e[1].deadline == earliest) << 1 |
			    static_cast<unsigned>(e[2].deadline == earliest) << 2 | static_cast<unsigned>(e[3].deadline == earliest) << 3;
			if (LWP_LIKELY((is & (is - 1)) == 0)) {
				return static_cast<std::uint32_t>(c) + static_cast<std::uint32_t>(std::countr_zero(is));
			}
		}
		std::uint64_t m = c;
		for (std::uint64_t i = c + 1; i < std::min(c + 4, end); i++) {
			m = before(heap_[i], heap_[m]) ? i : m;
		}
		return static_cast<std::uint32_t>(m);
	}

	/// Makes room for `capacity` entries; 0 gives everything back.  Returns 0 | ENOMEM, nothing changed
	LWP_NOINLINE int resize(std::uint32_t capacity) noexcept {
		const std::size_t old_bytes = capacity_ * sizeof(entry);
		const std::size_t bytes = capacity * sizeof(entry);
		void *fresh = nullptr;
		if (bytes == 0) {
			sys::unmap(heap_, old_bytes);
		} else if (heap_ == nullptr || LWP_TSAN) {  // ThreadSanitizer does not follow mremap(2)
			fresh = sys::map(bytes);
			if (fresh == nullptr) {
				return ENOMEM;
			}
			if (heap_ != nullptr) {
				std::memcpy(fresh, heap_, std::min(bytes, old_bytes));
				sys::unmap(heap_, old_bytes);
			}
		} else {
			const long moved = sys::call(
			    SYS_mremap, reinterpret_cast<long>(heap_), static_cast<long>(old_bytes), static_cast<long>(bytes), MREMAP_MAYMOVE);
			if (moved < 0 && moved >= -4095) {
				return ENOMEM;
			}
			fresh = reinterpret_cast<void *>(moved);
		}
		heap_ = static_cast<entry *>(fresh);
		capacity_ = capacity;
		return 0;
	}
	entry *heap_ = nullptr;
	std::uint32_t size_ = 0;
	std::uint32_t capacity_ = 0;  // entries of the array, the unused ones before the root included
	std::uint32_t sequence_;
};

}  // namespace lwp::kern
