// SPDX-License-Identifier: BSD-2-Clause
//
// The idle protocol.  Who queues work for a vCPU: store the work; fence; look whether it halts.  Who halts: say so; fence; look for work once
// more.  With both fences sequentially consistent one of the two sees the other (acquire and release are not enough).
// Work that a vCPU queues for itself has no fence on its side: at worst a halting vCPU misses LWPs that pile up on another, and the
// watcher finds them a little later; nobody is forgotten, because their own vCPU runs them anyway.
#include "sched/idle.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/callout.h"
#include "sched/spare.h"
#include "sched/steal.h"

#include <algorithm>
#include <utility>

namespace lwp::kern {
namespace {

constexpr unsigned search_most = 32;       // rounds of about a microsecond
constexpr nanotime watch_first = 500'000;  // between two looks of the watcher, doubled while it finds nothing
constexpr nanotime watch_most = 4'000'000;
constexpr unsigned watch_idle_looks = 12;    // looks after everybody else has halted
constexpr nanotime timer_late = 500'000;     // a timer this late is fired by whoever sees it
constexpr nanotime timer_guard = 2'000'000;  // when a halted vCPU looks after a timer of another one
// A theft that keeps the thief busy for less was not worth it: the locks of both are plain for a while,
constexpr nanotime steal_pays = 20'000;
constexpr nanotime steal_each = 2'000;  // and each LWP comes with a cold cache and goes back to the part that it was made in
constexpr nanotime steal_pause_most = 8'000'000;
constexpr unsigned worth_most = 1024;               // LWPs that are worth a theft whatever came of others
constexpr nanotime standstill_after = 300'000'000;  // nothing has run for so long: perhaps nothing ever will
constexpr unsigned pile = 2;                        // LWPs queued behind a running one that are worth waking or coming for

/// Of the caller's own vCPU, or of one that the caller has found halted.
const parker &parker_of(const vcpu_t *vc) noexcept {
	return *vc->vc_parker.load(std::memory_order_relaxed);  // relaxed: ordered by vc_halted
}

bool futex_park(vcpu_t *vc, nanotime deadline) {
	timespec ts = to_timespec(deadline);
	// A spare one sleeps on while it is given a place, or loses it: to the kernel both are the same sleep.
	const std::uint32_t state = vc->vc_halted.load(std::memory_order_relaxed);  // relaxed: futex(2) compares again
	if (state == vc_waits || state == vc_rests) {
		sys::futex_wait(&vc->vc_halted, state, deadline == never ? nullptr : &ts);
	}
	return false;
}

void futex_unpark(vcpu_t *vc) { sys::futex_wake(&vc->vc_halted, 1); }

vcpu_t *neighbour(const vcpu_t *vc, unsigned i, unsigned count) noexcept {
	return sched.sd_vcpu[(static_cast<unsigned>(vc->vc_index) + i) % count];
}

unsigned vcpus() noexcept { return sched.sd_count.load(std::memory_order_acquire); }  // pairs with the release in runtime_start()

/// By the time that the LWPs of `vc` took until now, and by what came of the last thefts from it: those that wait may be of another kind than those
/// that have run, as the new ones of a creator that does not switch.
bool large(const vcpu_t *vc, unsigned queued) noexcept {
	return queued >= pile && static_cast<int>(queued) >= vc->vc_ticks.load(std::memory_order_relaxed) &&  // relaxed, both: hints
	    queued >= vc->vc_worth.load(std::memory_order_relaxed);
}

/// How many LWPs wait on `from` for which `me` should come; 0 if it should not.
unsigned worth_it(vcpu_t *me, vcpu_t *from, nanotime when) noexcept {
	const unsigned queued = takeable(from, me, me);
	return queued >= pile && (large(from, queued) || when - me->vc_stole >= me->vc_steal_pause) ? queued : 0;
}

/// So many were taken: whether that paid is seen when we are through with them.
void stole(vcpu_t *me, vcpu_t *from, unsigned got, nanotime when) noexcept {
	me->vc_stole = when;
	me->vc_stole_from = from;
	me->vc_stole_unjudged = got;
	me->vc_steals.store(me->vc_steals.load(std::memory_order_relaxed) + got, std::memory_order_relaxed);  // relaxed: statistics
}

/// Searches that find something are worth their time, others are not: down to one look, which the halt repeats.
void search_paid(vcpu_t *me, bool paid) noexcept {
	me->vc_patience = paid ? std::min(me->vc_patience * 2 + 1, search_most) : me->vc_patience / 2;
}

/// We are through with what was taken last.  If it was not worth it we wait for a pile twice as large, or for longer.
void judge_theft(vcpu_t *me) noexcept {
	const bool paid = now() - me->vc_stole >= steal_pays + me->vc_stole_unjudged * steal_each;
	me->vc_stole_unjudged = 0;
	me->vc_steal_pause = paid ? 0 : std::clamp(me->vc_steal_pause * 2, steal_pays, steal_pause_most);
	// relaxed: a hint, and of two thieves either may be right
	atomic<unsigned> &worth = me->vc_stole_from->vc_worth;
	worth.store(paid ? 0 : std::clamp(worth.load(std::memory_order_relaxed) * 2, 2 * pile, worth_most), std::memory_order_relaxed);
	search_paid(me, paid);
}

/// Whether a search would find something.
bool pile_in_sight(vcpu_t *me) noexcept {
	const nanotime when = now();
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		if (worth_it(me, neighbour(me, i, n), when) != 0) {
			return true;
		}
	}
	return false;
}

/// Wakes it if it halts.  False: it does not, any more, and looks before it halts again.
bool unhalt_as(vcpu_t *vc, std::uint32_t as) noexcept {
	std::uint32_t expected = vc_waits;
	if (!vc->vc_halted.compare_exchange_strong(expected, as, std::memory_order_seq_cst)) {
		return false;
	}
	if (!vc->vc_bound) {
		sched.sd_halted.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a count, ordered by vc_halted
	}
	vc->vc_wakeups.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
	parker_of(vc).unpark(vc);
	return true;
}

template <class Wanted>
bool wake_one_to_search(Wanted wanted) noexcept {
	for (unsigned i = 0, n = vcpus(); i < n; i++) {
		vcpu_t *vc = sched.sd_vcpu[i];
		if (vc->vc_halted.load(std::memory_order_relaxed) == vc_waits && wanted(vc) && unhalt_as(vc, vc_woken_to_search)) {
			return true;
		}
	}
	return false;
}

/// Wakes one that halts, to search; not if somebody searches already.  If possible one of the processor set of `near`, where there is something to
/// find; any other will look after those that run.
void wake_searcher(const vcpu_t *near) noexcept {
	unsigned nobody = 0;
	if (!sched.sd_searching.compare_exchange_strong(nobody, 1, std::memory_order_seq_cst)) {
		return;
	}
	if (wake_one_to_search([near](const vcpu_t *vc) { return near->vc_bound || same_pset(near, vc); }) ||
	    (sched_psets() && wake_one_to_search([](const vcpu_t *) { return true; }))) {
		return;
	}
	sched.sd_searching.fetch_sub(1, std::memory_order_seq_cst);
}

/// Asked of each: sd_halted is changed a moment later than they change.
bool others_run(const vcpu_t *vc) noexcept {
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		if (neighbour(vc, i, n)->vc_halted.load(std::memory_order_relaxed) != vc_waits) {  // relaxed: a guess, made again and again
			return true;
		}
	}
	return false;
}

