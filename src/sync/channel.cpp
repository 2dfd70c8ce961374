// SPDX-License-Identifier: BSD-2-Clause
#include "sync/channel.h"

#include "base/assert.h"

#include <bit>
#include <cerrno>
#include <cstdint>

namespace lwp::kern {
namespace {

constexpr std::size_t index_of(chan_end end) noexcept { return static_cast<std::size_t>(end); }
constexpr chan_end opposite(chan_end end) noexcept { return end == chan_end::send ? chan_end::receive : chan_end::send; }

// ---- with ch_lock held; every field that is an atomic has its one writer there, so reads are relaxed.  release: pairs with seems_ready()

std::size_t count(const kchannel *c) noexcept { return c->ch_count.load(std::memory_order_relaxed); }

void remove(kchannel *c, chan_end end, chan_waiter *w) noexcept {
	chan_waiters &list = c->ch_waiters[index_of(end)];
	list.remove(w);
	w->cw_hung = false;
	if (list.empty()) {
		c->ch_waited[index_of(end)].store(false, std::memory_order_release);
	}
}

void hang(kchannel *c, chan_end end, chan_waiter *w) noexcept {
	c->ch_waiters[index_of(end)].push_back(w);
	w->cw_hung = true;
	w->cw_closed = false;
	c->ch_waited[index_of(end)].store(true, std::memory_order_release);
}

/// The first that waits at `end` and that nobody else has taken: off the list, and ours until grant_give().  Null: nobody.
LWP_ALWAYS_INLINE chan_waiter *claim(kchannel *c, chan_end end) noexcept {
	while (chan_waiter *w = c->ch_waiters[index_of(end)].front()) {
		remove(c, end, w);
		if (LWP_LIKELY(grant_take(w->cw_grant, w->cw_by))) {
			return w;
		}
	}
	return nullptr;
}

std::byte *after(const kchannel *c, std::byte *slot) noexcept {
	slot += c->ch_type->size;
	return slot == c->ch_ring_end ? c->ch_ring : slot;
}

void put(kchannel *c, void *value) noexcept {
	c->ch_type->put(c->ch_tail, value);
	c->ch_tail = after(c, c->ch_tail);
}

/// 0: done, the lock is released | EPIPE, EAGAIN: it is held.
LWP_ALWAYS_INLINE int send_locked(kchannel *c, void *value, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(c->ch_closed.load(std::memory_order_relaxed))) {
		return EPIPE;
	}
	if (chan_waiter *w = claim(c, chan_end::receive)) {
		const channel_type *type = c->ch_type;
		c->ch_lock.unlock(me);
		type->hand(w->cw_place, value);
		grant_give(w->cw_grant, me, queue_end::handed_over);
		return 0;
	}
	if (count(c) < c->ch_capacity) {
		put(c, value);
		c->ch_count.store(count(c) + 1, std::memory_order_release);
		c->ch_lock.unlock(me);
		return 0;
	}
	return EAGAIN;
}

LWP_ALWAYS_INLINE int receive_locked(kchannel *c, void *place, vcpu_t *me) noexcept {
	if (count(c) != 0) {
		c->ch_type->take(place, c->ch_head);
		c->ch_head = after(c, c->ch_head);
		chan_waiter *w = claim(c, chan_end::send);
		if (w == nullptr) {
			c->ch_count.store(count(c) - 1, std::memory_order_release);
			c->ch_lock.unlock(me);
			return 0;
		}
		put(c, w->cw_place);  // it has waited for the room
		c->ch_lock.unlock(me);
		grant_give(w->cw_grant, me, queue_end::handed_over);
		return 0;
	}
	if (chan_waiter *w = claim(c, chan_end::send)) {
		const channel_type *type = c->ch_type;
		c->ch_lock.unlock(me);
		type->hand(place, w->cw_place);
		grant_give(w->cw_grant, me, queue_end::handed_over);
		return 0;
	}
	return c->ch_closed.load(std::memory_order_relaxed) ? EPIPE : EAGAIN;
}

LWP_ALWAYS_INLINE int try_locked(kchannel *c, chan_end end, void *place, vcpu_t *me) noexcept {
	return end == chan_end::send ? send_locked(c, place, me) : receive_locked(c, place, me);
}

// ---- without it

/// Whether a try is worth the lock.  What happened before the caller came is seen; false was true at some moment of the call.
bool seems_ready(const kchannel *c, chan_end end) noexcept {
	// In this order: one that is open now was open when its ring was full, or empty; and at the other end of such a ring nobody waits.  Without a ring who
	// waits decides, and channel_close() stores its word before it takes them away.
	// acquire, both: a close before that moment is seen below (tests/spin/litmus/channel_try.litmus)
	const std::size_t n = c->ch_count.load(std::memory_order_acquire);
	if ((end == chan_end::send ? n < c->ch_capacity : n != 0) || c->ch_waited[index_of(opposite(end))].load(std::memory_order_acquire)) {
		return true;
	}
	return c->ch_closed.load(std::memory_order_relaxed);  // relaxed: see above
}

struct alignas(64) random_state {
	atomic<std::uint64_t> x{0};  // relaxed, always: any number will do
};
random_state states[16];

/// In [0, n), n small.  One state for each vCPU, more or less: two that share one at worst draw the same number.
unsigned draw(unsigned n, const vcpu_t *me) noexcept {
	random_state &s = states[(reinterpret_cast<std::uintptr_t>(me) / alignof(vcpu_t)) % std::size(states)];
	std::uint64_t z = s.x.load(std::memory_order_relaxed) + 0x9e3779b97f4a7c15U;  // splitmix64
	s.x.store(z, std::memory_order_relaxed);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return static_cast<unsigned>(((z >> 32) * n) >> 32);
}

unsigned nth_bit(std::uint64_t bits, unsigned n) noexcept {
	for (; n != 0; n--) {
		bits &= bits - 1;
	}
	return static_cast<unsigned>(std::countr_zero(bits));
}

/// The cases in order of their channels' addresses.
void sort_by_address(const select_case *cases, unsigned n, std::uint8_t *order) noexcept {
	for (unsigned i = 0; i < n; i++) {
		unsigned at = i;
		for (; at != 0 && std::less<>()(cases[i].sc_channel, cases[order[at - 1]].sc_channel); at--) {
			order[at] = order[at - 1];
		}
		order[at] = static_cast<std::uint8_t>(i);
	}
}

/// With the channel locked: whether somebody other than `g` itself could make `end` go on.
bool ready_for(const kchannel *c, chan_end end, const grant *g) noexcept {
	if (c->ch_closed.load(std::memory_order_relaxed) || (end == chan_end::send ? count(c) < c->ch_capacity : count(c) != 0)) {
		return true;
	}
	for (const chan_waiter *w = c->ch_waiters[index_of(opposite(end))].front(); w != nullptr; w = chan_waiters::next(w)) {
		if (w->cw_grant != g && w->cw_grant->g_by.load(std::memory_order_relaxed) == grant::pending) {  // relaxed: the try decides
			return true;
		}
	}
	return false;
}

}  // namespace

