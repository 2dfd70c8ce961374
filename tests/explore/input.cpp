// SPDX-License-Identifier: BSD-2-Clause
#include "explore/input.h"

#include <algorithm>
#include <cstdio>
#include <sys/mman.h>
#include <sys/socket.h>

namespace lwp::explore {
namespace {

constexpr unsigned short_gaps = 192;  // from there on a byte stands for 16 times as many points
constexpr unsigned long_gap = 16;

/// The clock, and the buffers if there are any, as well as the kthreads: the byte's low values are these.
unsigned actor_of(std::uint8_t byte, unsigned kthreads, bool delays) noexcept {
	const unsigned a = byte % (kthreads + 1 + (delays ? kthreads : 0));
	return a < kthreads ? a : a == kthreads ? clock_actor : buffer_actor + (a - kthreads - 1);
}

const scenario &scenario_of(std::uint32_t number) noexcept {
	const auto distance = [number](const scenario &s) { return (s.number - number) % scenario_numbers; };
	const auto &list = scenarios();
	return *std::min_element(
	    list.begin(), list.end(), [&distance](const scenario &a, const scenario &b) { return distance(a) < distance(b); });
}

}  // namespace

input decode(const std::uint8_t *data, std::size_t size) {
	std::uint8_t head[4] = {};
	std::copy_n(data, std::min(size, sizeof(head)), head);
	const std::uint32_t number = std::uint32_t{head[0]} << 16 | std::uint32_t{head[1]} << 8 | head[2];
	const scenario &s = scenario_of(number);
	input in{&s, {}};
	in.plan.seed = s.number;
	in.plan.delays = s.delays && (head[3] & 1) != 0;
	unsigned at = 0;
	for (std::size_t i = sizeof(head); i + 1 < size; i += 2) {
		at += 1 + (data[i] < short_gaps ? data[i] : short_gaps + (data[i] - short_gaps) * long_gap);
		in.plan.preempted.push_back({at, actor_of(data[i + 1], s.kthreads, in.plan.delays)});
	}
	return in;
}

int serve(int socket, int memory, void (*report)(const scenario &, const schedule &)) {
	void *seen = ::mmap(nullptr, seen_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (seen == MAP_FAILED) {
		std::perror("explore: mmap");
		return 2;
	}
	std::vector<std::uint8_t> data(input_most);
	for (;;) {
		const ssize_t size = ::recv(socket, data.data(), data.size(), 0);
		if (size <= 0) {
			return size == 0 ? 0 : 2;
		}
		input in = decode(data.data(), static_cast<std::size_t>(size));
		in.plan.seen = static_cast<std::uint8_t *>(seen);
		const std::uint8_t failed = run(setup_of(*in.what), in.plan).failed ? 1 : 0;
		if (failed != 0) {
			in.plan.seen = nullptr;
			report(*in.what, in.plan);
			std::fflush(stdout);
		}
		if (::send(socket, &failed, 1, MSG_NOSIGNAL) != 1) {
			return 2;
		}
	}
}

}  // namespace lwp::explore