/// Until when a vCPU halts: its own first timer, and some time after that of any other, whose LWP may be one that never switches.
nanotime halt_until(const vcpu_t *vc, nanotime when) noexcept {
	nanotime until = vc->vc_deadline.load(std::memory_order_relaxed);  // only we arm timers here
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		nanotime first = neighbour(vc, i, n)->vc_deadline.load(std::memory_order_relaxed);  // relaxed: who arms one later wakes a watcher
		if (first != never) {
			until = std::min(until, std::max(first, when) + timer_guard);
		}
	}
	return until;
}

bool try_to_watch(vcpu_t *vc) noexcept {
	vcpu_t *nobody = nullptr;
	if (!sched.sd_watcher.compare_exchange_strong(
	        nobody, vc, std::memory_order_relaxed)) {  // relaxed: a role, it guards no data but vc_seen
		return false;
	}
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		vcpu_t *other = neighbour(vc, i, n);
		other->vc_seen.store(other->vc_switches.load(std::memory_order_relaxed), std::memory_order_relaxed);
	}
	return true;
}

/// Who may have some of what waits on `from`: `vc`, or, if there is something that it may not have, one that halts; null: nobody.
vcpu_t *who_may_have(vcpu_t *from, vcpu_t *vc, bool (*something)(vcpu_t *from, const vcpu_t *to, vcpu_t *me)) noexcept {
	if (something(from, vc, vc)) {
		return vc;
	}
	// relaxed, both: hints
	const bool chosen = from->vc_rq.several() + from->vc_inseveral.load(std::memory_order_relaxed) != 0;
	if (LWP_LIKELY(!chosen && (!sched_psets() || same_pset(from, vc)))) {
		return nullptr;
	}
	for (unsigned i = 0, n = vcpus(); i < n; i++) {
		vcpu_t *to = sched.sd_vcpu[i];
		if (to != vc && to->vc_halted.load(std::memory_order_relaxed) == vc_waits && something(from, to, vc)) {
			return to;
		}
	}
	return nullptr;
}

