// SPDX-License-Identifier: BSD-2-Clause
//
// Without libFuzzer: each file of the corpus, and simple mutations of it (bytes changed, removed, doubled; two files joined), the same in each run.
//     replay DIRECTORY [MUTATIONS]       prints the input that failed, if one does, in C's notation
#include "fuzz.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace {

std::string input;  // that is being tried

void print_input(int) {
	std::fputs("the input: \"", stderr);
	for (const char c : input) {
		std::fprintf(stderr, "\\%03o", static_cast<unsigned>(static_cast<unsigned char>(c)));
	}
	std::fputs("\"\n", stderr);
	std::signal(SIGABRT, SIG_DFL);
}

void try_input() {
	// A copy of exactly its size, so that a sanitizer sees what is read behind it.
	const std::vector<std::uint8_t> bytes(input.begin(), input.end());
	(void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::string mutated(std::mt19937 &dice, const std::vector<std::string> &corpus) {
	const auto below = [&dice](std::size_t n) { return n == 0 ? 0 : dice() % n; };
	std::string s = corpus[below(corpus.size())];
	for (unsigned changes = 1 + static_cast<unsigned>(below(4)); changes != 0; changes--) {
		const std::size_t at = below(s.size());
		switch (below(5)) {
		case 0:
			if (!s.empty()) {
				s[at] = static_cast<char>(dice());
			}
			break;
		case 1:
			s.erase(at, 1 + below(8));
			break;
		case 2:
			s.insert(at, s.substr(at, 1 + below(16)));
			break;
		case 3:
			s.insert(at, 1, "\r\n:*$%/0 "[below(9)]);
			break;
		default:
			s += corpus[below(corpus.size())];
			break;
		}
	}
	return s.substr(0, 8192);
}

}  // namespace

int main(int argc, char **argv) {
	if (argc < 2) {
		std::fputs("usage: replay DIRECTORY [MUTATIONS]\n", stderr);
		return 2;
	}
	std::vector<std::filesystem::path> paths;
	for (const auto &entry : std::filesystem::directory_iterator(argv[1])) {
		paths.push_back(entry.path());
	}
	std::sort(paths.begin(), paths.end());
	std::vector<std::string> corpus;
	for (const auto &path : paths) {
		std::ifstream file(path, std::ios::binary);
		corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
	}
	if (corpus.empty()) {
		std::fprintf(stderr, "nothing in %s\n", argv[1]);
		return 2;
	}
	std::signal(SIGABRT, print_input);
	for (const std::string &s : corpus) {
		input = s;
		try_input();
	}
	std::mt19937 dice(1);
	const unsigned long mutations = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 20'000;
	for (unsigned long i = 0; i < mutations; i++) {
		input = mutated(dice, corpus);
		try_input();
	}
	std::printf("%zu files, %lu mutations\n", corpus.size(), mutations);
	return 0;
}
