// SPDX-License-Identifier: BSD-2-Clause
//
// The POSIX face: each call is one operation or a few, and passes the boundary on its way out.
#include "api/errno.h"
#include "api/io_call.h"
#include "base/sys.h"
#include "io/descriptor.h"
#include "io/direct.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"

#include <lwp/io.h>

#include <algorithm>
#include <climits>
#include <cstdarg>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <new>
#include <sys/epoll.h>
#include <sys/wait.h>

namespace lwp::kern {
namespace {

long posix(long result) noexcept {
	if (LWP_LIKELY(result >= 0)) {
		return result;
	}
	set_errno(static_cast<int>(-result));
	return -1;
}

const char *at(const void *p, std::size_t offset) noexcept { return static_cast<const char *>(p) + offset; }

/// Until all of it is done, an error comes, or the other side ends.
long whole(io_kind kind, int fd, const void *buffer, std::size_t size, int flags, off_t offset = io_here) noexcept {
	const in_library l;
	if (fd < 0) {
		return -EBADF;
	}
	io_op op(l, kind, fd);
	op.o_addr = const_cast<void *>(buffer);
	op.o_len = size;
	op.o_flags = flags;
	op.o_off = offset;
	std::size_t done = 0;
	const long result = io_run_all(l, &op, {}, &done);
	return done != 0 ? static_cast<long>(done) : result;
}

/// More bytes than a result can count.  read(2) and write(2) refuse that; a ring's requests have 32 bits for a size, so the kernel would not see it.
bool too_long(std::size_t size) noexcept { return size > SSIZE_MAX; }

long read_some(int fd, void *buffer, std::size_t size, off_t offset = io_here) noexcept {
	return LWP_UNLIKELY(too_long(size) && fd >= 0) ? -EINVAL : io_simple(io_kind::read, fd, buffer, size, 0, offset);
}

long write_all(int fd, const void *buffer, std::size_t size, off_t offset = io_here) noexcept {
	return LWP_UNLIKELY(too_long(size) && fd >= 0) ? -EINVAL : whole(io_kind::write, fd, buffer, size, 0, offset);
}

long send_all(int fd, const void *buffer, std::size_t size, int flags) noexcept { return whole(io_kind::send, fd, buffer, size, flags); }

/// After the first `done` bytes of some buffers were transferred: the rest of them, one by one, by one(buffer, size).
template <class One>
long rest_of(const iovec *iov, std::size_t count, std::size_t done, One one) noexcept {
	auto total = static_cast<long>(done);
	for (std::size_t i = 0; i < count; i++) {
		const std::size_t skip = std::min(done, iov[i].iov_len);
		done -= skip;
		if (skip == iov[i].iov_len) {
			continue;
		}
		const long result = one(at(iov[i].iov_base, skip), iov[i].iov_len - skip);
		total += std::max(result, 0L);
		if (result < 0 || static_cast<std::size_t>(result) < iov[i].iov_len - skip) {
			break;
		}
	}
	return total;
}

std::size_t length_of(const iovec *iov, std::size_t count) noexcept {
	std::size_t sum = 0;
	for (std::size_t i = 0; i < count; i++) {
		sum += iov[i].iov_len;
	}
	return sum;
}

long send_message(int fd, const msghdr *message, int flags) noexcept {
	const long result = io_simple(io_kind::sendmsg, fd, message, 1, flags);
	if (result <= 0 || static_cast<std::size_t>(result) >= length_of(message->msg_iov, message->msg_iovlen)) {
		return result;
	}
	// A stream took a part of it, with the control data.
	return rest_of(message->msg_iov, message->msg_iovlen, static_cast<std::size_t>(result),
	    [=](const void *p, std::size_t n) { return send_all(fd, p, n, flags); });
}

bool is_stream(int fd) noexcept {
	int type = 0;
	socklen_t size = sizeof(type);
	return sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, reinterpret_cast<long>(&type), reinterpret_cast<long>(&size)) == 0 &&
	    type == SOCK_STREAM;
}

/// What the kernel's own calls do with these flags by themselves, and a ring does not.  Errors and urgent bytes are there or are not: neither is ever
/// waited for.  MSG_WAITALL is for bytes of a stream that are taken out of it: a ring would put messages together, and would peek at the same
/// bytes again and again until it has enough.
int receive_flags(int fd, int flags) noexcept {
	if ((flags & MSG_WAITALL) != 0 && ((flags & MSG_PEEK) != 0 || !is_stream(fd))) {
		flags &= ~MSG_WAITALL;
	}
	return (flags & (MSG_ERRQUEUE | MSG_OOB)) != 0 ? flags | MSG_DONTWAIT : flags;
}

long receive_message(int fd, msghdr *message, int flags) noexcept {
	flags = receive_flags(fd, flags);
	const long result = io_simple(io_kind::recvmsg, fd, message, 1, flags);
	if ((flags & (MSG_WAITALL | MSG_DONTWAIT)) != MSG_WAITALL || result <= 0 || message->msg_control != nullptr ||
	    static_cast<std::size_t>(result) >= length_of(message->msg_iov, message->msg_iovlen)) {
		return result;
	}
	// A ring has waited for all of it, and this is the end of the stream; elsewhere it took what was there.
	return rest_of(message->msg_iov, message->msg_iovlen, static_cast<std::size_t>(result),
	    [=](const void *p, std::size_t n) { return whole(io_kind::recv, fd, p, n, flags); });
}

/// The events, 0 at the deadline, -errno
long ready(lwp_t *l, int fd, int events, nanotime deadline) noexcept {
	const long result = io_ready(l, fd, events, deadline);
	return result == -ETIMEDOUT ? 0 : result;
}

long poll_now(pollfd *fds, nfds_t count) noexcept {
	const timespec zero{};
	return sys::call(SYS_ppoll, reinterpret_cast<long>(fds), static_cast<long>(count), reinterpret_cast<long>(&zero), 0, 8);
}

/// An epoll instance over all of them, which itself can be waited for.  -errno; -EBADF: one of them names nothing
long gather(const pollfd *fds, nfds_t count) noexcept {
	const long set = sys::call(SYS_epoll_create1, EPOLL_CLOEXEC);
	for (nfds_t i = 0; set >= 0 && i < count; i++) {
		if (fds[i].fd < 0) {
			continue;
		}
		epoll_event event{};
		event.events = static_cast<unsigned short>(fds[i].events);
		long error = sys::call(SYS_epoll_ctl, set, EPOLL_CTL_ADD, fds[i].fd, reinterpret_cast<long>(&event));
		if (error == -EEXIST) {  // named twice
			for (nfds_t k = 0; k < i; k++) {
				event.events |= fds[k].fd == fds[i].fd ? static_cast<unsigned short>(fds[k].events) : 0U;
			}
			error = sys::call(SYS_epoll_ctl, set, EPOLL_CTL_MOD, fds[i].fd, reinterpret_cast<long>(&event));
		}
		if (error < 0 && error != -EPERM) {  // files are always ready, and poll(2) has said so if anybody asked
			(void)sys::call(SYS_close, set);
			return error;
		}
	}
	return set;
}

/// Nothing is ready yet.  As poll(2).
long poll_one(lwp_t *l, pollfd *one, nanotime deadline) noexcept {
	const long n = ready(l, one->fd, one->events, deadline);
	if (n > 0) {
		one->revents = static_cast<short>(n);
		return 1;
	}
	if (n == -ECANCELED) {  // closed by lwp_close(): whatever has the number now, it is not ours
		one->revents = POLLNVAL;
		return 1;
	}
	const long seen = poll_now(one, 1);
	return seen != 0 ? seen : n;
}

/// The wait of lwp_poll() on several: for their epoll instance, as one operation however often it turns out that another has taken what was there.
struct poll_parts : io_parts {
	poll_parts(pollfd *f, nfds_t n) noexcept
	    : io_parts{[](io_parts &self, io_op *) noexcept { return static_cast<poll_parts &>(self).look() == 0; }}, fds(f), count(n) {}
	long look() noexcept { return seen = poll_now(fds, count); }

