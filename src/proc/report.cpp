// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report.h"

#include "base/assert.h"
#include "base/sys.h"
#include "proc/lwp_life.h"
#include "proc/report_names.h"
#include "proc/report_order.h"
#include "proc/report_text.h"
#include "proc/runtime.h"
#include "sched/idle.h"
#include "sched/switch.h"
#include "sync/grant.h"
#include "sync/latch.h"
#include "sync/once.h"
#include "sync/pending.h"
#include "sync/waitgraph.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <execinfo.h>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <tuple>
#include <unistd.h>
#include <vector>

namespace lwp::kern {
namespace {

constexpr std::size_t listed_most = 40;  // LWPs with a backtrace; of the others only numbers
constexpr std::size_t gathered_most = 100'000;
constexpr int frames_most = 24;

deadlock_mode mode = deadlock_mode::report;

/// SIGQUIT: a report, and the next one ends the program as it would have done.
void quit_asked(int) noexcept {
	::signal(SIGQUIT, SIG_DFL);
	sched_ask(sched.sd_asked);
}

/// One LWP that does not run, as it was when it was looked at.
struct seen {
	lwpid_t lid;
	char name[LWP_MAXNAME];
	pid_t pid;  // its proc; 0: the first
	lwp_stat stat;
	const char *wmesg;
	const char *kind;
	const void *thing;  // what the wait channel is about
	lwpid_t owner;
	char owner_name[LWP_MAXNAME];
	nanotime since;
	bool timed;
};

/// With the LWP locked.
seen look(const lwp_t *l) noexcept {
	seen s{};
	s.lid = lwp_lid(l);
	std::memcpy(s.name, l->l_name, sizeof s.name);
	s.pid = l->l_proc == &proc0 ? 0 : proc_pid(l->l_proc);
	s.stat = lwp_state(l);
	s.since = l->l_slept;
	if (lwp_asleep(l)) {
		s.wmesg = l->l_wmesg;
		s.kind = l->l_syncobj->so_name;
		s.thing = l->l_syncobj->so_thing != nullptr ? l->l_syncobj->so_thing(l->l_wchan) : l->l_wchan;
		s.timed = (lwp_flags(l) & LW_TIMED) != 0;
		if (l->l_syncobj->so_owner != nullptr) {
			if (const lwp_t *owner = l->l_syncobj->so_owner(l->l_wchan)) {
				s.owner = lwp_lid(owner);
				std::memcpy(s.owner_name, owner->l_name, sizeof s.owner_name);
			}
		}
	}
	return s;
}

struct trace {
	void *frames[frames_most];
	int count = 0;
};

void unwind(void *arg) {
	auto *t = static_cast<trace *>(arg);
	t->count = ::backtrace(t->frames, frames_most);
}

void add_trace(std::string &out, report_names &names, const trace &t, int skip) {
	if (t.count > skip) {
		report_add_frames(out, names, t.frames + skip, static_cast<std::size_t>(t.count - skip), "      ");
	}
}

/// What several primitives are made of says little; the wait itself says which of them it is.
const char *name_of(const char *kind, const char *wmesg) noexcept {
	for (const char *made_of : {pending_syncobj.so_name, countdown_syncobj.so_name, self_syncobj.so_name, grant_syncobj.so_name}) {
		if (kind == made_of) {
			return wmesg;
		}
	}
	return kind;
}

/// "mutex 0x1234, held by LWP 2 'name'", and so on.  `owner` 0: nobody in particular.
void add_thing(std::string &out, const char *kind, const char *wmesg, const void *thing, lwpid_t owner, const char *owner_name) {
	if (kind == wait_syncobj.so_name) {
		owner != 0 ? report_add(out, "the end of LWP %d '%s'", owner, owner_name) : (void)(out += "the end of any LWP");
		return;
	}
	const char *name = name_of(kind, wmesg);
	out += name;
	if (thing != nullptr) {
		report_add(out, " %p", thing);
	}
	if (wmesg != nullptr && std::strcmp(name, wmesg) != 0) {
		report_add(out, " (%s)", wmesg);
	}
	if (owner != 0) {
		report_add(out, ", %s by LWP %d '%s'", kind == once_syncobj.so_name ? "run" : "held", owner, owner_name);
	}
}

void add_what(std::string &out, const seen &s, nanotime when) {
	report_add(out, "  LWP %d '%s' ", s.lid, s.name);
	if (s.pid != 0) {
		report_add(out, "of proc %d ", s.pid);
	}
	out += lwp_stat_name(s.stat);
	if (s.kind != nullptr) {
		out += ", waits for ";
		add_thing(out, s.kind, s.wmesg, s.thing, s.owner, s.owner_name);
	}
	if (s.stat == lwp_stat::sleep && when > s.since) {
		report_add(out, ", for %.3f s so far", static_cast<double>(when - s.since) * 1e-9);
	}
	if (s.timed) {
		out += ", until its deadline";
	}
	out += '\n';
}

/// Where a sleeping LWP stands; nothing if it has gone on meanwhile.
void add_where(std::string &out, report_names &names, lwp_t *me, const seen &s) {
	trace t;
	spinlock *lock;
	lwp_t *l = lwp_find_and_lock(nullptr, s.lid, me->l_cpu, &lock);
	if (l == nullptr) {
		return;
	}
	bool there = false;
	if (l != me && lwp_state(l) == s.stat && (s.stat == lwp_stat::sleep || s.stat == lwp_stat::suspended || s.stat == lwp_stat::stop)) {
		there = lwp_look_at(me, l, unwind, &t);
	}
	const bool kernel_thread = l->l_cpu->vc_bound;
	lock->unlock(me->l_cpu);
	if (l == me) {
		unwind(&t);
		add_trace(out, names, t, 2);
	} else if (there) {
		add_trace(out, names, t, 3);  // unwind, the look, the switch
	} else if (kernel_thread) {
		out += "      (a kernel thread of the application: its debugger knows)\n";
	}
}

/// Everybody who does not run, or `every` one.  Allocates before it locks.
std::vector<seen> gather(lwp_t *me, bool every, std::size_t *more) {
	std::vector<seen> all;
	all.resize(std::min<std::size_t>(proc_nlwps(nullptr, me->l_cpu) + 64, gathered_most));
	std::size_t n = 0;
	*more = 0;
	proc_for_each(nullptr, me->l_cpu, [&](lwp_t *l) {
		spinlock *lock = lwp_lock(l, me->l_cpu);
		const lwp_stat s = lwp_state(l);
		const bool runs = s == lwp_stat::onproc || s == lwp_stat::run;
		if (s == lwp_stat::sleep || s == lwp_stat::suspended || s == lwp_stat::stop || (every && runs)) {
			n < all.size() ? (void)(all[n++] = look(l)) : (void)++*more;
		}
		lock->unlock(me->l_cpu);
	});
	all.resize(n);
	std::sort(all.begin(), all.end(), [](const seen &a, const seen &b) { return std::tie(a.since, a.lid) < std::tie(b.since, b.lid); });
	return all;
}

void add_circles(std::string &out, const std::vector<seen> &all) {
	std::map<lwpid_t, std::size_t> at;
	for (std::size_t i = 0; i < all.size(); i++) {
		at[all[i].lid] = i;
	}
	std::vector<std::uint8_t> done(all.size(), 0);  // 1: on the path just walked, 2: walked
	for (std::size_t i = 0; i < all.size(); i++) {
		std::vector<std::size_t> path;
		std::size_t x = i;
		while (x < all.size() && done[x] == 0) {
			done[x] = 1;
			path.push_back(x);
			const auto next = all[x].owner != 0 && !all[x].timed ? at.find(all[x].owner) : at.end();
			x = next == at.end() ? all.size() : next->second;
		}
		if (x < all.size() && done[x] == 1) {
			const auto first = std::find(path.begin(), path.end(), x);
			report_add(out, "circle of %zu:", static_cast<std::size_t>(path.end() - first));
			for (auto it = first; it != path.end(); ++it) {
				report_add(out, " LWP %d '%s' ->", all[*it].lid, all[*it].name);
			}
			report_add(out, " LWP %d\n", all[x].lid);
		}
		for (std::size_t p : path) {
			done[p] = 2;
		}
	}
}

void add_all(std::string &out, lwp_t *me, bool every = false) {
	std::size_t more = 0;
	const std::vector<seen> all = gather(me, every, &more);
	const nanotime when = now();
	add_circles(out, all);
	std::map<std::tuple<std::string, std::string, lwp_stat>, std::size_t> rest;
	const std::size_t listed = every ? all.size() : listed_most;
	report_names names;
	for (std::size_t i = 0; i < all.size(); i++) {
		if (i < listed) {
			add_what(out, all[i], when);
			add_where(out, names, me, all[i]);
		} else {
			rest[{all[i].kind != nullptr ? name_of(all[i].kind, all[i].wmesg) : "", all[i].wmesg != nullptr ? all[i].wmesg : "",
			    all[i].stat}]++;
		}
	}
	for (const auto &[key, count] : rest) {
		const auto &[name, wmesg, stat] = key;
		report_add(out, "  and %zu LWPs %s", count, lwp_stat_name(stat));
		if (!name.empty()) {
			report_add(out, ", wait for %s%s", name.c_str(), name != wmesg ? (" (" + wmesg + ')').c_str() : "");
		}
		out += '\n';
	}
	if (more != 0) {
		report_add(out, "  and %zu LWPs more\n", more);
	}
}

void publish(const std::string &text, bool asked = false) noexcept {
	report_write(text);
	if (mode == deadlock_mode::abort && !asked) {
		fatal("LWP_DEADLOCK=abort");
	}
}

void describe_circle(std::string &out, const waitgraph_circle &c) {
	report_add(out, "lwp: deadlock: %u LWPs wait in a circle\n", c.wc_count);
	lwp_t *me = c.wc_by;
	const bool inside = c.wc_sobj != nullptr;
	if (inside) {
		const lwp_t *next = c.wc_lwps[1];
		report_add(out, "  LWP %d '%s' is about to wait for ", lwp_lid(me), me->l_name);
		add_thing(out, c.wc_sobj->so_name, nullptr, c.wc_wchan, lwp_lid(next), next->l_name);
		out += '\n';
	} else {
		report_add(out, "  LWP %d '%s', which is not in it, has closed it by notify_all()\n", lwp_lid(me), me->l_name);
	}
	report_names names;
	trace t;
	unwind(&t);
	add_trace(out, names, t, 2);
	const nanotime when = now();
	for (unsigned i = inside ? 1 : 0; i < c.wc_count; i++) {
		spinlock *lock = lwp_lock(c.wc_lwps[i], me->l_cpu);
		const seen s = look(c.wc_lwps[i]);
		lock->unlock(me->l_cpu);
		add_what(out, s, when);
		add_where(out, names, me, s);
	}
}

void circle_closed(const waitgraph_circle &circle) noexcept {
	std::string out;
	try {
		describe_circle(out, circle);
	} catch (const std::bad_alloc &) {
		out = "lwp: deadlock (no memory to say whose)\n";  // short enough to need none
	}
	publish(out);
}

/// Whether the application handles a signal: its handler may wake somebody.
bool handles_signals() noexcept {
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		switch (sig) {
		case SIGSEGV:
		case SIGBUS:
		case SIGILL:
		case SIGFPE:
		case SIGTRAP:
		case SIGABRT:
		case SIGSYS:
			continue;  // the program's own faults
		default:
			break;
		}
		struct sigaction act {};
		if (::sigaction(sig, nullptr, &act) == 0 && act.sa_handler != SIG_DFL && act.sa_handler != SIG_IGN &&
		    act.sa_handler != quit_asked) {
			return true;
		}
	}
	return false;
}

/// Kernel threads of this process, ours and others.
unsigned kernel_threads() noexcept {
	char text[4096];
	const long fd = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/proc/self/status"), O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return ~0U;
	}
	const long n = sys::call(SYS_read, fd, reinterpret_cast<long>(text), sizeof text - 1);
	(void)sys::call(SYS_close, fd);
	text[n > 0 ? n : 0] = '\0';
	const char *line = std::strstr(text, "\nThreads:");
	return line != nullptr ? static_cast<unsigned>(std::strtoul(line + 9, nullptr, 10)) : ~0U;
}

