// SPDX-License-Identifier: BSD-2-Clause
//
// Channels: what it costs to hand a value from one LWP to another, and to choose among channels.  peers/channel/main.go does the same in Go.
// unbuffered, buffered: one LWP sends, one receives; per value.  select/ready:8: one LWP, eight channels that all have a value; per value that
// is taken by a select and put back.  select/blocked: one LWP sends in turn on two channels, one selects over both; per value.
#include "bench.h"

#include <lwp/channel.hpp>
#include <lwp/lwp.hpp>
#include <lwp/select.hpp>

#include <array>

namespace bench {
namespace {

using ints = lwp::channel<std::int64_t>;

constexpr std::int64_t sum_below(std::int64_t n) { return n * (n - 1) / 2; }

void transfer(State &state, unsigned vcpus, std::size_t capacity, std::int64_t values) {
	lwp::runtime rt({.vcpus = vcpus});
	std::int64_t sum = 0;
	time_batch(state, values, [&] {
		ints ch(capacity);
		lwp::thread receiver([&] {
			for (const std::int64_t v : ch) {
				sum += v;
			}
		});
		lwp::thread sender([&] {
			for (std::int64_t i = 0; i < values; i++) {
				ch.send(i);
			}
			ch.close();
		});
		sender.join();
		receiver.join();
	});
	check(state, sum == sum_below(values), "a value was lost");
}

struct ready_channel : ints {
	ready_channel() : ints(1) {}
};

void select_ready(State &state, std::int64_t values) {
	lwp::runtime rt({.vcpus = 1});
	std::int64_t taken = 0;
	std::array<ready_channel, 8> ch;
	for (std::size_t i = 0; i < ch.size(); i++) {
		ch[i].send(static_cast<std::int64_t>(i));
	}
	time_batch(state, values, [&] {
		for (std::int64_t n = 0; n < values; n++) {
			const auto back = [&](std::optional<std::int64_t> v) {
				taken++;
				ch[static_cast<std::size_t>(*v)].send(*v);
			};
			lwp::select(lwp::on_receive(ch[0], back), lwp::on_receive(ch[1], back), lwp::on_receive(ch[2], back),
			    lwp::on_receive(ch[3], back), lwp::on_receive(ch[4], back), lwp::on_receive(ch[5], back), lwp::on_receive(ch[6], back),
			    lwp::on_receive(ch[7], back));
		}
	});
	check(state, taken == values, "a select took nothing");
}

void select_blocked(State &state, unsigned vcpus, std::int64_t values) {
	lwp::runtime rt({.vcpus = vcpus});
	std::int64_t sum = 0;
	time_batch(state, values, [&] {
		ints a;
		ints b;
		lwp::thread receiver([&] {
			const auto add = [&](std::optional<std::int64_t> v) { sum += *v; };
			for (std::int64_t n = 0; n < values; n++) {
				lwp::select(lwp::on_receive(a, add), lwp::on_receive(b, add));
			}
		});
		lwp::thread sender([&] {
			for (std::int64_t n = 0; n < values; n += 2) {
				a.send(1);
				b.send(1);
			}
		});
		sender.join();
		receiver.join();
	});
	check(state, sum == values, "a value was lost");
}

}  // namespace

void add_channel() {
	using benchmark::RegisterBenchmark;
	constexpr std::int64_t values = 4'000'000;
	RegisterBenchmark("BM_Channel/unbuffered/vcpus:1", transfer, 1U, 0U, values);
	RegisterBenchmark("BM_Channel/unbuffered/vcpus:2", transfer, 2U, 0U, values);
	RegisterBenchmark("BM_Channel/buffered:128/vcpus:1", transfer, 1U, 128U, values);
	RegisterBenchmark("BM_Channel/buffered:128/vcpus:2", transfer, 2U, 128U, values);
	RegisterBenchmark("BM_Select/ready:8", select_ready, values);
	RegisterBenchmark("BM_Select/blocked/vcpus:1", select_blocked, 1U, values);
	RegisterBenchmark("BM_Select/blocked/vcpus:2", select_blocked, 2U, values);
}

}  // namespace bench
