// SPDX-License-Identifier: BSD-2-Clause
#include "sync/rwlock.h"

#include "base/assert.h"
#include "sched/priority.h"
#include "sync/turnstile.h"
#include "sync/waitgraph.h"

#include <cerrno>

namespace lwp::kern {
namespace {

constexpr unsigned spins_most = 200;  // as the mutex

// How a waiter's sleep ends by whoever goes out: it holds the lock.  errno values are everybody else's.
constexpr int by_gift = -1;

lwp_t *owner_of(const void *wchan) noexcept { return rwlock_owner(static_cast<const krwlock *>(wchan)); }

/// A writer that is waited for comes for the waiters' lock, which the caller holds.
bool lend_to(const void *wchan, const lwp_t *owner) noexcept { return owner_of(wchan) == owner; }

pri_t priority(const lwp_t *l) noexcept { return l->l_priority.load(std::memory_order_relaxed); }  // relaxed: locked, or our own

std::uintptr_t writer_word(const lwp_t *l) noexcept { return reinterpret_cast<std::uintptr_t>(l) | krwlock::writer; }

bool has_readers(std::uintptr_t word) noexcept { return (word & krwlock::writer) == 0 && word >= krwlock::reader; }

/// Whether a reader may pass the waiting writers.
bool may_read_locked(const krwlock *rw, const lwp_t *l) noexcept {
	const lwp_t *writer = rw->rw_writers.front();
	return writer == nullptr || priority(l) > priority(writer);
}

/// While the writer runs, which is on another vCPU since we run on ours, it will soon be through.
void spin(const krwlock *rw) noexcept {
	for (unsigned i = 0; i < spins_most; i++) {
		const lwp_t *owner = rwlock_owner(rw);
		if (owner == nullptr || lwp_state(owner) != lwp_stat::onproc) {
			return;
		}
		cpu_relax();
	}
}

/// How many of the waiting readers go in; the first ones of their line.
std::uintptr_t count_readers_locked(const krwlock *rw, bool equals_too) noexcept {
	const lwp_t *writer = rw->rw_writers.front();
	std::uintptr_t n = 0;
	for (const lwp_t *r = rw->rw_readers.front(); r != nullptr; r = waiters::next(r), n++) {
		if (writer != nullptr && (equals_too ? priority(r) < priority(writer) : priority(r) <= priority(writer))) {
			break;
		}
	}
	return n;
}

/// What readers that are let in leave behind: without a waiting writer all of them go in.
std::uintptr_t rest_locked(const krwlock *rw) noexcept { return rw->rw_writers.empty() ? 0 : krwlock::waited; }

/// Wakes the first `n` readers, whom the word counts already, and releases `lock`.  Not touched after the last of them may run.
void wake_readers_and_unlock(krwlock *rw, spinlock *lock, std::uintptr_t n) noexcept {
	for (; n > 1; n--) {
		sleepq_unsleep_and_unlock(rw->rw_readers.front(), nullptr, by_gift);  // null: the lock stays ours
	}
	sleepq_unsleep_and_unlock(rw->rw_readers.front(), lock, by_gift);
}

void hand_to_writer_and_unlock(krwlock *rw, spinlock *lock, lwp_t *heir) noexcept {
	const bool alone = heir == rw->rw_writers.back() && rw->rw_readers.empty();
	// release: pairs with the acquire of whoever comes after the heir; the heir's is that of the locks it is woken by
	rw->rw_word.store(writer_word(heir) | (alone ? 0 : krwlock::waited), std::memory_order_release);
	turnstile_owned(
	    &rw->rw_readers, heir, curcpu_or_null());  // they lent to the last writer; the other writers follow when the heir leaves them
	sleepq_unsleep_and_unlock(heir, lock, by_gift);
}

void hand_to_readers_and_unlock(krwlock *rw, spinlock *lock, std::uintptr_t n) noexcept {
	rw->rw_word.store(n * krwlock::reader | rest_locked(rw), std::memory_order_release);  // release: as above
	turnstile_owned(&rw->rw_writers, nullptr, curcpu_or_null());                          // readers are many: nobody is lent to
	wake_readers_and_unlock(rw, lock, n);
}

/// A waiting writer has left the line: it may have been all that kept readers out.
void writer_left(krwlock *rw, lwp_t *l, spinlock *lock) noexcept {
	vcpu_t *me = l->l_cpu;
	lock->lock(me);
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		const std::uintptr_t n = has_readers(word) ? count_readers_locked(rw, false) : 0;
		// A writer, or nobody: whoever is in, or was just let in, hands over when it goes out.
		if (n == 0) {
			lock->unlock(me);
			return;
		}
		// With `waited` and the lock held others only go out, and the last of them needs the lock.
		// acq_rel: from the last writer by us to those we let in
		if (rw->rw_word.compare_exchange_weak(word, ((word & ~krwlock::waited) + n * krwlock::reader) | rest_locked(rw),
		        std::memory_order_acq_rel, std::memory_order_relaxed)) {
			wake_readers_and_unlock(rw, lock, n);
			return;
		}
	}
}

/// With the lock held: goes in as the writer if nobody is in, else sees to it that whoever goes out comes here.
bool write_or_flag_locked(krwlock *rw, lwp_t *l) noexcept {
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		const bool is_free = (word & ~krwlock::waited) == 0;
		// acquire: pairs with the releases of those who went out; release: as in rwlock_trywrlock()
		if (rw->rw_word.compare_exchange_weak(
		        word, is_free ? writer_word(l) : word | krwlock::waited, std::memory_order_acq_rel, std::memory_order_relaxed)) {
			return is_free;
		}
	}
}

