// SPDX-License-Identifier: BSD-2-Clause
//
// model [OPTIONS]: RapidCheck draws sequences of operations, another process runs them on the library and on the model (driver.h).
//
//   --count N          so many sequences, half of them on one vCPU and half on two (default 20,000)
//   --budget SECONDS   instead: as many as fit in
//   --seed N           the seed that all are drawn from (default 1): the same sequences each time
//   --replay LIST      that one, as printed for a failure
//   --least N          fails if there were fewer
//   --first            stops at the first failure, and only names it
//   --table            prints how often each operation found an LWP in each state
//
// A failure is shrunk and printed step by step, with what repeats it.  Without one every pair of state and operation must have been exercised.  Ends
// with one line of figures.  Exit status 0 nothing failed | 1 something did, or too few, or a pair is missing | 2 usage.
//
// Two processes because the one that runs sequences puts all its variables back before each of them, and must be let die.
#include "model/driver.h"

#include <rapidcheck.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace lwp::model {
namespace {

using steady = std::chrono::steady_clock;

constexpr int patience_ms = 60'000;  // for one sequence, which takes a millisecond

struct options {
	unsigned long count = 20'000;
	double budget = 0;
	std::uint64_t seed = 1;
	const char *replay = nullptr;
	unsigned long least = 0;
	bool first = false;
	bool table = false;
};

// ---- the other process -----------------------------------------------------------------------------------------------------

class runner {
public:
	runner() {
		void *memory = ::mmap(nullptr, sizeof(exchange), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED) {
			std::perror("model: mmap");
			std::exit(2);
		}
		e = ::new (memory) exchange{};
	}
	~runner() {
		if (pid_ > 0) {  // it waits to be told more: it ends by itself
			::close(to_[1]);
			::waitpid(pid_, &status_, 0);
			::close(from_[0]);
		}
	}
	runner(const runner &) = delete;
	runner &operator=(const runner &) = delete;

	/// Empty if the two agreed.
	std::string run(unsigned vcpus, const std::vector<step> &steps, bool trace = false) {
		if (pid_ == 0) {
			begin();
		}
		e->vcpus = vcpus;
		e->nsteps = static_cast<unsigned>(std::min(steps.size(), steps_most));
		std::copy_n(steps.begin(), e->nsteps, e->steps);
		e->trace = trace;
		e->failed = true;
		char byte = 0;
		if (::write(to_[1], &byte, 1) != 1) {
			return died("cannot be asked");
		}
		struct pollfd answer = {from_[0], POLLIN, 0};
		if (::poll(&answer, 1, patience_ms) != 1) {
			return died("does not end");
		}
		if (::read(from_[0], &byte, 1) != 1) {
			return died("died");
		}
		if (!e->failed) {
			return "";
		}
		const std::string why = e->why;
		end();  // what stands there now may be anything
		return why.empty() ? "failed" : why;
	}

	exchange *e;

private:
	void begin() {
		if (::pipe(to_) != 0 || ::pipe(from_) != 0) {
			std::perror("model: pipe");
			std::exit(2);
		}
		std::fflush(stdout);
		pid_ = ::fork();
		if (pid_ < 0) {
			std::perror("model: fork");
			std::exit(2);
		}
		if (pid_ == 0) {
			::close(to_[1]);
			::close(from_[0]);
			for (char byte; ::read(to_[0], &byte, 1) == 1;) {
				run_steps(e);
				if (::write(from_[1], &byte, 1) != 1) {
					break;
				}
			}
			std::fflush(stdout);
			std::_Exit(0);
		}
		::close(to_[0]);
		::close(from_[1]);
	}

	void end() {
		if (pid_ > 0) {
			::kill(pid_, SIGKILL);
			::waitpid(pid_, &status_, 0);
			::close(to_[1]);
			::close(from_[0]);
			pid_ = 0;
		}
	}

	std::string died(const char *how) {
		// Why, if it did so by itself.
		std::string text = std::string("the library ") + how;
		int status = 0;
		if (pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
			pid_ = 0;
			::close(to_[1]);
			::close(from_[0]);
			text += WIFSIGNALED(status) ? std::string(" of signal ") + std::to_string(WTERMSIG(status))
			                            : std::string(" with status ") + std::to_string(WEXITSTATUS(status));
		}
		end();
		return text;
	}

