// SPDX-License-Identifier: BSD-2-Clause
//
// A run queue: for each of the 224 priorities a line, first come first served, and a stack, newest first; and a bitmap of the priorities
// that have either.  Every operation O(1).  Covered by the vc_rqlock of its vCPU; count() and top() may be peeked at without it.
//
// Who is woken or yields stands in line.  New LWPs, and those whose child has ended, go on the stack: work that forks then keeps few LWPs
// alive at once.  The stack is served first, but not for ever: turn(), called about once in a
// millisecond, lets everybody who stands in line go first once, unless as many have gone since the last turn() as stood there then; and it sends the oldest
// of the stack to the end of the line.  If from one turn() to the
// next the stack has had fewer switches than the line, it is served after each of the line in the next, its oldest first.  So neither starves the other:
//  - the line: after a turn() that finds it neglected the n who stand in it are the next n, or have each second of the next 2n switches, whatever comes onto
//    the stack.  A chain of LWPs that each make the next keeps them out until the second turn() and no longer;
//  - the stack: in a turn it has as many switches as the line, or it has as many in the next.  So of s that have not begun the last has after at most
//    3s switches and those of two turns, whether going through the line takes longer than until the next turn(), or a little less.
// Work that forks has hardly anything in line, and the stack stays one.
// One that the running LWP hands over to goes on the stack too, if that is empty: it is next, and those that only yield do not come between.  Of
// several that one LWP wakes the first is next and the others stand in line, so they keep their order.  Each fourth hand-over lets the first
// in line go before it, if nobody from there has run meanwhile (line_share.h): nobody there waits more than five times as long as if all stood in line.
// In a hand-over to and fro it leaves again at once.  So it is kept beside the stacks, as next_, and put where it belongs by whoever is about to
// look there.
#pragma once

#include "base/clock.h"
#include "core/lwp.h"
#include "sched/line_share.h"

namespace lwp::kern {

/// Where an LWP is queued: at the end of the line, at its head (it was preempted), on the stack, or on that if it is empty, else at the end of the line.
enum class queue_end : std::uint8_t { line, head, newest_first, handed_over };

class runq {
public:
	static constexpr int none = -1;

	/// In cycles of the CPU's counter; a test's in one.
	inline static std::uint64_t (*clock)() noexcept = cycles;

	/// Best priority queued, or none.
	[[nodiscard]] int top() const noexcept { return top_.load(std::memory_order_relaxed); }  // relaxed: exact under the lock, else a hint
	[[nodiscard]] unsigned count() const noexcept { return count_.load(std::memory_order_relaxed); }  // relaxed: likewise
	/// How many of them may run on any vCPU of their processor set; and how many on several that they have chosen.
	[[nodiscard]] unsigned movable() const noexcept { return count() - bound_.load(std::memory_order_relaxed) - several(); }  // same
	[[nodiscard]] unsigned several() const noexcept { return several_.load(std::memory_order_relaxed); }                      // same

	LWP_ALWAYS_INLINE void push(lwp_t *l, queue_end end) noexcept {
		if (end == queue_end::handed_over && push_next(l)) {
			return;
		}
		const int p = l->l_priority.load(std::memory_order_relaxed);  // relaxed, here and below: the LWP is locked
		if (end == queue_end::handed_over) {
			hand_over(p, l);
		} else {
			put(p, l, end);
		}
		counted(l, 1);
	}

	/// The short way for one that is handed over to: true, it is queued and next; false, push() it.  Calls nothing.
	[[nodiscard]] LWP_ALWAYS_INLINE bool push_next(lwp_t *l) noexcept {
		const int p = l->l_priority.load(std::memory_order_relaxed);
		if (LWP_UNLIKELY(next_ != nullptr || p < lists_top_ || !level_[p].stack.empty() || (handed_ % 4 == 3 && !level_[p].line.empty()))) {
			return false;
		}
		handed_++;
		l->l_stacked = true;
		next_ = l;
		top_.store(p, std::memory_order_relaxed);
		counted(l, 1);
		return true;
	}

	/// Takes the one that runs next, or null.
	LWP_ALWAYS_INLINE lwp_t *pop() noexcept {
		if (lwp_t *l = pop_next(); l != nullptr) {
			return l;
		}
		fold_if_any();
		const int p = lists_top_;
		if (p == none) {
			return nullptr;
		}
		lwp_t *l = take(level_[p]);
		counted(l, -1);
		removed(p);
		return l;
	}