const syncobj channel_syncobj = {"channel", nullptr, nullptr, grant_object};

kchannel::kchannel(const channel_type &type, void *ring, std::size_t capacity, vcpu_t *me) noexcept
    : ch_type(&type), ch_ring(static_cast<std::byte *>(ring)), ch_ring_end(ch_ring + capacity * type.size), ch_head(ch_ring),
      ch_tail(ch_ring), ch_capacity(capacity) {
	if (me != nullptr) {  // a kernel thread that has met the library
		ch_lock.bias_when_earned(me);
	}
}

int channel_try(kchannel *c, chan_end end, void *place, vcpu_t *me) noexcept {
	c->ch_lock.lock(me);
	const int error = try_locked(c, end, place, me);
	if (error != 0) {
		c->ch_lock.unlock(me);
	}
	return error;
}

int channel_try_fast(kchannel *c, chan_end end, void *place, vcpu_t *me) noexcept {
	return seems_ready(c, end) ? channel_try(c, end, place, me) : EAGAIN;
}

int channel_try_or_keep(kchannel *c, chan_end end, void *place, vcpu_t *me) noexcept {
	c->ch_lock.lock(me);
	const int error = try_locked(c, end, place, me);
	if (LWP_UNLIKELY(error == EPIPE)) {
		c->ch_lock.unlock(me);
	}
	return error;
}

