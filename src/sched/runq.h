// SPDX-License-Identifier: BSD-2-Clause
//
// A run queue: for each of the 224 priorities a line, first come first served, and a stack, newest first; and a bitmap of the priorities
// that have either.  Every operation O(1).  Covered by the vc_rqlock of its vCPU; count() and top() may be peeked at without it.
//
// Who is woken or yields stands in line.  New LWPs, and those whose child has ended, go on the stack: work that forks then keeps few LWPs
// alive at once, ten to eighteen times faster on trees.  The stack is served first, but not for ever: turn(), called about once in a
// millisecond, lets everybody who stands in line go first once, and sends the oldest of the stack to the end of the line.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

enum class queue_end : bool { line, newest_first };

class runq {
public:
	static constexpr int none = -1;

	/// Best priority queued, or none.
	[[nodiscard]] int top() const noexcept { return top_.load(std::memory_order_relaxed); }      // relaxed: exact under the lock, else a hint
	[[nodiscard]] unsigned count() const noexcept { return count_.load(std::memory_order_relaxed); }  // same

	LWP_ALWAYS_INLINE void push(lwp_t *l, queue_end end) noexcept {
		level &v = level_[l->l_priority];
		l->l_stacked = end == queue_end::newest_first;
		l->l_stacked ? v.stack.push_front(l) : v.line.push_back(l);
		bitmap_[l->l_priority / 64] |= std::uint64_t{1} << (l->l_priority % 64);
		if (l->l_priority > top()) {
			top_.store(l->l_priority, std::memory_order_relaxed);
		}
		count_.store(count() + 1, std::memory_order_relaxed);  // relaxed: written under the lock; peekers take it as a hint
	}

	/// Takes the one that runs next, or null.
	LWP_ALWAYS_INLINE lwp_t *pop() noexcept {
		int p = top();
		if (p == none) {
			return nullptr;
		}
		lwp_t *l = take(level_[p]);
		removed(p);
		return l;
	}

	/// The yield: `l`, whose priority is the best queued, goes to the end of the line, and the next comes.
	LWP_ALWAYS_INLINE lwp_t *rotate(lwp_t *l) noexcept {
		level &v = level_[top()];
		lwp_t *next = take(v);
		l->l_stacked = false;
		v.line.push_back(l);
		return next;
	}

	LWP_ALWAYS_INLINE void remove(lwp_t *l) noexcept {
		level &v = level_[l->l_priority];
		l->l_stacked ? v.stack.remove(l) : v.line.remove(l);
		removed(l->l_priority);
	}

	/// Whoever stands in line goes first once.
	void turn() noexcept {
		if (top() == none || level_[top()].stack.empty()) {
			line_first_ = 0;
			return;
		}
		level &v = level_[top()];
		line_first_ = count();  // at least those in line; more does no harm, the line ends when it is empty
		lwp_t *oldest = v.stack.back();
		v.stack.remove(oldest);
		oldest->l_stacked = false;
		v.line.push_back(oldest);
	}

	/// The one that a thief takes: of the best priority, the oldest of the stack (the largest part of a tree), else the last in line; the first
	/// that `wanted` accepts, looking at no more than `limit` of each.
	template <class Wanted>
	[[nodiscard]] lwp_t *find_back(Wanted wanted, unsigned limit) const noexcept {
		if (top() == none) {
			return nullptr;
		}
		const level &v = level_[top()];
		lwp_t *l = last(v.stack, wanted, limit);
		return l != nullptr ? l : last(v.line, wanted, limit);
	}

private:
	using lwp_list = list<lwp_t, &lwp_t::l_link>;
	struct level {
		lwp_list line;
		lwp_list stack;
	};

	LWP_ALWAYS_INLINE lwp_t *take(level &v) noexcept {
		if (LWP_LIKELY(v.stack.empty())) {
			return v.line.pop_front();
		}
		if (line_first_ != 0) {
			line_first_--;
			if (lwp_t *l = v.line.pop_front()) {
				return l;
			}
			line_first_ = 0;
		}
		return v.stack.pop_front();
	}

	template <class Wanted>
	static lwp_t *last(const lwp_list &from, Wanted wanted, unsigned limit) noexcept {
		for (lwp_t *l = from.back(); l != nullptr && limit-- > 0; l = lwp_list::prev(l)) {
			if (wanted(l)) {
				return l;
			}
		}
		return nullptr;
	}

	LWP_ALWAYS_INLINE void removed(int p) noexcept {
		count_.store(count() - 1, std::memory_order_relaxed);
		if (level_[p].line.empty() && level_[p].stack.empty()) {
			emptied(p);
		}
	}
	void emptied(int p) noexcept {
		bitmap_[p / 64] &= ~(std::uint64_t{1} << (p % 64));
		if (p == top()) {
			int best = none;
			for (int word = p / 64; word >= 0 && best == none; word--) {
				if (bitmap_[word] != 0) {
					best = word * 64 + 63 - __builtin_clzll(bitmap_[word]);
				}
			}
			top_.store(best, std::memory_order_relaxed);
		}
	}

	std::atomic<int> top_{none};
	std::atomic<unsigned> count_{0};
	unsigned line_first_ = 0;  // so many from the line go before the stack
	std::uint64_t bitmap_[(pri_count + 63) / 64]{};
	level level_[pri_count];
};

}  // namespace lwp::kern
