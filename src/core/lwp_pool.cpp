// SPDX-License-Identifier: BSD-2-Clause
#include "core/lwp_pool.h"

#include "base/assert.h"
#include "core/lwp_state.h"

#include <mutex>
#include <new>
#include <sys/mman.h>

namespace lwp::kern {
namespace {

constexpr std::size_t chunk_size = 1U << 20;

constinit spinlock pool_lock(lock_rank::leaf, "lwp pool");
constinit spinlock nobody_lock(lock_rank::vcpu_lwp, "unused LWP");  // covers LWPs that are none
list<lwp_t, &lwp_t::l_link> pool_free;
char *chunk_next;
char *chunk_end;

lwp_t *pool_carve() noexcept {
	if (static_cast<std::size_t>(chunk_end - chunk_next) < sizeof(lwp_t)) {
		void *chunk = ::mmap(nullptr, chunk_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (chunk == MAP_FAILED) {
			return nullptr;
		}
		chunk_next = static_cast<char *>(chunk);
		chunk_end = chunk_next + chunk_size;
	}
	lwp_t *l = ::new (chunk_next) lwp_t{};
	chunk_next += sizeof(lwp_t);
	lwp_statreset(l, &nobody_lock);
	return l;
}

}  // namespace

lwp_t *lwp_pool_get() noexcept {
	std::lock_guard hold(pool_lock);
	lwp_t *l = pool_free.pop_front();
	return l != nullptr ? l : pool_carve();
}

void lwp_pool_put(lwp_t *l) noexcept {
	lwp_statreset(l, &nobody_lock);
	std::lock_guard hold(pool_lock);
	pool_free.push_front(l);
}

}  // namespace lwp::kern
