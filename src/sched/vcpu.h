// SPDX-License-Identifier: BSD-2-Clause
//
// A virtual CPU: one kernel thread, the LWP it runs, the LWPs it will run, its timers, and how it waits when it has none.
//
// A kernel thread of the application that calls the library has a vCPU too, of the bound kind: it runs exactly one LWP, which is that
// kernel thread; "switching away" is waiting.  To everybody else it looks like any other.
//
// Keys: o  this vCPU's kernel thread only      q  vc_rqlock      i  vc_inlock      t  vc_colock
//       r  runtime_lock                        a  atomic, rule beside it            (  fixed before it runs
//       d  sp_lock (sched/spare.h)
#pragma once

#include "base/clock.h"
#include "base/spinlock.h"
#include "core/lwp.h"
#include "sched/callout_queue.h"
#include "sched/linger.h"
#include "sched/parker.h"
#include "sched/runq.h"

#include <lwp/runtime.hpp>

#include <pthread.h>

namespace lwp::kern {

inline constexpr unsigned vcpu_max = 256;
static_assert(vcpu_max <= vcpu_mask::vm_bits);
inline constexpr unsigned spare_max = 256;  ///< substitutes for vCPUs whose kernel threads are blocked

/// Runs or looks for work; waits in its parker; was woken to search, and is counted in sd_searching already; has no place in sd_vcpu (sched/spare.h)
/// and waits in its parker; has none, and its kernel thread is blocked or runs something yet.
enum vcpu_halt_state : std::uint32_t { vc_running = 0, vc_waits = 1, vc_woken_to_search = 2, vc_rests = 3, vc_off = 4 };

/// What a vCPU does for the runtime: has a place in sd_vcpu; is blocked in the kernel, another has its place; has lost its place and gives up what
/// it runs; a spare one that waits for a place; is no vCPU of the runtime, only a kernel thread that calls it.
enum class vcpu_duty : std::uint8_t { acts, away, leaves, rests, outside };

/// A breakpoint where an LWP comes out of the C library (proc/outside.h).  By the kernel thread of its vCPU.
struct way_out {
	atomic<bool> w_open{false};  // a: relaxed; by the handler of that kernel thread too
	int w_fd = -1;               // o: its number, also after it was closed
	std::uintptr_t w_at = 0;     // o
};
inline constexpr unsigned ways_most = 4;  ///< the CPU has no more

struct alignas(64) vcpu_t {
	// what every switch touches
	// These two are looked at by code that stands in applications: <lwp/detail/here.hpp>.
	lwp_t *vc_curlwp = nullptr;          // o: who runs; peeked at by the guard report
	atomic<bool> vc_resched{false};      // a: somebody better than vc_curlwp is queued: yield at the boundary
	bool vc_tick_short = false;          // o: the count to the next look at the clock is not vc_ticks: it was said after a halt
	bool vc_bound = false;               // (: an adopted kernel thread of the application, or the monitor
	bool vc_spare = false;               // (: a substitute
	int vc_tick = 0;                     // o: switches until the next look at the clock
	spinlock *vc_handoff = nullptr;      // o: the lock of the LWP that just left; released by the one that arrives
	struct lwp_look *vc_look = nullptr;  // o: what the LWP that arrives is to do for one that looks at it
	lwp_t *vc_dying = nullptr;           // o: that LWP if it ended: its stack is free once we have arrived
	kthread_image vc_image{};            // (
	atomic<int> vc_ticks{1};             // a: how many switches take some ten microseconds; written by its kernel thread
	// a: what its parker waits for on behalf of LWPs: then it is polled as if a timer were armed.  Written by who may poll it (io/port.h).
	atomic<unsigned> vc_pending{0};
	atomic<vcpu_duty> vc_duty{vcpu_duty::acts};  // a: written under sp_lock; its own kernel thread may look without, and late
	atomic<std::int16_t> vc_index{-1};     // a: its place in sd_vcpu, 0 up; -1: bound.  A spare's is written under sp_lock while it rests
	lwp_t *vc_owed = nullptr;              // o: its priority must be looked at anew as soon as no lock is held (sync/turnstile.h)
	biglock *vc_letgo = nullptr;           // o: the LWP that left had it: to be let go of as soon as no lock is held (sync/biglock.h)
	procpart *vc_part = nullptr;           // (: the part of the proc that LWPs made here belong to; a spare's: d, while it rests
	atomic<std::uint64_t> vc_switches{0};  // a: written by its kernel thread; tells others that it moves on
	nanotime vc_since = 0;                 // vc_lwplock: when vc_curlwp came, while that is counted (sched/account.h)

