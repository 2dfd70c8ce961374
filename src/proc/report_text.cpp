// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report_text.h"

#include "base/sys.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>

namespace lwp::kern {
namespace {

std::string function_at(void *address) {
	Dl_info info{};
	if (::dladdr(address, &info) == 0 || info.dli_fname == nullptr) {
		return "?";
	}
	std::string out;
	if (info.dli_sname != nullptr) {
		int status = -1;
		char *plain = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
		out = status == 0 ? plain : info.dli_sname;
		std::free(plain);
		out += ' ';
	}
	const char *slash = std::strrchr(info.dli_fname, '/');
	report_add(out, "(%s+0x%zx)", slash != nullptr ? slash + 1 : info.dli_fname,
	    static_cast<std::size_t>(static_cast<char *>(address) - static_cast<char *>(info.dli_fbase)));
	return out;
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

void report_add_frames(std::string &out, void *const *frames, std::size_t count, const char *indent) {
	for (std::size_t i = 0; i < count; i++) {
		report_add(out, "%s%s\n", indent, function_at(frames[i]).c_str());
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
