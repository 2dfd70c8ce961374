// SPDX-License-Identifier: BSD-2-Clause
//
// examples/servers/http.hpp: whatever comes, in whatever pieces, the same requests are taken from it; paths do not lead out of the root.
// The first byte says where the input is cut.
#include "fuzz.h"

#include "servers/http.hpp"

namespace {

constexpr http::limits limits{65536, 65536};  // more than the inputs have: what is too long may depend on the pieces

std::string requests(std::string_view text, std::size_t cut) {
	std::string out;
	http::reader reader(limits);
	for (std::string_view in : {text.substr(0, cut), text.substr(cut)}) {
		for (;;) {
			const std::size_t before = in.size();
			const http::outcome what = reader.take(in);
			fuzz::require(in.size() <= before);
			if (what == http::outcome::error) {
				fuzz::require(*http::reason(reader.status()) != '\0');
				return out + '!';  // of two things that are wrong it depends on the pieces which is seen first
			}
			if (what == http::outcome::incomplete) {
				fuzz::require(in.empty());
				break;
			}
			const std::string path = http::path_of(reader.target());
			fuzz::require(path.empty() || (path.front() == '/' && (path + '/').find("/../") == path.npos && path.find('\0') == path.npos));
			out += path + (reader.get() ? " get" : "") + (reader.head() ? " head" : "") + (reader.keep_alive() ? " keep" : "") + ' ' +
			    reader.if_modified_since() + ';';
		}
	}
	return out + (reader.begun() ? "..." : "");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	if (size == 0 || size > 32768) {
		return 0;
	}
	const std::string_view text(reinterpret_cast<const char *>(data + 1), size - 1);
	fuzz::require(requests(text, text.size()) == requests(text, text.size() * data[0] / 256));
	return 0;
}
