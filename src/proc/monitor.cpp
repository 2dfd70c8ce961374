// SPDX-License-Identifier: BSD-2-Clause
#include "proc/monitor.h"

#include "base/sys.h"
#include "core/lwp_pool.h"
#include "proc/outside.h"
#include "proc/preempt.h"
#include "proc/proc.h"
#include "sched/callout.h"
#include "sched/frozen.h"
#include "sched/idle.h"
#include "sched/load.h"
#include "sched/spare.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace lwp::kern {
namespace {

constexpr nanotime look_first = 500'000;  // between two looks, doubled while nothing is found
constexpr nanotime look_most = 10'000'000;
constexpr unsigned idle_looks_most = 8;  // looks after everybody has halted

/// One place at the last look: who had it, running, and how often that one had switched.
struct seen_place {
	const vcpu_t *vc = nullptr;
	std::uint64_t switches = 0;
	nanotime cpu = 0;   // its CPU time, and
	nanotime when = 0;  // when that was
};

// Touched by the monitor alone, but for `stop` and what is fixed before it runs.
vcpu_t *self;  // type-stable, as all vCPUs
pthread_t thread;
atomic<bool> stop{false};  // false again, relaxed, before the kernel threads that read it are made
bool looks = true;         // LWP_BLOCKING=off: not
bool tells = false;
seen_place places[vcpu_max];

/// What the file of a kernel thread said in this round of looks: two may ask for the same.
struct verdict {
	int tid = 0;
	std::uint64_t round = 0;
	bool asleep = false;
};
verdict verdicts[64];  // by the thread's number
std::uint64_t rounds;  // of looks
pollfd fds[1 + vcpu_max + spare_max];

// The maker of substitutes: another kernel thread, because to make one may need a lock of malloc that a frozen LWP has, and that one goes on only if
// the monitor sees to it.  So the monitor itself waits for nobody.
pthread_t maker;
constexpr std::uint32_t want_spare = 1;
constexpr std::uint32_t want_events = 2;
atomic<std::uint32_t> wanted_made{0};  // of these; what the maker waits on
atomic<bool> spare_made{false};
atomic<bool> hurried{false};

unsigned vcpus() noexcept { return sched.sd_count.load(std::memory_order_acquire); }  // pairs with the release in start()

bool wanted(const char *variable, const char *value) noexcept {
	const char *text = std::getenv(variable);
	return text != nullptr && std::strstr(text, value) != nullptr;
}

/// Reads a small file of a kernel thread: its length, or 0.
std::size_t read_task(int tid, const char *file, char *text, std::size_t size) noexcept {
	char path[64];
	(void)std::snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
	const long fd = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return 0;
	}
	const long n = sys::call(SYS_read, fd, reinterpret_cast<long>(text), static_cast<long>(size - 1));
	(void)sys::call(SYS_close, fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? static_cast<std::size_t>(n) : 0;
}

/// CPU time of a kernel thread of this process, by the clock that pthread_getcpuclockid(3) names; 0 if there is none.
nanotime cpu_time_of(int tid) noexcept {
	timespec t{};
	const auto clock = static_cast<int>(~static_cast<unsigned>(tid) << 3 | 6U);
	return sys::call(SYS_clock_gettime, clock, reinterpret_cast<long>(&t)) == 0
	    ? static_cast<nanotime>(t.tv_sec) * 1'000'000'000U + static_cast<nanotime>(t.tv_nsec)
	    : 0;
}

bool sleeps(int tid) noexcept {
	// Whose clock goes on has a CPU at this moment.  The file costs many times as much as two looks at a clock.
	if (const nanotime before = cpu_time_of(tid); before != 0 && cpu_time_of(tid) != before) {
		return false;
	}
	verdict &v = verdicts[static_cast<unsigned>(tid) % std::size(verdicts)];
	if (v.tid != tid || v.round != rounds) {
		char text[256];
		const char *state = nullptr;
		if (read_task(tid, "stat", text, sizeof text) != 0) {
			state = std::strrchr(text, ')');  // the name before it may contain anything
		}
		v = {tid, rounds, state != nullptr && (state[2] == 'S' || state[2] == 'D')};
	}
	return v.asleep;
}

/// Which LWP is blocked, and in what.  Before the hand-over: after it the LWP may have gone on.
void tell(vcpu_t *vc) noexcept {
	lwpid_t lid = 0;
	if (vc->vc_lwplock.try_lock(self)) {  // it cannot switch; and it may hold the lock, blocked inside the library
		lid = vc->vc_curlwp != nullptr ? lwp_lid(vc->vc_curlwp) : 0;
		vc->vc_lwplock.unlock(self);
	}
	char name[LWP_MAXNAME] = "";
	if (lid != 0) {
		lock_scope hold(proc_part(&proc0, lid)->pp_lock, self);
		if (const lwp_t *l = lwp_find(nullptr, lid); l != nullptr) {
			std::memcpy(name, l->l_name, sizeof name);
		}
	}
	char call[256];
	(void)read_task(vc->vc_tid.load(std::memory_order_relaxed), "syscall", call, sizeof call);  // relaxed: fixed while it runs
	char line[160];
	const int n =
	    std::snprintf(line, sizeof line, "lwp: vCPU %d: LWP %d '%s' is blocked in the kernel (system call %d) without having said so\n",
	        vc->vc_index.load(std::memory_order_relaxed), lid, name, std::atoi(call));
	(void)sys::write(2, line, static_cast<std::size_t>(std::min<int>(n, sizeof line - 1)));
}

/// Whether it has had a CPU for most of the time since the last look: then what it has is an LWP that computes.  If that has fallen asleep just now the next look
/// finds it.  Costs a fraction of what the file does.
bool has_computed(seen_place &last, int tid, nanotime when) noexcept {
	const nanotime cpu = cpu_time_of(tid);
	const bool most = cpu > last.cpu && cpu - last.cpu >= (when - last.when) / 2;
	last.cpu = cpu;
	last.when = when;
	return most;
}

bool something_waits_for(const vcpu_t *vc) noexcept {  // relaxed: hints, asked again and again
	return vc->vc_rq.count() != 0 || vc->vc_incount.load(std::memory_order_relaxed) != 0 ||
	    vc->vc_deadline.load(std::memory_order_relaxed) != never || vc->vc_pending.load(std::memory_order_relaxed) != 0;
}

/// LWPs wait somewhere that could run on any vCPU, and none halts.
bool short_of_vcpus() noexcept {
	if (sched.sd_halted.load(std::memory_order_relaxed) != 0) {
		return false;
	}
	for (unsigned i = 0, n = vcpus(); i < n; i++) {
		const vcpu_t *vc = sched.sd_vcpu[i];
		if (vc->vc_rq.movable() != 0 || vc->vc_inmovable.load(std::memory_order_relaxed) != 0) {
			return true;
		}
	}
	return false;
}

/// Whether anybody runs; *found: somebody was blocked.
bool look(nanotime when, bool *found) noexcept {
	bool anybody = false;
	const bool crowded = looks && short_of_vcpus();
	for (unsigned i = 0, n = vcpus(); i < n; i++) {
		vcpu_t *vc = sched.sd_vcpu[i];
		seen_place &last = places[i];
		if (vc->vc_halted.load(std::memory_order_seq_cst) == vc_waits) {  // seq_cst: see monitor_runs()
			last.vc = nullptr;
			continue;
		}
		anybody = true;
		spare_feed(vc, self);
		const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed);  // relaxed: seen sooner or later
		const int tid = vc->vc_tid.load(std::memory_order_relaxed);                      // relaxed: fixed while it runs
		if (last.vc != vc || last.switches != switches) {
			last = {vc, switches, cpu_time_of(tid), when};
			continue;
		}
		if (vc->vc_frozen.load(std::memory_order_relaxed)) {
			continue;  // its LWP has been brought home, and its kernel thread is being woken; relaxed: a hint
		}
		if (!looks || !(crowded || something_waits_for(vc)) || has_computed(last, tid, when) || !sleeps(tid)) {
			continue;
		}
		// It may come back this moment, and even switch: then it finds at its next boundary, or as it is about to halt, that another acts for it,
		// and takes its place back (spare_resume()).  Nothing that only its kernel thread may touch is touched here.
		if (tells) {
			tell(vc);
		}
		frozen_first(vc, self);
		if (spare_hand_over(vc, self, spare_make::no)) {
			spares.sp_stuck.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
			*found = true;
		} else if (spares.sp_nfree.load(std::memory_order_relaxed) == 0) {  // relaxed: a hint
			monitor_wants_spare();                                          // and look again when it is there
		}
	}
	return anybody;
}

