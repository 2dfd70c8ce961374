// SPDX-License-Identifier: BSD-2-Clause
//
// net.hpp's resolve().  getaddrinfo(3) cannot be ended early.  So who waits with a limit has an LWP of its own make the call, and leaves it to
// that when the limit comes; what they share is a future, which the last of the two frees.
#include "api/io_call.h"

#include <lwp/future.hpp>
#include <lwp/net.hpp>
#include <lwp/thread.hpp>

#include <cerrno>
#include <memory>
#include <netdb.h>
#include <new>

namespace lwp {
namespace {

class category final : public std::error_category {
public:
	[[nodiscard]] const char *name() const noexcept override { return "lwp.resolve"; }
	[[nodiscard]] std::string message(int value) const override { return ::gai_strerror(value); }
};

struct answer {
	std::vector<endpoint> endpoints;
	std::error_code error;
};

struct question {
	std::string host, service;
	resolve_options options;
};

answer failed(int error) { return {{}, {error, std::generic_category()}}; }

/// Blocks the LWP until the answer is there.
answer look_up(const question &q) {
	addrinfo hints{};
	hints.ai_family = q.options.family;
	hints.ai_socktype = SOCK_STREAM;  // else each address comes once for each kind of socket
	hints.ai_flags = q.options.passive ? AI_PASSIVE : 0;
	addrinfo *list = nullptr;
	int error = EAI_SYSTEM;
	int reason = 0;
	const long done = kern::io_helped([&]() noexcept -> long {
		const auto text = [](const std::string &s) { return s.empty() ? nullptr : s.c_str(); };
		error = ::getaddrinfo(text(q.host), text(q.service), &hints, &list);
		reason = errno;
		return 0;
	});
	if (done < 0 || error == EAI_SYSTEM) {
		return failed(done < 0 ? static_cast<int>(-done) : reason);
	}
	if (error != 0) {
		return {{}, {error, resolve_category()}};
	}
	const std::unique_ptr<addrinfo, void (*)(addrinfo *)> owner(list, [](addrinfo *l) { ::freeaddrinfo(l); });
	answer a;
	for (const addrinfo *i = list; i != nullptr; i = i->ai_next) {
		a.endpoints.emplace_back(i->ai_addr, i->ai_addrlen);
	}
	return a;
}

/// The same until the limit.
answer look_up_until(const question &q, const io_limit &limit) {
	if (limit.deadline == std::chrono::steady_clock::time_point::max() && !limit.stop.stop_possible()) {
		return look_up(q);
	}
	if (const int reached = kern::io_limit_reached(limit); reached != 0) {
		return failed(-reached);
	}
	promise<answer> p;
	future<answer> f = p.get_future();
	thread({.name = "resolve", .detached = true}, [q, p = std::move(p)]() mutable {
		try {
			p.set_value(look_up(q));
		} catch (...) {
			p.set_exception(std::current_exception());
		}
	});
	if (f.wait_until(limit.deadline, limit.stop) == std::future_status::ready) {
		return f.get();
	}
	return failed(limit.stop.stop_requested() ? ECANCELED : ETIMEDOUT);
}

}  // namespace

const std::error_category &resolve_category() noexcept {
	static const category the;
	return the;
}

std::vector<endpoint> resolve(const std::string &host, const std::string &service, const resolve_options &options, std::error_code &error,
    const io_limit &limit) noexcept {
	try {
		answer a = look_up_until({host, service, options}, limit);
		error = a.error;
		return std::move(a.endpoints);
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
	} catch (const std::system_error &e) {  // no LWP could be made
		error = e.code();
	}
	return {};
}

std::vector<endpoint> resolve(const std::string &host, const std::string &service, const resolve_options &options, const io_limit &limit) {
	std::error_code error;
	std::vector<endpoint> endpoints = resolve(host, service, options, error, limit);
	detail::throw_if(error, "resolve");
	return endpoints;
}

}  // namespace lwp
