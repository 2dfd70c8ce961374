// SPDX-License-Identifier: BSD-2-Clause
//
// How reports are written: lines, return addresses as functions, and the way to standard error.
#pragma once

#include <cstddef>
#include <string>

namespace lwp::kern {

class report_names;

/// printf's format.  Throws std::bad_alloc, as the next two.
__attribute__((format(printf, 2, 3))) void report_add(std::string &out, const char *format, ...);

/// Return addresses, one a line, as functions; without those of the library that are not public, unless there are no others.
void report_add_frames(std::string &out, report_names &names, void *const *frames, std::size_t count, const char *indent);

/// On standard error in one piece, without stdio: the LWPs that are stuck may hold its locks.
void report_write(const std::string &text) noexcept;

}  // namespace lwp::kern
