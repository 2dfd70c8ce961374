// SPDX-License-Identifier: BSD-2-Clause
//
// What both faces of I/O (c_io.cpp and the files of the C++ classes) make their calls from: an operation carried out to its end, or until a
// limit; repeated until all is done; on a helper thread.  Results are 0 or more, or -errno; every form passes the boundary.
#pragma once

#include "io/op.h"
#include "proc/runtime.h"

#include <lwp/io.hpp>

namespace lwp::kern {

/// To its end.
long io_run(lwp_t *, io_op *) noexcept;
/// To its end or the limit: ETIMEDOUT | ECANCELED.  If the limit has come already, nothing is begun.
long io_run(lwp_t *, io_op *, const io_limit &) noexcept;

/// How an operation is carried on until all is done.
struct io_parts {
	/// Says by `op` what is to come after done bytes; false: nothing.
	bool (*next)(io_parts &, io_op *op) noexcept;
	std::size_t done = 0;
};
/// Part after part, as one operation: its descriptor is looked at once, and a close ends all of it.  The last part's result: 0 the end of the
/// stream, -errno what ended it; parts.done tells how much was done before.
long io_run_parts(lwp_t *, io_op *, io_parts &) noexcept;
long io_run_parts(lwp_t *, io_op *, const io_limit &, io_parts &) noexcept;
/// The same for one buffer.
long io_run_all(lwp_t *, io_op *, const io_limit &, std::size_t *done) noexcept;

/// 0 | -ETIMEDOUT | -ECANCELED: it has come.
[[nodiscard]] int io_limit_reached(const io_limit &) noexcept;

/// An operation of which buffer, size and flags are all there is to say.  EBADF below 0.
long io_simple(
    io_kind kind, int fd, const void *addr, std::size_t len, int flags, off_t off = io_here, const io_limit *limit = nullptr) noexcept;

/// Waits until `fd` is ready for `events`: which of them, or -errno.
long io_ready(lwp_t *, int fd, int events, const io_limit &) noexcept;
long io_ready(lwp_t *, int fd, int events, nanotime deadline) noexcept;

/// Until all of `len` is done, or an error comes, or the other side ends.  `again` is told how much is done.
template <class Again>
long io_whole(std::size_t len, Again again) noexcept {
	std::size_t done = 0;
	for (;;) {
		const long result = again(done);
		if (result < 0) {
			return done != 0 ? static_cast<long>(done) : result;
		}
		done += static_cast<std::size_t>(result);
		if (result == 0 || done >= len) {
			return static_cast<long>(done);
		}
	}
}

/// A helper thread's call with its arguments.
template <class Call>
struct call_op : io_op {
	call_op(lwp_t *l, Call c) noexcept : io_op(l, io_kind::call, -1), call(c) {
		o_call = [](io_op *op) { return static_cast<call_op *>(op)->call(); };
	}
	Call call;
};

enum class helped : bool { soon, endless };

/// call() on a helper thread; at once on an adopted kernel thread.  Nothing ends it early.  `endless`: what it waits for may never come.
template <class Call>
long io_helped(Call call, helped until = helped::soon) noexcept {
	const in_library l;
	call_op op(l, call);
	op.o_endless = until == helped::endless;
	return io_run(l, &op);
}

}  // namespace lwp::kern
