// SPDX-License-Identifier: BSD-2-Clause
//
// The id table: finds the LWP that has a given id.  Linear hashing: one more bucket for each entry above the number of buckets, so no
// insert ever pays for a rehash, from the first LWP to the millionth.  Eight bytes an entry besides the hook in the LWP.
//
// A table may hold ids at a stride of 2^n only, as each part of a proc does; told so by set_stride(), it hashes what is above.
//
// insert, erase, find_locked and for_each need the lock that covers the table (pp_lock); the caller takes it, nothing is taken here.
// find() needs no lock and may be called in any context.  It promises that it ends and that what it returns is, or was, an entry
// with that id; it may miss an entry that another kernel thread is moving just now.  So a hit is checked under the LWP's own lock, and
// a miss is repeated as find_locked().  It rests on one rule: nodes are type-stable, that is, their memory stays a lid_node for the
// table's life, also while they are in no table.
#pragma once

#include "base/assert.h"
#include "base/atomic.h"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace lwp::kern {

/// The hook; p: written with the lock that covers the table, read without it.  A base of what the table holds.
struct lid_node {
	atomic<lid_node *> ln_next{nullptr};  // p: next in the bucket's chain; left as it is by erase, for readers standing here
	atomic<int> ln_lid{0};                // p: the id, set before insert; read without lock by find()
};

class lidtable {
	// "relaxed" without a reason means: of a field that only holders of the table's lock write, and we are one.
public:
	lidtable() noexcept = default;
	~lidtable();
	lidtable(const lidtable &) = delete;
	lidtable &operator=(const lidtable &) = delete;

	/// Enters a node by its ln_lid, which is positive and in the table only once.  Returns 0 | ENOMEM, the table is unchanged
	[[nodiscard]] LWP_ALWAYS_INLINE int insert(lid_node *node) noexcept {
		const int lid = node->ln_lid.load(std::memory_order_relaxed);
		LWP_ASSERT(lid > 0);
		LWP_ASSERT(find_locked(lid) == nullptr);
		const std::size_t entries = size_.load(std::memory_order_relaxed);
		if (LWP_UNLIKELY(entries >= buckets(layout_.load(std::memory_order_relaxed)))) {
			if (int error = grow_and_split(); error != 0) {
				return error;
			}
		}
		link(node, bucket(index_of(lid, layout_.load(std::memory_order_relaxed))));
		size_.store(entries + 1, std::memory_order_relaxed);  // relaxed: only a number
		return 0;
	}

	/// From now on most ids are 2^bits apart: those get neighbouring buckets.  Others may be in the table too.  Costs a look at every entry.
	void set_stride(unsigned bits) noexcept;

	/// Takes out a node that is in the table.
	LWP_ALWAYS_INLINE void erase(lid_node *node) noexcept {
		const int lid = node->ln_lid.load(std::memory_order_relaxed);
		unlink(node, bucket(index_of(lid, layout_.load(std::memory_order_relaxed))));
		size_.store(size_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: only a number
	}

	/// Without the lock: an entry that has this id or had it a moment ago; null is only a hint.
	[[nodiscard]] LWP_ALWAYS_INLINE lid_node *find(int lid) const noexcept {
		// acquire: pairs with the release in split() and makes the segments of these buckets visible
		const bucket_t *b = bucket(index_of(lid, layout_.load(std::memory_order_acquire)));
		// acquire, here and below: pairs with the release in link(): who sees the node sees what was in it when it was inserted
		lid_node *n = b->load(std::memory_order_acquire);
		for (unsigned steps = 0; n != nullptr && steps < walk_max; steps++) {
			if (LWP_LIKELY(n->ln_lid.load(std::memory_order_relaxed) == lid)) {  // relaxed: whoever trusts the hit takes a lock first
				return n;
			}
			n = n->ln_next.load(std::memory_order_acquire);
		}
		return nullptr;
	}

	/// With the lock: the entry that has this id, or null if there is none.
	[[nodiscard]] LWP_ALWAYS_INLINE lid_node *find_locked(int lid) const noexcept {
		lid_node *n = bucket(index_of(lid, layout_.load(std::memory_order_relaxed)))->load(std::memory_order_relaxed);  // relaxed: locked
		while (n != nullptr && n->ln_lid.load(std::memory_order_relaxed) != lid) {
			n = n->ln_next.load(std::memory_order_relaxed);
		}
		return n;
	}

	/// Entries; without the lock, how many there were a moment ago.
	[[nodiscard]] std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }  // relaxed: a number, no more

	/// With the lock: whether it has held more than a few hundred at once; a walk over it takes as long as the most that there have been.
	[[nodiscard]] bool grown() const noexcept {
		return buckets(layout_.load(std::memory_order_relaxed)) > first_buckets;  // relaxed: we hold the lock
	}

	/// With the lock: calls fn(lid_node *) for every entry, in no order.  fn may erase the node it is given.
	template <class Fn>
	void for_each(Fn fn) const {
		for (std::uint32_t i = 0, n = buckets(layout_.load(std::memory_order_relaxed)); i < n; i++) {  // relaxed: we hold the lock
			for (lid_node *node = bucket(i)->load(std::memory_order_relaxed), *next; node != nullptr; node = next) {
				next = node->ln_next.load(std::memory_order_relaxed);
				fn(node);
			}
		}
	}

