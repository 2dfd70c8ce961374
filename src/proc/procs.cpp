// SPDX-License-Identifier: BSD-2-Clause
//
// Procs among each other: made, waited for, let go of.  proc0 is there from the start and is the process; this file is about the others.
//
//   active   made with no LWP; the first is its maker's to start, all others are started by its own
//   zomb     its last LWP has ended.  How it ended, and that LWP, wait for p_parent
//   dead     somebody has waited, or nobody will (an orphan): it has no number.  The struct goes back to the pool with its last reference
//
// p_nliving says which LWP is the last.  Each counts itself out as it becomes LSZOMB, in one section under the pp_lock of its part; it makes no
// other any more then, and none comes from outside after the first.  So one that finds itself alone, before or as it counts, is the last for good:
// it takes all locks, and with that the others are LSZOMB; it buries what they have left, hands the proc's children over, and tells the parent.
// Whoever waits looks and goes to sleep under all locks, so the end is before the look, and seen, or after the sleep, and wakes.
//
// The last LWP buries the zombies that nobody has collected.  It cannot bury itself, since it stands on its stack: it stays in p_last, for whoever
// waits; an orphan's goes into the slot of its part, like every dead detached LWP.  Those in slots are used for the next LWP of whatever proc, and
// hold the struct until then.
//
// Takes: all pp_locks, then the lock of a sleep queue or of the pool.  Structs are kept in a pool, since the last reference may be given back with a
// pp_lock held.
#include "base/assert.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "proc/signal.h"

#include <cerrno>
#include <csignal>
#include <mutex>
#include <new>

