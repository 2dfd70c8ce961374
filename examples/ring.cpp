// SPDX-License-Identifier: BSD-2-Clause
//
// The thread ring: N LWPs in a circle hand a token on, M times in all.  The token counts down; the LWP that gets it at 0
// is known beforehand, so the program checks itself.  One hop is one unpark of the next LWP and one park of this one: it
// shows what a hand-over costs.
#include <lwp/lwp.hpp>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace {

constexpr long no_token = -1;
constexpr long stop = -2;

struct seat {
	std::atomic<long> token{no_token};
	lwpid_t lid = 0;  // written before the token sets out
	seat *next = nullptr;
};

long take(seat &mine) {
	for (;;) {
		const long token = mine.token.exchange(no_token);
		if (token != no_token) {
			return token;
		}
		_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
	}
}

void give(seat &to, long token) {
	to.token.store(token);
	_lwp_unpark(to.lid, nullptr);
}

// Hands the token on until it has none left (stores our number in `last`), then lets everybody go home.
void run(seat &mine, int number, std::atomic<int> &last) {
	for (;;) {
		const long token = take(mine);
		if (token == 0) {
			last.store(number);
		}
		if (token <= 0) {
			give(*mine.next, stop);  // the last one to hear it tells one who has left already: that does no harm
			return;
		}
		give(*mine.next, token - 1);
	}
}

int usage(std::FILE *out) {
	std::fputs("usage: ring [LWPS [HOPS]]\n"
	           "Passes a token HOPS times (1000000) round a ring of LWPS (503) LWPs, says who ends up with it and what a hop costs.\n",
	    out);
	return out == stdout ? 0 : 2;
}

bool number(const char *text, long low, long high, long &value) {
	const char *end = text + std::strlen(text);
	const auto [stopped, error] = std::from_chars(text, end, value);
	return error == std::errc{} && stopped == end && value >= low && value <= high;
}

int ring(long lwps, long hops) {
	const auto count = static_cast<std::size_t>(lwps);
	std::vector<seat> seats(count);
	std::vector<lwp::thread> threads;
	std::atomic<int> last{-1};
	for (std::size_t i = 0; i < count; ++i) {
		seats[i].next = &seats[(i + 1) % count];
		threads.emplace_back(run, std::ref(seats[i]), static_cast<int>(i), std::ref(last));
		seats[i].lid = threads.back().native_handle();
	}

	const auto begin = std::chrono::steady_clock::now();
	give(seats[0], hops);
	for (auto &t : threads) {
		t.join();
	}
	const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;

	std::printf("ring: %ld LWPs on %u vCPUs, %ld hops\n", lwps, lwp::runtime::vcpus(), hops);
	std::printf("ring: the token ended at LWP number %d of the ring\n", last.load());
	std::printf("ring: %.1f ns a hop\n", took.count() / static_cast<double>(hops + lwps));
	if (last.load() != hops % lwps) {
		std::fprintf(stderr, "ring: it should have ended at %ld\n", hops % lwps);
		return 1;
	}
	return 0;
}

}  // namespace

int main(int argc, char **argv) {
	long lwps = 503;
	long hops = 1000000;
	if (argc > 1 && std::strcmp(argv[1], "--help") == 0) {
		return usage(stdout);
	}
	if (argc > 3 || (argc > 1 && !number(argv[1], 1, 1000000, lwps)) || (argc > 2 && !number(argv[2], 0, 1000000000, hops))) {
		return usage(stderr);
	}
	try {
		return ring(lwps, hops);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "ring: %s\n", e.what());
		return 1;
	}
}
