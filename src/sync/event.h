// SPDX-License-Identifier: BSD-2-Clause
//
// The event: set or not, and who waits until it is.  One of the manual kind lets all through until it is reset; one of the automatic kind lets one
// through and is reset by that.
//
// While anybody waits it is not set: whoever sets it lets the waiters through, all or the best, under their lock, and they do not look again.
// So a set that is taken back at once is not lost for those who waited.
// An event that is seen to be set may be destroyed: it is not touched any more after that.
//
// Takes the waiters' lock (rank sleepq), then run queues.  Allocates nothing but a timer's slot.
#pragma once

#include "sync/sleepq.h"

namespace lwp::kern {

struct kevent {
	static constexpr std::uint32_t set = 1;
	static constexpr std::uint32_t waited = 2;     // somebody sleeps or did; then it is not set.  Under the waiters' lock.
	static constexpr std::uint32_t automatic = 4;  // (

	atomic<std::uint32_t> ev_word;  // a: with `waited` nobody changes it without the lock
	waiters ev_waiters;             // waiters_lock()
};

extern const syncobj event_syncobj;

/// The event may be gone on return.
void event_set(kevent *, vcpu_t *me) noexcept;
void event_clear(kevent *) noexcept;
/// Goes through if it is set.
[[nodiscard]] bool event_try(kevent *) noexcept;
/// 0 | ETIMEDOUT | ERESTART pass the boundary and call again | ENOMEM no timer
[[nodiscard]] int event_wait(kevent *, lwp_t *l, nanotime deadline) noexcept;

}  // namespace lwp::kern