bool queue_has(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept { return takeable(from, to, me) != 0; }
bool queue_is_worth_it(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept {
	return to == me ? worth_it(me, from, now()) != 0 : takeable(from, to, me) >= pile;
}
bool any_has(vcpu_t *from, const vcpu_t *to, vcpu_t *me) noexcept { return queue_has(from, to, me) || inbox_takeable(from, to, me); }

constexpr unsigned off_most = 8;

/// Whether there is something for somebody on those that are away: their substitutes have had time to fetch it.
bool off_found_work(vcpu_t *vc) noexcept {
	vcpu_t *off[off_most];
	for (unsigned i = 0, n = spare_list_off(off, off_most); i < n; i++) {
		if (who_may_have(off[i], vc, queue_has) != nullptr) {
			return true;
		}
	}
	return false;
}

/// A look at the others: timers that are late and LWPs that have waited since the last look behind one that runs on and on.
bool watch_found_work(vcpu_t *vc, nanotime when) noexcept {
	bool found = false;
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		vcpu_t *other = neighbour(vc, i, n);
		std::uint64_t switches = other->vc_switches.load(std::memory_order_relaxed);
		bool stuck = switches == other->vc_seen.load(std::memory_order_relaxed);
		other->vc_seen.store(switches, std::memory_order_relaxed);
		bool halted = other->vc_halted.load(std::memory_order_relaxed) != vc_running;
		nanotime first = other->vc_deadline.load(std::memory_order_relaxed);
		if (!halted && !found &&
		    ((first != never && first + timer_late < when) || who_may_have(other, vc, stuck ? any_has : queue_is_worth_it) != nullptr)) {
			found = true;
		}
	}
	return found || off_found_work(vc);
}

/// Takes up to half of what is queued on `from`, for itself or for one that halts and may have it.  How many for itself.
unsigned watch_take_queue(vcpu_t *vc, vcpu_t *from) noexcept {
	vcpu_t *to = who_may_have(from, vc, queue_has);
	const unsigned got = to == nullptr ? 0 : steal_queue(vc, from, to, (takeable(from, to, vc) + 1) / 2);
	if (got != 0 && to != vc) {
		vcpu_unhalt(to);
	}
	return to == vc ? got : 0;
}

bool watch_take_inbox(vcpu_t *vc, vcpu_t *from) noexcept {
	vcpu_t *to = who_may_have(from, vc, inbox_takeable);
	if (to == nullptr || steal_inbox(vc, from, to) == 0) {
		return false;
	}
	if (to != vc) {
		vcpu_unhalt(to);
	}
	return to == vc;
}

/// Takes what the look has found.  No longer halted.
void watch_take(vcpu_t *vc, nanotime when) noexcept {
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		vcpu_t *other = neighbour(vc, i, n);
		if (other->vc_halted.load(std::memory_order_relaxed) != vc_running) {
			continue;
		}
		nanotime first = other->vc_deadline.load(std::memory_order_relaxed);
		if (first != never && first + timer_late < when) {
			callout_run(other, when);
		}
		if (watch_take_inbox(vc, other)) {
			return;
		}
		if (unsigned got = watch_take_queue(vc, other)) {
			stole(vc, other, got, when);
			return;
		}
	}
	vcpu_t *off[off_most];
	for (unsigned i = 0, n = spare_list_off(off, off_most); i < n; i++) {
		if (watch_take_queue(vc, off[i]) != 0) {
			return;
		}
	}
}

}  // namespace

