// SPDX-License-Identifier: BSD-2-Clause
//
// tests/fuzz/fuzz_<name>.cpp has LLVMFuzzerTestOneInput() for one parser.  ./dev fuzz gives it to libFuzzer, beginning from corpus/<name>; every build
// has it in the program and test fuzz_<name>, which tries what is in corpus/<name> and mutations of it by a fixed seed (replay.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace fuzz {

/// What must hold for any input.
inline void require(bool holds) {
	if (!holds) {
		std::abort();
	}
}

}  // namespace fuzz
