// SPDX-License-Identifier: BSD-2-Clause
#include <lwp/parallel.hpp>
#include <lwp/scope.hpp>

#include <utility>

namespace lwp {

scope::scope(const std::stop_token &outer) {
	if (outer.stop_possible()) {
		outer_.emplace(outer, stopper{stop_});
	}
}

scope::~scope() {
	if (!children_.none()) {
		request_stop();
		children_.wait("scope");
	}
}

void scope::join() {
	children_.wait("scope");
	if (failed_.load(std::memory_order_relaxed)) {  // relaxed, here and below: the children have ended, and wait() has seen it
		failed_.store(false, std::memory_order_relaxed);
		std::rethrow_exception(std::exchange(error_, nullptr));
	}
}

void scope::failed() noexcept {
	if (!failed_.exchange(true, std::memory_order_relaxed)) {  // relaxed: read when we have ended
		error_ = std::current_exception();
		request_stop();
	}
}

namespace detail {

namespace {

struct parallel_helper : exit_note {
	parallel_loop *loop;

	explicit parallel_helper(parallel_loop *p) noexcept : loop(p) {
		en_run = [](exit_note *n) noexcept { static_cast<parallel_helper *>(n)->loop->ended(); };
	}
	static void run(void *p) {
		auto *self = static_cast<parallel_helper *>(p);
		self->loop->work();
		at_lwp_end(self);
	}
};

}  // namespace

bool parallel_loop::take(std::uint64_t *first, std::uint64_t *count) noexcept {
	std::uint64_t at = next_.load(std::memory_order_relaxed);  // relaxed, here and below: a place, no news
	std::uint64_t n;
	do {
		if (at >= count_ || ended_.load(std::memory_order_relaxed)) {
			return false;
		}
		const std::uint64_t left = count_ - at;
		n = std::min(left, std::max(grain_, left / (2 * workers_)));
	} while (!next_.compare_exchange_weak(at, at + n, std::memory_order_relaxed));
	*first = at;
	*count = n;
	return true;
}

void parallel_loop::recruit() noexcept {
	// Each helper makes the next once it runs and there is still work.  So a loop that is over soon has cost one creation.
	if (next_.load(std::memory_order_relaxed) >= count_ || recruited_.fetch_add(1, std::memory_order_relaxed) + 1 >= workers_) {
		return;
	}
	helpers_.add();
	try {
		start_detached<parallel_helper>({.name = "parallel"}, this);
	} catch (...) {
		helpers_.done();  // with fewer, then
	}
}

void parallel_loop::work() noexcept {
	recruit();
	std::uint64_t first;
	std::uint64_t count;
	while (take(&first, &count)) {
		try {
			if (!part(first, count)) {
				ended_.store(true, std::memory_order_relaxed);  // relaxed, here and below: the others stop sooner or later
			}
		} catch (...) {
			ended_.store(true, std::memory_order_relaxed);
			if (!failed_.exchange(true, std::memory_order_relaxed)) {  // relaxed: read when we have ended
				error_ = std::current_exception();
			}
		}
	}
}

bool parallel_loop::run() {
	work();
	helpers_.wait("parallel");
	if (error_) {
		std::rethrow_exception(error_);
	}
	return !ended_.load(std::memory_order_relaxed);  // relaxed: all helpers are done
}

unsigned parallel_workers() noexcept { return thread_concurrency(); }

}  // namespace detail
}  // namespace lwp