const parker futex_parker = {futex_park, futex_unpark, nullptr, nullptr, nullptr, nullptr, nullptr};

void sched_search_begin(vcpu_t *vc) noexcept {
	vc->vc_rounds = 0;
	if (vc->vc_stole_unjudged != 0) {
		judge_theft(vc);
	}
	sched.sd_searching.fetch_add(1, std::memory_order_seq_cst);
}

bool sched_steal(vcpu_t *vc) noexcept {
	const nanotime when = now();
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		vcpu_t *other = neighbour(vc, i, n);
		if (const unsigned queued = worth_it(vc, other, when); queued != 0) {
			if (unsigned got = steal_queue(vc, other, vc, queued / 2)) {
				stole(vc, other, got, when);
				return true;
			}
		}
	}
	return false;
}

bool sched_search_more(vcpu_t *vc) noexcept {
	if (vcpus() < 2 || ++vc->vc_rounds > vc->vc_patience) {
		return false;
	}
	for (int i = 0; i < 20; i++) {
		cpu_relax();
	}
	return true;
}

namespace {

/// Whether somebody should look after vCPUs that run: LWPs that wait for one of them, or timers.
bool needs_watch(const vcpu_t *vc) noexcept {
	for (unsigned i = 1, n = vcpus(); i < n; i++) {
		const vcpu_t *other = neighbour(vc, i, n);
		if (other->vc_halted.load(std::memory_order_relaxed) == vc_running &&
		    (other->vc_rq.movable() + other->vc_rq.several() != 0 || other->vc_inmovable.load(std::memory_order_relaxed) != 0 ||
		        other->vc_inseveral.load(std::memory_order_relaxed) != 0 || other->vc_deadline.load(std::memory_order_relaxed) != never)) {
			return true;
		}
	}
	vcpu_t *off;
	return spare_list_off(&off, 1) != 0;
}

}  // namespace

void sched_search_end(vcpu_t *vc, bool found) noexcept {
	if (!found || vc->vc_stole_unjudged == 0) {  // else what was found is judged when it is over
		search_paid(vc, found);
	}
	bool last = sched.sd_searching.fetch_sub(1, std::memory_order_seq_cst) == 1;
	if (!found || !last) {
		return;
	}
	// While we searched nobody else was woken for what piled up meanwhile; and now that we run, somebody halted must be the watcher.
	fence(std::memory_order_seq_cst);  // who saw us search has woken nobody: we look at what it did
	if (sched.sd_halted.load(std::memory_order_relaxed) != 0 &&
	    (pile_in_sight(vc) || (sched.sd_watcher.load(std::memory_order_relaxed) == nullptr && needs_watch(vc)))) {
		wake_searcher(vc);
	}
}

namespace {

/// `vc`, which runs, is the watcher no more: another one may have halted in the belief that it is watched.
void leave_watch(const vcpu_t *vc) noexcept {
	sched.sd_watcher.store(nullptr, std::memory_order_seq_cst);
	fence(std::memory_order_seq_cst);  // whoever queued something before this and saw a watcher is looked at after it
	if (sched.sd_halted.load(std::memory_order_relaxed) != 0 && needs_watch(vc)) {
		wake_searcher(vc);
	}
}

}  // namespace

