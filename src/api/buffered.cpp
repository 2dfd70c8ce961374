// SPDX-License-Identifier: BSD-2-Clause
//
// io.hpp's reader and writer: what waits between a stream and its user, in one piece of memory.
//
//   buffer_  |  passed over  |  buffered  |  free  |
//            0             first_        last_     capacity_
#include <lwp/io.hpp>

#include <algorithm>
#include <cstring>
#include <utility>

namespace lwp {
namespace {

template <class Result>
Result checked(Result result, const std::error_code &error, const char *what, std::size_t transferred = 0) {
	if (error) {
		throw io_error(error, what, transferred);
	}
	return result;
}

}  // namespace

// ---- reader --------------------------------------------------------------------------------------------------------

reader::reader(void *source, read_call *read, std::size_t capacity)
    : source_(source), read_(read), buffer_(new char[std::max<std::size_t>(capacity, 1)]), capacity_(std::max<std::size_t>(capacity, 1)) {}

reader::reader(reader &&other) noexcept
    : source_(other.source_), read_(other.read_), buffer_(std::move(other.buffer_)), capacity_(std::exchange(other.capacity_, 0)),
      first_(std::exchange(other.first_, 0)), last_(std::exchange(other.last_, 0)) {}

reader &reader::operator=(reader &&other) noexcept {
	reader moved(std::move(other));
	std::swap(source_, moved.source_);
	std::swap(read_, moved.read_);
	std::swap(buffer_, moved.buffer_);
	std::swap(capacity_, moved.capacity_);
	std::swap(first_, moved.first_);
	std::swap(last_, moved.last_);
	return *this;
}

reader::~reader() = default;

std::string_view reader::buffered() const noexcept { return {buffer_.get() + first_, last_ - first_}; }

void reader::consume(std::size_t count) noexcept {
	first_ += std::min(count, last_ - first_);
	if (first_ == last_) {
		first_ = last_ = 0;
	}
}

std::size_t reader::fill(std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (first_ == last_) {
		first_ = last_ = 0;  // all of the room again, for nothing
	}
	if (last_ == capacity_ && first_ != 0) {
		std::memmove(buffer_.get(), buffer_.get() + first_, last_ - first_);
		last_ -= std::exchange(first_, 0);
	}
	if (last_ == capacity_) {
		error = io_errc::too_long;
		return 0;
	}
	const std::size_t n = read_(source_, {buffer_.get() + last_, capacity_ - last_}, error, limit);
	last_ += n;
	return n;
}

std::string_view reader::peek(std::size_t count, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (count > capacity_) {
		error = io_errc::too_long;
		return {};
	}
	while (last_ - first_ < count && fill(error, limit) != 0) {
	}
	return error ? std::string_view() : buffered();
}

std::size_t reader::read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (first_ == last_) {
		if (buffer.size() >= capacity_) {
			return read_(source_, buffer, error, limit);
		}
		if (buffer.empty() || fill(error, limit) == 0) {
			return 0;
		}
	}
	const std::size_t n = std::min(buffer.size(), last_ - first_);
	if (n != 0) {
		std::memcpy(buffer.data(), buffer_.get() + first_, n);
	}
	consume(n);
	return n;
}

std::size_t reader::read_exactly(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	std::size_t done = 0;
	while (done < buffer.size()) {
		const std::size_t n = read(buffer.from(done), error, limit);
		done += n;
		if (error) {
			break;
		}
		if (n == 0) {
			error = io_errc::unexpected_end;
			break;
		}
	}
	return done;
}

std::optional<std::string_view> reader::read_until(
    std::string_view delimiter, std::size_t most, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	std::size_t looked = 0;  // no delimiter begins before this
	for (;;) {
		const std::string_view all = buffered().substr(0, most);
		if (const std::size_t at = all.find(delimiter, looked); at != all.npos) {
			const std::string_view found = all.substr(0, at + delimiter.size());
			first_ += found.size();  // and not consume(): what we give stays where it is
			return found;
		}
		if (all.size() == most || all.size() == capacity_) {
			error = io_errc::too_long;
			return std::nullopt;
		}
		looked = all.size() < delimiter.size() ? 0 : all.size() - delimiter.size() + 1;
		if (fill(error, limit) == 0) {
			break;
		}
	}
	if (error || first_ == last_) {
		return std::nullopt;
	}
	const std::string_view rest = buffered();
	first_ = last_;
	return rest;
}

