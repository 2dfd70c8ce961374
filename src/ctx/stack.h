// SPDX-License-Identifier: BSD-2-Clause
//
// Stacks: big reservations of address space, cut into slots of one size class each, every slot a guard page with a stack above it.
//
// Promises: a stack handed out is always guarded, or not handed out.  Guard pages cost no mapping where the kernel can mark them in the
// page table (Linux 6.13), so a million stacks fit the default vm.max_map_count; below that each costs two mappings, and stack_alloc()
// says ENOMEM at the limit.  A stack costs the pages that were touched, and 8 bytes.  Reservations are never given back, the
// memory in them is: of the free stacks of a class only the newest stay warm.
//
// Takes one leaf lock per size class, never across a system call, except while a new slot or reservation is made.  Never throws.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef LWP_VALGRIND
#define LWP_VALGRIND 0  // tell Valgrind's memcheck about stacks: where they are, and that a new one's contents are anything
#endif

namespace lwp::kern {

/// A stack, by value: whoever holds it owns it.
struct stack {
	std::byte *s_base = nullptr;  // lowest usable byte; the guard page is below
	std::uint32_t s_size = 0;     // usable bytes
	std::uint32_t s_slot = 0;     // its number in ctx/stack.cpp's books; 0: none
	std::uint16_t s_colour = 0;   // bytes to leave at the top, a multiple of 64
	std::uint8_t s_class = 0;     // its size class
	bool s_foreign = false;       // caller's memory: no guard, not ours to free
};
static_assert(sizeof(stack) <= 24);

constexpr std::size_t stack_min = 16384;
constexpr std::size_t stack_default = 65536;
constexpr std::size_t stack_max = std::size_t{1} << 30;

/// Stacks of one class start at the same offset of a page, so their hottest lines would share a handful of cache sets.  Tops are
/// staggered by a cache line each, over less than a page's first quarter: a parked LWP still touches one page only.
constexpr std::size_t stack_colours = 16;
constexpr std::size_t stack_colour_step = 64;

/// Where the stack may be used from, downwards; aligned to 64 bytes if the memory is (a foreign stack's: to 16).
inline std::byte *stack_top(const stack &s) { return s.s_base + s.s_size - s.s_colour; }

/// A guarded stack of at least `size` bytes (rounded up to its class: four classes in each doubling), the last one freed first.
/// Its contents are anything.
/// Returns 0 | EINVAL `size` is below stack_min or above stack_max | ENOMEM no memory, or no room for another guard page.
[[nodiscard]] int stack_alloc(stack &s, std::size_t size);

/// Gives it back, and empties `s`.  Nobody runs on it any more.  A foreign or empty stack is only forgotten.
void stack_free(stack &s);

/// The caller's own memory: no guard, no colour.  Uses what lies between the 16-byte boundaries inside it, at most stack_max bytes.
void stack_foreign(stack &s, void *base, std::size_t size);

struct stack_stats {
	std::size_t in_use;  // handed out
	std::size_t cached;  // guarded and free, warm or cold
};
stack_stats stack_statistics();

}  // namespace lwp::kern