bool vcpu_halt(vcpu_t *vc) noexcept {
	vc->vc_expects.store(
	    vc->vc_pending.load(std::memory_order_relaxed) != 0, std::memory_order_relaxed);  // relaxed: read once all have halted for long
	// Before it is seen to halt.  Whoever queues work or arms a timer and sees one that halts and nobody who watches wakes it; a busy vCPU would do
	// so again and again, each time before this one gets to sleep.  What is missed by both the watcher's first look finds.
	bool watching = others_run(vc) && try_to_watch(vc);
	// Off duty, by the monitor or because the one that we act for is back: then it is not for us to halt here (spare_off_duty()).
	std::uint32_t running = vc_running;
	if (!vc->vc_halted.compare_exchange_strong(
	        running, vc_waits, std::memory_order_seq_cst)) {  // pairs with that in unhalt_as(): who wakes us sees vc_parker
		if (watching) {
			leave_watch(vc);
		}
		return false;
	}
	sched.sd_halted.fetch_add(1, std::memory_order_relaxed);
	fence(std::memory_order_seq_cst);  // pairs with the fence in vcpu_unhalt() and the compare-exchange in wake_searcher()
	bool work = vc->vc_incount.load(std::memory_order_relaxed) != 0 || sched.sd_signalled.load(std::memory_order_relaxed) ||
	    vc->vc_stop.load(std::memory_order_relaxed) || pile_in_sight(vc) || spare_pullable(vc);
	bool found = false;
	nanotime period = watch_first;
	unsigned idle_looks = 0;
	nanotime when = 0;
	bool told = sched.sd_standstill == nullptr;
	while (!work && !found) {
		if (!watching && idle_looks < watch_idle_looks && others_run(vc)) {
			watching = try_to_watch(vc);
		}
		when = now();
		nanotime until = halt_until(vc, when);
		// The last one to halt, with nothing due anywhere, looks up once more.
		const bool last = !told && until == never && !others_run(vc);
		const std::uint64_t before = last ? sched_switches_of_all() : 0;
		if (last) {
			until = when + standstill_after;
		}
		const bool arrived = parker_of(vc).park(vc, watching ? std::min(until, when + period) : until);
		const nanotime began = std::exchange(when, now());
		const bool woken = arrived || vc->vc_halted.load(std::memory_order_relaxed) != vc_waits;
		vc->vc_linger.halted(began, when, woken);
		if (woken || vc->vc_stop.load(std::memory_order_relaxed)) {
			break;
		}
		if (when >= vc->vc_deadline.load(std::memory_order_relaxed)) {
			break;
		}
		found = watch_found_work(vc, when);
		if (last && when >= until) {
			told = true;
			if (!found && !others_run(vc) && sched_switches_of_all() == before) {
				sched.sd_standstill(vc, false);
			}
		}
		if (watching) {
			period = std::min(period * 2, watch_most);
			idle_looks = others_run(vc) ? 0 : idle_looks + 1;
			if (idle_looks >= watch_idle_looks) {
				sched.sd_watcher.store(nullptr, std::memory_order_seq_cst);
				watching = false;
				fence(std::memory_order_seq_cst);
				if (others_run(vc)) {
					idle_looks = 0;  // woken since we looked: what it has queued it believed watched
				}
			}
		}
	}
	if (watching) {
		sched.sd_watcher.store(nullptr, std::memory_order_seq_cst);
		fence(std::memory_order_seq_cst);  // as in leave_watch(): the exchange below is none
	}
	// Either we end the halt ourselves, or somebody was first and has said how.  seq_cst: then monitor_runs()
	const std::uint32_t was = vc->vc_halted.exchange(vc_running, std::memory_order_seq_cst);
	if (was == vc_waits) {
		sched.sd_halted.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a count, ordered by vc_halted
	}
	const bool to_search = was == vc_woken_to_search;
	monitor_runs();
	if (to_search) {
		vc->vc_rounds = 0;
	}
	if (found) {
		watch_take(vc, when);
	}
	if ((watching || found) && !to_search && sched.sd_halted.load(std::memory_order_relaxed) != 0 && needs_watch(vc)) {
		wake_searcher(vc);  // we leave the watch: another takes it
	}
	return to_search;
}

void vcpu_halt_bound(vcpu_t *vc) noexcept {
	vc->vc_halted.store(vc_waits, std::memory_order_release);  // as in vcpu_halt()
	fence(std::memory_order_seq_cst);                          // pairs with the fence in vcpu_unhalt()
	if (vc->vc_incount.load(std::memory_order_relaxed) == 0) {
		parker_of(vc).park(vc, vc->vc_deadline.load(std::memory_order_relaxed));
	}
	vc->vc_halted.store(vc_running, std::memory_order_relaxed);  // relaxed: a waker that comes now finds nobody halted and need not
	vcpu_looked(vc);
	callout_run(vc, vc->vc_polled);
}

