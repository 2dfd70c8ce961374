// SPDX-License-Identifier: BSD-2-Clause
//
// io.hpp's objects: descriptors, streams, files, pipes.  Each call exists once, with an error_code; the throwing form calls it.
#include "api/io_call.h"
#include "base/sys.h"
#include "io/descriptor.h"
#include "io/direct.h"
#include "proc/lwp_life.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace lwp {

using namespace kern;

namespace {

class category final : public std::error_category {
public:
	[[nodiscard]] const char *name() const noexcept override { return "lwp.io"; }
	[[nodiscard]] std::string message(int value) const override {
		switch (static_cast<io_errc>(value)) {
		case io_errc::unexpected_end:
			return "The stream ended before all was read";
		case io_errc::too_long:
			return "Line or record is longer than allowed";
		}
		return "Unknown error";
	}
};

std::error_code errno_code(long negative) noexcept { return {static_cast<int>(-negative), std::generic_category()}; }

/// 0 or more as it is; -errno into `error`, and 0.
std::size_t counted(long result, std::error_code &error) noexcept {
	if (LWP_LIKELY(result >= 0)) {
		error.clear();
		return static_cast<std::size_t>(result);
	}
	error = errno_code(result);
	return 0;
}

std::size_t checked(std::size_t n, const std::error_code &error, const char *what) {
	if (LWP_UNLIKELY(static_cast<bool>(error))) {
		throw io_error(error, what, n);
	}
	return n;
}

/// `op`, of one buffer, until all of it is done.  How much was; without an error less means the end.
std::size_t all_of(lwp_t *l, io_op &op, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (op.o_len == 0) {
		return 0;
	}
	if (op.o_fd < 0) {
		return counted(-EBADF, error);
	}
	std::size_t done = 0;
	(void)counted(io_run_all(l, &op, limit, &done), error);
	return done;
}

/// A write that does nothing and does not say why.
std::size_t short_is_error(std::size_t done, std::size_t size, std::error_code &error) noexcept {
	if (done < size && !error) {
		error = std::make_error_code(std::errc::io_error);
	}
	return done;
}

std::size_t end_is_error(std::size_t done, std::size_t size, std::error_code &error) noexcept {
	if (done < size && !error) {
		error = io_errc::unexpected_end;
	}
	return done;
}

constexpr std::size_t pieces_at_once = 64;

/// The pieces after the first `skip` bytes, as many as fit.  How many iovecs.
std::size_t gather(std::span<const const_bytes> pieces, std::size_t skip, iovec (&iov)[pieces_at_once]) noexcept {
	std::size_t n = 0;
	for (const const_bytes &piece : pieces) {
		const std::size_t passed = std::min(skip, piece.size());
		skip -= passed;
		if (passed == piece.size()) {
			continue;
		}
		iov[n++] = {const_cast<std::byte *>(piece.data()) + passed, piece.size() - passed};
		if (n == pieces_at_once) {
			break;
		}
	}
	return n;
}

/// Pieces on their way: sendmsg() or writev(), of so many at once as fit.
struct gathering : io_parts {
	gathering(std::span<const const_bytes> p, io_op *op) noexcept
	    : io_parts{[](io_parts &self, io_op *o) noexcept { return static_cast<gathering &>(self).fill(o); }}, pieces(p) {
		message.msg_iov = iov;
		(void)fill(op);
	}
	bool fill(io_op *op) noexcept {
		const std::size_t n = gather(pieces, done, iov);
		message.msg_iovlen = n;
		const bool socket = op->o_kind == io_kind::sendmsg;
		op->o_addr = socket ? static_cast<void *>(&message) : iov;
		op->o_len = socket ? 1 : n;
		op->o_flags = socket ? MSG_NOSIGNAL : 0;
		return n != 0;
	}

	std::span<const const_bytes> pieces;
	msghdr message{};
	iovec iov[pieces_at_once];
};

}  // namespace

const std::error_category &io_category() noexcept {
	static const category the;
	return the;
}

io_error::~io_error() = default;

// ---- descriptor ----------------------------------------------------------------------------------------------------

descriptor &descriptor::operator=(descriptor &&other) noexcept {
	if (this != &other) {
		destroy();
		fd_ = other.release();
	}
	return *this;
}

void descriptor::close(std::error_code &error) noexcept {
	error.clear();
	if (fd_ < 0) {
		return;
	}
	const in_library l;
	error = errno_code(-descriptor_close(l, fd_));
	fd_ = -1;  // after the close: those that were blocked have read it before that ended them
	lwp_userret(l);
}

void descriptor::close() {
	std::error_code error;
	close(error);
	(void)checked(0, error, "close");
}

void descriptor::destroy() noexcept {
	std::error_code ignored;
	close(ignored);
}

