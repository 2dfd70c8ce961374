// SPDX-License-Identifier: BSD-2-Clause
//
// tls_context: OpenSSL's SSL_CTX with safe defaults.  Files are read by lwp::file, so that only the LWP blocks, and OpenSSL parses memory.
#include "tls/connection.h"
#include "tls/error.h"
#include "tls/settings.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <new>

namespace lwp {

using detail::tls_settings;
using detail::tls_take_error;
using detail::tls_throw_if;

namespace {

template <auto free>
struct freed_by {
	template <class T>
	void operator()(T *p) const noexcept {
		free(p);
	}
};
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free>>;
using x509_ptr = std::unique_ptr<X509, freed_by<X509_free>>;
using pkey_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;

std::error_code invalid() noexcept { return std::make_error_code(std::errc::invalid_argument); }

/// set(ctx) with an empty queue of errors, or EINVAL without a context.  It gives what went wrong.
template <class Set>
void with(const std::shared_ptr<tls_settings> &settings, std::error_code &error, Set set) noexcept {
	if (!settings) {
		error = invalid();
		return;
	}
	try {
		ERR_clear_error();
		error = set(settings->ctx);
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
	}
	ERR_clear_error();
}

/// Of OpenSSL's calls that give 1 for success.
std::error_code result(long one) noexcept { return one == 1 ? std::error_code() : tls_take_error(); }

std::string contents(const std::string &path, std::error_code &error) {
	std::string text;
	file f(path, {}, error);
	char piece[4096];
	while (!error) {
		const std::size_t n = f.read(piece, error);
		if (n == 0) {
			break;
		}
		text.append(piece, n);
	}
	return text;
}

/// set(contents of path), or why there are none.
template <class Set>
void with_file(const std::string &path, std::error_code &error, Set set) noexcept {
	try {
		const std::string text = contents(path, error);
		if (!error) {
			set(text);
		}
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
	}
}

bio_ptr memory(std::string_view text) {
	const int size = static_cast<int>(std::min<std::size_t>(text.size(), INT_MAX));
	bio_ptr bio(BIO_new_mem_buf(text.data() != nullptr ? text.data() : "", size));
	if (!bio) {
		throw std::bad_alloc();
	}
	return bio;
}

/// Instead of OpenSSL's own, which asks at the terminal.
int passphrase_of(char *buffer, int size, int, void *passphrase) {
	const auto *p = static_cast<const std::string *>(passphrase);
	if (p == nullptr || p->empty() || p->size() > static_cast<std::size_t>(size)) {
		return -1;
	}
	std::memcpy(buffer, p->data(), p->size());
	return static_cast<int>(p->size());
}

/// use(certificate) of each in `pem`, until one fails.
template <class Use>
std::error_code each_certificate(std::string_view pem, Use use) {
	const bio_ptr bio = memory(pem);
	for (std::size_t count = 0;; ++count) {
		const x509_ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, passphrase_of, nullptr));
		if (!certificate) {
			const bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
			return !end ? tls_take_error() : count == 0 ? std::error_code(tls_errc::no_pem) : std::error_code();
		}
		if (const std::error_code error = use(certificate.get(), count)) {
			return error;
		}
	}
}

std::string wire(const std::vector<std::string> &protocols) {
	std::string all;
	for (const std::string &p : protocols) {
		if (p.empty() || p.size() > 255) {
			return {};
		}
		all += static_cast<char>(static_cast<unsigned char>(p.size()));
		all += p;
	}
	return all;
}

const unsigned char *bytes(const std::string &s) noexcept { return reinterpret_cast<const unsigned char *>(s.data()); }

