// SPDX-License-Identifier: BSD-2-Clause
#include "sync/mutex.h"

#include "api/deadline.h"
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"
#include "sync/once.h"

#include <lwp/mutex.hpp>

#include <cerrno>
#include <cstddef>
#include <new>
#include <system_error>

namespace lwp {
namespace {

using namespace kern;

static_assert(sizeof(kmutex) == sizeof(mutex) && alignof(kmutex) == alignof(mutex));
static_assert(offsetof(kmutex, mtx_owner) == 0, "what ~mutex() looks at");
static_assert(sizeof(konce) == sizeof(once_flag) && alignof(konce) == alignof(once_flag));
static_assert(konce::done == 2 && offsetof(konce, on_word) == 0, "what once_flag::done() looks at");

constexpr std::uint32_t levels_most = UINT32_MAX;

template <std::size_t Size>
kmutex *km(lwp::detail::storage<Size> &s) noexcept {
	return reinterpret_cast<kmutex *>(s.bytes);
}
kmutex *km(mutex &m) noexcept { return reinterpret_cast<kmutex *>(&m); }

[[noreturn]] void fail(std::errc error, const char *what) { throw std::system_error(std::make_error_code(error), what); }

/// Waits as long as it takes: a suspend and the like only interrupt it.  0 | ETIMEDOUT | EDEADLK
LWP_NOINLINE int lock_slow(kmutex *m, lwp_t *l, nanotime deadline) noexcept {
	for (;;) {
		const int error = mutex_lock_slow(m, l, deadline);
		if (error != ERESTART && error != ENOMEM) {
			return error;
		}
		lwp_userret(l);
		if (error == ENOMEM) {  // no room for a timer: wait the other way, by looking at the clock
			if (now() >= deadline) {
				return ETIMEDOUT;
			}
			lwp_yield_cpu(l);
		}
	}
}

/// 0 | ETIMEDOUT | EDEADLK
int lock_until(kmutex *m, lwp_t *l, lwp::detail::steady_time deadline) noexcept {
	if (mutex_trylock(m, l)) {
		return 0;
	}
	const nanotime at = to_nanotime(deadline);
	if (mutex_owner(m) != l && at <= now()) {
		return ETIMEDOUT;
	}
	return lock_slow(m, l, at);
}

}  // namespace

namespace detail {

void check_mutex_destroyed(const void *object, std::uintptr_t word) noexcept {
#if LWP_DEBUG
	if (auto *owner = reinterpret_cast<lwp_t *>(word & ~kmutex::flags); owner != nullptr) {
		fatal("lwp::mutex at %p is destroyed while LWP %d '%s' owns it", object, lwp_lid(owner), owner->l_name);
	}
	fatal("lwp::mutex at %p is destroyed while LWPs wait for it", object);
#else
	(void)object, (void)word;
#endif
}

}  // namespace detail

void mutex::lock() {
	lwp_t *l = curlwp();
	kmutex *m = km(kernel_);
	if (LWP_LIKELY(mutex_trylock(m, l))) {
		return;
	}
	if (lock_slow(m, l, never) != 0) {
		fail(std::errc::resource_deadlock_would_occur, "lwp::mutex: the caller has it already");
	}
}

bool mutex::try_lock() noexcept { return mutex_trylock(km(kernel_), curlwp()); }

bool mutex::try_lock_until_steady(lwp::detail::steady_time deadline) {
	const int error = lock_until(km(kernel_), curlwp(), deadline);
	if (error == EDEADLK) {
		fail(std::errc::resource_deadlock_would_occur, "lwp::timed_mutex: the caller has it already");
	}
	return error == 0;
}

void mutex::unlock() noexcept {
	lwp_t *l = curlwp();
	mutex_unlock(km(kernel_), l);
	lwp_userret(l);
}

void recursive_mutex::lock() {
	lwp_t *l = curlwp();
	kmutex *m = km(mutex_);
	if (!mutex_trylock(m, l) && lock_slow(m, l, never) == EDEADLK && levels_ == levels_most) {
		fail(std::errc::resource_unavailable_try_again, "lwp::recursive_mutex: too many levels");
	}
	levels_++;
}

bool recursive_mutex::try_lock() noexcept {
	lwp_t *l = curlwp();
	kmutex *m = km(mutex_);
	if (!mutex_trylock(m, l) && (mutex_owner(m) != l || levels_ == levels_most)) {
		return false;
	}
	levels_++;
	return true;
}

bool recursive_mutex::try_lock_until_steady(lwp::detail::steady_time deadline) {
	const int error = lock_until(km(mutex_), curlwp(), deadline);
	if (error == ETIMEDOUT || (error == EDEADLK && levels_ == levels_most)) {
		return false;
	}
	levels_++;
	return true;
}

void recursive_mutex::unlock() noexcept {
	lwp_t *l = curlwp();
	kmutex *m = km(mutex_);
	LWP_CHECK(mutex_owner(m) == l, "a recursive mutex is unlocked by an LWP that does not own it");
	if (--levels_ == 0) {
		mutex_unlock(m, l);
		lwp_userret(l);
	}
}

bool once_flag::begin() {
	lwp_t *l = curlwp();
	for (;;) {
		const int error = once_begin(reinterpret_cast<konce *>(this), l);
		if (error == EDEADLK) {
			fail(std::errc::resource_deadlock_would_occur, "lwp::call_once: called by the function it runs");
		}
		if (error != ERESTART) {
			return error == 0;
		}
		lwp_userret(l);
	}
}

void once_flag::end(bool done) noexcept {
	lwp_t *l = curlwp();
	once_end(reinterpret_cast<konce *>(this), l, done);
	lwp_userret(l);
}

}  // namespace lwp
