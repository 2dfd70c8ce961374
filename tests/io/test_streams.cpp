// SPDX-License-Identifier: BSD-2-Clause
//
// io.hpp's objects: descriptors, streams, files, pipes, and what a limit does to their calls.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <sys/resource.h>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using lwp::io_error;
using lwp::unix_stream;
using lwp::within;

/// A limit far away, so that the calls go the way that has one.
lwp::io_limit far() { return within(10min); }

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

std::string pattern(std::size_t n) {
	std::string s(n, '\0');
	dice d(7);
	for (char &c : s) {
		c = static_cast<char>(d.next());
	}
	return s;
}

/// A file without a name.
lwp::file temporary() {
	char name[] = "/tmp/lwp_streams_XXXXXX";
	const int fd = ::mkostemp(name, O_CLOEXEC);
	EXPECT_GE(fd, 0);
	EXPECT_EQ(::unlink(name), 0);
	return lwp::file(fd);
}

/// transfer(limit), with longer and longer deadlines, until it got something done before one: it could be late from the beginning.
template <class Transfer>
std::size_t until_some(Transfer transfer) {
	std::size_t n = 0;
	for (auto time = 20ms; n == 0; time *= 2) {
		n = transfer(within(time));
	}
	return n;
}

template <class Call>
std::error_code thrown_by(Call call, std::size_t *transferred = nullptr) {
	try {
		call();
	} catch (const io_error &e) {
		if (transferred != nullptr) {
			*transferred = e.transferred();
		}
		return e.code();
	}
	return {};
}

}  // namespace

TEST(Bytes, AreMadeOfWhatHoldsBytes) {
	const std::vector<unsigned char> v(3);
	const std::array<char, 4> a{};
	const std::byte raw[5]{};
	EXPECT_EQ(lwp::const_bytes("ab").size(), 2U);
	EXPECT_EQ(lwp::const_bytes(std::string("abc")).size(), 3U);
	EXPECT_EQ(lwp::const_bytes(std::string_view("abcd")).from(1).size(), 3U);
	EXPECT_EQ(lwp::const_bytes(v).size(), 3U);
	EXPECT_EQ(lwp::const_bytes(a).size(), 4U);
	EXPECT_EQ(lwp::const_bytes(raw).size(), 5U);
	EXPECT_TRUE(lwp::const_bytes().empty());
	char out[6];
	std::string s(7, 'x');
	EXPECT_EQ(lwp::mutable_bytes(out).size(), 6U);
	EXPECT_EQ(lwp::mutable_bytes(s).from(2).data(), static_cast<void *>(s.data() + 2));
	static_assert(!std::is_constructible_v<lwp::const_bytes, char(&)[6]>);
	static_assert(!std::is_constructible_v<lwp::mutable_bytes, const std::string &>);
}

TEST(Descriptor, OwnsMovesAndCloses) {
	lwp::pipe p;
	const int out = p.read_end.native_handle(), in = p.write_end.native_handle();
	EXPECT_NE(::fcntl(out, F_GETFD) & FD_CLOEXEC, 0);
	lwp::pipe_read_end other(std::move(p.read_end));
	EXPECT_FALSE(p.read_end.is_open());
	EXPECT_EQ(p.read_end.native_handle(), -1);
	EXPECT_TRUE(static_cast<bool>(other));
	p.write_end = lwp::pipe_write_end();
	EXPECT_FALSE(is_open(in));
	lwp::pipe_read_end &self = other;
	other = std::move(self);
	EXPECT_TRUE(is_open(out));
	const int given = other.release();
	EXPECT_EQ(given, out);
	EXPECT_FALSE(other.is_open());
	lwp::descriptor d(given);
	d.close();
	EXPECT_FALSE(is_open(out));
	d.close();  // nothing, again
	lwp::descriptor wrong(out);
	std::error_code error;
	wrong.close(error);
	EXPECT_EQ(error, std::errc::bad_file_descriptor);
	EXPECT_FALSE(wrong.is_open());
	EXPECT_EQ(thrown_by([out] { lwp::descriptor(out).close(); }), std::errc::bad_file_descriptor);
	static_assert(!std::is_copy_constructible_v<lwp::file> && std::is_nothrow_move_constructible_v<lwp::file>);
	static_assert(!std::is_convertible_v<lwp::pipe_read_end &, lwp::stream &>);
}

