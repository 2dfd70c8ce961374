// SPDX-License-Identifier: BSD-2-Clause
//
// A set of vCPUs, by index: 256 bits.
#pragma once

#include <bit>
#include <cstdint>

namespace lwp::kern {

struct vcpu_mask {
	static constexpr unsigned vm_bits = 256;

	std::uint64_t vm_word[vm_bits / 64] = {};

	[[nodiscard]] constexpr bool test(unsigned i) const noexcept { return i < vm_bits && (vm_word[i / 64] >> (i % 64) & 1) != 0; }
	constexpr void set(unsigned i) noexcept { vm_word[i / 64] |= std::uint64_t{1} << (i % 64); }
	[[nodiscard]] constexpr unsigned count() const noexcept {
		unsigned n = 0;
		for (std::uint64_t w : vm_word) {
			n += static_cast<unsigned>(std::popcount(w));
		}
		return n;
	}
	/// The first one from `i` on, vm_bits if there is none.
	[[nodiscard]] constexpr unsigned next(unsigned i) const noexcept {
		while (i < vm_bits && !test(i)) {
			i++;
		}
		return i;
	}
	friend constexpr bool operator==(const vcpu_mask &, const vcpu_mask &) noexcept = default;
};

}  // namespace lwp::kern
