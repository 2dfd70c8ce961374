// SPDX-License-Identifier: BSD-2-Clause
#include "proc/pager.h"

#include "base/assert.h"
#include "base/sys.h"
#include "ctx/residence.h"
#include "sched/pageq.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <new>
#include <pthread.h>

namespace lwp::kern {
namespace {

constexpr std::uint32_t buckets = 64;    // of a table, looked at under one pp_lock
constexpr std::size_t batch_most = 256;  // claimed meanwhile; more of them in so few buckets wait for the next sweep
constexpr nanotime period_least = 1'000'000;
constexpr nanotime period_most = 5'000'000'000;

vcpu_t *self;  // a name for locks, as the monitor has one; type-stable
pthread_t thread;
bool started;              // by who starts and stops runtimes
atomic<bool> stop{false};  // false again, relaxed, before the kernel thread that reads it is made
nanotime threshold;        // (

// relaxed, all: statistics
atomic<std::uint64_t> went{0};
atomic<std::uint64_t> came{0};
atomic<std::uint64_t> given_back{0};

/// Locked: off its vCPU, if it is asleep.
bool may_go(const lwp_t *l, nanotime before) noexcept {
	return lwp_asleep(l) && (lwp_flags(l) & (LW_INMEM | LW_PAGING)) == LW_INMEM && l->l_holdcnt == 0 && l->l_slept <= before &&
	    !l->l_adopted && !l->l_stack.s_foreign && context_sp(l->l_ctx) != nullptr;
}

/// By who has set LW_PAGING in a sleeper: its stack is in memory from now on.
void bring_in(lwp_t *l, vcpu_t *me) noexcept {
	stack_page_in(l->l_stack, context_sp(l->l_ctx));
	came.fetch_add(1, std::memory_order_relaxed);
	spinlock *lock = lwp_lock(l, me);
	lwp_flag_set(l, LW_INMEM);
	lwp_flag_clear(l, LW_PAGING);
	const bool woken = lwp_state(l) == lwp_stat::run;  // meanwhile: it is on the page queue
	lock->unlock(me);
	if (woken) {
		pageq_call();
	}
}

/// One that a sweep has claimed.
void take_out(lwp_t *l, vcpu_t *me) noexcept {
	const void *sp = context_sp(l->l_ctx);
	const std::size_t bytes = stack_give_back(l->l_stack, sp);
	stack_page_out(l->l_stack, sp);
	went.fetch_add(1, std::memory_order_relaxed);
	given_back.fetch_add(bytes, std::memory_order_relaxed);
	spinlock *lock = lwp_lock(l, me);
	const bool held = l->l_holdcnt != 0 && lwp_state(l) != lwp_stat::run;  // who held it meanwhile left it to us
	const bool woken = lwp_state(l) == lwp_stat::run;
	if (!held) {
		lwp_flag_clear(l, LW_PAGING);  // from here on the pager may make it run, and it may end
	}
	lock->unlock(me);
	if (held) {
		bring_in(l, me);
	} else if (woken) {
		pageq_call();
	}
}

void *pager_main(void *) {
	curcpu_set(self);
	const nanotime period = std::clamp(threshold / 4, period_least, period_most);
	nanotime next = after(now(), period);
	while (!stop.load(std::memory_order_acquire)) {  // pairs with the release in pager_stop()
		// Who queues an LWP stores it and then counts: we see it below, or the futex sees the count.  acquire: pairs with the release in pageq_call()
		const std::uint32_t calls = pageq.pq_calls.load(std::memory_order_acquire);
		(void)pager_serve(self);
		if (now() >= next) {
			(void)pager_sweep(&proc0, threshold, self);
			next = after(now(), period);
		}
		const timespec until = to_timespec(next);
		(void)sys::futex_wait(&pageq.pq_calls, calls, &until);
	}
	curcpu_set(nullptr);
	return nullptr;
}

}  // namespace

std::size_t pager_sweep(proc_t *p, nanotime least, vcpu_t *me) noexcept {
	const nanotime when = now();
	if (when < least) {
		return 0;
	}
	std::size_t all = 0;
	proc_each_part(p, [&](procpart &pp) {
		lwp_t *claimed[batch_most];
		std::uint32_t from = 0;
		for (bool more = true; more;) {
			std::size_t n = 0;
			const auto claim = [&](lid_node *node) {
				auto *l = static_cast<lwp_t *>(node);
				const lwp_stat s = lwp_state(l);
				if (n == batch_most || (s != lwp_stat::sleep && s != lwp_stat::stop)) {  // a look without its lock: most do not sleep
					return;
				}
				spinlock *lock = lwp_lock(l, me);
				if (may_go(l, when - least)) {
					lwp_flag_clear(l, LW_INMEM);
					lwp_flag_set(l, LW_PAGING);
					claimed[n++] = l;
				}
				lock->unlock(me);
			};
			{
				lock_scope hold(pp.pp_lock, me);  // none of the table's LWPs ends while we look
				more = pp.pp_lwps.for_some(from, buckets, claim);
			}
			for (std::size_t i = 0; i < n; i++) {
				take_out(claimed[i], me);
			}
			all += n;
		}
	});
	return all;
}

std::size_t pager_serve(vcpu_t *me) noexcept {
	std::size_t n = 0;
	for (;;) {
		pageq.pq_lock.lock(me);
		lwp_t *l = pageq.pq_lwps.front();
		while (l != nullptr && (lwp_flags(l) & LW_PAGING) != 0) {
			l = pageq.pq_lwps.next(l);  // whoever works on it calls when that is done
		}
		if (l == nullptr) {
			pageq.pq_lock.unlock(me);
			return n;
		}
		pageq.pq_lwps.remove(l);
		const bool out = (lwp_flags(l) & LW_INMEM) == 0;
		lwp_flag_set(l, LW_PAGING);
		pageq.pq_lock.unlock(me);
		if (out) {
			stack_page_in(l->l_stack, context_sp(l->l_ctx));
			came.fetch_add(1, std::memory_order_relaxed);
		}
		pageq.pq_lock.lock(me);  // LSRUN, and on no list but ours: its lock is pq_lock yet
		LWP_ASSERT(lwp_locked(l, &pageq.pq_lock));
		lwp_flag_clear(l, LW_PAGING);
		lwp_flag_set(l, LW_INMEM);
		pageq_run_and_unlock(l, me);
		n++;
	}
}

int uvm_lwp_hold(lwp_t *l, lwpid_t lid) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock;
	lwp_t *t = lwp_find_and_lock(l->l_proc, lid == 0 ? lwp_lid(l) : lid, me, &lock);
	if (t == nullptr) {
		return ESRCH;
	}
	if (t->l_holdcnt == UINT16_MAX) {
		lock->unlock(me);
		return EAGAIN;
	}
	t->l_holdcnt++;
	const bool ours = lwp_asleep(t) && (lwp_flags(t) & (LW_INMEM | LW_PAGING)) == 0;
	if (ours) {
		lwp_flag_set(t, LW_PAGING);
	}
	lock->unlock(me);
	if (ours) {
		bring_in(t, me);
	}
	return 0;
}

