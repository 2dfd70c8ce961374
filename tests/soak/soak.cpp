// SPDX-License-Identifier: BSD-2-Clause
//
// A population of LWPs that live and die for as long as one likes, against the public headers alone:
//     soak [--lwps N] [--seconds S] [--seed N]
// Each LWP does some things that make it wait (timers, mutexes, channels, semaphores, parking, pipes, children), then makes its successor and ends.  So
// there are always N, and all of the library's memory is given back and taken again.  LWP_VCPUS and LWP_IO are the library's.
// Shows what it does as it goes.  Fails if something was lost or came twice, if something is left at the end, or if resident memory grows once all is warm (of 20 s at least).
// The last line has the figures.  The seed repeats the choices, not their timing.
#include <lwp/lwp.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr unsigned places = 64;  // of each kind of thing that LWPs meet at
constexpr unsigned pipes = 16;
constexpr double growth_most = 0.02;  // of resident memory from the middle third to the last,
constexpr double growth_free = 16;    // and MiB beside that

#if defined(__has_feature)
#define SOAK_HAS_FEATURE(x) __has_feature(x)
#else
#define SOAK_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || SOAK_HAS_FEATURE(address_sanitizer) || \
    SOAK_HAS_FEATURE(thread_sanitizer)
constexpr bool judges_memory = false;  // a sanitizer keeps what was freed
#else
constexpr bool judges_memory = true;
#endif

class dice {
public:
	explicit dice(std::uint64_t seed) : state_(seed) {}
	std::uint64_t next() {
		std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
		return z ^ (z >> 31);
	}
	std::uint64_t below(std::uint64_t n) { return next() % n; }

private:
	std::uint64_t state_;
};

struct counted_mutex {
	lwp::mutex lock;
	std::uint64_t value = 0;  // under lock
	std::atomic<std::uint64_t> wanted{0};
};

struct counted_channel {
	lwp::channel<std::uint64_t> values{4};
	std::atomic<std::uint64_t> sent{0};
	std::atomic<std::uint64_t> received{0};
};

struct counted_pipe {
	lwp::pipe ends;
	std::atomic<std::uint64_t> written{0};
	std::atomic<std::uint64_t> read{0};
};

struct world {
	std::uint64_t lwps = 1'000'000;
	std::chrono::milliseconds longest{100};  // sleeps: the more LWPs, the longer, so that vCPUs keep up
	std::atomic<bool> over{false};
	std::atomic<std::uint64_t> alive{0};
	std::atomic<std::uint64_t> made{0};
	std::atomic<std::uint64_t> waits{0};  // that came to an end
	std::atomic<std::uint64_t> errors{0};
	std::array<counted_mutex, places> mutexes;
	std::array<counted_channel, places> channels;
	std::array<counted_pipe, pipes> through;
	std::array<lwp::counting_semaphore<>, 4> semaphores{
	    lwp::counting_semaphore<>(1), lwp::counting_semaphore<>(2), lwp::counting_semaphore<>(8), lwp::counting_semaphore<>(32)};
	std::array<std::atomic<lwpid_t>, places> parked{};
	lwp::wait_group population;
};
world w;

void wrong(const char *what) {
	if (w.errors.fetch_add(1) < 10) {
		std::fprintf(stderr, "soak: %s\n", what);
	}
}

std::chrono::microseconds some_time(dice &d) {
	return std::chrono::microseconds(d.below(static_cast<std::uint64_t>(std::chrono::microseconds(w.longest).count())));
}

void use_mutex(dice &d) {
	counted_mutex &m = w.mutexes[d.below(places)];
	m.wanted++;
	const std::lock_guard hold(m.lock);
	const std::uint64_t before = m.value;
	if (d.below(4) == 0) {
		lwp::this_thread::yield();
	}
	if (m.value != before) {
		wrong("two LWPs are in one mutex");
	}
	m.value = before + 1;
}

