// SPDX-License-Identifier: BSD-2-Clause
//
// Who accepts beside many others that run: a turn in proportion to them, so that those who come wait for some rounds, not for one each.
// vcpus: 1
#include "io_support.h"

#include "../support/support.h"

#include <lwp/net.hpp>
#include <lwp/thread.hpp>

#include <atomic>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

/// How often each of `busy` LWPs that yield has run while `clients` connections, which are there already, are accepted.
std::size_t rounds_of_the_busy(std::size_t busy, std::size_t clients) {
	lwp::tcp_listener listener(lwp::endpoint("127.0.0.1", 0));
	std::vector<lwp::tcp_stream> ours, theirs;
	for (std::size_t i = 0; i < clients; i++) {
		ours.push_back(lwp::tcp_stream::connect(listener.local_endpoint()));
	}
	std::atomic<bool> over{false};
	std::size_t rounds = 0;
	std::vector<lwp::thread> others;
	for (std::size_t i = 0; i < busy; i++) {
		others.emplace_back([&, i] {
			while (!over) {
				rounds += i == 0;
				lwp::this_thread::yield();
			}
		});
	}
	while (rounds < 2) {
		lwp::this_thread::yield();  // all of them have begun
	}
	const std::size_t before = rounds;
	for (std::size_t i = 0; i < clients; i++) {
		theirs.push_back(listener.accept());
	}
	const std::size_t took = rounds - before;
	over = true;
	for (lwp::thread &t : others) {
		t.join();
	}
	return took;
}

}  // namespace

TEST(Accept, AmongManyThatRunItTakesSeveralInATurn) {
	constexpr std::size_t clients = 128;
	EXPECT_LT(rounds_of_the_busy(600, clients), clients / 2);
}

// The same turn is over some time: those that run are not kept waiting until the last of a long row has been accepted.
TEST(Accept, ItsTurnEnds) { EXPECT_GT(rounds_of_the_busy(64, 400), 4U) << "400 system calls are more than four turns of 32 us"; }