void channel_hang_and_unlock(kchannel *c, chan_end end, chan_waiter *w, vcpu_t *me) noexcept {
	hang(c, end, w);
	c->ch_lock.unlock(me);
}

void channel_drain(kchannel *c) noexcept {
	for (std::size_t n = count(c); n != 0; n--) {
		c->ch_type->drop(c->ch_head);
		c->ch_head = after(c, c->ch_head);
	}
}

int channel_try_or_hang(kchannel *c, chan_end end, chan_waiter *w, vcpu_t *me) noexcept {
	c->ch_lock.lock(me);
	int error = try_locked(c, end, w->cw_place, me);
	if (error == EAGAIN) {
		hang(c, end, w);
		error = EINPROGRESS;
	}
	if (error != 0) {
		c->ch_lock.unlock(me);
	}
	return error;
}

void channel_unhang(kchannel *c, chan_end end, chan_waiter *w, vcpu_t *me) noexcept {
	lock_scope hold(c->ch_lock, me);
	if (w->cw_hung) {
		remove(c, end, w);
	}
}

bool channel_take_back(kchannel *c, chan_end end, chan_waiter *w, vcpu_t *me) noexcept {
	lock_scope hold(c->ch_lock, me);
	const bool hung = w->cw_hung;  // whoever takes it takes it off first
	if (hung) {
		remove(c, end, w);
	}
	return hung;
}

bool channel_close(kchannel *c, vcpu_t *me) noexcept {
	chan_waiters woken;
	{
		lock_scope hold(c->ch_lock, me);
		if (c->ch_closed.load(std::memory_order_relaxed)) {
			return false;
		}
		c->ch_closed.store(true, std::memory_order_relaxed);
		for (chan_end end : {chan_end::receive, chan_end::send}) {
			while (chan_waiter *w = claim(c, end)) {
				w->cw_closed = true;
				woken.push_back(w);
			}
		}
	}
	while (chan_waiter *w = woken.pop_front()) {
		grant_give(w->cw_grant, me);
	}
	return true;
}

int select_try(select_case *cases, unsigned n, unsigned *taken, vcpu_t *me) noexcept {
	std::uint64_t ready = 0;
	for (unsigned i = 0; i < n; i++) {
		ready |= std::uint64_t{seems_ready(cases[i].sc_channel, cases[i].sc_end)} << i;
	}
	while (ready != 0) {
		const unsigned i = nth_bit(ready, draw(static_cast<unsigned>(std::popcount(ready)), me));
		const int error = channel_try(cases[i].sc_channel, cases[i].sc_end, cases[i].sc_waiter.cw_place, me);
		if (LWP_LIKELY(error != EAGAIN)) {
			*taken = i;
			return error;
		}
		ready &= ~(std::uint64_t{1} << i);
	}
	return EAGAIN;
}

int select_hang(select_case *cases, unsigned n, grant *g, vcpu_t *me) noexcept {
	std::uint8_t order[select_most];
	sort_by_address(cases, n, order);
	for (unsigned i = 0; i < n; i++) {
		cases[i].sc_waiter.cw_hung = false;
		cases[i].sc_waiter.cw_by = static_cast<int>(i) + 1;
	}
	for (unsigned k = 0; k < n; k++) {
		select_case &s = cases[order[k]];
		s.sc_waiter.cw_grant = g;
		lock_scope hold(s.sc_channel->ch_lock, me);
		if (ready_for(s.sc_channel, s.sc_end, g)) {
			return EAGAIN;
		}
		hang(s.sc_channel, s.sc_end, &s.sc_waiter);
	}
	return EINPROGRESS;
}

void select_unhang(select_case *cases, unsigned n, int by, vcpu_t *me) noexcept {
	for (unsigned i = 0; i < n; i++) {
		if (cases[i].sc_waiter.cw_by == by) {
			continue;  // off the list already; whoever took it off may have destroyed the channel
		}
		channel_unhang(cases[i].sc_channel, cases[i].sc_end, &cases[i].sc_waiter, me);
	}
}

}  // namespace lwp::kern
