// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of turnstiles are written with.
// Most of it runs on one vCPU: there an LWP runs only if nobody better can.  The director of a test is better than all its actors, and waits for
// them asleep.  All are real-time LWPs: what these are given does not wear off by computing, however long a loaded machine makes that.
#pragma once

#include "core/lwp_lock.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/lwp.hpp>

#include <chrono>
#include <functional>
#include <utility>

namespace lwp::test {

using namespace kern;
using namespace std::chrono_literals;

/// Runs `body` in an LWP better than its actors, which stays on one vCPU; so do those that it makes.
template <class Body>
void direct(const Body &body) {
	lwp::thread({.priority = 63, .vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1, .policy = lwp::sched_policy::fifo}, body).join();
}

/// The priority of a real-time LWP that was given `p`.
constexpr pri_t rt(int p) { return static_cast<pri_t>(pri_user_rt + p); }

/// Waits asleep, so that worse ones run.
template <class Predicate>
bool nap_until(Predicate ready) {
	for (unsigned i = 0; i < 60'000; i++) {
		if (ready()) {
			return true;
		}
		(void)park_for(1ms);
	}
	return ready();
}

struct seen {
	pri_t runs_with = pri_none;
	pri_t own = pri_none;
	const void *wchan = nullptr;
	lwp_stat state = lwp_stat::none;
};

inline seen look_at(lwpid_t lid) {
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
	if (l == nullptr) {
		return {};
	}
	const seen s{l->l_priority.load(), l->l_ownpri.load(), l->l_wchan, lwp_state(l)};
	lock->unlock(me);
	return s;
}

inline bool sleeps_on(lwpid_t lid, const void *wchan) {
	const seen s = look_at(lid);
	return s.wchan == wchan && s.state == lwp_stat::sleep;
}

/// A change of priority is settled a moment after what caused it.
inline testing::AssertionResult gets(lwpid_t lid, int priority) {
	if (nap_until([=] { return look_at(lid).runs_with == priority; })) {
		return testing::AssertionSuccess();
	}
	return testing::AssertionFailure() << "LWP " << lid << " runs with " << look_at(lid).runs_with << ", not " << priority;
}

inline lwp::thread actor(int priority, std::function<void()> body) {
	return lwp::thread({.priority = priority, .policy = lwp::sched_policy::fifo}, std::move(body));
}

inline lwpid_t lid_of(const lwp::thread &t) { return t.native_handle(); }

/// Asleep until it is told to go on.
inline void stay(const gate &g) {
	EXPECT_TRUE(nap_until([&] { return g.is_open(); }));
}

/// An LWP that has a mutex until it is told to give it back, and lives until it is told to end.
struct holder {
	template <class Mutex>
	holder(int priority, Mutex &m)
	    : thread(actor(priority, [this, &m] {
		      m.lock();
		      has.open();
		      stay(release);
		      m.unlock();
		      released.open();
		      stay(leave);
	      })) {
		EXPECT_TRUE(nap_until([this] { return has.is_open(); }));
	}
	~holder() {
		release.open();
		leave.open();
		thread.join();
	}
	gate has, release, released, leave;
	lwp::thread thread;
};

/// An LWP that wants a mutex and gives it back at once.  Let it have that before it goes.
struct wanter {
	template <class Mutex>
	wanter(int priority, Mutex &m)
	    : thread(actor(priority, [this, &m] {
		      m.lock();
		      m.unlock();
		      had.open();
		      stay(leave);
	      })) {
		EXPECT_TRUE(nap_until([this, &m] { return sleeps_on(lid_of(thread), &m); }));
	}
	~wanter() {
		leave.open();
		thread.join();
	}
	gate had, leave;
	lwp::thread thread;
};

}  // namespace lwp::test