/// The same as a reader; `flag` is `waited`, or 0 if the caller does not wait.
bool read_or_flag_locked(krwlock *rw, lwp_t *l, std::uintptr_t flag) noexcept {
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	for (;;) {
		const bool in = (word & krwlock::writer) == 0 && may_read_locked(rw, l);
		// acquire: pairs with the release of the last writer
		if (rw->rw_word.compare_exchange_weak(
		        word, in ? word + krwlock::reader : word | flag, std::memory_order_acquire, std::memory_order_relaxed)) {
			return in;
		}
	}
}

int result_of(int error) noexcept { return error == ETIMEDOUT || error == ENOMEM ? error : ERESTART; }

}  // namespace

const syncobj rwlock_read_syncobj = {"rwlock, read", owner_of, lend_to};
const syncobj rwlock_write_syncobj = {"rwlock, write", owner_of, lend_to};

LWP_NOINLINE int rwlock_wrlock_slow(krwlock *rw, lwp_t *l, nanotime deadline) noexcept {
	if (rwlock_owner(rw) == l) {
		return EDEADLK;
	}
	spin(rw);
	if (deadline == never) {
		waitgraph_announce(l, &rwlock_write_syncobj, rw);
	}
	spinlock *lock = waiters_lock(&rw->rw_writers);
	lock->lock(l->l_cpu);
	if (write_or_flag_locked(rw, l)) {
		lock->unlock(l->l_cpu);
		waitgraph_done(l);
		mutex_acquired(rw, l);
		return 0;
	}
	// `waited` is set: the last one out comes for the lock, which we hold until we are asleep.
	const int error = waiters_block_and_unlock(l, &rw->rw_writers, lock,
	    {.wchan = rw, .wmesg = "rwlock", .sobj = &rwlock_write_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	waitgraph_done(l);
	if (error == by_gift) {
		mutex_acquired(rw, l);
		return 0;
	}
	writer_left(rw, l, lock);
	return result_of(error);
}

LWP_NOINLINE int rwlock_rdlock_slow(krwlock *rw, lwp_t *l, nanotime deadline) noexcept {
	if (rwlock_owner(rw) == l) {
		return EDEADLK;
	}
	spin(rw);
	if (deadline == never) {
		waitgraph_announce(l, &rwlock_read_syncobj, rw);
	}
	spinlock *lock = waiters_lock(&rw->rw_writers);
	lock->lock(l->l_cpu);
	if (read_or_flag_locked(rw, l, krwlock::waited)) {
		lock->unlock(l->l_cpu);
		waitgraph_done(l);
		return 0;
	}
	const int error = waiters_block_and_unlock(l, &rw->rw_readers, lock,
	    {.wchan = rw, .wmesg = "rwlock", .sobj = &rwlock_read_syncobj, .interruptible = sleep_catch::yes, .deadline = deadline});
	waitgraph_done(l);
	return error == by_gift ? 0 : result_of(error);
}

LWP_NOINLINE bool rwlock_tryrdlock_slow(krwlock *rw, lwp_t *l) noexcept {
	if (rwlock_owner(rw) != nullptr) {
		return false;
	}
	lock_scope hold(*waiters_lock(&rw->rw_writers), l->l_cpu);
	return read_or_flag_locked(rw, l, 0);
}

LWP_NOINLINE bool rwlock_tryupgrade_slow(krwlock *rw, lwp_t *l) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&rw->rw_writers);
	lock->lock(me);
	std::uintptr_t word = rw->rw_word.load(std::memory_order_relaxed);  // relaxed: tested by the exchange
	LWP_CHECK(has_readers(word), "a shared mutex is upgraded by an LWP that does not share it");
	// Without `waited` readers come in by the short way.  With it nobody does, since we have the lock, and nobody else is there to go out.
	// From the exchange on who asks for the owner finds us, and who comes to wait blocks under the lock that we have until the loans are ours.
	while ((word & ~krwlock::waited) == krwlock::reader) {
		// acq_rel: as in rwlock_tryupgrade()
		if (rw->rw_word.compare_exchange_weak(
		        word, writer_word(l) | (word & krwlock::waited), std::memory_order_acq_rel, std::memory_order_relaxed)) {
			turnstile_owned(&rw->rw_writers, l, me);  // readers are lent nothing: from now on we are
			turnstile_owned(&rw->rw_readers, l, me);
			lock->unlock(me);
			sched_settle_owed(me);
			mutex_acquired(rw, l);
			return true;
		}
	}
	lock->unlock(me);
	return false;
}