/// Of a server: its own first protocol that the client offers.  `arg` is settings that the SSL's stream keeps alive.
int choose_protocol(SSL *, const unsigned char **chosen, unsigned char *length, const unsigned char *offered, unsigned size, void *arg) {
	const auto *settings = static_cast<const tls_settings *>(arg);
	unsigned char *out = nullptr;
	const int found =
	    SSL_select_next_proto(&out, length, bytes(settings->protocols), static_cast<unsigned>(settings->protocols.size()), offered, size);
	*chosen = out;
	return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// Of a server.  `arg` as above.
int choose_certificate(SSL *ssl, int *, void *arg) {
	const auto *settings = static_cast<const tls_settings *>(arg);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	try {
		const tls_settings *other = name != nullptr ? settings->names.find(name) : nullptr;
		return other == nullptr || SSL_set_SSL_CTX(ssl, other->ctx) != nullptr ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
	} catch (const std::bad_alloc &) {
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	}
}

std::error_code set_up(SSL_CTX *ctx, tls_side side) noexcept {
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);  // tickets need none, and a cache would be shared by all streams
	SSL_CTX_set_default_passwd_cb(ctx, passphrase_of);
	SSL_CTX_set_verify(ctx, side == tls_side::client ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
	const unsigned char id[] = {'l', 'w', 'p'};
	if (SSL_CTX_set_session_id_context(ctx, id, sizeof(id)) != 1) {
		return tls_take_error();
	}
	return result(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION));
}

}  // namespace

tls_context::tls_context(tls_side side, std::error_code &error) noexcept {
	try {
		auto settings = std::make_shared<tls_settings>(side);
		ERR_clear_error();
		settings->ctx = SSL_CTX_new(side == tls_side::client ? TLS_client_method() : TLS_server_method());
		error = settings->ctx == nullptr ? tls_take_error() : set_up(settings->ctx, side);
		if (!error) {
			settings_ = std::move(settings);
		}
	} catch (const std::bad_alloc &) {
		error = std::make_error_code(std::errc::not_enough_memory);
	}
}

void tls_context::use_certificate(std::string_view pem, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		SSL_CTX_clear_chain_certs(ctx);
		return each_certificate(pem, [ctx](X509 *certificate, std::size_t at) {
			return result(at == 0 ? SSL_CTX_use_certificate(ctx, certificate) : SSL_CTX_add1_chain_cert(ctx, certificate));
		});
	});
}

void tls_context::use_key(std::string_view pem, const std::string &passphrase, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) -> std::error_code {
		if (pem.find("PRIVATE KEY-----") == std::string_view::npos) {
			return tls_errc::no_pem;  // OpenSSL would only say that no decoder knows it
		}
		const bio_ptr bio = memory(pem);
		const pkey_ptr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, passphrase_of, const_cast<std::string *>(&passphrase)));
		if (!key) {
			return tls_take_error();
		}
		return result(SSL_CTX_use_PrivateKey(ctx, key.get()) == 1 ? SSL_CTX_check_private_key(ctx) : 0);
	});
}

void tls_context::trust(std::string_view pem, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		return each_certificate(pem, [&](X509 *certificate, std::size_t) {
			if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate) != 1) {
				return tls_take_error();
			}
			return side() == tls_side::server ? result(SSL_CTX_add_client_CA(ctx, certificate)) : std::error_code();
		});
	});
}

void tls_context::use_certificate_file(const std::string &path, std::error_code &error) noexcept {
	with_file(path, error, [&](const std::string &pem) { use_certificate(pem, error); });
}

void tls_context::use_key_file(const std::string &path, const std::string &passphrase, std::error_code &error) noexcept {
	with_file(path, error, [&](const std::string &pem) { use_key(pem, passphrase, error); });
}

void tls_context::trust_file(const std::string &path, std::error_code &error) noexcept {
	with_file(path, error, [&](const std::string &pem) { trust(pem, error); });
}

void tls_context::trust_system(std::error_code &error) noexcept {
	with(settings_, error, [](SSL_CTX *ctx) { return result(SSL_CTX_set_default_verify_paths(ctx)); });
}

void tls_context::verify(tls_verify v, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		if (v == tls_verify::optional && side() == tls_side::client) {
			return invalid();
		}
		const int required = side() == tls_side::server ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_PEER;
		const int mode = v == tls_verify::none ? SSL_VERIFY_NONE : v == tls_verify::optional ? SSL_VERIFY_PEER : required;
		SSL_CTX_set_verify(ctx, mode, nullptr);
		return std::error_code();
	});
}

