// SPDX-License-Identifier: BSD-2-Clause
//
// Channels and the choice between several of them.
//
// A channel is a ring of values, the senders that wait for room in it, and the receivers that wait for a value.  Who comes and finds its
// opposite waiting *claims* it: takes it off the list and takes its grant, both with the channel locked.  The claimed one stays where it is
// until it is given, so the value is moved after the channel is unlocked, straight from the one's place to the other's, and the give comes
// last.  Only moves into and out of the ring run with the channel locked.
//
// Who holds no grant is never claimed, and whoever claims holds none: a call first tries, then hangs itself up, and once it hangs it
// only waits.  So no claim has two sides, though both may be selects.
//   - claim against timeout, stop, close, or a claim elsewhere: all of them take the grant, and one gets it.
//   - try against hang-up: what comes between is seen, because a call hangs up with the channel locked and looks again before it does.  A
//     select that finds it could go on at its k-th channel takes itself back, comes off the others and tries anew.  Whoever saw it
//     hang there, and passed it over as taken, hangs there itself by then or is through: the new try finds it.
//   - two selects that hang up on the same channels go in order of address: the second to come to the first of them that they share finds the
//     other one hanging, so they do not send each other back for ever.
//   - one lock at a time: no order among channels is needed.  What a select that lost left behind is off every list when it returns.
// Whoever comes by a record that was taken elsewhere drops it from the list; its owner finds it gone.
//
// The channel is not touched after it is unlocked: whoever gets the last value may destroy it.
// Takes ch_lock (rank object), then what grant_give() takes; not both at once.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/grant.h"

#include <lwp/channel.hpp>

#include <cstring>

namespace lwp::kern {

using lwp::detail::channel_type;

enum class chan_end : std::uint8_t { receive, send };

/// Where a call hangs in one channel.  On the stack of the one that waits.
struct chan_waiter {
	list_link<chan_waiter> cw_link;  // c
	grant *cw_grant;                 // (
	void *cw_place;                  // (: where a sender's value is, or a receiver wants it
	int cw_by;                       // (: what the grant is taken by
	bool cw_hung;                    // c: on the list
	bool cw_closed;                  // by the one that took the grant, before it gives: there is no value
};
using chan_waiters = list<chan_waiter, &chan_waiter::cw_link>;

/// Keys: c  ch_lock, written under it, and looked at without it where it is an atomic      (  fixed
struct kchannel {
	kchannel(const channel_type &type, void *ring, std::size_t capacity, vcpu_t *me) noexcept;

