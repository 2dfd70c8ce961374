// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report_order.h"

#include "base/assert.h"
#include "proc/report_names.h"
#include "proc/report_text.h"
#include "sync/lockorder.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace lwp::kern {

#if LWP_DEBUG
namespace {

constexpr unsigned told_most = 32;  // circles: locks made by the thousand would repeat themselves

bool to_abort = false;

const char *kind_of(lock_hold as) noexcept { return as == lock_hold::mutex ? "mutex" : "shared mutex"; }
const char *held_how(lock_hold as) noexcept { return as == lock_hold::mutex ? "has" : as == lock_hold::write ? "has alone" : "shares"; }
const char *wanted_how(lock_hold as) noexcept { return as == lock_hold::mutex ? "" : as == lock_hold::write ? ", alone" : ", shared"; }

void add_trace(std::string &out, report_names &names, const lock_trace &t) {
	std::size_t n = 0;
	while (n < lock_trace::most && t.lt_frames[n] != nullptr) {
		n++;
	}
	if (n == 0) {
		out += "      (where is not kept)\n";
	}
	report_add_frames(out, names, t.lt_frames, n, "      ");
}

void add_step(std::string &out, report_names &names, const lockorder_step &s, bool now) {
	report_add(out, "  %sLWP %d '%s' %s %s %p, which it took at\n", now ? "now " : "before, ", s.ls_lid, s.ls_name, held_how(s.ls_had_as),
	    kind_of(s.ls_had_as), s.ls_had);
	add_trace(out, names, s.ls_had_at);
	report_add(out, "    and wants %s %p%s, at\n", kind_of(s.ls_wanted_as), s.ls_wanted, wanted_how(s.ls_wanted_as));
	add_trace(out, names, s.ls_wanted_at);
}

void describe(std::string &out, const lockorder_step *steps, unsigned count) {
	if (count == 1) {
		report_add(out,
		    "lwp: lock order: an LWP wants shared mutex %p, which it shares already: a deadlock, now or with a writer in between\n",
		    steps[0].ls_wanted);
	} else if (count == 2) {
		report_add(
		    out, "lwp: lock order: %p and %p are taken in both orders, which may end in a deadlock\n", steps[0].ls_had, steps[0].ls_wanted);
	} else {
		report_add(out, "lwp: lock order: %u locks are taken in a circle, which may end in a deadlock:", count);
		for (unsigned i = 0; i < count; i++) {
			report_add(out, " %p ->", steps[i].ls_had);
		}
		report_add(out, " %p\n", steps[0].ls_had);
	}
	report_names names;
	for (unsigned i = 0; i < count; i++) {
		add_step(out, names, steps[i], i == 0);
	}
}

void order_broken(const lockorder_step *steps, unsigned count) noexcept {
	static atomic<unsigned> told{0};
	const unsigned n = told.fetch_add(1, std::memory_order_relaxed);  // relaxed: only counts
	if (n > told_most) {
		return;
	}
	std::string out;
	try {
		n == told_most ? (void)(out = "lwp: lock order: there are more, which are not told\n") : describe(out, steps, count);
	} catch (const std::bad_alloc &) {
		out.assign("lwp: lock order\n");  // within what a string holds without memory
	}
	report_write(out);
	if (to_abort) {
		fatal("LWP_LOCK_ORDER=abort");
	}
}

}  // namespace

void report_order_install() noexcept {
	const char *wanted = std::getenv("LWP_LOCK_ORDER");
	to_abort = wanted != nullptr && std::strcmp(wanted, "abort") == 0;
	// relaxed: before the first LWP
	lockorder_reporter.store(wanted != nullptr && std::strcmp(wanted, "off") == 0 ? nullptr : order_broken, std::memory_order_relaxed);
}
#else
void report_order_install() noexcept {}
#endif

}  // namespace lwp::kern
