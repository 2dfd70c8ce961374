// SPDX-License-Identifier: BSD-2-Clause
#include "api/deadline.h"
#include "api/stop_grant.h"
#include "core/specific.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/switch.h"
#include "sync/pending.h"

#include <lwp/future.hpp>

#include <cerrno>
#include <new>

namespace lwp::detail {

using namespace kern;

namespace {

static_assert(sizeof(kpending) == sizeof(pending) && alignof(kpending) == alignof(pending));

kpending *kp(storage<24> &s) noexcept { return reinterpret_cast<kpending *>(s.bytes); }

/// Waits as long as it takes: a suspend and the like only interrupt it.  0 | ETIMEDOUT | ECANCELED
LWP_NOINLINE int wait_out(kpending *p, lwp_t *l, const char *what, nanotime deadline, const interruptor *end) noexcept {
	for (;;) {
		if (end != nullptr && end->fired() != 0) {
			return pending_none(p, l->l_cpu) ? 0 : end->fired();
		}
		const int error = pending_wait(p, l, what, deadline);
		if (error == 0 || error == ETIMEDOUT) {
			return error;
		}
		lwp_userret(l);
		if (error == ENOMEM) {  // no room for a timer: wait the other way, by looking at the clock
			if (now() >= deadline) {
				return ETIMEDOUT;
			}
			lwp_yield_cpu(l);
		}
	}
}

}  // namespace

void pending::add(unsigned count) noexcept { pending_add(kp(kernel_), count); }

void pending::done() noexcept {
	const in_library l;
	pending_done(kp(kernel_), l->l_cpu);
	lwp_userret(l);
}

bool pending::none() noexcept { return pending_none(kp(kernel_), in_library()->l_cpu); }

void pending::wait(const char *what) noexcept {
	const in_library l;
	(void)wait_out(kp(kernel_), l, what, never, nullptr);
	lwp_userret(l);
}

bool pending::wait(const char *what, steady_time deadline) noexcept {
	const in_library l;
	kpending *p = kp(kernel_);
	const nanotime at = to_nanotime(deadline);
	if (pending_none(p, l->l_cpu)) {
		return true;
	}
	const bool none = at > now() && wait_out(p, l, what, at, nullptr) == 0;
	lwp_userret(l);
	return none;
}

bool pending::wait(const char *what, steady_time deadline, const std::stop_token &stop) noexcept {
	const in_library l;
	kpending *p = kp(kernel_);
	const nanotime at = to_nanotime(deadline);
	bool none = pending_none(p, l->l_cpu);
	if (!none && at > now()) {
		interruptor end(l);
		end.by_stop(stop);
		none = wait_out(p, l, what, at, &end) == 0;
	}
	lwp_userret(l);
	return none;
}

// ---- what is done at the end of an LWP -----------------------------------------------------------------------------

namespace {

extern "C" void run_exit_notes(void *first) {
	for (auto *note = static_cast<exit_note *>(first); note != nullptr;) {
		exit_note *next = note->en_next;  // first: it may be gone once it has run
		note->en_run(note);
		note = next;
	}
}

/// A key of NetBSD's kind: its values are destroyed after all of the other kind, which is what lwp::specific and lwp_tss_* are made of.
unsigned exit_key() {
	static const unsigned key = [] {
		unsigned k;
		if (specific_key_create(&k, run_exit_notes) != 0) {
			throw std::bad_alloc();
		}
		return k;
	}();
	return key;
}

}  // namespace

void at_lwp_exit(exit_note *note) {
	const in_library l;
	const unsigned key = exit_key();
	note->en_next = static_cast<exit_note *>(specific_get(l->l_specific, key));
	if (specific_set(l->l_specific, key, note) != 0) {
		throw std::bad_alloc();
	}
}

void at_lwp_end(exit_note *note) noexcept {
	if (!specific_empty(curlwp()->l_specific)) {
		try {
			at_lwp_exit(note);
			return;
		} catch (const std::bad_alloc &) {
		}
	}
	note->en_run(note);
}

// ---- the shared state of futures -----------------------------------------------------------------------------------

void throw_future_error(std::future_errc e) { throw std::future_error(e); }

future_state::~future_state() = default;

void future_state::last_release() noexcept {
	if (blocking_) {
		pending_.wait("async");
	}
	destroy();
}

void future_state::ready_at_exit() {
	add_ref();
	en_run = [](exit_note *n) noexcept {
		auto *self = static_cast<future_state *>(n);
		self->ready();
		self->release();
	};
	try {
		at_lwp_exit(this);
	} catch (...) {
		release();
		throw;
	}
}

void future_state::abandon() noexcept {
	if (claim()) {
		set_error(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise)));
		ready();
	}
	release();
}

}  // namespace lwp::detail
