// SPDX-License-Identifier: BSD-2-Clause
//
// io.hpp's reader and writer: what waits between a stream and its user, in one piece of memory.
//
//   bytes  |  passed over  |  buffered  |  free  |
//          0             first         last      capacity
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

void reader::consume(std::size_t count) noexcept {
	buffer_.first += std::min(count, buffer_.used());
	buffer_.rewind();
}

std::size_t reader::fill(std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	buffer_.rewind();
	if (buffer_.room() == 0 && buffer_.first != 0) {
		std::memmove(buffer_.bytes.get(), buffer_.text().data(), buffer_.used());
		buffer_.last -= std::exchange(buffer_.first, 0);
	}
	if (buffer_.room() == 0) {
		error = io_errc::too_long;
		return 0;
	}
	const std::size_t n = read_(source_, {buffer_.bytes.get() + buffer_.last, buffer_.room()}, error, limit);
	buffer_.last += n;
	return n;
}

std::string_view reader::peek(std::size_t count, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (count > capacity()) {
		error = io_errc::too_long;
		return {};
	}
	while (buffer_.used() < count && fill(error, limit) != 0) {
	}
	return error ? std::string_view() : buffered();
}

std::size_t reader::read(mutable_bytes buffer, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	if (buffer_.used() == 0) {
		if (buffer.size() >= capacity()) {
			return read_(source_, buffer, error, limit);
		}
		if (buffer.empty() || fill(error, limit) == 0) {
			return 0;
		}
	}
	const std::size_t n = std::min(buffer.size(), buffer_.used());
	if (n != 0) {
		std::memcpy(buffer.data(), buffer_.text().data(), n);
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
			buffer_.first += found.size();  // and not consume(): what we give stays where it is
			return found;
		}
		if (all.size() == most || all.size() == capacity()) {
			error = io_errc::too_long;
			return std::nullopt;
		}
		looked = all.size() < delimiter.size() ? 0 : all.size() - delimiter.size() + 1;
		if (fill(error, limit) == 0) {
			break;
		}
	}
	if (error || buffer_.used() == 0) {
		return std::nullopt;
	}
	const std::string_view rest = buffered();
	buffer_.first = buffer_.last;
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

std::size_t writer::sent(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	const std::size_t n = write_(sink_, bytes, error, limit);
	failed_ = static_cast<bool>(error);
	return n;
}

void writer::flush(std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	// After an error also with nothing here: a sink may have taken all and not have sent it (tls_stream).
	if (buffer_.used() != 0 || failed_) {
		buffer_.first += sent(buffer_.text(), error, limit);
	}
	buffer_.rewind();
}

std::size_t writer::write(const_bytes bytes, std::error_code &error, const io_limit &limit) noexcept {
	error.clear();
	std::size_t done = 0;
	while (done < bytes.size()) {
		if (buffer_.used() == 0 && bytes.size() - done >= capacity()) {
			return done + sent(bytes.from(done), error, limit);
		}
		const std::size_t n = std::min(bytes.size() - done, buffer_.room());
		std::memcpy(buffer_.bytes.get() + buffer_.last, bytes.data() + done, n);
		buffer_.last += n;
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
