// SPDX-License-Identifier: BSD-2-Clause
#include "core/lidtable.h"

#include "base/sys.h"

#include <cerrno>

namespace lwp::kern {

// A new segment is pages of zeros as the kernel gives them, so adding one costs the same at any size, and the pages that no bucket of
// the round has reached yet are not there.  This holds where zeros are null pointers and an atomic is no more than its value.
static_assert(sizeof(atomic<lid_node *>) == sizeof(lid_node *) && atomic<lid_node *>::is_always_lock_free);

lidtable::~lidtable() {
	for (std::uint32_t s = 1; s < segments; s++) {
		if (bucket_t *segment = segment_[s].load(std::memory_order_relaxed); segment != nullptr) {  // relaxed: nobody else is here
			sys::unmap(segment, segment_size(s) * sizeof(bucket_t));
		}
	}
}

// In this file "relaxed" without a reason means: of a field that only holders of the table's lock write, and we are one.

void lidtable::set_stride(unsigned bits) noexcept {
	stride_.store(bits, std::memory_order_relaxed);
	const std::uint64_t layout = layout_.load(std::memory_order_relaxed);
	for (std::uint32_t i = 0; i < buckets(layout); i++) {
		bucket_t *from = bucket(i);
		for (lid_node *n = from->load(std::memory_order_relaxed), *next; n != nullptr; n = next) {
			next = n->ln_next.load(std::memory_order_relaxed);
			const std::uint32_t to = index_of(n->ln_lid.load(std::memory_order_relaxed), layout);
			if (to != i) {  // one that moves ahead is met again, where it belongs
				unlink(n, from);
				link(n, bucket(to));
			}
		}
	}
}

/// Makes sure that the next bucket has memory.  Returns 0 | ENOMEM, nothing changed
int lidtable::grow() noexcept {
	const std::uint32_t s = segment_of(buckets(layout_.load(std::memory_order_relaxed)));
	if (segment_[s].load(std::memory_order_relaxed) != nullptr) {
		return 0;
	}
	void *memory = sys::map(segment_size(s) * sizeof(bucket_t));
	if (memory == nullptr) {
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
		if (index_of(n->ln_lid.load(std::memory_order_relaxed), now) == fresh) {
			// A reader that stands on n goes on in the new chain and misses what follows in the old one: its caller asks again.
			unlink(n, from);
			link(n, bucket(fresh));
		}
	}
	layout_.store(now, std::memory_order_release);  // pairs with the acquire in find(): the new bucket has memory
}

int lidtable::grow_and_split() noexcept {
	if (int error = grow(); error != 0) {
		return error;
	}
	split();
	return 0;
}

}  // namespace lwp::kern
