// SPDX-License-Identifier: BSD-2-Clause
#include "support/cases.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lwp::test {
namespace {

bool (*runner)(const char *name);

/// This environment with `changes` made to it.
std::vector<std::string> changed_environment(const std::vector<std::pair<const char *, const char *>> &changes) {
	std::vector<std::string> all;
	for (char **e = environ; *e != nullptr; e++) {
		bool keep = true;
		for (const auto &change : changes) {
			const std::size_t length = std::strlen(change.first);
			keep = keep && !(std::strncmp(*e, change.first, length) == 0 && (*e)[length] == '=');
		}
		if (keep) {
			all.emplace_back(*e);
		}
	}
	for (const auto &change : changes) {
		all.push_back(std::string(change.first) + '=' + change.second);
	}
	return all;
}

/// Everything up to the end of the file; silence for a minute ends the child.
std::string read_all(int from, pid_t child) {
	std::string text;
	pollfd ready{from, POLLIN, 0};
	char chunk[4096];
	for (;;) {
		if (::poll(&ready, 1, 60'000) == 0) {
			::kill(child, SIGKILL);
		}
		const ssize_t n = ::read(from, chunk, sizeof chunk);
		if (n <= 0) {
			return text;
		}
		text.append(chunk, static_cast<std::size_t>(n));
	}
}

}  // namespace

bool outcome::ended_well() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
bool outcome::aborted() const { return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT; }

std::size_t outcome::count(const std::string &part) const {
	std::size_t n = 0;
	for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
		n++;
	}
	return n;
}

running_case begin_case(const char *name, const std::vector<std::pair<const char *, const char *>> &environment) {
	int out[2];
	EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], 2);
	std::vector<std::string> variables = changed_environment(environment);
	std::vector<char *> envp;
	for (std::string &v : variables) {
		envp.push_back(v.data());
	}
	envp.push_back(nullptr);
	char self[] = "/proc/self/exe";
	char flag[] = "--case";
	std::string which = name;
	char *argv[] = {self, flag, which.data(), nullptr};
	pid_t pid = -1;
	EXPECT_EQ(::posix_spawn(&pid, self, &actions, nullptr, argv, envp.data()), 0);
	posix_spawn_file_actions_destroy(&actions);
	::close(out[1]);
	return {pid, out[0]};
}

outcome end_case(const running_case &c) {
	outcome o{};
	o.text = read_all(c.says, c.pid);
	::close(c.says);
	::waitpid(c.pid, &o.status, 0);
	return o;
}

outcome run_case(const char *name, const std::vector<std::pair<const char *, const char *>> &environment) {
	return end_case(begin_case(name, environment));
}

bool offer_cases(bool (*run)(const char *name)) {
	runner = run;
	return true;
}

bool ran_case(int argc, char **argv, int *status) {
	if (argc != 3 || std::strcmp(argv[1], "--case") != 0 || runner == nullptr) {
		return false;
	}
	*status = runner(argv[2]) ? 0 : 8;
	return true;
}

}  // namespace lwp::test
