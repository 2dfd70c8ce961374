// SPDX-License-Identifier: BSD-2-Clause
//
// explore [OPTIONS] [SCENARIO]...: runs scenarios (names, or beginnings of names; all without) under many schedules.
//
//   --budget SECONDS   as long as that, shared out among the scenarios (default 30)
//   --count N          N random schedules of each instead, the same each time
//   --search N         besides, at most N schedules of the search with a bound on preemptions (default 2000 with --count, else a fifth of the time)
//   --seed N           of one scenario: that one schedule
//   --schedule LIST    of one scenario: that one, as printed for a failure, "12:1 40:0"
//   --input FILE       the bytes of a schedule as a fuzzer made them (input.h), which name the scenario, too
//   --from N           the seed that all seeds come from (default 1)
//   --least N          fails if there were fewer schedules than that
//   --first            stops at the first failure, and only names it
//   --list             the names
//
// Prints each failure: its seed, the shortest schedule that was found to fail the same way, and that schedule in columns.  Ends with one line of
// figures.  Exit status 0 nothing failed | 1 something did, or too few | 2 usage.
#include "explore/input.h"
#include "explore/world.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>

namespace lwp::explore {
namespace {

using steady = std::chrono::steady_clock;

struct options {
	double budget = 30;
	unsigned long count = 0;
	unsigned long search = 0;
	bool search_given = false;
	std::uint64_t from = 1;
	unsigned long least = 0;
	bool one_seed = false;
	std::uint64_t seed = 0;
	bool one_schedule = false;
	std::vector<preemption> preempted;
	bool delays = false;
	bool first = false;
	std::vector<const char *> names;
};

struct figures {
	unsigned long pct = 0, random = 0, search = 0, delayed = 0, failures = 0, scenarios = 0, complete = 0, bounded = 0;
	std::uint64_t points = 0;
	bool name_only = false;
	[[nodiscard]] unsigned long schedules() const { return pct + random + search; }
};
figures *total;  // allocated: the program's variables are put back before each schedule

std::uint64_t mix(std::uint64_t z) {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

/// What a seed stands for: two of three are pct, one random; where it matters half of both with delayed stores.
schedule schedule_of(const scenario &s, std::uint64_t seed) {
	schedule plan;
	plan.seed = seed;
	plan.how = seed % 3 == 2 ? schedule::kind::random : schedule::kind::pct;
	plan.delays = s.delays && (seed / 3) % 2 == 1;
	return plan;
}

schedule forced(std::vector<preemption> list, bool delayed) {
	schedule plan;
	plan.preempted = std::move(list);
	plan.delays = delayed;
	return plan;
}

outcome counted(const setup &how, const schedule &plan) {
	outcome o = run(how, plan);
	total->points += o.points;
	total->delayed += plan.delays ? 1U : 0U;
	return o;
}

// ---- a failure ---------------------------------------------------------------------------------------------------------

const char *name_of(op what) {
	switch (what) {
	case op::load:
		return "load";
	case op::store:
		return "store";
	case op::rmw:
		return "rmw";
	case op::fence:
		return "fence";
	case op::relax:
		return "pause";
	case op::yield:
		return "yield";
	case op::futex_wait:
		return "futex wait";
	case op::futex_wake:
		return "futex wake";
	case op::membarrier:
		return "membarrier";
	case op::clock:
		return "clock";
	case op::note:
		break;
	}
	return "";
}

std::string text_of(const event &v) {
	char text[200];
	if (v.actor == clock_actor) {
		std::snprintf(text, sizeof(text), "-- the clock: %" PRIu64 " us", (v.value - 1'000'000'000U) / 1000);
	} else if (v.actor >= buffer_actor) {
		std::snprintf(text, sizeof(text), "-- vCPU %u: a delayed store is seen", v.actor - buffer_actor);
	} else if (v.what == op::note) {
		std::snprintf(text, sizeof(text), "%s", v.file);
	} else {
		const char *slash = std::strrchr(v.file, '/');
		std::snprintf(text, sizeof(text), "L%d %s:%d %s", v.lid, slash == nullptr ? v.file : slash + 1, v.line, name_of(v.what));
	}
	return text;
}

/// Each kthread in a column; runs of points at one line once.
void print_columns(const scenario &s, const std::vector<event> &events) {
	constexpr std::size_t lines_most = 160;
	const int width = s.kthreads <= 2 ? 46 : 34;
	constexpr std::size_t recent_most = 12;
	std::vector<std::string> lines;
	std::vector<std::string> recent;  // what the same one did since it began its turn: loops are shown once
	unsigned actor = actors_most;
	for (const event &v : events) {
		std::string text = text_of(v);
		if (v.actor != actor) {
			recent.clear();
		}
		actor = v.actor;
		if (std::find(recent.begin(), recent.end(), text) != recent.end()) {
			continue;
		}
		recent.push_back(text);
		if (recent.size() > recent_most) {
			recent.erase(recent.begin());
		}
		const unsigned column = v.actor < kthreads_most ? v.actor : 0;
		lines.push_back(std::string(column * static_cast<unsigned>(width), ' ') + text);
	}
	std::printf("   ");
	for (unsigned i = 0; i < s.kthreads; i++) {
		std::printf(" %-*s", width - 1, (s.raw ? "kthread " + std::to_string(i) : "vCPU " + std::to_string(i)).c_str());
	}
	std::printf("\n");
	if (lines.size() > lines_most) {
		std::printf("    ... %zu lines before ...\n", lines.size() - lines_most);
	}
	for (std::size_t i = lines.size() > lines_most ? lines.size() - lines_most : 0; i < lines.size(); i++) {
		std::printf("    %s\n", lines[i].c_str());
	}
}

/// What is common to failures of one kind: the message without its numbers.
std::string kind_of(const std::string &why) {
	std::string kind;
	for (char c : why) {
		if (c < '0' || c > '9') {
			kind += c;
		}
	}
	return kind;
}

std::vector<preemption> shrink(const setup &how, std::vector<preemption> list, bool delayed, const std::string &kind) {
	unsigned tries = 3000;
	auto still = [&](const std::vector<preemption> &candidate) {
		if (tries == 0) {
			return false;
		}
		tries--;
		const outcome o = run(how, forced(candidate, delayed));
		return o.failed && kind_of(o.why) == kind;
	};
	for (std::size_t chunk = std::max<std::size_t>(list.size() / 2, 1);; chunk /= 2) {
		for (std::size_t at = 0; at < list.size();) {
			std::vector<preemption> shorter = list;
			shorter.erase(shorter.begin() + static_cast<long>(at), shorter.begin() + static_cast<long>(std::min(at + chunk, list.size())));
			if (still(shorter)) {
				list = std::move(shorter);
			} else {
				at += chunk;
			}
		}
		if (chunk <= 1) {
			return list;
		}
	}
}

void report(const scenario &s, const schedule &failed) {
	total->failures++;
	const setup &how = setup_of(s);
	if (total->name_only) {
		std::printf("FAILED  %s: %s\n", s.name, run(how, failed).why.c_str());
		return;
	}
	schedule again = failed;
	again.record = true;
	const outcome o = run(how, again);
	if (failed.how == schedule::kind::forced) {
		std::printf("FAILED  %s  (forced%s): %s\n", s.name, failed.delays ? ", delayed stores" : "", o.why.c_str());
	} else {
		std::printf("FAILED  %s  --seed %" PRIu64 " (%s%s): %s\n", s.name, failed.seed,
		    failed.how == schedule::kind::pct ? "pct" : "random", failed.delays ? ", delayed stores" : "", o.why.c_str());
	}
	if (!o.failed) {
		std::printf("    but it does not fail when it is repeated: the scenario depends on more than its schedule\n");
		return;
	}
	std::vector<preemption> list = shrink(how, o.choices, failed.delays, kind_of(o.why));
	schedule least = forced(list, failed.delays);
	least.record = true;
	const outcome shown = run(how, least);
	if (!shown.failed) {
		std::printf("    (not shown: told its choices it does not fail the same way)\n");
		return;
	}
	constexpr std::size_t told_most = 60;  // of more the seed is the better name
	std::string text = failed.delays ? "delays" : "";
	if (list.size() > told_most && failed.how != schedule::kind::forced) {
		text = "...";
		list.clear();
	}
	for (const preemption &p : list) {
		text += (text.empty() ? "" : " ") + std::to_string(p.at) + ":" + std::to_string(p.to);
	}
	std::printf("    --schedule '%s'  %zu of %zu choices are enough: %s\n", text.c_str(), least.preempted.size(), o.choices.size(),
	    shown.why.c_str());
	if (text != "...") {
		std::printf("    again: ./dev explore --schedule '%s' %s\n", text.c_str(), s.name);
	} else {
		std::printf("    again: ./dev explore --seed %" PRIu64 " %s\n", failed.seed, s.name);
	}
	print_columns(s, shown.events);
}

// ---- the passes --------------------------------------------------------------------------------------------------------

/// All schedules that do at none, one, two, three points something else than go on, fewest first; of the points that touch what others touch too.
class search {
public:
	search(const scenario &s, bool delayed) : s_(s), how_(setup_of(s)), delayed_(delayed) {}

	/// False: one failed.  `most`: schedules; `end`: when to stop.
	bool go(unsigned long most, steady::time_point end) {
		learn();
		most_ = most;
		end_ = end;
		for (bound_ = 0; bound_ <= 3; bound_++) {
			std::vector<preemption> none;
			if (!from(none)) {
				return false;
			}
			if (cut_) {
				break;
			}
			done_ = static_cast<int>(bound_);
		}
		return true;
	}
	/// The highest bound that was searched completely; -1 none.
	[[nodiscard]] int done() const { return done_; }

private:
	/// What more than one kthread touches, in some random schedules.
	void learn() {
		std::map<const void *, unsigned> who;
		for (std::uint64_t i = 0; i < 48; i++) {
			schedule plan = schedule_of(s_, mix(i + 77));
			plan.record = true;
			for (const event &v : run(how_, plan).events) {
				if (v.address != nullptr && v.actor < kthreads_most) {
					who[v.address] |= 1U << v.actor;
				}
			}
		}
		for (const auto &[address, actors] : who) {
			if ((actors & (actors - 1)) != 0) {
				shared_.insert(address);
			}
		}
	}

	[[nodiscard]] bool worth(const event &v) const {
		return v.actor < kthreads_most &&
		    (v.what == op::futex_wait || v.what == op::fence || v.what == op::membarrier || shared_.count(v.address) != 0);
	}

	/// Everything that begins with `list` and has bound_ preemptions.
	bool from(std::vector<preemption> &list) {
		if (count_ >= most_ || (count_ % 64 == 0 && steady::now() >= end_)) {
			cut_ = true;
			return true;
		}
		schedule plan = forced(list, delayed_);
		plan.record = list.size() < bound_;
		if (list.size() == bound_) {
			count_++;
			total->search++;
		}
		const outcome o = counted(how_, plan);
		if (o.failed) {
			plan.record = false;
			report(s_, plan);
			return false;
		}
		if (list.size() == bound_) {
			return true;
		}
		const unsigned after = list.empty() ? 0 : list.back().at;
		for (const event &v : o.events) {
			if (v.at <= after || !worth(v)) {
				continue;
			}
			for (unsigned a = 0; a < actors_most; a++) {
				if (a == v.actor || (v.could >> a & 1) == 0) {
					continue;
				}
				list.push_back({v.at, a});
				const bool good = from(list);
				list.pop_back();
				if (!good || cut_) {
					return good;
				}
			}
		}
		return true;
	}

	const scenario &s_;
	const setup &how_;
	bool delayed_;
	std::set<const void *> shared_;
	unsigned bound_ = 0;
	unsigned long count_ = 0, most_ = 0;
	steady::time_point end_;
	bool cut_ = false;
	int done_ = -1;
};

steady::time_point in(double seconds) {
	return steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(seconds));
}

/// One scenario, for `seconds` or a count.  False: it failed.
bool explore_one(const scenario &s, const options &o, double seconds) {
	const setup &how = setup_of(s);
	total->scenarios++;
	std::uint64_t base = o.from * 0x9e3779b97f4a7c15U;
	for (const char *c = s.name; *c != '\0'; c++) {
		base = mix(base ^ static_cast<unsigned char>(*c));
	}
	const steady::time_point end = in(seconds * 0.8);
	for (unsigned long i = 0; o.count != 0 ? i < o.count : i % 16 != 0 || steady::now() < end; i++) {
		const schedule plan = schedule_of(s, mix(base + i) >> 1);
		(plan.how == schedule::kind::pct ? total->pct : total->random)++;
		if (counted(how, plan).failed) {
			report(s, plan);
			return false;
		}
	}
	const unsigned long most = o.search_given ? o.search : o.count != 0 ? 2000 : ~0UL;
	if (most == 0 || s.kthreads > 3) {
		return true;
	}
	search bounded(s, s.delays);
	const bool good = bounded.go(most, o.count != 0 ? steady::time_point::max() : in(seconds * 0.2));
	total->bounded++;
	total->complete += bounded.done() == 3 ? 1U : 0U;
	return good;
}

bool wanted(const scenario &s, const options &o) {
	return o.names.empty() ||
	    std::any_of(o.names.begin(), o.names.end(), [&s](const char *n) { return std::strncmp(s.name, n, std::strlen(n)) == 0; });
}

int one(const scenario &s, const schedule &plan) {
	const setup &how = setup_of(s);
	const outcome result = run(how, plan);
	if (result.failed) {
		report(s, plan);
		return 1;
	}
	std::printf("%s: this schedule passes, %u points\n", s.name, result.points);
	return 0;
}

int one_input(const char *path) {
	std::ifstream file(path, std::ios::binary);
	const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
	if (!file) {
		std::fprintf(stderr, "explore: %s cannot be read\n", path);
		return 2;
	}
	const input in = decode(reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size());
	return one(*in.what, in.plan);
}

int all(const options &o) {
	std::vector<const scenario *> list;
	for (const scenario &s : scenarios()) {
		if (wanted(s, o)) {
			list.push_back(&s);
		}
	}
	if (list.empty()) {
		std::fputs("explore: no scenario has such a name; --list names them\n", stderr);
		return 2;
	}
	std::sort(list.begin(), list.end(), [](const scenario *a, const scenario *b) { return std::strcmp(a->name, b->name) < 0; });
	if (o.one_seed || o.one_schedule) {
		return one(*list[0], o.one_schedule ? forced(o.preempted, o.delays) : schedule_of(*list[0], o.seed));
	}
	const steady::time_point began = steady::now();
	std::size_t left = list.size();
	for (const scenario *s : list) {
		const double passed = std::chrono::duration<double>(steady::now() - began).count();
		const bool good = explore_one(*s, o, std::max(0.02, (o.budget - passed) / static_cast<double>(left--)));
		std::fflush(stdout);
		if (!good && o.first) {
			break;
		}
	}
	const double took = std::chrono::duration<double>(steady::now() - began).count();
	const bool enough = total->schedules() >= o.least;
	std::printf("explore: %lu scenarios, %lu schedules (%lu pct, %lu random, %lu searched; %lu with delayed stores), %" PRIu64
	            " points, %lu of %lu searched completely up to 3 preemptions, %lu failures, %.1f s%s\n",
	    total->scenarios, total->schedules(), total->pct, total->random, total->search, total->delayed, total->points, total->complete,
	    total->bounded, total->failures, took, enough ? "" : ": fewer than asked for");
	return total->failures == 0 && enough ? 0 : 1;
}

bool parse_schedule(const char *text, options *o) {
	o->one_schedule = true;
	if (std::strncmp(text, "delays", 6) == 0) {
		o->delays = true;
		text += 6;
	}
	while (*text != '\0') {
		unsigned at;
		unsigned to;
		int n = 0;
		if (std::sscanf(text, " %u:%u%n", &at, &to, &n) != 2 || to >= actors_most) {
			return false;
		}
		o->preempted.push_back({at, to});
		text += n;
	}
	return true;
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
		if (i + 1 == argc) {
			return false;
		}
		const char *value = argv[++i];
		char *rest = nullptr;
		if (std::strcmp(name, "--budget") == 0) {
			o->budget = std::strtod(value, &rest);
		} else if (std::strcmp(name, "--count") == 0) {
			o->count = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--search") == 0) {
			o->search = std::strtoul(value, &rest, 10);
			o->search_given = true;
		} else if (std::strcmp(name, "--from") == 0) {
			o->from = std::strtoull(value, &rest, 10);
		} else if (std::strcmp(name, "--least") == 0) {
			o->least = std::strtoul(value, &rest, 10);
		} else if (std::strcmp(name, "--seed") == 0) {
			o->one_seed = true;
			o->seed = std::strtoull(value, &rest, 10);
		} else if (std::strcmp(name, "--schedule") == 0) {
			if (!parse_schedule(value, o)) {
				return false;
			}
			continue;
		} else {
			return false;
		}
		if (rest == value || *rest != '\0') {
			return false;
		}
	}
	return !(o->one_seed || o->one_schedule) || o->names.size() == 1;
}

}  // namespace
}  // namespace lwp::explore

int main(int argc, char **argv) {
	using namespace lwp::explore;
	if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
		for (const scenario &s : scenarios()) {
			std::puts(s.name);
		}
		return 0;
	}
	total = new figures;
	if (argc == 4 && std::strcmp(argv[1], "--serve") == 0) {
		return serve(std::atoi(argv[2]), std::atoi(argv[3]), report);
	}
	if (argc == 3 && std::strcmp(argv[1], "--input") == 0) {
		return one_input(argv[2]);
	}
	options o;
	if (!parse(argc, argv, &o)) {
		std::fputs("usage: explore [--budget SECONDS] [--count N] [--search N] [--from N] [--least N] [SCENARIO]...\n"
		           "       explore --seed N | --schedule LIST SCENARIO\n"
		           "       explore --input FILE\n"
		           "       explore --list\n",
		    stderr);
		return 2;
	}
	total->name_only = o.first;
	return all(o);
}
