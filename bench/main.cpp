// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_bench: Google Benchmark's usual command line over all rows.  tools/bench_table.py makes the table out of it.
// Never calls the library itself: every row constructs the runtime that it needs.
#include "bench.h"

#include <cstdio>
#include <iostream>
#include <vector>

namespace bench {

namespace {
bool failed = false;
footprint at_start{};
}  // namespace

bool check(State &state, bool ok, const char *what) {
	if (!ok && !state.error_occurred()) {
		state.SkipWithError(what);
		failed = true;
	}
	return ok;
}

bool any_check_failed() { return failed; }

footprint resident() {
	footprint f{};
	std::FILE *status = std::fopen("/proc/self/status", "re");
	if (status == nullptr) {
		return f;
	}
	char line[256];
	while (std::fgets(line, sizeof line, status) != nullptr) {
		unsigned long kib = 0;
		if (std::sscanf(line, "VmRSS: %lu kB", &kib) == 1) {
			f.pages = 1024.0 * static_cast<double>(kib);
		} else if (std::sscanf(line, "VmPTE: %lu kB", &kib) == 1) {
			f.page_tables = 1024.0 * static_cast<double>(kib);
		}
	}
	std::fclose(status);
	return f;
}

footprint resident_at_start() { return at_start; }

}  // namespace bench

int main(int argc, char **argv) {
	bench::at_start = bench::resident();
	std::cout << std::unitbuf;  // a reader at the other end of a pipe sees each row when it is done

	// Last, so that it wins: a batch has a fixed size and is not to be repeated until it fills some time.
	char one_batch[] = "--benchmark_min_time=0";
	std::vector<char *> args(argv, argv + argc);
	args.push_back(one_batch);
	int count = static_cast<int>(args.size());
	args.push_back(nullptr);

	bench::add_floor();
	bench::add_switch();
	bench::add_create();
	bench::add_wait();
	bench::add_mutex();
	bench::add_condvar();
	bench::add_semaphore();
	bench::add_timer();
	bench::add_memory();
	bench::add_skynet();
	bench::add_growth();
	bench::add_scale();
	bench::add_channel();
	bench::add_future();
	bench::add_idle();
	bench::add_blocking();
	bench::add_preempt();
	bench::add_stop();
	bench::add_io();

	benchmark::Initialize(&count, args.data());
	if (benchmark::ReportUnrecognizedArguments(count, args.data())) {
		return 2;
	}
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return bench::any_check_failed() ? 1 : 0;
}
