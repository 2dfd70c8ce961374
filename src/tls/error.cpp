// SPDX-License-Identifier: BSD-2-Clause
#include "tls/error.h"

#include <openssl/err.h>
#include <openssl/x509.h>

namespace lwp {
namespace {

class own_category final : public std::error_category {
public:
	[[nodiscard]] const char *name() const noexcept override { return "lwp.tls"; }
	[[nodiscard]] std::string message(int value) const override {
		switch (static_cast<tls_errc>(value)) {
		case tls_errc::truncated:
			return "The TLS connection ended without a close_notify";
		case tls_errc::no_pem:
			return "There is no such thing in PEM";
		}
		return "Unknown error";
	}
};

class certificate_category final : public std::error_category {
public:
	[[nodiscard]] const char *name() const noexcept override { return "x509"; }
	[[nodiscard]] std::string message(int value) const override { return X509_verify_cert_error_string(value); }
};

class packed_category final : public std::error_category {
public:
	[[nodiscard]] const char *name() const noexcept override { return "openssl"; }
	[[nodiscard]] std::string message(int value) const override {
		char text[256];
		ERR_error_string_n(static_cast<unsigned long>(static_cast<unsigned>(value)), text, sizeof(text));
		return text;
	}
};

}  // namespace

const std::error_category &tls_category() noexcept {
	static const own_category the;
	return the;
}

const std::error_category &x509_category() noexcept {
	static const certificate_category the;
	return the;
}

const std::error_category &openssl_category() noexcept {
	static const packed_category the;
	return the;
}

namespace detail {

std::error_code tls_take_error(const SSL *ssl) noexcept {
	const unsigned long code = ERR_peek_error();  // the oldest: the others say what failed because of it
	ERR_clear_error();
	if (code == 0) {
		return std::make_error_code(std::errc::protocol_error);
	}
	if (ERR_SYSTEM_ERROR(code)) {
		return {ERR_GET_REASON(code), std::generic_category()};
	}
	if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
		return std::make_error_code(std::errc::not_enough_memory);
	}
	if (ssl != nullptr && ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		if (const long why = SSL_get_verify_result(ssl); why != X509_V_OK) {
			return {static_cast<int>(why), x509_category()};
		}
	}
	return {static_cast<int>(code), openssl_category()};
}

void tls_throw_if(const std::error_code &error, const char *what, std::size_t transferred) {
	if (error) {
		throw io_error(error, what, transferred);
	}
}

}  // namespace detail
}  // namespace lwp
