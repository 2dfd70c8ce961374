// SPDX-License-Identifier: BSD-2-Clause
//
// Making system calls and allocations fail, in the process that runs a workload; and what a workload says of itself.
//
// A site is a place in the library's source that makes a system call (base/sys.h).  Plans and results are in memory that the processes share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lwp::faults {

constexpr unsigned sites_most = 512;

struct site {
	std::atomic<std::uint64_t> key{0};  // 0: no site yet
	std::atomic<const char *> file{nullptr};
	std::atomic<int> line{0};
	std::atomic<long> number{0};
};

enum class mode : std::uint8_t {
	off,
	record,  // count
	nth,     // the nth call at one site, counted from 1
	from,    // that and all later ones; of mmap(2) those of all sites
	chaos,   // any call, with a chance
	alloc,   // the nth allocation by operator new
};

struct plan {
	mode what = mode::off;
	unsigned site = 0;
	unsigned nth = 0;
	int error = 0;
	std::uint64_t seed = 0;
	unsigned one_in = 0;
};

struct shared {
	site sites[sites_most];  // of all processes: the addresses of file names are the same in all of them
};

/// Of one worker at a time.
struct report {
	plan p;
	std::atomic<unsigned> hits[sites_most];  // of the last run
	std::atomic<unsigned> allocations;
	std::atomic<unsigned> fired;    // so often something was made to fail
	std::atomic<unsigned> refused;  // so often the library said that something cannot be done
	std::atomic<bool> failed;
	char why[400];
};

extern shared *all;  // set before the first fork
extern report *now;  // of this worker

/// Errno values that a system call can give here, ended by 0; null: it is never made to fail, and why is in inject.cpp.
const int *errors_of(long number);
/// One that goes away by itself: the call is made again until it does.
bool passing(long number, int error);
const char *name_of(long number);

/// From now on calls of this process fail as now->p says; until faults_end().
void faults_begin();
void faults_end();

// ---- what a workload says

bool tolerated();  // something was made to fail, so things may be refused
void refused();
void broken(const char *file, int line, const char *what);

}  // namespace lwp::faults

/// Holds, unless something was made to fail: then the library may have said no.
#define CHECK(condition) \
	((condition) ? (void)0 : ::lwp::faults::tolerated() ? ::lwp::faults::refused() : ::lwp::faults::broken(__FILE__, __LINE__, #condition))
/// Holds whatever fails.
#define MUST(condition) ((condition) ? (void)0 : ::lwp::faults::broken(__FILE__, __LINE__, #condition))
/// Comes only if something was made to fail.
#define REFUSED(what) (::lwp::faults::tolerated() ? ::lwp::faults::refused() : ::lwp::faults::broken(__FILE__, __LINE__, what))