// ---- stream --------------------------------------------------------------------------------------------------------

std::size_t stream::read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	if (buffer.empty()) {  // a socket would wait for a byte all the same
		error.clear();
		return 0;
	}
	const io_kind k = kind_ == kind::socket ? io_kind::recv : io_kind::read;
	return counted(io_simple(k, native_handle(), buffer.data(), buffer.size(), 0, io_here, &limit), error);
}

std::size_t stream::read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	const in_library l;
	io_op op(l, kind_ == kind::socket ? io_kind::recv : io_kind::read, native_handle());
	op.o_addr = buffer.data();
	op.o_len = buffer.size();
	return end_is_error(all_of(l, op, error, limit), buffer.size(), error);
}

std::size_t stream::write_some(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	const bool socket = kind_ == kind::socket;
	return counted(io_simple(socket ? io_kind::send : io_kind::write, native_handle(), bytes.data(), bytes.size(),
	                   socket ? MSG_NOSIGNAL : 0, io_here, &limit),
	    error);
}

std::size_t stream::write_all(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	const in_library l;
	const bool socket = kind_ == kind::socket;
	io_op op(l, socket ? io_kind::send : io_kind::write, native_handle());
	op.o_addr = const_cast<std::byte *>(bytes.data());
	op.o_len = bytes.size();
	op.o_flags = socket ? MSG_NOSIGNAL : 0;
	return short_is_error(all_of(l, op, error, limit), bytes.size(), error);
}

std::size_t stream::write_gather(std::span<const const_bytes> pieces, std::error_code &error, const io_limit &limit) noexcept {
	std::size_t size = 0;
	for (const const_bytes &piece : pieces) {
		size += piece.size();
	}
	error.clear();
	if (size == 0) {
		return 0;
	}
	if (!is_open()) {
		return counted(-EBADF, error);
	}
	const in_library l;
	const bool socket = kind_ == kind::socket;
	io_op op(l, socket ? io_kind::sendmsg : io_kind::writev, native_handle());
	gathering all(pieces, &op);
	(void)counted(io_run_parts(l, &op, limit, all), error);
	return short_is_error(all.done, size, error);
}

std::size_t stream::read(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read(buffer, error, limit);
	return checked(n, error, "read");
}

std::size_t stream::read_exactly(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read_exactly(buffer, error, limit);
	return checked(n, error, "read_exactly");
}

std::size_t stream::write_some(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_some(bytes, error, limit);
	return checked(n, error, "write_some");
}

std::size_t stream::write_all(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_all(bytes, error, limit);
	return checked(n, error, "write_all");
}

std::size_t stream::write_gather(std::span<const const_bytes> pieces, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_gather(pieces, error, limit);
	return checked(n, error, "write_gather");
}

// ---- file ----------------------------------------------------------------------------------------------------------

namespace {

int flags_of(const open_options &o) noexcept {
	const bool write = o.write || o.append || o.create || o.truncate;
	int flags = write ? (o.read ? O_RDWR : O_WRONLY) : O_RDONLY;
	flags |= o.append ? O_APPEND : 0;
	flags |= o.create ? O_CREAT : 0;
	flags |= o.exclusive ? O_EXCL : 0;
	flags |= o.truncate ? O_TRUNC : 0;
	return flags | o.flags | O_CLOEXEC;
}

/// What is known of a file, so that nobody needs to ask before each transfer.
struct known {
	int fd;
	bool stored, seekable, cached;
};

/// A positioned transfer: of some bytes, or of all.
std::size_t transfer_at(io_kind kind, known of, std::int64_t offset, const void *data, std::size_t size, bool whole, std::error_code &error,
    const io_limit &limit) noexcept {
	const in_library l;
	const int fd = of.fd;
	if (fd < 0 || offset < 0) {
		return counted(fd < 0 ? -EBADF : -EINVAL, error);
	}
	io_op op(l, kind, fd);
	op.o_addr = const_cast<void *>(data);
	op.o_len = size;
	op.o_off = offset;
	op.o_stored = of.stored;
	op.o_seekable = of.seekable;
	op.o_cached = of.cached;
	return whole ? all_of(l, op, error, limit) : counted(io_run(l, &op, limit), error);
}

}  // namespace

file::file(int fd, bool direct) noexcept
    : stream(fd, kind::any), stored_(io_pollable(fd) == 0), seekable_(stored_ || sys::call(SYS_lseek, fd, 0, SEEK_CUR) >= 0),
      cached_(seekable_ && !direct) {}

file::file(int fd) noexcept : file(fd, (sys::call(SYS_fcntl, fd, F_GETFL) & O_DIRECT) != 0) {}

