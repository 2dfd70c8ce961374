// SPDX-License-Identifier: BSD-2-Clause
//
// lwp_read: random reads of 4 KiB by DEPTH LWPs on one vCPU, each of which reads, waits and reads again.
//
// Usage: lwp_read FILE DEPTH SECONDS [direct].  With direct the page cache is passed by (O_DIRECT).
// Prints "READS_PER_SECOND P50_US P99_US MAX_US".
#include "read.h"

#include <lwp/io.hpp>
#include <lwp/runtime.hpp>
#include <lwp/thread.hpp>

#include <memory>
#include <vector>

int main(int argc, char **argv) {
	subject s;
	if (!subject_open(&s, argc, argv)) {
		std::fputs("usage: lwp_read FILE DEPTH SECONDS [direct]\n", stderr);
		return 2;
	}
	const lwp::runtime runtime({.vcpus = 1});
	lwp::file file(s.fd);
	statistics st = statistics_begin(&s);
	std::vector<lwp::thread> all;
	for (unsigned i = 0; i < s.depth; i++) {
		all.emplace_back([&] {
			const std::unique_ptr<void, decltype(&std::free)> buffer(std::aligned_alloc(block, block), std::free);
			std::error_code error;
			for (std::uint64_t begin = now();; begin = now()) {
				const auto n = file.read_at(static_cast<std::int64_t>(somewhere(&s, &st.random)), {buffer.get(), block}, error);
				if (n != block) {
					die("read", error.value());
				}
				if (!statistics_count(&st, begin)) {
					return;
				}
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	statistics_print(&st, &s);
}
