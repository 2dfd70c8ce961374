// SPDX-License-Identifier: BSD-2-Clause
//
// cp: copies files, and directories with all that is in them, with many LWPs at once: each takes the next block, of whatever file, from a channel.  Shows
// how far it is while it copies.  A file that could not be copied whole is named, and the exit status is 1; others are copied all the same.
#include "options.hpp"

#include <lwp/io.hpp>
#include <lwp/lwp.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t block = 256 * 1024;

/// A file on its way; the last block of it that is done closes it.
struct copy {
	lwp::file in, out;
	std::string path;
};

struct piece {
	std::shared_ptr<copy> file;
	std::int64_t begin = 0;
	std::size_t size = 0;
};

class job {
public:
	explicit job(unsigned workers) {
		for (unsigned i = 0; i < workers; i++) {
			workers_.start({.name = "copier"}, [this] {
				const auto buffer = std::make_unique_for_overwrite<char[]>(block);
				for (const piece &p : pieces_) {
					copy_piece(p, buffer.get());
				}
			});
		}
	}

	void add(const fs::path &from, const fs::path &to) {
		std::error_code error;
		if (!fs::is_directory(from, error)) {
			return add_file(from, to);
		}
		fs::create_directories(to, error);
		if (error) {
			return failed(to, error);
		}
		for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
			add(it->path(), to / it->path().filename());
		}
		if (error) {
			failed(from, error);
		}
	}

	void finish() {
		pieces_.close();
		workers_.join();
	}

	std::atomic<std::uint64_t> known{0}, done{0};  // bytes
	std::atomic<unsigned> files{0}, failures{0};

private:
	void failed(const fs::path &what, const std::error_code &error) {
		failures++;
		std::fprintf(stderr, "cp: %s: %s\n", what.c_str(), error.message().c_str());
	}

	void add_file(const fs::path &from, const fs::path &to) {
		struct stat status {
		}, other{};
		std::error_code error;
		lwp::file in(from.string(), {}, error);
		if (error) {
			return failed(from, error);
		}
		if (fstat(in.native_handle(), &status) != 0 || !S_ISREG(status.st_mode) ||
		    (stat(to.c_str(), &other) == 0 && other.st_ino == status.st_ino && other.st_dev == status.st_dev)) {
			return failed(from, std::make_error_code(std::errc::invalid_argument));  // no regular file, or the same one
		}
		lwp::file out(to.string(), {.read = false, .create = true, .truncate = true, .permissions = status.st_mode & 07777}, error);
		if (error) {
			return failed(to, error);
		}
		const auto file = std::shared_ptr<copy>(new copy{std::move(in), std::move(out), from.string()});
		files++;
		known += static_cast<std::uint64_t>(status.st_size);
		for (std::int64_t at = 0; at < status.st_size; at += static_cast<std::int64_t>(block)) {
			(void)pieces_.send(piece{file, at, std::min(block, static_cast<std::size_t>(status.st_size - at))});
		}
	}

	void copy_piece(const piece &p, char *buffer) {
		std::error_code error;
		const std::size_t n = p.file->in.read_exactly_at(p.begin, {buffer, p.size}, error);
		if (!error) {
			p.file->out.write_all_at(p.begin, {buffer, n}, error);
		}
		if (error) {
			return failed(p.file->path, error);  // also when it has become shorter
		}
		done += n;
	}

	lwp::channel<piece> pieces_{64};
	lwp::scope workers_;  // last: it ends before what it uses
};

void show(const job &j, bool last) {
	constexpr int width = 40;
	const std::uint64_t known = std::max<std::uint64_t>(j.known, 1), done = std::min(j.done.load(), known);
	const auto filled = static_cast<int>(done * width / known);
	std::fprintf(stderr, "\r[%.*s%*s] %3d %%  %llu of %llu MiB, %u files%s", filled, "########################################",
	    width - filled, "", static_cast<int>(done * 100 / known), static_cast<unsigned long long>(done >> 20),
	    static_cast<unsigned long long>(known >> 20), j.files.load(), last ? "\n" : "");
}

}  // namespace

int main(int argc, char **argv) {
	unsigned workers = 16;
	bool progress = isatty(STDERR_FILENO) == 1;
	serve::options options("cp", "[OPTIONS] SOURCE... DESTINATION",
	    "Copies files and directories, many blocks at once.  With several sources, or one that is a directory to one that is there, the "
	    "destination is "
	    "a\ndirectory that the copies go into.");
	options.add("workers", "N", "LWPs that copy", &workers);
	options.add("progress", nullptr, "show a bar, terminal or not", &progress);
	int status = 0;
	if (!options.parse(argc, argv, &status)) {
		return status;
	}
	if (options.rest().size() < 2 || workers < 1 || workers > 1024) {
		options.help(stderr);
		return 2;
	}
	try {
		const fs::path to = options.rest().back();
		const bool into = fs::is_directory(to);
		if (options.rest().size() > 2 && !into) {
			std::fprintf(stderr, "cp: %s is no directory\n", to.c_str());
			return 2;
		}
		job j(workers);
		lwp::jthread bar;
		if (progress) {
			bar = lwp::jthread({.name = "progress"}, [&j](const std::stop_token &stop) {
				while (lwp::this_thread::sleep_for(100ms, stop)) {
					show(j, false);
				}
				show(j, true);
			});
		}
		for (std::size_t i = 0; i + 1 < options.rest().size(); i++) {
			const fs::path from = options.rest()[i];
			j.add(from, into ? to / (from.has_filename() ? from : from.parent_path()).filename() : to);
		}
		j.finish();
		return j.failures == 0 ? 0 : 1;
	} catch (const std::exception &e) {
		std::fprintf(stderr, "cp: %s\n", e.what());
		return 1;
	}
}