	alignas(64) spinlock vc_lwplock{lock_rank::vcpu_lwp, "vc_lwplock"};
	spinlock vc_rqlock{lock_rank::run_queue, "vc_rqlock"};
	spinlock vc_slplock{lock_rank::sleepq, "vc_slplock"};  // covers LWPs that fell asleep here, each on nothing but itself

	alignas(64) spinlock vc_inlock{lock_rank::inbox, "vc_inlock"};
	list<lwp_t, &lwp_t::l_link> vc_inbox;  // i: made runnable for us by others
	atomic<unsigned> vc_incount{0};        // a: how many; written under vc_inlock
	atomic<unsigned> vc_inmovable{0};      // a: how many of them may run on any vCPU of their processor set; same
	atomic<unsigned> vc_inseveral{0};      // a: and how many on several that they have chosen; same

	alignas(64) atomic<std::uint32_t> vc_halted{0};   // a: a vcpu_halt_state, and what its parker waits on
	atomic<bool> vc_stop{false};                      // a: the runtime is ending
	atomic<const parker *> vc_parker{&futex_parker};  // a: written by its kernel thread while it runs, read by who has found it halted
	atomic<void *> vc_port{nullptr};                  // a: what its parker keeps; written by its kernel thread
	atomic<nanotime> vc_deadline{never};              // a: of its first timer; written under vc_colock
	atomic<bool> vc_expects{false};                   // a: said as it halts: its parker waits for something that may wake LWPs (I/O)
	atomic<std::uint64_t> vc_seen{0};                 // a: vc_switches when the watcher last looked
	atomic<unsigned> vc_worth{0};  // a: so many queued here are worth a theft, by what came of the last; written by thieves

	alignas(64) spinlock vc_colock{lock_rank::leaf, "vc_colock"};
	callout_queue vc_callouts;                  // t
	atomic<struct timer *> vc_firing{nullptr};  // a: written under vc_colock: whose function runs now

	runq vc_rq;                           // q
	list<lwp_t, &lwp_t::l_link> vc_dead;  // o: ended LWPs, whole, newest first
	atomic<unsigned> vc_ndead{0};         // a: how many; written by its kernel thread
	atomic<int> vc_tid{0};                // a: the kernel's number of its kernel thread; written by that
	list_link<vcpu_t> vc_offlink;         // d: those that are away or leave
	vcpu_t *vc_nextspare = nullptr;       // d: those that rest
	vcpu_t *vc_gave = nullptr;            // o: who is to be told of the LWP that left us for it, by our idle LWP
	atomic<std::uint64_t> vc_regions{0};  // a: written by its kernel thread: how often its LWPs have said that they block
	lwp_t *vc_idle = nullptr;             // (: runs when nobody else does
	pthread_t vc_thread{};                // r
	nanotime vc_turned = 0;               // o: when the run queue last had its turn()
	std::uint64_t vc_polled_cycles = 0;   // o: the same in cycles of the CPU's counter
	std::uint64_t vc_look_cycles = 0;     // o: what that counter says when it should look again, if a timer is armed or I/O is under way
	std::uint64_t vc_speed = 0;           // o: how fast that counter is: in cycles for cycles_unit ns
	unsigned vc_speeds = 0;               // o: how often it was measured, 64 at most
	nanotime vc_polled = 0;               // o: when it last looked at the clock
	lwp_t *vc_ran = nullptr;              // o: who ran when it last looked at the clock
	lwpid_t vc_ran_lid = 0;               // o: and its id
	std::uint64_t vc_ran_switches = 0;    // o: and vc_switches
	nanotime vc_cpu_used = 0;             // o: CPU time of its kernel thread, at
	nanotime vc_cpu_when = 0;             // o: this time
	nanotime vc_lifted = 0;               // o: when it last looked for LWPs that get nothing, sched_lift()
	std::uint64_t vc_slice_switches = 0;  // o: vc_switches when the slice of a round-robin LWP began,
	nanotime vc_slice_began = 0;          // o: and when that was; 0: none has
	unsigned vc_patience = 8;             // o: rounds that its next search may take
	nanotime vc_stole = 0;                // o: when it last took work from another one
	nanotime vc_steal_pause = 0;          // o: how long it lets small piles alone after that
	unsigned vc_stole_unjudged = 0;       // o: how many that were, if it is not known yet whether it paid
	vcpu_t *vc_stole_from = nullptr;      // o: whose they were
	unsigned vc_over = 0;                 // o: which neighbour it looks over next (sched_look_over()),
	vcpu_t *vc_over_who = nullptr;        // o: whom it has looked at once,
	std::uint64_t vc_over_switches = 0;   // o: and vc_switches of that one then
	unsigned vc_rounds = 0;               // o: rounds of this search
	lingering vc_linger;                  // o: whether it looks for a moment before it halts
	atomic<std::uint64_t> vc_steals{0};   // a: written by its kernel thread
	atomic<std::uint64_t> vc_wakeups{0};  // a: times it was woken out of its parker
	vcpu_t *vc_nextfree = nullptr;        // r: bound ones that wait for another kernel thread
	vcpu_t *vc_nextbound = nullptr;       // (: all bound ones

