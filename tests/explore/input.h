// SPDX-License-Identifier: BSD-2-Clause
//
// Bytes as a schedule of a scenario: what a fuzzer changes here and there (tests/fuzz/fuzz_schedules.cpp).  Any bytes are one, and most changes of a few make another
// that begins in the same way:
//
//   3 bytes   which scenario: the one whose number (a hash of its name) is the next from here on, so that others which come or go change little
//   1 byte    bit 0: with delayed stores, if the scenario is for these
//   2 bytes   and so on: after how many points, and who then goes on
#pragma once

#include "explore/world.h"

#include <cstddef>
#include <cstdint>

namespace lwp::explore {

constexpr std::size_t input_most = 4096;

struct input {
	const scenario *what;
	schedule plan;  // forced
};

input decode(const std::uint8_t *data, std::size_t size);

/// Runs what comes as messages of `socket`, counts in the shared memory `memory` what was seen (engine.h), and answers each with a byte: 0 it passes | 1 it fails, and
/// `report` has said so.  Ends with the socket.
int serve(int socket, int memory, void (*report)(const scenario &, const schedule &));

}  // namespace lwp::explore
