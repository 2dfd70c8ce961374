// SPDX-License-Identifier: BSD-2-Clause
//
// What the copies of a tls_context and its streams share.  Written by its setters, only read afterwards.
#pragma once

#include "tls/session.h"

#include <lwp/tls.hpp>

#include <openssl/ssl.h>

#include <string>

namespace lwp::detail {

struct tls_settings {
	explicit tls_settings(tls_side s) noexcept : side(s) {}
	// The last stream has freed its SSL, which has a reference of its own, before it let go of us: so this one is the last, whoever runs it.
	~tls_settings() { SSL_CTX_free(ctx); }
	tls_settings(const tls_settings &) = delete;
	tls_settings &operator=(const tls_settings &) = delete;

	const tls_side side;
	SSL_CTX *ctx = nullptr;
	std::string protocols;                   // a server's, as on the wire: a byte of length before each
	tls_names names;                         // a server's
	std::unique_ptr<tls_sessions> sessions;  // a client's that resumes; it has a lock of its own
};

}  // namespace lwp::detail
