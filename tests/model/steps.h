// SPDX-License-Identifier: BSD-2-Clause
//
// The steps of which sequences are made, and the table of states and operations: which pairs have to be exercised, and why the others cannot be.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lwp::model {

/// In which state an operation finds the LWP that it is about.  `nobody`: there is none with this id, or none any more.
enum class row : std::uint8_t { nobody, idl, run, onproc, sleep, stop, suspended, zomb, count };

// X(operation, weight, whom it is about, who may do it)
//   whom: target  another LWP by its id, or itself    self  the caller    all  every LWP
//   who:  any     an LWP, or a vCPU with nobody to run (as for a signal of the OS)    lwp  a running LWP
#define MODEL_OPERATIONS(X)      \
	X(create, 30, self, lwp)     \
	X(create_bad, 1, self, lwp)  \
	X(leave, 6, self, lwp)       \
	X(park, 12, self, lwp)       \
	X(park_until, 8, self, lwp)  \
	X(park_late, 1, self, lwp)   \
	X(unpark, 12, target, any)   \
	X(unpark_all, 2, all, any)   \
	X(wait, 20, target, lwp)     \
	X(wait_any, 8, self, lwp)    \
	X(detach, 5, target, any)    \
	X(suspend, 20, target, lwp)  \
	X(resume, 14, target, any)   \
	X(wakeup, 8, target, any)    \
	X(kill_none, 2, target, any) \
	X(kill_usr1, 7, target, any) \
	X(kill_usr2, 5, target, any) \
	X(kill_stop, 3, target, any) \
	X(kill_cont, 6, target, any) \
	X(mask, 4, self, lwp)        \
	X(sigwait, 6, self, lwp)     \
	X(setparam, 3, target, any)  \
	X(protect, 1, self, lwp)     \
	X(hook, 6, target, any)      \
	X(hold, 4, target, any)      \
	X(release, 5, target, any)   \
	X(proc_stop, 2, all, lwp)    \
	X(proc_go, 6, all, any)      \
	X(world_stop, 5, all, lwp)   \
	X(world_go, 10, all, lwp)    \
	X(time, 8, all, any)

enum class op : std::uint8_t {
#define X(name, weight, whom, who) name,
	MODEL_OPERATIONS(X)
#undef X
	    let_go,  // not drawn: tidies up at the end
	finish,      // the same: LWP 1 returns
	count
};
constexpr auto drawn = static_cast<std::size_t>(op::let_go);

enum class whom : std::uint8_t { target, self, all };
enum class who : std::uint8_t { any, lwp };

struct operation {
	const char *name;
	unsigned weight;
	whom about;
	who by;
};
inline constexpr operation operations[] = {
#define X(name, weight, about, by) {#name, weight, whom::about, who::by},
    MODEL_OPERATIONS(X)
#undef X
        {"let_go", 0, whom::all, who::any},
    {"finish", 0, whom::self, who::lwp},
};

constexpr const char *row_name(row r) {
	constexpr const char *names[] = {"nobody", "LSIDL", "LSRUN", "LSONPROC", "LSSLEEP", "LSSTOP", "LSSUSPENDED", "LSZOMB"};
	return names[static_cast<std::size_t>(r)];
}

/// Why an operation never finds an LWP in this state; null if it has to be seen.
constexpr const char *impossible(row r, op o) {
	if (r == row::idl) {
		return "entered and left inside lwp_start(), under pp_lock and the LWP's lock: nobody else sees it";
	}
	if (o == op::world_go && (r == row::run || r == row::sleep)) {
		return "the world is stopped: but for who stopped it nobody runs, and nobody is left asleep";
	}
	switch (operations[static_cast<std::size_t>(o)].about) {
	case whom::self:
		return r == row::onproc ? nullptr : "who calls it runs";
	case whom::all:
		return r == row::nobody ? "it is about those that are there" : nullptr;
	case whom::target:
		break;
	}
	if (o == op::release && (r == row::nobody || r == row::zomb)) {
		return "who is referred to does not end";
	}
	return nullptr;
}

/// A step as it is drawn; the numbers are taken modulo what there is.
struct step {
	op what = op::create;
	std::uint8_t actor = 0, target = 0, arg = 0;
};
constexpr std::size_t steps_most = 160;

}  // namespace lwp::model
