// SPDX-License-Identifier: BSD-2-Clause
//
// Files, pipes and buffered reading and writing as objects; net.hpp has sockets, process.hpp child processes.  A call blocks the LWP only.
//
//   objects      own their descriptor, close it, can be moved and not copied.  One that was moved from, closed, or default-made has none: EBADF
//   io_limit     each blocking call takes one last: a deadline, a stop token, both or neither.  read(buffer, within(5s)), read(buffer, {.stop = stop})
//   errors       each call has two forms.  With a std::error_code & it sets that (cleared on success) and does not throw; without it throws
//                lwp::io_error, a std::system_error that also says how many bytes were transferred before
//   end          read() gives 0 at the end of the stream, when the other side has ended its half.  Nothing else gives 0, but an empty buffer
//
// Errors of every blocking call, besides those that io.h and the POSIX call of that name have:
//   std::errc::timed_out              the deadline passed     } what was transferred before counts and is reported: by read() and write_some() as
//   std::errc::operation_canceled     a stop was requested,   } success; by calls that go on until all is done as the number of bytes that the
//                                     or close() was called   } form with error_code returns, and io_error::transferred()
//   std::errc::interrupted            _lwp_wakeup() of the LWP
//   std::errc::resource_unavailable_try_again   the descriptor was given to us in nonblocking mode, and there is nothing to transfer: limit or not
// A call whose deadline has passed, or whose stop was requested, when it begins transfers nothing; nothing is transferred after it has
// returned.  What ends a wait does not end the object: the next call finds the stream where the bytes reported leave it.
// Regular files: a transfer that the disk has begun is waited for, whatever the limit says.
//
// Back-pressure is blocking: a write returns when the kernel has taken the bytes.  There is no queue in between but lwp::writer's buffer.
// SIGPIPE: never by sockets.  A write to a pipe that nobody reads raises it as POSIX says; a program with such pipes ignores it.
// Two LWPs may use one object at the same time, one reading, the other writing.  Two that read, or two that write, need a mutex: each would
// get some of the bytes.  close() and shutdown may come at any time while others are blocked in a call; a call that has not begun must not
// race with close(), moves or the destructor.
// Kernel threads that the library has adopted may use all of it; then the kernel thread blocks.
#pragma once

#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace lwp {

// ---- limits --------------------------------------------------------------------------------------------------------

/// What may end a call before it is done.  The default: nothing.
struct io_limit {
	std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();  ///< when it is over; max(): never
	std::stop_token stop = {};                                                                      ///< a stop request ends it
};

/// A deadline `duration` from now.
template <class Rep, class Period>
[[nodiscard]] io_limit within(const std::chrono::duration<Rep, Period> &duration, std::stop_token stop = {}) {
	return {.deadline = detail::deadline_after(duration), .stop = std::move(stop)};
}

// ---- errors --------------------------------------------------------------------------------------------------------

/// What no errno says.
enum class io_errc {
	unexpected_end = 1,  ///< the stream ended before all was read
	too_long,            ///< a line or record is longer than allowed
};

/// Of io_errc.
LWP_API const std::error_category &io_category() noexcept;
/// How an io_errc becomes a std::error_code.
inline std::error_code make_error_code(io_errc e) noexcept { return {static_cast<int>(e), io_category()}; }

/// What the throwing forms throw.
class LWP_API io_error : public std::system_error {
public:
	/// `what` is the call, `transferred` how many bytes it had transferred.
	io_error(std::error_code error, const char *what, std::size_t transferred = 0)
	    : std::system_error(error, what), transferred_(transferred) {}
	io_error(const io_error &) = default;
	io_error &operator=(const io_error &) = default;
	~io_error() override;
	/// Bytes transferred before the error.
	[[nodiscard]] std::size_t transferred() const noexcept { return transferred_; }

private:
	std::size_t transferred_;
};

// ---- memory --------------------------------------------------------------------------------------------------------

namespace detail {

template <class T>
inline constexpr bool is_byte = std::is_same_v<T, char> || std::is_same_v<T, unsigned char> || std::is_same_v<T, std::byte>;

template <class R>
concept byte_range =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && is_byte<std::remove_cv_t<std::ranges::range_value_t<R>>>;

}  // namespace detail

