// SPDX-License-Identifier: BSD-2-Clause
//
// Schedules of the scenarios of tests/explore: the input says which scenario, and who goes on when (explore/input.h).  The explorer runs in a process of its own, for it puts
// all memory of its program back before each schedule: an input goes there as one message, and one byte comes back.  It counts in shared memory which places of the code were
// come by, and which came after which of another LWP (explore/engine.h); these are libFuzzer's counters, so it keeps each input that does something new and goes on from there.
//
// On a failure the explorer says on standard output what it says of all that fail: the schedule in columns and the command that repeats it.  The program is the one that
// the build has made; LWP_EXPLORE names another, as one with a mutant in it (tests/mutants/run.py --fuzz).
#include "fuzz.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr std::size_t seen_bytes = 128 * 1024;  // as explore/engine.h has it
constexpr std::size_t page = 4096;

// Shared memory is put in its place.
__attribute__((section("__libfuzzer_extra_counters"), aligned(page))) std::uint8_t seen[seen_bytes];

[[noreturn]] void broken(const char *what) {
	std::perror(what);
	std::abort();
}

int begin() {
	const char *program = std::getenv("LWP_EXPLORE");
	if (program == nullptr) {
		program = LWP_EXPLORE_PROGRAM;
	}
	const int memory = ::memfd_create("seen", 0);
	if (memory < 0 || ::ftruncate(memory, seen_bytes) != 0 ||
	    ::mmap(seen, seen_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, 0) == MAP_FAILED) {
		broken("shared memory");
	}
	int pair[2];
	if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) {
		broken("socketpair");
	}
	const pid_t pid = ::fork();
	if (pid < 0) {
		broken("fork");
	}
	if (pid == 0) {
		::prctl(PR_SET_PDEATHSIG, SIGKILL);  // also if it is in a loop without end
		::close(pair[0]);
		::execl(program, program, "--serve", std::to_string(pair[1]).c_str(), std::to_string(memory).c_str(), nullptr);
		std::perror(program);
		std::_Exit(2);
	}
	::close(pair[1]);
	::close(memory);
	return pair[0];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	static const int explorer = begin();
	if (size == 0) {
		return 0;  // no message
	}
	if (::send(explorer, data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) {
		broken("the explorer cannot be told");
	}
	std::uint8_t failed = 0;
	ssize_t n = 0;
	while ((n = ::recv(explorer, &failed, 1, 0)) < 0 && errno == EINTR) {
	}
	if (n != 1) {
		std::fputs("the explorer itself ended\n", stderr);
		std::abort();
	}
	fuzz::require(failed == 0);
	return 0;
}
