// SPDX-License-Identifier: BSD-2-Clause
//
// A pool of workers and what people write around one: results and exceptions that come back, a cache that many read, a schedule, shutdown in order.
#include <barrier>
#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <stop_token>
#include <thread>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <queue>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

// ---- the pool ----------------------------------------------------------------------------------------------------------

class pool {
public:
	explicit pool(unsigned n) : started_(static_cast<std::ptrdiff_t>(n)) {
		workers_.reserve(n);
		for (unsigned i = 0; i < n; ++i) {
			workers_.emplace_back([this, i](std::stop_token stop) { run(stop, i); });
		}
		started_.wait();
	}
	~pool() { close(); }
	pool(const pool &) = delete;
	pool &operator=(const pool &) = delete;

	template <class F, class... Args>
	auto submit(F &&f, Args &&...args) -> std::future<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> {
		using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
		auto task = std::make_shared<std::packaged_task<result()>>([f = std::forward<F>(f), ... args = std::forward<Args>(args)]() mutable {
			return std::invoke(std::move(f), std::move(args)...);
		});
		std::future<result> later = task->get_future();
		{
			std::lock_guard<std::mutex> hold(mutex_);
			if (closed_) {
				throw std::runtime_error("the pool is closed");
			}
			jobs_.emplace([task] { (*task)(); });
		}
		more_.notify_one();
		return later;
	}

	void close() {
		{
			std::unique_lock lock(mutex_);
			closed_ = true;
			idle_.wait(lock, [this] { return jobs_.empty() && busy_ == 0; });
		}
		for (std::jthread &w : workers_) {
			w.request_stop();
		}
		workers_.clear();
	}

	std::size_t names() const {
		std::shared_lock look(names_lock_);
		return names_.size();
	}

private:
	void run(std::stop_token stop, unsigned i) {
		{
			std::unique_lock<std::shared_mutex> alone(names_lock_);
			names_.emplace(std::this_thread::get_id(), "worker " + std::to_string(i));
		}
		started_.count_down();
		std::unique_lock lock(mutex_);
		while (more_.wait(lock, stop, [this] { return !jobs_.empty(); })) {
			std::function<void()> job = std::move(jobs_.front());
			jobs_.pop();
			++busy_;
			lock.unlock();
			job();
			lock.lock();
			--busy_;
			if (jobs_.empty() && busy_ == 0) {
				idle_.notify_all();
			}
		}
	}

	std::mutex mutex_;
	std::condition_variable_any more_;
	std::condition_variable idle_;
	std::queue<std::function<void()>> jobs_;
	unsigned busy_ = 0;
	bool closed_ = false;
	mutable std::shared_mutex names_lock_;
	std::unordered_map<std::thread::id, std::string> names_;
	std::latch started_;
	std::vector<std::jthread> workers_;
};

long collatz(long n) {
	long steps = 0;
	for (; n != 1; ++steps) {
		n = n % 2 == 0 ? n / 2 : 3 * n + 1;
	}
	return steps;
}

void pool_of_workers() {
	pool p(std::max(2U, std::min(std::thread::hardware_concurrency(), 6U)));
	std::vector<std::future<long>> steps;
	for (long n = 1; n <= 300; ++n) {
		steps.push_back(p.submit(collatz, n));
	}
	long sum = 0;
	for (auto &s : steps) {
		sum += s.get();
	}
	std::cout << "collatz: " << sum << '\n';

	// What a task throws comes out where its result is asked for, with its type.
	struct broken : std::domain_error {
		int code;
		explicit broken(int c) : std::domain_error("broken"), code(c) {}
	};
	auto bad = p.submit([](int c) -> int { throw broken(c); }, 7);
	bad.wait();
	try {
		(void)bad.get();
	} catch (const std::domain_error &e) {
		std::cout << e.what() << ' ' << dynamic_cast<const broken &>(e).code << '\n';
	}
	std::cout << "asked twice: " << std::boolalpha << bad.valid() << '\n';

	// Moved in, moved out.
	auto box = p.submit(
	    [](std::unique_ptr<std::string> s) { return std::make_unique<std::string>(*s + "!"); }, std::make_unique<std::string>("moved"));
	std::cout << *box.get() << '\n';

	// A task that submits others and waits for them elsewhere.
	std::promise<long> total;
	std::shared_future<long> answer = total.get_future().share();
	auto done = std::make_shared<std::atomic<int>>(0);
	auto acc = std::make_shared<std::atomic<long>>(0);
	for (int i = 0; i < 10; ++i) {
		(void)p.submit([&total, done, acc, i] {
			acc->fetch_add(i * i);
			if (done->fetch_add(1) == 9) {
				total.set_value(acc->load());
			}
		});
	}
	std::vector<std::thread> readers;
	std::mutex out;
	std::multiset<long> seen;
	for (int i = 0; i < 3; ++i) {
		readers.emplace_back([answer, &out, &seen] {
			const long v = answer.get();
			const std::scoped_lock hold(out);
			seen.insert(v);
		});
	}
	for (auto &r : readers) {
		r.join();
	}
	std::cout << "shared: " << seen.size() << " saw " << *seen.begin() << '\n';
	std::cout << "names: " << (p.names() >= 2) << '\n';
	p.close();
	try {
		(void)p.submit([] {});
	} catch (const std::runtime_error &e) {
		std::cout << e.what() << '\n';
	}
}

