// SPDX-License-Identifier: BSD-2-Clause
//
// Results that come later: promises, futures, tasks, and what goes wrong with them.
#include <future>
#include <mutex>
#include <thread>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <memory_resource>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

template <class Call>
void error_of(const char *what, Call call) {
	try {
		call();
		std::printf("%s: no error\n", what);
	} catch (const std::future_error &e) {
		std::printf("%s: %s %d\n", what, e.code().category().name(), e.code().value());
	}
}

long sort_and_sum(std::vector<int> numbers) {
	if (numbers.size() < 2) {
		return numbers.empty() ? 0 : numbers[0];
	}
	const auto half = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
	std::future<long> low = std::async(std::launch::async, sort_and_sum, std::vector<int>(numbers.begin(), half));
	const long high = sort_and_sum(std::vector<int>(half, numbers.end()));
	return low.get() + high;
}

void errors() {
	std::promise<int> p;
	std::future<int> f = p.get_future();
	error_of("second future", [&] { (void)p.get_future(); });
	p.set_value(1);
	error_of("second value", [&] { p.set_value(2); });
	error_of("exception after a value", [&] { p.set_exception(std::make_exception_ptr(1)); });
	const int value = f.get();
	std::printf("value: %d, valid: %d\n", value, f.valid());
	std::promise<int> owner = std::move(p);
	error_of("moved from", [&] { (void)p.get_future(); });
	std::future<void> broken;
	{
		std::promise<void> gone;
		broken = gone.get_future();
	}
	error_of("broken", [&] { broken.get(); });
	std::packaged_task<int(int)> task([](int n) { return n + 1; });
	std::future<int> g = task.get_future();
	task(1);
	error_of("called twice", [&] { task(2); });
	task.reset();
	std::printf("first: %d\n", g.get());
	error_of("no task", [] { std::packaged_task<void()>().operator()(); });
	std::printf("%s\n", std::future_category().name());
}

void kinds() {
	int object = 5;
	std::promise<int &> reference;
	std::future<int &> there = reference.get_future();
	std::promise<void> nothing;
	std::shared_future<void> all = nothing.get_future().share();
	std::promise<std::unique_ptr<int>> moves;
	auto moved = moves.get_future();
	std::pmr::monotonic_buffer_resource memory;
	std::promise<std::string> allocated(std::allocator_arg, std::pmr::polymorphic_allocator<std::byte>(&memory));
	auto text = allocated.get_future();
	std::thread maker([&] {
		reference.set_value(object);
		moves.set_value(std::make_unique<int>(7));
		allocated.set_value_at_thread_exit("at the end");
		nothing.set_value();
	});
	std::vector<std::thread> waiters;
	std::mutex lock;
	int through = 0;
	for (int i = 0; i < 4; i++) {
		waiters.emplace_back([&, mine = all] {
			mine.get();
			const std::lock_guard hold(lock);
			through++;
		});
	}
	there.get()++;
	std::printf("reference: %d, moved: %d, text: %s\n", object, *moved.get(), text.get().c_str());
	maker.join();
	for (std::thread &t : waiters) {
		t.join();
	}
	std::printf("shared: %d, still valid: %d\n", through, all.valid());
	std::promise<int> one;
	std::promise<int> two;
	two.set_value(2);
	swap(one, two);
	std::printf("swapped: %d\n", one.get_future().get());
}

void asynchronous() {
	const std::thread::id self = std::this_thread::get_id();
	auto lazy = std::async(std::launch::deferred, [&] { return std::this_thread::get_id() == self; });
	const bool deferred = lazy.wait_for(0s) == std::future_status::deferred;
	std::printf("deferred: %d, here: %d\n", deferred, lazy.get());
	auto eager = std::async(std::launch::async, [&] { return std::this_thread::get_id() == self; });
	std::printf("elsewhere: %d\n", !eager.get());
	auto fails = std::async([]() -> int { throw std::out_of_range("too far"); });
	try {
		fails.get();
	} catch (const std::out_of_range &e) {
		std::printf("exception: %s\n", e.what());
	}
	std::promise<int> late;
	std::future<int> f = late.get_future();
	std::printf("not yet: %d, %d\n", f.wait_for(1ms) == std::future_status::timeout,
	    f.wait_until(std::chrono::system_clock::now() - 1h) == std::future_status::timeout);
	late.set_value(3);
	std::printf("now: %d\n", f.wait_for(0s) == std::future_status::ready);
	std::vector<int> numbers(64);
	std::iota(numbers.begin(), numbers.end(), 1);
	std::printf("sum: %ld\n", sort_and_sum(numbers));
}

void tasks() {
	std::vector<std::packaged_task<long(long)>> work;
	std::vector<std::future<long>> results;
	for (long i = 0; i < 8; i++) {
		work.emplace_back([i](long n) { return i * n; });
		results.push_back(work.back().get_future());
	}
	std::vector<std::thread> threads;
	long n = 10;
	for (auto &task : work) {
		threads.emplace_back(std::move(task), n++);
	}
	long sum = 0;
	for (auto &r : results) {
		sum += r.get();
	}
	for (std::thread &t : threads) {
		t.join();
	}
	std::packaged_task<int()> at_exit([] { return 9; });
	std::future<int> nine = at_exit.get_future();
	std::thread t([&] {
		at_exit.make_ready_at_thread_exit();
		std::printf("ready before the end: %d\n", nine.wait_for(0s) == std::future_status::ready);
	});
	t.join();
	std::printf("tasks: %ld, at the end: %d, moved from: %d\n", sum, nine.get(), work[0].valid());
}

}  // namespace

int main() {
	errors();
	kinds();
	asynchronous();
	tasks();
}
