// SPDX-License-Identifier: BSD-2-Clause
//
// The dining philosophers: N LWPs round a table of N forks, an lwp::mutex each.  std::scoped_lock takes both forks of a philosopher in a way that
// no deadlock can come of, so the program ends; and each fork counts its uses without an atomic, so the program checks that nobody ate with a fork
// that somebody else held.
//
// With --greedy each takes its left fork, waits until all have one, and takes the right one: nobody will ever eat.  The library says who waits for
// whom, and the program ends by that: 0 if the circle that was reported has all of them in it.
#include <lwp/deadlock.hpp>
#include <lwp/latch.hpp>
#include <lwp/mutex.hpp>
#include <lwp/scope.hpp>
#include <lwp/thread.hpp>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct fork {
	lwp::mutex taken;
	long uses = 0;  // by who holds it
};

// Eats `meals` times; with std::lock and two guards every other time, which is the same done by hand.
long dine(fork &left, fork &right, long meals) {
	for (long i = 0; i < meals; ++i) {
		if (i % 2 == 0) {
			const std::scoped_lock both(left.taken, right.taken);
			++left.uses;
			if (i % 64 == 0) {
				lwp::this_thread::yield();  // with both forks: the neighbours come and wait
			}
			++right.uses;
		} else {
			std::unique_lock one(left.taken, std::defer_lock);
			std::unique_lock other(right.taken, std::defer_lock);
			std::lock(one, other);
			++left.uses;
			++right.uses;
		}
	}
	return meals;
}

int table(std::size_t count, long meals) {
	std::vector<fork> forks(count);
	std::vector<lwp::future<long>> philosophers;
	lwp::scope scope;
	for (std::size_t i = 0; i < count; ++i) {
		philosophers.push_back(scope.spawn({.name = "philosopher"}, dine, std::ref(forks[i]), std::ref(forks[(i + 1) % count]), meals));
	}
	long eaten = 0;
	for (const long n : scope.results(philosophers)) {
		eaten += n;
	}
	long uses = 0;
	for (const fork &f : forks) {
		uses += f.uses;
	}
	std::printf("philosophers: %zu LWPs ate %ld meals with %ld forks\n", count, eaten, uses);
	if (eaten != static_cast<long>(count) * meals || uses != 2 * eaten) {
		std::fprintf(stderr, "philosophers: it should have been 2 forks for each of %ld meals\n", static_cast<long>(count) * meals);
		return 1;
	}
	return 0;
}

// Does not return: the philosophers keep their forks, and what they wait for must last as long as they do.
[[noreturn]] void greedy_table(std::size_t count) {
	auto *forks = new std::vector<fork>(count);
	auto *seated = new lwp::latch(static_cast<std::ptrdiff_t>(count));
	for (std::size_t i = 0; i < count; ++i) {
		const std::string name = "philosopher " + std::to_string(i);
		lwp::thread({.name = name.c_str(), .detached = true}, [=] {
			(*forks)[i].taken.lock();
			seated->arrive_and_wait();
			(*forks)[(i + 1) % count].taken.lock();
		});
	}
	const std::string circle = "circle of " + std::to_string(count) + ":";
	std::string report;
	while (report.find(circle) == std::string::npos) {
		lwp::this_thread::sleep_for(std::chrono::milliseconds(10));  // until the last of them has come to rest
		report = lwp::deadlock_report();
	}
	std::fputs(report.c_str(), stdout);
	std::printf("philosophers: %zu LWPs starve\n", count);
	std::fflush(stdout);
	std::_Exit(0);  // without destructors: the forks are in use
}

bool number(const char *text, long low, long high, long &value) {
	const char *end = text + std::strlen(text);
	const auto [stopped, error] = std::from_chars(text, end, value);
	return error == std::errc{} && stopped == end && value >= low && value <= high;
}

}  // namespace

int main(int argc, char **argv) {
	long count = 100;
	long meals = 1000;
	const bool greedy = argc > 1 && std::strcmp(argv[1], "--greedy") == 0;
	if (greedy) {
		--argc;
		++argv;
		count = 5;
	}
	const bool help = argc > 1 && std::strcmp(argv[1], "--help") == 0;
	if (help || argc > 3 || (argc > 1 && !number(argv[1], 2, 100000, count)) || (argc > 2 && !number(argv[2], 0, 1000000, meals))) {
		std::fputs("usage: philosophers [--greedy] [LWPS [MEALS]]\nLWPS (100, at least 2) philosophers eat MEALS (1000) times each.\n"
		           "With --greedy LWPS (5) of them come to a deadlock, which is reported.\n",
		    help ? stdout : stderr);
		return help ? 0 : 2;
	}
	try {
		if (greedy) {
			greedy_table(static_cast<std::size_t>(count));
		}
		return table(static_cast<std::size_t>(count), meals);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "philosophers: %s\n", e.what());
		return 1;
	}
}