// ---- a cache: many read, few write, each value is made once ---------------------------------------------------------------

class cache {
public:
	int get(int key) {
		{
			std::shared_lock<std::shared_timed_mutex> reading(lock_);
			if (auto it = map_.find(key); it != map_.end()) {
				return made(*it->second, key);
			}
		}
		std::shared_ptr<entry> e;
		{
			std::unique_lock<std::shared_timed_mutex> writing(lock_, std::try_to_lock);
			if (!writing.owns_lock() && !writing.try_lock_for(10s)) {
				throw std::runtime_error("no lock in ten seconds");
			}
			auto &slot = map_[key];
			if (!slot) {
				slot = std::make_shared<entry>();
			}
			e = slot;
		}
		return made(*e, key);
	}
	int computed() const { return computed_.load(); }

private:
	struct entry {
		std::once_flag once;
		int value = 0;
	};
	int made(entry &e, int key) {
		std::call_once(e.once, [&] {
			if (failures_.fetch_sub(1) > 0) {
				throw std::logic_error("not yet");  // the next one tries again
			}
			std::this_thread::sleep_for(200us);
			e.value = key * key;
			computed_.fetch_add(1);
		});
		return e.value;
	}

	std::shared_timed_mutex lock_;
	std::map<int, std::shared_ptr<entry>> map_;
	std::atomic<int> computed_{0};
	std::atomic<int> failures_{3};
};

void cached() {
	cache c;
	std::atomic<int> tries{0};
	std::atomic<long> sum{0};
	std::vector<std::thread> all;
	for (int t = 0; t < 8; ++t) {
		all.emplace_back([&] {
			for (int k = 0; k < 20; ++k) {
				for (;;) {
					try {
						sum += c.get(k);
						break;
					} catch (const std::logic_error &) {
						++tries;
					}
				}
			}
		});
	}
	for (auto &t : all) {
		t.join();
	}
	std::cout << "cache: " << c.computed() << " made, " << tries << " tries failed, sum " << sum << '\n';
}

// ---- a game of life by threads that meet ------------------------------------------------------------------------------------

void life() {
	constexpr int n = 24;
	constexpr int parts = 4;
	std::vector<int> now(n * n), next(n * n);
	for (const auto &[x, y] : {std::pair{1, 0}, {2, 1}, {0, 2}, {1, 2}, {2, 2}}) {
		now[static_cast<std::size_t>(y * n + x)] = 1;
	}
	int generation = 0;
	std::barrier meet(parts, [&]() noexcept {
		now.swap(next);
		++generation;
	});
	const auto at = [&](int x, int y) { return now[static_cast<std::size_t>((y + n) % n * n + (x + n) % n)]; };
	std::vector<std::jthread> all;
	for (int part = 0; part < parts; ++part) {
		all.emplace_back([&, part] {
			for (int g = 0; g < 40; ++g) {
				for (int y = part * n / parts; y < (part + 1) * n / parts; ++y) {
					for (int x = 0; x < n; ++x) {
						int around = -at(x, y);
						for (int dy = -1; dy <= 1; ++dy) {
							for (int dx = -1; dx <= 1; ++dx) {
								around += at(x + dx, y + dy);
							}
						}
						next[static_cast<std::size_t>(y * n + x)] = around == 3 || (around == 2 && at(x, y) == 1);
					}
				}
				meet.arrive_and_wait();
			}
		});
	}
	all.clear();
	std::cout << "life: generation " << generation << ", " << std::accumulate(now.begin(), now.end(), 0) << " alive, corner "
	          << now[static_cast<std::size_t>(12 * n + 12)] << '\n';
}