	/// Who runs next if nobody is on the stack; null: nobody, or perhaps another.
	[[nodiscard]] lwp_t *first_in_line() noexcept {
		if (next_ != nullptr || lists_top_ == none || !level_[lists_top_].stack.empty()) {
			return nullptr;
		}
		return level_[lists_top_].line.front();
	}

	/// The short way to one that was handed over to; null: pop().  Calls nothing.
	LWP_ALWAYS_INLINE lwp_t *pop_next() noexcept {
		lwp_t *l = next_;
		if (LWP_UNLIKELY(l == nullptr || line_first_ != 0)) {
			return nullptr;
		}
		next_taken(l);
		return l;
	}

	/// The yield: `l`, whose priority is the best queued, goes to the end of the line, and the next comes.
	LWP_ALWAYS_INLINE lwp_t *rotate(lwp_t *l) noexcept {
		fold_if_any();
		level &v = level_[lists_top_];
		lwp_t *next = take(v);
		count_bound(next, -1);
		count_bound(l, 1);
		l->l_stacked = false;
		v.line.push_back(l);
		return next;
	}

	LWP_ALWAYS_INLINE void remove(lwp_t *l) noexcept {
		if (l == next_) {
			next_taken(l);
			return;
		}
		const int p = l->l_priority.load(std::memory_order_relaxed);
		level &v = level_[p];
		if (l->l_stacked) {
			v.stack.remove(l);
			stacked_--;
		} else {
			v.line.remove(l);
		}
		counted(l, -1);
		removed(p);
	}

	/// Around a change of what `l`, which is queued here, is bound to.
	void bound_changes(const lwp_t *l) noexcept { count_bound(l, -1); }
	void bound_changed(const lwp_t *l) noexcept { count_bound(l, 1); }

	/// Whoever stands in line goes first once.
	void turn() noexcept {
		crowded_ = stacked_ != 0 && of_stack_ < of_line_;
		of_stack_ = 0;
		fold_if_any();
		bool neglected = true;
		if (lists_top_ != none) {
			level &v = level_[lists_top_];
			oldest_to_line(v);
			neglected = turned_ != lists_top_ || v.served - served_ < of_line_;
			served_ = v.served;
		}
		turned_ = lists_top_;
		of_line_ = count() - stacked_;           // in worse lines, too: more does no harm, the line ends when it is empty
		line_first_ = neglected ? of_line_ : 0;  // else there is no need, and who is handed over to would wait for all of them
	}

	/// The first that `wanted` accepts, of those worse than `p`: the best priorities first, the line before the stack; null if the first `most` are not.
	template <class Wanted>
	[[nodiscard]] lwp_t *find_below(int p, unsigned most, Wanted wanted) noexcept {
		fold_if_any();
		for (p = below(p); p != none; p = below(p)) {
			for (const lwp_list *queued : {&level_[p].line, &level_[p].stack}) {
				for (lwp_t *l = queued->front(); l != nullptr; l = lwp_list::next(l)) {
					if (wanted(l)) {
						return l;
					}
					if (--most == 0) {
						return nullptr;
					}
				}
			}
		}
		return nullptr;
	}

	/// The one that a thief takes: the best that `may` accepts, which is asked about LWPs that are not bound to one vCPU; of equals the oldest of the stack
	/// (the largest part of a tree), else the last in line; null if there is none.  O(1) unless LWPs that may not move stand in its way.
	template <class May>
	[[nodiscard]] lwp_t *find_movable(May may) const noexcept {
		if (next_ != nullptr && next_->l_bound < 0 && may(next_)) {
			return next_;  // nobody is better, and it is all of its stack
		}
		for (int p = movable() + several() == 0 ? none : lists_top_; p != none; p = below(p)) {
			lwp_t *l = last_movable(level_[p].stack, may);
			if (l != nullptr || (l = last_movable(level_[p].line, may)) != nullptr) {
				return l;
			}
		}
		return nullptr;
	}

private:
	using lwp_list = list<lwp_t, &lwp_t::l_link>;
	struct alignas(64) level {
		lwp_list line;
		lwp_list stack;
		line_share share;
		std::uint32_t served = 0;  // so many have left the line to run
	};

