// SPDX-License-Identifier: BSD-2-Clause
#include "sync/mutex.h"

#include "api/deadline.h"
#include "api/misuse.h"
#include "api/wait_out.h"
#include "base/assert.h"
#include "proc/inside.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"
#include "sync/lockorder.h"
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
static_assert(sizeof(atomic<bool>) == 1 && offsetof(kmutex, mtx_known) == 26, "mutex::known_at");
#if LWP_HERE && !LWP_BY_CALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // as lwp_layout (core/lwp.h)
// What code that stands in applications looks at.
static_assert(offsetof(vcpu_t, vc_curlwp) == lwp::detail::here::lwp_at && offsetof(vcpu_t, vc_resched) == lwp::detail::here::resched_at);
static_assert(offsetof(lwp_t, l_flag) == lwp::detail::here::flags_at && LW_BOUNDARY == lwp::detail::here::boundary);
static_assert(sizeof(lwp_t::l_flag) == 4 && sizeof(vcpu_t::vc_resched) == 1 && alignof(lwp_t) == 64);
static_assert(kmutex::flags == lwp::detail::here::lock_flags);
#pragma GCC diagnostic pop
#endif
static_assert(sizeof(konce) == sizeof(once_flag) && alignof(konce) == alignof(once_flag));
static_assert(konce::done == 2 && offsetof(konce, on_word) == 0, "what once_flag::done() looks at");

constexpr std::uint32_t levels_most = UINT32_MAX;

template <std::size_t Size>
kmutex *km(lwp::detail::storage<Size> &s) noexcept {
	return reinterpret_cast<kmutex *>(s.bytes);
}
kmutex *km(mutex &m) noexcept { return reinterpret_cast<kmutex *>(&m); }

[[noreturn]] void fail(std::errc error, const char *what) { throw std::system_error(std::make_error_code(error), what); }

/// Waits as long as it takes: a suspend and the like only interrupt it.  0 | ETIMEDOUT | ECANCELED | EDEADLK
LWP_NOINLINE int lock_slow(kmutex *m, lwp_t *l, nanotime deadline, const std::stop_token *stop = nullptr) noexcept {
	return wait_out(l, deadline, stop, [=] { return mutex_lock_slow(m, l, deadline); });
}

/// 0 | ETIMEDOUT | ECANCELED | EDEADLK
int lock_until(kmutex *m, lwp_t *l, lwp::detail::steady_time deadline, const std::stop_token *stop) noexcept {
	if (mutex_trylock(m, l)) {
		return 0;
	}
	const nanotime at = to_nanotime(deadline);
	if (mutex_owner(m) != l && at <= now()) {
		return ETIMEDOUT;
	}
	return lock_slow(m, l, at, stop);
}

}  // namespace

namespace detail {

void check_mutex_destroyed(const void *object, std::uintptr_t word) noexcept {
#if LWP_DEBUG
	const perhaps_in_library here;
	if (word == 0) {
		lockorder_destroyed(object);
		return;
	}
	if (auto *owner = reinterpret_cast<lwp_t *>(word & ~kmutex::flags); owner != nullptr) {
		fatal("lwp::mutex at %p is destroyed while LWP %d '%s' owns it", object, lwp_lid(owner), owner->l_name);
	}
	fatal("lwp::mutex at %p is destroyed while LWPs wait for it", object);
#else
	(void)object, (void)word;
#endif
}

}  // namespace detail

void mutex::lock_call() {
	const in_library l;
	kmutex *m = km(kernel_);
	lockorder_wanted(l, m, lock_hold::mutex, lockorder_site());
	if (LWP_UNLIKELY(!mutex_trylock(m, l)) && lock_slow(m, l, never) != 0) {
		fail(std::errc::resource_deadlock_would_occur, "lwp::mutex: the caller has it already");
	}
	lockorder_taken(l, m, lock_hold::mutex, lockorder_site());
}

bool mutex::try_lock_call() noexcept {
	const in_library l;
	const bool taken = mutex_trylock(km(kernel_), l);
	if (taken) {
		lockorder_taken(l, km(kernel_), lock_hold::mutex, lockorder_site());
	}
	return taken;
}

bool mutex::try_lock_until_steady(lwp::detail::steady_time deadline, const std::stop_token *stop) {
	const in_library l;
	const int error = lock_until(km(kernel_), l, deadline, stop);
	if (error == EDEADLK) {
		fail(std::errc::resource_deadlock_would_occur, "lwp::timed_mutex: the caller has it already");
	}
	if (error == 0) {
		lockorder_taken(l, km(kernel_), lock_hold::mutex, lockorder_site());
	}
	return error == 0;
}

void mutex::unlock_call() noexcept {
	const in_library l;
	kmutex *m = km(kernel_);
#if LWP_DEBUG
	if (mutex_owner(m) != l) {
		misuse_not_owner("a mutex is unlocked by an LWP that does not own it", "mutex", this, l, mutex_owner(m));
	}
#endif
	(void)lockorder_released(l, m);
	mutex_unlock(m, l);
	lwp_userret(l);
}

void recursive_mutex::lock_call() {
	const in_library l;
	kmutex *m = km(mutex_);
	if (mutex_owner(m) != l) {
		lockorder_wanted(l, m, lock_hold::mutex, lockorder_site());
	}
	if (!mutex_trylock(m, l) && lock_slow(m, l, never) == EDEADLK && levels_ == levels_most) {
		fail(std::errc::resource_unavailable_try_again, "lwp::recursive_mutex: too many levels");
	}
	if (levels_++ == 0) {
		lockorder_taken(l, m, lock_hold::mutex, lockorder_site());
	}
}

bool recursive_mutex::try_lock_call() noexcept {
	const in_library l;
	kmutex *m = km(mutex_);
	if (!mutex_trylock(m, l) && (mutex_owner(m) != l || levels_ == levels_most)) {
		return false;
	}
	if (levels_++ == 0) {
		lockorder_taken(l, m, lock_hold::mutex, lockorder_site());
	}
	return true;
}

bool recursive_mutex::try_lock_until_steady(lwp::detail::steady_time deadline, const std::stop_token *stop) {
	const in_library l;
	const int error = lock_until(km(mutex_), l, deadline, stop);
	if (error == ETIMEDOUT || error == ECANCELED || (error == EDEADLK && levels_ == levels_most)) {
		return false;
	}
	if (levels_++ == 0) {
		lockorder_taken(l, km(mutex_), lock_hold::mutex, lockorder_site());
	}
	return true;
}

void recursive_mutex::unlock_call() noexcept {
	const in_library l;
	kmutex *m = km(mutex_);
#if LWP_DEBUG
	if (mutex_owner(m) != l) {
		misuse_not_owner("a recursive mutex is unlocked by an LWP that does not own it", "recursive_mutex", this, l, mutex_owner(m));
	}
#endif
	LWP_CHECK(mutex_owner(m) == l, "a recursive mutex is unlocked by an LWP that does not own it");
	if (--levels_ == 0) {
		(void)lockorder_released(l, m);
		mutex_unlock(m, l);
		lwp_userret(l);
	}
}

bool once_flag::begin() {
	const in_library l;
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
	const in_library l;
	once_end(reinterpret_cast<konce *>(this), l, done);
	lwp_userret(l);
}

}  // namespace lwp
