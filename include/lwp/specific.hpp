// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::specific<T>: one T for each LWP, made at its first use in that LWP and destroyed when the LWP exits.
// It is what `thread_local T` would be if a thread_local followed the LWP from kernel thread to kernel thread.
#pragma once

#include <lwp/lwp.h>

#include <new>
#include <system_error>
#include <utility>

namespace lwp {

template <class T>
class specific {
public:
	/// Throws std::system_error (ENOMEM) if no key can be made.
	specific() {
		if (int error = lwp_tss_create(&key_, [](void *p) { delete static_cast<T *>(p); })) {
			throw std::system_error(error, std::generic_category(), "lwp::specific");
		}
	}
	/// Destroys no values: an LWP that still has one keeps it for ever.  Make it outlive its users, or reset() in each.
	~specific() { lwp_tss_delete(key_); }
	specific(const specific &) = delete;
	specific &operator=(const specific &) = delete;

	/// The calling LWP's T, default-constructed at the first use.  Throws what T's constructor throws, or std::bad_alloc.
	T &get() {
		if (T *value = get_if()) {
			return *value;
		}
		return emplace();
	}
	/// The calling LWP's T, or null if there is none yet.
	[[nodiscard]] T *get_if() const noexcept { return static_cast<T *>(lwp_tss_get(key_)); }
	/// Replaces the calling LWP's T.
	template <class... Args>
	T &emplace(Args &&...args) {
		T *fresh = new T(std::forward<Args>(args)...);
		T *old = get_if();
		if (lwp_tss_set(key_, fresh) != 0) {
			delete fresh;
			throw std::bad_alloc();
		}
		delete old;
		return *fresh;
	}
	/// Destroys the calling LWP's T.
	void reset() noexcept {
		T *old = get_if();
		if (old != nullptr) {
			(void)lwp_tss_set(key_, nullptr);
		}
		delete old;
	}
	T &operator*() { return get(); }
	T *operator->() { return &get(); }

private:
	lwp_tss_t key_{};
};

}  // namespace lwp
