// SPDX-License-Identifier: BSD-2-Clause
#include "core/lwpctl.h"

#include <mutex>
#include <new>

namespace lwp::kern {
namespace {

struct alignas(64) block {  // a line of its own: its vCPU writes it at each switch
	lwpctl_t b_ctl{};
	block *b_next = nullptr;
};

constinit spinlock ctl_lock(lock_rank::leaf, "lwpctl");
block *ctl_free;

}  // namespace

lwpctl_t *lwpctl_get() noexcept {
	{
		std::lock_guard hold(ctl_lock);
		if (block *b = ctl_free; b != nullptr) {
			ctl_free = b->b_next;
			lwpctl_show_turns(&b->b_ctl, 0);
			return &b->b_ctl;
		}
	}
	auto *b = new (std::nothrow) block;
	return b == nullptr ? nullptr : &b->b_ctl;
}

void lwpctl_put_slow(lwp_t *l) noexcept {
	lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed);  // relaxed: the LWP is dead and the caller's
	l->l_ctl.store(nullptr, std::memory_order_relaxed);
	lwpctl_show(ctl, LWPCTL_CPU_EXITED);
	static_assert(offsetof(block, b_ctl) == 0);
	auto *b = reinterpret_cast<block *>(ctl);
	std::lock_guard hold(ctl_lock);
	b->b_next = ctl_free;
	ctl_free = b;
}

}  // namespace lwp::kern
