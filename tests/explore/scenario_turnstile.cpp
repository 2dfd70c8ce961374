// SPDX-License-Identifier: BSD-2-Clause
//
// Turnstiles: loans that begin, end and move while the owner unlocks, waiters time out and priorities change.  Whatever came first: once all has come
// to rest, who owns what others wait for runs with the best of their priorities and its own, and everybody else with its own.
#include "explore/world.h"
#include "proc/lwp_life.h"
#include "sync/condvar.h"
#include "sync/mutex.h"
#include "sync/once.h"
#include "sync/rwlock.h"

#include <algorithm>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

int lock_until(kmutex &m, nanotime deadline = never) {
	if (mutex_trylock(&m, me())) {
		return 0;
	}
	return restart([&] { return mutex_lock_slow(&m, me(), deadline); });
}

void lock(kmutex &m) { EXPECT(lock_until(m) == 0); }
void unlock(kmutex &m) {
	mutex_unlock(&m, me());
	userret();
}

/// What LWPs own and wait for, and who they are: those that have done their part stay until they are dismissed.
struct cast {
	static constexpr unsigned most = 4;
	lwp_t *lwps[most] = {};
	unsigned count = 0;
	kmutex m[2]{};
	krwlock rw{};
	konce once{};
	kern::atomic<bool> dismissed{false};

	cast() { lwps[count++] = me(); }

	template <class Fn>
	lwpid_t play(int vcpu, int priority, Fn fn) {
		return start(vcpu,
		    [this, fn] {
			    lwps[count++] = me();
			    fn();
			    while (!dismissed.load()) {
				    (void)park();
			    }
		    },
		    {.pinned = true, .priority = priority});
	}

