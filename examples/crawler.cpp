// SPDX-License-Identifier: BSD-2-Clause
//
// A crawler over a tree of files that it makes for itself under a temporary directory: one LWP for each directory and each file, all in one lwp::scope.
// First it counts the words of all files; then it looks for one word, and the first LWP that finds it stops the others; then it looks for a word
// that is nowhere, and the scope's deadline stops it.  All counts are known beforehand, so the program checks itself.
#include <lwp/scope.hpp>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

constexpr int words_in_a_file = 50;
constexpr int branches = 3;  // directories in a directory, and files

struct crawl {
	lwp::scope &scope;
	std::string wanted;          // "" counts only
	bool for_ever = false;       // begins again when it has read a file
	std::atomic<long> words{0};  // seen
	std::atomic<long> files{0};  // read to the end
	std::atomic<int> found{0};
};

void read_file(const std::stop_token &stop, crawl &c, const fs::path &path) {
	do {
		std::ifstream in(path);
		for (std::string word; in >> word;) {
			if (stop.stop_requested()) {
				return;
			}
			c.words.fetch_add(1, std::memory_order_relaxed);
			if (word == c.wanted) {
				c.found.fetch_add(1);
				c.scope.request_stop();
				return;
			}
		}
		c.files.fetch_add(1);
	} while (c.for_ever && lwp::this_thread::sleep_for(1ms, stop));
}

void walk(const std::stop_token &stop, crawl &c, const fs::path &directory) {
	for (const auto &entry : fs::directory_iterator(directory)) {
		if (stop.stop_requested()) {
			return;
		}
		// The frames of a file stream and a path are larger than the usual stack likes.
		c.scope.start({.name = "crawler", .stack_size = 128 * 1024}, entry.is_directory() ? walk : read_file, std::ref(c), entry.path());
	}
}

// Makes a tree of that depth; returns how many files it has.  The last file made is the one that says "needle".
long plant(const fs::path &directory, int depth, fs::path *last) {
	fs::create_directory(directory);
	long files = 0;
	for (int i = 0; i < branches; ++i) {
		*last = directory / ("file" + std::to_string(i));
		std::ofstream out(*last);
		for (int word = 0; word < words_in_a_file; ++word) {
			out << "word" << word << (word % 10 == 9 ? '\n' : ' ');
		}
		++files;
	}
	for (int i = 0; depth > 1 && i < branches; ++i) {
		files += plant(directory / ("directory" + std::to_string(i)), depth - 1, last);
	}
	return files;
}

int failed(const char *what) {
	std::fprintf(stderr, "crawler: %s\n", what);
	return 1;
}

int run(const fs::path &root, int depth) {
	fs::path last;
	const long files = plant(root, depth, &last);
	std::ofstream(last, std::ios::app) << "needle\n";
	{
		lwp::scope scope;
		crawl all{scope, ""};
		scope.start({.stack_size = 128 * 1024}, walk, std::ref(all), root);
		scope.join();
		std::printf("crawler: %ld words in %ld files\n", all.words.load(), all.files.load());
		if (all.words != files * words_in_a_file + 1 || all.files != files) {
			return failed("some words were not seen, or twice");
		}
	}
	{
		lwp::scope scope;
		crawl search{scope, "needle"};
		scope.start({.stack_size = 128 * 1024}, walk, std::ref(search), root);
		scope.join();
		std::printf("crawler: found the needle %d time\n", search.found.load());
		if (search.found != 1 || !scope.stop_requested()) {
			return failed("the needle was not found");
		}
	}
	{
		const auto begin = std::chrono::steady_clock::now();
		lwp::scope scope(100ms);
		crawl search{scope, "nowhere", true};
		scope.start({.stack_size = 128 * 1024}, walk, std::ref(search), root);
		scope.join();
		const bool early = std::chrono::steady_clock::now() - begin < 100ms;
		std::printf("crawler: gave up at the deadline, found %d\n", search.found.load());
		if (early || search.found != 0) {
			return failed("it gave up too early");
		}
	}
	return 0;
}

}  // namespace

int main(int argc, char **argv) {
	int depth = 4;
	const bool help = argc > 1 && std::strcmp(argv[1], "--help") == 0;
	const char *end = argc > 1 ? argv[1] + std::strlen(argv[1]) : nullptr;
	if (help || argc > 2 || (argc > 1 && std::from_chars(argv[1], end, depth).ptr != end) || depth < 1 || depth > 8) {
		std::fputs("usage: crawler [DEPTH]\nMakes a tree of files DEPTH (4, at most 8) directories deep, walks and searches it.\n",
		    help ? stdout : stderr);
		return help ? 0 : 2;
	}
	const fs::path root = fs::temp_directory_path() / ("lwp-crawler-" + std::to_string(getpid()));
	int status = 1;
	try {
		status = run(root, depth);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "crawler: %s\n", e.what());
	}
	std::error_code ignored;
	fs::remove_all(root, ignored);
	return status;
}
