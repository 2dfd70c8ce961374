// SPDX-License-Identifier: BSD-2-Clause
//
// Runs a sequence of steps on the library and on the model, side by side, in a world of the explorer's (tests/explore/world.h).
#pragma once

#include "model/steps.h"

namespace lwp::model {

/// What the two processes share: one draws sequences, the other runs them.
struct exchange {
	// asked
	unsigned vcpus;
	unsigned nsteps;
	step steps[steps_most];
	bool trace;  // say each step on standard output
	// answered
	bool failed;
	unsigned at;  // of the step after which they differed
	char why[600];
	std::uint64_t done;                                                                             // steps
	std::uint64_t seen[static_cast<std::size_t>(row::count)][static_cast<std::size_t>(op::count)];  // since the beginning
	std::uint64_t results[200];                                                                     // by errno value
};

/// Answers what is asked.  What it changes besides is put back before the next one.
void run_steps(exchange *);

}  // namespace lwp::model