/// Nothing runs and no timer is due.  Whether somebody outside may still wake one of the sleepers: then it is no deadlock.
bool hope(vcpu_t *me) noexcept {
	bool expects = false;
	sched_each_vcpu([&expects](const vcpu_t *vc) {
		expects |= vc->vc_expects.load(std::memory_order_relaxed);  // relaxed: it halts, rests, or runs an LWP
	});
	bool awake = false;
	unsigned adopted = 0;
	std::size_t asleep = 0;
	bool stopped = false;
	proc_for_each(nullptr, me, [&](lwp_t *l) {
		spinlock *lock = lwp_lock(l, me);
		const lwp_stat s = lwp_state(l);
		asleep += s == lwp_stat::sleep ? 1U : 0U;
		awake |= s == lwp_stat::onproc || s == lwp_stat::run || (lwp_flags(l) & LW_TIMED) != 0;
		stopped |= s == lwp_stat::stop;  // somebody outside may continue the proc
		adopted += l->l_adopted && l->l_cpu->vc_bound ? 1U : 0U;
		lock->unlock(me);
	});
	const unsigned ours = sched.sd_count.load(std::memory_order_relaxed) + adopted + sched.sd_helpers.load(std::memory_order_relaxed);
	return expects || awake || stopped || asleep == 0 || kernel_threads() != ours || handles_signals();
}