/// Does for those that are off duty what they would: timers, I/O.  Into `fds` from 1 on: what to wait for; *until: when the next timer is due.
unsigned serve(nanotime when, nanotime *until) noexcept {
	unsigned n = 1;
	if (spares.sp_noff.load(std::memory_order_relaxed) == 0) {  // relaxed: sp_seq is looked at again before we sleep
		return n;
	}
	sched_each_vcpu([&](vcpu_t *vc) {
		if (!is_off(vc)) {
			return;
		}
		callout_run(vc, when);
		const parker *p = vc->vc_parker.load(std::memory_order_acquire);  // pairs with the release in port_make()
		if (p->poll_away != nullptr) {
			p->poll_away(vc, when);
			if (const int fd = p->awaited(vc); fd >= 0) {
				fds[n++] = {fd, POLLIN, 0};
			}
		}
		*until = std::min(*until, vc->vc_deadline.load(std::memory_order_relaxed));  // relaxed: who arms one for it later kicks
	});
	return n;
}

void sleep_until(unsigned n, nanotime until) noexcept {
	const nanotime when = now();
	const timespec left = to_timespec(until > when ? until - when : 0);
	(void)sys::call(SYS_ppoll, reinterpret_cast<long>(fds), n, until == never ? 0 : reinterpret_cast<long>(&left), 0, 8);
	if ((fds[0].revents & POLLIN) != 0) {
		std::uint64_t count;
		(void)sys::call(SYS_read, fds[0].fd, reinterpret_cast<long>(&count), sizeof count);
	}
}

