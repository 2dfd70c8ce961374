// SPDX-License-Identifier: BSD-2-Clause
//
// io.hpp's transfers that take several parts, as one operation: a move, a close, a limit between two of them.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <memory>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using lwp::unix_stream;
using lwp::within;

/// A limit far away, so that the calls go the way that has one.
lwp::io_limit far() { return within(10min); }

/// transfer(limit), with longer and longer deadlines, until it got something done before one: it could be late from the beginning.
template <class Transfer>
std::size_t until_some(Transfer transfer) {
	std::size_t n = 0;
	for (auto time = 20ms; n == 0; time *= 2) {
		n = transfer(within(time));
	}
	return n;
}

/// How many bytes wait to be read from `fd`.
int unread(int fd) {
	int n = -1;
	EXPECT_EQ(::ioctl(fd, FIONREAD, &n), 0);
	return n;
}

}  // namespace

// The object is moved from between two parts: the transfer goes on where it began.
TEST(Parts, AMoveInBetweenChangesNothing) {
	auto [a, b] = unix_stream::pair();
	std::string got(2, '\0');
	std::error_code error;
	std::size_t n = 0;
	subject s([&, &from = a](subject &self) {
		self.about_to_block();
		n = from.read_exactly(got, error, far());
	});
	s.await_blocked();
	b.write_all("x");
	EXPECT_TRUE(wait_until([&, &from = a] { return unread(from.native_handle()) == 0; }));
	const unix_stream moved(std::move(a));
	b.write_all("y");
	collect(s.lid());
	EXPECT_FALSE(error) << error.message();
	EXPECT_EQ(n, 2U);
	EXPECT_EQ(got, "xy");
}

// A close meets the reader in a part or between two.  It ends the transfer, and the reader never gets what the number's next
// owner is sent.
TEST(Parts, ACloseEndsTheWholeTransfer) {
	dice d(seed());
	const std::size_t n = rounds(1000);
	for (std::size_t i = 0; i < n; i++) {
		auto [a, b] = unix_stream::pair();
		const int number = a.native_handle();
		std::string got(100, '\0');
		std::error_code error;
		std::size_t done = 0;
		subject reader([&, &from = a](subject &self) {
			self.about_to_block();
			done = from.read_exactly(got, error, i % 2 == 0 ? lwp::io_limit() : far());
		});
		reader.await_blocked();
		for (unsigned k = d.below(10); k > 0; k--) {
			b.write_all("x");
			if (d.one_in(3)) {
				lwp_yield();
			}
		}
		EXPECT_EQ(lwp_close(number), 0);
		auto [other, far_end] = unix_stream::pair();
		far_end.write_all(std::string(200, 'B'));
		collect(reader.lid());
		(void)a.release();
		EXPECT_EQ(error, std::errc::operation_canceled);
		EXPECT_EQ(got.substr(0, done), std::string(done, 'x'));
		EXPECT_EQ(got.find('B'), std::string::npos);
	}
}

// Where there is always something no part has to wait, and yet the deadline and the stop are seen.
TEST(Parts, LimitsAreSeenBetweenParts) {
	constexpr unsigned parts = 1 << 22;
	constexpr std::size_t size = parts * sizeof(std::uint64_t);
	lwp::file f(::eventfd(parts, EFD_SEMAPHORE | EFD_CLOEXEC));  // each read takes one off it
	const auto got = std::make_unique_for_overwrite<char[]>(size);
	std::error_code error;
	const std::size_t early = until_some([&](const lwp::io_limit &limit) { return f.read_exactly({got.get(), size}, error, limit); });
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_LT(early, size);
	std::stop_source stop;
	std::atomic<bool> begun{false};
	const lwpid_t reader = spawn([&] {
		begun = true;
		f.read_exactly({got.get(), size}, error, {.stop = stop.get_token()});
	});
	EXPECT_TRUE(wait_until([&] { return begun.load(); }));
	stop.request_stop();
	collect(reader);
	EXPECT_EQ(error, std::errc::operation_canceled);
}