int uvm_lwp_rele(lwp_t *l, lwpid_t lid) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock;
	lwp_t *t = lwp_find_and_lock(l->l_proc, lid == 0 ? lwp_lid(l) : lid, me, &lock);
	if (t == nullptr) {
		return ESRCH;
	}
	const bool held = t->l_holdcnt != 0;
	if (held) {
		t->l_holdcnt--;
	}
	lock->unlock(me);
	return held ? 0 : EINVAL;
}

pager_stats pager_statistics() noexcept {
	return {went.load(std::memory_order_relaxed), came.load(std::memory_order_relaxed), given_back.load(std::memory_order_relaxed)};
}

int pager_start(nanotime after) noexcept {
	if (self == nullptr) {
		self = new (std::nothrow) vcpu_t;
		if (self == nullptr) {
			return ENOMEM;
		}
		self->vc_bound = true;
		self->vc_duty.store(vcpu_duty::outside, std::memory_order_relaxed);  // relaxed: nobody knows it yet
	}
	threshold = after;
	stop.store(false, std::memory_order_relaxed);
	sigset_t every;
	sigset_t old;
	::sigfillset(&every);
	::pthread_sigmask(SIG_SETMASK, &every, &old);  // signals are for the application's threads
	const int error = sys::thread_create(&thread, nullptr, pager_main, nullptr);
	::pthread_sigmask(SIG_SETMASK, &old, nullptr);
	if (error == 0) {
		started = true;
		sched.sd_helpers.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
	}
	return error;
}

void pager_stop() noexcept {
	if (!started) {
		return;
	}
	started = false;
	stop.store(true, std::memory_order_release);  // pairs with the acquire in pager_main()
	pageq_call();
	::pthread_join(thread, nullptr);
	sched.sd_helpers.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace lwp::kern