void tls_context::alpn(const std::vector<std::string> &protocols, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		std::string all = wire(protocols);
		if (all.empty() || all.size() > 65535) {
			return invalid();
		}
		settings_->protocols = std::move(all);
		if (side() == tls_side::server) {
			SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, settings_.get());
			return std::error_code();
		}
		// 0 for success, unlike all others
		return result(1 - SSL_CTX_set_alpn_protos(ctx, bytes(settings_->protocols), static_cast<unsigned>(settings_->protocols.size())));
	});
}

void tls_context::min_version(tls_version v, std::error_code &error) noexcept {
	with(settings_, error,
	    [&](SSL_CTX *ctx) { return v < tls_version::v1_2 ? invalid() : result(SSL_CTX_set_min_proto_version(ctx, static_cast<long>(v))); });
}

void tls_context::session_tickets(std::size_t count, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) { return result(SSL_CTX_set_num_tickets(ctx, count)); });
}

void tls_context::certificate_for(std::string_view name, const tls_context &other, std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		if (side() != tls_side::server || !other.settings_ || other.side() != tls_side::server || other.settings_ == settings_ ||
		    name.empty()) {
			return invalid();
		}
		settings_->names.add(name, other.settings_);
		SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
		SSL_CTX_set_tlsext_servername_arg(ctx, settings_.get());
		return std::error_code();
	});
}

void tls_context::resume_sessions(std::error_code &error) noexcept {
	with(settings_, error, [&](SSL_CTX *ctx) {
		if (side() != tls_side::client) {
			return invalid();
		}
		if (!settings_->sessions) {
			settings_->sessions = std::make_unique<detail::tls_sessions>();
		}
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, detail::tls_connection::keep_session);
		return std::error_code();
	});
}

tls_side tls_context::side() const noexcept { return settings_ ? settings_->side : tls_side::client; }

ssl_ctx_st *tls_context::native_handle() const noexcept { return settings_ ? settings_->ctx : nullptr; }

// ---- the throwing forms --------------------------------------------------------------------------------------------

tls_context::tls_context(tls_side side) {
	std::error_code error;
	*this = tls_context(side, error);
	tls_throw_if(error, "tls_context");
}

void tls_context::use_certificate(std::string_view pem) {
	std::error_code error;
	use_certificate(pem, error);
	tls_throw_if(error, "use_certificate");
}

void tls_context::use_certificate_file(const std::string &path) {
	std::error_code error;
	use_certificate_file(path, error);
	tls_throw_if(error, "use_certificate_file");
}

void tls_context::use_key(std::string_view pem, const std::string &passphrase) {
	std::error_code error;
	use_key(pem, passphrase, error);
	tls_throw_if(error, "use_key");
}

void tls_context::use_key_file(const std::string &path, const std::string &passphrase) {
	std::error_code error;
	use_key_file(path, passphrase, error);
	tls_throw_if(error, "use_key_file");
}

void tls_context::trust(std::string_view pem) {
	std::error_code error;
	trust(pem, error);
	tls_throw_if(error, "trust");
}

void tls_context::trust_file(const std::string &path) {
	std::error_code error;
	trust_file(path, error);
	tls_throw_if(error, "trust_file");
}

void tls_context::trust_system() {
	std::error_code error;
	trust_system(error);
	tls_throw_if(error, "trust_system");
}

void tls_context::verify(tls_verify v) {
	std::error_code error;
	verify(v, error);
	tls_throw_if(error, "verify");
}

void tls_context::alpn(const std::vector<std::string> &protocols) {
	std::error_code error;
	alpn(protocols, error);
	tls_throw_if(error, "alpn");
}

void tls_context::min_version(tls_version v) {
	std::error_code error;
	min_version(v, error);
	tls_throw_if(error, "min_version");
}

void tls_context::session_tickets(std::size_t count) {
	std::error_code error;
	session_tickets(count, error);
	tls_throw_if(error, "session_tickets");
}

void tls_context::certificate_for(std::string_view name, const tls_context &other) {
	std::error_code error;
	certificate_for(name, other, error);
	tls_throw_if(error, "certificate_for");
}

void tls_context::resume_sessions() {
	std::error_code error;
	resume_sessions(error);
	tls_throw_if(error, "resume_sessions");
}

}  // namespace lwp
