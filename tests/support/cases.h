// SPDX-License-Identifier: BSD-2-Clause
//
// Cases that may end their process, or print what is to be looked at: each is run in a process of its own, the test program itself started as
//     program --case <name>
// whose main() then calls it and returns.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lwp::test {

struct outcome {
	int status;        // as waitpid() tells it
	std::string text;  // what it wrote to standard error
	[[nodiscard]] bool ended_well() const;
	[[nodiscard]] bool aborted() const;
	/// How often `part` stands in the text.
	[[nodiscard]] std::size_t count(const std::string &part) const;
};

/// Runs a case, with these variables in its environment.  One that says nothing and does not end is killed after a minute.
outcome run_case(const char *name, const std::vector<std::pair<const char *, const char *>> &environment);

/// The name of the case that a process is to run, or null: it is to run the tests.
const char *case_wanted(int argc, char **argv);

}  // namespace lwp::test