TEST(Stream, WithoutADescriptorEveryCallSaysBadf) {
	lwp::file f;
	char c = 0;
	std::error_code e;
	const auto badf = [&] { return std::exchange(e, {}) == std::errc::bad_file_descriptor; };
	EXPECT_EQ(f.read({&c, 1}, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.read_exactly({&c, 1}, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.write_some("x", e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.write_all("x", e), 0U);
	EXPECT_TRUE(badf());
	const lwp::const_bytes pieces[] = {"a", "b"};
	EXPECT_EQ(f.write_gather(pieces, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.read_at(0, {&c, 1}, e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.write_all_at(0, "x", e), 0U);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.size(e), 0);
	EXPECT_TRUE(badf());
	f.resize(1, e);
	EXPECT_TRUE(badf());
	EXPECT_EQ(f.seek(0, SEEK_SET, e), 0);
	EXPECT_TRUE(badf());
	f.sync(e);
	EXPECT_TRUE(badf());
	f.sync_data(e);
	EXPECT_TRUE(badf());
	const std::error_code expected = std::make_error_code(std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([&] { f.read({&c, 1}); }), expected);
	EXPECT_EQ(thrown_by([&] { f.read_exactly({&c, 1}); }), expected);
	EXPECT_EQ(thrown_by([&] { f.write_some("x"); }), expected);
	EXPECT_EQ(thrown_by([&] { f.write_all("x"); }), expected);
	EXPECT_EQ(thrown_by([&] { f.write_gather(pieces); }), expected);
	EXPECT_EQ(thrown_by([&] { f.read_at(0, {&c, 1}); }), expected);
	EXPECT_EQ(thrown_by([&] { f.read_exactly_at(0, {&c, 1}); }), expected);
	EXPECT_EQ(thrown_by([&] { f.write_some_at(0, "x"); }), expected);
	EXPECT_EQ(thrown_by([&] { f.write_all_at(0, "x"); }), expected);
	EXPECT_EQ(thrown_by([&] { (void)f.size(); }), expected);
	EXPECT_EQ(thrown_by([&] { f.resize(1); }), expected);
	EXPECT_EQ(thrown_by([&] { f.seek(0); }), expected);
	EXPECT_EQ(thrown_by([&] { f.sync(); }), expected);
	EXPECT_EQ(thrown_by([&] { f.sync_data(); }), expected);
}

TEST(Stream, AnEmptyBufferNeverBlocks) {
	auto [a, b] = unix_stream::pair();
	EXPECT_EQ(a.read({}), 0U);
	EXPECT_EQ(a.write_all(""), 0U);
	EXPECT_EQ(a.read_exactly({}), 0U);
	EXPECT_EQ(a.write_gather({}), 0U);
}

// More than the socket holds, so that both sides block and each transfer is partial; with and without a limit.
TEST(Stream, AllIsWrittenAndReadAcrossPartialTransfers) {
	const std::string sent = pattern(1'000'000);
	for (const bool limited : {false, true}) {
		for (const bool gather : {false, true}) {
			auto [a, b] = unix_stream::pair();
			const lwpid_t sender = spawn([&, &from = a] {
				std::vector<lwp::const_bytes> pieces;
				for (std::size_t at = 0; at < sent.size(); at += 9973) {
					pieces.push_back(std::string_view(sent).substr(at, 9973));
					pieces.push_back("");
				}
				const lwp::io_limit limit = limited ? far() : lwp::io_limit{};
				EXPECT_EQ(gather ? from.write_gather(pieces, limit) : from.write_all(sent, limit), sent.size());
				from.shutdown_write();
			});
			std::string got(sent.size(), '\0');
			EXPECT_EQ(b.read_exactly(got, limited ? far() : lwp::io_limit{}), sent.size());
			EXPECT_TRUE(got == sent);
			char c;
			EXPECT_EQ(b.read({&c, 1}), 0U);
			EXPECT_EQ(b.read({&c, 1}, far()), 0U);
			collect(sender);
		}
	}
}

TEST(Stream, AnEarlyEndIsReportedWithWhatCame) {
	auto [a, b] = unix_stream::pair();
	a.write_all("abc");
	a.close();
	char buffer[8] = {};
	std::error_code error;
	EXPECT_EQ(b.read_exactly(buffer, error), 3U);
	EXPECT_EQ(error, lwp::io_errc::unexpected_end);
	EXPECT_STREQ(buffer, "abc");
	std::size_t transferred = 9;
	EXPECT_EQ(thrown_by([&, &s = b] { s.read_exactly(buffer); }, &transferred), lwp::io_errc::unexpected_end);
	EXPECT_EQ(transferred, 0U);
	EXPECT_FALSE(error.message().empty());
	EXPECT_STREQ(error.category().name(), "lwp.io");
}

TEST(Stream, SocketsRaiseNoSigpipe) {
	auto [a, b] = unix_stream::pair();
	b.close();
	std::error_code error;  // SIGPIPE would end the test
	a.write_some("x", error);
	EXPECT_EQ(error, std::errc::broken_pipe);
	a.write_all("x", error);
	EXPECT_EQ(error, std::errc::broken_pipe);
	const lwp::const_bytes pieces[] = {"x", "y"};
	a.write_gather(pieces, error);
	EXPECT_EQ(error, std::errc::broken_pipe);
}

// ---- limits --------------------------------------------------------------------------------------------------------

TEST(Limit, ADeadlineEndsEachBlockingCall) {
	auto [a, b] = unix_stream::pair();
	char c = 0;
	std::error_code error;
	const auto deadline = std::chrono::steady_clock::now() + 5ms;
	EXPECT_EQ(a.read({&c, 1}, error, {.deadline = deadline}), 0U);
	EXPECT_GE(std::chrono::steady_clock::now(), deadline);
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(thrown_by([&, &s = a] { s.read({&c, 1}, within(1ms)); }), std::errc::timed_out);
	b.write_all("x");
	EXPECT_EQ(a.read({&c, 1}, error), 1U);  // the object is as before
	EXPECT_FALSE(error);
	lwp::pipe p;
	EXPECT_EQ(p.read_end.read({&c, 1}, error, within(1ms)), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
}

// What was written before the deadline is reported, and is exactly what the reader finds.
TEST(Limit, PartialWritesAreReported) {
	const std::string sent = pattern(3'000'000);
	for (const bool gather : {false, true}) {
		auto [a, b] = unix_stream::pair();
		std::error_code error;
		const lwp::const_bytes pieces[] = {std::string_view(sent).substr(0, 1'000'000), std::string_view(sent).substr(1'000'000)};
		const std::size_t n = until_some([&, &to = a](const lwp::io_limit &limit) {
			return gather ? to.write_gather(pieces, error, limit) : to.write_all(sent, error, limit);
		});
		EXPECT_EQ(error, std::errc::timed_out);
		EXPECT_LT(n, sent.size());
		std::size_t more = 1;
		EXPECT_EQ(thrown_by([&, &s = a] { s.write_all(sent, within(1ms)); }, &more), std::errc::timed_out);
		EXPECT_EQ(more, 0U);
		a.close();
		std::string got(sent.size(), '\0');
		got.resize(b.read_exactly(got, error));
		EXPECT_EQ(got.size(), n);
		EXPECT_TRUE(sent.starts_with(got));
	}
}

TEST(Limit, PartialReadsAreReported) {
	auto [a, b] = unix_stream::pair();
	a.write_all("abc");
	char buffer[8] = {};
	std::error_code error;
	EXPECT_EQ(until_some([&, &from = b](const lwp::io_limit &limit) { return from.read_exactly(buffer, error, limit); }), 3U);
	EXPECT_EQ(error, std::errc::timed_out);
	a.write_all("de");
	EXPECT_EQ(until_some([&, &from = b](const lwp::io_limit &limit) {
		std::size_t n = 0;
		EXPECT_EQ(thrown_by([&] { from.read_exactly(buffer, limit); }, &n), std::errc::timed_out);
		return n;
	}),
	    2U);
	EXPECT_STREQ(buffer, "dec");
}

TEST(Limit, WhatHasPassedBeforeTransfersNothing) {
	auto [a, b] = unix_stream::pair();
	a.write_all("x");
	char c = 0;
	std::error_code error;
	EXPECT_EQ(b.read({&c, 1}, error, {.deadline = std::chrono::steady_clock::now()}), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(b.read({&c, 1}, error, {.deadline = std::chrono::steady_clock::time_point::min()}), 0U);
	EXPECT_EQ(error, std::errc::timed_out);
	std::stop_source stop;
	stop.request_stop();
	EXPECT_EQ(b.read({&c, 1}, error, {.stop = stop.get_token()}), 0U);
	EXPECT_EQ(error, std::errc::operation_canceled);
	EXPECT_EQ(b.write_some("y", error, {.stop = stop.get_token()}), 0U);
	EXPECT_EQ(error, std::errc::operation_canceled);
	EXPECT_EQ(c, 0);
	EXPECT_EQ(b.read({&c, 1}), 1U);
}

TEST(Limit, AStopEndsAReadThatIsBlocked) {
	auto [a, b] = unix_stream::pair();
	std::stop_source stop;
	std::error_code error;
	subject s([&, &from = a](subject &self) {
		char c;
		self.about_to_block();
		from.read({&c, 1}, error, within(10min, stop.get_token()));
	});
	s.await_blocked();
	stop.request_stop();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
	char c = 0;
	b.write_all("x");
	EXPECT_EQ(a.read({&c, 1}), 1U);
}

// The stop, the byte, and the beginning of the read come in any order.  The byte is read or still there.
TEST(Limit, AStopAgainstTheByte) {
	auto [a, b] = unix_stream::pair();
	const std::size_t n = rounds(2000);
	std::size_t read = 0, stopped = 0;
	for (std::size_t i = 0; i < n; i++) {
		std::stop_source stop;
		const lwpid_t other = spawn([&, &to = b] {
			if (i % 2 == 0) {
				stop.request_stop();
				to.write_all("x");
			} else {
				to.write_all("x");
				stop.request_stop();
			}
		});
		char c = 0;
		std::error_code error;
		if (i % 3 == 0) {
			lwp_yield();
		}
		const std::size_t got = a.read({&c, 1}, error, {.stop = stop.get_token()});
		EXPECT_EQ(got == 1, !error);
		EXPECT_EQ(got == 1, c == 'x');
		EXPECT_TRUE(got == 1 || error == std::errc::operation_canceled) << error;
		(got == 1 ? read : stopped)++;
		collect(other);
		if (got == 0) {
			EXPECT_EQ(a.read({&c, 1}), 1U);
		}
	}
	std::printf("read %zu, stopped %zu\n", read, stopped);
}

TEST(Limit, KernelThreadsFromOutsideKeepLimitsToo) {
	auto [a, b] = unix_stream::pair();
	std::stop_source stop;
	std::atomic<bool> begun{false}, canceled{false};
	std::thread([&, &s = a] {
		char c;
		std::error_code error;
		s.read({&c, 1}, error, within(1ms));
		EXPECT_EQ(error, std::errc::timed_out);
	}).join();
	std::thread t([&, &s = a] {
		char c = 0;
		std::error_code error;
		begun = true;
		s.read({&c, 1}, error, within(10min, stop.get_token()));
		EXPECT_EQ(error, std::errc::operation_canceled);
		canceled = true;
		EXPECT_EQ(s.read({&c, 1}, {.stop = std::stop_source().get_token()}), 1U);
	});
	EXPECT_TRUE(wait_until([&] { return begun.load(); }));
	stop.request_stop();
	EXPECT_TRUE(wait_until(
	    [&] { return canceled.load(); }));  // or the first read may be in time for what is written, and the second waits for ever
	b.write_all("x");
	t.join();
}

// Without a deadline there is the stop alone: the wait must look at it all the same.
TEST(Limit, AStopAloneReachesAKernelThreadFromOutside) {
	auto [a, b] = unix_stream::pair();
	std::stop_source stop;
	std::atomic<bool> begun{false}, over{false};
	std::error_code error;
	std::thread t([&, &s = a] {
		char c = 0;
		begun = true;
		s.read({&c, 1}, error, {.stop = stop.get_token()});
		over = true;
	});
	EXPECT_TRUE(wait_until([&] { return begun.load(); }));
	stop.request_stop();
	EXPECT_TRUE(wait_until([&] { return over.load(); })) << "the stop did not end it";
	b.write_all("x");  // then this does
	t.join();
	EXPECT_EQ(error, std::errc::operation_canceled);
}

TEST(Limit, CloseEndsWhatIsBlocked) {
	auto [a, b] = unix_stream::pair();
	std::error_code error;
	subject s([&, &from = a](subject &self) {
		char c;
		self.about_to_block();
		from.read({&c, 1}, error, far());
	});
	s.await_blocked();
	a.close();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
}

// ---- files ---------------------------------------------------------------------------------------------------------

TEST(File, OpensAsItsOptionsSay) {
	const std::string path = "/tmp/lwp_streams_" + std::to_string(::getpid()) + "_" + std::to_string(lwp::runtime::vcpus());
	std::error_code error;
	const lwp::file none(path, {}, error);
	EXPECT_EQ(error, std::errc::no_such_file_or_directory);
	EXPECT_FALSE(none.is_open());
	EXPECT_EQ(thrown_by([&] { lwp::file f(path); }), std::errc::no_such_file_or_directory);
	EXPECT_EQ(thrown_by([&] { lwp::file f(std::string("a\0b", 3)); }), std::errc::invalid_argument);
	{
		lwp::file f(path, {.create = true, .exclusive = true, .permissions = 0600}, error, far());
		EXPECT_FALSE(error);
		EXPECT_NE(::fcntl(f.native_handle(), F_GETFD) & FD_CLOEXEC, 0);
		EXPECT_EQ(f.write_all("hello"), 5U);
	}
	EXPECT_EQ(thrown_by([&] { lwp::file f(path, {.create = true, .exclusive = true}); }), std::errc::file_exists);
	{
		lwp::file f(path);
		EXPECT_EQ(f.size(), 5);
		EXPECT_EQ(thrown_by([&] { f.write_all("x"); }), std::errc::bad_file_descriptor);
	}
	{
		lwp::file f(path, {.append = true});
		f.write_all("!");
		char buffer[6];
		EXPECT_EQ(f.read_exactly_at(0, buffer), 6U);
		EXPECT_EQ(std::string(buffer, 6), "hello!");
	}
	EXPECT_EQ(lwp::file(path, {.read = false, .truncate = true}).size(), 0);
	EXPECT_EQ(::unlink(path.c_str()), 0);
	std::stop_source stop;
	stop.request_stop();
	const lwp::file late("/dev/null", {}, error, {.stop = stop.get_token()});
	EXPECT_EQ(error, std::errc::operation_canceled);
	EXPECT_FALSE(late.is_open());
}

TEST(File, PositionsAreItsOwnOrTheCalls) {
	lwp::file f = temporary();
	f.write_all("0123456789");
	EXPECT_EQ(f.seek(0, SEEK_CUR), 10);
	EXPECT_EQ(f.seek(2), 2);
	char buffer[4] = {};
	EXPECT_EQ(f.read({buffer, 3}), 3U);
	EXPECT_STREQ(buffer, "234");
	EXPECT_EQ(f.write_all_at(8, "ABCD"), 4U);
	EXPECT_EQ(f.write_some_at(0, "Z"), 1U);
	EXPECT_EQ(f.read_at(7, {buffer, 3}, far()), 3U);
	EXPECT_STREQ(buffer, "7AB");
	EXPECT_EQ(f.seek(0, SEEK_CUR), 5);
	EXPECT_EQ(f.size(), 12);
	EXPECT_EQ(f.read_at(12, buffer), 0U);
	std::error_code error;
	EXPECT_EQ(f.read_exactly_at(10, buffer, error), 2U);
	EXPECT_EQ(error, lwp::io_errc::unexpected_end);
	f.read_at(-1, buffer, error);
	EXPECT_EQ(error, std::errc::invalid_argument);
	f.write_some_at(-1, "x", error);
	EXPECT_EQ(error, std::errc::invalid_argument);
	f.resize(3);
	f.sync();
	f.sync_data(far());
	EXPECT_EQ(f.size(), 3);
	EXPECT_EQ(f.read_exactly_at(0, {buffer, 3}), 3U);
	EXPECT_STREQ(buffer, "Z12");
}

TEST(File, WhatHasNoPositionSaysEspipe) {
	lwp::pipe p;
	p.write_end.write_all("abc");
	lwp::file f(p.read_end.release());
	char buffer[3];
	std::error_code error;
	EXPECT_EQ(f.read_at(0, buffer, error), 0U);
	EXPECT_EQ(error, std::errc::invalid_seek);
	EXPECT_EQ(f.read_exactly(buffer), 3U);  // nothing was taken
	lwp::file moved = temporary();
	moved = std::move(f);
	EXPECT_EQ(moved.read_at(0, buffer, error), 0U);
	EXPECT_EQ(error, std::errc::invalid_seek);
}

// ---- pipes ---------------------------------------------------------------------------------------------------------

TEST(Pipe, BlocksAndEnds) {
	lwp::pipe p;
	std::string got;
	subject s([&](subject &self) {
		char buffer[16];
		self.about_to_block();
		for (std::size_t n; (n = p.read_end.read(buffer)) != 0;) {
			got.append(buffer, n);
		}
	});
	s.await_blocked();
	const lwp::const_bytes pieces[] = {"one ", "two ", "three"};
	EXPECT_EQ(p.write_end.write_gather(pieces), 13U);
	EXPECT_EQ(p.write_end.write_some("!"), 1U);
	p.write_end.close();
	collect(s.lid());
	EXPECT_EQ(got, "one two three!");
}

TEST(Pipe, ADeadlineReportsWhatAFullPipeTook) {
	const std::string sent = pattern(1'000'000);
	lwp::pipe p;
	std::error_code error;
	const std::size_t n = until_some([&](const lwp::io_limit &limit) { return p.write_end.write_all(sent, error, limit); });
	EXPECT_EQ(error, std::errc::timed_out);
	p.write_end.close();
	std::string got(sent.size(), '\0');
	got.resize(p.read_end.read_exactly(got, error));
	EXPECT_EQ(got.size(), n);
	EXPECT_TRUE(sent.starts_with(got));
}

TEST(Pipe, NoneLeft) {
	rlimit old{};
	ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
	{ lwp::pipe first; }  // whatever the library opens it has by now
	const rlimit none{3, old.rlim_max};
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
	std::error_code error;
	const lwp::pipe p(error);
	const std::error_code thrown = thrown_by([] { lwp::pipe q; });
	ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
	EXPECT_EQ(error, std::errc::too_many_files_open);
	EXPECT_EQ(thrown, std::errc::too_many_files_open);
	EXPECT_FALSE(p.read_end.is_open() || p.write_end.is_open());
}

// What the page cache has comes at once, the rest from the disk; a read may meet the edge between them, and the end of the file.
TEST(File, ReadsAreRightWhateverThePageCacheHas) {
	constexpr std::size_t size = 256 * 1024 + 1000;
	lwp::file f = temporary();
	const std::string out = pattern(size);
	f.write_all(out);
	f.sync();
	dice d(seed());
	std::string got;
	for (int i = 0; i < 200; i++) {
		const auto from = static_cast<off_t>(d.below(size));
		(void)::posix_fadvise(f.native_handle(), from & ~4095, d.below(64 * 1024), POSIX_FADV_DONTNEED);
		const std::size_t at = d.below(size + 10);
		got.assign(d.below(100'000), '\0');
		const std::size_t n = f.read_at(static_cast<std::int64_t>(at), got);
		EXPECT_EQ(n, std::min(got.size(), size - std::min(at, size)));
		EXPECT_TRUE(got.compare(0, n, out, std::min(at, size), n) == 0);
	}
}

TEST(File, DirectReads) {
	char name[] = "./lwp_direct_XXXXXX";  // not in /tmp, which may have no such reads
	const int fd = ::mkostemp(name, O_CLOEXEC);
	ASSERT_GE(fd, 0);
	const std::string out = pattern(64 * 1024);
	lwp::file(fd).write_all(out);
	std::error_code error;
	lwp::file f(name, {.flags = O_DIRECT}, error);
	EXPECT_EQ(::unlink(name), 0);
	if (error == std::errc::invalid_argument) {
		GTEST_SKIP() << "this file system has no O_DIRECT";
	}
	ASSERT_FALSE(error) << error.message();
	const std::unique_ptr<char, decltype(&std::free)> buffer(static_cast<char *>(std::aligned_alloc(4096, 8192)), std::free);
	for (std::size_t at = 0; at < out.size(); at += 8192) {
		const std::size_t n = f.read_exactly_at(static_cast<std::int64_t>(at), {buffer.get(), 8192});
		EXPECT_TRUE(std::string_view(buffer.get(), n) == std::string_view(out).substr(at, 8192));
	}
}
