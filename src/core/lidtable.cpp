// SPDX-License-Identifier: BSD-2-Clause
#include "core/lidtable.h"

#include <cerrno>
#include <sys/mman.h>

namespace lwp::kern {

// A new segment is pages of zeros as the kernel gives them, so adding one costs the same at any size, and the pages that no bucket of
// the round has reached yet are not there.  This holds where zeros are null pointers and an atomic is no more than its value.
static_assert(sizeof(atomic<lid_node *>) == sizeof(lid_node *) && atomic<lid_node *>::is_always_lock_free);

lidtable::~lidtable() {
	for (std::uint32_t s = 1; s < segments; s++) {
		if (bucket_t *segment = segment_[s].load(std::memory_order_relaxed); segment != nullptr) {  // relaxed: nobody else is here
			(void)::munmap(segment, segment_size(s) * sizeof(bucket_t));
		}
	}
}

// In this file "relaxed" without a reason means: of a field that only holders of the table's lock write, and we are one.

int lidtable::insert(lid_node *node) noexcept {
	const int lid = node->ln_lid.load(std::memory_order_relaxed);
	LWP_ASSERT(lid > 0);
	LWP_ASSERT(find_locked(lid) == nullptr);
	const std::size_t entries = size_.load(std::memory_order_relaxed);
	if (entries >= buckets(layout_.load(std::memory_order_relaxed))) {
		if (int error = grow(); error != 0) {
			return error;
		}
		split();
	}
	link(node, bucket(bucket_index(lid, layout_.load(std::memory_order_relaxed))));
	size_.store(entries + 1, std::memory_order_relaxed);  // relaxed: only a number
	return 0;
}

void lidtable::erase(lid_node *node) noexcept {
	const int lid = node->ln_lid.load(std::memory_order_relaxed);
	unlink(node, bucket(bucket_index(lid, layout_.load(std::memory_order_relaxed))));
	size_.store(size_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: only a number
}

lid_node *lidtable::find_locked(int lid) const noexcept {
	lid_node *n = bucket(bucket_index(lid, layout_.load(std::memory_order_relaxed)))->load(std::memory_order_relaxed);
	while (n != nullptr && n->ln_lid.load(std::memory_order_relaxed) != lid) {
		n = n->ln_next.load(std::memory_order_relaxed);
	}
	return n;
}

/// Makes sure that the next bucket has memory.  Returns 0 | ENOMEM, nothing changed
int lidtable::grow() noexcept {
	const std::uint32_t s = segment_of(buckets(layout_.load(std::memory_order_relaxed)));
	if (segment_[s].load(std::memory_order_relaxed) != nullptr) {
		return 0;
	}
	const int saved_errno = errno;  // belongs to the LWP that happens to run here
	void *memory = ::mmap(nullptr, segment_size(s) * sizeof(bucket_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	errno = saved_errno;
	if (memory == MAP_FAILED) {
		return ENOMEM;
	}
	segment_[s].store(static_cast<bucket_t *>(memory), std::memory_order_relaxed);  // relaxed: published by layout_, in split()
	return 0;
}

/// Adds one bucket, and moves to it what is no longer where it belongs: entries of the one bucket that it is split off from.
void lidtable::split() noexcept {
	const std::uint64_t old = layout_.load(std::memory_order_relaxed);
	const std::uint32_t fresh = buckets(old);
	const std::uint32_t m = fresh > mask(old) ? mask(old) * 2 + 1 : mask(old);  // all of the lower half is split: the next round begins
	const std::uint64_t now = layout(fresh + 1, m);
	bucket_t *from = bucket(fresh & m >> 1);
	for (lid_node *n = from->load(std::memory_order_relaxed), *next; n != nullptr; n = next) {
		next = n->ln_next.load(std::memory_order_relaxed);
		if (bucket_index(n->ln_lid.load(std::memory_order_relaxed), now) == fresh) {
			// A reader that stands on n goes on in the new chain and misses what follows in the old one: its caller asks again.
			unlink(n, from);
			link(n, bucket(fresh));
		}
	}
	layout_.store(now, std::memory_order_release);  // pairs with the acquire in find(): the new bucket has memory
}

void lidtable::link(lid_node *node, bucket_t *b) noexcept {
	// release, twice: pairs with the acquires in find().  The first is for a reader who stands on a node that was recycled.
	node->ln_next.store(b->load(std::memory_order_relaxed), std::memory_order_release);
	b->store(node, std::memory_order_release);
}

void lidtable::unlink(lid_node *node, bucket_t *b) noexcept {
	bucket_t *at = b;
	for (lid_node *n; (n = at->load(std::memory_order_relaxed)) != node; at = &n->ln_next) {
		LWP_CHECK(n != nullptr, "lidtable: erase of an LWP that is not in the table");
	}
	// release: pairs with the acquires in find(), which now reach the successor through this word.  The node keeps its ln_next.
	at->store(node->ln_next.load(std::memory_order_relaxed), std::memory_order_release);
}

}  // namespace lwp::kern
