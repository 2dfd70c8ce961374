// SPDX-License-Identifier: BSD-2-Clause
//
// Credentials as values: kauth.h, with the counting done.
#pragma once

#include <lwp/kauth.h>

#include <cstdint>
#include <new>
#include <system_error>
#include <utility>

namespace lwp {

/// A reference to an immutable credential.  Copies share it.
class credential {
public:
	/// What a new one is made of.
	struct settings {
		uid_t uid = 0;                      ///< whose it is; 0 at first
		std::uint32_t privileges = 0;       ///< LWP_PRIV_...
		void *data = nullptr;               ///< the application's
		void (*destroy)(void *) = nullptr;  ///< called for `data` when the last reference goes
	};

	/// The calling LWP's.
	credential() noexcept : cred_(kauth_cred_get()) { kauth_cred_hold(cred_); }
	/// A new one.  Throws std::bad_alloc; `data` is not destroyed then.
	explicit credential(const settings &s) : cred_(kauth_cred_alloc()) {
		if (cred_ == nullptr) {
			throw std::bad_alloc();
		}
		// Nobody else has it: these do not fail.
		(void)kauth_cred_setuid(cred_, s.uid);
		(void)kauth_cred_setprivs(cred_, s.privileges);
		(void)kauth_cred_setdata(cred_, s.data, s.destroy);
	}
	credential(const credential &other) noexcept : cred_(other.cred_) { kauth_cred_hold(cred_); }
	credential(credential &&other) noexcept : credential(static_cast<const credential &>(other)) {}
	credential &operator=(const credential &other) noexcept {
		kauth_cred_hold(other.cred_);
		kauth_cred_free(std::exchange(cred_, other.cred_));
		return *this;
	}
	credential &operator=(credential &&other) noexcept {
		std::swap(cred_, other.cred_);
		return *this;
	}
	~credential() { kauth_cred_free(cred_); }

	/// What it was made of.
	[[nodiscard]] uid_t uid() const noexcept { return kauth_cred_getuid(cred_); }
	[[nodiscard]] std::uint32_t privileges() const noexcept { return kauth_cred_getprivs(cred_); }
	/// Whether it has all of these.
	[[nodiscard]] bool may(std::uint32_t privileges_wanted) const noexcept {
		return (privileges() & privileges_wanted) == privileges_wanted;
	}
	/// The application's, as it was given.
	[[nodiscard]] void *data() const noexcept { return kauth_cred_getdata(cred_); }
	/// For calls of kauth.h; the reference stays ours.
	[[nodiscard]] kauth_cred_t native_handle() const noexcept { return cred_; }

	/// Makes it the proc's: lwp_proc_setcred().  Throws std::system_error: EPERM.
	void publish() const {
		if (const int error = publish_error()) {
			throw std::system_error(error, std::generic_category(), "lwp::credential::publish");
		}
	}
	/// The same object.
	friend bool operator==(const credential &a, const credential &b) noexcept { return a.cred_ == b.cred_; }

private:
	// Out of line: errno belongs to the LWP, its address to the kernel thread.
	LWP_API int publish_error() const noexcept;
	kauth_cred_t cred_;
};

}  // namespace lwp
