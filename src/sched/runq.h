// SPDX-License-Identifier: BSD-2-Clause
//
// A run queue: a FIFO list for each of the 224 priorities and a bitmap of those that are not empty.  Every operation O(1).
// Covered by the vc_rqlock of the vCPU it belongs to; `count` and `top` may be peeked at without it.
#pragma once

#include "core/lwp.h"

namespace lwp::kern {

class runq {
public:
	static constexpr int none = -1;

	/// Best priority queued, or none.
	[[nodiscard]] int top() const noexcept { return top_.load(std::memory_order_relaxed); }      // relaxed: exact under the lock, else a hint
	[[nodiscard]] unsigned count() const noexcept { return count_.load(std::memory_order_relaxed); }  // same

	LWP_ALWAYS_INLINE void push_back(lwp_t *l) noexcept {
		level_[l->l_priority].push_back(l);
		pushed(l->l_priority);
	}
	LWP_ALWAYS_INLINE void push_front(lwp_t *l) noexcept {
		level_[l->l_priority].push_front(l);
		pushed(l->l_priority);
	}
	[[nodiscard]] lwp_t *front() const noexcept { return top() == none ? nullptr : level_[top()].front(); }

	LWP_ALWAYS_INLINE lwp_t *pop() noexcept {
		int p = top();
		if (p == none) {
			return nullptr;
		}
		lwp_t *l = level_[p].pop_front();
		removed(p);
		return l;
	}
	LWP_ALWAYS_INLINE void remove(lwp_t *l) noexcept {
		level_[l->l_priority].remove(l);
		removed(l->l_priority);
	}
	/// The yield: puts `l` at the tail and takes the front, when both are of the best priority, in one go.
	LWP_ALWAYS_INLINE lwp_t *rotate(lwp_t *l) noexcept {
		auto &level = level_[top()];
		lwp_t *next = level.pop_front();
		level.push_back(l);
		return next;
	}
	/// The last one of the best priority that `wanted` accepts, looking at no more than `limit`.
	template <class Wanted>
	[[nodiscard]] lwp_t *find_back(Wanted wanted, unsigned limit) const noexcept {
		if (top() == none) {
			return nullptr;
		}
		using level = list<lwp_t, &lwp_t::l_link>;
		for (lwp_t *l = level_[top()].back(); l != nullptr && limit-- > 0; l = level::prev(l)) {
			if (wanted(l)) {
				return l;
			}
		}
		return nullptr;
	}

private:
	LWP_ALWAYS_INLINE void pushed(int p) noexcept {
		bitmap_[p / 64] |= std::uint64_t{1} << (p % 64);
		if (p > top()) {
			top_.store(p, std::memory_order_relaxed);
		}
		count_.store(count() + 1, std::memory_order_relaxed);  // relaxed: written under the lock; peekers take it as a hint
	}
	LWP_ALWAYS_INLINE void removed(int p) noexcept {
		count_.store(count() - 1, std::memory_order_relaxed);
		if (level_[p].empty()) {
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
	std::uint64_t bitmap_[(pri_count + 63) / 64]{};
	list<lwp_t, &lwp_t::l_link> level_[pri_count];
};

}  // namespace lwp::kern
