// SPDX-License-Identifier: BSD-2-Clause
//
// A bounded queue, written three times, and what lwp::testing::explore() says to each: one is right, one loses a wake-up once in a long while, one
// looks and acts in two steps.  Prints the seed that shows each bug, and runs it again by that seed.
//     explored [--show]      also prints the steps of the failing schedules
#include <lwp/lwp.hpp>
#include <lwp/testing.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>

namespace {

using namespace std::chrono_literals;

/// Two condition variables, a predicate for each wait, one notification for each change.
class good_queue {
public:
	void put(int value) {
		std::unique_lock hold(lock_);
		room_.wait(hold, [this] { return values_.size() < 2; });
		values_.push_back(value);
		more_.notify_one();
	}
	int get() {
		std::unique_lock hold(lock_);
		more_.wait(hold, [this] { return !values_.empty(); });
		const int value = values_.front();
		values_.pop_front();
		room_.notify_one();
		return value;
	}

private:
	lwp::mutex lock_;
	lwp::condition_variable room_;
	lwp::condition_variable more_;
	std::deque<int> values_;
};

/// One condition variable for both: notify_one() may wake one that waits for the other thing, and that one goes back to sleep with it.
class one_condition_queue {
public:
	void put(int value) {
		std::unique_lock hold(lock_);
		changed_.wait(hold, [this] { return values_.size() < 1; });
		values_.push_back(value);
		changed_.notify_one();
	}
	int get() {
		std::unique_lock hold(lock_);
		changed_.wait(hold, [this] { return !values_.empty(); });
		const int value = values_.front();
		values_.pop_front();
		changed_.notify_one();
		return value;
	}

private:
	lwp::mutex lock_;
	lwp::condition_variable changed_;
	std::deque<int> values_;
};

/// put() gives up the lock and looks again without it: what it has seen is over when it acts.
class hasty_queue {
public:
	void put(int value) {
		while (full()) {
			lwp::this_thread::sleep_for(1ms);
		}
		const std::lock_guard hold(lock_);
		values_.push_back(value);
		lwp::testing::check(values_.size() <= 2, "a bounded queue is bounded");
	}
	int get() {
		for (;; lwp::this_thread::sleep_for(1ms)) {
			const std::lock_guard hold(lock_);
			if (!values_.empty()) {
				const int value = values_.front();
				values_.pop_front();
				return value;
			}
		}
	}

private:
	bool full() {
		const std::lock_guard hold(lock_);
		return values_.size() == 2;
	}
	lwp::mutex lock_;
	std::deque<int> values_;
};

/// Two put, two get, twice each; what is got is what was put.
template <class Queue>
void use() {
	Queue queue;
	lwp::mutex sum_lock;
	int sum = 0;
	lwp::scope all;
	for (int who = 0; who < 2; who++) {
		all.spawn([&] {
			queue.put(1);
			queue.put(10);
		});
		all.spawn([&] {
			const int got = queue.get() + queue.get();
			const std::lock_guard hold(sum_lock);
			sum += got;
		});
	}
	all.join();
	lwp::testing::check(sum == 22, "what is got is what was put");
}

/// Whether it is as it should be.
bool look_at(const char *name, const std::function<void()> &body, lwp::testing::outcome expected, bool show) {
	lwp::testing::result r = lwp::testing::explore(body, {.schedules = 200, .quiet = !show});
	std::printf("%s: %s", name, lwp::testing::to_string(r.how));
	if (r) {
		std::printf(
		    " %llu schedules, %llu steps\n", static_cast<unsigned long long>(r.schedules), static_cast<unsigned long long>(r.steps));
		return r.how == expected;
	}
	const lwp::testing::result again = lwp::testing::explore(body, {.schedules = 1, .seed = r.seed, .quiet = true});
	std::printf(", shown by seed %llu, and by that seed %s\n", static_cast<unsigned long long>(r.seed),
	    again.how == r.how && r.repeated && again.repeated ? "again, step by step" : "something else");
	return r.how == expected;
}

}  // namespace

int main(int argc, char **argv) {
	using lwp::testing::outcome;
	const bool show = argc > 1 && std::strcmp(argv[1], "--show") == 0;
	bool as_expected = look_at("two conditions", use<good_queue>, outcome::passed, show);
	as_expected &= look_at("one condition", use<one_condition_queue>, outcome::deadlock, show);
	as_expected &= look_at("a look and an act", use<hasty_queue>, outcome::check, show);
	return as_expected ? 0 : 1;
}