void vcpu_unhalt(vcpu_t *vc) noexcept {
	fence(std::memory_order_seq_cst);  // pairs with the fence in vcpu_halt(): it sees our work, or we see it halt
	const std::uint32_t state = vc->vc_halted.load(std::memory_order_relaxed);
	if (state == vc_waits) {
		(void)unhalt_as(vc, vc_running);
	} else if (LWP_UNLIKELY(state == vc_rests)) {
		std::uint32_t rests = vc_rests;
		if (vc->vc_halted.compare_exchange_strong(rests, vc_running, std::memory_order_seq_cst)) {
			parker_of(vc).unpark(vc);
		}
	} else if (LWP_UNLIKELY(state == vc_off)) {
		spare_told(vc);
	}
}

void vcpu_close_parker(vcpu_t *vc) noexcept {
	if (auto *close = parker_of(vc).close; close != nullptr) {
		close(vc);
	}
	vc->vc_parker.store(&futex_parker, std::memory_order_relaxed);  // relaxed: ordered by vc_halted
}

LWP_NOINLINE void sched_work_queued_slow(unsigned queued) noexcept {
	if (large(curcpu_or_null(), queued) || sched.sd_watcher.load(std::memory_order_relaxed) == nullptr) {
		if (sched.sd_searching.load(std::memory_order_relaxed) == 0) {
			wake_searcher(curcpu_or_null());
		}
	}
}

// The other side: `other` may go on at any moment, switch, fire its timers, or have its queue taken by a thief.  What is looked at here is a guess; what is
// taken is taken under the locks of whoever steals or fires: an LWP is in one queue, and runs where it is found first; one vCPU at a time fires a
// heap (callout_run()).  What comes into our inbox we drain before we choose who is next, or at the next switch.  If somebody halts just after we have
// looked at sd_halted, we do what its watch would do a moment later; it then finds nothing.
LWP_NOINLINE void sched_look_over(vcpu_t *vc, nanotime when) noexcept {
	const unsigned n = vcpus();
	// relaxed: where one halts, one watches
	if (n < 2 || vc->vc_bound || sched.sd_halted.load(std::memory_order_relaxed) != 0) {
		return;
	}
	vcpu_t *other = neighbour(vc, 1 + vc->vc_over % (n - 1), n);
	const std::uint64_t switches = other->vc_switches.load(std::memory_order_relaxed);  // relaxed, here and below: hints
	if (other != vc->vc_over_who) {
		vc->vc_over_who = other;
		vc->vc_over_switches = switches;
		return;
	}
	vc->vc_over_who = nullptr;
	vc->vc_over++;
	if (switches != vc->vc_over_switches || other->vc_halted.load(std::memory_order_relaxed) != vc_running) {
		return;
	}
	if (const nanotime first = other->vc_deadline.load(std::memory_order_relaxed); first != never && first + timer_late < when) {
		callout_run(other, when);
	}
	if (watch_take_inbox(vc, other)) {
		return;
	}
	if (const unsigned got = watch_take_queue(vc, other); got != 0) {
		stole(vc, other, got, when);
	}
}

LWP_NOINLINE void sched_watch_slow() noexcept {
	if (sched.sd_watcher.load(std::memory_order_relaxed) == nullptr && sched.sd_searching.load(std::memory_order_relaxed) == 0) {
		wake_searcher(curcpu_or_null());
	}
}

void sched_ask(atomic<bool> &what) noexcept {
	// release: pairs with the exchange in vcpu_poll(); an exchange, so that of two who ask at once it has seen both (tests/spin/litmus/signalled.litmus)
	(void)what.exchange(true, std::memory_order_release);
	fence(std::memory_order_seq_cst);  // pairs with the fence in vcpu_halt(): it sees what we ask, or we see it halt
	for (unsigned i = 0, n = vcpus(); i < n; i++) {
		// One that halts, and does not when we wake it, has come back meanwhile: it, or who has its place by then, looks before it halts again.  Not
		// vcpu_unhalt(): where somebody has gone away that takes locks.
		vcpu_t *vc = sched.sd_vcpu[i];
		if (vc->vc_halted.load(std::memory_order_relaxed) == vc_waits && unhalt_as(vc, vc_running)) {
			return;
		}
	}
}

}  // namespace lwp::kern
