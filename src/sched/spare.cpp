// SPDX-License-Identifier: BSD-2-Clause
#include "sched/spare.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "sched/idle.h"
#include "sched/place.h"
#include "sched/switch.h"

namespace lwp::kern {

spares_t spares;

namespace {

constexpr unsigned batch = 32;  // LWPs moved with locks held; of a long queue the rest stays where it is until it is wanted

bool is(const vcpu_t *vc, vcpu_duty duty) noexcept { return vc->vc_duty.load(std::memory_order_relaxed) == duty; }  // relaxed: d, or a hint

vcpu_place &place_of(const vcpu_t *vc) noexcept {
	return sched.sd_vcpu[static_cast<unsigned>(vc->vc_index.load(std::memory_order_relaxed))];  // relaxed: ours, or d
}

/// Moves up to `want` LWPs, best first, bound ones too, from the queue of `from` to the inbox of `to`.
unsigned move_queue(vcpu_t *from, vcpu_t *to, vcpu_t *me, unsigned want) noexcept {
	unsigned got = 0;
	lock_scope queue(from->vc_rqlock, me);
	lock_scope inbox(to->vc_inlock, me);
	while (got < want) {
		lwp_t *l = from->vc_rq.pop();
		if (l == nullptr) {
			break;
		}
		inbox_put(to, l, false);
		got++;
	}
	if (got != 0) {
		to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
	}
	return got;
}

/// sp_lock held.  What others queued for `from`, which has no place any more, goes to who has it.
bool move_inbox(vcpu_t *from, vcpu_t *to, vcpu_t *me) noexcept {
	for (;;) {
		from->vc_inlock.lock(me);
		if (from->vc_inbox.empty()) {
			from->vc_inlock.unlock(me);
			return false;
		}
		if (to->vc_inlock.try_lock(me)) {  // of the same rank: never wait for it
			break;
		}
		from->vc_inlock.unlock(me);
		cpu_relax();
	}
	while (lwp_t *l = from->vc_inbox.pop_front()) {
		inbox_put(to, l, l->l_stacked);
	}
	inbox_emptied(from);
	to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
	to->vc_inlock.unlock(me);
	from->vc_inlock.unlock(me);
	return true;
}

/// sp_lock held.
void go_off(vcpu_t *vc, vcpu_duty duty) noexcept {
	vc->vc_duty.store(duty, std::memory_order_seq_cst);
	spares.sp_off.push_back(vc);
	spares.sp_noff.store(spares.sp_noff.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void come_back(vcpu_t *vc, vcpu_duty duty) noexcept {
	vc->vc_duty.store(duty, std::memory_order_seq_cst);
	spares.sp_off.remove(vc);
	spares.sp_noff.store(spares.sp_noff.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
}

/// `vc` is off duty: its timers and its operations are the monitor's now.
void tell_monitor(const vcpu_t *vc) noexcept {
	// The monitor stores until when it sleeps and then looks at sp_seq; we the other way round.
	spares.sp_seq.fetch_add(1, std::memory_order_seq_cst);
	const nanotime until = spares.sp_until.load(std::memory_order_seq_cst);
	if (until != 0 && (vc->vc_deadline.load(std::memory_order_relaxed) < until || vc->vc_pending.load(std::memory_order_relaxed) != 0)) {
		monitor_kick();
	}
}

/// sp_lock held.  It can be had from now on: a spare one for any place, another for its own.
void put_free(vcpu_t *vc) noexcept {
	if (!vc->vc_spare) {
		return;
	}
	spares.sp_nfree.store(spares.sp_nfree.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: d
	vc->vc_nextspare = spares.sp_free;
	spares.sp_free = vc;
}

/// sp_lock held.  If the substitute halts it goes to rest without noticing: a halted one runs nothing and has queued nothing.
bool to_rest_asleep(vcpu_t *sub) noexcept {
	std::uint32_t waits = vc_waits;
	if (!sub->vc_halted.compare_exchange_strong(waits, vc_rests, std::memory_order_seq_cst)) {
		return false;
	}
	sched.sd_halted.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a count, as in unhalt_as()
	sub->vc_duty.store(vcpu_duty::rests, std::memory_order_seq_cst);
	put_free(sub);
	return true;
}

/// sp_lock held.  A substitute that acts does not any more.
void dismiss(vcpu_t *sub) noexcept {
	if (to_rest_asleep(sub)) {
		return;
	}
	// It runs, or was just woken.  To halt it must change vc_running by compare-exchange, as we do here: it finds vc_off and looks at its duty, or
	// it was first, and then we find that it halts and begin again.  One woken to search looks at its duty at once.
	go_off(sub, vcpu_duty::leaves);
	std::uint32_t runs = vc_running;
	while (
	    !sub->vc_halted.compare_exchange_strong(runs, vc_off, std::memory_order_seq_cst) && runs != vc_woken_to_search && runs != vc_off) {
		if (runs == vc_waits) {  // it went to halt between the two
			come_back(sub, vcpu_duty::acts);
			if (to_rest_asleep(sub)) {
				return;
			}
			go_off(sub, vcpu_duty::leaves);
		}
		runs = vc_running;
	}
	vcpu_need_resched(sub);  // at its next boundary it gives up what it runs
	tell_monitor(sub);       // until then its LWP may be blocked without our knowing
}

/// sp_lock held.  `vc` has the place of `sub` from now on; `rested`: that one rests already.
void take_place(vcpu_t *vc, vcpu_t *sub, bool rested, vcpu_t *me) noexcept {
	come_back(vc, vcpu_duty::acts);
	vc->vc_halted.store(vc_running, std::memory_order_seq_cst);
	place_of(vc) = vc;
	if (!rested) {
		dismiss(sub);
	}
	// Who queues for it from now on finds it off duty or resting (vcpu_unhalt()); who was before that, we find.
	fence(std::memory_order_seq_cst);
	(void)move_inbox(sub, vc, me);
}

/// Sleeps in vc_rests, or in vc_waits if it is given a place meanwhile.  True: it was woken to search.
bool rest_asleep(vcpu_t *vc) noexcept {
	vc->vc_expects.store(vc->vc_pending.load(std::memory_order_relaxed) != 0, std::memory_order_relaxed);  // relaxed: as in vcpu_halt()
	fence(std::memory_order_seq_cst);  // pairs with that in vcpu_unhalt(), for those who took us for one that acts
	if (vc->vc_incount.load(std::memory_order_relaxed) == 0 && !vc->vc_stop.load(std::memory_order_relaxed)) {
		vc->vc_parker.load(std::memory_order_relaxed)->park(vc, vc->vc_deadline.load(std::memory_order_relaxed));
	}
	const std::uint32_t was = vc->vc_halted.exchange(vc_running, std::memory_order_seq_cst);
	if (was == vc_waits) {
		sched.sd_halted.fetch_sub(1, std::memory_order_relaxed);  // it was given a place in its sleep, and woke by itself
	}
	return was == vc_woken_to_search;
}

/// Until activated, or something came for its port or its timers.  True: activated, woken to search.
bool rest(vcpu_t *vc) noexcept {
	{
		lock_scope hold(spares.sp_lock, vc);
		if (is(vc, vcpu_duty::acts)) {
			return false;
		}
		if (!is(vc, vcpu_duty::rests)) {
			come_back(vc, vcpu_duty::rests);
			put_free(vc);
		}
		vc->vc_halted.store(vc_rests, std::memory_order_seq_cst);  // under sp_lock: who activates us finds us resting, or awake
	}
	const bool to_search = rest_asleep(vc);
	vcpu_poll(vc, true);
	return to_search;
}

/// sp_lock held.  One that `vc` acts for and that has LWPs queued.
vcpu_t *acted_for(const vcpu_t *vc) noexcept {
	for (vcpu_t *off = spares.sp_off.front(); off != nullptr; off = list<vcpu_t, &vcpu_t::vc_offlink>::next(off)) {
		if (off->vc_rq.count() != 0 && off->vc_index.load(std::memory_order_relaxed) == vc->vc_index.load(std::memory_order_relaxed)) {
			return off;
		}
	}
	return nullptr;
}

/// sp_lock held.  Takes out one that has not left the place of `vc` yet: it may as well stay.
vcpu_t *still_there(const vcpu_t *vc) noexcept {
	for (vcpu_t *off = spares.sp_off.front(); off != nullptr; off = list<vcpu_t, &vcpu_t::vc_offlink>::next(off)) {
		if (is(off, vcpu_duty::leaves) && off->vc_index.load(std::memory_order_relaxed) == vc->vc_index.load(std::memory_order_relaxed)) {
			// It looks at its duty with sp_lock held before it rests, and at its boundary.  If it has just queued its LWP for who has the place, that is
			// itself now.
			come_back(off, vcpu_duty::acts);
			std::uint32_t gone = vc_off;
			(void)off->vc_halted.compare_exchange_strong(gone, vc_running, std::memory_order_seq_cst);
			return off;
		}
	}
	return nullptr;
}

/// sp_lock held.  Takes out one that rests, to act for `vc`, but leaves so many spare ones; null: there is none.
vcpu_t *activate(const vcpu_t *vc, unsigned keep) noexcept {
	vcpu_t *sub = sched.sd_all[vc->vc_index.load(std::memory_order_relaxed)];  // relaxed: ours, or d
	if (sub == vc || !is(sub, vcpu_duty::rests)) {                             // not the one whose place it is
		sub = spares.sp_free;
		if (spares.sp_nfree.load(std::memory_order_relaxed) <= keep) {  // relaxed: d
			return still_there(vc);
		}
		spares.sp_free = sub->vc_nextspare;
		spares.sp_nfree.store(spares.sp_nfree.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
		sub->vc_index.store(
		    vc->vc_index.load(std::memory_order_relaxed), std::memory_order_relaxed);  // relaxed: published by vc_halted, sp_lock
		sub->vc_part = vc->vc_part;
	}
	// Pairs with the acquire in spare_off_duty() too: if it wakes by itself just now, its duty is all that tells it of its place and part.
	sub->vc_duty.store(vcpu_duty::acts, std::memory_order_seq_cst);
	// If it sleeps it sleeps on, as one that halts: whoever queues for it wakes it.
	std::uint32_t rests = vc_rests;
	if (sub->vc_halted.compare_exchange_strong(rests, vc_waits, std::memory_order_seq_cst)) {
		sched.sd_halted.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
	}
	return sub;
}

vcpu_t *acted_for(const vcpu_t *vc, vcpu_t *me) noexcept {
	lock_scope hold(spares.sp_lock, me);
	return acted_for(vc);
}

bool nobody_off() noexcept {
	// relaxed: who went off has unhalted its substitute after that, if there is something for it to fetch
	return LWP_LIKELY(spares.sp_noff.load(std::memory_order_relaxed) == 0);
}

}  // namespace

void spare_add(vcpu_t *vc) noexcept {
	lock_scope hold(spares.sp_lock, curcpu_or_null());
	put_free(vc);
}

void spare_begin(vcpu_t *vc) noexcept {
	if (rest_asleep(vc)) {
		sched_search_end(vc, false);  // somebody thought that it would be quicker; it looks around in any case
	}
}

bool spare_hand_over(vcpu_t *vc, vcpu_t *me, spare_make make) noexcept {
	spares.sp_lock.lock(me);
	vcpu_t *sub = nullptr;
	for (;;) {
		// One that is about to halt needs no substitute, and one that halts is woken as ever: its own compare-exchange or ours comes first.
		if (!is(vc, vcpu_duty::acts) || vc->vc_halted.load(std::memory_order_relaxed) != vc_running) {
			spares.sp_lock.unlock(me);
			return false;
		}
		// relaxed: who freezes counts itself before it comes here, and takes sp_lock then
		const unsigned keep = vc == me && spares.sp_nfrozen.load(std::memory_order_relaxed) != 0 ? 1 : 0;
		if ((sub = activate(vc, keep)) != nullptr) {
			break;
		}
		spares.sp_lock.unlock(me);
		if (make == spare_make::no) {
			return false;
		}
		if (spares.sp_make == nullptr || spares.sp_make() == nullptr) {
			spares.sp_refused.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
			return false;
		}
		spares.sp_lock.lock(me);  // another may have been quicker: then one more
	}
	std::uint32_t runs = vc_running;
	if (!vc->vc_halted.compare_exchange_strong(runs, vc_off, std::memory_order_seq_cst)) {
		// It halts after all.  The substitute goes the way of one whose place is lost.
		dismiss(sub);
		spares.sp_lock.unlock(me);
		return false;
	}
	go_off(vc, vcpu_duty::away);
	place_of(vc) = sub;
	// A wake that read the place before queues for `vc`: it stores the work, fences, and finds vc_off, then spare_told() moves it; or its work is there
	// for us to find.
	fence(std::memory_order_seq_cst);
	// Not only its own queue: it may have acted for others, who are away still.
	const bool work = move_inbox(vc, sub, me) || acted_for(sub) != nullptr;
	spares.sp_lock.unlock(me);
	if (vc == me) {
		(void)move_queue(vc, sub, me, batch);  // by our biased lock; the rest it fetches, if we are away for so long
	}
	if (work) {
		vcpu_unhalt(sub);
	}
	vcpu_need_resched(vc);  // an LWP that did not say so, or another one, finds out at its next boundary
	tell_monitor(vc);
	return true;
}

void spare_blocks(vcpu_t *vc) noexcept {
	lock_scope hold(spares.sp_lock, vc);
	if (is(vc, vcpu_duty::leaves)) {
		vc->vc_duty.store(vcpu_duty::away, std::memory_order_seq_cst);
	}
}

bool spare_resume(vcpu_t *vc) noexcept {
	lock_scope hold(spares.sp_lock, vc);
	if (is(vc, vcpu_duty::acts)) {
		return true;
	}
	if (!is(vc, vcpu_duty::away)) {
		return false;
	}
	vcpu_t *sub = place_of(vc);
	if (!vc->vc_spare) {
		take_place(vc, sub, false, vc);  // its own for good
		return true;
	}
	// A spare one goes on if nobody is disturbed by that.
	if (sub->vc_spare && to_rest_asleep(sub)) {
		take_place(vc, sub, true, vc);
		return true;
	}
	vc->vc_duty.store(vcpu_duty::leaves, std::memory_order_seq_cst);
	return false;
}

void spare_give_up_queue(vcpu_t *vc) noexcept {
	vcpu_drain_inbox(vc);
	while (vc->vc_rq.count() != 0) {
		vcpu_t *to = place_of(vc);
		(void)move_queue(vc, to, vc, batch);
		vcpu_unhalt(to);  // if it has gone away meanwhile, that passes it on
	}
}

bool spare_off_duty(vcpu_t *vc) noexcept {
	// relaxed: our own.  One that leaves has given its place away and is not to take it back; it rests until it is needed there.
	if (!vc->vc_spare && is(vc, vcpu_duty::away)) {
		(void)spare_resume(vc);
		return false;
	}
	for (;;) {
		spare_give_up_queue(vc);
		const bool to_search = rest(vc);
		const bool stop = vc->vc_stop.load(std::memory_order_acquire);  // pairs with the release in unmake_vcpus()
		// acquire: pairs with the store in activate(), which may have come as we woke by ourselves: our place and our part are seen with it
		if (vc->vc_duty.load(std::memory_order_acquire) == vcpu_duty::acts && !stop) {
			monitor_runs();
			return to_search;
		}
		if (to_search) {
			sched_search_end(vc, false);  // the place was lost before we came to look
		}
		if (stop) {
			return false;
		}
	}
}

bool spare_give_place(vcpu_t *vc, vcpu_t *to, vcpu_duty then) noexcept {
	vcpu_t *former = nullptr;
	{
		lock_scope hold(spares.sp_lock, vc);
		if (!is(vc, vcpu_duty::acts)) {
			return false;  // lost meanwhile
		}
		LWP_ASSERT(is(to, vcpu_duty::away));
		if (!to->vc_spare && vc->vc_index.load(std::memory_order_relaxed) != to->vc_index.load(std::memory_order_relaxed)) {
			take_place(to, place_of(to), false, vc);  // its own, whoever has it now; the caller stays where it is
			return true;
		}
		if (to->vc_spare) {
			if (vc->vc_index.load(std::memory_order_relaxed) != to->vc_index.load(std::memory_order_relaxed) && to->vc_rq.count() != 0) {
				// What is queued on it since it was somewhere else goes to who acts there; some may be bound to that place.
				former = place_of(to);
				while (move_queue(to, former, vc, batch) != 0) {
				}
			}
			to->vc_index.store(vc->vc_index.load(std::memory_order_relaxed), std::memory_order_relaxed);  // relaxed: published by its duty
			to->vc_part = vc->vc_part;
		}
		come_back(to, vcpu_duty::acts);
		to->vc_halted.store(vc_running, std::memory_order_seq_cst);
		go_off(vc, then);
		vc->vc_halted.store(vc_off, std::memory_order_seq_cst);  // we run: nobody else changes it
		place_of(vc) = to;
		fence(std::memory_order_seq_cst);  // as in take_place()
		(void)move_inbox(vc, to, vc);
	}
	if (former != nullptr) {
		vcpu_unhalt(former);
	}
	tell_monitor(vc);
	return true;
}

void spare_recall(vcpu_t *home, vcpu_t *me) noexcept {
	{
		lock_scope hold(spares.sp_lock, me);
		vcpu_t *sub = place_of(home);
		if (!is(home, vcpu_duty::rests) || sub == home) {
			return;
		}
		home->vc_duty.store(vcpu_duty::acts, std::memory_order_seq_cst);
		std::uint32_t rests = vc_rests;
		if (home->vc_halted.compare_exchange_strong(rests, vc_waits, std::memory_order_seq_cst)) {
			sched.sd_halted.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
		}
		place_of(home) = home;
		dismiss(sub);
		fence(std::memory_order_seq_cst);  // as in take_place()
		(void)move_inbox(sub, home, me);
	}
	vcpu_unhalt(home);
}

bool spare_pull(vcpu_t *vc) noexcept {
	if (nobody_off()) {
		return false;
	}
	// If it has come back meanwhile we take LWPs from one that acts, as a thief does.  Were they bound to its index: it is ours too, until we leave,
	// and then they go where they belong.
	vcpu_t *off = acted_for(vc, vc);
	return off != nullptr && move_queue(off, vc, vc, batch) != 0;
}

void spare_feed(vcpu_t *vc, vcpu_t *me) noexcept {
	if (nobody_off()) {
		return;
	}
	if (vcpu_t *off = acted_for(vc, me); off != nullptr && move_queue(off, vc, me, batch) != 0) {
		vcpu_unhalt(vc);  // if it has gone away meanwhile, that passes it on
	}
}

bool spare_pullable(const vcpu_t *vc) noexcept { return !nobody_off() && acted_for(vc, curcpu_or_null()) != nullptr; }

void spare_told(vcpu_t *vc) noexcept {
	vcpu_t *me = curcpu_or_null();
	vcpu_t *to = nullptr;
	bool off;
	{
		lock_scope hold(spares.sp_lock, me);
		off = is_off(vc);
		if (off) {
			to = place_of(vc);
			if (!move_inbox(vc, to, me)) {
				to = nullptr;
			}
		}
	}
	if (to != nullptr) {
		vcpu_unhalt(to);
	}
	if (off && vc->vc_parker.load(std::memory_order_acquire)->poll != nullptr) {
		monitor_kick();  // a message for its port
	}
}

unsigned spare_list_off(vcpu_t **out, unsigned most) noexcept {
	unsigned n = 0;
	if (!nobody_off()) {
		lock_scope hold(spares.sp_lock, curcpu_or_null());
		for (vcpu_t *off = spares.sp_off.front(); off != nullptr && n < most; off = list<vcpu_t, &vcpu_t::vc_offlink>::next(off)) {
			if (off->vc_rq.movable() + off->vc_rq.several() != 0) {
				out[n++] = off;
			}
		}
	}
	return n;
}

void monitor_kick() noexcept {
	const int fd = spares.sp_wakefd.load(std::memory_order_relaxed);  // relaxed: there before the vCPUs
	if (fd >= 0) {
		sys::signal_eventfd(fd);
	}
}

}  // namespace lwp::kern
