// SPDX-License-Identifier: BSD-2-Clause
#include "sync/barrier.h"

#include "api/misuse.h"
#include "api/wait_out.h"
#include "base/assert.h"
#include "proc/runtime.h"

#include <lwp/barrier.hpp>

namespace lwp::detail {
namespace {

using namespace kern;

static_assert(sizeof(kbarrier) == sizeof(barrier_base) && alignof(kbarrier) == alignof(barrier_base));
static_assert(std::is_standard_layout_v<barrier_base>);

kbarrier *kb(barrier_base *b) noexcept { return reinterpret_cast<kbarrier *>(b); }

}  // namespace

bool barrier_base::arrive(std::ptrdiff_t n) noexcept {
	const in_library l;
	LWP_CHECK(n > 0, "a barrier is arrived at by less than 1");
	const arrival a = barrier_arrive(kb(this), n);
	LWP_CHECK(a != arrival::too_many, "more arrive at a barrier than it awaits");
	if (a != arrival::last) {
		lwp_userret(l);  // the last one has others waiting for it
	}
	return a == arrival::last;
}

void barrier_base::end_phase() noexcept {
	const in_library l;
	barrier_end_phase(kb(this), l->l_cpu);
	lwp_userret(l);
}

bool barrier_base::wait(std::uint64_t phase, const std::stop_token *stop) noexcept {
	if (this->phase() != phase) {
		return true;
	}
	const in_library l;
	return wait_out(l, never, stop, [&] { return barrier_wait(kb(this), l, phase); }) == 0;
}

void barrier_base::check_destroyed() noexcept { misuse_if_waited("barrier", this, &kb(this)->br_waiters); }

}  // namespace lwp::detail
