// SPDX-License-Identifier: BSD-2-Clause
//
// What a scenario is written with.  Two kinds:
//
//   SCENARIO(name, vcpus) { ... }        a runtime with so many vCPUs; the body is LWP 1 on vCPU 0
//   RAW(name, kthreads) { ... }          no runtime: the body is called once by each kthread, which is told its number
//
// The body sets the scene: start LWPs, race(), go on as one of them, join(), look at the end state.  Nobody is preempted before race() nor after
// judge().  What fails: EXPECT(), an assert of the library, a deadlock, a livelock, a fault, an LWP left over.
// A scenario is deterministic but for its schedule: it uses nothing but what is here and the library.
#pragma once

#include "core/lwp.h"
#include "explore/engine.h"
#include "proc/lwp_life.h"
#include "sched/vcpu.h"

#include <cerrno>
#include <new>
#include <utility>

namespace lwp::explore {

using kern::lwp_t;
using kern::nanotime;
using kern::never;

constexpr int anywhere = -1;

struct flags {
	bool pinned = false;           // stays on its vCPU; else it may be taken by others once it runs
	bool waits = true;             // the first on its vCPU waits there until race()
	bool detached = false;         //
	bool suspended = false;        //
	int priority = -1;             // within its class
	kern::proc_t *into = nullptr;  // it is the first of this proc
};

/// The result of lwp_wait1(), restarts done.
int wait_for(lwpid_t lid, lwpid_t *departed = nullptr);

/// Starts an LWP on a vCPU (anywhere: on the creator's).  Returns its id.
lwpid_t start_slot(int vcpu, void *slot, void (*call)(void *), const flags &);
void *new_slot();
constexpr std::size_t slot_bytes = 256;

template <class Fn>
lwpid_t start(int vcpu, Fn fn, const flags &f = {}) {
	static_assert(sizeof(Fn) <= slot_bytes);
	void *slot = ::new (new_slot()) Fn(std::move(fn));
	return start_slot(
	    vcpu, slot, [](void *s) { (*static_cast<Fn *>(s))(); }, f);
}

/// The same, of the part of the proc that is that vCPU's: made by one that runs there and has ended.  It waits at its start until race().
template <class Fn>
lwpid_t start_in_part(int vcpu, Fn fn) {
	lwpid_t lid = 0;
	const std::int16_t bound = std::exchange(kern::curlwp_or_null()->l_bound, std::int16_t{0});
	const lwpid_t maker = start(vcpu,
	    [&lid, fn] {
		    lid = start(anywhere, [fn] {
			    await_arm();
			    fn();
		    });
	    },
	    {.waits = false});
	if (wait_for(maker) != 0) {
		fail("the maker of an LWP cannot be waited for");
	}
	while (awaiting_arm() == 0) {
		let_others();
	}
	kern::curlwp_or_null()->l_bound = bound;
	return lid;
}

/// The race begins: from here on the schedule decides.  Waits until the first LWP of each vCPU that was given one stands at its start.
void race();
/// The race is over: what follows is not preempted.
void judge();

/// The calling LWP, and its vCPU.
lwp_t *me() noexcept;
/// Waits for an LWP and collects it; anything but success fails the schedule.
void join(lwpid_t lid);
int park(nanotime deadline = never);
void unpark(lwpid_t lid);
/// The boundary.
void userret();
/// Calls `wait` until it says something else than that it was interrupted.
template <class Fn>
int restart(Fn wait) {
	int error;
	while ((error = wait()) == ERESTART || error == EINTR) {
		userret();
	}
	return error;
}
/// Suspends it; 0 or why not.  Continues it.
int suspend(lwpid_t lid);
void cont(lwpid_t lid);
void yield();
/// The virtual clock, without a point.
nanotime time_in(nanotime delta);

/// Whether the caller's stack is: nobody may run while it is not.
bool stack_in_memory() noexcept;

/// Counts who is inside of what only one may be in.
class only_one {
public:
	void enter() noexcept;
	void leave() noexcept;

private:
	kern::atomic<int> inside_{0};
};

constexpr std::uint32_t scenario_numbers = 1U << 24;

struct scenario {
	const char *name;
	const char *file;
	unsigned kthreads;
	bool raw;
	bool delays;  // worth to be run with delayed stores too
	void (*body)();
	void (*raw_body)(unsigned);
	void (*raw_set)();  // before the kthreads begin
	void (*raw_judge)();
	unsigned spares = 0;       // of the kthreads the last: substitutes, which rest
	std::uint32_t number = 0;  // made of its name
};
void add_scenario(const scenario &);
const std::vector<scenario> &scenarios();
const setup &setup_of(const scenario &);

}  // namespace lwp::explore

#define EXPECT(condition) ((condition) ? (void)0 : ::lwp::explore::fail("%s:%d: expected: %s", __FILE__, __LINE__, #condition))

#define LWP_SCENARIO(id, vcpus, delayed)                                                                             \
	static void id();                                                                                                \
	[[maybe_unused]] static const bool id##_added =                                                                  \
	    (::lwp::explore::add_scenario({#id, __FILE__, vcpus, false, delayed, id, nullptr, nullptr, nullptr}), true); \
	static void id()

/// A runtime with so many vCPUs.
#define SCENARIO(id, vcpus) LWP_SCENARIO(id, vcpus, false)
/// The same, half of its schedules with delayed stores: there is a fence to be missed.
#define SCENARIO_TSO(id, vcpus) LWP_SCENARIO(id, vcpus, true)

/// A runtime with so many vCPUs, and so many substitutes for them.
#define SCENARIO_SPARES(id, vcpus, substitutes)                                                                                            \
	static void id();                                                                                                                      \
	[[maybe_unused]] static const bool id##_added =                                                                                        \
	    (::lwp::explore::add_scenario({#id, __FILE__, (vcpus) + (substitutes), false, false, id, nullptr, nullptr, nullptr, substitutes}), \
	        true);                                                                                                                         \
	static void id()

/// `set` and `judge_it` are called without preemption, before and after.
#define RAW(id, kthreads, delayed, set, judge_it)                                                                   \
	static void id(unsigned);                                                                                       \
	[[maybe_unused]] static const bool id##_added =                                                                 \
	    (::lwp::explore::add_scenario({#id, __FILE__, kthreads, true, delayed, nullptr, id, set, judge_it}), true); \
	static void id([[maybe_unused]] unsigned self)
