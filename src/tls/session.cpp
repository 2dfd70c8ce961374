// SPDX-License-Identifier: BSD-2-Clause
#include "tls/session.h"

#include <algorithm>
#include <utility>

namespace lwp::detail {
namespace {

/// As DNS compares names.
std::string folded(std::string_view name) {
	std::string text(name);
	std::transform(
	    text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
	return text;
}

}  // namespace

void tls_names::add(std::string_view name, std::shared_ptr<tls_settings> settings) {
	all_.insert_or_assign(folded(name), std::move(settings));
}

const tls_settings *tls_names::find(std::string_view name) const {
	const std::string asked = folded(name);
	auto found = all_.find(asked);
	if (found == all_.end()) {
		const std::size_t dot = asked.find('.');
		found = dot == std::string::npos ? found : all_.find(asked.substr(dot).insert(0, 1, '*'));
	}
	return found != all_.end() ? found->second.get() : nullptr;
}

void tls_sessions::keep(const std::string &server, SSL_SESSION *session) {
	const std::lock_guard held(lock_);
	if (all_.size() >= most && !all_.contains(server)) {
		all_.erase(all_.begin());
	}
	all_[server].reset(session);  // if that throws, nobody has taken it over
}

SSL_SESSION *tls_sessions::take(const std::string &server) {
	const std::lock_guard held(lock_);
	const auto found = all_.find(server);
	if (found == all_.end()) {
		return nullptr;
	}
	if (SSL_SESSION_get_protocol_version(found->second.get()) < TLS1_3_VERSION) {
		SSL_SESSION_up_ref(found->second.get());  // resumed, it brings no other: it may be used again
		return found->second.get();
	}
	SSL_SESSION *session = found->second.release();
	all_.erase(found);
	return session;
}

}  // namespace lwp::detail
