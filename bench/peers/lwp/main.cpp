// SPDX-License-Identifier: BSD-2-Clause
//
// This library, doing the peers' work by its public face.
#include "../program.h"

#include <lwp/channel.hpp>
#include <lwp/condition_variable.hpp>
#include <lwp/lwp.hpp>
#include <lwp/semaphore.hpp>

namespace {

struct face {
	static constexpr unsigned workers_most = 256;

	template <class F>
	static void run(unsigned workers, F f) {
		lwp::runtime rt({.vcpus = workers, .stack_size = peers::stack_size});
		f();
	}

	using thread = lwp::thread;
	template <class F>
	static void detach(F f) {
		lwp::thread({.detached = true}, std::move(f));
	}
	static void yield() { lwp_yield(); }
	static void sleep_until(peers::clock::time_point t) { lwp::this_thread::sleep_until(t); }

	using semaphore = lwp::counting_semaphore<>;
	using mutex = lwp::mutex;
	using condition = lwp::condition_variable;

	template <bool rendezvous>
	class channel {
	public:
		explicit channel(std::size_t capacity) : ch_(capacity) {}
		void send(std::int64_t v) { ch_.send(v); }
		bool receive(std::int64_t &v) {
			const std::optional<std::int64_t> got = ch_.receive();
			v = got.value_or(0);
			return got.has_value();
		}
		void close() { ch_.close(); }

	private:
		lwp::channel<std::int64_t> ch_;
	};

	class seat {
	public:
		void sit() { lid_ = _lwp_self(); }
		void park() { _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); }
		void unpark() { _lwp_unpark(lid_, nullptr); }
		void hand_over(const seat &to) { _lwp_park(CLOCK_MONOTONIC, 0, nullptr, to.lid_, nullptr, nullptr); }

	private:
		lwpid_t lid_ = 0;
	};
	static constexpr std::pair<std::string_view, const char *> notes[] = {{"park", "unpark and park are one call"}};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