file::file(const std::string &path, const open_options &options, std::error_code &error, const io_limit &limit) noexcept
    : stream(-1, kind::any) {
	const in_library l;
	io_op op(l, io_kind::openat, -1);
	op.o_addr = const_cast<char *>(path.c_str());
	op.o_flags = flags_of(options);
	op.o_len = options.permissions;
	op.o_off = AT_FDCWD;
	const long result = path.find('\0') != std::string::npos ? -EINVAL : io_run(l, &op, limit);
	(void)counted(result, error);
	if (result >= 0) {
		*this = file(static_cast<int>(result), (op.o_flags & O_DIRECT) != 0);
	}
}

file::file(const std::string &path, const open_options &options, const io_limit &limit) : stream(-1, kind::any) {
	std::error_code error;
	*this = file(path, options, error, limit);
	(void)checked(0, error, "open");
}

std::size_t file::read_at(std::int64_t offset, mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	return transfer_at(
	    io_kind::read, {native_handle(), stored_, seekable_, cached_}, offset, buffer.data(), buffer.size(), false, error, limit);
}

std::size_t file::read_exactly_at(std::int64_t offset, mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	const std::size_t done = transfer_at(
	    io_kind::read, {native_handle(), stored_, seekable_, cached_}, offset, buffer.data(), buffer.size(), true, error, limit);
	return end_is_error(done, buffer.size(), error);
}

std::size_t file::write_some_at(std::int64_t offset, const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	return transfer_at(
	    io_kind::write, {native_handle(), stored_, seekable_, cached_}, offset, bytes.data(), bytes.size(), false, error, limit);
}

std::size_t file::write_all_at(std::int64_t offset, const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	const std::size_t done =
	    transfer_at(io_kind::write, {native_handle(), stored_, seekable_, cached_}, offset, bytes.data(), bytes.size(), true, error, limit);
	return short_is_error(done, bytes.size(), error);
}

void file::sync(std::error_code &error, const io_limit &limit) noexcept {
	(void)counted(io_simple(io_kind::fsync, native_handle(), nullptr, 0, 0, io_here, &limit), error);
}

void file::sync_data(std::error_code &error, const io_limit &limit) noexcept {
	(void)counted(io_simple(io_kind::fsync, native_handle(), nullptr, 0, 1, io_here, &limit), error);
}

std::int64_t file::size(std::error_code &error) const noexcept {
	struct stat st {};
	const long result = sys::call(SYS_fstat, native_handle(), reinterpret_cast<long>(&st));
	(void)counted(result, error);
	return result < 0 ? 0 : st.st_size;
}

void file::resize(std::int64_t size, std::error_code &error) noexcept {
	(void)counted(sys::call(SYS_ftruncate, native_handle(), size), error);
}

std::int64_t file::seek(std::int64_t offset, int whence, std::error_code &error) noexcept {
	return static_cast<std::int64_t>(counted(sys::call(SYS_lseek, native_handle(), offset, whence), error));
}

std::size_t file::read_at(std::int64_t offset, mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read_at(offset, buffer, error, limit);
	return checked(n, error, "read_at");
}

std::size_t file::read_exactly_at(std::int64_t offset, mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read_exactly_at(offset, buffer, error, limit);
	return checked(n, error, "read_exactly_at");
}

std::size_t file::write_some_at(std::int64_t offset, const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_some_at(offset, bytes, error, limit);
	return checked(n, error, "write_some_at");
}

std::size_t file::write_all_at(std::int64_t offset, const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write_all_at(offset, bytes, error, limit);
	return checked(n, error, "write_all_at");
}

void file::sync(const io_limit &limit) {
	std::error_code error;
	sync(error, limit);
	(void)checked(0, error, "sync");
}

void file::sync_data(const io_limit &limit) {
	std::error_code error;
	sync_data(error, limit);
	(void)checked(0, error, "sync_data");
}

std::int64_t file::size() const {
	std::error_code error;
	const std::int64_t n = size(error);
	(void)checked(0, error, "size");
	return n;
}

void file::resize(std::int64_t size) {
	std::error_code error;
	resize(size, error);
	(void)checked(0, error, "resize");
}

std::int64_t file::seek(std::int64_t offset, int whence) {
	std::error_code error;
	const std::int64_t n = seek(offset, whence, error);
	(void)checked(0, error, "seek");
	return n;
}

// ---- pipe ----------------------------------------------------------------------------------------------------------

pipe::pipe(std::error_code &error) noexcept {
	int fd[2] = {-1, -1};
	(void)counted(sys::call(SYS_pipe2, reinterpret_cast<long>(fd), O_CLOEXEC), error);
	read_end = pipe_read_end(fd[0]);
	write_end = pipe_write_end(fd[1]);
}

pipe::pipe() {
	std::error_code error;
	*this = pipe(error);
	(void)checked(0, error, "pipe");
}

}  // namespace lwp
