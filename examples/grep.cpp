// SPDX-License-Identifier: BSD-2-Clause
//
// Searches a string in files and directory trees, an LWP for each file and a bounded number of them at a time; prints like
// grep -n, ordered by file.  In this version of the library reading a file blocks its vCPU; with the io calls of a later one it will
// block only the LWP, and nothing here has to change but the read.
#include <lwp/lwp.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace fs = std::filesystem;

namespace {

struct search {
	explicit search(std::string p) : path(std::move(p)) {}
	std::string path;
	std::string output;
	bool readable = false;
	std::atomic<bool> done{false};
};

void search_file(search &s, std::string_view pattern) {
	std::ifstream in(s.path);
	std::string line;
	for (std::size_t number = 1; std::getline(in, line); ++number) {
		if (line.find(pattern) != line.npos) {
			s.output += s.path + ":" + std::to_string(number) + ":" + line + "\n";
		}
	}
	s.readable = in.is_open() && !in.bad();
}

// The regular files under `root`, symbolic links not followed, or `root` itself.
int find_files(const char *root, std::vector<std::string> &files) {
	std::error_code error;
	if (!fs::is_directory(root, error)) {
		files.emplace_back(root);
		return 0;
	}
	auto walk = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, error);
	for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
		std::error_code unknown;
		if (!walk->is_symlink(unknown) && walk->is_regular_file(unknown)) {
			files.push_back(walk->path().string());
		}
	}
	if (error) {
		std::fprintf(stderr, "grep: %s: %s\n", root, error.message().c_str());
	}
	return error ? 2 : 0;
}

// Prints what one search found, and folds it into the exit status: bit 0 nothing found so far, bit 1 trouble.
void print(const search &s, int &status) {
	std::fwrite(s.output.data(), 1, s.output.size(), stdout);
	if (!s.output.empty()) {
		status &= ~1;
	}
	if (!s.readable) {
		std::fprintf(stderr, "grep: %s: cannot be read\n", s.path.c_str());
		status |= 2;
	}
}

int grep(std::string_view pattern, const std::vector<std::string> &files, unsigned jobs) {
	std::deque<search> searches;  // those not printed yet
	std::atomic<unsigned> running{0};
	int status = 1;
	const lwpid_t boss = _lwp_self();
	auto wait_below = [&](unsigned limit) {
		while (running.load() >= limit) {
			_lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr);
		}
		for (; !searches.empty() && searches.front().done.load(); searches.pop_front()) {
			print(searches.front(), status);
		}
	};
	for (const std::string &file : files) {
		wait_below(jobs);
		search &s = searches.emplace_back(file);
		running.fetch_add(1);
		lwp::thread({.name = "grep", .detached = true}, [&s, &running, pattern, boss] {
			search_file(s, pattern);
			s.done.store(true);
			running.fetch_sub(1);  // from here on the boss may be gone, and all that we refer to
			_lwp_unpark(boss, nullptr);
		});
	}
	wait_below(1);
	return status;
}

int usage(std::FILE *out) {
	std::fputs("usage: grep [-j JOBS] [-e] STRING [FILE|DIRECTORY]...\n"
	           "Searches STRING in the files, JOBS (16) at a time; no FILE means the working directory.  Exits as grep does: 0, 1, 2.\n",
	    out);
	return out == stdout ? 0 : 2;
}

}  // namespace

int main(int argc, char **argv) {
	unsigned jobs = 16;
	const char *pattern = nullptr;
	std::vector<const char *> roots;
	for (int i = 1; i < argc; ++i) {
		const bool more = i + 1 < argc;
		if (std::strcmp(argv[i], "--help") == 0) {
			return usage(stdout);
		} else if (std::strcmp(argv[i], "-j") == 0 && more) {
			jobs = static_cast<unsigned>(std::max(1, std::atoi(argv[++i])));
		} else if (std::strcmp(argv[i], "-e") == 0 && more && pattern == nullptr) {
			pattern = argv[++i];
		} else if (pattern == nullptr) {
			pattern = argv[i];
		} else {
			roots.push_back(argv[i]);
		}
	}
	if (pattern == nullptr) {
		return usage(stderr);
	}
	try {
		int trouble = 0;
		std::vector<std::string> files;
		for (const char *root : roots.empty() ? std::vector<const char *>{"."} : roots) {
			trouble |= find_files(root, files);
		}
		std::sort(files.begin(), files.end());
		const int status = grep(pattern, files, jobs) | trouble;
		return status >= 2 ? 2 : status;
	} catch (const std::exception &e) {
		std::fprintf(stderr, "grep: %s\n", e.what());
		return 2;
	}
}
