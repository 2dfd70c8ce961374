// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::reader and lwp::writer: over sources that give what a table says, and over sockets.
// vcpus: 1 2
// io: uring epoll denied
#include "io_support.h"

#include <cstring>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using lwp::const_bytes;
using lwp::io_limit;
using lwp::mutable_bytes;

/// Gives one piece after the other: "" the end (for ever), "!" an error, once.
struct script {
	std::vector<std::string> pieces;
	std::size_t calls = 0;

	std::size_t read(mutable_bytes b, std::error_code &error, const io_limit &) {
		calls++;
		error.clear();
		if (pieces.empty() || pieces.front().empty()) {
			return 0;
		}
		if (pieces.front() == "!") {
			pieces.erase(pieces.begin());
			error = std::make_error_code(std::errc::timed_out);
			return 0;
		}
		std::string &s = pieces.front();
		const std::size_t n = std::min(b.size(), s.size());
		std::memcpy(b.data(), s.data(), n);
		s.erase(0, n);
		if (s.empty()) {
			pieces.erase(pieces.begin());
		}
		return n;
	}
};

/// Takes `room` bytes and then says EAGAIN.
struct paper {
	std::string text;
	std::size_t room = SIZE_MAX;
	std::size_t calls = 0;

	std::size_t write_all(const_bytes b, std::error_code &error, const io_limit &) {
		calls++;
		error.clear();
		const std::size_t n = std::min(b.size(), room);
		text.append(reinterpret_cast<const char *>(b.data()), n);
		room -= n;
		if (n < b.size()) {
			error = std::make_error_code(std::errc::resource_unavailable_try_again);
		}
		return n;
	}
};

std::string text_of(std::optional<std::string_view> v) { return v ? std::string(*v) : "(none)"; }

}  // namespace

TEST(Reader, LinesOfEveryShape) {
	script s{{"one\ntw", "o\r", "\n", "\n\r\nlast"}};
	lwp::reader in(s, 64);
	EXPECT_EQ(text_of(in.read_line()), "one");
	EXPECT_EQ(text_of(in.read_line()), "two");
	EXPECT_EQ(text_of(in.read_line()), "");
	EXPECT_EQ(text_of(in.read_line()), "");
	EXPECT_EQ(text_of(in.read_line()), "last");
	EXPECT_EQ(text_of(in.read_line()), "(none)");
	EXPECT_EQ(text_of(in.read_line()), "(none)");
}

TEST(Reader, ALineLongerThanAllowedIsRefusedAndStays) {
	script s{{"12345678\n", "abc\n"}};
	lwp::reader in(s, 8);
	std::error_code error;
	EXPECT_EQ(text_of(in.read_line(4, error)), "(none)");
	EXPECT_EQ(error, lwp::io_errc::too_long);
	EXPECT_EQ(text_of(in.read_line(error)), "(none)");  // the buffer is full
	EXPECT_EQ(error, lwp::io_errc::too_long);
	EXPECT_THROW((void)in.read_line(), lwp::io_error);
	EXPECT_THROW((void)in.read_line(3), lwp::io_error);
	EXPECT_EQ(in.buffered(), "12345678");
	in.consume(8);
	EXPECT_EQ(text_of(in.read_line()), "");
	EXPECT_EQ(text_of(in.read_line(4)), "abc");  // its end counts
}

TEST(Reader, DelimitersMayComeInPieces) {
	script s{{"GET /\r", "\n", "Host: x\r\n", "\r", "\nbody", ""}};
	lwp::reader in(s, 64);
	EXPECT_EQ(text_of(in.read_until("\r\n\r\n")), "GET /\r\nHost: x\r\n\r\n");
	EXPECT_EQ(text_of(in.read_until("\r\n\r\n", 32)), "body");
	EXPECT_EQ(text_of(in.read_until("\r\n\r\n")), "(none)");
	script t{{"aab", "aaab"}};
	lwp::reader again(t, 64);
	EXPECT_EQ(text_of(again.read_until("aaab")), "aabaaab");
}

TEST(Reader, AnErrorLosesNothing) {
	script s{{"hel", "!", "lo\nwor", "!", "ld", "!"}};
	lwp::reader in(s, 64);
	std::error_code error;
	EXPECT_EQ(text_of(in.read_line(error)), "(none)");
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(text_of(in.read_line(error)), "hello");
	EXPECT_FALSE(error);
	char buffer[5] = {};
	EXPECT_EQ(in.read_exactly(buffer, error), 3U);
	EXPECT_EQ(error, std::errc::timed_out);
	try {
		in.read_exactly(mutable_bytes(buffer).from(3).from(0));
	} catch (const lwp::io_error &e) {
		ADD_FAILURE() << e.what();
	}
	EXPECT_EQ(std::string(buffer, 5), "world");
	EXPECT_EQ(text_of(in.read_line(error)), "(none)");
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(in.read_exactly(buffer, error), 0U);
	EXPECT_EQ(error, lwp::io_errc::unexpected_end);
}