std::optional<std::string_view> reader::read_line(std::size_t most, std::error_code &error, const io_limit &limit) noexcept {
	std::optional<std::string_view> line = read_until("\n", most, error, limit);
	if (line && line->ends_with('\n')) {
		line->remove_suffix(line->ends_with("\r\n") ? 2 : 1);
	}
	return line;
}

std::size_t reader::fill(const io_limit &limit) {
	std::error_code error;
	const std::size_t n = fill(error, limit);
	return checked(n, error, "fill");
}

std::string_view reader::peek(std::size_t count, const io_limit &limit) {
	std::error_code error;
	const std::string_view v = peek(count, error, limit);
	return checked(v, error, "peek");
}

std::size_t reader::read(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read(buffer, error, limit);
	return checked(n, error, "read");
}

std::size_t reader::read_exactly(mutable_bytes buffer, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = read_exactly(buffer, error, limit);
	return checked(n, error, "read_exactly", n);
}

std::optional<std::string_view> reader::read_line(std::size_t most, const io_limit &limit) {
	std::error_code error;
	const auto line = read_line(most, error, limit);
	return checked(line, error, "read_line");
}

std::optional<std::string_view> reader::read_until(std::string_view delimiter, std::size_t most, const io_limit &limit) {
	std::error_code error;
	const auto record = read_until(delimiter, most, error, limit);
	return checked(record, error, "read_until");
}

// ---- writer --------------------------------------------------------------------------------------------------------

writer::writer(void *sink, write_call *write, std::size_t capacity)
    : sink_(sink), write_(write), buffer_(new char[std::max<std::size_t>(capacity, 1)]), capacity_(std::max<std::size_t>(capacity, 1)) {}

writer::writer(writer &&other) noexcept
    : sink_(other.sink_), write_(other.write_), buffer_(std::move(other.buffer_)), capacity_(std::exchange(other.capacity_, 0)),
      first_(std::exchange(other.first_, 0)), last_(std::exchange(other.last_, 0)), failed_(std::exchange(other.failed_, false)) {}

writer &writer::operator=(writer &&other) noexcept {
	writer moved(std::move(other));
	std::swap(sink_, moved.sink_);
	std::swap(write_, moved.write_);
	std::swap(buffer_, moved.buffer_);
	std::swap(capacity_, moved.capacity_);
	std::swap(first_, moved.first_);
	std::swap(last_, moved.last_);
	std::swap(failed_, moved.failed_);
	return *this;
}

writer::~writer() = default;

std::size_t writer::sent(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	const std::size_t n = write_(sink_, bytes, error, limit);
	failed_ = static_cast<bool>(error);
	return n;
}

void writer::flush(std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	// After an error also with nothing here: a sink may have taken all and not have sent it (tls_stream).
	if (first_ != last_ || failed_) {
		first_ += sent({buffer_.get() + first_, last_ - first_}, error, limit);
	}
	if (first_ == last_) {
		first_ = last_ = 0;
	}
}

std::size_t writer::write(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	std::size_t done = 0;
	while (done < bytes.size()) {
		if (first_ == last_ && bytes.size() - done >= capacity_) {
			return done + sent(bytes.from(done), error, limit);
		}
		const std::size_t n = std::min(bytes.size() - done, capacity_ - last_);
		std::memcpy(buffer_.get() + last_, bytes.data() + done, n);
		last_ += n;
		done += n;
		if (done < bytes.size()) {
			flush(error, limit);
			if (error) {
				break;
			}
		}
	}
	return done;
}

std::size_t writer::write(const_bytes bytes, const io_limit &limit) {
	std::error_code error;
	const std::size_t n = write(bytes, error, limit);
	return checked(n, error, "write", n);
}

void writer::flush(const io_limit &limit) {
	std::error_code error;
	flush(error, limit);
	(void)checked(0, error, "flush");
}

}  // namespace lwp