void run() noexcept {
	nanotime period = look_first;
	nanotime next_look = 0;
	nanotime hog_look = never;
	unsigned idle_looks = 0;
	while (!stop.load(std::memory_order_acquire)) {  // pairs with the release in monitor_stop()
		const std::uint64_t seq = spares.sp_seq.load(std::memory_order_seq_cst);
		const nanotime when = now();
		nanotime until = never;
		const unsigned n = serve(when, &until);
		bool asleep = idle_looks >= idle_looks_most;
		if (asleep) {
			// Who ends a halt says so and then looks whether we sleep: one of us sees the other.
			spares.sp_asleep.store(true, std::memory_order_seq_cst);
		}
		const bool hurry = hurried.exchange(false, std::memory_order_relaxed);  // relaxed: seen when it is kicked
		if (asleep || hurry || when >= next_look || spare_made.exchange(false, std::memory_order_relaxed)) {  // relaxed: a hint
			bool found = false;
			rounds++;
			const bool anybody = look(when, &found);
			hog_look = preempt_look(when);
			sched_load_look(nullptr, when);  // for LWPs that never call
			period = found || hurry || (anybody && idle_looks != 0) ? look_first : std::min(period * 2, look_most);
			next_look = std::min(when + period, hog_look);
			idle_looks = anybody ? 0 : idle_looks + 1;
			asleep = asleep && !anybody;
		}
		if (!asleep) {
			spares.sp_asleep.store(false, std::memory_order_relaxed);  // relaxed: at worst a kick too many
			until = std::min(until, next_look);
		}
		// Whoever goes away counts itself and then looks at sp_until: if we miss it here, it wakes us.
		spares.sp_until.store(until, std::memory_order_seq_cst);
		if (spares.sp_seq.load(std::memory_order_seq_cst) == seq) {
			sleep_until(n, until);
		}
		spares.sp_until.store(0, std::memory_order_seq_cst);
		if (asleep) {
			spares.sp_asleep.store(false, std::memory_order_relaxed);
			idle_looks = 1;  // kicked: look around, from the shortest period on
			period = look_first;
			next_look = 0;
		}
	}
}

