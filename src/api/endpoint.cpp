// SPDX-License-Identifier: BSD-2-Clause
//
// net.hpp's addresses: from text, to text, compared.  Nothing here blocks but once a look whether the kernel has IPv6.
#include "base/sys.h"

#include <lwp/net.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

namespace lwp {
namespace {

constexpr std::size_t path_at = offsetof(sockaddr_un, sun_path);

std::error_code code(int error) noexcept { return {error, std::generic_category()}; }

template <class T>
T as(const endpoint &e) noexcept {
	T address;
	std::memcpy(&address, e.data(), sizeof(address));
	return address;
}

template <class T>
endpoint from(const T &address, std::size_t size = sizeof(T)) noexcept {
	return {reinterpret_cast<const sockaddr *>(&address), static_cast<socklen_t>(size)};
}

/// Decimal, or 0xffffffff.
std::uint32_t number(std::string_view text, std::uint32_t most) noexcept {
	std::uint32_t value = 0;
	const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
	return error != std::errc() || text.empty() || end != text.data() + text.size() || value > most ? UINT32_MAX : value;
}

/// Numeric addresses; family() AF_UNSPEC: not one.
endpoint numeric(std::string_view address, std::uint16_t port) noexcept {
	char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
	if (address.size() >= sizeof(text)) {
		return {};
	}
	const std::size_t percent = std::min(address.find('%'), address.size());
	std::memcpy(text, address.data(), percent);
	text[percent] = '\0';
	sockaddr_in in{};
	if (percent == address.size() && ::inet_pton(AF_INET, text, &in.sin_addr) == 1) {
		in.sin_family = AF_INET;
		in.sin_port = htons(port);
		return from(in);
	}
	sockaddr_in6 in6{};
	if (::inet_pton(AF_INET6, text, &in6.sin6_addr) != 1) {
		return {};
	}
	in6.sin6_family = AF_INET6;
	in6.sin6_port = htons(port);
	if (percent != address.size()) {
		const std::string_view zone = address.substr(percent + 1);
		std::memcpy(text, zone.data(), zone.size());
		text[zone.size()] = '\0';
		in6.sin6_scope_id = number(zone, UINT32_MAX - 1);
		if (in6.sin6_scope_id == UINT32_MAX) {
			in6.sin6_scope_id = ::if_nametoindex(text);
		}
		if (in6.sin6_scope_id == 0) {
			return {};
		}
	}
	return from(in6);
}

bool kernel_has_ipv6() noexcept {
	static const bool has = [] {
		const long fd = kern::sys::call(SYS_socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0) {
			(void)kern::sys::call(SYS_close, fd);
		}
		return fd >= 0;
	}();
	return has;
}

/// False: too long.
bool make_unix(std::string_view path, endpoint *e) noexcept {
	sockaddr_un un{};
	un.sun_family = AF_UNIX;
	const bool abstract = !path.empty() && path.front() == '\0';
	if (path.size() + (abstract ? 0 : 1) > sizeof(un.sun_path)) {
		return false;
	}
	std::copy(path.begin(), path.end(), un.sun_path);
	*e = from(un, path_at + path.size() + (abstract ? 0 : 1));
	return true;
}

/// The bytes that say which endpoint it is.
std::string_view significant(const endpoint &e) noexcept {
	const std::size_t size = e.family() == AF_INET ? offsetof(sockaddr_in, sin_addr) + sizeof(in_addr) : e.size();
	return {reinterpret_cast<const char *>(e.data()), size};
}

}  // namespace

endpoint::endpoint() noexcept : storage_(), size_(0) {}

endpoint::endpoint(const sockaddr *address, socklen_t size) noexcept : storage_(), size_(std::min<socklen_t>(size, sizeof(storage_))) {
	if (size_ != 0) {
		std::memcpy(&storage_, address, size_);
	}
}

endpoint::endpoint(std::string_view address, std::uint16_t port) : endpoint(numeric(address, port)) {
	if (family() == AF_UNSPEC) {
		throw io_error(code(EINVAL), "endpoint");
	}
}

endpoint endpoint::parse(std::string_view text, std::error_code &error) noexcept {
	error.clear();
	endpoint e;
	if (text.starts_with("unix:")) {
		error = make_unix(text.substr(5), &e) && text.size() > 5 ? std::error_code() : code(EINVAL);
		return error ? endpoint() : e;
	}
	const std::size_t colon = text.rfind(':');
	const std::uint32_t port = colon == text.npos ? UINT32_MAX : number(text.substr(colon + 1), UINT16_MAX);
	if (port != UINT32_MAX) {
		std::string_view host = text.substr(0, colon);
		const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
		host = bracketed ? host.substr(1, host.size() - 2) : host;
		e = numeric(host, static_cast<std::uint16_t>(port));
		if (e.family() == (bracketed ? AF_INET6 : AF_INET)) {
			return e;
		}
	}
	error = code(EINVAL);
	return {};
}

endpoint endpoint::parse(std::string_view text) {
	std::error_code error;
	endpoint e = parse(text, error);
	if (error) {
		throw io_error(error, "endpoint");
	}
	return e;
}

endpoint endpoint::any(std::uint16_t port) noexcept {
	if (kernel_has_ipv6()) {
		sockaddr_in6 in6{};
		in6.sin6_family = AF_INET6;
		in6.sin6_port = htons(port);
		return from(in6);
	}
	sockaddr_in in{};
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	return from(in);
}

endpoint endpoint::loopback(std::uint16_t port) noexcept {
	sockaddr_in in{};
	in.sin_family = AF_INET;
	in.sin_port = htons(port);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return from(in);
}

endpoint endpoint::unix_path(std::string_view path) {
	endpoint e;
	if (!make_unix(path, &e)) {
		throw io_error(code(ENAMETOOLONG), "endpoint");
	}
	return e;
}

std::uint16_t endpoint::port() const noexcept {
	switch (family()) {
	case AF_INET:
		return ntohs(as<sockaddr_in>(*this).sin_port);
	case AF_INET6:
		return ntohs(as<sockaddr_in6>(*this).sin6_port);
	default:
		return 0;
	}
}

endpoint endpoint::with_port(std::uint16_t port) const noexcept {
	if (family() == AF_INET) {
		auto in = as<sockaddr_in>(*this);
		in.sin_port = htons(port);
		return from(in);
	}
	if (family() == AF_INET6) {
		auto in6 = as<sockaddr_in6>(*this);
		in6.sin6_port = htons(port);
		return from(in6);
	}
	return *this;
}

std::string endpoint::address() const {
	char text[INET6_ADDRSTRLEN] = {};
	if (family() == AF_INET) {
		const auto in = as<sockaddr_in>(*this);
		return ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
	}
	if (family() == AF_INET6) {
		const auto in6 = as<sockaddr_in6>(*this);
		std::string s = ::inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
		return in6.sin6_scope_id == 0 ? s : s + '%' + std::to_string(in6.sin6_scope_id);
	}
	if (family() == AF_UNIX && size_ > path_at) {
		const auto un = as<sockaddr_un>(*this);
		const std::size_t size = std::min<std::size_t>(size_ - path_at, sizeof(un.sun_path));
		return {un.sun_path, un.sun_path[0] == '\0' ? size : ::strnlen(un.sun_path, size)};
	}
	return {};
}

std::string endpoint::to_string() const {
	switch (family()) {
	case AF_INET:
		return address() + ':' + std::to_string(port());
	case AF_INET6:
		return '[' + address() + "]:" + std::to_string(port());
	case AF_UNIX:
		return "unix:" + address();
	default:
		return {};
	}
}

bool operator==(const endpoint &a, const endpoint &b) noexcept { return significant(a) == significant(b); }

std::strong_ordering operator<=>(const endpoint &a, const endpoint &b) noexcept {
	const int order = significant(a).compare(significant(b));
	return order <=> 0;
}

}  // namespace lwp
