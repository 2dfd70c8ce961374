// SPDX-License-Identifier: BSD-2-Clause
//
// The calls on the proc as a whole, and the guard that stops the world.
#include "api/errno.h"
#include "api/restart.h"
#include "core/lwp_state.h"
#include "proc/list.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "proc/signal.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <sys/wait.h>
#include <system_error>

using namespace lwp::kern;

namespace {

nanotime milliseconds(unsigned ms) noexcept { return nanotime{ms} * 1'000'000; }

// The same table, seen from C.
static_assert(sizeof(lwp_proc_ops) == sizeof(proc_ops) && alignof(lwp_proc_ops) == alignof(proc_ops));

/// In the room of a proc's first LWP.
struct main_record {
	int (*fn)(void *);
	void *arg;
};

void run_main(void *arg) noexcept {
	const main_record r = *static_cast<main_record *>(arg);
	lwp_proc_exit(r.fn(r.arg), 0);
}

/// 0 | EAGAIN | ENOMEM | EINVAL | EPERM
int create_proc(lwp_t *l, const lwp_options &o, std::size_t max_lwps, const main_record &r, pid_t *pid) noexcept {
	lwp_t *first;
	if (int error = newlwp(l, o, &first)) {
		return error;
	}
	proc_t *p;
	int error = proc_make(l, max_lwps, &p);
	if (error == 0) {
		*pid = proc_pid(p);  // once it runs it may end, and be collected by another
		lwp_into(p, first);
		auto *record = ::new (lwp_room(first)) main_record(r);
		lwpid_t lid;
		error = lwp_start(l, first, run_main, record, false, &lid);
		if (error != 0) {
			proc_unmake(p, l->l_cpu);
		}
	}
	if (error != 0) {
		lwp_abandon(first);
	}
	return error;
}

}  // namespace

extern "C" {

int lwp_proc_stop(void) {
	const in_library l;
	proc_stop(l->l_proc, l->l_cpu);
	lwp_userret(l);
	return 0;
}

int lwp_proc_continue(void) {
	const in_library l;
	proc_continue(l->l_proc, l->l_cpu);
	lwp_userret(l);
	return 0;
}

int lwp_proc_stopped(void) {
	const in_library l;
	return proc_is_stopped(l->l_proc, l->l_cpu) ? 1 : 0;  // no boundary: who asks may be about to continue the proc
}

ssize_t lwp_proc_list(struct kinfo_lwp *lwps, size_t room) {
	const in_library l;
	if (lwps == nullptr && room != 0) {
		return c_result(EINVAL);
	}
	return static_cast<ssize_t>(proc_list(nullptr, lwps, room, l->l_cpu));
}

lwpid_t lwp_proc_representative(unsigned *nrlwps) {
	const in_library l;
	std::size_t running = 0;
	const proc_scope hold(l->l_proc, l->l_cpu);
	const lwp_t *found = proc_representative_lwp(l->l_proc, &running);
	if (nrlwps != nullptr) {
		*nrlwps = static_cast<unsigned>(running);
	}
	return lwp_lid(found != nullptr ? found : l);
}

int lwp_need_userret(lwpid_t lid, void (*fn)(void *), void *arg) {
	const in_library l;
	if (fn == nullptr) {
		return c_result(EINVAL);
	}
	const int error = lwp::kern::lwp_need_userret(l, lid, fn, arg);
	lwp_userret(l);
	return c_result(error);
}

int lwp_proc_setops(const struct lwp_proc_ops *ops) {
	const in_library l;
	// release: pairs with the acquires of who calls them
	l->l_proc->p_ops.store(reinterpret_cast<const proc_ops *>(ops), std::memory_order_release);
	lwp_userret(l);
	return 0;
}

void lwp_proc_exit(int status, unsigned grace_ms) {
	const in_library l;
	proc_exit(l, status, milliseconds(grace_ms));
}

int lwp_proc_shutdown(unsigned grace_ms) {
	const in_library l;
	const int error = proc_shutdown(l, after(now(), milliseconds(grace_ms)));
	return c_result(error);
}

void lwp_proc_abort(int sig) {
	const in_library l;
	proc_die(l, signal_valid(sig) ? sig : SIGABRT, true);
}

pid_t lwp_proc_create(int (*fn)(void *), void *arg, const struct lwp_proc_attr *attr) {
	const in_library l;
	if (fn == nullptr) {
		return c_result(EINVAL);
	}
	lwp_options o;
	o.room = sizeof(main_record);
	if (attr != nullptr) {
		o.name = attr->pa_name;
		o.stack_size = attr->pa_stacksize;
	}
	pid_t pid = 0;
	const int error = create_proc(l, o, attr != nullptr ? attr->pa_maxlwps : 0, {fn, arg}, &pid);
	lwp_userret(l);
	return error == 0 ? pid : c_result(error);
}

pid_t lwp_proc_self(void) { return proc_pid(in_library()->l_proc); }

pid_t lwp_proc_parent(void) {
	const in_library l;
	const proc_scope hold(l->l_proc, l->l_cpu);
	return l->l_proc->p_parent == nullptr ? 0 : proc_pid(l->l_proc->p_parent);
}

pid_t lwp_proc_wait(pid_t pid, int *status, int options) {
	const in_library l;
	if ((pid <= 0 && pid != -1) || (options & ~WNOHANG) != 0) {
		return c_result(EINVAL);
	}
	pid_t which = 0;
	int how = 0;
	const int error = restarted(l, [&] { return proc_wait1(l, pid, (options & WNOHANG) == 0, never, &which, &how); });
	if (error == EAGAIN) {
		return 0;
	}
	if (error == 0 && status != nullptr) {
		*status = how;
	}
	return error == 0 ? which : c_result(error);
}

int lwp_proc_detach(pid_t pid) {
	const in_library l;
	const int error = proc_detach(l, pid);
	lwp_userret(l);
	return c_result(error);
}

int lwp_proc_signal(pid_t pid, int sig) {
	const in_library l;
	int error;
	do {
		error = proc_signal(l, pid, sig);
		lwp_userret(l);
	} while (error == ERESTART);
	return c_result(error);
}

}  // extern "C"