namespace lwp::kern {
namespace {

constexpr pid_t pid_of_proc0 = 1;

const syncobj wait_for_proc_syncobj = {"end of a proc"};

lidtable numbers;                  // P
pid_t last_number = pid_of_proc0;  // P
constinit spinlock pool_lock(lock_rank::leaf, "proc pool");
list<proc_t, &proc_t::p_list> pool_free;  // pool_lock

proc_t *pool_get() noexcept {
	proc_t *p;
	{
		std::lock_guard hold(pool_lock);
		p = pool_free.pop_front();
	}
	return p != nullptr ? p : new (std::nothrow) proc_t;
}

/// As if new, with a share for each part.  0 | ENOMEM
int renew(proc_t *p) noexcept {
	procshare *shares = p->p_shares;
	std::uint32_t room = p->p_nshares;
	if (const std::uint32_t parts = proc_nparts(p); room < parts) {
		auto *more = new (std::nothrow) procshare[parts];
		if (more == nullptr) {
			return ENOMEM;
		}
		delete[] shares;
		shares = more;
		room = parts;
	}
	for (std::uint32_t i = 0; i < room; i++) {
		std::destroy_at(&shares[i]);
		::new (static_cast<void *>(&shares[i])) procshare;
	}
	std::destroy_at(p);
	::new (static_cast<void *>(p)) proc_t;
	p->p_shares = shares;
	p->p_nshares = room;
	return 0;
}

/// A number that no proc has, entered.  All locks held.  0 | ENOMEM
int enter_number(proc_t *p) noexcept {
	do {
		last_number = last_number == INT32_MAX ? pid_of_proc0 + 1 : last_number + 1;
	} while (numbers.find_locked(last_number) != nullptr);
	p->ln_lid.store(last_number, std::memory_order_relaxed);  // relaxed: all locks are held
	return numbers.insert(p);
}

/// All locks held.
proc_t *proc_find(pid_t pid) noexcept {
	return pid == pid_of_proc0 ? &proc0 : pid > 0 ? static_cast<proc_t *>(numbers.find_locked(pid)) : nullptr;
}

/// A child that can be waited for.  All locks held.
proc_t *child_of(const proc_t *parent, pid_t pid) noexcept {
	proc_t *p = proc_find(pid);
	return p != nullptr && p->p_parent == parent && !p->p_orphan ? p : nullptr;
}

/// Nobody finds it any more.  All locks held.  The caller has still to give the number's reference back.
void leave_numbers(proc_t *p) noexcept {
	numbers.erase(p);
	procs_made.remove(p);
	p->p_stat = proc_stat::dead;
}

/// A zombie goes, with its last LWP.  All locks held.
void reap(proc_t *p, ended_lwps &dead) noexcept {
	LWP_ASSERT(p->p_stat == proc_stat::zomb);
	if (!p->p_orphan) {
		p->p_parent->p_children.remove(p);
	}
	leave_numbers(p);
	lwp_t *last = p->p_last;
	p->p_last = nullptr;
	lwp_forget(last);
	dead.push_back(last);
	proc_rele(p);
}

/// Nobody will wait for this child.  All locks held.
void disown(proc_t *p, ended_lwps &dead) noexcept {
	if (p->p_stat == proc_stat::zomb) {
		reap(p, dead);
		return;
	}
	p->p_parent->p_children.remove(p);
	p->p_orphan = true;
	p->p_parent = &proc0;
	sleeptab_wake(&p->p_waitcv);  // who waits for it looks again
}

/// What LWPs of the proc have left that nobody will ask for.  All locks held.
void take_zombies(proc_t *p, ended_lwps &dead) noexcept {
	proc_each_share(p, [&](procshare &sh) {
		while (lwp_t *l = sh.pp_zombies.pop_front()) {
			lwp_forget(l);
			dead.push_back(l);
		}
	});
}

}  // namespace

void proc_keep(proc_t *p) noexcept {
	std::lock_guard hold(pool_lock);
	pool_free.push_front(p);
}

pid_t proc_pid(const proc_t *p) noexcept {
	return p == &proc0 ? pid_of_proc0 : p->ln_lid.load(std::memory_order_relaxed);  // relaxed: it has an LWP, or all locks are held
}

int proc_make(lwp_t *l, std::size_t max_lwps, proc_t **out) noexcept {
	proc_t *parent = l->l_proc;
	vcpu_t *me = l->l_cpu;
	proc_t *p = pool_get();
	if (p == nullptr) {
		return ENOMEM;
	}
	int error = renew(p);
	if (error == 0) {
		const proc_scope hold(parent, me);
		error = !proc0.p_running ? EAGAIN : enter_number(p);
		if (error == 0) {
			p->p_refs.store(1, std::memory_order_relaxed);  // relaxed, all: others find it under one of the locks that are held
			p->p_parent = parent;
			p->p_maxlwps = max_lwps;
			// As fork(2) has it: the child has what its parent has.
			p->p_cred = cred_hold(parent->p_cred);
			p->p_ops.store(parent->p_ops.load(std::memory_order_relaxed), std::memory_order_relaxed);
			for (int sig = 1; sig <= signals; sig++) {
				p->p_sigacts[sig] = parent->p_sigacts[sig];
			}
			// What the whole process is told holds for it too; what its parent alone is told does not.
			p->p_post = proc0.p_post;
			p->p_held = proc0.p_world != nullptr;
			procs_made.push_back(p);
			parent->p_children.push_back(p);
			procs_many.store(true, std::memory_order_relaxed);
		}
	}
	if (error != 0) {
		proc_keep(p);
		return error;
	}
	*out = p;
	return 0;
}

void proc_unmake(proc_t *p, vcpu_t *me) noexcept {
	kauth_cred *cr;
	{
		const proc_scope hold(p, me);
		LWP_ASSERT(p->p_nliving.load(std::memory_order_relaxed) == 0);
		if (!p->p_orphan) {
			p->p_parent->p_children.remove(p);
		}
		cr = std::exchange(p->p_cred, &cred0);
		leave_numbers(p);
		sleeptab_wake(&p->p_waitcv);
		sleeptab_wake(&p->p_parent->p_anycv);  // it may have been the only child
		proc_rele(p);
	}
	cred_free(cr);
}

bool proc_admit(proc_t *p) noexcept {
	if (p->p_ending) {
		return false;
	}
	// relaxed, all: whoever is admitted is started by an LWP of the proc, or is the first, so this does not meet the count that ends it
	const std::uint32_t before = p->p_nliving.fetch_add(1, std::memory_order_relaxed);
	if (p->p_maxlwps != 0 && before >= p->p_maxlwps) {
		p->p_nliving.fetch_sub(1, std::memory_order_relaxed);
		return false;
	}
	p->p_refs.fetch_add(1, std::memory_order_relaxed);
	return true;
}

void proc_refuse(proc_t *p) noexcept {
	p->p_nliving.fetch_sub(1, std::memory_order_relaxed);  // relaxed: as above
	proc_rele(p);
}

void proc_rele(proc_t *p) noexcept {
	// release: what we did with it is over before it is used again; acquire: pairs with that of all others
	if (p->p_refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
		LWP_ASSERT(p->p_stat == proc_stat::dead);
		proc_keep(p);
	}
}

void proc_last_begin(proc_t *p, vcpu_t *me) noexcept {
	kauth_cred *cr;
	{
		const proc_scope hold(p, me);
		p->p_ending = true;  // the destroyer below is the application's: it starts no LWP here
		cr = std::exchange(p->p_cred, &cred0);
	}
	cred_free(cr);
}

bool proc_last_exit(proc_t *p, lwp_t *l, ended_lwps &dead, part_hold &hold, vcpu_t *me) noexcept {
	LWP_ASSERT(proc_held_all(p) && p->p_stat == proc_stat::active);
	LWP_ASSERT(p->p_nliving.load(std::memory_order_relaxed) == 1);
	take_zombies(p, dead);
	while (proc_t *child = p->p_children.front()) {
		disown(child, dead);
	}
	proc_cv_broadcast(&proc0, me);  // ~runtime waits for all procs
	procshare *sh = lwp_share(l);
	const bool detached = (l->l_prflag & LPR_DETACHED) != 0;
	if (p->p_orphan) {
		if (!detached) {
			l->l_prflag |= LPR_DETACHED;
			sh->pp_ndlwps++;
		}
		leave_numbers(p);
		proc_rele(p);  // not the last reference: ours is
		return false;
	}
	if (detached) {
		l->l_prflag &= static_cast<std::uint8_t>(~LPR_DETACHED);
		sh->pp_ndlwps--;
	}
	l->l_prflag |= LPR_CLAIMED;
	p->p_last = l;
	p->p_stat = proc_stat::zomb;
	proc_t *parent = p->p_parent;
	parent->p_children.remove(p);
	parent->p_children.push_front(p);
	sleeptab_wake(&p->p_waitcv);
	sleeptab_wake(&parent->p_anycv);
	signal_child_ended(parent, hold, me);
	return true;
}

int proc_wait1(lwp_t *l, pid_t pid, bool block, nanotime deadline, pid_t *which, int *status) noexcept {
	proc_t *mine = l->l_proc;
	vcpu_t *me = l->l_cpu;
	proc_lock_all(mine, me);
	proc_t *p = pid == -1 ? mine->p_children.front() : child_of(mine, pid);
	if (p != nullptr && p->p_stat == proc_stat::zomb) {
		ended_lwps dead;
		*which = proc_pid(p);
		*status = p->p_xstat;
		reap(p, dead);
		proc_unlock_all(mine, me);
		lwp_bury_all(dead, me);
		return 0;
	}
	if (p == nullptr || !block) {
		proc_unlock_all(mine, me);
		return p == nullptr ? ECHILD : EAGAIN;
	}
	// On the queue's lock before ours are released: who ends it needs ours to say so, and then sq_lock to wake us.
	const void *cv = pid == -1 ? &mine->p_anycv : &p->p_waitcv;
	sleepq *q = sleeptab_lookup(cv);
	q->sq_lock.lock(me);
	proc_unlock_all(mine, me);
	const int error = sleepq_block_and_unlock(l, q, {cv, "procwait", &wait_for_proc_syncobj, sleep_catch::yes, deadline});
	return error == 0 ? ERESTART : error;
}

int proc_detach(lwp_t *l, pid_t pid) noexcept {
	proc_t *mine = l->l_proc;
	vcpu_t *me = l->l_cpu;
	ended_lwps dead;
	{
		const proc_scope hold(mine, me);
		proc_t *p = child_of(mine, pid);
		if (p == nullptr) {
			return ECHILD;
		}
		disown(p, dead);
		sleeptab_wake(&mine->p_anycv);  // it may have been the only child
	}
	lwp_bury_all(dead, me);
	return 0;
}

int proc_signal(lwp_t *l, pid_t pid, int sig) noexcept {
	if (sig != 0 && !signal_valid(sig)) {
		return EINVAL;
	}
	proc_t *p;
	{
		const proc_scope hold(l->l_proc, l->l_cpu);
		p = proc_find(pid);
		if (p == nullptr || p->p_stat != proc_stat::active) {
			return ESRCH;
		}
		if (sig == SIGSTOP && proc0.p_world != nullptr && proc0.p_world != l && proc0.p_world->l_proc == p) {
			return ERESTART;  // who has stopped the world would stop, and we with the rest: nobody would be left.  First the world goes on
		}
		if (p != &proc0) {
			p->p_refs.fetch_add(1, std::memory_order_relaxed);  // relaxed: it has one
		}
	}
	if (sig != 0) {
		signal_send_proc(p, sig, l->l_cpu);
	}
	if (p != &proc0) {
		proc_rele(p);
	}
	return 0;
}

int proc_stopped_by_number(lwp_t *l, pid_t pid) noexcept {
	const proc_scope hold(l->l_proc, l->l_cpu);
	const proc_t *p = proc_find(pid);
	return p == nullptr || p->p_stat != proc_stat::active ? -1 : p->p_stopped ? 1 : 0;
}

void procs_reap(ended_lwps &dead) noexcept {
	procs_each([&dead](proc_t *p) {
		if (p != &proc0 && p->p_stat == proc_stat::zomb) {
			reap(p, dead);
		}
	});
}

}  // namespace lwp::kern