TEST(Reader, PeekFillAndConsume) {
	script s{{"ab", "cd", "ef"}};
	lwp::reader in(s, 4);
	EXPECT_EQ(in.peek(3), "abcd");
	EXPECT_EQ(in.peek(1), "abcd");
	std::error_code error;
	EXPECT_EQ(in.fill(error), 0U);
	EXPECT_EQ(error, lwp::io_errc::too_long);
	EXPECT_THROW(in.fill(), lwp::io_error);
	EXPECT_EQ(in.peek(5, error), "");
	EXPECT_EQ(error, lwp::io_errc::too_long);
	EXPECT_THROW((void)in.peek(5), lwp::io_error);
	in.consume(3);
	EXPECT_EQ(in.buffered(), "d");
	EXPECT_EQ(in.fill(), 2U);  // moved down, so there is room
	EXPECT_EQ(in.peek(4), "def");
	in.consume(100);
	EXPECT_EQ(in.peek(1, error), "");
	EXPECT_FALSE(error);
}

TEST(Reader, LargeReadsGoPastTheBuffer) {
	script s{{std::string(100, 'x')}};
	lwp::reader in(s, 10);
	std::string got(50, '\0');
	EXPECT_EQ(in.read(got), 50U);
	EXPECT_EQ(s.calls, 1U);
	EXPECT_EQ(in.read({got.data(), 3}), 3U);
	EXPECT_EQ(in.buffered().size(), 7U);
	EXPECT_EQ(in.read(got), 7U);
	EXPECT_EQ(in.read_exactly({got.data(), 40}), 40U);
	EXPECT_EQ(in.read(got), 0U);
	EXPECT_EQ(in.read({}), 0U);
}

TEST(Reader, Moves) {
	script s{{"one\ntwo\n"}}, t{{"three\n"}};
	lwp::reader a(s, 32);
	EXPECT_EQ(text_of(a.read_line()), "one");
	lwp::reader b(std::move(a));
	EXPECT_EQ(text_of(b.read_line()), "two");
	b = lwp::reader(t, 16);
	EXPECT_EQ(b.capacity(), 16U);
	EXPECT_EQ(text_of(b.read_line()), "three");
	EXPECT_EQ(lwp::reader(s, 0).capacity(), 1U);
}

TEST(Reader, ADeadlineOverASocket) {
	auto [a, b] = lwp::unix_stream::pair();
	lwp::reader in(a);
	std::error_code error;
	b.write_all("hal");
	EXPECT_EQ(text_of(in.read_line(error, lwp::within(5ms))), "(none)");
	EXPECT_EQ(error, std::errc::timed_out);
	b.write_all("f\nrest");
	b.shutdown_write();
	EXPECT_EQ(text_of(in.read_line(lwp::within(10min))), "half");
	EXPECT_EQ(text_of(in.read_line(100, lwp::within(10min))), "rest");
	EXPECT_EQ(text_of(in.read_line()), "(none)");
}

TEST(Writer, GathersUntilFullOrFlushed) {
	paper p;
	lwp::writer out(p, 8);
	EXPECT_EQ(out.write("abc"), 3U);
	EXPECT_EQ(out.write("def"), 3U);
	EXPECT_EQ(p.calls, 0U);
	EXPECT_EQ(out.buffered(), 6U);
	EXPECT_EQ(out.write("ghijk"), 5U);
	EXPECT_EQ(p.text, "abcdefgh");
	EXPECT_EQ(out.buffered(), 3U);
	out.flush();
	EXPECT_EQ(p.text, "abcdefghijk");
	EXPECT_EQ(out.write("0123456789"), 10U);  // past the buffer
	EXPECT_EQ(p.text, "abcdefghijk0123456789");
	EXPECT_EQ(p.calls, 3U);
	out.flush();
	EXPECT_EQ(p.calls, 3U);
	out.write("lost");
}

TEST(Writer, AnErrorLosesNothing) {
	paper p{.text = {}, .room = 5};
	lwp::writer out(p, 8);
	std::error_code error;
	EXPECT_EQ(out.write("0123456789", error), 5U);  // nothing was buffered, so it went past
	EXPECT_EQ(error, std::errc::resource_unavailable_try_again);
	EXPECT_EQ(out.write("56", error), 2U);
	EXPECT_FALSE(error);
	EXPECT_EQ(out.write("789abcdef", error), 6U);
	EXPECT_TRUE(error);
	EXPECT_EQ(out.buffered(), 8U);
	p.room = 3;
	out.flush(error);
	EXPECT_TRUE(error);
	EXPECT_EQ(out.buffered(), 5U);
	p.room = 0;
	try {
		out.write("d");
		ADD_FAILURE();
	} catch (const lwp::io_error &e) {
		EXPECT_EQ(e.transferred(), 0U);
	}
	EXPECT_THROW(out.flush(), lwp::io_error);
	p.room = SIZE_MAX;
	EXPECT_EQ(out.write("def"), 3U);
	out.flush();
	EXPECT_EQ(p.text, "0123456789abcdef");
	lwp::writer moved(std::move(out));
	moved.write("!");
	moved.flush();
	EXPECT_EQ(p.text, "0123456789abcdef!");
}
