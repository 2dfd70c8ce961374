// SPDX-License-Identifier: BSD-2-Clause
#include "io/direct.h"

#include "base/sys.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <sys/stat.h>
#include <sys/uio.h>

namespace lwp::kern {
namespace {

long word(const void *p) noexcept { return reinterpret_cast<long>(p); }
long length(const io_op *op) noexcept { return static_cast<long>(op->o_len); }

// While it is held O_NONBLOCK may be set that is not the application's.  Kernel threads, a microsecond or two, no switch.
std::mutex moment;

/// One attempt of a call that has no flag for it: O_NONBLOCK is set for the moment.  It belongs to the open file, so attempts on one file must
/// not overlap; one lock for all is enough where this is needed at all.
template <class Call>
long for_a_moment_nonblocking(int fd, Call call) noexcept {
	std::lock_guard hold(moment);
	const long flags = sys::file_flags(fd, F_GETFL);
	if (flags < 0) {
		return flags;
	}
	if ((flags & O_NONBLOCK) != 0) {
		return call();
	}
	(void)sys::file_flags(fd, F_SETFL, flags | O_NONBLOCK);
	const long result = call();
	(void)sys::file_flags(fd, F_SETFL, flags);
	return result;
}

/// preadv2() and pwritev2() with RWF_NOWAIT, which not every file knows.
long try_vector(const io_op *op, long number, const iovec *iov, long count) noexcept {
	constexpr long nowait = 0x8;  // RWF_NOWAIT
	return sys::call(number, op->o_fd, word(iov), count, op->o_off, 0, nowait);
}

long poll_once(const io_op *op) noexcept {
	pollfd p{op->o_fd, static_cast<short>(op->o_flags), 0};
	const timespec zero{};
	const long n = sys::call(SYS_ppoll, word(&p), 1, word(&zero), 0, 8);
	return n < 0 ? n : n == 0 ? -EAGAIN : p.revents;
}

}  // namespace

long io_call(io_op *op) noexcept {
	const bool here = op->o_off == io_here;
	switch (op->o_kind) {
	case io_kind::read:
		return here ? sys::call(SYS_read, op->o_fd, word(op->o_addr), length(op))
		            : sys::call(SYS_pread64, op->o_fd, word(op->o_addr), length(op), op->o_off);
	case io_kind::write:
		return here ? sys::call(SYS_write, op->o_fd, word(op->o_addr), length(op))
		            : sys::call(SYS_pwrite64, op->o_fd, word(op->o_addr), length(op), op->o_off);
	case io_kind::readv:
		return sys::call(SYS_preadv2, op->o_fd, word(op->o_addr), length(op), op->o_off, 0, 0);
	case io_kind::writev:
		return sys::call(SYS_pwritev2, op->o_fd, word(op->o_addr), length(op), op->o_off, 0, 0);
	case io_kind::recv:
		return sys::call(SYS_recvfrom, op->o_fd, word(op->o_addr), length(op), op->o_flags, 0, 0);
	case io_kind::send:
		return sys::call(SYS_sendto, op->o_fd, word(op->o_addr), length(op), op->o_flags, 0, 0);
	case io_kind::recvmsg:
		return sys::call(SYS_recvmsg, op->o_fd, word(op->o_addr), op->o_flags);
	case io_kind::sendmsg:
		return sys::call(SYS_sendmsg, op->o_fd, word(op->o_addr), op->o_flags);
	case io_kind::accept:
		return sys::call(SYS_accept4, op->o_fd, word(op->o_addr), word(op->o_addrlen), op->o_flags);
	case io_kind::connect:
		return sys::call(SYS_connect, op->o_fd, word(op->o_addr), length(op));
	case io_kind::poll: {
		pollfd p{op->o_fd, static_cast<short>(op->o_flags), 0};
		const long n = sys::call(SYS_ppoll, word(&p), 1, 0, 0, 8);
		return n < 0 ? n : p.revents;
	}
	case io_kind::fsync:
		return sys::call(op->o_flags != 0 ? SYS_fdatasync : SYS_fsync, op->o_fd);
	case io_kind::openat:
		return sys::call(SYS_openat, op->o_off, word(op->o_addr), op->o_flags, length(op));
	case io_kind::call:
		return op->o_call(op);
	}
	return -ENOSYS;
}

long io_try(io_op *op) noexcept {
	const iovec one{op->o_addr, op->o_len};
	long result = -EOPNOTSUPP;
	switch (op->o_kind) {
	case io_kind::read:
		result = try_vector(op, SYS_preadv2, &one, 1);
		break;
	case io_kind::readv:
		result = try_vector(op, SYS_preadv2, static_cast<const iovec *>(op->o_addr), length(op));
		break;
	case io_kind::write:
		result = try_vector(op, SYS_pwritev2, &one, 1);
		break;
	case io_kind::writev:
		result = try_vector(op, SYS_pwritev2, static_cast<const iovec *>(op->o_addr), length(op));
		break;
	case io_kind::recv:
		return sys::call(SYS_recvfrom, op->o_fd, word(op->o_addr), length(op), op->o_flags | MSG_DONTWAIT, 0, 0);
	case io_kind::send:
		return sys::call(SYS_sendto, op->o_fd, word(op->o_addr), length(op), op->o_flags | MSG_DONTWAIT, 0, 0);
	case io_kind::recvmsg:
		return sys::call(SYS_recvmsg, op->o_fd, word(op->o_addr), op->o_flags | MSG_DONTWAIT);
	case io_kind::sendmsg:
		return sys::call(SYS_sendmsg, op->o_fd, word(op->o_addr), op->o_flags | MSG_DONTWAIT);
	case io_kind::accept:
	case io_kind::connect:
		return for_a_moment_nonblocking(op->o_fd, [op] { return io_call(op); });
	case io_kind::poll:
		return poll_once(op);
	default:
		return -EOPNOTSUPP;
	}
	if (result != -EOPNOTSUPP || io_pollable(op->o_fd) != 1) {
		return result;
	}
	return for_a_moment_nonblocking(op->o_fd, [op] { return io_call(op); });  // a terminal, or a pipe of an older kernel
}

// Not set: that is so.  Set: perhaps for the moment of another vCPU's attempt, and then a call that has to block would give EAGAIN.
bool io_nonblocking(int fd) noexcept {
	const auto set = [fd] {
		const long flags = sys::file_flags(fd, F_GETFL);
		return flags >= 0 && (flags & O_NONBLOCK) != 0;
	};
	if (LWP_LIKELY(!set())) {
		return false;
	}
	std::lock_guard hold(moment);
	return set();
}

int io_family(int fd) noexcept {
	int family = 0;
	socklen_t size = sizeof(family);
	const long error = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, word(&family), word(&size));
	return error < 0 ? static_cast<int>(error) : family;
}