/// Bytes to send: of a span, vector, array or string of char, unsigned char or std::byte, or a string literal (without its NUL).
/// Refers to them, as std::span does.
class const_bytes {
public:
	constexpr const_bytes() noexcept = default;
	/// `size` bytes from `data` on.
	const_bytes(const void *data, std::size_t size) noexcept : data_(static_cast<const std::byte *>(data)), size_(size) {}
	/// A string that ends with a NUL, without that.
	const_bytes(const char *text) noexcept : const_bytes(text, std::string_view(text).size()) {}
	/// Not a string: say how much of it, for example by std::span or std::string_view.
	template <std::size_t N>
	const_bytes(char (&)[N]) = delete;
	/// All of a range of bytes.
	template <detail::byte_range R>
		requires(!std::is_same_v<std::remove_cvref_t<R>, const_bytes> && !std::is_array_v<std::remove_cvref_t<R>>)
	const_bytes(const R &range)
	noexcept : const_bytes(std::ranges::data(range), std::ranges::size(range)) {}
	template <class T, std::size_t N>
		requires(std::is_same_v<T, std::byte> || std::is_same_v<T, unsigned char>)
	const_bytes(const T (&array)[N])
	noexcept : const_bytes(array, N) {}

	/// The first byte, and how many there are.
	[[nodiscard]] constexpr const std::byte *data() const noexcept { return data_; }
	[[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
	[[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
	/// Without the first `count` bytes; count <= size().
	[[nodiscard]] const_bytes from(std::size_t count) const noexcept { return {data_ + count, size_ - count}; }
	operator std::span<const std::byte>() const noexcept { return {data_, size_}; }

private:
	const std::byte *data_ = nullptr;
	std::size_t size_ = 0;
};

/// Memory to read into: a span, vector, array or string of char, unsigned char or std::byte that can be written to; its whole size.
class mutable_bytes {
public:
	constexpr mutable_bytes() noexcept = default;
	/// `size` bytes from `data` on.
	mutable_bytes(void *data, std::size_t size) noexcept : data_(static_cast<std::byte *>(data)), size_(size) {}
	/// All of a range of bytes that can be written to.
	template <detail::byte_range R>
		requires(!std::is_same_v<std::remove_cvref_t<R>, mutable_bytes> &&
		    !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>)
	mutable_bytes(R &&range)
	noexcept : mutable_bytes(std::ranges::data(range), std::ranges::size(range)) {}

	/// The first byte, and how many there are.
	[[nodiscard]] constexpr std::byte *data() const noexcept { return data_; }
	[[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
	[[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
	/// Without the first `count` bytes; count <= size().
	[[nodiscard]] mutable_bytes from(std::size_t count) const noexcept { return {data_ + count, size_ - count}; }
	operator std::span<std::byte>() const noexcept { return {data_, size_}; }

private:
	std::byte *data_ = nullptr;
	std::size_t size_ = 0;
};

// ---- what all objects are ------------------------------------------------------------------------------------------

/// Owns a descriptor.
class LWP_API descriptor {
public:
	/// The number of a descriptor.
	using native_handle_type = int;

	descriptor() noexcept = default;
	/// Takes `fd` over; negative: none.
	explicit descriptor(int fd) noexcept : fd_(fd) {}
	descriptor(descriptor &&other) noexcept : fd_(other.release()) {}
	descriptor &operator=(descriptor &&other) noexcept;
	/// Closes it, as close(), errors ignored.
	~descriptor() { destroy(); }

	/// Whether there is a descriptor.
	[[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
	explicit operator bool() const noexcept { return is_open(); }
	/// The descriptor, -1 if there is none; for calls of io.h and others.  It stays ours.
	[[nodiscard]] native_handle_type native_handle() const noexcept { return fd_; }
	/// Gives it away: the caller closes it.
	[[nodiscard]] native_handle_type release() noexcept { return std::exchange(fd_, -1); }

	/// As lwp_close(): ends what other LWPs are blocked in on it (std::errc::operation_canceled) and waits for that.  There is no descriptor afterwards, error
	/// or not.  Nothing happens if there was none.
	void close();
	void close(std::error_code &) noexcept;

	/// Exchanges what the two hold.
	void swap(descriptor &other) noexcept { std::swap(fd_, other.fd_); }

private:
	void destroy() noexcept;
	int fd_ = -1;
};

/// Bytes in order: what files, pipes and stream sockets have in common.
class LWP_API stream : public descriptor {
public:
	stream(stream &&) noexcept = default;
	stream &operator=(stream &&) noexcept = default;

	/// Reads what is there, at least one byte; blocks while there is none.  The number of bytes, 0 at the end of the stream, and at once for an empty buffer.
	std::size_t read(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Reads until `buffer` is full; blocks until then.  buffer.size().
	/// io_errc::unexpected_end the stream ended before; what came is in `buffer`, and reported.
	std::size_t read_exactly(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Writes some, at least one byte unless `bytes` is empty; blocks until there is room.  The number of bytes.
	std::size_t write_some(const_bytes bytes, const io_limit &limit = {});
	std::size_t write_some(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Writes all; blocks until the kernel has taken the last byte.  bytes.size(); with an error, how many were taken before.
	std::size_t write_all(const_bytes bytes, const io_limit &limit = {});
	std::size_t write_all(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// write_all() of several pieces, one after the other, by as few system calls as it takes.  The sum of their sizes.
	std::size_t write_gather(std::span<const const_bytes> pieces, const io_limit &limit = {});
	std::size_t write_gather(std::span<const const_bytes> pieces, std::error_code &error, const io_limit &limit = {}) noexcept;

protected:
	/// What it is: sockets never raise SIGPIPE.
	enum class kind : unsigned char { any, socket };
	stream() noexcept = default;
	/// Takes `fd` over.
	stream(int fd, kind k) noexcept : descriptor(fd), kind_(k) {}

private:
	kind kind_ = kind::any;
};

// ---- files ---------------------------------------------------------------------------------------------------------

/// How a file is opened.  The default: to read what is there.  The descriptor is close-on-exec.
struct open_options {
	bool read = true;             ///< to be read
	bool write = false;           ///< to be written to
	bool append = false;          ///< each write goes to the end; implies write
	bool create = false;          ///< if it does not exist; implies write
	bool exclusive = false;       ///< with create: EEXIST if it exists
	bool truncate = false;        ///< what was in it is gone; implies write
	unsigned permissions = 0666;  ///< of a new file, less the umask
	int flags = 0;                ///< further flags of open(2), such as O_DIRECTORY
};

/// A file, or whatever else has a path.  read() and write_*() go on from its position, which is the file's own and starts at 0; the
/// *_at() calls leave it alone, and any number of LWPs may use those at once.
class LWP_API file : public stream {
public:
	file() noexcept = default;
	/// Takes `fd` over.
	explicit file(int fd) noexcept;
	/// Opens; blocks.  Errors: those of open(2).
	explicit file(const std::string &path, const open_options &options = {}, const io_limit &limit = {});
	file(const std::string &path, const open_options &options, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// As read(), read_exactly(), write_some(), write_all(), at `offset`.  ESPIPE of what has no position; EINVAL an offset below 0.
	std::size_t read_at(std::int64_t offset, mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read_at(std::int64_t offset, mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	std::size_t read_exactly_at(std::int64_t offset, mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read_exactly_at(std::int64_t offset, mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	std::size_t write_some_at(std::int64_t offset, const_bytes bytes, const io_limit &limit = {});
	std::size_t write_some_at(std::int64_t offset, const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;
	std::size_t write_all_at(std::int64_t offset, const_bytes bytes, const io_limit &limit = {});
	std::size_t write_all_at(std::int64_t offset, const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// fsync(2), fdatasync(2).  Block.
	void sync(const io_limit &limit = {});
	void sync(std::error_code &error, const io_limit &limit = {}) noexcept;
	void sync_data(const io_limit &limit = {});
	void sync_data(std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Plain system calls about the file's metadata, which wait for no device as a rule: size in bytes (fstat), a new size (ftruncate), and the position
	/// (lseek; `whence` is SEEK_SET, SEEK_CUR or SEEK_END of <unistd.h>), of which the new one is returned.
	[[nodiscard]] std::int64_t size() const;
	[[nodiscard]] std::int64_t size(std::error_code &error) const noexcept;
	void resize(std::int64_t size);
	void resize(std::int64_t size, std::error_code &error) noexcept;
	std::int64_t seek(std::int64_t offset, int whence = 0);
	std::int64_t seek(std::int64_t offset, int whence, std::error_code &error) noexcept;

private:
	file(int fd, bool direct) noexcept;
	bool stored_ = false;  // it has neither nonblocking mode nor a timeout
	bool seekable_ = false;
	bool cached_ = false;  // read through the page cache
};

// ---- pipes ---------------------------------------------------------------------------------------------------------

/// The end of a pipe that can be read: read() and read_exactly() of stream.  0 once all write ends are closed.
class LWP_API pipe_read_end : private stream {
public:
	pipe_read_end() noexcept = default;
	/// Takes `fd` over, of any kind: a terminal too.
	explicit pipe_read_end(int fd) noexcept : stream(fd, kind::any) {}
	using stream::close, stream::is_open, stream::native_handle, stream::release, stream::native_handle_type, stream::operator bool;
	using stream::read, stream::read_exactly;
};

/// The end of a pipe that can be written to: write_some(), write_all(), write_gather() of stream.  EPIPE, and SIGPIPE, once all read ends are closed.
class LWP_API pipe_write_end : private stream {
public:
	pipe_write_end() noexcept = default;
	/// Takes `fd` over, of any kind.
	explicit pipe_write_end(int fd) noexcept : stream(fd, kind::any) {}
	using stream::close, stream::is_open, stream::native_handle, stream::release, stream::native_handle_type, stream::operator bool;
	using stream::write_some, stream::write_all, stream::write_gather;
};

/// pipe(2): two ends, both close-on-exec.
struct LWP_API pipe {
	/// Never blocks.  Errors: EMFILE, ENFILE.
	pipe();
	explicit pipe(std::error_code &error) noexcept;

	pipe_read_end read_end;    ///< what is read here
	pipe_write_end write_end;  ///< was written there
};

// ---- buffered reading and writing ----------------------------------------------------------------------------------

namespace detail {

template <class S>
concept io_source = requires(S &s, mutable_bytes b, std::error_code &e, const io_limit &l) {
	{ s.read(b, e, l) } -> std::same_as<std::size_t>;
};
template <class S>
concept io_sink = requires(S &s, const_bytes b, std::error_code &e, const io_limit &l) {
	{ s.write_all(b, e, l) } -> std::same_as<std::size_t>;
};

}  // namespace detail

namespace detail {

/// A piece of memory, of which the bytes from `first` to `last` are in use.
struct io_buffer {
	explicit io_buffer(std::size_t size) : capacity(size != 0 ? size : 1), bytes(new char[capacity]) {}
	io_buffer(io_buffer &&o) noexcept
	    : capacity(std::exchange(o.capacity, 0)), bytes(std::move(o.bytes)), first(std::exchange(o.first, 0)),
	      last(std::exchange(o.last, 0)) {}
	io_buffer &operator=(io_buffer &&o) noexcept {
		io_buffer taken(std::move(o));
		std::swap(capacity, taken.capacity);
		bytes.swap(taken.bytes);
		std::swap(first, taken.first);
		std::swap(last, taken.last);
		return *this;
	}

	[[nodiscard]] std::size_t used() const noexcept { return last - first; }
	[[nodiscard]] std::size_t room() const noexcept { return capacity - last; }
	[[nodiscard]] std::string_view text() const noexcept { return {bytes.get() + first, used()}; }
	/// All of the room again if nothing is in use.
	void rewind() noexcept {
		if (first == last) {
			first = last = 0;
		}
	}

	std::size_t capacity;
	std::unique_ptr<char[]> bytes;
	std::size_t first = 0, last = 0;
};

}  // namespace detail

inline constexpr std::size_t default_buffer = 16 * 1024;  ///< bytes

/// Reads through a buffer of fixed size, which is also the limit of what one line or record may be: memory is bounded whatever a peer sends.
/// The source (anything with stream's read(), such as a file, tcp_stream, pipe_read_end) must outlive it and stay where it is.  One LWP at a
/// time.  After an error nothing is lost: what came is in the buffer, and the same call may be made again.
///
/// Views that calls return refer to the buffer and are valid until the next call other than buffered().
class LWP_API reader {
public:
	/// `capacity` bytes, at least 1.  Throws std::bad_alloc.
	template <detail::io_source Source>
	explicit reader(Source &source, std::size_t capacity = default_buffer)
	    : reader(
	          &source,
	          [](void *s, mutable_bytes b, std::error_code &e, const io_limit &l) noexcept -> std::size_t {
		          return static_cast<Source *>(s)->read(b, e, l);
	          },
	          capacity) {}

	/// The size of the buffer.
	[[nodiscard]] std::size_t capacity() const noexcept { return buffer_.capacity; }
	/// What has been read from the source and not from here.  Never blocks.
	[[nodiscard]] std::string_view buffered() const noexcept { return buffer_.text(); }
	/// Passes over the first `count` buffered bytes; count <= buffered().size().
	void consume(std::size_t count) noexcept;

	/// Gives at least `count` bytes, all that are buffered, without consuming them; blocks until they are there.  Fewer at the end of the stream only.
	/// io_errc::too_long count > capacity()
	std::string_view peek(std::size_t count, const io_limit &limit = {});
	std::string_view peek(std::size_t count, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Reads once from the source and adds to what is buffered; blocks while there is nothing.  How many bytes came, 0 at the end of the stream.
	/// io_errc::too_long the buffer is full
	std::size_t fill(const io_limit &limit = {});
	std::size_t fill(std::error_code &error, const io_limit &limit = {}) noexcept;

	/// As stream's.  Large reads with nothing buffered go straight into `buffer`.
	std::size_t read(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;
	/// As stream's.  With an error, how many bytes are in `buffer`: they are consumed.
	std::size_t read_exactly(mutable_bytes buffer, const io_limit &limit = {});
	std::size_t read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// The next line without its end, which is "\n" or "\r\n"; blocks until that came.  The last line need not have an end.  No value at the end of the stream
	/// (and with an error).
	/// io_errc::too_long there is no end among the first `most` bytes, or in a full buffer; nothing is consumed.
	std::optional<std::string_view> read_line(const io_limit &limit = {}) { return read_line(capacity(), limit); }
	std::optional<std::string_view> read_line(std::size_t most, const io_limit &limit = {});
	std::optional<std::string_view> read_line(std::error_code &error, const io_limit &limit = {}) noexcept {
		return read_line(capacity(), error, limit);
	}
	std::optional<std::string_view> read_line(std::size_t most, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// All up to the next `delimiter` and with it; blocks until that came.  At the end of the stream what is left, without it; no value if nothing is.
	/// `delimiter` is not empty.  io_errc::too_long as read_line(); `most` counts the delimiter.
	std::optional<std::string_view> read_until(std::string_view delimiter, const io_limit &limit = {}) {
		return read_until(delimiter, capacity(), limit);
	}
	std::optional<std::string_view> read_until(std::string_view delimiter, std::size_t most, const io_limit &limit = {});
	std::optional<std::string_view> read_until(std::string_view delimiter, std::error_code &error, const io_limit &limit = {}) noexcept {
		return read_until(delimiter, capacity(), error, limit);
	}
	std::optional<std::string_view> read_until(
	    std::string_view delimiter, std::size_t most, std::error_code &error, const io_limit &limit = {}) noexcept;

private:
	using read_call = std::size_t(void *, mutable_bytes, std::error_code &, const io_limit &) noexcept;
	reader(void *source, read_call *call, std::size_t capacity) : source_(source), read_(call), buffer_(capacity) {}

	void *source_;
	read_call *read_;
	detail::io_buffer buffer_;
};

/// Writes through a buffer of fixed size.  The sink (anything with stream's write_all()) must outlive it and stay where it is.  One LWP at a time.
///
/// Bytes are sent when the buffer is full and by flush(), not by the destructor, which could not say that it failed: what is buffered then
/// is dropped.  After an error the bytes that the sink did not take are buffered still, in order, and flush() may be called again.
class LWP_API writer {
public:
	/// `capacity` bytes, at least 1.  Throws std::bad_alloc.
	template <detail::io_sink Sink>
	explicit writer(Sink &sink, std::size_t capacity = default_buffer)
	    : writer(
	          &sink,
	          [](void *s, const_bytes b, std::error_code &e, const io_limit &l) noexcept -> std::size_t {
		          return static_cast<Sink *>(s)->write_all(b, e, l);
	          },
	          capacity) {}

	/// The size of the buffer.
	[[nodiscard]] std::size_t capacity() const noexcept { return buffer_.capacity; }
	/// How many bytes flush() would send.
	[[nodiscard]] std::size_t buffered() const noexcept { return buffer_.used(); }

	/// Appends; blocks only while the buffer is full and the sink takes nothing.  Large pieces go past the buffer.  bytes.size(); with an error, how many of
	/// them are buffered or sent.
	std::size_t write(const_bytes bytes, const io_limit &limit = {});
	std::size_t write(const_bytes bytes, std::error_code &error, const io_limit &limit = {}) noexcept;

	/// Sends what is buffered; blocks until the sink has taken it.  After an error the sink is asked also if nothing is buffered: it may hold a rest (tls_stream).
	void flush(const io_limit &limit = {});
	void flush(std::error_code &error, const io_limit &limit = {}) noexcept;

private:
	using write_call = std::size_t(void *, const_bytes, std::error_code &, const io_limit &) noexcept;
	writer(void *sink, write_call *call, std::size_t capacity) : sink_(sink), write_(call), buffer_(capacity) {}
	std::size_t sent(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept;

	void *sink_;
	write_call *write_;
	detail::io_buffer buffer_;
	bool failed_ = false;  // what the sink said last
};

}  // namespace lwp

template <>
struct std::is_error_code_enum<lwp::io_errc> : std::true_type {};
