// SPDX-License-Identifier: BSD-2-Clause
//
// Requests of HTTP/1.1 taken from what a connection reads, by the library http_parser; and the lines that answers begin with.
// What a request may cost is bounded: bytes up to its headers' end, bytes of its body, which is read and dropped.  Never blocks.
#pragma once

#include <http_parser.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <strings.h>

namespace http {

struct limits {
	std::size_t head = 8192;         ///< bytes of request line and headers together, give or take one read
	std::size_t body = 1024 * 1024;  ///< bytes of a body
};

// X(status, reason)
#define HTTP_ANSWERS(X)                       \
	X(200, "OK")                              \
	X(304, "Not Modified")                    \
	X(400, "Bad Request")                     \
	X(403, "Forbidden")                       \
	X(404, "Not Found")                       \
	X(405, "Method Not Allowed")              \
	X(408, "Request Timeout")                 \
	X(413, "Content Too Large")               \
	X(414, "URI Too Long")                    \
	X(417, "Expectation Failed")              \
	X(431, "Request Header Fields Too Large") \
	X(500, "Internal Server Error")           \
	X(503, "Service Unavailable")             \
	X(505, "HTTP Version Not Supported")

inline const char *reason(int status) {
	switch (status) {
#define X(number, text) \
	case number:        \
		return text;
		HTTP_ANSWERS(X)
#undef X
	}
	return "";
}

enum class outcome { request, incomplete, error };

/// One connection's requests.
class reader {
public:
	explicit reader(const limits &l) : limits_(l) {
		http_parser_init(&parser_, HTTP_REQUEST);
		parser_.data = this;
	}
	reader(const reader &) = delete;
	reader &operator=(const reader &) = delete;

	/// Takes bytes off `in` up to the end of one request.  request: it is there, and told by the members below until the next call.
	/// incomplete: all of `in` was taken.  error: status() is the answer, and nothing that follows can be understood.
	outcome take(std::string_view &in) {
		if (complete_) {
			forget();
		}
		if (!begun_ && !in.empty() &&
		    (in.front() == '\r' || in.front() == '\n')) {  // empty lines before a request are passed over (RFC 9112, 2.2)
			const std::size_t first = in.find_first_not_of("\r\n");
			in.remove_prefix(first == std::string_view::npos ? in.size() : first);
		}
		if (in.empty()) {
			return outcome::incomplete;
		}
		begun_ = true;
		const std::size_t taken = http_parser_execute(&parser_, &settings(), in.data(), in.size());
		if (!headers_done_ && (head_ += taken) > limits_.head) {
			return fail(head_in_line_ ? 414 : 431);
		}
		in.remove_prefix(taken);
		if (complete_) {
			http_parser_pause(&parser_, 0);
			return outcome::request;
		}
		if (HTTP_PARSER_ERRNO(&parser_) != HPE_OK) {
			return fail(status_ != 0 ? status_ : HTTP_PARSER_ERRNO(&parser_) == HPE_HEADER_OVERFLOW ? 431 : 400);
		}
		return outcome::incomplete;
	}

	/// Something of a request has come and its end has not.
	[[nodiscard]] bool begun() const { return begun_ && !complete_; }
	[[nodiscard]] int status() const { return status_; }
	[[nodiscard]] bool head() const { return parser_.method == HTTP_HEAD; }
	[[nodiscard]] bool get() const { return parser_.method == HTTP_GET || head(); }
	[[nodiscard]] bool keep_alive() const { return keep_alive_; }
	[[nodiscard]] const std::string &target() const { return target_; }
	[[nodiscard]] const std::string &if_modified_since() const { return since_; }

private:
	enum class field { other, host, expect, since };

	void forget() {
		begun_ = complete_ = headers_done_ = keep_alive_ = false;
		head_in_line_ = true;
		head_ = body_ = hosts_ = 0;
		status_ = 0;
		target_.clear();
		since_.clear();
		name_.clear();
		field_ = field::other;
		in_value_ = false;
	}

	outcome fail(int status) {
		status_ = status;
		return outcome::error;
	}
	/// An answer other than what was asked for; the parser stops (1 would mean something else to it).
	int refuse(int status) {
		status_ = status;
		return -1;
	}

	static reader &of(http_parser *p) { return *static_cast<reader *>(p->data); }

	int on_url(std::string_view part) {
		target_ += part;
		return target_.size() > limits_.head ? refuse(414) : 0;
	}

