// SPDX-License-Identifier: BSD-2-Clause
//
// The timers of a vCPU: a line and a heap.
//
// Most timers are armed in the order in which they will be due, since most of those that are many are for the same time from now.  They stand in a line, a
// ring of the heap's 16-byte entries: one is entered at its end and leaves at its front, whatever their number, and no other is touched.  In the heap
// the last one sinks to the bottom for each that leaves, and each step writes to a timer on somebody else's stack, which is in no cache.  Who is
// due before the last in line goes into the heap; but if that one is alone, it makes room for who is to come, and goes there itself.
//
// Who leaves from the middle of the line leaves a hole.  There are none at either end; when the ring is full of holes by half, it closes up.
//
// Takes no lock, never throws, never touches errno; memory as the heap's.
#pragma once

#include "sched/callout_heap.h"

namespace lwp::kern {

class callout_queue {
public:
	/// As callout_heap's.
	explicit callout_queue(std::uint32_t first_sequence = 0) noexcept : heap_(first_sequence) {}
	~callout_queue() { sys::unmap(ring_, capacity_ * sizeof(entry)); }
	callout_queue(const callout_queue &) = delete;
	callout_queue &operator=(const callout_queue &) = delete;

	/// Enters an idle callout by its co_deadline.  Returns 0 | ENOMEM, nothing changed
	[[nodiscard]] int insert(callout *c) noexcept {
		LWP_ASSERT(c->co_index == callout_idle);
		c->co_sequence = heap_.next_sequence();
		if (LWP_UNLIKELY(live_ != 0 && c->co_deadline < last().deadline) && !yield_to(c)) {
			return heap_.enter(c);
		}
		if (LWP_UNLIKELY(end_ - front_ == capacity_) && !make_room()) {
			return heap_.enter(c);
		}
		at(end_) = {c->co_deadline, c};
		c->co_index = in_line | (end_++ & positions);
		live_++;
		return 0;
	}

	/// Takes out a callout that is in it.
	void remove(callout *c) noexcept {
		if ((c->co_index & in_line) == 0) {
			heap_.remove(c);
			return;
		}
		entry &e = at(c->co_index);
		LWP_ASSERT(c->co_index != callout_idle && e.what == c);
		c->co_index = callout_idle;
		e.what = nullptr;
		live_--;
		trim();
	}

	/// The one that is due first, null if there is none.
	[[nodiscard]] callout *top() const noexcept {
		if (live_ == 0) {
			return heap_.top();
		}
		const entry &first = at(front_);
		const std::uint64_t other = heap_.top_deadline();
		if (LWP_LIKELY(first.deadline < other)) {
			return first.what;
		}
		callout *top = heap_.top();
		return top == nullptr || (first.deadline == other && callout_older(first.what, top)) ? first.what : top;
	}

	/// Takes out top(); null if there is none.
	callout *pop() noexcept {
		callout *c = top();
		if (c != nullptr) {
			remove(c);
		}
		return c;
	}

	[[nodiscard]] std::size_t size() const noexcept { return live_ + heap_.size(); }
	[[nodiscard]] bool empty() const noexcept { return size() == 0; }

private:
	struct entry {
		std::uint64_t deadline;
		callout *what;  // null: a hole
	};
	static constexpr std::uint32_t in_line = 1U << 31;  // in co_index: the rest is a position, which counts up; else it is the heap's
	static constexpr std::uint32_t positions = in_line / 2 - 1;  // so none of them is callout_idle
	static constexpr std::uint32_t least = 4096 / sizeof(entry);
	static constexpr std::uint32_t most = positions / 2 + 1;

	entry &at(std::uint32_t position) noexcept { return ring_[position & (capacity_ - 1)]; }
	[[nodiscard]] const entry &at(std::uint32_t position) const noexcept { return ring_[position & (capacity_ - 1)]; }
	[[nodiscard]] const entry &last() const noexcept { return at(end_ - 1); }

	/// Of the last in line, which is due after `c`: true if it was alone, and is in the heap now.
	bool yield_to(const callout *c) noexcept {
		if (live_ != 1) {
			return false;
		}
		callout *alone = last().what;
		LWP_ASSERT(c->co_deadline < alone->co_deadline);
		(void)c;
		remove(alone);
		if (heap_.enter(alone) == 0) {
			return true;
		}
		at(end_) = {alone->co_deadline, alone};  // there is room: it was there
		alone->co_index = in_line | (end_++ & positions);
		live_++;
		return false;
	}

	/// Holes at the ends are none.
	void trim() noexcept {
		if (live_ == 0) {
			front_ = end_;
		} else {
			while (at(front_).what == nullptr) {
				front_++;
			}
			while (last().what == nullptr) {
				end_--;
			}
		}
		if (LWP_UNLIKELY(capacity_ > keep && end_ - front_ < capacity_ / 8)) {
			(void)move_to(std::bit_ceil(std::max((end_ - front_) * 4, keep)));  // no harm if the kernel will not
		}
	}
	static constexpr std::uint32_t keep = 1U << 14;  // entries that there is always room for, once there was

	/// The ring is full.  False: no memory.
	LWP_NOINLINE bool make_room() noexcept {
		if (capacity_ != 0 && live_ <= capacity_ / 2) {
			std::uint32_t to = front_;
			for (std::uint32_t from = front_; from != end_; from++) {
				if (const entry e = at(from); e.what != nullptr) {
					at(to) = e;
					e.what->co_index = in_line | (to++ & positions);
				}
			}
			end_ = to;
			return true;
		}
		return capacity_ < most && move_to(capacity_ == 0 ? least : capacity_ * 2);
	}
	/// Another ring, in which each has its position as before.
	bool move_to(std::uint32_t capacity) noexcept {
		auto *fresh = static_cast<entry *>(sys::map(capacity * sizeof(entry)));
		if (fresh == nullptr) {
			return false;
		}
		for (std::uint32_t p = front_; p != end_; p++) {
			fresh[p & (capacity - 1)] = at(p);
		}
		if (ring_ != nullptr) {
			sys::unmap(ring_, capacity_ * sizeof(entry));
		}
		ring_ = fresh;
		capacity_ = capacity;
		return true;
	}

	callout_heap heap_;
	entry *ring_ = nullptr;
	std::uint32_t capacity_ = 0;  // a power of two
	std::uint32_t front_ = 0;     // positions; they wrap around
	std::uint32_t end_ = 0;
	std::uint32_t live_ = 0;  // of those in line
};

}  // namespace lwp::kern
