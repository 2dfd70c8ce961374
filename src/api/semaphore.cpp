// SPDX-License-Identifier: BSD-2-Clause
#include "sync/semaphore.h"

#include "api/deadline.h"
#include "api/misuse.h"
#include "api/wait_out.h"
#include "base/assert.h"
#include "proc/runtime.h"

#include <lwp/semaphore.hpp>

#include <type_traits>

namespace lwp::detail {
namespace {

using namespace kern;

static_assert(sizeof(ksemaphore) == sizeof(semaphore) && alignof(ksemaphore) == alignof(semaphore));
static_assert(std::is_standard_layout_v<semaphore> && ksemaphore::one == 2 && ksemaphore::units_most == semaphore::units_most);
static_assert(ksemaphore::waited == 1, "what ~semaphore() looks at");

ksemaphore *ks(semaphore *s) noexcept { return reinterpret_cast<ksemaphore *>(s); }

int acquire_slow(ksemaphore *s, nanotime deadline, const std::stop_token *stop = nullptr) noexcept {
	const in_library l;
	return wait_out(l, deadline, stop, [&] { return semaphore_acquire_slow(s, l, deadline); });
}

}  // namespace

void semaphore::acquire() noexcept {
	if (!semaphore_try(ks(this))) {
		(void)acquire_slow(ks(this), never);
	}
}

bool semaphore::try_acquire() noexcept { return semaphore_try(ks(this)); }

bool semaphore::try_acquire_until(steady_time deadline, const std::stop_token *stop) noexcept {
	const nanotime at = to_nanotime(deadline);
	return semaphore_try(ks(this)) || (at > now() && acquire_slow(ks(this), at, stop) == 0);
}

void semaphore::release(std::ptrdiff_t units) noexcept {
	LWP_CHECK(units >= 0, "a semaphore is released by less than 0");
	if (units != 0) {
		const in_library l;
		semaphore_release(ks(this), static_cast<std::uint64_t>(units), l->l_cpu);
		lwp_userret(l);
	}
}

void semaphore::check_destroyed() noexcept { misuse_if_waited("counting_semaphore", this, &ks(this)->sem_waiters); }

}  // namespace lwp::detail
