// SPDX-License-Identifier: BSD-2-Clause
//
// Work in stages: queues that end by a stop token, workers that stop by themselves, semaphores, latches and barriers.
#include <barrier>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <stop_token>
#include <thread>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

template <class T>
class queue {
public:
	explicit queue(std::ptrdiff_t room) : room_(room) {}
	void put(T value) {
		room_.acquire();
		{
			const std::lock_guard hold(lock_);
			items_.push_back(std::move(value));
		}
		filled_.notify_one();
	}
	std::optional<T> take(std::stop_token stop) {
		std::unique_lock hold(lock_);
		if (!filled_.wait(hold, std::move(stop), [this] { return !items_.empty(); })) {
			return std::nullopt;
		}
		T value = std::move(items_.front());
		items_.pop_front();
		hold.unlock();
		room_.release();
		return value;
	}

private:
	std::shared_mutex lock_;  // any lock will do
	std::condition_variable_any filled_;
	std::deque<T> items_;  // lock_
	std::counting_semaphore<> room_;
};

void pipeline() {
	queue<int> numbers(4);
	queue<int> squares(4);
	std::atomic<int> stopped{0};
	std::vector<std::jthread> workers;
	for (int i = 0; i < 3; i++) {
		workers.emplace_back([&](std::stop_token stop) {
			while (const std::optional<int> n = numbers.take(stop)) {
				squares.put(*n * *n);
			}
			stopped++;
		});
	}
	std::jthread source([&] {
		for (int i = 1; i <= 200; i++) {
			numbers.put(i);
		}
	});
	long sum = 0;
	for (int i = 0; i < 200; i++) {
		sum += *squares.take(std::stop_token());
	}
	std::printf("squares: %ld\n", sum);
	workers.clear();  // each is asked to stop, and joined
	std::printf("stopped: %d\n", stopped.load());
}

void callbacks() {
	std::stop_source source;
	std::stop_token token = source.get_token();
	int called = 0;
	{
		std::stop_callback gone(token, [&] { called += 100; });
	}
	std::stop_callback first(token, [&] { called += 1; });
	std::stop_callback<std::function<void()>> second(token, [&] { called += 10; });
	std::printf("possible: %d, requested: %d\n", token.stop_possible(), token.stop_requested());
	const bool by_us = source.request_stop();
	const bool again = source.request_stop();
	std::printf("requests: %d %d, called: %d\n", by_us, again, called);
	std::stop_callback late(token, [&] { called += 1000; });
	std::printf("late: %d, without a state: %d\n", called, std::stop_token().stop_possible());

	std::mutex m;
	std::condition_variable_any cv;
	std::jthread sleeper([&](std::stop_token stop) {
		std::unique_lock hold(m);
		const bool ready = cv.wait_for(hold, stop, 1h, [] { return false; });
		std::printf("sleeper: %s, %s\n", ready ? "ready" : "not ready", stop.stop_requested() ? "stopped" : "not stopped");
	});
	sleeper.request_stop();
	sleeper.join();
	std::printf("stopped ones are joinable: %d\n", sleeper.joinable());
}

void rounds() {
	constexpr std::ptrdiff_t people = 5;
	int completed = 0;
	std::vector<int> seen;
	std::atomic<int> inside{0};
	std::barrier all(people, [&]() noexcept {
		completed++;
		seen.push_back(inside.exchange(0));
	});
	std::latch done(people);
	std::vector<std::thread> threads;
	for (std::ptrdiff_t i = 0; i < people; i++) {
		threads.emplace_back([&, i] {
			for (std::ptrdiff_t round = 0; round <= i; round++) {
				inside++;
				if (round == i) {
					all.arrive_and_drop();
				} else if (round % 2 == 0) {
					all.arrive_and_wait();
				} else {
					all.wait(all.arrive());
				}
			}
			done.count_down();
		});
	}
	done.wait();
	std::printf("latch: %d, rounds: %d, in each:", done.try_wait(), completed);
	for (const int n : seen) {
		std::printf(" %d", n);
	}
	std::printf("\n");
	for (std::thread &t : threads) {
		t.join();
	}
}

void hand_over() {
	std::binary_semaphore ping(0);
	std::binary_semaphore pong(0);
	std::mutex m;
	std::condition_variable cv;
	int turn = 0;
	std::thread other([&] {
		for (int i = 0; i < 300; i++) {
			ping.acquire();
			pong.release();
		}
		std::unique_lock hold(m);
		for (int i = 0; i < 300; i++) {
			cv.wait(hold, [&] { return turn == 1; });
			turn = 0;
			cv.notify_one();
		}
		std::notify_all_at_thread_exit(cv, std::move(hold));
	});
	for (int i = 0; i < 300; i++) {
		ping.release();
		pong.acquire();
	}
	int turns = 0;
	{
		std::unique_lock hold(m);
		for (int i = 0; i < 300; i++) {
			cv.wait(hold, [&] { return turn == 0; });
			turn = 1;
			turns++;
			cv.notify_one();
		}
	}
	other.join();
	std::unique_lock hold(m);
	const bool early = cv.wait_until(hold, std::chrono::steady_clock::now() - 1s) == std::cv_status::timeout;
	std::printf("turns: %d, past deadline: %d, %d, %d\n", turns, early, ping.try_acquire_for(1ms), pong.try_acquire());
}

}  // namespace

int main() {
	pipeline();
	callbacks();
	rounds();
	hand_over();
}
