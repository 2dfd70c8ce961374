// SPDX-License-Identifier: BSD-2-Clause
#include "api/io_call.h"

#include "api/deadline.h"
#include "proc/lwp_life.h"

#include <cerrno>
#include <optional>

namespace lwp::kern {
namespace {

/// Ends an operation when a stop is requested.  The operation outlives the callback, whose destructor waits for one that is under way; one that
/// comes when the operation is over finds it done and lets it be.
struct ender {
	io_op *op;
	void operator()() const noexcept { io_cancel(op, io_end::stopped); }
};

/// Waits for what has begun.
void await(lwp_t *l, io_op *op) noexcept {
	l->l_interrupted = false;
	while (io_wait(l, op) == ERESTART) {
		lwp_userret(l);
		if (l->l_interrupted) {
			io_cancel(op, io_end::interrupted);  // a handler without SA_RESTART: EINTR, unless it is done already
		}
	}
}

/// carry_out(), which begins and finishes `op`, with a limit.
template <class CarryOut>
long within_limit(lwp_t *l, io_op *op, const io_limit &limit, CarryOut carry_out) noexcept {
	if (const int error = io_limit_reached(limit); error != 0) {
		lwp_userret(l);
		return error;
	}
	op->o_deadline = to_nanotime(limit.deadline);
	if (!limit.stop.stop_possible()) {
		return carry_out();
	}
	const std::stop_callback<ender> callback(limit.stop, ender{op});
	return carry_out();
}

}  // namespace

long io_run(lwp_t *l, io_op *op) noexcept {
	if (io_begin(l, op)) {
		await(l, op);
	}
	const long result = io_finish(l, op);
	lwp_userret(l);
	return result;
}

long io_run_all(lwp_t *l, io_op *op, const io_limit &limit, std::size_t *done) noexcept {
	io_parts parts{[](io_parts &, io_op *o) noexcept {
		const auto n = static_cast<std::size_t>(o->o_result);
		o->o_addr = static_cast<char *>(o->o_addr) + n;
		o->o_len -= n;
		o->o_off += o->o_off != io_here ? o->o_result : 0;
		return o->o_len != 0;
	}};
	const long result = io_run_parts(l, op, limit, parts);
	*done = parts.done;
	return result;
}

int io_limit_reached(const io_limit &limit) noexcept {
	if (limit.stop.stop_requested()) {
		return -ECANCELED;
	}
	return limit.deadline != detail::steady_time::max() && now() >= to_nanotime(limit.deadline) ? -ETIMEDOUT : 0;
}

long io_run(lwp_t *l, io_op *op, const io_limit &limit) noexcept {
	return within_limit(l, op, limit, [=]() noexcept { return io_run(l, op); });
}

long io_run_parts(lwp_t *l, io_op *op, io_parts &parts) noexcept {
	bool begun = io_begin(l, op);
	for (;;) {
		if (begun) {
			await(l, op);
		}
		if (op->o_result <= 0) {
			break;
		}
		parts.done += static_cast<std::size_t>(op->o_result);
		if (!parts.next(parts, op)) {
			break;
		}
		lwp_userret(l);
		begun = io_begin_next(l, op);
	}
	const long result = io_finish(l, op);
	lwp_userret(l);
	return result;
}

long io_run_parts(lwp_t *l, io_op *op, const io_limit &limit, io_parts &parts) noexcept {
	return within_limit(l, op, limit, [&]() noexcept { return io_run_parts(l, op, parts); });
}

long io_simple(io_kind kind, int fd, const void *addr, std::size_t len, int flags, off_t off, const io_limit *limit) noexcept {
	const in_library l;
	if (fd < 0) {
		return -EBADF;
	}
	io_op op(l, kind, fd);
	op.o_addr = const_cast<void *>(addr);
	op.o_len = len;
	op.o_flags = flags;
	op.o_off = off;
	return limit != nullptr ? io_run(l, &op, *limit) : io_run(l, &op);
}

long io_ready(lwp_t *l, int fd, int events, nanotime deadline) noexcept {
	io_op op(l, io_kind::poll, fd);
	op.o_flags = events;
	op.o_deadline = deadline;
	return io_run(l, &op);
}

long io_ready(lwp_t *l, int fd, int events, const io_limit &limit) noexcept {
	io_op op(l, io_kind::poll, fd);
	op.o_flags = events;
	return io_run(l, &op, limit);
}

}  // namespace lwp::kern
