// SPDX-License-Identifier: BSD-2-Clause
//
// What all benchmarks share: how one is timed, checked and registered.
// A benchmark here runs ONE batch of a fixed number of operations in a runtime of its own; Google Benchmark divides the
// batch's wall time by that number.  The batch checks afterwards that it did what it says; a failed check fails the row.
// Rows in ns are the time of one operation; rows in another unit are whole runs of which only the counters matter.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <ctime>

namespace bench {

using benchmark::State;

/// Runs `batch`, which does `operations` operations, once (main() sets the minimal time to 0), and times it.
template <class Batch>
void time_batch(State &state, std::int64_t operations, Batch &&batch) {
	while (state.KeepRunningBatch(operations)) {
		batch();
	}
}

/// Fails the row if `ok` is false; the first failure is kept.  Returns `ok`.
bool check(State &state, bool ok, const char *what);

/// True once a check of any row has failed.
bool any_check_failed();

/// Seconds of `clock`: CLOCK_MONOTONIC, or CLOCK_PROCESS_CPUTIME_ID for the CPU used by all threads so far.
inline double seconds(clockid_t clock) {
	timespec t{};
	clock_gettime(clock, &t);
	return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Resident memory of the process, in bytes.
struct footprint {
	double pages;        ///< of the program
	double page_tables;  ///< that map them
};
footprint resident();

/// The same when main() began: whatever earlier rows left behind counts against the row that measures, not for it.
footprint resident_at_start();

// One for each file; main() calls them in the order of the table.
void add_floor();
void add_switch();
void add_create();
void add_wait();
void add_mutex();
void add_condvar();
void add_semaphore();
void add_timer();
void add_memory();
void add_skynet();
void add_growth();
void add_scale();
void add_channel();
void add_future();
void add_idle();
void add_blocking();
void add_preempt();
void add_stop();
void add_io();

}  // namespace bench