	pid_t pid_ = 0;
	int to_[2] = {-1, -1};
	int from_[2] = {-1, -1};
	int status_ = 0;
};

// ---- sequences -------------------------------------------------------------------------------------------------------------

op weighted(unsigned n) {
	unsigned sum = 0;
	for (std::size_t o = 0; o < drawn; o++) {
		sum += operations[o].weight;
	}
	n %= sum;
	for (std::size_t o = 0; o < drawn; o++) {
		if (n < operations[o].weight) {
			return static_cast<op>(o);
		}
		n -= operations[o].weight;
	}
	return op::create;
}

step step_of(std::uint32_t word) {
	step s;
	s.what = weighted(word & 0xfffU);
	s.actor = static_cast<std::uint8_t>(word >> 12 & 0x3f);
	s.target = static_cast<std::uint8_t>(word >> 18 & 0x3f);
	s.arg = static_cast<std::uint8_t>(word >> 24);
	return s;
}

std::vector<step> steps_of(const std::vector<std::uint32_t> &words) {
	std::vector<step> steps;
	steps.reserve(words.size());
	for (const std::uint32_t word : words) {
		steps.push_back(step_of(word));
	}
	return steps;
}

void print_failure(runner &r, unsigned vcpus, const std::vector<std::uint32_t> &words, const options &o) {
	std::printf("\non %u vCPU%s; repeat it with  --replay %u", vcpus, vcpus == 1 ? "" : "s", vcpus);
	for (const std::uint32_t word : words) {
		std::printf(":%x", word);
	}
	std::printf("\nit was found with --seed %llu, and these are its steps:\n", static_cast<unsigned long long>(o.seed));
	std::fflush(stdout);
	const std::string why = r.run(vcpus, steps_of(words), true);
	std::printf("  %s\n\n", why.empty() ? "this time it does not fail" : why.c_str());
}

/// How many sequences were run; `failed` is set if one was found that fails.
unsigned long search(runner &r, unsigned vcpus, const options &o, steady::time_point end, bool *failed) {
	unsigned long ran = 0;
	std::vector<std::uint32_t> smallest;
	std::string why;
	unsigned long before = 0;
	rc::detail::TestParams params;
	params.seed = o.seed * 2 + vcpus;
	params.maxSuccess = o.budget > 0 ? 100'000'000 : static_cast<int>((o.count + 1) / 2);
	params.maxSize = 100;
	params.disableShrinking = o.first;
	bool over = false;
	const auto property = [&] {
		const auto words = *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::resize(100, rc::gen::arbitrary<std::uint32_t>()));
		if (over) {
			return;
		}
		ran++;
		std::string now = r.run(vcpus, steps_of(words));
		if (!now.empty()) {
			before = before == 0 ? ran : before;
			smallest = words;
			why = now;
			RC_FAIL(now);
		}
		over = o.budget > 0 && ran % 64 == 0 && steady::now() >= end;
		if (over) {
			RC_FAIL("the time is over");  // ends RapidCheck's search; tries to shrink this come to nothing
		}
	};
	const rc::detail::TestResult result = rc::detail::checkTestable(property, rc::detail::TestMetadata(), params);
	if (!smallest.empty() || !why.empty()) {
		*failed = true;
		std::printf("FAILED  sequence %lu: %s\n", before, why.c_str());
		if (!o.first) {
			print_failure(r, vcpus, smallest, o);
		}
	} else if (!over && !result.is<rc::detail::SuccessResult>()) {
		*failed = true;
		std::printf("FAILED  RapidCheck gave up\n");
	}
	return ran;
}

// ---- the table -------------------------------------------------------------------------------------------------------------

/// How many pairs there are, how many of them are missing, and how many came that cannot.
struct completeness {
	unsigned pairs = 0, impossible_ones = 0, missing = 0, strange = 0;
};

completeness look_at(const exchange *e, bool complain) {
	completeness c;
	for (std::size_t o = 0; o < drawn; o++) {
		for (std::size_t r = 0; r < static_cast<std::size_t>(row::count); r++) {
			const char *why = impossible(static_cast<row>(r), static_cast<op>(o));
			const bool seen = e->seen[r][o] != 0;
			why == nullptr ? c.pairs++ : c.impossible_ones++;
			if (complain && seen != (why == nullptr)) {
				std::printf("%s on %s: %s\n", operations[o].name, row_name(static_cast<row>(r)),
				    why == nullptr ? "never exercised" : "happened, though it was thought impossible");
				why == nullptr ? c.missing++ : c.strange++;
			}
		}
	}
	return c;
}