	spinlock ch_lock{lock_rank::object, "channel"};
	const channel_type *const ch_type;  // (
	std::byte *const ch_ring;           // (
	std::byte *const ch_ring_end;       // (
	std::byte *ch_head;                 // c: the oldest value
	std::byte *ch_tail;                 // c: the next free slot
	const std::size_t ch_capacity;      // (
	atomic<std::size_t> ch_count{0};    // c: values in the ring
	atomic<bool> ch_closed{false};      // c: once and for ever
	atomic<bool> ch_waited[2] = {};     // c: whether that list has somebody on it
	chan_waiters ch_waiters[2];         // c: by chan_end; first come first served
};

extern const syncobj channel_syncobj;

/// The usual move through a buffer, with nothing called and so nothing kept on the stack: the lock is as good as ours, the value is a word, and nobody
/// waits.  False: nothing was done, the general way decides.
[[nodiscard]] bool channel_move_own(kchannel *, chan_end, void *place, vcpu_t *me) noexcept;

/// One move, without waiting.  `place`: a sender's value, or where a receiver wants it.  0 | EPIPE closed (and empty) | EAGAIN would wait.
[[nodiscard]] int channel_try(kchannel *, chan_end, void *place, vcpu_t *me) noexcept;

/// The same, by a look without the lock first: when it says EAGAIN that was true at some moment of the call.
[[nodiscard]] int channel_try_fast(kchannel *, chan_end, void *place, vcpu_t *me) noexcept;

/// The same, but instead of EAGAIN hangs `w` up, whose grant, place and by are set.  0 | EPIPE | EINPROGRESS it hangs: grant_wait()
[[nodiscard]] int channel_try_or_hang(kchannel *, chan_end, chan_waiter *w, vcpu_t *me) noexcept;

/// The same in two steps, by who then waits as long as it takes.  0 | EPIPE, both unlocked | EAGAIN would wait: the channel is locked, and nobody comes
/// between this and channel_hang_and_unlock().
[[nodiscard]] int channel_try_or_keep(kchannel *, chan_end, void *place, vcpu_t *me) noexcept;
void channel_hang_and_unlock(kchannel *, chan_end, chan_waiter *w, vcpu_t *me) noexcept;

/// Takes `w` off if it still hangs.  After the grant was taken back, or taken elsewhere and given.
void channel_unhang(kchannel *, chan_end, chan_waiter *w, vcpu_t *me) noexcept;

/// By a waiter whose grant is of the kind one_lock, and who is lwp_leaving(): true, it hangs no more; false, it was taken and is given soon.
[[nodiscard]] bool channel_take_back(kchannel *, chan_end, chan_waiter *w, vcpu_t *me) noexcept;

/// Whether this call closed it.
bool channel_close(kchannel *, vcpu_t *me) noexcept;

/// Destroys what is left in it.  By who destroys the channel.
void channel_drain(kchannel *) noexcept;

// Where a receiver's word is, and whether: place_of (channel.hpp).
static_assert(offsetof(lwp::detail::word_place<std::uint64_t>, full) == 8 && offsetof(lwp::detail::word_place<std::uint32_t>, full) == 4);

LWP_ALWAYS_INLINE bool channel_move_own(kchannel *c, chan_end end, void *place, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(!c->ch_lock.lock_own(me))) {
		return false;
	}
	// relaxed: locked
	const bool sends = end == chan_end::send;
	const std::size_t n = c->ch_count.load(std::memory_order_relaxed);
	const std::size_t word = c->ch_type->word;
	// Nobody waits at the other end.  Who waits at ours waits for what there is, or was taken elsewhere.
	const bool can = word != 0 && !c->ch_waited[0].load(std::memory_order_relaxed) && !c->ch_waited[1].load(std::memory_order_relaxed) &&
	    (sends ? n < c->ch_capacity && !c->ch_closed.load(std::memory_order_relaxed) : n != 0);
	if (LWP_LIKELY(can)) {
		std::byte *&slot = sends ? c->ch_tail : c->ch_head;
		void *const to = sends ? slot : place;
		const void *const from = sends ? place : slot;
		if (word == 8) {
			std::memcpy(to, from, 8);
		} else {
			std::memcpy(to, from, 4);
		}
		if (!sends) {
			static_cast<unsigned char *>(place)[word] = 1;  // full
		}
		slot += word;
		if (slot == c->ch_ring_end) {
			slot = c->ch_ring;
		}
		c->ch_count.store(sends ? n + 1 : n - 1, std::memory_order_release);  // pairs with seems_ready()
	}
	// From here on others have the lock.  Whoever found the buffer empty, or full, before looks again with it before it waits (channel_try_or_keep(), channel_try_or_hang()), and sees
	// what we have moved; nobody who slept when we had it is passed over, since then nothing was moved here.
	c->ch_lock.unlock_own();
	return can;
}

/// One case of a select.
struct select_case {
	kchannel *sc_channel;
	chan_waiter sc_waiter;
	chan_end sc_end;
};
constexpr unsigned select_most = 64;

/// Takes one of the cases that can go on, each with the same chance.  0 | EPIPE: see *taken | EAGAIN none can: each was looked at, but not
/// all at one moment.
[[nodiscard]] int select_try(select_case *, unsigned count, unsigned *taken, vcpu_t *me) noexcept;

/// Hangs up every case on `g`; case i takes it by i + 1.  EINPROGRESS: grant_wait(), then select_unhang() | EAGAIN one can go on by now, or the
/// grant was taken: unless the caller can take it back it is given soon; then select_unhang().
[[nodiscard]] int select_hang(select_case *, unsigned count, grant *g, vcpu_t *me) noexcept;
/// Takes all off, but not the one that the grant was taken `by`, if it is one: its channel may be gone.
void select_unhang(select_case *, unsigned count, int by, vcpu_t *me) noexcept;

}  // namespace lwp::kern