	pollfd *fds;
	nfds_t count;
	long seen = 0;
};

/// Has `op` ended when one of `fds` is closed.  0 | EBADF: one is being closed | ENOMEM
int watch_all(lwp_t *l, io_op *op, const pollfd *fds, nfds_t count, fd_watch *watches) noexcept {
	int result = 0;
	for (nfds_t i = 0; i < count && result != ENOMEM; i++) {
		if (fds[i].fd < 0) {
			continue;
		}
		watches[i].w_op = op;
		watches[i].w_fd = fds[i].fd;
		int error;
		while ((error = descriptor_watch(&watches[i], l->l_cpu)) == EAGAIN) {
			lwp_yield_cpu(l);
		}
		if (error == EBADF) {
			watches[i].w_closed = true;  // it is not on the list; one that is belongs to whoever closes
		}
		result = error != 0 ? error : result;
	}
	return result;
}

/// Nothing is ready yet.  As poll(2); each that lwp_close() has closed gives POLLNVAL.
long poll_several(lwp_t *l, pollfd *fds, nfds_t count, nanotime deadline) noexcept {
	const std::unique_ptr<fd_watch[]> watches(new (std::nothrow) fd_watch[count]);
	if (watches == nullptr) {
		return -ENOMEM;
	}
	io_op op(l, io_kind::poll, -1);
	op.o_flags = POLLIN;
	op.o_deadline = deadline;
	poll_parts parts(fds, count);
	// From the first watch on a close may have the operation ended, before it has begun, too: it sees that as it begins.  Such a close waits until the
	// watch is gone, so what we look at meanwhile is what the numbers named; and what it wrote into the watch we read after taking that off.
	long n = -watch_all(l, &op, fds, count, watches.get());
	const long set = n == 0 ? gather(fds, count) : n;
	if (set >= 0) {
		op.o_fd = static_cast<int>(set);
		n = io_run_parts(l, &op, parts);
	} else {
		n = set;
		lwp_userret(l);
	}
	if (parts.seen == 0) {
		parts.look();  // before they are left: until then each number is what it was
	}
	for (nfds_t i = 0; i < count; i++) {
		if (watches[i].w_listed) {
			descriptor_unwatch(&watches[i], l->l_cpu);
		}
	}
	if (set >= 0) {
		(void)sys::call(SYS_close, set);
	}
	if (parts.seen < 0) {
		return parts.seen;
	}
	long seen = parts.seen;
	for (nfds_t i = 0; i < count; i++) {
		if (watches[i].w_closed) {
			seen += fds[i].revents == 0 ? 1 : 0;
			fds[i].revents = POLLNVAL;
		}
	}
	return seen != 0 ? seen : n == -ETIMEDOUT ? 0 : n;
}

long poll_until(pollfd *fds, nfds_t count, nanotime deadline) noexcept {
	const in_library l;
	if (const long n = poll_now(fds, count); n != 0 || deadline == 0) {
		lwp_userret(l);
		return n;
	}
	if (count == 1 && fds[0].fd >= 0) {
		return poll_one(l, fds, deadline);
	}
	long result;
	do {
		result = poll_several(l, fds, count, deadline);
	} while (result == -EBADF);  // a number named nothing for a moment, and then something again
	return result;
}

/// The deadline after `time`.  0 | EINVAL
int deadline_after(const timespec &time, nanotime *deadline) noexcept {
	if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= 1'000'000'000) {
		return EINVAL;
	}
	const auto seconds = static_cast<nanotime>(time.tv_sec);
	const nanotime all = seconds > never / 1'000'000'000U - 1 ? never : seconds * 1'000'000'000U + static_cast<nanotime>(time.tv_nsec);
	*deadline = all == 0 ? 0 : after(now(), all);
	return 0;
}