	int on_name(std::string_view part) {
		head_in_line_ = false;
		if (in_value_) {
			in_value_ = false;
			name_.clear();
		}
		if (name_.size() + part.size() <= longest_name) {  // longer ones are none of those that we know
			name_ += part;
		} else {
			name_.assign(longest_name, '-');
		}
		return 0;
	}

	int on_value(std::string_view part) {
		if (!in_value_) {
			in_value_ = true;
			const auto is = [this](const char *name) { return strcasecmp(name_.c_str(), name) == 0; };
			field_ = is("host") ? field::host : is("expect") ? field::expect : is("if-modified-since") ? field::since : field::other;
			hosts_ += field_ == field::host ? 1 : 0;
		}
		if (field_ == field::since) {
			since_ += part;
		}
		return field_ == field::expect ? refuse(417) : 0;  // bodies are of no use here, so nobody is asked to send one
	}

	int on_headers() {
		headers_done_ = true;
		if (parser_.http_major != 1) {
			return refuse(505);
		}
		if (hosts_ > 1 || (hosts_ == 0 && parser_.http_minor > 0)) {
			return refuse(400);
		}
		const bool sized = (parser_.flags & F_CONTENTLENGTH) != 0;
		return sized && parser_.content_length > limits_.body ? refuse(413) : 0;
	}

	int on_body(std::string_view part) { return (body_ += part.size()) > limits_.body ? refuse(413) : 0; }

	int on_complete() {
		complete_ = true;
		keep_alive_ = http_should_keep_alive(&parser_) != 0;
		http_parser_pause(&parser_, 1);  // one request at a time
		return 0;
	}

	static const http_parser_settings &settings() {
		static const http_parser_settings all = [] {
			http_parser_settings s;
			http_parser_settings_init(&s);
			s.on_url = [](http_parser *p, const char *at, std::size_t n) { return of(p).on_url({at, n}); };
			s.on_header_field = [](http_parser *p, const char *at, std::size_t n) { return of(p).on_name({at, n}); };
			s.on_header_value = [](http_parser *p, const char *at, std::size_t n) { return of(p).on_value({at, n}); };
			s.on_headers_complete = [](http_parser *p) { return of(p).on_headers(); };
			s.on_body = [](http_parser *p, const char *at, std::size_t n) { return of(p).on_body({at, n}); };
			s.on_message_complete = [](http_parser *p) { return of(p).on_complete(); };
			return s;
		}();
		return all;
	}

	static constexpr std::size_t longest_name = 32;

	const limits limits_;
	http_parser parser_;
	bool begun_ = false, complete_ = false, headers_done_ = false, keep_alive_ = false;
	bool head_in_line_ = true;  // no header has come yet
	bool in_value_ = false;
	field field_ = field::other;
	int status_ = 0;
	unsigned hosts_ = 0;
	std::size_t head_ = 0, body_ = 0;
	std::string target_, since_, name_;
};

/// The Date header's value, made anew once a second for each holder.
class date {
public:
	std::string_view now() {
		timespec t{};
		clock_gettime(CLOCK_REALTIME_COARSE, &t);
		if (t.tv_sec != second_) {
			second_ = t.tv_sec;
			format(t.tv_sec, text_, sizeof(text_));
		}
		return text_;
	}
	/// IMF-fixdate, 29 bytes and a NUL.
	static void format(std::time_t when, char *out, std::size_t size) {
		std::tm tm{};
		gmtime_r(&when, &tm);
		(void)std::strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	}

private:
	std::time_t second_ = -1;
	char text_[32] = "";
};

/// What of a target is the path: percent-decoded, without query, and without ways out of the root.  Empty: there is no such thing.
inline std::string path_of(std::string_view target) {
	const auto digit = [](char c) {
		return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
	};
	if (target.starts_with("http://")) {  // the absolute form, as proxies send it
		const std::size_t slash = target.find('/', 7);
		target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
	}
	target = target.substr(0, target.find_first_of("?#"));
	std::string path;
	for (std::size_t i = 0; i < target.size(); i++) {
		char c = target[i];
		if (c == '%') {
			const int high = i + 2 < target.size() ? digit(target[i + 1]) : -1;
			const int low = high >= 0 ? digit(target[i + 2]) : -1;
			if (low < 0) {
				return {};
			}
			c = static_cast<char>(high * 16 + low);
			i += 2;
		}
		if (c == '\0') {
			return {};
		}
		path += c;
	}
	if (!path.starts_with('/') || (path + "/").find("/../") != std::string::npos) {
		return {};
	}
	return path;
}

}  // namespace http
