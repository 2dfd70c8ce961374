// SPDX-License-Identifier: BSD-2-Clause
//
// One schedule of lwp::testing::explore(), in the process that was made for it: a runtime of one vCPU and one kernel thread, in which
//
//   sched_point()    is called at each boundary in place of preemption (vc_resched is always set), and chooses who goes on
//   the parker       leaps the clock to the next deadline when all sleep; without one, that is a deadlock
//   clock_gettime()  of the program (testing/explore.cpp) shows `sc.clock`, so now() and std's clocks do
//
// Same seed, same steps: nothing that decides is read from outside.  A look at the clock by the count of the CPU's cycles (tick() in sched/switch.cpp)
// may come at any time, so it must find nothing to do: timers are fired in the step that moves the clock past them, and the run queue's turn
// never comes (vc_turned follows the clock).  What a process with one kernel thread does is ordered by itself: all accesses here are plain.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/report.h"
#include "proc/report_names.h"
#include "proc/report_text.h"
#include "proc/runtime.h"
#include "sched/idle.h"
#include "sched/point.h"
#include "sched/switch.h"
#include "sync/waitgraph.h"

#include <lwp/testing.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

extern "C" void __gcov_dump() __attribute__((weak));  // a build that measures coverage: _exit() would lose it

namespace lwp::kern {
namespace {

using testing::outcome;
using testing::detail::schedule;

constexpr nanotime epoch = 1'000'000'000'000'000;  // where its clock begins
constexpr nanotime step_takes = 1'000;
constexpr unsigned changes_most = 2;       // PCT's, beside the priorities that an LWP begins with
constexpr unsigned patience = 200;         // steps that the best LWP may take while others could: a loop that waits for them
constexpr std::size_t traced_most = 4096;  // a power of two: the last steps

struct traced {
	nanotime when;
	const char *call;
	const void *object;
	void *site;
	lwpid_t lid;
	char name[20];
};

/// The process's only schedule.
struct player {
	const schedule *sc = nullptr;
	std::uint64_t state = 0;  // of the dice
	nanotime clock = epoch;
	std::uint64_t steps = 0;
	std::uint64_t hash = 0xcbf29ce484222325U;
	std::uint64_t choices = 0;  // steps at which others could go on
	bool pct = false;
	unsigned chance = 1;      // random: one step in so many may change who runs
	unsigned leaps = 0;       // one step in so many moves the clock to the next deadline; 0: none
	std::uint64_t ranks = 0;  // PCT: an LWP's priority is a hash of this and its number
	std::uint64_t change[changes_most] = {};
	std::uint64_t demoted[changes_most] = {};  // numbers of LWPs that come after all others, the last one last
	unsigned ndemoted = 0;
	std::uint64_t runs = 0;  // the number of the LWP that took the last steps,
	unsigned in_a_row = 0;   // and how many, while others could have
	bool over = false;
	traced *trace = nullptr;
	waitgraph_report circle = nullptr;
};
player pl;

std::uint64_t mix(std::uint64_t z) noexcept {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

std::uint64_t dice() noexcept { return mix(pl.state += 0x9e3779b97f4a7c15U); }
bool one_in(unsigned n) noexcept { return n != 0 && dice() % n == 0; }

/// Names an LWP; no two of a schedule have the same.
std::uint64_t number(const lwp_t *l) noexcept { return static_cast<std::uint64_t>(lwp_lid(l)); }

void note(std::uint64_t what) noexcept { pl.hash = (pl.hash ^ what) * 0x100000001b3U; }

void set_clock(vcpu_t *vc, nanotime to) noexcept {
	pl.clock = std::max(pl.clock, to);
	pl.sc->clock->store(pl.clock, std::memory_order_relaxed);  // relaxed: read by this kernel thread
	vc->vc_turned = pl.clock;
}

// ---- the end

void print_steps() {
	const std::uint64_t first = pl.steps > 60 ? pl.steps - 60 : 0;
	std::string out;
	report_names names;
	report_add(out, "the last %llu of %llu steps:\n      step     microseconds  LWP                   calls\n",
	    static_cast<unsigned long long>(pl.steps - first), static_cast<unsigned long long>(pl.steps));
	const void *known[26] = {};  // objects get letters, by their first appearance
	for (std::uint64_t i = first; i < pl.steps; i++) {
		const traced &t = pl.trace[i % traced_most];
		char object[24] = "";
		if (t.object != nullptr) {
			const auto *at = std::find_if(std::begin(known), std::end(known), [&](const void *k) { return k == nullptr || k == t.object; });
			if (at != std::end(known)) {
				const auto n = static_cast<std::size_t>(at - std::begin(known));
				known[n] = t.object;
				(void)std::snprintf(object, sizeof object, " %c", static_cast<int>('A' + n));
			} else {
				(void)std::snprintf(object, sizeof object, " %p", t.object);
			}
		}
		report_add(out, "%10llu %16.0f  %-3d %-17s %s%s", static_cast<unsigned long long>(i + 1),
		    static_cast<double>(t.when - epoch) * 1e-3, t.lid, t.name, t.call, object);
		if (t.site != nullptr) {
			report_add_frames(out, names, &t.site, 1, "  ");
		} else {
			out += '\n';
		}
	}
	report_write(out);
}

[[noreturn]] void end(outcome how) noexcept {
	pl.over = true;
	pl.sc->end->how.store(how, std::memory_order_relaxed);
	if (pl.trace != nullptr) {
		try {
			print_steps();
		} catch (const std::bad_alloc &) {
			report_write("no memory to print the steps\n");
		}
	}
	(void)std::fflush(nullptr);
	if (__gcov_dump != nullptr) {
		__gcov_dump();
	}
	::_exit(how == outcome::passed ? 0 : 1);
}

[[noreturn]] void end(outcome how, const char *what) noexcept {
	report_write(what);
	end(how);
}

void circle_closed(const waitgraph_circle &circle) noexcept {
	if (pl.circle != nullptr) {
		pl.circle(circle);
	}
	end(outcome::deadlock);
}

// ---- who goes on

/// The higher the sooner.
std::uint64_t rank(const lwp_t *l) noexcept {
	for (unsigned i = pl.ndemoted; i-- > 0;) {
		if (pl.demoted[i] == number(l)) {
			return changes_most - i;
		}
	}
	return mix(pl.ranks ^ number(l)) | 64;
}

/// Of those that could run, `l` among them, the one that goes on; and of the others the one that does if that one blocks.
void choose(vcpu_t *vc, lwp_t *l, lwp_t **now, lwp_t **then) noexcept {
	const bool stay = !pl.pct && !one_in(pl.chance);
	const std::uint64_t salt = pl.pct ? 0 : dice();
	const auto weight = [&](const lwp_t *x) { return pl.pct ? rank(x) : mix(salt ^ number(x)); };
	lwp_t *first = l;
	lwp_t *second = nullptr;
	std::uint64_t best = stay ? UINT64_MAX : weight(l);
	std::uint64_t next = 0;
	(void)vc->vc_rq.find_below(pri_count, UINT32_MAX, [&](lwp_t *x) {
		const std::uint64_t w = weight(x);
		if (w > best) {
			if (first != l) {
				second = first;
				next = best;
			}
			first = x;
			best = w;
		} else if (second == nullptr || w > next) {
			second = x;
			next = w;
		}
		return false;
	});
	*now = first;
	*then = second;
}

void change_ranks(const lwp_t *l) noexcept {
	pl.choices++;
	for (const std::uint64_t at : pl.change) {
		if (pl.choices == at && pl.ndemoted < changes_most) {
			pl.demoted[pl.ndemoted++] = number(l);
		}
	}
	pl.in_a_row = pl.runs == number(l) ? pl.in_a_row + 1 : 0;
	pl.runs = number(l);
	if (pl.in_a_row >= patience) {
		pl.in_a_row = 0;
		pl.ranks = dice();
		pl.ndemoted = 0;
	}
}

void trace_step(const lwp_t *l, const char *call, const void *object, const void *site) noexcept {
	traced &t = pl.trace[(pl.steps - 1) % traced_most];
	t = {pl.clock, call, object, const_cast<void *>(site), lwp_lid(l), {}};
	(void)std::snprintf(t.name, sizeof t.name, "%s", l->l_name);
}

/// A step of `l`, the caller, which holds no lock.
void take_step(lwp_t *l, const char *call, const void *object, const void *site) noexcept {
	vcpu_t *vc = l->l_cpu;
	if (pl.over || vc->vc_bound) {  // a kernel thread that the body has started, though it should not
		return;
	}
	pl.steps++;
	note(number(l));
	for (const char *c = call; *c != '\0'; c++) {
		note(static_cast<unsigned char>(*c));
	}
	if (pl.trace != nullptr) {
		trace_step(l, call, object, site);
	}
	set_clock(vc, pl.clock + step_takes);
	const nanotime due = vc->vc_deadline.load(std::memory_order_relaxed);
	if (due != never && one_in(pl.leaps)) {
		set_clock(vc, due);
		note(pl.clock);
	}
	if (due <= pl.clock) {
		vcpu_poll(vc, false);
	}
	pl.sc->end->steps.store(pl.steps, std::memory_order_relaxed);
	pl.sc->end->hash.store(pl.hash, std::memory_order_relaxed);
	if (pl.steps >= pl.sc->steps_most || pl.clock - epoch > pl.sc->time_most) {
		end(outcome::livelock, "lwp::testing::explore: no end in sight\n");
	}
	if (vc->vc_incount.load(std::memory_order_relaxed) != 0) {
		vcpu_drain_inbox(vc);
	}
	if (vc->vc_rq.count() == 0) {
		pl.in_a_row = 0;
		return;
	}
	change_ranks(l);
	lwp_t *to;
	lwp_t *then;
	choose(vc, l, &to, &then);
	note(number(to));
	if (then != nullptr) {
		vcpu_put_first(vc, then);
	}
	if (to != l) {
		lwp_hand_to(l, to);
	}
}

void at_boundary(lwp_t *l) noexcept { take_step(l, "(back from a call)", nullptr, nullptr); }

// ---- all sleep

bool park(vcpu_t *vc, nanotime) {
	const nanotime due = vc->vc_deadline.load(std::memory_order_relaxed);
	if (due == never) {
		try {
			std::string out = "lwp: deadlock: every LWP sleeps, and none has a deadline\n";
			out += report_all(vc->vc_curlwp);
			report_write(out);
		} catch (const std::bad_alloc &) {
			report_write("lwp: deadlock (no memory to say more)\n");
		}
		end(outcome::deadlock);
	}
	set_clock(vc, due);
	note(pl.clock);
	if (pl.clock - epoch > pl.sc->time_most) {
		end(outcome::livelock, "lwp::testing::explore: no end in sight, only deadlines\n");
	}
	return false;
}

const parker leaping_parker = {park, [](vcpu_t *) {}, nullptr, nullptr, nullptr, nullptr, nullptr};

void draw(const schedule &sc) noexcept {
	pl.sc = &sc;
	pl.state = mix(sc.seed + 0x9e3779b97f4a7c15U);
	pl.pct = dice() % 3 != 0;
	pl.chance = 1U << dice() % 5;
	pl.leaps = dice() % 2 != 0 ? 4U << dice() % 4 : 0;
	pl.ranks = dice();
	const std::uint64_t length = 8U << dice() % 8;  // how long the part is in which priorities change: drawn, for nobody knows
	for (std::uint64_t &at : pl.change) {
		at = 1 + dice() % length;
	}
	if (sc.trace) {
		void *memory = ::mmap(nullptr, sizeof(traced) * traced_most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pl.trace = memory != MAP_FAILED ? static_cast<traced *>(memory) : nullptr;
	}
	sc.clock->store(epoch, std::memory_order_relaxed);  // relaxed: as in set_clock()
	sched_point = at_boundary;
}

}  // namespace
}  // namespace lwp::kern

namespace lwp::testing::detail {

using namespace kern;

bool busy() noexcept { return runtime_running() || curcpu_or_null() != nullptr; }

void play(const schedule &sc) noexcept {
	draw(sc);
	if (now() != epoch) {
		end(outcome::unsupported, "lwp::testing::explore: clock_gettime() of this program is not the one of lwp::testing\n");
	}
	if (int error = runtime_start({.vcpus = 1})) {
		fatal("lwp::testing::explore: the runtime does not start: error %d", error);
	}
	curcpu_by_call();  // each call is a step
	vcpu_t *vc = sched.sd_vcpu[0];
	vc->vc_parker.store(&leaping_parker, std::memory_order_relaxed);
	pl.circle = waitgraph_reporter.load(std::memory_order_relaxed);
	waitgraph_reporter.store(circle_closed, std::memory_order_relaxed);
	vcpu_poll(vc, false);
	vc->vc_resched.store(true, std::memory_order_relaxed);
	try {
		(*sc.body)();
	} catch (const std::exception &e) {
		report_write("lwp::testing::explore: the body throws: ");
		report_write(e.what());
		end(outcome::exception, "\n");
	} catch (...) {
		end(outcome::exception, "lwp::testing::explore: the body throws\n");
	}
	runtime_stop();
	if (*sc.failed && (*sc.failed)()) {
		end(outcome::check);
	}
	end(outcome::passed);
}

void step(const char *call, const void *object, const void *site) noexcept {
	if (sched_point == nullptr) {
		return;
	}
	if (lwp_t *l = curlwp_or_null(); l != nullptr) {
		take_step(l, call, object, site);
	}
}

void end_if_played(outcome how) noexcept {
	if (sched_point != nullptr) {
		end(how);
	}
}

}  // namespace lwp::testing::detail