void use_channel(dice &d) {
	counted_channel &c = w.channels[d.below(places)];
	const std::uint64_t value = d.next() >> 8;
	if (d.below(2) == 0) {
		if (c.values.send_for(value, some_time(d))) {
			c.sent += value;
		}
	} else if (const auto got = c.values.receive_for(some_time(d))) {
		c.received += *got;
	}
}

void use_pipe(dice &d) {
	counted_pipe &p = w.through[d.below(pipes)];
	std::byte bytes[16] = {};
	std::error_code error;
	if (d.below(2) == 0) {
		p.written += p.ends.write_end.write_all(bytes, error, {.deadline = clock_type::now() + some_time(d)});
	} else {
		p.read += p.ends.read_end.read(bytes, error, {.deadline = clock_type::now() + some_time(d)});
	}
	if (error && error != std::errc::timed_out) {
		const std::string why = error.message();
		wrong(why.c_str());
	}
}

void use_semaphore(dice &d) {
	auto &s = w.semaphores[d.below(w.semaphores.size())];
	if (s.try_acquire_for(some_time(d))) {
		lwp::this_thread::yield();
		s.release();
	}
}

void use_park(dice &d) {
	std::atomic<lwpid_t> &place = w.parked[d.below(places)];
	if (const lwpid_t other = place.exchange(_lwp_self()); other != 0) {
		(void)_lwp_unpark(other, nullptr);  // it may have gone: then ESRCH
	}
	const auto time = some_time(d);
	timespec ts{time.count() / 1'000'000, time.count() % 1'000'000 * 1000};
	(void)_lwp_park(CLOCK_MONOTONIC, 0, &ts, 0, nullptr, nullptr);
	lwpid_t self = _lwp_self();
	place.compare_exchange_strong(self, 0);
}

void use_child(dice &d) {
	std::uint64_t answer = 0;
	const std::uint64_t question = d.next();
	lwp::thread child([&] { answer = ~question; });
	child.join();
	if (answer != ~question) {
		wrong("a child was joined before its end");
	}
}

void be_born(std::uint64_t seed);

void live(std::uint64_t seed) {
	dice d(seed);
	for (std::uint64_t things = 1 + d.below(6); things != 0 && !w.over; things--) {
		switch (d.below(8)) {
		case 0:
			use_mutex(d);
			break;
		case 1:
		case 2:
			use_channel(d);
			break;
		case 3:
			use_pipe(d);
			break;
		case 4:
			use_semaphore(d);
			break;
		case 5:
			use_park(d);
			break;
		case 6:
			use_child(d);
			break;
		default:
			lwp::this_thread::sleep_for(some_time(d));
			break;
		}
		w.waits++;
	}
	if (!w.over) {
		be_born(d.next());
	}
	w.alive--;
	w.population.done();
}

void be_born(std::uint64_t seed) {
	w.population.add();
	w.alive++;
	w.made++;
	lwp::thread({.stack_size = 16 * 1024, .detached = true}, [seed] { live(seed); });
}

