// SPDX-License-Identifier: BSD-2-Clause
//
// Boost.Asio's stackful coroutines: io_context is the scheduler, asio::spawn() makes the threads.  It has no mutex and nothing to wait on but
// completions, so what blocks here keeps its handler and whoever wakes it posts that.  A join is made of the same.
#include "../program.h"

#include <boost/asio/async_result.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>

#include <mutex>
#include <thread>

namespace {

namespace asio = boost::asio;
using context = asio::yield_context;

asio::io_context *io = nullptr;

// The running coroutine's yield_context, which Asio hands down as an argument.  Not inlined: the address of a thread-local may not be kept
// over a suspension, after which another kernel thread may go on.
thread_local context *running = nullptr;
[[gnu::noinline]] context *get_running() { return running; }
[[gnu::noinline]] void set_running(context *c) { running = c; }

// A spawn may run the new coroutine at once, inside the call.
template <class F>
void start(F f) {
	context *const me = get_running();
	asio::spawn(
	    *io,
	    [f = std::move(f)](context yield) mutable {
		    set_running(&yield);
		    f();
	    },
	    boost::coroutines::attributes(peers::stack_size));
	set_running(me);
}

// One waiter's token.
class seat_of_one {
public:
	void sit() {}
	void park() {
		context *const me = get_running();
		{
			std::unique_lock hold(mutex_);
			if (!token_) {
				asio::async_completion<context &, void()> wait(*me);
				handler_.emplace(std::move(wait.completion_handler));
				hold.unlock();  // the one who takes the handler posts it, which is safe before the coroutine has suspended
				wait.result.get();
				set_running(me);
				return;
			}
			token_ = false;
		}
	}
	void unpark() {
		std::unique_lock hold(mutex_);
		if (!handler_) {
			token_ = true;
			return;
		}
		handler h = std::move(*handler_);
		handler_.reset();
		hold.unlock();
		asio::post(*io, std::move(h));
	}

private:
	using handler = asio::async_completion<context &, void()>::completion_handler_type;
	std::mutex mutex_;  // never held over a suspension
	bool token_ = false;
	std::optional<handler> handler_;
};

struct face {
	static constexpr unsigned workers_most = 64;

	template <class F>
	static void run(unsigned workers, F f) {
		asio::io_context all(static_cast<int>(workers));
		io = &all;
		start([&] { f(); });
		std::vector<std::thread> helpers;
		for (unsigned i = 1; i < workers; ++i) {
			helpers.emplace_back([&] { all.run(); });
		}
		all.run();
		for (std::thread &t : helpers) {
			t.join();
		}
	}

	class thread {
	public:
		template <class F>
		explicit thread(F f) : done_(std::make_shared<seat_of_one>()) {
			start([f = std::move(f), done = done_]() mutable {
				f();
				done->unpark();
			});
		}
		void join() { done_->park(); }

	private:
		std::shared_ptr<seat_of_one> done_;
	};
	template <class F>
	static void detach(F f) {
		start(std::move(f));
	}
	static void yield() {
		context *const me = get_running();
		asio::post(*io, *me);
		set_running(me);
	}
	static void sleep_until(peers::clock::time_point t) {
		context *const me = get_running();
		asio::steady_timer timer(*io, t);
		timer.async_wait(*me);
		set_running(me);
	}

	using seat = seat_of_one;
	static constexpr std::pair<std::string_view, const char *> notes[] = {{"park", "made of its completion handlers and a std::mutex"},
	    {"create_join", "the join is made of its completion handlers"}, {"skynet", "the join is made of its completion handlers"},
	    {"memory", "no guard pages"}};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
