// SPDX-License-Identifier: BSD-2-Clause
//
// What a debugger needs to find LWPs in a process, or in what is left of one: tools/gdb and tools/ps read it, in builds without debug information too.
#pragma once

#include <lwp/lwp.h>

#include <array>
#include <cstdint>

namespace lwp::kern {

struct procpart;

/// Where a field is, how large something is, or a number, by name.
struct debug_word {
	char dw_name[24];
	std::uint64_t dw_value;
};

/// A reader that does not know symbols finds debug_info by its first bytes.
inline constexpr std::array<unsigned char, 16> debug_magic = {
    'l', 'w', 'p', ' ', 'd', 'e', 'b', 'u', 'g', ' ', 'i', 'n', 0x1f, 0x8f, 0xe7, 0xd5};
inline constexpr std::uint32_t debug_version = 1;

struct debug_info {
	std::array<unsigned char, 16> di_magic;
	std::uint32_t di_version;   // of what stands here: changes when a reader must change
	std::uint32_t di_words;     // how many,
	const debug_word *di_word;  // and these are they
	procpart *const *di_parts;  // where the address of the first part of the proc stands: they are side by side,
	const void *di_nparts;      // and so many as this 32-bit number says
};

}  // namespace lwp::kern

/// The only name that a reader must know.
extern "C" LWP_API const lwp::kern::debug_info lwp_debug_info;