	/// Into a list, for whoever is not next_.
	LWP_ALWAYS_INLINE void put(int p, lwp_t *l, queue_end end) noexcept {
		if (LWP_UNLIKELY(next_ != nullptr) && (p > top() || (p == top() && end == queue_end::newest_first))) {
			fold();  // this one goes before it
		}
		level &v = level_[p];
		l->l_stacked = end == queue_end::newest_first;
		stacked_ += l->l_stacked ? 1U : 0U;
		l->l_stacked ? v.stack.push_front(l) : end == queue_end::head ? v.line.push_front(l) : v.line.push_back(l);
		word(p) |= bit(p);
		if (p > lists_top_) {
			lists_top_ = p;
			if (p > top()) {
				top_.store(p, std::memory_order_relaxed);
			}
		}
	}

	/// One that is handed over to goes first, unless another does already; each fourth time the first in line goes before it, if that is due.
	LWP_NOINLINE void hand_over(int p, lwp_t *l) noexcept {
		level &v = level_[p];
		if (!v.stack.empty() || (next_ != nullptr && p == top())) {
			put(p, l, queue_end::line);
			return;
		}
		put(p, l, queue_end::newest_first);
		if (++handed_ % 4 == 0 && !v.line.empty() && v.share.due(clock(), v.served)) {
			lwp_t *waited = v.line.pop_front();
			v.served++;
			waited->l_stacked = true;
			stacked_++;
			v.stack.push_front(waited);
		}
	}

	/// next_, which is `l`, leaves.
	LWP_ALWAYS_INLINE void next_taken(const lwp_t *l) noexcept {
		next_ = nullptr;
		counted(l, -1);
		top_.store(lists_top_, std::memory_order_relaxed);
	}

	/// next_ goes where it belongs: it is all of its stack.
	LWP_NOINLINE void fold() noexcept {
		lwp_t *l = next_;
		next_ = nullptr;
		put(l->l_priority.load(std::memory_order_relaxed), l, queue_end::newest_first);
	}
	LWP_ALWAYS_INLINE void fold_if_any() noexcept {
		if (LWP_UNLIKELY(next_ != nullptr)) {
			fold();
		}
	}

	LWP_ALWAYS_INLINE lwp_t *take(level &v) noexcept {
		if (LWP_LIKELY(v.stack.empty())) {
			if (LWP_UNLIKELY(line_first_ != 0)) {
				line_first_--;  // it has had this turn, though nobody waited for it; else the next that is handed over to would
			}
			v.served++;
			lwp_t *l = v.line.pop_front();
			fetch_ahead(v.line.front());
			return l;
		}
		if (LWP_UNLIKELY(line_first_ != 0)) {
			if (lwp_t *l = take_before_stack(v); l != nullptr) {
				return l;
			}
		}
		stacked_--;
		of_stack_++;
		return v.stack.pop_front();
	}

	/// In a turn: the first in line, or the oldest of the stack where that is served beside it; null, and the turn is over, if nobody stands in line.
	LWP_NOINLINE lwp_t *take_before_stack(level &v) noexcept {
		if (crowded_ && of_stack_ < of_line_ - line_first_) {
			lwp_t *oldest = v.stack.back();
			v.stack.remove(oldest);
			stacked_--;
			of_stack_++;
			return oldest;
		}
		lwp_t *l = v.line.pop_front();
		if (l == nullptr) {
			line_first_ = 0;
			return nullptr;
		}
		line_first_--;
		v.served++;
		fetch_ahead(v.line.front());
		return l;
	}

	/// The stack may be empty just now: of a chain of LWPs that each make the next there is never more than one.
	void oldest_to_line(level &v) noexcept {
		if (lwp_t *oldest = v.stack.back(); oldest != nullptr) {
			v.stack.remove(oldest);
			stacked_--;
			oldest->l_stacked = false;
			v.line.push_back(oldest);
		}
	}

