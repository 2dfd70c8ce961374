// SPDX-License-Identifier: BSD-2-Clause
#include "api/deadline.h"
#include "api/stop_grant.h"
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/runtime.hpp>
#include <lwp/thread.hpp>

#include <cerrno>
#include <system_error>

namespace lwp {

using namespace kern;

namespace {

[[noreturn]] void fail(int error, const char *what) { throw std::system_error(error, std::generic_category(), what); }

int joined(lwp_t *l, lwpid_t lid) noexcept {
	int error;
	do {
		error = lwp_wait1(l, lid, nullptr);
		lwp_userret(l);
	} while (error == ERESTART || error == EINTR);  // std's join() is not interrupted
	return error;
}

}  // namespace

namespace detail {

nascent thread_prepare(const attributes &attr, std::size_t size, std::size_t align) {
	lwp_options o;
	o.name = attr.name;
	o.stack_size = attr.stack_size;
	o.vcpu = attr.vcpu;
	o.priority = attr.priority;
	o.policy = static_cast<int>(attr.policy) - 1;
	o.detached = attr.detached;
	o.mpsafe = attr.mp == mp_safety::inherit ? -1 : attr.mp == mp_safety::safe ? 1 : 0;
	o.room = (size + 63) / 64 * 64 + (align > 64 ? align : 0);
	lwp_t *l;
	if (int error = newlwp(in_library(), o, &l)) {
		fail(error, "lwp::thread");
	}
	void *room = lwp_room(l);
	if (align > 64) {
		std::size_t space = o.room;
		room = std::align(align, size, room, space);
	}
	return {l, room};
}

void thread_abandon(const nascent &n) noexcept {
	const in_library l;
	lwp_abandon(static_cast<lwp_t *>(n.lwp));
}

lwpid_t thread_launch(const nascent &n, void (*run)(void *)) noexcept {
	const in_library l;
	lwpid_t lid;
	const int error = lwp_start(l, static_cast<lwp_t *>(n.lwp), run, n.payload, false, &lid);
	if (error != 0) {
		return -error;
	}
	lwp_userret(l);
	return lid;
}

void thread_failed(int error) { fail(error, "lwp::thread"); }

void thread_join(lwpid_t lid) {
	if (lid == 0) {
		fail(EINVAL, "lwp::thread::join");
	}
	if (int error = joined(in_library(), lid)) {
		fail(error, "lwp::thread::join");
	}
}

bool thread_join_until(lwpid_t lid, steady_time deadline, const std::stop_token &stop) {
	if (lid == 0) {
		fail(EINVAL, "lwp::thread::join");
	}
	const in_library l;
	int error = 0;
	{
		// The wait itself knows no deadline: it is interrupted, and is asked about the LWP before it sleeps, so one that has ended is collected.
		interruptor end(l);
		end.by_stop(stop);
		if (deadline != steady_time::max()) {
			error = end.by_deadline(to_nanotime(deadline));
		}
		if (error == 0) {
			do {
				error = lwp_wait1(l, lid, nullptr);
				lwp_userret(l);
			} while (error == ERESTART || (error == EINTR && end.fired() == 0));
		}
	}
	if (error != 0 && error != EINTR) {
		fail(error, "lwp::thread::join");
	}
	return error == 0;
}

void thread_detach(lwpid_t lid) {
	if (lid == 0) {
		fail(EINVAL, "lwp::thread::detach");
	}
	const in_library l;
	const int error = lwp_detach(l, lid);
	lwp_userret(l);
	if (error != 0) {
		fail(error, "lwp::thread::detach");
	}
}

unsigned thread_concurrency() noexcept { return runtime::vcpus(); }

void sleep_until_steady(steady_time deadline) noexcept {
	const in_library l;
	lwp_sleep_until(l, to_nanotime(deadline));
	lwp_userret(l);
}

}  // namespace detail

runtime::runtime(const runtime_options &options) {
	if (int error = runtime_start(options)) {
		fail(error, "lwp::runtime");
	}
}

runtime::~runtime() { runtime_stop(); }

unsigned runtime::vcpus() {
	(void)curlwp();
	return sched.sd_count.load(std::memory_order_relaxed);  // relaxed: fixed while the runtime lives
}

runtime_stats runtime::stats() { return runtime_statistics(); }

}  // namespace lwp
