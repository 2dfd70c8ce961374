// SPDX-License-Identifier: BSD-2-Clause
//
// The arenas behind ctx/stack.h.  A slot never changes its arena, its size or its guard page; it moves between three lists of its class:
// "fresh" (a bound in the newest arena; a few above it have their guards already), "warm" (memory present, doubly linked, newest first)
// and "cold" (memory given back).
// The links live in an array beside the arena: a link inside the stack would bring a cold page back.
#include "ctx/stack.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/spinlock.h"
#include "base/sys.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#if LWP_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if LWP_VALGRIND
#include <valgrind/memcheck.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

namespace lwp::kern {
namespace {

// A slot's number: arena in the upper bits, index within it in the lower ones.  0 is no slot: there is no arena 0.
using slot_t = std::uint32_t;
constexpr unsigned slot_bits = 20;
constexpr std::size_t slots_most = std::size_t{1} << slot_bits;  // in one arena
constexpr unsigned arenas_most = 1U << (32 - slot_bits);

constexpr std::size_t arena_first = std::size_t{64} << 20;
constexpr std::size_t arena_most = LWP_TSAN ? std::size_t{1} << 30 : std::size_t{64} << 30;  // TSan walks its shadow of a new mapping

constexpr std::size_t warm_bytes = std::size_t{256} << 20;  // of one class, counted as if every warm stack were touched in full
constexpr std::size_t warm_most = 4096;
constexpr std::size_t warm_least = 16;
constexpr std::size_t cool_batch = 64;
constexpr std::size_t advice_most = 32;  // pieces of memory in one system call: they are listed on the caller's stack
constexpr std::size_t in_use_each = 8;   // stacks for each one that is guarded ahead

struct links {
	slot_t next;
	slot_t prev;  // warm list only
};

/// One reservation.  Written when it is made, then only read; the links are covered by the class's lock.
struct arena {
	std::byte *a_base;
	std::size_t a_stride;  // guard page and stack
	std::uint32_t a_slots;
	links *a_links;
};

arena arenas[arenas_most];
atomic<unsigned> arenas_used{1};  // never goes down

/// Free stacks of one size.
struct stack_class {
	spinlock k_lock{lock_rank::leaf, "stack class"};
	slot_t k_warm = 0;       // newest
	slot_t k_warm_last = 0;  // oldest
	std::size_t k_warm_count = 0;
	slot_t k_cold = 0;  // newest first
	std::size_t k_cold_count = 0;
	std::uint32_t k_arena = 0;      // the newest
	std::uint32_t k_fresh = 0;      // its slots from here on were never handed out
	std::uint32_t k_guarded = 0;    // and from here on have no guard
	std::size_t k_arena_bytes = 0;  // how big it became
	std::size_t k_in_use = 0;
};

// Sizes 4 << n, 5 << n, 6 << n and 7 << n times 4 KiB.
constexpr unsigned class_shift = 12;
constexpr unsigned class_count = 4 * 17;

constexpr std::size_t class_size(unsigned k) { return (std::size_t{4} + k % 4) << (k / 4 + class_shift); }

constexpr unsigned class_of(std::size_t size) {
	std::size_t units = (size + (std::size_t{1} << class_shift) - 1) >> class_shift;  // at least 4
	unsigned n = static_cast<unsigned>(std::bit_width(units)) - 3;
	std::size_t step = (units + (std::size_t{1} << n) - 1) >> n;  // 4 to 8
	return n * 4 + static_cast<unsigned>(step) - 4;
}

static_assert(class_size(0) == stack_min && class_of(stack_min) == 0 && class_of(stack_min + 1) == 1);
static_assert(class_size(class_of(stack_default)) == stack_default && class_size(class_of(stack_default + 1)) == stack_default / 4 * 5);
static_assert(class_size(class_of(stack_max)) == stack_max && class_of(stack_max) < class_count);

stack_class classes[class_count];

std::size_t page_size() {
	static const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
	return size;
}

/// The class's stack size on this machine: with pages above 4 KiB some classes coincide, which does no harm.
std::size_t stack_size(unsigned k) { return (class_size(k) + page_size() - 1) & ~(page_size() - 1); }

std::byte *slot_address(slot_t slot) {
	const arena &a = arenas[slot >> slot_bits];
	return a.a_base + (slot & (slots_most - 1)) * a.a_stride;
}

links &slot_links(slot_t slot) { return arenas[slot >> slot_bits].a_links[slot & (slots_most - 1)]; }

// Only hints: a kernel that refuses once is asked no more.
atomic<bool> markable{true};  // MADV_GUARD_INSTALL
atomic<bool> together{true};  // advice on many pieces in one call

/// One piece of advice on many pieces of memory, by one call.  On how many of them, from the first on: none, where the kernel does not do this.
std::size_t advise_many(const iovec *pieces, std::size_t count, int advice) {
	if (!together.load(std::memory_order_relaxed)) {
		return 0;
	}
#if LWP_VALGRIND
	if (RUNNING_ON_VALGRIND != 0) {  // which does not know the call, and would say so
		return 0;
	}
#endif
	const long result = sys::advise(pieces, count, advice);
	if (result < 0) {
		if (result != -ENOMEM && result != -EAGAIN && result != -EINTR) {
			together.store(false, std::memory_order_relaxed);
		}
		return 0;
	}
	std::size_t done = 0;
	for (auto bytes = static_cast<std::size_t>(result); done < count && bytes >= pieces[done].iov_len; done++) {
		bytes -= pieces[done].iov_len;
	}
	return done;
}

int protect_guard(void *page) {
	if (markable.load(std::memory_order_relaxed)) {
		long error = sys::call(SYS_madvise, reinterpret_cast<long>(page), static_cast<long>(page_size()), MADV_GUARD_INSTALL);
		if (error == 0) {
			return 0;
		}
		if (error == -ENOMEM || error == -EAGAIN) {
			return ENOMEM;
		}
		markable.store(false, std::memory_order_relaxed);
	}
	long error = sys::call(SYS_mprotect, reinterpret_cast<long>(page), static_cast<long>(page_size()), PROT_NONE);
	return error == 0 ? 0 : ENOMEM;
}

/// A new reservation for `k`: twice the last one, or as much of it as the system lets us have.
int arena_make(stack_class &k, std::size_t size) {
	std::size_t stride = size + page_size();
	std::size_t want = std::clamp(k.k_arena_bytes * 2, arena_first, arena_most);
	std::size_t slots = std::clamp(want / stride, std::size_t{1}, slots_most);
	std::byte *base = nullptr;
	for (; slots != 0; slots /= 2) {
		base = static_cast<std::byte *>(sys::map(slots * stride, MAP_NORESERVE | MAP_STACK));
		if (base != nullptr) {
			break;
		}
	}
	if (base == nullptr) {
		return ENOMEM;
	}
	void *table = sys::map(slots * sizeof(links), MAP_NORESERVE);
	unsigned number = table == nullptr ? arenas_most : arenas_used.fetch_add(1, std::memory_order_relaxed);
	if (number >= arenas_most) {
		if (table != nullptr) {
			arenas_used.store(arenas_most, std::memory_order_relaxed);
			sys::unmap(table, slots * sizeof(links));
		}
		sys::unmap(base, slots * stride);
		return ENOMEM;
	}
	// A huge page would make the first touch of one stack pay for thirty.
	sys::call(SYS_madvise, reinterpret_cast<long>(base), static_cast<long>(slots * stride), MADV_NOHUGEPAGE);
	arenas[number] = {base, stride, static_cast<std::uint32_t>(slots), static_cast<links *>(table)};
	k.k_arena = number;
	k.k_arena_bytes = slots * stride;
	k.k_fresh = 0;
	k.k_guarded = 0;
	return 0;
}

/// Guards the next slot of the newest arena; and some more with it once there are many stacks, since a crowd that grows will grow on.
int guard_more(stack_class &k) {
	const arena &a = arenas[k.k_arena];
	std::byte *const page = a.a_base + k.k_guarded * a.a_stride;
	const std::size_t many = std::min({k.k_in_use / in_use_each, advice_most, std::size_t{a.a_slots - k.k_guarded}});
	std::size_t done = 0;
	if (many > 1 && markable.load(std::memory_order_relaxed)) {
		iovec pages[advice_most];
		for (std::size_t i = 0; i < many; i++) {
			pages[i] = {page + i * a.a_stride, page_size()};
		}
		done = advise_many(pages, many, MADV_GUARD_INSTALL);
	}
	if (done == 0) {
		if (int error = protect_guard(page); error != 0) {
			return error;
		}
		done = 1;
	}
	k.k_guarded += static_cast<std::uint32_t>(done);
	return 0;
}

/// The next slot of the newest arena, guarded.
int slot_make(stack_class &k, std::size_t size, slot_t &slot) {
	if (k.k_arena == 0 || k.k_fresh == arenas[k.k_arena].a_slots) {
		int error = arena_make(k, size);
		if (error != 0) {
			return error;
		}
	}
	if (k.k_fresh == k.k_guarded) {
		int error = guard_more(k);
		if (error != 0) {
			return error;
		}
	}
	slot = (k.k_arena << slot_bits) | k.k_fresh++;
	return 0;
}

slot_t warm_pop(stack_class &k) {
	slot_t slot = k.k_warm;
	k.k_warm = slot_links(slot).next;
	(k.k_warm == 0 ? k.k_warm_last : slot_links(k.k_warm).prev) = 0;
	k.k_warm_count--;
	return slot;
}

void warm_push(stack_class &k, slot_t slot) {
	slot_links(slot) = {k.k_warm, 0};
	(k.k_warm == 0 ? k.k_warm_last : slot_links(k.k_warm).prev) = slot;
	k.k_warm = slot;
	k.k_warm_count++;
}

slot_t warm_pop_last(stack_class &k) {
	slot_t slot = k.k_warm_last;
	k.k_warm_last = slot_links(slot).prev;
	(k.k_warm_last == 0 ? k.k_warm : slot_links(k.k_warm_last).next) = 0;
	k.k_warm_count--;
	return slot;
}

slot_t cold_pop(stack_class &k) {
	slot_t slot = k.k_cold;
	k.k_cold = slot_links(slot).next;
	k.k_cold_count--;
	return slot;
}

void cold_push(stack_class &k, slot_t slot) {
	slot_links(slot).next = k.k_cold;
	k.k_cold = slot;
	k.k_cold_count++;
}

void give_back(const iovec *pieces, std::size_t count) {
	for (std::size_t i = count > 1 ? advise_many(pieces, count, MADV_DONTNEED) : 0; i < count; i++) {
		sys::call(SYS_madvise, reinterpret_cast<long>(pieces[i].iov_base), static_cast<long>(pieces[i].iov_len), MADV_DONTNEED);
	}
}

/// Gives the memory of the oldest warm stacks back.  They are on no list meanwhile; guard pages survive.
void cool(stack_class &k, std::size_t size) {
	slot_t batch[cool_batch];
	{
		std::lock_guard hold(k.k_lock);
		if (k.k_warm_count < cool_batch) {
			return;
		}
		for (slot_t &slot : batch) {
			slot = warm_pop_last(k);
		}
	}
	std::sort(batch, batch + cool_batch);
	iovec pieces[advice_most];
	std::size_t count = 0;
	for (std::size_t i = 0; i < cool_batch;) {
		std::size_t first = i;
		while (++i < cool_batch && batch[i] == batch[i - 1] + 1) {
		}
		// Neighbours are one piece.
		std::byte *from = slot_address(batch[first]);
		std::byte *to = slot_address(batch[i - 1]) + page_size() + size;
		pieces[count++] = {from, static_cast<std::size_t>(to - from)};
		if (count == advice_most || i == cool_batch) {
			give_back(pieces, count);
			count = 0;
		}
	}
	std::lock_guard hold(k.k_lock);
	for (std::size_t i = cool_batch; i-- != 0;) {
		cold_push(k, batch[i]);
	}
}

}  // namespace

int stack_alloc(stack &s, std::size_t size) {
	if (size < stack_min || size > stack_max) {
		return EINVAL;
	}
	unsigned number = class_of(size);
	stack_class &k = classes[number];
	std::size_t usable = stack_size(number);
	slot_t slot = 0;
	{
		std::lock_guard hold(k.k_lock);
		if (k.k_warm != 0) {
			slot = warm_pop(k);
		} else if (k.k_cold != 0) {
			slot = cold_pop(k);
		} else if (int error = slot_make(k, usable, slot); error != 0) {
			return error;
		}
		k.k_in_use++;
	}
	s.s_base = slot_address(slot) + page_size();
	s.s_size = static_cast<std::uint32_t>(usable);
	s.s_slot = slot;
	s.s_colour = static_cast<std::uint16_t>(slot % stack_colours * stack_colour_step);
	s.s_class = static_cast<std::uint8_t>(number);
	s.s_foreign = false;
#if LWP_ASAN
	__asan_unpoison_memory_region(s.s_base, s.s_size);
#endif
#if LWP_VALGRIND
	VALGRIND_MAKE_MEM_UNDEFINED(s.s_base, s.s_size);
#endif
	return 0;
}

void stack_free(stack &s) {
	if (s.s_slot != 0) {
		stack_class &k = classes[s.s_class];
		std::size_t size = stack_size(s.s_class);
		bool many;
		{
			std::lock_guard hold(k.k_lock);
			warm_push(k, s.s_slot);
			k.k_in_use--;
			many = k.k_warm_count >= std::clamp(warm_bytes / size, warm_least, warm_most) + cool_batch;
		}
		if (many) {
			cool(k, size);
		}
	}
#if LWP_ASAN
	if (s.s_foreign) {
		__asan_unpoison_memory_region(s.s_base, s.s_size);  // frames that were abandoned on it: the memory is its owner's again
	}
#endif
	s = stack();
}

void stack_foreign(stack &s, void *base, std::size_t size) {
	constexpr std::uintptr_t mask = 15;
	std::uintptr_t low = (reinterpret_cast<std::uintptr_t>(base) + mask) & ~mask;
	std::uintptr_t high = (reinterpret_cast<std::uintptr_t>(base) + size) & ~mask;
	s = stack();
	s.s_base = reinterpret_cast<std::byte *>(low);
	s.s_size = static_cast<std::uint32_t>(std::min(high > low ? high - low : 0, stack_max));
	s.s_foreign = true;
}

stack_stats stack_statistics() {
	stack_stats sum{};
	for (stack_class &k : classes) {
		std::lock_guard hold(k.k_lock);
		sum.in_use += k.k_in_use;
		sum.cached += k.k_warm_count + k.k_cold_count;
	}
	return sum;
}

}  // namespace lwp::kern
