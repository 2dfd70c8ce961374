// SPDX-License-Identifier: BSD-2-Clause
//
// Counts the words of many files with a pipeline: one LWP walks the directories, several read and count, one adds up.  Channels of small
// capacity lie between them, so no stage runs far ahead of the next; closing one tells those behind it that nothing more comes.  A ticker says
// now and then how far it is, and a deadline stops the whole.
#include <lwp/channel.hpp>
#include <lwp/lwp.hpp>
#include <lwp/select.hpp>
#include <lwp/ticker.hpp>

#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using counts = std::map<std::string, long>;

bool is_text(const fs::path &p) {
	const fs::path e = p.extension();
	return e == ".cpp" || e == ".hpp" || e == ".h" || e == ".c" || e == ".md" || e == ".txt";
}

void walk(const fs::path &root, lwp::channel<fs::path> &files, const std::stop_token &stop) {
	for (const auto &entry : fs::recursive_directory_iterator(root)) {
		if (entry.is_regular_file() && is_text(entry.path()) && !files.send(entry.path(), stop)) {
			break;
		}
	}
	files.close();
}

counts words_of(const fs::path &file) {
	counts words;
	std::ifstream in(file);
	std::string word;
	while (in >> word) {
		std::erase_if(word, [](unsigned char c) { return std::isalpha(c) == 0; });
		words[word]++;
	}
	return words;
}

void add(counts &to, const counts &from) {
	for (const auto &[word, n] : from) {
		to[word] += n;
	}
}

struct total {
	counts words;
	long files = 0;
	bool complete = false;
};

/// Adds up what comes until there is no more or the time is over; then asks the others to stop and drains what they still send.
total collect(lwp::channel<counts> &counted, std::chrono::seconds limit, std::stop_source &stop) {
	total sum;
	bool more = true;
	lwp::ticker every(500ms);
	auto deadline = lwp::after(limit);
	while (more) {
		lwp::select(lwp::on_receive(counted,
		                [&](std::optional<counts> c) {
			                sum.complete = !c;
			                more = c.has_value();
			                if (c) {
				                sum.files++;
				                add(sum.words, *c);
			                }
		                }),
		    lwp::on_receive(every, [&](auto) { std::fprintf(stderr, "pipeline: %ld files\n", sum.files); }),
		    lwp::on_receive(deadline, [&](auto) { more = false; }));
	}
	stop.request_stop();
	while (counted.receive()) {
	}
	return sum;
}

int pipeline(const fs::path &root, unsigned readers, std::chrono::seconds limit) {
	lwp::channel<fs::path> files(16);
	lwp::channel<counts> counted;
	std::stop_source stop;
	lwp::thread walker({.name = "walker", .stack_size = 256 * 1024}, [&] { walk(root, files, stop.get_token()); });
	std::vector<lwp::thread> workers;
	for (unsigned i = 0; i < readers; i++) {
		workers.emplace_back(lwp::attributes{.name = "reader", .stack_size = 256 * 1024}, [&] {
			for (const fs::path &file : files) {
				counted.send(words_of(file));
			}
		});
	}
	lwp::thread closer([&] {  // when the last reader is through nobody sends any more
		for (auto &w : workers) {
			w.join();
		}
		counted.close();
	});
	const total sum = collect(counted, limit, stop);
	walker.join();
	closer.join();

	// The same without LWPs, to check.
	total expected;
	for (const auto &entry : fs::recursive_directory_iterator(root)) {
		if (entry.is_regular_file() && is_text(entry.path())) {
			expected.files++;
			add(expected.words, words_of(entry.path()));
		}
	}
	const bool right = sum.complete && sum.files == expected.files && sum.words == expected.words;
	std::printf("pipeline: %ld files, %zu different words: %s\n", sum.files, sum.words.size(),
	    right              ? "as counted one by one"
	        : sum.complete ? "wrong"
	                       : "the time was over");
	return sum.complete && !right ? 1 : 0;
}

}  // namespace

int main(int argc, char **argv) {
	int readers = 8;
	const bool help = argc > 1 && std::strcmp(argv[1], "--help") == 0;
	if (argc == 3) {
		const char *end = argv[2] + std::strlen(argv[2]);
		const auto [stopped, error] = std::from_chars(argv[2], end, readers);
		readers = error == std::errc{} && stopped == end ? readers : 0;
	}
	if (help || argc < 2 || argc > 3 || readers < 1 || readers > 10000) {
		std::fputs("usage: pipeline DIRECTORY [READERS]\nCounts the words of the texts below DIRECTORY with READERS (8) LWPs.\n",
		    help ? stdout : stderr);
		return help ? 0 : 2;
	}
	try {
		return pipeline(argv[1], static_cast<unsigned>(readers), 60s);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "pipeline: %s\n", e.what());
		return 1;
	}
}