void print_table(const exchange *e) {
	std::printf("%-12s", "");
	for (std::size_t r = 0; r < static_cast<std::size_t>(row::count); r++) {
		std::printf(" %12s", row_name(static_cast<row>(r)));
	}
	std::printf("\n");
	for (std::size_t o = 0; o < drawn; o++) {
		std::printf("%-12s", operations[o].name);
		for (std::size_t r = 0; r < static_cast<std::size_t>(row::count); r++) {
			impossible(static_cast<row>(r), static_cast<op>(o)) != nullptr
			    ? std::printf(" %12s", "-")
			    : std::printf(" %12llu", static_cast<unsigned long long>(e->seen[r][o]));
		}
		std::printf("\n");
	}
	std::printf("results:");
	for (int i = 0; i < 200; i++) {
		if (e->results[i] != 0) {
			std::printf(" %s %llu", i == 0 ? "0" : strerrorname_np(i), static_cast<unsigned long long>(e->results[i]));
		}
	}
	std::printf("\n-: cannot be:\n");
	const char *told = nullptr;
	for (std::size_t r = 0; r < static_cast<std::size_t>(row::count); r++) {
		for (std::size_t o = 0; o < drawn; o++) {
			const char *why = impossible(static_cast<row>(r), static_cast<op>(o));
			if (why != nullptr && why != told) {
				std::printf("   %s on %s: %s\n", operations[o].name, row_name(static_cast<row>(r)), why);
				told = why;
			}
		}
	}
}

int replay(runner &r, const options &o) {
	char *rest = nullptr;
	const auto vcpus = static_cast<unsigned>(std::strtoul(o.replay, &rest, 10));
	std::vector<std::uint32_t> words;
	while (*rest == ':') {
		words.push_back(static_cast<std::uint32_t>(std::strtoul(rest + 1, &rest, 16)));
	}
	if (*rest != '\0' || vcpus < 1 || vcpus > 2) {
		std::fputs("model: that is no sequence\n", stderr);
		return 2;
	}
	const std::string why = r.run(vcpus, steps_of(words), true);
	std::printf("%s\n", why.empty() ? "model: it does not fail" : why.c_str());
	return why.empty() ? 0 : 1;
}

int all(const options &o) {
	runner r;
	if (o.replay != nullptr) {
		return replay(r, o);
	}
	const steady::time_point began = steady::now();
	unsigned long ran = 0;
	bool failed = false;
	for (unsigned vcpus = 1; vcpus <= 2 && !(failed && o.first); vcpus++) {
		const auto share = std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(o.budget * vcpus / 2));
		ran += search(r, vcpus, o, began + share, &failed);
	}
	if (o.table) {
		print_table(r.e);
	}
	const completeness c = look_at(r.e, !failed);
	const double took = std::chrono::duration<double>(steady::now() - began).count();
	std::printf(
	    "model: %lu sequences, %llu operations, %u of %u pairs of state and operation exercised (%u cannot be), %s, seed %llu, %.1f s%s\n",
	    ran, static_cast<unsigned long long>(r.e->done), c.pairs - c.missing, c.pairs, c.impossible_ones, failed ? "FAILED" : "no failure",
	    static_cast<unsigned long long>(o.seed), took, ran < o.least ? ": fewer than asked for" : "");
	return failed || c.missing != 0 || c.strange != 0 || ran < o.least ? 1 : 0;
}

bool parse(int argc, char **argv, options *o) {
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		if (std::strcmp(name, "--first") == 0) {
			o->first = true;
			continue;
		}
		if (std::strcmp(name, "--table") == 0) {
			o->table = true;
			continue;
		}
		if (i + 1 == argc) {
			return false;
		}
		const char *value = argv[++i];
		char *rest = nullptr;
		if (std::strcmp(name, "--count") == 0) {
			o->count = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--budget") == 0) {
			o->budget = std::strtod(value, &rest);
		} else if (std::strcmp(name, "--seed") == 0) {
			o->seed = std::strtoull(value, &rest, 10);
		} else if (std::strcmp(name, "--least") == 0) {
			o->least = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--replay") == 0) {
			o->replay = value;
			continue;
		} else {
			return false;
		}
		if (rest == value || *rest != '\0') {
			return false;
		}
	}
	return true;
}

}  // namespace
}  // namespace lwp::model

int main(int argc, char **argv) {
	lwp::model::options o;
	if (!lwp::model::parse(argc, argv, &o)) {
		std::fputs("usage: model [--count N | --budget SECONDS] [--seed N] [--least N] [--first] [--table]\n"
		           "       model --replay LIST\n",
		    stderr);
		return 2;
	}
	return lwp::model::all(o);
}