	/// Nobody is preempted any more; then all have gone as far as they can.
	void rest() const {
		judge();
		lwp_sleep_until(me(), time_in(10'000'000'000));
		for (unsigned i = 0; i < count; i++) {
			look_at(lwps[i]);
		}
	}

	void dismiss(lwpid_t *lids, unsigned n) {
		rest();
		dismissed.store(true);
		for (unsigned i = 0; i < n; i++) {
			unpark(lids[i]);
			join(lids[i]);
		}
	}

private:
	void look_at(const lwp_t *l) const {
		pri_t best = l->l_ownpri.load();
		unsigned lenders = 0;
		const auto wait_for_it = [&](const waiters &q) {
			const lwp_t *front = q.front();
			for (const lwp_t *w = front; w != nullptr; w = waiters::next(w)) {
				EXPECT(w->l_priority.load() <= front->l_priority.load());
				EXPECT(w == front || w->l_lendsto == nullptr);
			}
			if (front != nullptr) {
				best = std::max(best, front->l_priority.load());
				EXPECT(front->l_lendsto == l || front->l_priority.load() <= l->l_ownpri.load());
				lenders += front->l_lendsto == l ? 1 : 0;  // also if the owner has become better since
			}
		};
		for (const kmutex &k : m) {
			if (mutex_owner(&k) == l) {
				wait_for_it(k.mtx_waiters);
			}
		}
		if (rwlock_owner(&rw) == l) {
			wait_for_it(rw.rw_readers);
			wait_for_it(rw.rw_writers);
		}
		if ((once.on_word.load() & ~(konce::waited | konce::done)) == reinterpret_cast<std::uintptr_t>(l)) {
			wait_for_it(once.on_waiters);
		}
		EXPECT(l->l_priority.load() == best);
		for (const lwp_t *lender = l->l_lenders.front(); lender != nullptr; lender = decltype(l->l_lenders)::next(lender)) {
			lenders--;
		}
		EXPECT(lenders == 0);
	}
};

}  // namespace

// The loan begins while its lender times out; one that is worse stays and lends instead.
SCENARIO(turnstile_loan_against_timeout, 3) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[2];
	lids[0] = c.play(1, 50, [&] {
		if (lock_until(c.m[0], time_in(soon)) == 0) {
			unlock(c.m[0]);
		}
	});
	lids[1] = c.play(2, 40, [&] {
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	c.rest();
	unlock(c.m[0]);
	c.dismiss(lids, 2);
}

// The owner gives the mutex back while a better one comes to wait for it.
SCENARIO(turnstile_loan_against_unlock, 3) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[2];
	int i = 0;
	for (int priority : {40, 50}) {
		lids[i] = c.play(i + 1, priority, [&] {
			lock(c.m[0]);
			unlock(c.m[0]);
		});
		i++;
	}
	race();
	unlock(c.m[0]);
	lock(c.m[0]);
	unlock(c.m[0]);
	c.dismiss(lids, 2);
}

// A loan that comes to one that waits goes on to whom that waits for, if it falls asleep before or after.
SCENARIO(turnstile_chain_of_two, 3) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[2];
	lids[0] = c.play(1, 35, [&] {
		lock(c.m[1]);
		lock(c.m[0]);
		unlock(c.m[0]);
		unlock(c.m[1]);
	});
	lids[1] = c.play(2, 50, [&] {
		lock(c.m[1]);
		unlock(c.m[1]);
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	c.rest();
	unlock(c.m[0]);
	c.dismiss(lids, 2);
}

// The same, and it ends by itself.
SCENARIO(turnstile_chain_against_timeout, 3) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[2];
	lids[0] = c.play(1, 35, [&] {
		lock(c.m[1]);
		lock(c.m[0]);
		unlock(c.m[0]);
		unlock(c.m[1]);
	});
	lids[1] = c.play(2, 50, [&] {
		if (lock_until(c.m[1], time_in(soon)) == 0) {
			unlock(c.m[1]);
		}
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	unlock(c.m[0]);
	c.dismiss(lids, 2);
}

// The heir has a low priority of its own and better ones for something else, which it gives back.
SCENARIO(turnstile_hand_over, 4) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[3];
	lids[0] = c.play(1, 32, [&] {
		lock(c.m[1]);
		lock(c.m[0]);
		unlock(c.m[1]);
		while (!c.dismissed.load()) {
			(void)park();
		}
		unlock(c.m[0]);
	});
	lids[1] = c.play(2, 40, [&] {
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	lids[2] = c.play(3, 50, [&] {
		lock(c.m[1]);
		unlock(c.m[1]);
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	unlock(c.m[0]);
	c.dismiss(lids, 3);
}

// Waiters of a condition variable are moved to the mutex' line while another comes there by itself.
SCENARIO(turnstile_moved_waiters, 4) {
	cast c;
	kcondvar cv{};
	bool told = false;
	lwpid_t lids[3];
	int i = 0;
	for (int priority : {40, 50}) {
		lids[i] = c.play(i + 1, priority, [&] {
			lock(c.m[0]);
			while (!told) {
				if (condvar_wait(&cv, &c.m[0], me(), never) != 0) {
					userret();
					lock(c.m[0]);
				}
			}
			unlock(c.m[0]);
		});
		i++;
	}
	lids[2] = c.play(3, 45, [&] {
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	race();
	lock(c.m[0]);
	told = true;
	if (condvar_waited(&cv)) {
		(void)condvar_notify_all_slow(&cv, me());
	}
	c.rest();
	unlock(c.m[0]);
	c.dismiss(lids, 3);
}

// Waiters' priorities change, up and down, as they come: they move in the line, and the best of them lends.
SCENARIO(turnstile_changes_of_priority, 4) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[3];
	for (int i = 0; i < 2; i++) {
		lids[i] = c.play(i + 1, 40 + i, [&] {
			lock(c.m[0]);
			unlock(c.m[0]);
		});
	}
	lids[2] = c.play(3, 20, [&] {
		EXPECT(lwp_setparam(me(), lids[1], 1, 6) == 0);
		EXPECT(lwp_setparam(me(), lids[1], 0, -1) == 0);
		EXPECT(lwp_setparam(me(), lids[0], 1, 5) == 0);
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	c.rest();
	unlock(c.m[0]);
	c.dismiss(lids, 3);
}

// Nobody lends, so one is woken; before it looks, one that stays in the line becomes better.
SCENARIO(turnstile_change_behind_the_woken_one, 4) {
	cast c;
	lock(c.m[0]);
	lwpid_t lids[3];
	lids[0] = c.play(1, 30, [&] {
		lock(c.m[0]);
		while (!c.dismissed.load()) {
			(void)park();
		}
		unlock(c.m[0]);
	});
	lids[1] = c.play(2, 25, [&] {
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	lids[2] = c.play(3, 20, [&] {
		(void)park();
		EXPECT(lwp_setparam(me(), lids[1], 1, 5) == 0);
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	unpark(lids[2]);
	unlock(c.m[0]);
	lwp_sleep_until(me(), time_in(soon));
	c.dismiss(lids, 3);
}

// Two things, two lenders: the better one counts, whichever came first; and the other one, once the first has what it waited for.
SCENARIO(turnstile_two_lenders, 3) {
	cast c;
	lock(c.m[0]);
	lock(c.m[1]);
	lwpid_t lids[2];
	int i = 0;
	for (int priority : {40, 50}) {
		lids[i] = c.play(i + 1, priority, [&, i] {
			lock(c.m[i]);
			unlock(c.m[i]);
		});
		i++;
	}
	race();
	lwp_sleep_until(me(), time_in(soon));
	c.rest();
	unlock(c.m[1]);
	c.rest();
	unlock(c.m[0]);
	c.dismiss(lids, 2);
}

// Whoever gives a mutex back and ends has given back all that was lent to it, though one that was woken has not looked yet.
SCENARIO(turnstile_owner_ends, 4) {
	cast c;
	lwpid_t lids[2];
	lwpid_t owner = start(1,
	    [&] {
		    lock(c.m[0]);
		    lwp_sleep_until(me(), time_in(soon));
		    unlock(c.m[0]);
		    lock(c.m[0]);
		    unpark(lids[1]);
		    for (int i = 0; i < 800 && c.m[0].mtx_waiters.front() == nullptr; i++) {
			    cpu_relax();
		    }
		    unlock(c.m[0]);
	    },
	    {.pinned = true, .priority = 20});
	lids[0] = c.play(2, 50, [&] {
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	lids[1] = c.play(3, 40, [&] {
		(void)park();
		lock(c.m[0]);
		unlock(c.m[0]);
	});
	race();
	join(owner);
	c.dismiss(lids, 2);
}

// The function ends, by success or failure, while better ones come to wait for it; whoever runs it next has what the others lend.
namespace {

void end_once_while_others_come(bool done) {
	cast c;
	EXPECT(once_begin(&c.once, me()) == 0);
	lwpid_t lids[2];
	int i = 0;
	for (int priority : {40, 50}) {
		lids[i] = c.play(i + 1, priority, [&] {
			if (restart([&] { return once_begin(&c.once, me()); }) == 0) {
				yield();
				once_end(&c.once, me(), true);
				userret();
			}
		});
		i++;
	}
	race();
	once_end(&c.once, me(), done);
	userret();
	c.dismiss(lids, 2);
}

}  // namespace

SCENARIO(turnstile_once_ends, 3) { end_once_while_others_come(true); }
SCENARIO(turnstile_once_fails, 3) { end_once_while_others_come(false); }

// A writer lets readers in while writers come: whatever these lent it has given back.
SCENARIO(turnstile_writer_lets_readers_in, 4) {
	cast c;
	EXPECT(rwlock_trywrlock(&c.rw, me()));
	lwpid_t lids[3];
	for (int i = 0; i < 2; i++) {
		lids[i] = c.play(i + 1, 50, [&] {
			EXPECT(restart([&] { return rwlock_tryrdlock(&c.rw, me()) ? 0 : rwlock_rdlock_slow(&c.rw, me(), never); }) == 0);
			while (!c.dismissed.load()) {
				(void)park();
			}
			rwlock_rdunlock(&c.rw, me());
			userret();
		});
	}
	lids[2] = c.play(3, 40, [&] {
		EXPECT(restart([&] { return rwlock_trywrlock(&c.rw, me()) ? 0 : rwlock_wrlock_slow(&c.rw, me(), never); }) == 0);
		rwlock_wrunlock(&c.rw, me());
		userret();
	});
	race();
	lwp_sleep_until(me(), time_in(soon));
	rwlock_wrunlock(&c.rw, me());
	c.dismiss(lids, 3);
}