long sendfile_all(int out, int in, off_t *offset, std::size_t count) noexcept {
	constexpr std::size_t piece = 64 * 1024;
	const std::unique_ptr<char[]> buffer(new (std::nothrow) char[std::min(count, piece)]);
	if (buffer == nullptr) {
		return -ENOMEM;
	}
	return io_whole(count, [&](std::size_t done) -> long {
		const long got =
		    io_simple(io_kind::read, in, buffer.get(), std::min(count - done, piece), 0, offset != nullptr ? *offset : io_here);
		if (got <= 0) {
			return got;
		}
		const long put = write_all(out, buffer.get(), static_cast<std::size_t>(got));
		if (offset != nullptr) {
			*offset += std::max(put, 0L);
		} else if (put < got) {
			(void)sys::call(SYS_lseek, in, std::max(put, 0L) - got, SEEK_CUR);  // what was read and not sent
		}
		return put;
	});
}

}  // namespace
}  // namespace lwp::kern

using namespace lwp::kern;

extern "C" {

ssize_t lwp_read(int fd, void *buffer, size_t size) { return posix(read_some(fd, buffer, size)); }

ssize_t lwp_readv(int fd, const struct iovec *iov, int count) {
	return posix(count < 0 || count > 1024 ? -EINVAL : io_simple(io_kind::readv, fd, iov, static_cast<size_t>(count), 0));
}

ssize_t lwp_pread(int fd, void *buffer, size_t size, off_t offset) {
	return posix(offset < 0 ? -EINVAL : read_some(fd, buffer, size, offset));
}

ssize_t lwp_write(int fd, const void *buffer, size_t size) { return posix(write_all(fd, buffer, size)); }

ssize_t lwp_writev(int fd, const struct iovec *iov, int count) {
	if (count < 0 || count > 1024) {
		return posix(-EINVAL);
	}
	const auto n = static_cast<size_t>(count);
	const long result = io_simple(io_kind::writev, fd, iov, n, 0);
	if (result <= 0 || static_cast<size_t>(result) >= length_of(iov, n)) {
		return posix(result);
	}
	return rest_of(iov, n, static_cast<size_t>(result), [fd](const void *p, size_t size) { return write_all(fd, p, size); });
}

ssize_t lwp_pwrite(int fd, const void *buffer, size_t size, off_t offset) {
	return posix(offset < 0 ? -EINVAL : write_all(fd, buffer, size, offset));
}

int lwp_fsync(int fd) { return static_cast<int>(posix(io_simple(io_kind::fsync, fd, nullptr, 0, 0))); }

int lwp_fdatasync(int fd) { return static_cast<int>(posix(io_simple(io_kind::fsync, fd, nullptr, 0, 1))); }

int lwp_openat(int directory, const char *path, int flags, ...) {
	mode_t mode = 0;
	if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
		va_list arguments;
		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	const in_library l;
	io_op op(l, io_kind::openat, -1);
	op.o_addr = const_cast<char *>(path);
	op.o_flags = flags;
	op.o_len = mode;
	op.o_off = directory;
	return static_cast<int>(posix(io_run(l, &op)));
}

int lwp_close(int fd) {
	const in_library l;
	const int error = descriptor_close(l, fd);
	lwp_userret(l);
	return c_result(error);
}

int lwp_poll(struct pollfd *fds, nfds_t count, int timeout) {
	const auto ms = static_cast<nanotime>(std::max(timeout, 0));
	return static_cast<int>(posix(poll_until(fds, count, timeout < 0 ? never : ms == 0 ? 0 : after(now(), ms * 1'000'000U))));
}

int lwp_select(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout) {
	nanotime deadline = never;
	if (count < 0 || count > FD_SETSIZE) {
		return static_cast<int>(posix(-EINVAL));
	}
	if (timeout != nullptr) {
		if (timeout->tv_usec < 0 || timeout->tv_usec >= 1'000'000 ||
		    deadline_after({timeout->tv_sec, timeout->tv_usec * 1000}, &deadline) != 0) {
			return static_cast<int>(posix(-EINVAL));
		}
	}
	struct {
		fd_set *set;
		short ask, answer;
	} const kinds[] = {
	    {readable, POLLIN, POLLIN | POLLHUP | POLLERR}, {writable, POLLOUT, POLLOUT | POLLERR}, {exceptional, POLLPRI, POLLPRI}};
	const std::unique_ptr<pollfd[]> fds(new (std::nothrow) pollfd[static_cast<size_t>(count) + 1]);
	if (fds == nullptr) {
		return static_cast<int>(posix(-ENOMEM));
	}
	nfds_t used = 0;
	for (int fd = 0; fd < count; fd++) {
		int events = 0;
		for (const auto &k : kinds) {
			events |= k.set != nullptr && FD_ISSET(fd, k.set) ? k.ask : 0;
		}
		if (events != 0) {
			fds[used++] = {fd, static_cast<short>(events), 0};
		}
	}
	const long n = poll_until(fds.get(), used, deadline);
	if (timeout != nullptr) {
		const nanotime t = now();
		const timespec left = to_timespec(t >= deadline ? 0 : deadline - t);
		*timeout = {left.tv_sec, left.tv_nsec / 1000};
	}
	if (n < 0) {
		return static_cast<int>(posix(n));
	}
	int bits = 0;
	for (nfds_t i = 0; i < used; i++) {
		if ((fds[i].revents & POLLNVAL) != 0) {
			return static_cast<int>(posix(-EBADF));
		}
	}
	for (nfds_t i = 0; i < used; i++) {
		for (const auto &k : kinds) {
			if (k.set == nullptr || (fds[i].events & k.ask) == 0) {
				continue;
			}
			if ((fds[i].revents & k.answer) != 0) {
				bits++;
			} else {
				FD_CLR(fds[i].fd, k.set);
			}
		}
	}
	return bits;
}

ssize_t lwp_sendfile(int out, int in, off_t *offset, size_t count) {
	if (offset != nullptr && *offset < 0) {
		return posix(-EINVAL);
	}
	return posix(count == 0 ? 0 : sendfile_all(out, in, offset, count));
}

int lwp_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
	const in_library l;
	if (fd < 0) {
		return c_result(EBADF);
	}
	io_op op(l, io_kind::accept, fd);
	op.o_addr = address;
	op.o_addrlen = length;
	op.o_flags = flags;
	return static_cast<int>(posix(io_run(l, &op)));
}

