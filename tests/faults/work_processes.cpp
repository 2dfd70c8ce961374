// SPDX-License-Identifier: BSD-2-Clause
//
// Child processes.
#include "faults/common.h"

#include <chrono>
#include <csignal>
#include <cstring>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace lwp::faults {

using namespace std::chrono_literals;

void work_processes() {
	on_runtime(2, [] {
		attempt([] {
			process p({"/bin/cat"}, {.in = stdio::pipe(), .out = stdio::pipe(), .error = stdio::null()});
			std::error_code error;
			const bool sent = p.standard_input().write_all("hello", error, within(long_enough)) == 5;
			CHECK(sent);
			p.standard_input().close(error);
			char text[8];
			const std::size_t n = p.standard_output().read_exactly(mutable_bytes(text, 5), error, within(long_enough));
			CHECK(n == 5 && std::memcmp(text, "hello", 5) == 0);
			const exit_status how = p.wait(error, within(long_enough));
			CHECK(!error && how.code() == 0);
			MUST(error || how.exited());
		});
		// One that runs on is killed and collected.  (If it could not be killed it would be waited for.)
		attempt([] {
			process p({"/bin/sleep", "3"}, {.out = stdio::null(), .error = stdio::to_out(), .new_group = true});
			std::error_code error;
			(void)p.wait(error, within(300us));
			CHECK(error == std::errc::timed_out);
			p.kill(SIGTERM, error);
			CHECK(!error);
			if (!error) {
				const exit_status how = p.wait(error, within(long_enough));
				CHECK(how.signal() == SIGTERM);
			}
		});
		attempt([] { process p({"/bin/sleep", "3"}); });
		attempt([] {
			process p({"/bin/true"});
			p.detach();
		});
		attempt([] {
			std::error_code error;
			process p({"/bin/there-is-no-such-program"}, {.out = stdio::pipe()}, error);
			CHECK(error == std::errc::no_such_file_or_directory);
		});
		const pid_t pid = ::fork();
		if (pid == 0) {
			::_exit(5);
		}
		int status = 0;
		if (lwp_waitpid(pid, &status, 0) != pid) {
			REFUSED("a child is waited for");
			MUST(::waitpid(pid, &status, 0) == pid);
		}
		MUST(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	});
}

}  // namespace lwp::faults
