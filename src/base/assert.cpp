// SPDX-License-Identifier: BSD-2-Clause
#include "base/assert.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace lwp::kern {

void fatal(const char *format, ...) {
	char line[512];
	int n = std::snprintf(line, sizeof(line), "lwp: ");
	va_list args;
	va_start(args, format);
	n += std::vsnprintf(line + n, sizeof(line) - static_cast<std::size_t>(n) - 1, format, args);
	va_end(args);
	if (n > static_cast<int>(sizeof(line)) - 2) {
		n = static_cast<int>(sizeof(line)) - 2;
	}
	line[n] = '\n';
	// One write, so that the lines of two kernel threads do not mix.
	[[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line, static_cast<std::size_t>(n) + 1);
	std::abort();
}

}  // namespace lwp::kern
