// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of TLS share: an authority that issues certificates while the test runs, and streams that have shaken hands.
#pragma once

#include "io_support.h"

#include <lwp/tls.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>

namespace lwp::test {

/// A limit that only a test that hangs meets.
inline io_limit far() { return within(std::chrono::minutes(10)); }

inline std::string pattern(std::size_t n, std::uint64_t seed = 7) {
	std::string s(n, '\0');
	dice d(seed);
	for (char &c : s) {
		c = static_cast<char>(d.next());
	}
	return s;
}

template <class Call>
std::error_code thrown_by(Call call, std::size_t *transferred = nullptr) {
	try {
		call();
	} catch (const io_error &e) {
		if (transferred != nullptr) {
			*transferred = e.transferred();
		}
		return e.code();
	}
	return {};
}

/// A certificate and its key, in PEM.
struct identity {
	std::string certificate, key;
};

struct certificate_options {
	std::string names = {};  ///< "DNS:localhost,IP:127.0.0.1"
	long from = -3600;       ///< seconds from now
	long until = 3600;
	bool rsa = false;
};

/// Signs certificates.
class authority {
public:
	explicit authority(const char *name = "lwp test authority") : name_(name), key_(EVP_EC_gen("P-256")) {
		EXPECT_NE(key_.get(), nullptr);
		own_ = make(name, {}, key_.get(), true);
	}
	/// Its own certificate: what others trust.
	[[nodiscard]] std::string certificate() const { return pem(own_.get()); }

	[[nodiscard]] identity issue(const char *name, const certificate_options &o = {}) {
		const key_ptr key(o.rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
		EXPECT_NE(key.get(), nullptr);
		return {pem(make(name, o, key.get(), false).get()), pem(key.get(), {})};
	}

	/// `key` again, encrypted.
	static std::string encrypted(const std::string &key, const std::string &passphrase) {
		BIO *in = BIO_new_mem_buf(key.data(), static_cast<int>(key.size()));
		const key_ptr k(PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr));
		BIO_free(in);
		return pem(k.get(), passphrase);
	}

private:
	template <auto free>
	struct freed_by {
		template <class T>
		void operator()(T *p) const {
			free(p);
		}
	};
	using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;
	using x509_ptr = std::unique_ptr<X509, freed_by<X509_free>>;

	static std::string text_of(BIO *bio) {
		char *data = nullptr;
		const long size = BIO_get_mem_data(bio, &data);
		std::string text(data, static_cast<std::size_t>(size));
		BIO_free(bio);
		return text;
	}
	static std::string pem(X509 *x) {
		BIO *bio = BIO_new(BIO_s_mem());
		EXPECT_EQ(PEM_write_bio_X509(bio, x), 1);
		return text_of(bio);
	}
	static std::string pem(EVP_PKEY *key, const std::string &passphrase) {
		BIO *bio = BIO_new(BIO_s_mem());
		const auto *word = reinterpret_cast<const unsigned char *>(passphrase.data());
		EXPECT_EQ(PEM_write_bio_PrivateKey(bio, key, passphrase.empty() ? nullptr : EVP_aes_128_cbc(), passphrase.empty() ? nullptr : word,
		              static_cast<int>(passphrase.size()), nullptr, nullptr),
		    1);
		return text_of(bio);
	}

	static void add(X509 *x, X509V3_CTX *context, int what, const std::string &value) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(nullptr, context, what, value.c_str());
		EXPECT_NE(e, nullptr) << value;
		EXPECT_EQ(X509_add_ext(x, e, -1), 1);
		X509_EXTENSION_free(e);
	}

	x509_ptr make(const char *name, const certificate_options &o, EVP_PKEY *key, bool is_authority) {
		x509_ptr x(X509_new());
		X509_set_version(x.get(), 2);
		ASN1_INTEGER_set(X509_get_serialNumber(x.get()), ++serial_);
		X509_gmtime_adj(X509_getm_notBefore(x.get()), o.from);
		X509_gmtime_adj(X509_getm_notAfter(x.get()), o.until);
		const auto *text = reinterpret_cast<const unsigned char *>(name);
		X509_NAME_add_entry_by_txt(X509_get_subject_name(x.get()), "CN", MBSTRING_ASC, text, -1, -1, 0);
		X509 *issuer = is_authority ? x.get() : own_.get();
		X509_set_issuer_name(x.get(), X509_get_subject_name(issuer));
		X509_set_pubkey(x.get(), key);
		X509V3_CTX context;
		X509V3_set_ctx(&context, issuer, x.get(), nullptr, nullptr, 0);
		add(x.get(), &context, NID_basic_constraints, is_authority ? "critical,CA:TRUE" : "CA:FALSE");
		if (!o.names.empty()) {
			add(x.get(), &context, NID_subject_alt_name, o.names);
		}
		EXPECT_GT(X509_sign(x.get(), key_.get(), EVP_sha256()), 0);
		return x;
	}

	std::string name_;
	long serial_ = 0;
	key_ptr key_;
	x509_ptr own_;
};

/// An authority, a server of it for localhost, and a client that trusts it.
struct circle {
	circle()
	    : id(ca.issue("server", {.names = "DNS:localhost,DNS:*.example.org,IP:127.0.0.1"})), server(tls_side::server),
	      client(tls_side::client) {
		server.use_certificate(id.certificate);
		server.use_key(id.key);
		client.trust(ca.certificate());
	}

	authority ca;
	identity id;
	tls_context server, client;
};

/// Both ends of a connection, the handshake not begun.
struct tls_pair {
	explicit tls_pair(const circle &c, const tls_peer &peer = {.name = "localhost"}) {
		auto [a, b] = unix_stream::pair();
		client = tls_stream(std::move(a), c.client, peer);
		server = tls_stream(std::move(b), c.server);
	}
	/// Of both; the client's in the caller.  What each says.
	std::pair<std::error_code, std::error_code> handshakes() {
		std::error_code ours, theirs;
		const lwpid_t other = spawn([&] {
			server.handshake(theirs, far());
			if (theirs) {
				server.close();  // so that the client does not wait for more
			}
		});
		client.handshake(ours, far());
		if (ours) {
			client.close();
		}
		collect(other);
		return {ours, theirs};
	}
	void handshake() {
		const auto [ours, theirs] = handshakes();
		EXPECT_FALSE(ours) << ours.message();
		EXPECT_FALSE(theirs) << theirs.message();
	}

	tls_stream client, server;
};

/// The client refuses the certificate for `why`, and the server learns that it was refused.
inline void expect_refused(tls_pair &p, int why) {
	const auto [ours, theirs] = p.handshakes();
	EXPECT_EQ(ours, std::error_code(why, lwp::x509_category())) << ours.message();
	EXPECT_EQ(&theirs.category(), &lwp::openssl_category()) << theirs.message();
}

inline void say_and_hear(tls_stream &from, tls_stream &to, const std::string &text) {
	EXPECT_EQ(from.write_all(text, far()), text.size());
	std::string got(text.size(), '\0');
	EXPECT_EQ(to.read_exactly(got, far()), text.size());
	EXPECT_EQ(got, text);
}

inline std::string read_to_end(tls_stream &s, std::error_code &error) {
	std::string all;
	char buffer[20000];
	for (std::size_t n; (n = s.read(buffer, error, far())) != 0;) {
		all.append(buffer, n);
	}
	return all;
}

}  // namespace lwp::test
