// SPDX-License-Identifier: BSD-2-Clause
//
// Cases that may end their process, or print what is to be looked at: each is run in a process of its own, the test program itself started as
//     program --case <name>
// whose main(), in support.cpp, then calls it and returns.
#pragma once

#include <cstddef>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace lwp::test {

struct outcome {
	int status;        // as waitpid() tells it
	std::string text;  // what it wrote to standard error
	[[nodiscard]] bool ended_well() const;
	[[nodiscard]] bool aborted() const;
	/// How often `part`, which is not empty, stands in the text.
	[[nodiscard]] std::size_t count(const std::string &part) const;
};

/// A case that was begun.
struct running_case {
	pid_t pid;
	int says;  // its standard error
};

/// Begins a case, with these variables in its environment.
[[nodiscard]] running_case begin_case(const char *name, const std::vector<std::pair<const char *, const char *>> &environment);
/// Waits for its end.  One that says nothing and does not end is killed after a minute.
outcome end_case(const running_case &);

/// Both.
outcome run_case(const char *name, const std::vector<std::pair<const char *, const char *>> &environment);

/// Says what runs a case, and returns whether there is such a case: `const bool cases = offer_cases(run);` at namespace scope.
bool offer_cases(bool (*run)(const char *name));

/// If the process is to run a case: does so, and *status is what it is to end with.
bool ran_case(int argc, char **argv, int *status);

}  // namespace lwp::test
