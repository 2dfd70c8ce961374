// SPDX-License-Identifier: BSD-2-Clause
//
// faults [OPTIONS] [WORKLOAD]...: runs small programs on the library (work_*.cpp) while system calls and allocations fail.
//
//   --budget SECONDS   as many runs as fit in, those that must be first (default 60)
//   --count N          instead: those that must be, and so many of the others, however long it takes
//   --least N          fails if there were fewer runs than that
//   --seed N           of the runs in which anything may fail (default 1)
//   --patience SECONDS a run that takes longer hangs (default 60)
//   --jobs N           so many at a time (default: as many as there are CPUs)
//   --first            ends with the first failure
//   --sites            prints each site: file, line, system call
//   --one PLAN         one run, as printed for a failure
//
// Kinds of runs, in this order: without faults; in kernels that lack something, by seccomp filters; each site with each errno, the first call and
// all of them; each allocation; the second, middle and last call; then anything, with a chance, until the time is over.  Those up to the allocations are
// always made: without them it fails.
//
// Each run is a process of its own: the workload with faults, then once more without, which must be perfect.  At its end nothing may be left: no LWP, no
// stack, no descriptor but the eventfds that the library keeps.  One that takes too long hangs, and fails.
// Ends with one line of figures.  Exit status 0 nothing failed | 1 something did, or too few | 2 usage.
#include "faults/inject.h"
#include "faults/workload.h"