	// Preemption: sched/frozen.h, proc/preempt.h.
	vcpu_t *vc_thaws = nullptr;  // o: whose LWP goes on as soon as we are off its landing
	stack vc_landing;            // (: of the context that brings an LWP back that waits in our signal handler; the monitor allots it
	context vc_landed{};         // where that context is left for ever; by who leaves it
	context vc_handler{};        // o: that handler's own frames, as AddressSanitizer sees them
	atomic<std::uint32_t> vc_thawed{0};  // a: what that handler waits on
	atomic<bool> vc_frozen{false};       // a: that it waits; written by its kernel thread
	atomic<bool> vc_asked{false};        // a: the monitor has sent a signal, and nobody has taken it yet
	atomic<bool> vc_slice_over{false};   // a: said by the monitor before that: its LWP has run for a slice
	// a: written by its kernel thread and the monitor: 1 more than vc_switches when a slice was over and its LWP could not be taken off
	atomic<std::uint64_t> vc_expired{0};
	atomic<std::uint64_t> vc_preempted{0};  // a: written by its kernel thread: how often its LWPs were taken off
	atomic<int> vc_prober{-1};           // a: written by the monitor: the timer by which the handler asks again (proc/preempt.h); -1: none
	unsigned vc_probes = 0;              // o: how often it still may, until the monitor asks
	std::uint32_t vc_probe_gap = 0;      // o: after so long, in nanoseconds
	std::uintptr_t vc_probe_pc = 0;      // o: where it met the LWP last
	atomic<bool> vc_watchable{false};    // a: written by the monitor: breakpoints may be asked for
	atomic<bool> vc_watched{false};      // a: written by its kernel thread and its handler: some of these are open
	way_out vc_ways[ways_most];          // o
	nanotime vc_still = 0;               // the monitor's: since when its LWP is to stand still
	nanotime vc_unswitched = 0;          // the monitor's: since when it has not switched,
	std::uint64_t vc_seen_switches = 0;  // and vc_switches then
};

/// A place: who acts as the vCPU of this index.  It changes when that one's kernel thread is blocked; whoever has read it may find the former one.
class vcpu_place {
public:
	operator vcpu_t *() const noexcept { return vc_.load(std::memory_order_acquire); }  // pairs with the release below: it is ready to act
	vcpu_t *operator->() const noexcept { return *this; }
	vcpu_place &operator=(vcpu_t *vc) noexcept {
		vc_.store(vc, std::memory_order_release);
		return *this;
	}

private:
	atomic<vcpu_t *> vc_{nullptr};
};

/// All vCPUs of the runtime, and who of them does not run.
struct sched_t {
	vcpu_place sd_vcpu[vcpu_max];               // a: written under sp_lock once the vCPUs run
	vcpu_t *sd_all[vcpu_max + spare_max] = {};  // (: type-stable: the runtime's vCPUs, then its spares; used again by the next runtime
	atomic<unsigned> sd_nall{0};                // a: how many of them there are
	atomic<unsigned> sd_count{0};               // a: how many run now; 0: no runtime
	// a: since when time is counted; `never`: it is not, but some LWPs are traced; 0: neither (sched/account.h)
	atomic<nanotime> sd_account{0};
	// a: how many processor sets there are but the default one, and the set of each vCPU, by index.  Both written with all pp_locks held; who places an
	// LWP reads them with that LWP locked (proc/pset.cpp).
	atomic<unsigned> sd_npsets{0};
	atomic<std::int16_t> sd_psid[vcpu_max]{};
	alignas(64) atomic<unsigned> sd_halted{0};  // a: how many halt
	atomic<unsigned> sd_searching{0};           // a: how many look for work to steal
	atomic<vcpu_t *> sd_watcher{nullptr};       // a: a halted one that looks up now and then (idle.cpp)
	atomic<unsigned> sd_next{0};                // a: whose turn it is to get work from outside
	atomic<bool> sd_asked{false};               // a: somebody outside wants a report of who sleeps
	atomic<unsigned> sd_helpers{0};             // a: kernel threads of the library that are no vCPUs and wait for work
	/// Called by a vCPU, without locks: what an LWP is lent or has of its own has changed.  Set once, at the start.
	void (*sd_settle)(lwp_t *, vcpu_t *) = nullptr;
	/// Called by a vCPU, without locks, with its vc_letgo.  Set once, at the start.
	void (*sd_letgo)(biglock *, vcpu_t *) = nullptr;
	/// Called by an LWP that yields with the big lock held.  Set once, at the start.
	void (*sd_bigyield)(lwp_t *) = nullptr;
	/// Called by an LWP in the end of a wait that it was to take back (LW_WLEAVE), without locks.  Set once, at the start.
	void (*sd_leave)(lwp_t *) = nullptr;
	atomic<bool> sd_signalled{false};  // a: the OS has sent this process a signal that is for its LWPs
	/// Called by a vCPU, without locks, after sd_signalled was set.  Set once, before that.
	void (*sd_signals)(vcpu_t *) = nullptr;
	/// Called by a vCPU, without locks: nothing has run for a while and nothing is due, or (`asked`) sd_asked was set.  Set once, at the start.
	void (*sd_standstill)(vcpu_t *, bool asked) = nullptr;
};
extern sched_t sched;

/// The LWP on `vc` looks around at its next boundary.  Whoever queues in an inbox sets vc_resched by a store under vc_inlock instead; an exchange elsewhere
/// carries that store's release on to who takes the flag back (tests/spin/litmus/resched.litmus).
LWP_ALWAYS_INLINE void vcpu_need_resched(vcpu_t *vc) noexcept {
	(void)vc->vc_resched.exchange(true, std::memory_order_release);  // pairs with the exchange in lwp_preempt_cpu()
}

/// Calls fn(vcpu_t *) for each vCPU of the runtime and each spare.
template <class Fn>
void sched_each_vcpu(Fn fn) {
	for (unsigned i = 0, n = sched.sd_nall.load(std::memory_order_acquire); i < n; i++) {  // acquire: pairs with the release of who made it
		fn(sched.sd_all[i]);
	}
}

/// Grows while anything runs.
inline std::uint64_t sched_switches_of_all() noexcept {
	std::uint64_t sum = 0;
	sched_each_vcpu([&sum](const vcpu_t *vc) { sum += vc->vc_switches.load(std::memory_order_relaxed); });  // relaxed: seen sooner or later
	return sum;
}

constexpr std::uint64_t cycles_unit = 1024;

/// `vc` looks at the clock without measuring its counter by it: the next measurement begins here.  By `vc` itself, or who makes it.
inline void vcpu_looked(vcpu_t *vc) noexcept {
	vc->vc_polled = now();
	vc->vc_polled_cycles = cycles();
}

/// So many cycles of the CPU's counter; 0 before its speed is known.  By `vc` itself.
LWP_ALWAYS_INLINE std::uint64_t cycles_in(const vcpu_t *vc, nanotime in) noexcept { return in * vc->vc_speed / cycles_unit; }

LWP_ALWAYS_INLINE lwp_t *curlwp_or_null() noexcept {
	vcpu_t *vc = curcpu_or_null();
	return vc == nullptr ? nullptr : vc->vc_curlwp;
}

}  // namespace lwp::kern