void standstill(vcpu_t *vc, bool asked) noexcept {
	if (!asked) {
		// Once for each standstill, whichever vCPU sees it first.  relaxed: nothing hangs on it
		static atomic<std::uint64_t> told_at{~std::uint64_t{0}};
		const std::uint64_t at = sched_switches_of_all();
		if (mode == deadlock_mode::off || told_at.load(std::memory_order_relaxed) == at || hope(vc) ||
		    told_at.exchange(at, std::memory_order_relaxed) == at) {
			return;
		}
	}
	std::string out;
	try {
		out = asked ? "lwp: who does not run\n" : "lwp: deadlock: every LWP sleeps, and nothing is left that could wake one\n";
		add_all(out, vc->vc_curlwp);
	} catch (const std::bad_alloc &) {
		out = "lwp: deadlock (no memory to say more)\n";
	}
	publish(out, asked);
}

}  // namespace

std::string report_all(lwp_t *me) {
	std::string out;
	add_all(out, me);
	return out;
}

std::string report_every(lwp_t *me) {
	std::string out;
	add_all(out, me, true);
	return out;
}

void report_install() noexcept {
	const char *wanted = std::getenv("LWP_DEADLOCK");
	mode = wanted == nullptr                ? deadlock_mode::report
	    : std::strcmp(wanted, "off") == 0   ? deadlock_mode::off
	    : std::strcmp(wanted, "abort") == 0 ? deadlock_mode::abort
	                                        : deadlock_mode::report;
	// relaxed: before the first LWP
	waitgraph_reporter.store(mode == deadlock_mode::off ? nullptr : circle_closed, std::memory_order_relaxed);
	sched.sd_standstill = standstill;
	struct sigaction act {};
	if (mode != deadlock_mode::off && ::sigaction(SIGQUIT, nullptr, &act) == 0 && act.sa_handler == SIG_DFL) {
		::signal(SIGQUIT, quit_asked);
	}
	void *first[1];
	(void)::backtrace(first, 1);  // loads what it needs now, not when everything is stuck
	report_order_install();
}

}  // namespace lwp::kern