int lwp_connect(int fd, const struct sockaddr *address, socklen_t length) {
	// A ring would say EAGAIN where a descriptor in nonblocking mode is to say EINPROGRESS.
	if (fd >= 0 && io_nonblocking(fd)) {
		(void)curlwp();
		return static_cast<int>(posix(sys::call(SYS_connect, fd, reinterpret_cast<long>(address), static_cast<long>(length))));
	}
	return static_cast<int>(posix(io_simple(io_kind::connect, fd, address, length, 0)));
}

ssize_t lwp_recv(int fd, void *buffer, size_t size, int flags) {
	flags = receive_flags(fd, flags);
	if ((flags & (MSG_WAITALL | MSG_DONTWAIT)) == MSG_WAITALL) {
		return posix(whole(io_kind::recv, fd, buffer, size, flags));
	}
	return posix(io_simple(io_kind::recv, fd, buffer, size, flags));
}

ssize_t lwp_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *length) {
	if (address == nullptr) {
		return lwp_recv(fd, buffer, size, flags);
	}
	iovec iov{buffer, size};
	msghdr message{};
	message.msg_name = address;
	message.msg_namelen = length != nullptr ? *length : 0;
	message.msg_iov = &iov;
	message.msg_iovlen = 1;
	const long result = receive_message(fd, &message, flags);
	if (result >= 0 && length != nullptr) {
		*length = message.msg_namelen;
	}
	return posix(result);
}

