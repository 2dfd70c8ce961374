// SPDX-License-Identifier: BSD-2-Clause
//
// A peer's program is a face (work.h) and a main() that calls peers::main<face>().
//
//   PROGRAM list              what it can do, a line each: "row NAME", "lacks NAME why", "note NAME what", "workers N" (the most it can use)
//   PROGRAM run ROW key=N...  does it, checks it, prints "name value unit" lines; exit status 1 and a reason on stderr if it did not do it
//
// keys: workers, ops, threads, storm (threads that only yield meanwhile), burst (microseconds that these compute between yields), capacity, hold,
// samples=FILE (every latency, as raw 64-bit ns)
#pragma once

#include "work.h"

#include <string_view>

namespace peers {

/// What the face says about how it does a row; null: nothing.
template <class P>
const char *note_of(std::string_view row) {
	if constexpr (requires { P::notes; }) {
		for (const auto &[name, text] : P::notes) {
			if (name == row) {
				return text;
			}
		}
	}
	return nullptr;
}

struct row {
	const char *name;
	void (*run)(const job &);  // null: the peer lacks it
	const char *lacks;
};

template <class P>
std::vector<row> rows() {
	constexpr bool has_thread = requires { typename P::thread; };
	constexpr bool has_semaphore = with_semaphore<P>;
	constexpr bool has_mutex = requires { typename P::mutex; };
	constexpr bool has_condition = requires { typename P::condition; };
	constexpr bool has_seat = requires { typename P::seat; };
	constexpr bool has_gate = has_semaphore || has_seat;
	constexpr bool has_rendezvous = requires { typename P::template channel<true>; };
	constexpr bool has_buffer = requires { typename P::template channel<false>; };

	std::vector<row> all;
	const auto add = [&]<bool has>(const char *name, const char *lacks, auto pick) {
		if constexpr (has) {
			all.push_back({name, pick(), nullptr});
		} else {
			all.push_back({name, nullptr, lacks});
		}
	};
	// Each is picked by a generic lambda, whose body is not compiled for a peer that lacks it.
#define PEERS_ROW(name, has, lacks, ...) \
	add.template operator()<(has)>(      \
	    name, lacks, []<class Q = P>()->void (*)(const job &) { return __VA_ARGS__; })
	PEERS_ROW("yield", has_thread, "has no threads", yield<Q>);
	PEERS_ROW("park", has_seat, "has no park and unpark", park<Q>);
	PEERS_ROW("semaphore", has_semaphore, "has no semaphore", semaphore<Q>);
	PEERS_ROW("condvar", has_condition, "has no condition variable", condvar<Q>);
	PEERS_ROW("channel_rendezvous", has_rendezvous, "has no channel without a buffer", channel<Q, true>);
	PEERS_ROW("channel_buffered", has_buffer, "has no channel", channel<Q, false>);
	PEERS_ROW("create_join", has_thread, "has no threads", create_join<Q>);
	PEERS_ROW("create_detached", has_thread, "has no threads", create_detached<Q>);
	PEERS_ROW("skynet", has_thread, "has no threads", skynet<Q>);
	PEERS_ROW("mutex_alone", has_mutex, "has no mutex", mutex_alone<Q>);
	PEERS_ROW("mutex", has_mutex, "has no mutex", mutex<Q>);
	PEERS_ROW("memory", has_gate, "has nothing to block on", memory<Q>);
	PEERS_ROW("sleepers", has_thread, "has no sleep", sleepers<Q>);
	PEERS_ROW("handover_latency", has_gate, "has nothing to block on", handover_latency<Q>);
	PEERS_ROW("wake_latency", has_gate, "has nothing to block on", wake_latency<Q>);
	PEERS_ROW("timer_latency", has_thread, "has no sleep", timer_latency<Q>);
#undef PEERS_ROW
	return all;
}

/// Reads "key=value" words.  A key that no row knows has no effect.
inline job parse(int argc, char **argv) {
	job j;
	for (int i = 3; i < argc; ++i) {
		const std::string word = argv[i];
		const std::size_t equals = word.find('=');
		check(equals != std::string::npos, "usage: list | run ROW key=value...");
		const std::string key = word.substr(0, equals);
		const std::string value = word.substr(equals + 1);
		const auto number = static_cast<std::uint64_t>(std::strtoull(value.c_str(), nullptr, 10));
		if (key == "samples") {
			j.samples = value;
		} else if (key == "workers") {
			j.workers = static_cast<unsigned>(number);
		} else if (key == "ops") {
			j.ops = static_cast<std::int64_t>(number);
		} else if (key == "threads") {
			j.threads = number;
		} else if (key == "storm") {
			j.storm = number;
		} else if (key == "burst") {
			j.burst = std::chrono::microseconds(number);
		} else if (key == "capacity") {
			j.capacity = number;
		} else if (key == "hold") {
			j.hold = static_cast<std::int64_t>(number);
		}
	}
	return j;
}

template <class P>
int list() {
	std::printf("workers %u\n", P::workers_most);
	for (const row &r : rows<P>()) {
		if (r.run == nullptr) {
			std::printf("lacks %s %s\n", r.name, r.lacks);
			continue;
		}
		std::printf("row %s\n", r.name);
		if (const char *note = note_of<P>(r.name)) {
			std::printf("note %s %s\n", r.name, note);
		}
	}
	return 0;
}

template <class P>
int main(int argc, char **argv) {
	const std::string_view verb = argc > 1 ? argv[1] : "list";
	if (verb != "run" || argc < 3) {
		return list<P>();
	}
	const job j = parse(argc, argv);
	check(j.workers >= 1 && j.workers <= P::workers_most, "it does not use so many kernel threads");
	for (const row &r : rows<P>()) {
		if (std::string_view(argv[2]) == r.name) {
			check(r.run != nullptr, r.lacks);
			if constexpr (requires { P::before(std::string_view(), 1U); }) {  // a face that does a row in its own way
				P::before(argv[2], j.workers);
			}
			P::run(j.workers, [&] { r.run(j); });
			std::fflush(stdout);
			return 0;
		}
	}
	fail("no such row");
}

}  // namespace peers
