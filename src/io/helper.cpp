// SPDX-License-Identifier: BSD-2-Clause
#include "io/helper.h"

#include "base/sys.h"
#include "io/direct.h"

#include <cerrno>
#include <csignal>
#include <pthread.h>

namespace lwp::kern {
namespace {

constexpr unsigned helpers_most = 16;
constexpr nanotime idle_most = 5'000'000'000;

// Plain pthreads: both sides are kernel threads, and an LWP holds the lock for a few instructions without switching.
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t work = PTHREAD_COND_INITIALIZER;
list<io_op, &io_op::o_link> jobs;
unsigned helpers, idle;
unsigned endless;  // operations here that may never end: those after them get helpers all the same

void *helper_main(void *) {
	::pthread_mutex_lock(&lock);
	for (;;) {
		io_op *op = jobs.pop_front();
		if (op != nullptr) {
			::pthread_mutex_unlock(&lock);
			port *p = io_port_of(op->o_at.load(std::memory_order_relaxed));  // relaxed: ordered by `lock`
			const bool was_endless = op->o_endless;
			op->o_result = op->o_call != nullptr ? op->o_call(op) : io_call(op);
			port_helped(p, op);
			::pthread_mutex_lock(&lock);
			endless -= was_endless ? 1 : 0;
			continue;
		}
		const timespec until = to_timespec(now() + idle_most);
		idle++;
		const int error = ::pthread_cond_clockwait(&work, &lock, CLOCK_MONOTONIC, &until);
		idle--;
		if (error == ETIMEDOUT && jobs.empty()) {
			helpers--;
			sched.sd_helpers.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a count
			::pthread_mutex_unlock(&lock);
			return nullptr;
		}
	}
}

/// lock held.  False: no kernel thread could be started.
bool another_helper() noexcept {
	pthread_attr_t attributes;
	pthread_t id;
	sigset_t all, old;
	if (::pthread_attr_init(&attributes) != 0) {
		return false;
	}
	(void)::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	::sigfillset(&all);
	::pthread_sigmask(SIG_SETMASK, &all, &old);  // signals are for the application's threads
	const bool made = sys::thread_create(
	                      &id, &attributes, [](void *arg) { return helper_main(arg); }, nullptr) == 0;
	if (made) {
		helpers++;
		sched.sd_helpers.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
	}
	::pthread_sigmask(SIG_SETMASK, &old, nullptr);
	(void)::pthread_attr_destroy(&attributes);
	return made;
}

}  // namespace

bool helper_begin(port *p, io_op *op) noexcept {
	op->o_helped = true;
	{
		lock_scope hold(p->po_use, p->po_vcpu);
		port_began(p, op);
	}
	::pthread_mutex_lock(&lock);
	jobs.push_back(op);
	const unsigned before = endless;
	endless += op->o_endless ? 1 : 0;
	unsigned waiting = 0;
	for (io_op *job = jobs.front(); job != nullptr && waiting <= idle; job = list<io_op, &io_op::o_link>::next(job)) {
		waiting++;
	}
	// Where no other can be started, one that has work with an end will come to it.
	const bool there = waiting <= idle || helpers >= helpers_most + endless || another_helper() || helpers > before;
	if (there) {
		::pthread_cond_signal(&work);
		::pthread_mutex_unlock(&lock);
		return true;
	}
	jobs.remove(op);
	endless -= op->o_endless ? 1 : 0;
	::pthread_mutex_unlock(&lock);
	lock_scope hold(p->po_use, p->po_vcpu);
	port_complete(p, op, -EAGAIN);  // wakes nobody: we have not slept; the token tells io_wait()
	return true;
}

}  // namespace lwp::kern