nanotime io_socket_timeout(const io_op *op) noexcept {
	timeval tv{};
	socklen_t size = sizeof(tv);
	if (sys::call(SYS_getsockopt, op->o_fd, SOL_SOCKET, io_timeout_option(op->o_kind), word(&tv), word(&size)) != 0) {
		return 0;
	}
	return static_cast<nanotime>(tv.tv_sec) * 1'000'000'000U + static_cast<nanotime>(tv.tv_usec) * 1'000U;
}

int io_pollable(int fd) noexcept {
	struct stat st;
	const long error = sys::call(SYS_fstat, fd, word(&st));
	if (error < 0) {
		return static_cast<int>(error);
	}
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode) ? 0 : 1;
}

namespace {

/// accept(2) that blocks, except that it met the moment of another's attempt and says EAGAIN: then again.
long block_in_call(io_op *op) noexcept {
	for (;;) {
		const long result = io_call(op);
		if (result != -EAGAIN || op->o_kind != io_kind::accept || io_socket_timeout(op) != 0 || io_nonblocking(op->o_fd)) {
			return result;
		}
	}
}

/// Waits for the descriptor, the deadline, o_stopfd.  1 ready | 0 try again | -ETIMEDOUT | -ECANCELED
long await_direct(const io_op *op, int events, nanotime deadline) noexcept {
	const nanotime when = now();
	if (when >= op->o_deadline) {
		return -ETIMEDOUT;
	}
	const timespec left = to_timespec(deadline - when);
	pollfd p[2] = {{events != 0 ? op->o_fd : -1, static_cast<short>(events), 0}, {op->o_stopfd, POLLIN, 0}};
	(void)sys::call(SYS_ppoll, word(p), 2, deadline == never ? 0 : word(&left), 0, 8);
	return p[1].revents != 0 ? -ECANCELED : p[0].revents != 0 ? 1 : 0;
}

}  // namespace

long io_direct(io_op *op) noexcept {
	if (op->o_deadline == never && op->o_stopfd < 0) {
		return block_in_call(op);
	}
	const bool unix_connect = op->o_kind == io_kind::connect && io_family(op->o_fd) == AF_UNIX;
	for (;;) {
		const long result = io_try(op);
		if (result == -EOPNOTSUPP) {
			return io_call(op);  // a file: it takes what it takes
		}
		if ((result != -EAGAIN && result != -EINPROGRESS) || (op->o_kind != io_kind::poll && io_nonblocking(op->o_fd))) {
			return result;
		}
		// A full backlog: nothing tells when there is room.
		const int events = unix_connect ? 0 : op->o_kind == io_kind::poll ? op->o_flags : io_events(op->o_kind);
		const long ready = await_direct(op, events, unix_connect ? std::min(op->o_deadline, now() + 1'000'000) : op->o_deadline);
		if (ready < 0) {
			return ready;
		}
		if (ready > 0 && op->o_kind == io_kind::connect) {
			return io_connected(op->o_fd);
		}
	}
}

long io_connected(int fd) noexcept {
	int error = 0;
	socklen_t size = sizeof(error);
	const long result = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, word(&error), word(&size));
	return result < 0 ? result : -error;
}

}  // namespace lwp::kern
