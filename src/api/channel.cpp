// SPDX-License-Identifier: BSD-2-Clause
#include "api/channel.h"

#include "api/deadline.h"
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"

#include <cerrno>
#include <new>
#include <system_error>

namespace lwp {

using namespace kern;

int kern::wait_granted(grant *g, const plain_sleep &how, lwp_t *l, nanotime deadline) noexcept {
	for (;;) {
		const int error = grant_wait(g, how, deadline);
		if (LWP_LIKELY(error == 0)) {
			return g->g_by.load(std::memory_order_relaxed);  // relaxed: it was given, under our lock
		}
		if (error == ETIMEDOUT) {
			return grant::timed_out;
		}
		lwp_userret(l);
		if (error == ENOMEM) {  // no room for a timer: wait the other way, by looking at the clock
			if (now() >= deadline && grant_take(g, grant::timed_out)) {
				return grant::timed_out;
			}
			lwp_yield_cpu(l);
		}
	}
}

kchannel *lwp::detail::channel_access::kernel(channel_base *c) noexcept {
	static_assert(sizeof(kchannel) <= sizeof c->kernel_ && alignof(kchannel) <= alignof(decltype(c->kernel_)));
	return std::launder(reinterpret_cast<kchannel *>(c->kernel_.bytes));
}

namespace {

using lwp::detail::channel_access;
using lwp::detail::channel_base;

kchannel *kc(const channel_base *c) noexcept { return channel_access::kernel(const_cast<channel_base *>(c)); }

channel_status status_of(int error) noexcept {
	switch (error) {
	case 0:
		return channel_status::success;
	case EPIPE:
		return channel_status::closed;
	case EAGAIN:
		return channel_status::empty;
	case ECANCELED:
		return channel_status::stopped;
	default:
		LWP_ASSERT(error == ETIMEDOUT);
		return channel_status::timeout;
	}
}

/// A waiter that can be hung up in one place.
struct lone_waiter : chan_waiter {
	lone_waiter(grant *g, void *place) noexcept {
		cw_grant = g;
		cw_place = place;
		cw_by = 1;
	}
};

constexpr plain_sleep receive_sleep = grant_sleep("chanrecv", &channel_syncobj);
constexpr plain_sleep send_sleep = grant_sleep("chansend", &channel_syncobj);
const plain_sleep &sleep_at(chan_end end) noexcept { return end == chan_end::send ? send_sleep : receive_sleep; }

/// 0 | EPIPE | ETIMEDOUT | ECANCELED
int wait_hung(kchannel *c, chan_end end, chan_waiter *w, lwp_t *l, nanotime deadline) noexcept {
	const int by = wait_granted(w->cw_grant, sleep_at(end), l, deadline);
	if (by == w->cw_by) {
		return w->cw_closed ? EPIPE : 0;  // off the list already; the channel may be gone
	}
	channel_unhang(c, end, w, l->l_cpu);
	return by == grant::timed_out ? ETIMEDOUT : ECANCELED;
}

int move_timed(kchannel *c, chan_end end, void *place, lwp_t *l, nanotime deadline) noexcept {
	grant g(l, c);
	lone_waiter w(&g, place);
	const int error = channel_try_or_hang(c, end, &w, l->l_cpu);
	return error != EINPROGRESS ? error : wait_hung(c, end, &w, l, deadline);
}

int move_stoppable(kchannel *c, chan_end end, void *place, lwp_t *l, nanotime deadline, const std::stop_token &stop) noexcept {
	if (stop.stop_requested()) {
		return ECANCELED;
	}
	int error = channel_try(c, end, place, l->l_cpu);
	if (error != EAGAIN) {
		return error;
	}
	grant g(l, c);
	lone_waiter w(&g, place);
	// There before we hang: a stop in between takes the grant, and our wait ends at once.
	const auto take = [&g]() noexcept { end_by_stop(&g, by_first_stop); };
	const std::stop_callback<decltype(take)> callback(stop, take);
	error = channel_try_or_hang(c, end, &w, l->l_cpu);
	if (error == EINPROGRESS) {
		return wait_hung(c, end, &w, l, deadline);
	}
	give_up(&g, l);  // the move was first
	return error;
}

channel_status finish(lwp_t *l, int error) noexcept {
	lwp_userret(l);
	return status_of(error);
}

channel_status move_now(kchannel *c, chan_end end, void *place) noexcept {
	const in_library l;
	return finish(l, channel_try_fast(c, end, place, l->l_cpu));
}

/// Waits as long as it takes.  One function for both ends, and its callers jump here: after a switch the CPU's guess where a function
/// returns to is that of the LWP that left, and is right as far as both stand in the same functions.
LWP_NOINLINE channel_status move(kchannel *c, chan_end end, void *place) noexcept {
	const in_library l;
	int error = channel_try_or_keep(c, end, place, l->l_cpu);
	if (error == EAGAIN) {
		grant g(l, c, grant::takers::one_lock);
		lone_waiter w(&g, place);
		channel_hang_and_unlock(c, end, &w, l->l_cpu);
		error = 0;
		while (grant_wait(&g, sleep_at(end)) != 0) {
			lwp_userret(l);
			if (LWP_UNLIKELY(lwp_leaving(l))) {
				if (channel_take_back(c, end, &w, l->l_cpu)) {
					error = ECANCELED;  // it ends when the grant goes
					break;
				}
				lwp_yield_cpu(l);
			}
		}
		error = w.cw_closed ? EPIPE : error;
	}
	return finish(l, error);
}

/// Apart, and jumped to: who comes here seldom keeps nothing for it.
LWP_NOINLINE channel_status pass_boundary(lwp_t *l) noexcept {
	lwp_userret(l);
	fence_compiler(std::memory_order_seq_cst);
	l->l_depth--;
	return channel_status::success;
}

/// As move(), by the usual way if it is as usual.
LWP_ALWAYS_INLINE channel_status move_by_usual_way(kchannel *c, chan_end end, void *place) noexcept {
	vcpu_t *vc = curcpu_or_null();
	if (c->ch_capacity == 0 || LWP_UNLIKELY(vc == nullptr) || LWP_UNLIKELY(vc->vc_curlwp == nullptr)) {
		return move(c, end, place);
	}
	// As in_library, which would be kept across the calls.
	lwp_t *l = vc->vc_curlwp;
	l->l_depth++;
	fence_compiler(std::memory_order_seq_cst);
	const bool moved = channel_move_own(c, end, place, vc);
	if (LWP_LIKELY(moved) && LWP_UNLIKELY(lwp_userret_due(l))) {
		return pass_boundary(l);
	}
	fence_compiler(std::memory_order_seq_cst);
	l->l_depth--;
	return LWP_LIKELY(moved) ? channel_status::success : move(c, end, place);
}

channel_status move(kchannel *c, chan_end end, void *place, lwp::detail::steady_time deadline, const std::stop_token *stop) noexcept {
	const in_library l;
	const nanotime at = to_nanotime(deadline);
	return finish(l, stop == nullptr ? move_timed(c, end, place, l, at) : move_stoppable(c, end, place, l, at, *stop));
}

}  // namespace

namespace detail {

channel_base::channel_base(const channel_type &type, void *ring, std::size_t capacity) noexcept {
	::new (kernel_.bytes) kchannel(type, ring, capacity, curcpu_or_null());
}

void channel_base::drain() noexcept {
	kchannel *c = kc(this);
	LWP_CHECK(c->ch_waiters[0].empty() && c->ch_waiters[1].empty(), "lwp::channel: destroyed while somebody waits in it");
	channel_drain(c);
	std::destroy_at(c);
}

bool channel_base::close() noexcept {
	const in_library l;
	const bool closed = channel_close(kc(this), l->l_cpu);
	lwp_userret(l);
	return closed;
}

// relaxed: what happened before the caller came is seen, and what happens meanwhile may be missed
bool channel_base::closed() const noexcept { return kc(this)->ch_closed.load(std::memory_order_relaxed); }
std::size_t channel_base::size() const noexcept { return kc(this)->ch_count.load(std::memory_order_relaxed); }
std::size_t channel_base::capacity() const noexcept { return kc(this)->ch_capacity; }

channel_status channel_base::try_send_from(void *value) noexcept { return move_now(kc(this), chan_end::send, value); }
channel_status channel_base::send_from(void *value) noexcept { return move_by_usual_way(kc(this), chan_end::send, value); }
channel_status channel_base::send_from(void *value, steady_time deadline, const std::stop_token *stop) noexcept {
	return move(kc(this), chan_end::send, value, deadline, stop);
}
channel_status channel_base::try_receive_into(void *place) noexcept { return move_now(kc(this), chan_end::receive, place); }
channel_status channel_base::receive_into(void *place) noexcept { return move_by_usual_way(kc(this), chan_end::receive, place); }
channel_status channel_base::receive_into(void *place, steady_time deadline, const std::stop_token *stop) noexcept {
	return move(kc(this), chan_end::receive, place, deadline, stop);
}

void channel_base::throw_closed() { throw std::system_error(std::make_error_code(std::errc::broken_pipe), "lwp::channel: closed"); }

}  // namespace detail
}  // namespace lwp