double resident() {
	std::FILE *f = std::fopen("/proc/self/statm", "re");
	unsigned long all = 0;
	unsigned long pages = 0;
	if (f != nullptr) {
		(void)std::fscanf(f, "%lu %lu", &all, &pages);
		std::fclose(f);
	}
	return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

double millions(std::uint64_t n) { return static_cast<double>(n) * 1e-6; }

void show(std::chrono::duration<double> passed, double mib) {
	std::printf("%8.0f s  %.3f M alive  %.2f M made  %.1f M waits  %.1f M switches  %.0f MiB\n", passed.count(), millions(w.alive),
	    millions(w.made), millions(w.waits), millions(lwp::runtime::stats().switches), mib);
	std::fflush(stdout);
}

/// What went in has come out, or is still there.
void account() {
	for (counted_mutex &m : w.mutexes) {
		if (m.value != m.wanted) {
			wrong("a mutex let somebody in too often, or not at all");
		}
	}
	for (counted_channel &c : w.channels) {
		while (const auto left = c.values.try_receive()) {
			c.received += *left;
		}
		if (c.sent != c.received) {
			wrong("a channel has lost a value, or has given one twice");
		}
	}
	for (counted_pipe &p : w.through) {
		p.ends.write_end.close();
		std::byte bytes[4096];
		while (const std::size_t n = p.ends.read_end.read(bytes)) {
			p.read += n;
		}
		if (p.written != p.read) {
			wrong("a pipe has lost bytes");
		}
	}
	std::ptrdiff_t units = 0;
	for (auto &s : w.semaphores) {
		while (s.try_acquire()) {
			units++;
		}
	}
	if (units != 1 + 2 + 8 + 32) {
		wrong("a semaphore has lost or found units");
	}
	for (int i = 0; lwp::runtime::stats().lwps != 1 && i < 1000; i++) {  // the last ones are on their way out
		lwp::this_thread::sleep_for(10ms);
	}
	if (lwp::runtime::stats().lwps != 1) {
		wrong("LWPs are left");
	}
}

double mean(const std::vector<double> &v, std::size_t from, std::size_t to) {
	double sum = 0;
	for (std::size_t i = from; i < to; i++) {
		sum += v[i];
	}
	return to > from ? sum / static_cast<double>(to - from) : 0;
}

int run(std::chrono::seconds time, std::uint64_t seed) {
	w.longest = std::chrono::milliseconds(std::clamp<std::uint64_t>(w.lwps / 20, 20, 60'000));
	std::printf("soak: %llu LWPs, %lld s, %u vCPUs, seed %llu\n", static_cast<unsigned long long>(w.lwps),
	    static_cast<long long>(time.count()), lwp::runtime::vcpus(), static_cast<unsigned long long>(seed));
	const auto began = clock_type::now();
	dice d(seed);
	for (std::uint64_t i = 0; i < w.lwps; i++) {
		be_born(d.next());
	}
	const auto full = clock_type::now();
	std::vector<double> sizes;
	const auto pause = std::clamp<std::chrono::milliseconds>(time / 60, 100ms, 10'000ms);
	for (auto shown = began; clock_type::now() - full < time;) {
		lwp::this_thread::sleep_for(pause);
		sizes.push_back(resident());
		if (clock_type::now() - shown >= 5 * pause) {
			shown = clock_type::now();
			show(shown - began, sizes.back());
		}
	}
	const std::chrono::duration<double> lived = clock_type::now() - full;
	w.over = true;
	w.population.wait();
	account();
	// The first third warms up.
	const std::size_t third = sizes.size() / 3;
	const double before = mean(sizes, third, 2 * third);
	const double after = mean(sizes, 2 * third, sizes.size());
	const double growth = after - before;
	if (judges_memory && time >= 20s && growth > before * growth_most + growth_free) {
		wrong("resident memory grows");
	}
	std::printf(
	    "soak: %.0f s, %u vCPUs, seed %llu: %llu LWPs alive, %.2f M made, %.1f M waits, %.1f M switches, %.0f MiB resident, %+.2f MiB "
	    "per minute, %llu errors\n",
	    lived.count(), lwp::runtime::vcpus(), static_cast<unsigned long long>(seed), static_cast<unsigned long long>(w.lwps),
	    millions(w.made), millions(w.waits), millions(lwp::runtime::stats().switches), after, growth / (lived.count() / 3) * 60,
	    static_cast<unsigned long long>(w.errors));
	return w.errors == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char **argv) {
	std::chrono::seconds time{10};
	std::uint64_t seed = static_cast<std::uint64_t>(clock_type::now().time_since_epoch().count());
	for (int i = 1; i + 1 < argc; i += 2) {
		const std::string option = argv[i];
		const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 0);
		if (option == "--lwps") {
			w.lwps = value;
		} else if (option == "--seconds") {
			time = std::chrono::seconds(value);
		} else if (option == "--seed") {
			seed = value;
		} else {
			std::fprintf(stderr, "soak: unknown option %s\n", argv[i]);
			return 2;
		}
	}
	return run(time, seed);
}
