// SPDX-License-Identifier: BSD-2-Clause
#include "sync/mutex.h"

#include "api/deadline.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"

#include <lwp/mutex.hpp>

#include <cerrno>
#include <new>
#include <system_error>

namespace lwp {
namespace {

using namespace kern;

static_assert(sizeof(kmutex) == sizeof(mutex) && alignof(kmutex) == alignof(mutex));

kmutex *km(lwp::detail::storage<24> &s) noexcept { return reinterpret_cast<kmutex *>(s.bytes); }

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

}  // namespace

void mutex::lock() {
	lwp_t *l = curlwp();
	kmutex *m = km(kernel_);
	if (LWP_LIKELY(mutex_take(m, l))) {
		return;
	}
	if (lock_slow(m, l, never) != 0) {
		throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur), "lwp::mutex: the caller has it already");
	}
}

bool mutex::try_lock() noexcept { return mutex_trylock(km(kernel_), curlwp()); }

bool mutex::try_lock_until_steady(lwp::detail::steady_time deadline) {
	lwp_t *l = curlwp();
	kmutex *m = km(kernel_);
	if (mutex_trylock(m, l)) {
		return true;
	}
	const nanotime at = to_nanotime(deadline);
	if (mutex_owner(m) != l && at <= now()) {
		return false;
	}
	const int error = lock_slow(m, l, at);
	if (error == EDEADLK) {
		throw std::system_error(
		    std::make_error_code(std::errc::resource_deadlock_would_occur), "lwp::timed_mutex: the caller has it already");
	}
	return error == 0;
}

void mutex::unlock() noexcept { mutex_unlock(km(kernel_), curlwp()); }

}  // namespace lwp
