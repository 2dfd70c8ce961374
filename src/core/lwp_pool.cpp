// SPDX-License-Identifier: BSD-2-Clause
#include "core/lwp_pool.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_state.h"

#include <mutex>
#include <new>
#if LWP_ASAN
#include <sanitizer/lsan_interface.h>
#endif

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
		void *chunk = sys::map(chunk_size);
		if (chunk == nullptr) {
			return nullptr;
		}
#if LWP_ASAN
		__lsan_register_root_region(chunk, chunk_size);  // LWPs own memory of the heap: specific data, control blocks
#endif
		chunk_next = static_cast<char *>(chunk);
		chunk_end = chunk_next + chunk_size;
	}
	lwp_t *l = ::new (chunk_next) lwp_t{};
	chunk_next += sizeof(lwp_t);
	lwp_statreset(l, &nobody_lock);
	return l;
}

/// As if new, except for what a stale pointer may look at: state, lock, id and the id table's link.
void scrub(lwp_t *l) noexcept {
	l->l_ctx = context{};
	l->l_cpu = nullptr;
	l->l_link = {};
	l->l_class = sched_class::other;
	l->l_priority.store(pri_default, std::memory_order_relaxed);  // relaxed: nobody knows it
	l->l_ownpri.store(pri_default, std::memory_order_relaxed);
	l->l_basepri = pri_default;
	l->l_decay = 0;
	l->l_protpri = pri_none;
	l->l_protdepth = 0;
	l->l_lendsto = nullptr;
	l->l_lendlink = {};
	l->l_flag.store(LW_INMEM, std::memory_order_relaxed);  // relaxed: nobody knows it
	l->l_ctl.store(nullptr, std::memory_order_relaxed);
	l->l_wchan = nullptr;
	l->l_wmesg = nullptr;
	l->l_syncobj = nullptr;
	l->l_sleepq = nullptr;
	l->l_slept = 0;
	l->l_blocks.store(0, std::memory_order_relaxed);
	l->l_error = 0;
	l->l_bound = bound_none;
	l->l_psid = 0;
	l->l_affinity = {};
	l->l_ncsw = 0;
	l->l_nivcsw = 0;
	l->l_account = {};
	l->l_run = {};
	l->l_borndecay = 0;
	l->l_trace = nullptr;
	l->l_biglocks = 0;
	l->l_bighas = big_hold::none;
	l->l_pflag = LP_MPSAFE;
	l->l_biglock = nullptr;
	l->l_prflag = 0;
	l->l_oncpu.store(false, std::memory_order_relaxed);
	l->l_fresh = true;
	l->l_stacked = false;
	l->l_adopted = false;
	l->l_farwait = false;
	l->l_holdcnt = 0;
	l->l_blocking = 0;
	l->l_depth = 1;  // until it enters the application
	l->l_nopreempt = 0;
	l->l_frozen = nullptr;
	l->l_room = 0;
	l->l_refcnt = 1;
	l->l_proc = nullptr;
	l->l_own = {};
	l->l_part = nullptr;
	l->l_wait.store(nullptr, std::memory_order_relaxed);
	l->l_waiters = nullptr;
	l->l_made = 0;
	l->l_func = nullptr;
	l->l_arg = nullptr;
	l->l_private = nullptr;
	l->l_cred = &cred0;
	l->l_stack = stack{};
	l->l_name[0] = '\0';
	l->l_kthread = {};
	l->l_boundsp = nullptr;
	l->l_pins = 0;
	l->l_nested = 0;
	l->l_sigmask = 0;
	l->l_sigpend = 0;
	l->l_sigwait = 0;
	l->l_sigwaited = 0;
	l->l_handled = 0;
	l->l_interrupted = false;
	l->l_hook = nullptr;
	l->l_hookarg = nullptr;
#if LWP_DEBUG
	for (const void *&held : l->l_held) {
		held = nullptr;
	}
	l->l_nheld = 0;
	for (held_lock &h : l->l_order) {
		h = {};
	}
	l->l_ordermore = 0;
#endif
}

}  // namespace

lwp_t *lwp_pool_get() noexcept {
	lwp_t *l;
	{
		std::lock_guard hold(pool_lock);
		l = pool_free.pop_front();
		if (l == nullptr) {
			l = pool_carve();
		}
	}
	if (l != nullptr) {
		scrub(l);
	}
	return l;
}

void lwp_pool_put(lwp_t *l) noexcept {
	lwp_statreset(l, &nobody_lock);
	std::lock_guard hold(pool_lock);
	pool_free.push_front(l);
}

}  // namespace lwp::kern