	/// Of a long line everybody has left the caches by his next turn.  So of the one that is next then (null: nobody) the stack is fetched now, and
	/// of the one behind it the struct.
	static LWP_ALWAYS_INLINE void fetch_ahead(const lwp_t *l) noexcept {
		if (l == nullptr) {
			return;
		}
		// What the switch takes off the stack; then, behind the red zone, what returns to whoever gave up the vCPU.
		const auto sp = reinterpret_cast<std::uintptr_t>(context_sp(l->l_ctx));
		const auto then = reinterpret_cast<std::uintptr_t>(lwp_list::next(l));
		for (const std::uintptr_t line : {sp, sp + 56, sp + 192, sp + 256, then, then + 64}) {
			__builtin_prefetch(reinterpret_cast<const void *>(line));
		}
	}

	template <class May>
	static lwp_t *last_movable(const lwp_list &from, May may) noexcept {
		for (lwp_t *l = from.back(); l != nullptr; l = lwp_list::prev(l)) {
			if (l->l_bound < 0 && may(l)) {
				return l;
			}
		}
		return nullptr;
	}

	LWP_ALWAYS_INLINE void count_bound(const lwp_t *l, int change) noexcept {
		if (LWP_UNLIKELY(l->l_bound != bound_none)) {
			atomic<unsigned> &which = l->l_bound >= 0 ? bound_ : several_;  // relaxed, both: as count_
			which.store(which.load(std::memory_order_relaxed) + static_cast<unsigned>(change), std::memory_order_relaxed);
		}
	}

	/// The best priority queued that is not better than p - 1.
	[[nodiscard]] int below(int p) const noexcept {
		for (int word = p / 64; word >= 0; word--) {
			std::uint64_t bits = bitmap_[word];
			if (word == p / 64) {
				bits &= (std::uint64_t{1} << (p % 64)) - 1;
			}
			if (bits != 0) {
				return word * 64 + 63 - __builtin_clzll(bits);
			}
		}
		return none;
	}

	LWP_ALWAYS_INLINE void counted(const lwp_t *l, int change) noexcept {
		count_.store(count() + static_cast<unsigned>(change),
		    std::memory_order_relaxed);  // relaxed: written under the lock; peekers take it as a hint
		count_bound(l, change);
	}

	LWP_ALWAYS_INLINE void removed(int p) noexcept {
		if (level_[p].line.empty() && level_[p].stack.empty()) {
			emptied(p);
		}
	}
	LWP_ALWAYS_INLINE void emptied(int p) noexcept {
		word(p) &= ~bit(p);
		if (LWP_LIKELY(count() == 0)) {  // as after each hand-over of two
			lists_top_ = none;
			top_.store(none, std::memory_order_relaxed);
		} else if (p == lists_top_) {
			find_top(p);
		}
	}
	LWP_NOINLINE void find_top(int above) noexcept {
		lists_top_ = below(above);
		if (next_ == nullptr) {
			top_.store(lists_top_, std::memory_order_relaxed);
		}
	}

	// Unsigned: a division by a power of two is a shift then.
	LWP_ALWAYS_INLINE std::uint64_t &word(int p) noexcept { return bitmap_[static_cast<unsigned>(p) / 64]; }
	static LWP_ALWAYS_INLINE std::uint64_t bit(int p) noexcept { return std::uint64_t{1} << (static_cast<unsigned>(p) % 64); }

	atomic<int> top_{none};        // relaxed, always: written under the lock; whoever looks without it takes it as a hint
	atomic<unsigned> count_{0};    // likewise
	atomic<unsigned> bound_{0};    // to one vCPU
	atomic<unsigned> several_{0};  // to several
	int lists_top_ = none;         // best priority of those in a list
	unsigned line_first_ = 0;      // so many from the line go before the stack
	unsigned stacked_ = 0;         // LWPs on stacks
	unsigned of_line_ = 0;         // so many were in line at the last turn()
	int turned_ = none;            // the best priority in a list then,
	std::uint32_t served_ = 0;     // and how many had left its line to run
	unsigned of_stack_ = 0;        // so many have left the stacks to run since
	bool crowded_ = false;         // the stack had fewer than the line from the turn() before to the last one
	unsigned handed_ = 0;          // LWPs that were handed over to and went first
	lwp_t *next_ = nullptr;        // one of them, which is in no list: nobody queued is better, and its stack is empty
	std::uint64_t bitmap_[(pri_count + 63) / 64]{};
	level level_[pri_count];
};

}  // namespace lwp::kern
