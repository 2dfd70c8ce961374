// SPDX-License-Identifier: BSD-2-Clause
#include "io/direct.h"

#include "base/sys.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <mutex>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace lwp::kern {
namespace {

long word(const void *p) noexcept { return reinterpret_cast<long>(p); }
long word(void *p) noexcept { return reinterpret_cast<long>(p); }  // what the kernel writes to need not have a value
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

/// An open in nonblocking mode, if the kernel can say at once what the path names: else it would have to ask a disk.  In blocking mode it may have to
/// wait for more than that.
long open_now(const io_op *op) noexcept {
	if ((op->o_flags & O_NONBLOCK) == 0) {
		return -EOPNOTSUPP;
	}
	open_how how{};
	how.flags = static_cast<unsigned>(op->o_flags);
	how.resolve = RESOLVE_CACHED;
	const long fd = sys::call(SYS_openat2, op->o_off, word(op->o_addr), word(&how), sizeof(how));
	// It does not create files, is stricter than openat(2), and may be missing or forbidden.
	return fd == -EAGAIN || fd == -EINVAL || fd == -ENOSYS || fd == -EPERM ? -EOPNOTSUPP : fd;
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

namespace {

/// An attempt that a flag of the call keeps from waiting.  -EOPNOTSUPP: there is no such flag
long try_by_flag(const io_op *op) noexcept {
	const iovec one{op->o_addr, op->o_len};
	switch (op->o_kind) {
	case io_kind::read:
		return try_vector(op, SYS_preadv2, &one, 1);
	case io_kind::readv:
		return try_vector(op, SYS_preadv2, static_cast<const iovec *>(op->o_addr), length(op));
	case io_kind::write:
		return try_vector(op, SYS_pwritev2, &one, 1);
	case io_kind::writev:
		return try_vector(op, SYS_pwritev2, static_cast<const iovec *>(op->o_addr), length(op));
	case io_kind::recv:
		return sys::call(SYS_recvfrom, op->o_fd, word(op->o_addr), length(op), op->o_flags | MSG_DONTWAIT, 0, 0);
	case io_kind::send:
		return sys::call(SYS_sendto, op->o_fd, word(op->o_addr), length(op), op->o_flags | MSG_DONTWAIT, 0, 0);
	case io_kind::recvmsg:
		return sys::call(SYS_recvmsg, op->o_fd, word(op->o_addr), op->o_flags | MSG_DONTWAIT);
	case io_kind::sendmsg:
		return sys::call(SYS_sendmsg, op->o_fd, word(op->o_addr), op->o_flags | MSG_DONTWAIT);
	case io_kind::poll:
		return poll_once(op);
	case io_kind::openat:
		return open_now(op);
	default:
		return -EOPNOTSUPP;
	}
}

/// Whether its descriptor may have to be waited for, which poll(2) can do.  One that nothing can be learnt of may: for poll(2) a file is always ready.
bool waits(const io_op *op) noexcept {
	return io_of_socket(op->o_kind) || op->o_kind == io_kind::poll || (op->o_kind <= io_kind::writev && io_pollable(op->o_fd) != 0);
}

}  // namespace

long io_try(io_op *op) noexcept {
	const long result = try_by_flag(op);
	if (result != -EOPNOTSUPP || !waits(op)) {
		return result;
	}
	// accept and connect; a terminal, or a pipe of an older kernel
	return for_a_moment_nonblocking(op->o_fd, [op] { return io_call(op); });
}

bool io_no_wait(const io_op *op) noexcept {
	const bool flagged = op->o_kind >= io_kind::recv && op->o_kind <= io_kind::sendmsg && (op->o_flags & MSG_DONTWAIT) != 0;
	return flagged || (op->o_kind != io_kind::poll && io_nonblocking(op->o_fd));
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

// As far as the kernel can say at once what the path names; where it must ask a disk, nothing is said.
bool io_waits_for_other_end(const io_op *op) noexcept {
	if ((op->o_flags & (O_NONBLOCK | O_PATH | O_DIRECTORY)) != 0 || (op->o_flags & O_ACCMODE) == O_RDWR) {
		return false;
	}
	open_how how{};
	how.flags = O_PATH | O_CLOEXEC;
	how.resolve = RESOLVE_CACHED;
	const long fd = sys::call(SYS_openat2, op->o_off, word(op->o_addr), word(&how), sizeof(how));
	if (fd < 0) {
		return false;
	}
	struct stat st {};
	const bool fifo = sys::call(SYS_fstat, fd, word(&st)) == 0 && S_ISFIFO(st.st_mode);
	(void)sys::call(SYS_close, fd);
	return fifo;
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

constexpr nanotime look_again = 5'000'000;     // where there is no eventfd
constexpr nanotime backlog_again = 1'000'000;  // a full backlog: nothing tells when there is room

/// Waits for its descriptor, if `events` names any, at most for `most`.  1 ready | 0 try again | below 0: it is over
long await_direct(io_op *op, int events, nanotime most) noexcept {
	if (op->o_wakefd.load(std::memory_order_relaxed) < 0) {  // relaxed: our own
		const long fd = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd >= 0) {
			op->o_wakefd.store(static_cast<int>(fd), std::memory_order_seq_cst);  // before we look at o_end: see ask()
		} else {
			most = std::min(most, look_again);  // no descriptors are left
		}
	}
	if (op->o_end.load(std::memory_order_seq_cst) != io_end::none) {
		return -ECANCELED;
	}
	const nanotime when = now(), limit = std::min(op->o_deadline, op->o_give_up);
	if (when >= limit) {
		return when >= op->o_deadline ? -ETIMEDOUT : op->o_kind == io_kind::connect ? -EINPROGRESS : -EAGAIN;
	}
	const nanotime until = std::min(limit, after(when, most));
	const timespec left = to_timespec(until - when);
	pollfd p[2] = {{events != 0 ? op->o_fd : -1, static_cast<short>(events), 0}, {op->o_wakefd.load(std::memory_order_relaxed), POLLIN, 0}};
	(void)sys::call(SYS_ppoll, word(p), 2, until == never ? 0 : word(&left), 0, 8);
	return p[0].revents != 0 ? 1 : 0;
}

}  // namespace

// Attempts and waits in turn, and never a call that blocks where another could take what the wait was for: nobody could end that.  An attempt that needs
// O_NONBLOCK for a moment is made after the wait, when it is sure to be short.
long io_direct(io_op *op) noexcept {
	if (op->o_end.load(std::memory_order_relaxed) != io_end::none) {  // since its limits were looked at.  relaxed: io_finish() acquires
		return -ECANCELED;
	}
	long result = op->o_fd >= 0 ? try_by_flag(op) : -EOPNOTSUPP;
	if (result != -EAGAIN && result != -EOPNOTSUPP) {
		return result;
	}
	if (!waits(op) || io_no_wait(op)) {
		return io_call(op);
	}
	const bool connects = op->o_kind == io_kind::connect;
	const bool unix_connect = connects && io_family(op->o_fd) == AF_UNIX;
	if (connects) {
		result = io_try(op);
		if (result == -EAGAIN && !unix_connect) {
			return result;  // it is not under way: see epoll.cpp
		}
	}
	if (op->o_deadline == never && io_timeout_option(op->o_kind) != 0) {
		const nanotime timeout = io_socket_timeout(op);
		op->o_give_up = timeout == 0 ? never : after(now(), timeout);
	}
	const int events = unix_connect ? 0 : op->o_kind == io_kind::poll ? op->o_flags : io_events(op->o_kind);
	while (result == -EAGAIN || result == -EINPROGRESS || result == -EOPNOTSUPP) {
		const long ready = await_direct(op, events, unix_connect ? backlog_again : never);
		if (ready < 0) {
			return ready;
		}
		if (unix_connect || (ready > 0 && !connects)) {
			result = io_try(op);
		} else if (ready > 0) {
			result = io_connected(op->o_fd);
		}
	}
	return result;
}

void io_unreachable(io_op *op) noexcept {
	(void)sys::call(SYS_close, op->o_wakefd.load(std::memory_order_relaxed));  // relaxed: our own
}

long io_connected(int fd) noexcept {
	int error = 0;
	socklen_t size = sizeof(error);
	const long result = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, word(&error), word(&size));
	return result < 0 ? result : -error;
}

}  // namespace lwp::kern
