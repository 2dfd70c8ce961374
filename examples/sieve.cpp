// SPDX-License-Identifier: BSD-2-Clause
//
// A prime sieve as a chain of LWPs: each holds one prime, drops the multiples of it and hands the rest on.  The first number
// that gets past the end of the chain is the next prime and makes the next LWP.  Between neighbours runs a small
// bounded queue built on _lwp_park() and _lwp_unpark(); a later version of the library brings channels.
#include <lwp/lwp.hpp>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

namespace {

// One LWP puts, one other gets.  Who has to wait writes its id on the door and looks again before it parks, so the other side
// either is seen to have acted or sees the id.  An unpark too many only makes somebody look once more.
class queue {
public:
	void put(int value) {
		block_until(writer_, [this] { return tail_.load() - head_.load() < ring_.size(); });
		const std::size_t tail = tail_.load(std::memory_order_relaxed);
		ring_[tail % ring_.size()] = value;
		tail_.store(tail + 1);
		wake(reader_);
	}
	int get() {
		block_until(reader_, [this] { return tail_.load() != head_.load(); });
		const std::size_t head = head_.load(std::memory_order_relaxed);
		const int value = ring_[head % ring_.size()];
		head_.store(head + 1);
		wake(writer_);
		return value;
	}

private:
	template <class Ready>
	static void block_until(std::atomic<lwpid_t> &door, Ready ready) {
		while (!ready()) {
			door.store(_lwp_self());
			if (!ready()) {
				_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
			}
			door.store(0);
		}
	}
	static void wake(std::atomic<lwpid_t> &door) {
		if (door.load() != 0) {
			if (const lwpid_t lid = door.exchange(0)) {
				_lwp_unpark(lid, nullptr);
			}
		}
	}

	std::array<int, 64> ring_{};
	std::atomic<std::size_t> head_{0};
	std::atomic<std::size_t> tail_{0};
	std::atomic<lwpid_t> reader_{0};
	std::atomic<lwpid_t> writer_{0};
};

constexpr int end_of_numbers = 0;

// The LWP of one prime.  Ends, after everybody behind it, when the numbers do.
void filter(queue &in, std::vector<int> &primes) {
	const int prime = in.get();
	if (prime == end_of_numbers) {
		return;
	}
	primes.push_back(prime);  // only the last of the chain is here, and it made room for the next one after that
	queue out;
	lwp::thread next;
	for (int n = in.get(); n != end_of_numbers; n = in.get()) {
		if (n % prime == 0) {
			continue;
		}
		if (!next.joinable()) {
			next = lwp::thread({.name = "filter"}, filter, std::ref(out), std::ref(primes));
		}
		out.put(n);
	}
	if (next.joinable()) {
		out.put(end_of_numbers);
		next.join();
	}
}

// The same by Eratosthenes, to check.
std::vector<int> expected(int limit) {
	std::vector<bool> composite(static_cast<std::size_t>(limit) + 1);
	std::vector<int> primes;
	for (int n = 2; n <= limit; ++n) {
		if (!composite[static_cast<std::size_t>(n)]) {
			primes.push_back(n);
			for (long m = static_cast<long>(n) * n; m <= limit; m += n) {
				composite[static_cast<std::size_t>(m)] = true;
			}
		}
	}
	return primes;
}

int sieve(int limit) {
	std::vector<int> primes;
	queue numbers;
	lwp::thread first({.name = "filter"}, filter, std::ref(numbers), std::ref(primes));
	for (int n = 2; n <= limit; ++n) {
		numbers.put(n);
	}
	numbers.put(end_of_numbers);
	first.join();
	std::printf("sieve: %zu primes up to %d, the last is %d; one LWP each\n", primes.size(), limit, primes.empty() ? 0 : primes.back());
	if (primes != expected(limit)) {
		std::fprintf(stderr, "sieve: wrong\n");
		return 1;
	}
	return 0;
}

}  // namespace

int main(int argc, char **argv) {
	int limit = 10000;
	const bool help = argc > 1 && std::strcmp(argv[1], "--help") == 0;
	if (argc > 1 && !help) {
		const char *end = argv[1] + std::strlen(argv[1]);
		const auto [stopped, error] = std::from_chars(argv[1], end, limit);
		limit = error == std::errc{} && stopped == end ? limit : -1;
	}
	if (help || argc > 2 || limit < 1 || limit > 1000000) {
		std::fputs(
		    "usage: sieve [LIMIT]\nFinds the primes up to LIMIT (10000, at most 1000000) with a chain of LWPs.\n", help ? stdout : stderr);
		return help ? 0 : 2;
	}
	try {
		return sieve(limit);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "sieve: %s\n", e.what());
		return 1;
	}
}