namespace lwp {

std::vector<kinfo_lwp> every_lwp() {
	const in_library l;
	std::vector<kinfo_lwp> all(proc_nlwps(nullptr, l->l_cpu) + 16);
	for (std::size_t n; (n = proc_list(nullptr, all.data(), all.size(), l->l_cpu)) != all.size();) {
		if (n < all.size()) {
			all.resize(n);
			break;
		}
		all.resize(n + n / 8 + 16);  // some were made meanwhile
	}
	std::sort(all.begin(), all.end(), [](const kinfo_lwp &a, const kinfo_lwp &b) { return a.l_lid < b.l_lid; });
	return all;
}

stop_the_world::stop_the_world() : stopped_(world_stop(in_library(), never) == 0) {}

stop_the_world::stop_the_world(std::chrono::nanoseconds limit)
    : stopped_(world_stop(in_library(), limit.count() <= 0 ? 0 : after(now(), static_cast<nanotime>(limit.count()))) == 0) {}

stop_the_world::~stop_the_world() {
	if (stopped_) {
		const in_library l;
		world_continue(l);
		lwp_userret(l);
	}
}

std::vector<stopped_lwp> stop_the_world::lwps() const {
	if (!stopped_) {
		throw std::system_error(EPERM, std::generic_category(), "lwp::stop_the_world::lwps");
	}
	const in_library l;
	std::vector<world_member> found(proc_nlwps(nullptr, l->l_cpu) + 16);
	// A kernel thread may have been adopted meanwhile.
	for (std::size_t n; (n = world_members(l, found.data(), found.size())) > found.size();) {
		found.resize(n + 16);
	}
	std::vector<stopped_lwp> out;
	out.reserve(found.size());
	for (world_member &m : found) {
		if (m.lid == 0) {
			break;
		}
		world_stack(&m);
		out.push_back({m.lid, m.name, lwp_stat_name(m.stat), m.stack_low, m.stack_high, m.sp});
	}
	return out;
}

}  // namespace lwp