/// As rwlock_wrunlock_slow(), but that we stay, so nobody destroys it meanwhile.
LWP_NOINLINE void rwlock_downgrade_slow(krwlock *rw, lwp_t *l) noexcept {
	LWP_CHECK(rwlock_owner(rw) == l, "a shared mutex is downgraded by an LWP that does not own it");
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&rw->rw_writers);
	lock->lock(me);
	const std::uintptr_t n = count_readers_locked(rw, true);
	// While we are the writer nobody else changes the word but under this lock.  From the store on readers may come in, and see what we wrote, if `waited`
	// is gone; else they, and a reader that goes out last, come for the lock.  We are counted, so it is not given away.  release: as rwlock_downgrade()
	rw->rw_word.store((n + 1) * krwlock::reader | rest_locked(rw), std::memory_order_release);
	turnstile_owned(&rw->rw_writers, nullptr, me);
	turnstile_owned(&rw->rw_readers, nullptr, me);  // some may be left behind a writer
	if (n != 0) {
		wake_readers_and_unlock(rw, lock, n);
	} else {
		lock->unlock(me);
		sched_settle_owed(me);
	}
}

LWP_NOINLINE void rwlock_wrunlock_slow(krwlock *rw, lwp_t *l) noexcept {
	LWP_CHECK(rwlock_owner(rw) == l, "a shared mutex is unlocked by an LWP that does not own it");
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&rw->rw_writers);
	for (;;) {
		lock->lock(me);
		if (const std::uintptr_t n = count_readers_locked(rw, true)) {
			hand_to_readers_and_unlock(rw, lock, n);
			return;
		}
		if (lwp_t *heir = rw->rw_writers.front(); heir != nullptr) {
			hand_to_writer_and_unlock(rw, lock, heir);
			return;
		}
		// They have all gone.  Back to the plain form: the last access is one that frees it, since whoever is in then may destroy it.
		std::uintptr_t word = writer_word(l);
		rw->rw_word.store(word, std::memory_order_release);  // as mutex_owner()
		lock->unlock(me);
		if (rw->rw_word.compare_exchange_strong(word, 0, std::memory_order_release, std::memory_order_relaxed)) {
			return;
		}
	}
}

LWP_NOINLINE void rwlock_rdunlock_slow(krwlock *rw, lwp_t *l) noexcept {
	vcpu_t *me = l->l_cpu;
	spinlock *lock = waiters_lock(&rw->rw_writers);
	for (;;) {
		lock->lock(me);
		// acquire: what those did that went out before us is for the one we hand over to
		std::uintptr_t word = rw->rw_word.load(std::memory_order_acquire);
		LWP_CHECK(has_readers(word), "a shared mutex is unlocked by an LWP that does not share it");
		if ((word & ~krwlock::waited) == krwlock::reader && (word & krwlock::waited) != 0) {
			// Nobody else is in and nobody comes in: the word is ours.
			lwp_t *heir = rw->rw_writers.front();
			if (const std::uintptr_t n = count_readers_locked(rw, false)) {
				hand_to_readers_and_unlock(rw, lock, n);
				return;
			}
			if (heir != nullptr) {
				hand_to_writer_and_unlock(rw, lock, heir);
				return;
			}
			// They have all gone.  release: who comes in before we are out sees by us what the last writer did
			rw->rw_word.store(krwlock::reader, std::memory_order_release);
		}
		lock->unlock(me);
		word = rw->rw_word.load(std::memory_order_relaxed);
		while ((word & ~krwlock::reader) != krwlock::waited) {
			// release: pairs with the acquire of the next writer.  The last access.
			if (rw->rw_word.compare_exchange_weak(word, word - krwlock::reader, std::memory_order_release, std::memory_order_relaxed)) {
				return;
			}
		}
	}
}

}  // namespace lwp::kern