ssize_t lwp_recvmsg(int fd, struct msghdr *message, int flags) { return posix(receive_message(fd, message, flags)); }

ssize_t lwp_send(int fd, const void *buffer, size_t size, int flags) { return posix(send_all(fd, buffer, size, flags)); }

ssize_t lwp_sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
	if (address == nullptr) {
		return lwp_send(fd, buffer, size, flags);
	}
	iovec iov{const_cast<void *>(buffer), size};
	msghdr message{};
	message.msg_name = const_cast<sockaddr *>(address);
	message.msg_namelen = length;
	message.msg_iov = &iov;
	message.msg_iovlen = 1;
	return posix(send_message(fd, &message, flags));
}

ssize_t lwp_sendmsg(int fd, const struct msghdr *message, int flags) { return posix(send_message(fd, message, flags)); }

int lwp_nanosleep(const struct timespec *time, struct timespec *left) {
	static const syncobj nanosleep_syncobj = {"nanosleep"};
	const in_library l;
	nanotime deadline;
	if (int error = deadline_after(*time, &deadline)) {
		return c_result(error);
	}
	const std::uint32_t handled = l->l_handled;
	while (now() < deadline) {
		spinlock *lock = sleepq_enter_self(l);
		const int error = sleepq_block_self_and_unlock(l, lock, {&l->l_wchan, "nanoslp", &nanosleep_syncobj, sleep_catch::yes, deadline});
		lwp_userret(l);
		if (error == EINTR || l->l_handled != handled) {  // as POSIX has it, whatever SA_RESTART says
			const nanotime t = now();
			if (left != nullptr) {
				*left = to_timespec(t >= deadline ? 0 : deadline - t);
			}
			return c_result(EINTR);
		}
		if (error == ENOMEM) {
			lwp_yield_cpu(l);  // no room for a timer: wait by looking at the clock
		}
	}
	return 0;
}

pid_t lwp_waitpid(pid_t pid, int *status, int options) {
	const auto wait = [=](int how) { return sys::call(SYS_wait4, pid, reinterpret_cast<long>(status), how, 0); };
	const in_library l;
	if ((options & WNOHANG) != 0 || l->l_cpu->vc_bound) {
		return static_cast<pid_t>(posix(wait(options)));
	}
	if (pid > 0 && (options & (WUNTRACED | WCONTINUED)) == 0) {
		long result = wait(options | WNOHANG);
		const long child = result != 0 ? -ENOSYS : sys::call(SYS_pidfd_open, pid, 0);
		while (result == 0 && child >= 0) {
			result = ready(l, static_cast<int>(child), POLLIN, never);
			if (result >= 0) {
				result = wait(options | WNOHANG);
			}
		}
		if (child >= 0) {
			(void)sys::call(SYS_close, child);
		}
		if (result != 0) {
			return static_cast<pid_t>(posix(result));
		}
	}
	return static_cast<pid_t>(posix(io_helped([=] { return wait(options); }, helped::endless)));
}

int lwp_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	int error = EAI_SYSTEM;
	int reason = 0;
	const long done = io_helped([&]() -> long {
		error = ::getaddrinfo(node, service, hints, result);
		reason = errno;
		return 0;
	});
	if (done < 0) {
		reason = static_cast<int>(-done);
	}
	if (error == EAI_SYSTEM) {
		set_errno(reason);
	}
	return error;
}

}  // extern "C"
