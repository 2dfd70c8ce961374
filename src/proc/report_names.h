// SPDX-License-Identifier: BSD-2-Clause
//
// The functions of return addresses, by name: those that a file exports, and those that only its symbol table knows (static ones, and all of a
// program that was not linked with -rdynamic).  Files are opened while a report is made, and each address is looked up once.
//
// Takes nothing but what malloc and dladdr(3) take.  One for each report, used by who makes it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace lwp::kern {

class symbol_file;

class report_names {
public:
	report_names();
	~report_names();
	report_names(const report_names &) = delete;
	report_names &operator=(const report_names &) = delete;

	/// "function (file+0xoffset)", without the arguments' values: what is known of the call before `address`.  Throws std::bad_alloc.
	const std::string &at(void *address);

private:
	const symbol_file &file_of(const char *path, void *base);
	std::unordered_map<void *, std::string> known_;
	std::vector<std::unique_ptr<symbol_file>> files_;
};

}  // namespace lwp::kern