void *maker_main(void *) {
	for (;;) {
		std::uint32_t what;
		while ((what = wanted_made.load(std::memory_order_acquire)) == 0) {  // pairs with the release of who wants one
			(void)sys::futex_wait(&wanted_made, 0, nullptr);
		}
		if (stop.load(std::memory_order_acquire)) {  // pairs with the release in stop_maker()
			return nullptr;
		}
		if ((what & want_spare) != 0) {
			if (spares.sp_make == nullptr || spares.sp_make() == nullptr) {
				spares.sp_refused.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics
			}
			spare_made.store(true, std::memory_order_relaxed);  // relaxed: the monitor looks again when it is kicked
		}
		if ((what & want_events) != 0) {
			outside_prepare(!task_filtered(::gettid()));
		}
		wanted_made.fetch_and(~what, std::memory_order_relaxed);  // relaxed: who wants another looks again
		if ((what & want_spare) != 0) {
			monitor_kick();
		}
	}
}

void wake_maker(std::uint32_t what) noexcept {
	if ((wanted_made.fetch_or(what, std::memory_order_release) & what) == 0) {  // pairs with the acquire in maker_main()
		(void)sys::futex_wake(&wanted_made, 1);
	}
}

void stop_maker() noexcept {
	stop.store(true, std::memory_order_release);  // pairs with the acquire in maker_main()
	// Again and again: it may take a wish back that was ours.
	while (::pthread_tryjoin_np(maker, nullptr) == EBUSY) {
		wake_maker(want_spare);
		sys::yield();
	}
}

void *monitor_main(void *) {
	curcpu_set(self);
	run();
	curcpu_set(nullptr);
	return nullptr;
}

}  // namespace

bool monitor_finds_out() noexcept {
	char text[256];
	return !wanted("LWP_BLOCKING", "off") && read_task(::gettid(), "stat", text, sizeof text) != 0;
}

bool task_sleeps(int tid) noexcept { return sleeps(tid); }

bool task_filtered(int tid) noexcept {
	char text[4096];
	return read_task(tid, "status", text, sizeof text) == 0 || std::strstr(text, "\nSeccomp:\t0\n") == nullptr;
}

void monitor_hurry() noexcept {
	hurried.store(true, std::memory_order_relaxed);  // relaxed: the kick goes through the kernel
	monitor_kick();
}

void monitor_wants_spare() noexcept {
	if ((wanted_made.load(std::memory_order_relaxed) & want_spare) == 0) {  // relaxed: else it is at it
		wake_maker(want_spare);
	}
}

void monitor_wants_events() noexcept {
	if ((wanted_made.load(std::memory_order_relaxed) & want_events) == 0) {  // relaxed: the same
		wake_maker(want_events);
	}
}

int monitor_start() noexcept {
	if (self == nullptr) {
		self = new (std::nothrow) vcpu_t;
		const long fd = self != nullptr ? sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK) : -ENOMEM;
		if (fd < 0) {
			delete self;
			self = nullptr;
			return static_cast<int>(-fd);
		}
		self->vc_bound = true;
		self->vc_duty.store(vcpu_duty::outside, std::memory_order_relaxed);  // relaxed: nobody knows it yet
		fds[0] = {static_cast<int>(fd), POLLIN, 0};
		spares.sp_wakefd.store(static_cast<int>(fd), std::memory_order_relaxed);  // kept for ever: who kicks may be late
	}
	looks = !wanted("LWP_BLOCKING", "off");
	tells = wanted("LWP_DEBUG", "blocking");
	std::fill(std::begin(places), std::end(places), seen_place{});
	stop.store(false, std::memory_order_relaxed);
	sigset_t all;
	sigset_t old;
	::sigfillset(&all);
	::pthread_sigmask(SIG_SETMASK, &all, &old);  // signals are for the application's threads
	wanted_made.store(0, std::memory_order_relaxed);
	int error = sys::thread_create(&maker, nullptr, maker_main, nullptr);
	if (error == 0 && (error = sys::thread_create(&thread, nullptr, monitor_main, nullptr)) != 0) {
		stop_maker();
	}
	::pthread_sigmask(SIG_SETMASK, &old, nullptr);
	if (error == 0) {
		sched.sd_helpers.fetch_add(2, std::memory_order_relaxed);  // relaxed: a count
	}
	return error;
}

void monitor_stop() noexcept {
	stop.store(true, std::memory_order_release);  // pairs with the acquire in run()
	monitor_kick();
	::pthread_join(thread, nullptr);
	stop_maker();
	outside_end();
	sched.sd_helpers.fetch_sub(2, std::memory_order_relaxed);
}

}  // namespace lwp::kern
