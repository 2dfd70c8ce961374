// SPDX-License-Identifier: BSD-2-Clause
#include "api/deadline.h"
#include "api/misuse.h"
#include "api/wait_out.h"
#include "base/assert.h"
#include "proc/inside.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"
#include "sync/lockorder.h"
#include "sync/rwlock.h"

#include <lwp/shared_mutex.hpp>

#include <cerrno>
#include <cstddef>
#include <system_error>

namespace lwp {
namespace {

using namespace kern;

static_assert(sizeof(krwlock) == sizeof(shared_mutex) && alignof(krwlock) == alignof(shared_mutex));
static_assert(offsetof(krwlock, rw_word) == 0, "what ~shared_mutex() looks at");
static_assert(sizeof(atomic<bool>) == 1 && offsetof(krwlock, rw_known) == 40, "shared_mutex::known_at");

krwlock *rw(lwp::detail::storage<48> &s) noexcept { return reinterpret_cast<krwlock *>(s.bytes); }

using lock_slow = int (*)(krwlock *, lwp_t *, nanotime) noexcept;

/// Waits as long as it takes: a suspend and the like only interrupt it.  0 | ETIMEDOUT | ECANCELED | EDEADLK
LWP_NOINLINE int wait(lock_slow slow, krwlock *k, lwp_t *l, nanotime deadline, const std::stop_token *stop = nullptr) noexcept {
	return wait_out(l, deadline, stop, [=] { return slow(k, l, deadline); });
}

bool succeeded(int error) {
	if (error == EDEADLK) {
		throw std::system_error(
		    std::make_error_code(std::errc::resource_deadlock_would_occur), "lwp::shared_mutex: the caller has it already");
	}
	return error == 0;
}

bool wait_until(lock_slow slow, krwlock *k, lwp_t *l, lwp::detail::steady_time deadline, const std::stop_token *stop) {
	const nanotime at = to_nanotime(deadline);
	if (rwlock_owner(k) != l && at <= now()) {
		return false;
	}
	return succeeded(wait(slow, k, l, at, stop));
}

}  // namespace

namespace detail {

void check_shared_mutex_destroyed(const void *object, std::uintptr_t word) noexcept {
#if LWP_DEBUG
	const perhaps_in_library here;
	if (word == 0) {
		lockorder_destroyed(object);
		return;
	}
	if ((word & krwlock::writer) != 0) {
		auto *owner = reinterpret_cast<lwp_t *>(word & ~(krwlock::writer | krwlock::waited));
		fatal("lwp::shared_mutex at %p is destroyed while LWP %d '%s' owns it", object, lwp_lid(owner), owner->l_name);
	}
	fatal("lwp::shared_mutex at %p is destroyed while %zu LWP(s) share it", object, word / krwlock::reader);
#else
	(void)object, (void)word;
#endif
}

}  // namespace detail

void shared_mutex::lock_call() {
	static_assert(
	    waited == krwlock::waited && writer == krwlock::writer && reader == krwlock::reader, "what goes in and out without a call");
	const in_library l;
	krwlock *k = rw(kernel_);
	lockorder_wanted(l, k, lock_hold::write, lockorder_site());
	if (LWP_UNLIKELY(!rwlock_trywrlock(k, l))) {
		(void)succeeded(wait(rwlock_wrlock_slow, k, l, never));
	}
	lockorder_taken(l, k, lock_hold::write, lockorder_site());
}

bool shared_mutex::try_lock_call() noexcept {
	const in_library l;
	const bool taken = rwlock_trywrlock(rw(kernel_), l);
	if (taken) {
		lockorder_taken(l, rw(kernel_), lock_hold::write, lockorder_site());
	}
	return taken;
}

bool shared_mutex::try_lock_until_steady(lwp::detail::steady_time deadline, const std::stop_token *stop) {
	const in_library l;
	krwlock *k = rw(kernel_);
	const bool taken = rwlock_trywrlock(k, l) || wait_until(rwlock_wrlock_slow, k, l, deadline, stop);
	if (taken) {
		lockorder_taken(l, k, lock_hold::write, lockorder_site());
	}
	return taken;
}

void shared_mutex::unlock_call() noexcept {
	const in_library l;
	krwlock *k = rw(kernel_);
#if LWP_DEBUG
	if (rwlock_owner(k) != l) {
		misuse_not_owner("a shared mutex is unlocked by an LWP that does not own it", "shared_mutex", this, l, rwlock_owner(k));
	}
#endif
	(void)lockorder_released(l, k);
	rwlock_wrunlock(k, l);
	lwp_userret(l);
}

void shared_mutex::lock_shared_call() {
	const in_library l;
	krwlock *k = rw(kernel_);
	lockorder_wanted(l, k, lock_hold::read, lockorder_site());
	if (LWP_UNLIKELY(!rwlock_rdtake(k))) {
		(void)succeeded(wait(rwlock_rdlock_slow, k, l, never));
	}
	lockorder_taken(l, k, lock_hold::read, lockorder_site());
}

bool shared_mutex::try_lock_shared_call() noexcept {
	const in_library l;
	const bool taken = rwlock_tryrdlock(rw(kernel_), l);
	if (taken) {
		lockorder_taken(l, rw(kernel_), lock_hold::read, lockorder_site());
	}
	return taken;
}

bool shared_mutex::try_lock_shared_until_steady(lwp::detail::steady_time deadline, const std::stop_token *stop) {
	const in_library l;
	krwlock *k = rw(kernel_);
	const bool taken = rwlock_tryrdlock(k, l) || wait_until(rwlock_rdlock_slow, k, l, deadline, stop);
	if (taken) {
		lockorder_taken(l, k, lock_hold::read, lockorder_site());
	}
	return taken;
}

void shared_mutex::unlock_shared_call() noexcept {
	const in_library l;
	krwlock *k = rw(kernel_);
#if LWP_DEBUG
	if (!lockorder_released(l, k)) {
		fatal("a shared mutex is unlocked by an LWP that does not share it: lwp::shared_mutex at %p, by LWP %d '%s'",
		    static_cast<void *>(this), lwp_lid(l), l->l_name);
	}
#endif
	rwlock_rdunlock(k, l);
	lwp_userret(l);
}

bool shared_mutex::try_upgrade() noexcept {
	const in_library l;
	krwlock *k = rw(kernel_);
	if (!rwlock_tryupgrade(k, l)) {
		return false;
	}
#if LWP_DEBUG
	if (!lockorder_released(l, k)) {
		fatal("a shared mutex is upgraded by an LWP that does not share it: lwp::shared_mutex at %p, by LWP %d '%s'",
		    static_cast<void *>(this), lwp_lid(l), l->l_name);
	}
#endif
	lockorder_taken(l, k, lock_hold::write, lockorder_site());
	return true;
}

void shared_mutex::downgrade() noexcept {
	const in_library l;
	krwlock *k = rw(kernel_);
#if LWP_DEBUG
	if (rwlock_owner(k) != l) {
		misuse_not_owner("a shared mutex is downgraded by an LWP that does not own it", "shared_mutex", this, l, rwlock_owner(k));
	}
#endif
	(void)lockorder_released(l, k);
	lockorder_taken(l, k, lock_hold::read, lockorder_site());
	rwlock_downgrade(k, l);
	lwp_userret(l);
}

}  // namespace lwp
