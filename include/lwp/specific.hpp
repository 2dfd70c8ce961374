// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::specific<T>: specific data with a key that knows its type.  One T for each LWP, made at its first use in that LWP and destroyed when the
// LWP exits.  It is what `thread_local T` would be if a thread_local followed the LWP from kernel thread to kernel thread.
#pragma once

#include <lwp/lwp.h>

#include <functional>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

namespace lwp {

/// What the opening of this file says.
template <class T>
class specific {
public:
	/// The first get() of an LWP makes a T(), or is std::bad_function_call if there is none: then emplace() first.
	/// Throws std::system_error (ENOMEM) if no key can be made.
	specific() {
		create();
		if constexpr (std::is_default_constructible_v<T>) {
			make_ = [] { return new T(); };
		}
	}
	/// The first get() of an LWP makes its T of factory(), in that LWP; several may call it at once.  Throws as above, and std::bad_alloc.
	template <class Factory>
		requires(!std::is_same_v<std::remove_cvref_t<Factory>, specific> && std::is_invocable_r_v<T, const std::decay_t<Factory> &>)
	explicit specific(Factory &&factory)
	    : make_([f = std::decay_t<Factory>(std::forward<Factory>(factory))] { return new T(std::invoke(f)); }) {
		create();
	}
	/// Destroys no values: an LWP that still has one keeps it for ever.  Make it outlive its users, or reset() in each.
	~specific() { lwp_tss_delete(key_); }
	specific(const specific &) = delete;
	specific &operator=(const specific &) = delete;

	/// The calling LWP's T, made at the first use.  Throws what the factory or T's constructor throws (the next get() tries again), or
	/// std::bad_alloc.
	T &get() {
		if (T *value = get_if()) {
			return *value;
		}
		return replace(make_());
	}
	/// The calling LWP's T, or null if there is none yet.
	[[nodiscard]] T *get_if() const noexcept { return static_cast<T *>(lwp_tss_get(key_)); }
	/// Replaces the calling LWP's T.
	template <class... Args>
	T &emplace(Args &&...args) {
		return replace(new T(std::forward<Args>(args)...));
	}
	/// Destroys the calling LWP's T; the next get() makes another.
	void reset() noexcept {
		T *old = get_if();
		if (old != nullptr) {
			(void)lwp_tss_set(key_, nullptr);
		}
		delete old;
	}
	/// As get().
	T &operator*() { return get(); }
	T *operator->() { return &get(); }

private:
	void create() {
		if (int error = lwp_tss_create(&key_, [](void *p) { delete static_cast<T *>(p); })) {
			throw std::system_error(error, std::generic_category(), "lwp::specific");
		}
	}
	T &replace(T *fresh) {
		T *old = get_if();
		if (lwp_tss_set(key_, fresh) != 0) {
			delete fresh;
			throw std::bad_alloc();
		}
		delete old;
		return *fresh;
	}

	std::function<T *()> make_;
	lwp_tss_t key_{};
};

}  // namespace lwp
