// SPDX-License-Identifier: BSD-2-Clause
//
// The Redis serialization protocol, version 2: requests taken from the front of what has come, replies appended to what goes out.
// Requests are arrays of bulk strings, or lines of words ("inline"), as redis-cli, redis-benchmark and nc send them.
// Nothing is copied: the words of a request are views of the input.  Never blocks.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace resp {

using words = std::vector<std::string_view>;

/// What a client may send at most; more is a protocol error and ends its connection.
struct limits {
	std::size_t request = 1 << 20;  ///< bytes of one request
	std::size_t words = 1 << 16;    ///< words of one request
};

enum class outcome { request, incomplete, error };

/// Takes requests from `in`, one by one.
class reader {
public:
	explicit reader(const limits &l) : limits_(l) {}

	/// A request is in `out` and off `in`; or `in` is untouched and more is needed; or it is no request, error() says why, and nothing that follows
	/// can be understood.  A request without words is an empty line or array: to be ignored.
	outcome take(std::string_view &in, words &out) {
		rest_ = in;
		out.clear();
		error_ = nullptr;
		const outcome what = rest_.empty() ? outcome::incomplete : rest_.front() == '*' ? array(out) : line_of_words(out);
		if (what == outcome::incomplete && in.size() >= limits_.request) {
			return fail("request too long");
		}
		if (what == outcome::request) {
			in = rest_;
		}
		return what;
	}
	[[nodiscard]] const char *error() const { return error_; }

private:
	outcome fail(const char *why) {
		error_ = why;
		return outcome::error;
	}

	/// The line at the front, without its end.
	outcome line(std::string_view &out) {
		const std::size_t end = rest_.find('\n');
		if (end == std::string_view::npos) {
			return outcome::incomplete;
		}
		out = rest_.substr(0, end != 0 && rest_[end - 1] == '\r' ? end - 1 : end);
		rest_.remove_prefix(end + 1);
		return outcome::request;
	}

	/// The number in a line that begins with `mark`; at most `most`.
	outcome number(char mark, std::size_t most, std::size_t *out, const char *complaint) {
		std::string_view text;
		if (!rest_.empty() && rest_.front() != mark) {
			return fail(complaint);
		}
		if (std::min(rest_.find('\n'), rest_.size()) > longest_number) {  // whether its end has come or not
			return fail(complaint);
		}
		if (const outcome o = line(text); o != outcome::request) {
			return o;
		}
		text.remove_prefix(1);
		const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
		return error != std::errc() || end != text.data() + text.size() || *out > most ? fail(complaint) : outcome::request;
	}

	outcome array(words &out) {
		std::size_t count = 0;
		if (const outcome o = number('*', limits_.words, &count, "invalid multibulk length"); o != outcome::request) {
			return o;
		}
		for (std::size_t i = 0; i < count; i++) {
			std::size_t size = 0;
			if (const outcome o = number('$', limits_.request, &size, "invalid bulk length"); o != outcome::request) {
				return o;
			}
			if (rest_.size() < size + 2) {
				return outcome::incomplete;
			}
			if (rest_.substr(size, 2) != "\r\n") {
				return fail("a string does not end where it says");
			}
			out.push_back(rest_.substr(0, size));
			rest_.remove_prefix(size + 2);
		}
		return outcome::request;
	}

	outcome line_of_words(words &out) {
		std::string_view text;
		if (const outcome o = line(text); o != outcome::request) {
			return rest_.size() > longest_line ? fail("too big inline request") : o;
		}
		while (out.size() < limits_.words) {
			const std::size_t begin = text.find_first_not_of(" \t");
			if (begin == std::string_view::npos) {
				break;
			}
			text.remove_prefix(begin);
			const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
			out.push_back(text.substr(0, end));
			text.remove_prefix(end);
		}
		return outcome::request;
	}

	static constexpr std::size_t longest_number = 32;
	static constexpr std::size_t longest_line = 64 * 1024;

	limits limits_;
	std::string_view rest_;
	const char *error_ = nullptr;
};

// ---- replies -------------------------------------------------------------------------------------------------------------

inline void add_number(std::string &out, char mark, std::int64_t n) {
	char text[24];
	text[0] = mark;
	char *end = std::to_chars(text + 1, text + sizeof(text), n).ptr;
	out.append(text, end).append("\r\n");
}
inline void integer(std::string &out, std::int64_t n) { add_number(out, ':', n); }
inline void array(std::string &out, std::size_t n) { add_number(out, '*', static_cast<std::int64_t>(n)); }
inline void null(std::string &out) { out += "$-1\r\n"; }
inline void ok(std::string &out) { out += "+OK\r\n"; }
/// `text` begins with its kind, as in "ERR no such thing".
inline void error(std::string &out, std::string_view text) { out.append("-").append(text).append("\r\n"); }
inline void bulk(std::string &out, std::string_view text) {
	add_number(out, '$', static_cast<std::int64_t>(text.size()));
	out.append(text).append("\r\n");
}

}  // namespace resp
