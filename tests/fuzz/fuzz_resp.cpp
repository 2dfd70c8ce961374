// SPDX-License-Identifier: BSD-2-Clause
//
// examples/servers/resp.hpp: whatever comes, in whatever pieces, the same requests are taken from it, and each is made of the input's own bytes.
// The first byte says where the input is cut.
#include "fuzz.h"

#include "servers/resp.hpp"

namespace {

constexpr resp::limits limits{4096, 64};

/// The requests of `text`, with what ends them.  Cut at `cut`: more is asked for before the rest comes.
std::string requests(std::string_view text, std::size_t cut) {
	std::string out;
	resp::reader reader(limits);
	resp::words words;
	std::size_t end = cut;
	std::size_t begin = 0;
	for (;;) {
		std::string_view in = text.substr(begin, end - begin);
		const std::size_t before = in.size();
		const resp::outcome what = reader.take(in, words);
		fuzz::require(in.size() <= before);
		if (what == resp::outcome::error) {
			fuzz::require(reader.error() != nullptr && in.size() == before);
			return out + "!";
		}
		if (what == resp::outcome::incomplete) {
			fuzz::require(in.size() == before);
			if (end == text.size()) {
				return out + "...";
			}
			end = text.size();
			continue;
		}
		fuzz::require(in.size() < before && words.size() <= limits.words);
		begin += before - in.size();
		for (const std::string_view word : words) {
			fuzz::require(word.data() >= text.data() && word.data() + word.size() <= text.data() + begin);
			resp::bulk(out, word);
		}
		out += ';';
	}
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	if (size == 0) {
		return 0;
	}
	const std::string_view text(reinterpret_cast<const char *>(data + 1), size - 1);
	const std::string whole = requests(text, text.size());
	if (text.size() < limits.request) {  // else it depends on the pieces what is too long
		fuzz::require(requests(text, text.size() * data[0] / 256) == whole);
	}
	return 0;
}
