// SPDX-License-Identifier: BSD-2-Clause
//
// What a context chooses by a name: a server the certificate that it shows, a client the session that it resumes.
#pragma once

#include <openssl/ssl.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace lwp::detail {

struct tls_settings;

/// A server's other contexts, by the names that clients ask for.  Written by setters, only read afterwards.
class tls_names {
public:
	void add(std::string_view name, std::shared_ptr<tls_settings> settings);
	/// Whose certificate is for `name`, as the client wrote it; null: nobody's.
	[[nodiscard]] const tls_settings *find(std::string_view name) const;

private:
	std::map<std::string, std::shared_ptr<tls_settings>, std::less<>> all_;  // "www.example.org", "*.example.org"
};

/// A client's sessions: the newest of each server.  One of TLS 1.3 is offered once, so that nobody on the way can tell that two connections are of one client
/// (RFC 8446, appendix C.4).  Used in handshakes and reads with the connection's mutex held; lock_ is held for a few instructions and never across a switch.
class tls_sessions {
public:
	/// Takes `session` over, unless it throws std::bad_alloc.
	void keep(const std::string &server, SSL_SESSION *session);
	/// Null: there is none.  The caller's.
	[[nodiscard]] SSL_SESSION *take(const std::string &server);

private:
	static constexpr std::size_t most = 256;  // servers

	struct freed {
		void operator()(SSL_SESSION *s) const noexcept { SSL_SESSION_free(s); }
	};
	std::mutex lock_;
	std::map<std::string, std::unique_ptr<SSL_SESSION, freed>> all_;  // lock_
};

}  // namespace lwp::detail