// ---- a crossing: so many at a time, nobody twice, stopped from outside --------------------------------------------------------

void crossing() {
	std::counting_semaphore<4> room(3);
	std::atomic<int> inside{0}, most{0};
	std::atomic<long> passed{0};
	std::stop_source closing;
	std::vector<std::jthread> cars;
	for (int i = 0; i < 9; ++i) {
		cars.emplace_back([&, stop = closing.get_token()] {
			while (!stop.stop_requested()) {
				if (!room.try_acquire_for(1s)) {
					continue;
				}
				const int here = ++inside;
				for (int m = most; here > m && !most.compare_exchange_weak(m, here);) {
				}
				std::this_thread::yield();
				--inside;
				room.release();
				++passed;
			}
		});
	}
	std::binary_semaphore told(0);
	std::stop_callback tell(closing.get_token(), [&] { told.release(); });
	while (passed < 500) {
		std::this_thread::sleep_for(100us);
	}
	std::cout << "stop: " << closing.request_stop() << ' ' << closing.request_stop() << '\n';
	told.acquire();
	for (auto &c : cars) {
		c.join();
	}
	std::cout << "crossing: " << (most <= 3) << ' ' << inside << ' ' << (passed >= 500) << '\n';
}

// ---- odds and ends --------------------------------------------------------------------------------------------------------------

void odds() {
	// Two locks in any order.
	struct purse {
		std::recursive_mutex lock;
		int coins = 100;
	} a, b;
	const auto give = [](purse &from, purse &to) {
		std::unique_lock one(from.lock, std::defer_lock);
		std::unique_lock two(to.lock, std::defer_lock);
		std::lock(one, two);
		std::lock_guard again(from.lock);
		--from.coins;
		++to.coins;
	};
	std::thread there([&] {
		for (int i = 0; i < 1000; ++i) {
			give(a, b);
		}
	});
	std::thread back([&] {
		for (int i = 0; i < 1000; ++i) {
			give(b, a);
		}
	});
	there.join();
	back.join();
	std::cout << "purses: " << a.coins << ' ' << b.coins << '\n';

	// Ids: compared, hashed, written; nobody's are equal.
	std::thread::id nobody;
	std::ostringstream text, same;
	std::thread t([] {});
	const std::thread::id id = t.get_id();
	text << id;
	same << t.get_id();
	std::cout << "ids: " << (id != nobody) << (text.str() == same.str())
	          << (std::hash<std::thread::id>()(id) == std::hash<std::thread::id>()(t.get_id())) << '\n';
	t.join();
	std::cout << (t.get_id() == nobody) << t.joinable() << '\n';

	// An exception carried by hand.
	std::exception_ptr carried;
	std::thread([&carried] {
		try {
			(void)std::vector<int>().at(3);
		} catch (...) {
			carried = std::current_exception();
		}
	}).join();
	try {
		std::rethrow_exception(carried);
	} catch (const std::out_of_range &) {
		std::cout << "carried\n";
	}

	// async: lazily, eagerly, and one that fails.
	auto lazy = std::async(std::launch::deferred, [main = std::this_thread::get_id()] { return std::this_thread::get_id() == main; });
	std::cout << "lazy: " << (lazy.wait_for(0s) == std::future_status::deferred) << lazy.get() << '\n';
	auto eager = std::async(std::launch::async, [main = std::this_thread::get_id()] { return std::this_thread::get_id() == main; });
	std::cout << "eager: " << eager.get() << '\n';
	try {
		std::future<int> never = std::promise<int>().get_future();
		(void)never.get();
	} catch (const std::future_error &e) {
		std::cout << "broken: " << (e.code() == std::future_errc::broken_promise) << '\n';
	}

	// A result that is there when its thread is gone.
	std::promise<std::string> last;
	auto word = last.get_future();
	std::thread([&last] { last.set_value_at_thread_exit("exit"); }).join();
	std::cout << word.get() << '\n';

	// A wait that nobody ends.
	std::mutex m;
	std::condition_variable cv;
	std::unique_lock hold(m);
	std::cout << "timeout: " << (cv.wait_for(hold, 1ms) == std::cv_status::timeout)
	          << cv.wait_until(hold, std::chrono::system_clock::now() + 1ms, [] { return false; }) << '\n';
}

int main() {
	pool_of_workers();
	cached();
	life();
	crossing();
	odds();
}