#include <lwp/runtime.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <new>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace lwp::faults {
namespace {

using steady = std::chrono::steady_clock;

struct options {
	double budget = 60;
	unsigned long count = 0;  // 0: by the budget
	unsigned long least = 0;
	std::uint64_t seed = 1;
	unsigned jobs = 0;
	unsigned patience = 60;
	bool first = false;
	bool sites = false;
	const char *one = nullptr;
	std::vector<const char *> names;
};

// ---- kernels that lack something ----------------------------------------------------------------------------------------------

struct lack {
	const char *name;
	long number;
	int error;
	long third;  // only with this third argument; -1: always
};
constexpr lack lacks[] = {
    {"everything is there", -1, 0, -1},
    {"no io_uring (EPERM)", SYS_io_uring_setup, EPERM, -1},
    {"no io_uring (ENOSYS)", SYS_io_uring_setup, ENOSYS, -1},
    {"no MADV_GUARD_INSTALL", SYS_madvise, EINVAL, 102},
    {"no process_madvise (EPERM)", SYS_process_madvise, EPERM, -1},
    {"no process_madvise (ENOSYS)", SYS_process_madvise, ENOSYS, -1},
    {"no membarrier (EPERM)", SYS_membarrier, EPERM, -1},
    {"no membarrier (ENOSYS)", SYS_membarrier, ENOSYS, -1},
    {"no timer_create", SYS_timer_create, EPERM, -1},
    {"no clone3", SYS_clone3, ENOSYS, -1},
    {"no pidfd_open", SYS_pidfd_open, ENOSYS, -1},
    {"no pidfd_send_signal", SYS_pidfd_send_signal, EPERM, -1},
    {"no epoll_pwait2", SYS_epoll_pwait2, ENOSYS, -1},
    {"no registered rings", SYS_io_uring_register, EINVAL, -1},
    {"no sched_getaffinity", SYS_sched_getaffinity, EPERM, -1},
};

bool filter(const lack &l) {
	if (l.number < 0) {
		return true;
	}
	const auto error = static_cast<std::uint32_t>(SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(l.error));
	sock_filter always[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(l.number), 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	sock_filter third[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(l.number), 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(l.third), 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program = l.third < 0 ? sock_fprog{4, always} : sock_fprog{6, third};
	return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// ---- one run ------------------------------------------------------------------------------------------------------------------

struct run {
	unsigned workload = 0;
	unsigned lacking = 0;
	plan p;
	bool must = false;  // whatever the budget
};

/// A run's address for --one.  Sites are named by place, since their numbers differ from program to program.
std::string text_of(const run &r) {
	const site &s = all->sites[r.p.site];
	const char *file = s.file.load();
	char text[300];
	std::snprintf(text, sizeof(text), "%s/%u/%u/%s:%d:%ld/%u/%d/%llu/%u", workloads()[r.workload].name, r.lacking,
	    static_cast<unsigned>(r.p.what), file != nullptr ? file : "", s.line.load(), s.number.load(), r.p.nth, r.p.error,
	    static_cast<unsigned long long>(r.p.seed), r.p.one_in);
	return text;
}

std::string words_of(const run &r) {
	const site &s = all->sites[r.p.site];
	const char *file = s.file.load() != nullptr ? s.file.load() : "";
	const char *src = std::strstr(file, "/src/");
	char text[400];
	const char *name = workloads()[r.workload].name;
	switch (r.p.what) {
	case mode::nth:
	case mode::from:
		std::snprintf(text, sizeof(text), "%s: %s:%d %s gives %s, call %u%s", name, src != nullptr ? src + 5 : file, s.line.load(),
		    name_of(s.number.load()), strerrorname_np(r.p.error), r.p.nth, r.p.what == mode::from ? " and all later ones" : "");
		break;
	case mode::alloc:
		std::snprintf(text, sizeof(text), "%s: allocation %u fails", name, r.p.nth);
		break;
	case mode::chaos:
		std::snprintf(
		    text, sizeof(text), "%s: one call in %u fails, seed %llu", name, r.p.one_in, static_cast<unsigned long long>(r.p.seed));
		break;
	default:
		std::snprintf(text, sizeof(text), "%s: %s", name, lacks[r.lacking].name);
	}
	return text;
}

/// Descriptors that are open, but the eventfds that vCPUs keep for ever.  What they are is added to `names`.
unsigned descriptors(std::string *names = nullptr) {
	unsigned n = 0;
	DIR *dir = ::opendir("/proc/self/fd");
	while (const dirent *entry = dir != nullptr ? ::readdir(dir) : nullptr) {
		char target[64] = "";
		if (entry->d_name[0] != '.' && ::readlinkat(::dirfd(dir), entry->d_name, target, sizeof(target) - 1) > 0) {
			const bool counts = std::strcmp(target, "anon_inode:[eventfd]") != 0;
			n += counts ? 1U : 0U;
			if (counts && names != nullptr) {
				*names += std::string(" ") + entry->d_name + "=" + target;
			}
		}
	}
	::closedir(dir);
	return n;
}

void nothing_is_left(const char *when, unsigned before) {
	const runtime_stats s = runtime::stats();
	if (s.lwps != 0 || s.zombies != 0 || s.runnable != 0 || s.waiting != 0 || s.detached != 0 || s.stacks_in_use != 0) {
		std::snprintf(now->why, sizeof(now->why), "%s: lwps %zu, zombies %zu, runnable %zu, waiting %zu, detached %zu, stacks %zu are left",
		    when, s.lwps, s.zombies, s.runnable, s.waiting, s.detached, s.stacks_in_use);
		now->failed = true;
		::_exit(3);
	}
	if (const unsigned n = descriptors(); n != before) {
		std::string names;
		(void)descriptors(&names);
		std::snprintf(now->why, sizeof(now->why), "%s: %u descriptors are open, %u were before:%s", when, n, before, names.c_str());
		now->failed = true;
		::_exit(3);
	}
}

/// In the child.
[[noreturn]] void live(const run &r) {
	const workload &w = workloads()[r.workload];
	::setenv("LWP_IO", w.io, 1);
	::setenv("LWP_VCPUS", "2", 1);
	::signal(SIGPIPE, SIG_IGN);
	if (!filter(lacks[r.lacking])) {
		::_exit(77);
	}
	const unsigned before = descriptors();
	now->p = r.p;
	faults_begin();
	w.run();
	faults_end();
	nothing_is_left("after the faults", before);
	w.run();
	nothing_is_left("after the run without faults", before);
	std::exit(0);  // with what is done then: the leak check of a sanitizer
}

unsigned patience;  // seconds

/// Empty if all was well.
std::string one_run(const run &r) {
	now->failed = false;
	now->refused = 0;
	now->fired = 0;
	now->why[0] = '\0';
	const int said = ::memfd_create("stderr", MFD_CLOEXEC);
	const pid_t pid = ::fork();
	if (pid == 0) {
		::dup2(said, 2);
		::close(said);
		live(r);
	}
	std::string why;
	const auto pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
	pollfd p = {pidfd, POLLIN, 0};
	if (pidfd >= 0 && ::poll(&p, 1, static_cast<int>(patience * 1000)) == 0) {
		why = "it hangs";
		::kill(pid, SIGKILL);
	}
	::close(pidfd);
	int status = 0;
	::waitpid(pid, &status, 0);
	char text[3000];
	const ssize_t n = std::max<ssize_t>(::pread(said, text, sizeof(text) - 1, 0), 0);
	text[n] = '\0';
	::close(said);
	if (!why.empty() || (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77))) {
		return why;
	}
	if (now->failed) {
		return now->why;
	}
	// What the header says cannot be done without memory ends the process, in words.
	if (now->fired != 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
	    std::strstr(text, "a kernel thread cannot be adopted") != nullptr) {
		now->refused.fetch_add(1);
		return "";
	}
	return (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : "exit status " + std::to_string(WEXITSTATUS(status))) +
	    ": " + text;
}

// ---- all of them ------------------------------------------------------------------------------------------------------------------

struct board {
	std::atomic<unsigned> next;
	std::atomic<unsigned> done, must_done, faulty, refused, fired, failures;
};
board *b;

void *shared_memory(std::size_t size) {
	void *m = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED) {
		std::perror("faults: mmap");
		std::exit(2);
	}
	return m;
}

std::string account(const run &r) {
	std::string why = one_run(r);
	b->done++;
	b->must_done += r.must ? 1U : 0U;
	b->faulty += now->fired != 0 ? 1U : 0U;
	b->fired += now->fired;
	b->refused += now->refused != 0 ? 1U : 0U;
	if (!why.empty()) {
		b->failures++;
		std::printf("FAILED  %s\n        %s\n        repeat it with  --one '%s'\n", words_of(r).c_str(), why.c_str(), text_of(r).c_str());
		std::fflush(stdout);
	}
	return why;
}

/// Makes the runs by `jobs` processes.
void make(const std::vector<run> &runs, const options &o, steady::time_point end) {
	b->next = 0;
	std::vector<pid_t> workers;
	std::fflush(stdout);
	for (unsigned j = 0; j < o.jobs; j++) {
		const pid_t pid = ::fork();
		if (pid == 0) {
			now = ::new (shared_memory(sizeof(report))) report{};
			for (unsigned i; (i = b->next++) < runs.size() && !(o.first && b->failures != 0);) {
				if (runs[i].must || steady::now() < end) {
					(void)account(runs[i]);
				}
			}
			std::fflush(stdout);
			::_exit(0);
		}
		workers.push_back(pid);
	}
	for (const pid_t pid : workers) {
		::waitpid(pid, nullptr, 0);
	}
}

struct reached {
	unsigned workload;
	unsigned site;
	unsigned hits;
};

/// One run of each workload without faults: what it does, and how much of it.
std::vector<reached> record(const std::vector<unsigned> &chosen, std::vector<unsigned> *allocations) {
	std::vector<reached> list;
	for (const unsigned w : chosen) {
		run r;
		r.workload = w;
		r.p.what = mode::record;
		r.must = true;
		allocations->push_back(0);
		if (!account(r).empty()) {
			continue;
		}
		allocations->back() = now->allocations;
		for (unsigned i = 0; i < sites_most; i++) {
			if (const unsigned hits = now->hits[i]; hits != 0) {
				list.push_back({w, i, hits});
			}
		}
	}
	return list;
}

int sweep(const options &o, const std::vector<unsigned> &chosen) {
	const steady::time_point began = steady::now();
	const steady::time_point end = began + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(o.budget));
	std::vector<unsigned> allocations;
	const std::vector<reached> list = record(chosen, &allocations);

	std::vector<run> first;
	std::vector<run> later;
	for (const unsigned w : chosen) {
		for (unsigned l = 1; l < std::size(lacks); l++) {
			run r;
			r.workload = w;
			r.lacking = l;
			r.p.what = mode::record;
			r.must = true;
			first.push_back(r);
		}
	}
	std::vector<unsigned> used(sites_most, 0);
	unsigned sites = 0;
	unsigned pairs = 0;
	for (const reached &at : list) {
		const long number = all->sites[at.site].number.load();
		const bool fresh = used[at.site]++ == 0;
		sites += fresh ? 1U : 0U;
		for (const int *e = errors_of(number); *e != 0; e++) {
			pairs += fresh ? 1U : 0U;
			run r;
			r.workload = at.workload;
			r.p = {mode::nth, at.site, 1, *e, 0, 0};
			r.must = fresh;
			(fresh ? first : later).push_back(r);
			if (!passing(number, *e)) {
				r.p.what = mode::from;
				(fresh ? first : later).push_back(r);
			}
			r.must = false;
			for (const unsigned nth : {2U, at.hits / 2, at.hits}) {
				if (nth > 1 && nth <= at.hits) {
					r.p = {mode::nth, at.site, nth, *e, 0, 0};
					later.push_back(r);
				}
			}
		}
	}
	for (std::size_t i = 0; i < chosen.size(); i++) {
		for (unsigned n = 1; n <= allocations[i]; n++) {
			run r;
			r.workload = chosen[i];
			r.p = {mode::alloc, 0, n, 0, 0, 0};
			r.must = n <= 60;
			(r.must ? first : later).push_back(r);
		}
	}
	// The later ones in an order of their own, so that a time that ends early has seen some of everything.
	std::uint64_t dice = o.seed;
	const auto roll = [&dice] { return (dice = dice * 6364136223846793005U + 1442695040888963407U) >> 33; };
	for (std::size_t i = later.size(); i > 1; i--) {
		std::swap(later[i - 1], later[roll() % i]);
	}
	const std::size_t systematic = first.size() + later.size();
	for (unsigned i = 0; i < 200'000; i++) {
		run r;
		r.workload = chosen[i % chosen.size()];
		r.p = {mode::chaos, 0, 0, 0, roll() << 20 | i, 5U << roll() % 6};
		later.push_back(r);
	}
	unsigned musts = static_cast<unsigned>(chosen.size());
	for (const run &r : first) {
		musts += r.must ? 1U : 0U;
	}
	if (o.count != 0) {
		later.resize(std::min<std::size_t>(later.size(), o.count));
		for (run &r : first) {
			musts += r.must ? 0U : 1U;
			r.must = true;
		}
		for (run &r : later) {
			musts++;
			r.must = true;
		}
	}
	first.insert(first.end(), later.begin(), later.end());
	make(first, o, end);

	if (o.sites) {
		for (unsigned i = 0; i < sites_most; i++) {
			const site &s = all->sites[i];
			if (s.key.load() != 0) {
				const char *src = std::strstr(s.file.load(), "/src/");
				std::printf("site %s:%d %s\n", src != nullptr ? src + 1 : s.file.load(), s.line.load(), name_of(s.number.load()));
			}
		}
	}
	const double took = std::chrono::duration<double>(steady::now() - began).count();
	const unsigned done = b->done;
	const bool enough = done >= o.least && b->must_done == musts;
	std::printf("faults: %u runs (%zu systematic ones in all), %u sites, %u pairs of site and errno, %u calls or allocations made to fail "
	            "in %u runs, %u "
	            "runs were refused something, %u failures, seed %llu, %.0f s%s\n",
	    done, systematic + chosen.size(), sites, pairs, b->fired.load(), b->faulty.load(), b->refused.load(), b->failures.load(),
	    static_cast<unsigned long long>(o.seed), took, enough ? "" : ": fewer than asked for");
	return b->failures == 0 && enough ? 0 : 1;
}

int one(const options &o) {
	// The sites of this program are known once they are reached.
	std::vector<unsigned> everything;
	for (unsigned w = 0; w < workloads().size(); w++) {
		everything.push_back(w);
	}
	char name[64];
	char file[200];
	unsigned what;
	int line;
	long number;
	unsigned long long seed;
	run r;
	if (std::sscanf(o.one, "%63[^/]/%u/%u/", name, &r.lacking, &what) != 3) {
		return 2;
	}
	const char *rest = std::strchr(std::strchr(std::strchr(o.one, '/') + 1, '/') + 1, '/') + 1;
	file[0] = '\0';
	const char *place = std::strchr(rest, ':');
	if (place == nullptr || static_cast<std::size_t>(place - rest) >= sizeof(file) ||
	    std::sscanf(place, ":%d:%ld/%u/%d/%llu/%u", &line, &number, &r.p.nth, &r.p.error, &seed, &r.p.one_in) != 6) {
		return 2;
	}
	std::memcpy(file, rest, static_cast<std::size_t>(place - rest));
	file[place - rest] = '\0';
	r.p.what = static_cast<mode>(what);
	r.p.seed = seed;
	while (r.workload < workloads().size() && std::strcmp(workloads()[r.workload].name, name) != 0) {
		r.workload++;
	}
	if (r.workload == workloads().size() || r.lacking >= std::size(lacks)) {
		return 2;
	}
	std::vector<unsigned> allocations;
	(void)record({r.workload}, &allocations);
	for (unsigned i = 0; i < sites_most; i++) {
		const site &s = all->sites[i];
		if (s.key.load() != 0 && s.line.load() == line && s.number.load() == number && std::strcmp(s.file.load(), file) == 0) {
			r.p.site = i;
		}
	}
	const std::string why = account(r);
	std::printf("%s: %s\n", words_of(r).c_str(), why.empty() ? "nothing is wrong" : "failed");
	return why.empty() ? 0 : 1;
}

bool parse(int argc, char **argv, options *o) {
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		if (name[0] != '-') {
			o->names.push_back(name);
			continue;
		}
		if (std::strcmp(name, "--first") == 0) {
			o->first = true;
			continue;
		}
		if (std::strcmp(name, "--sites") == 0) {
			o->sites = true;
			continue;
		}
		if (i + 1 == argc) {
			return false;
		}
		const char *value = argv[++i];
		char *rest = nullptr;
		if (std::strcmp(name, "--budget") == 0) {
			o->budget = std::strtod(value, &rest);
		} else if (std::strcmp(name, "--count") == 0) {
			o->count = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--least") == 0) {
			o->least = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--seed") == 0) {
			o->seed = std::strtoull(value, &rest, 10);
		} else if (std::strcmp(name, "--patience") == 0) {
			o->patience = static_cast<unsigned>(std::strtoul(value, &rest, 10));
		} else if (std::strcmp(name, "--jobs") == 0) {
			o->jobs = static_cast<unsigned>(std::strtoul(value, &rest, 10));
		} else if (std::strcmp(name, "--one") == 0) {
			o->one = value;
			continue;
		} else {
			return false;
		}
		if (rest == value || *rest != '\0') {
			return false;
		}
	}
	if (o->jobs == 0) {
		o->jobs = static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
	}
	return true;
}

}  // namespace
}  // namespace lwp::faults

int main(int argc, char **argv) {
	using namespace lwp::faults;
	options o;
	std::vector<unsigned> chosen;
	const bool usable = parse(argc, argv, &o);
	for (unsigned w = 0; usable && w < workloads().size(); w++) {
		const auto wanted = [w](const char *name) { return std::strcmp(workloads()[w].name, name) == 0; };
		if (o.names.empty() || std::any_of(o.names.begin(), o.names.end(), wanted)) {
			chosen.push_back(w);
		}
	}
	if (!usable || chosen.empty()) {
		std::fputs(
		    "usage: faults [--budget SECONDS | --count N] [--least N] [--seed N] [--jobs N] [--patience SECONDS] [--first] [--sites] "
		    "[WORKLOAD]...\n       faults --one PLAN\n",
		    stderr);
		return 2;
	}
	patience = o.patience;
	all = ::new (shared_memory(sizeof(shared))) shared;
	b = ::new (shared_memory(sizeof(board))) board{};
	now = ::new (shared_memory(sizeof(report))) report{};
	return o.one != nullptr ? one(o) : sweep(o, chosen);
}
