// SPDX-License-Identifier: BSD-2-Clause
//
// Boost.Context alone, the floor: fibers that resume each other in a ring, and nothing that would schedule them.
// yield: one resume.  create_join: make one, resume it, let it end.  memory: `threads` that have run and are suspended.
#include "../program.h"

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

namespace {

namespace ctx = boost::context;
using peers::check;
using peers::job;

ctx::pooled_fixedsize_stack &pool() {
	static ctx::pooled_fixedsize_stack stacks(peers::stack_size);
	return stacks;
}

// Member i holds the context of the i-th member while that does not run.  Each resumes the next, so whoever is resumed gets its predecessor's.
struct ring {
	std::vector<ctx::fiber> members;
	std::size_t now = 0;
	std::int64_t left = 0;  // yields still to do

	void yield(std::size_t me) {
		const std::size_t next = me + 1 == members.size() ? 0 : me + 1;
		const std::size_t previous = me == 0 ? members.size() - 1 : me - 1;
		ctx::fiber from = std::move(members[next]).resume();
		members[previous] = std::move(from);
	}
};

void yield(const job &j) {
	ring all;
	all.members.resize(j.threads);
	all.left = j.ops;
	bool over = false;
	for (std::size_t i = 1; i < j.threads; ++i) {
		all.members[i] = ctx::fiber(std::allocator_arg, pool(), [&all, &over, i](ctx::fiber &&from) {
			all.members[i - 1] = std::move(from);
			while (!over) {
				all.yield(i);
			}
			return std::move(all.members[i + 1 == all.members.size() ? 0 : i + 1]);
		});
	}
	all.yield(0);  // all have begun
	const std::int64_t rounds = j.ops / static_cast<std::int64_t>(j.threads);
	check(rounds > 0, "fewer operations than threads");
	const peers::stopwatch time;
	for (std::int64_t i = 0; i < rounds; ++i) {
		all.yield(0);
	}
	time.say(rounds * static_cast<std::int64_t>(j.threads));
	over = true;
	all.members[1] = std::move(all.members[1]).resume();  // each ends into the next; the last comes back here
}

void create_join(const job &j) {
	std::int64_t lived = 0;
	const peers::stopwatch time;
	for (std::int64_t i = 0; i < j.ops; ++i) {
		ctx::fiber one(std::allocator_arg, pool(), [&lived](ctx::fiber &&back) {
			++lived;
			return std::move(back);
		});
		one = std::move(one).resume();
	}
	time.say(j.ops);
	check(lived == j.ops, "not every fiber ran");
}

void memory(const job &j) {
	std::vector<ctx::fiber> all(j.threads);
	const double before = peers::resident();
	const peers::stopwatch time;
	for (ctx::fiber &one : all) {
		one = ctx::fiber(std::allocator_arg, ctx::fixedsize_stack(peers::stack_size), [](ctx::fiber &&back) {
			back = std::move(back).resume();
			return std::move(back);
		});
		one = std::move(one).resume();
	}
	const auto count = static_cast<double>(j.threads);
	peers::say("bytes_per_thread", (peers::resident() - before) / count, "B");
	peers::say("create_ns", 1e9 * time.wall() / count, "ns");
	for (ctx::fiber &one : all) {
		one = std::move(one).resume();
	}
	peers::say("seconds", time.wall(), "s");
}

constexpr peers::row table[] = {{"yield", yield, nullptr}, {"create_join", create_join, nullptr}, {"memory", memory, nullptr}};

}  // namespace

int main(int argc, char **argv) {
	if (argc < 3) {
		std::printf("workers 1\n");
		for (const peers::row &r : table) {
			std::printf("row %s\n", r.name);
		}
		std::printf("note memory suspended, no guard pages\nlacks * contexts alone, no scheduler\n");
		return 0;
	}
	const job j = peers::parse(argc, argv);
	for (const peers::row &r : table) {
		if (std::string_view(argv[2]) == r.name) {
			r.run(j);
			return 0;
		}
	}
	peers::fail("contexts alone, no scheduler");
}
