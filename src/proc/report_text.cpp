// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report_text.h"

#include "base/sys.h"
#include "proc/report_names.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>

namespace lwp::kern {
namespace {

/// What the library does below its public calls tells a reader nothing about the program.
bool is_inside(const std::string &name) noexcept {
	return name.rfind("lwp::kern::", 0) == 0 || name.rfind("lwp::(anonymous namespace)::", 0) == 0;
}

}  // namespace

void report_add(std::string &out, const char *format, ...) {
	char line[512];
	va_list args;
	va_start(args, format);
	::vsnprintf(line, sizeof line, format, args);
	va_end(args);
	out += line;
}

void report_add_frames(std::string &out, report_names &names, void *const *frames, std::size_t count, const char *indent) {
	const auto add = [&](bool all) {
		bool any = false;
		for (std::size_t i = 0; i < count; i++) {
			const std::string &name = names.at(frames[i]);
			if (all || !is_inside(name)) {
				out.append(indent).append(name).append(1, '\n');
				any = true;
			}
		}
		return any;
	};
	if (!add(false)) {
		(void)add(true);
	}
}

void report_write(const std::string &text) noexcept {
	for (std::size_t at = 0; at < text.size();) {
		const long n = sys::write(2, text.data() + at, text.size() - at);
		if (n <= 0 && n != -EINTR) {
			break;
		}
		at += n > 0 ? static_cast<std::size_t>(n) : 0;
	}
}

}  // namespace lwp::kern