	/// The same for `most` buckets from `from` on, which moves on.  False: the last ones.  The table may change between two calls; what is in it all the
	/// time is met at least once.
	template <class Fn>
	bool for_some(std::uint32_t &from, std::uint32_t most, Fn fn) const {
		const std::uint32_t n = buckets(layout_.load(std::memory_order_relaxed));  // relaxed, here and below: we hold the lock
		for (; most != 0 && from < n; from++, most--) {
			for (lid_node *node = bucket(from)->load(std::memory_order_relaxed); node != nullptr;
			     node = node->ln_next.load(std::memory_order_relaxed)) {
				fn(node);
			}
		}
		return from < n;
	}

private:
	friend struct lidtable_layout;  // proc/debugger.cpp

	// Segment 0 is part of the table; segment s > 0 holds as many buckets as all before it together.  23 of them hold every id.
	using bucket_t = atomic<lid_node *>;
	static constexpr std::uint32_t first_bits = 9;
	static constexpr std::uint32_t first_buckets = 1U << first_bits;
	static constexpr std::uint32_t segments = 32 - first_bits;
	// Longer than any chain that a find() without bad luck walks; only a reader led from chain to chain by recycled nodes gets there.
	static constexpr unsigned walk_max = 64;

	// How many buckets there are, and the mask that numbers one round of splits (2^k - 1, at least the number of buckets - 1), in one
	// word so that a reader never mixes two moments.
	static constexpr std::uint64_t layout(std::uint32_t buckets, std::uint32_t mask) noexcept {
		return std::uint64_t{mask} << 32 | buckets;
	}
	static constexpr std::uint32_t buckets(std::uint64_t layout) noexcept { return static_cast<std::uint32_t>(layout); }
	static constexpr std::uint32_t mask(std::uint64_t layout) noexcept { return static_cast<std::uint32_t>(layout >> 32); }

	/// Neighbouring ids get neighbouring buckets, one each.  The shifts bring the high bits down for programs whose long-lived LWPs
	/// come at a stride of 2^n: of all triples, this one keeps the worst such chain shortest (4; without it, the whole table).
	static constexpr std::uint32_t spread(std::uint32_t id) noexcept { return id ^ id >> 9 ^ id >> 13 ^ id >> 20; }
	static constexpr std::uint32_t bucket_index(std::uint32_t id, std::uint64_t layout) noexcept {
		std::uint32_t i = spread(id) & mask(layout);
		std::uint32_t unsplit = i & mask(layout) >> 1;
		return i < buckets(layout) ? i : unsplit;  // not split off yet in this round: still in the lower half
	}
	/// relaxed: a reader that meets set_stride() at work misses, which is a hint as ever
	LWP_ALWAYS_INLINE std::uint32_t index_of(int lid, std::uint64_t layout) const noexcept {
		return bucket_index(static_cast<std::uint32_t>(lid) >> stride_.load(std::memory_order_relaxed), layout);
	}
	static constexpr std::uint32_t segment_of(std::uint32_t i) noexcept {
		return static_cast<std::uint32_t>(std::bit_width(i | (first_buckets - 1))) - first_bits;  // no case for i = 0
	}
	static constexpr std::size_t segment_size(std::uint32_t s) noexcept { return std::size_t{first_buckets} << (s == 0 ? 0 : s - 1); }
	LWP_ALWAYS_INLINE bucket_t *bucket(std::uint32_t i) const noexcept {
		if (LWP_LIKELY(i < first_buckets)) {
			return const_cast<bucket_t *>(first_ + i);
		}
		std::uint32_t s = segment_of(i);
		// A segment s > 0 begins at bucket first_buckets << (s - 1), its own size.
		std::uint32_t offset = i - ((first_buckets << s) >> 1 & ~(first_buckets - 1));
		return segment_[s].load(std::memory_order_relaxed) + offset;  // relaxed: ordered by layout_
	}

	[[nodiscard]] int grow() noexcept;
	[[nodiscard]] int grow_and_split() noexcept;
	void split() noexcept;

	static void link(lid_node *node, bucket_t *b) noexcept {
		// release, twice: pairs with the acquires in find().  The first is for a reader who stands on a node that was recycled.
		node->ln_next.store(b->load(std::memory_order_relaxed), std::memory_order_release);
		b->store(node, std::memory_order_release);
	}
	static void unlink(lid_node *node, bucket_t *b) noexcept {
		bucket_t *at = b;
		for (lid_node *n; LWP_UNLIKELY((n = at->load(std::memory_order_relaxed)) != node); at = &n->ln_next) {
			LWP_CHECK(n != nullptr, "lidtable: erase of an LWP that is not in the table");
		}
		// release: pairs with the acquires in find(), which now reach the successor through this word.  The node keeps its ln_next.
		at->store(node->ln_next.load(std::memory_order_relaxed), std::memory_order_release);
	}

	atomic<std::uint64_t> layout_{layout(first_buckets, first_buckets - 1)};  // p, read without lock
	atomic<unsigned> stride_{0};                                              // p, read without lock: log2
	atomic<std::size_t> size_{0};                                             // p, read without lock
	atomic<bucket_t *> segment_[segments] = {first_};                         // p, read without lock; set once
	bucket_t first_[first_buckets] = {};                                      // p, read without lock
};

}  // namespace lwp::kern
