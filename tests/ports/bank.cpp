// SPDX-License-Identifier: BSD-2-Clause
//
// A bank: locks of every kind, and the standard's adaptors on them.
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include <array>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;

namespace {

struct account {
	std::mutex lock;
	long money = 1000;
};

constexpr std::size_t accounts = 6;
constexpr int clerks = 8;

struct bank {
	std::array<account, accounts> all;
	std::shared_mutex book_lock;
	std::map<std::string, long> book;  // book_lock
	std::recursive_mutex audit_lock;
	int depth = 0;  // audit_lock
	std::once_flag opened;
	int openings = 0;
	int failures = 0;

	void open() {
		std::call_once(opened, [this] {
			if (failures++ == 0) {
				throw std::runtime_error("the key does not fit");
			}
			openings++;
		});
	}

	bool transfer(std::size_t from, std::size_t to, long sum) {
		if (from == to) {
			return false;
		}
		std::scoped_lock both(all[from].lock, all[to].lock);
		if (all[from].money < sum) {
			return false;
		}
		all[from].money -= sum;
		all[to].money += sum;
		return true;
	}

	bool transfer_by_hand(std::size_t from, std::size_t to, long sum) {
		if (from == to) {
			return false;
		}
		std::unique_lock a(all[from].lock, std::defer_lock);
		std::unique_lock b(all[to].lock, std::defer_lock);
		std::lock(a, b);
		all[from].money -= sum;
		all[to].money += sum;
		return a.owns_lock() && b.owns_lock();
	}

	long total() {
		for (account &a : all) {
			a.lock.lock();
		}
		long sum = 0;
		for (account &a : all) {
			const std::lock_guard adopted(a.lock, std::adopt_lock);
			sum += a.money;
		}
		return sum;
	}

	int audit(int levels) {
		const std::lock_guard hold(audit_lock);
		depth++;
		const int deepest = levels > 1 ? audit(levels - 1) : depth;
		depth--;
		return deepest;
	}

	void note(const std::string &who, long what) {
		const std::unique_lock alone(book_lock);
		book[who] += what;
	}
	long noted(const std::string &who) {
		const std::shared_lock shared(book_lock);
		const auto found = book.find(who);
		return found == book.end() ? 0 : found->second;
	}
};

void clerk(bank &b, unsigned who) {
	b.open();
	unsigned dice = who * 2654435761U + 1;
	for (int i = 0; i < 500; i++) {
		dice = dice * 1664525U + 1013904223U;
		const std::size_t from = (dice >> 8) % accounts;
		const std::size_t to = (dice >> 16) % accounts;
		if (i % 2 == 0) {
			(void)b.transfer(from, to, static_cast<long>(dice >> 24));
		} else {
			(void)b.transfer_by_hand(from, to, 1);
		}
		b.note("clerk " + std::to_string(who), 1);
		if (b.noted("clerk " + std::to_string(who)) != i + 1) {
			std::printf("clerk %u's line is wrong\n", who);
		}
		if (i % 50 == 0) {
			std::this_thread::yield();
		}
	}
}

void timed() {
	std::timed_mutex m;
	std::recursive_timed_mutex r;
	std::shared_timed_mutex s;
	m.lock();
	r.lock();
	s.lock();
	std::thread([&] {
		std::unique_lock late(m, 2ms);
		std::printf("late: %s\n", late.owns_lock() ? "owns" : "does not own");
		std::unique_lock past(r, std::chrono::steady_clock::now() - 1s);
		std::printf("past: %s\n", past ? "owns" : "does not own");
		std::shared_lock shared(s, std::try_to_lock);
		std::printf("shared: %s\n", shared ? "shares" : "does not share");
		std::printf("shared, for a while: %d\n", s.try_lock_shared_for(1ms));
	}).join();
	s.unlock();
	s.lock_shared();
	std::thread([&] {
		std::printf(
		    "two share: %d, one alone: %d\n", s.try_lock_shared() ? 1 : 0, s.try_lock_until(std::chrono::system_clock::now()) ? 1 : 0);
		s.unlock_shared();
	}).join();
	s.unlock_shared();
	std::printf("once more by the owner: %d\n", r.try_lock_for(0s));
	r.unlock();
	r.unlock();
	m.unlock();
	std::unique_lock<std::timed_mutex> moved = [&] { return std::unique_lock(m); }();
	std::unique_lock<std::timed_mutex> other;
	swap(moved, other);
	std::printf("moved: %d %d\n", moved.owns_lock(), other.owns_lock());
	try {
		moved.lock();
	} catch (const std::system_error &e) {
		std::printf("no mutex: %d\n", e.code() == std::errc::operation_not_permitted);
	}
	try {
		other.lock();
	} catch (const std::system_error &e) {
		std::printf("owned already: %d\n", e.code() == std::errc::resource_deadlock_would_occur);
	}
}

}  // namespace

int main() {
	const auto b = std::make_unique<bank>();
	try {
		b->open();
	} catch (const std::runtime_error &e) {
		std::printf("%s\n", e.what());
	}
	std::vector<std::thread> staff;
	for (unsigned i = 0; i < clerks; i++) {
		staff.emplace_back(clerk, std::ref(*b), i);
	}
	for (std::thread &t : staff) {
		t.join();
	}
	std::printf("openings: %d, total: %ld\n", b->openings, b->total());
	for (const auto &[who, lines] : b->book) {
		std::printf("%s: %ld\n", who.c_str(), lines);
	}
	std::printf("audit: %d\n", b->audit(5));
	timed();
	std::thread unused;
	std::printf("joinable: %d\n", unused.joinable());
	try {
		unused.join();
	} catch (const std::system_error &e) {
		std::printf("join: %d\n", e.code() == std::errc::invalid_argument);
	}
}
