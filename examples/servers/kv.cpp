// SPDX-License-Identifier: BSD-2-Clause
//
// Keys and values in memory, for clients of Redis (RESP2): redis-cli, redis-benchmark and the usual libraries.  One LWP for each connection; keys that
// expire are taken out by LWPs that sleep until then.  The commands are in commands.hpp.
// A connection's memory is bounded: by --max-request while one is read, and by one reply beyond 64 KiB while they are written.
#include "commands.hpp"
#include "serve.hpp"

#include <cstring>
#include <memory>

namespace {

constexpr std::size_t first_buffer = 1024;   // on the stack
constexpr std::size_t flush_at = 64 * 1024;  // replies that are sent together

/// What came and was not understood yet; a buffer on the stack while that is little.
class input {
public:
	[[nodiscard]] std::string_view text() const { return {data() + first_, last_ - first_}; }
	void keep_only(std::string_view rest) {
		first_ = last_ - rest.size();
		if (first_ == last_) {
			first_ = last_ = 0;
			if (size_ > flush_at) {  // one large request need not cost its connection memory for ever
				more_.reset();
				size_ = first_buffer;
			}
		}
	}
	/// Room at the end; what there is moves or grows if need be.
	std::pair<char *, std::size_t> room() {
		if (first_ != 0) {
			std::memmove(data(), data() + first_, last_ - first_);
			last_ -= first_;
			first_ = 0;
		}
		if (last_ == size_ || (filled_ && size_ < flush_at)) {
			auto larger = std::make_unique_for_overwrite<char[]>(size_ * 4);
			std::memcpy(larger.get(), data(), last_);
			more_ = std::move(larger);
			size_ *= 4;
			filled_ = false;
		}
		return {data() + last_, size_ - last_};
	}
	/// A client that fills the room has more to say: it would have to be read, and answered, in pieces.
	void came(std::size_t n) {
		last_ += n;
		filled_ = last_ == size_;
	}

private:
	[[nodiscard]] const char *data() const { return more_ != nullptr ? more_.get() : small_; }
	char *data() { return more_ != nullptr ? more_.get() : small_; }
	char small_[first_buffer];
	std::unique_ptr<char[]> more_;
	std::size_t size_ = first_buffer, first_ = 0, last_ = 0;
	bool filled_ = false;
};

void talk(serve::server &server, kv::store &all, const resp::limits &limits, serve::connection &c) {
	input in;
	resp::reader reader(limits);
	resp::words words;
	std::string out;
	serve::time_point late = serve::never;  // when the request that has begun must be there
	bool quit = false;
	for (;;) {
		std::string_view text = in.text();
		resp::outcome what = resp::outcome::incomplete;
		while (!quit && (what = reader.take(text, words)) == resp::outcome::request) {
			late = serve::never;
			if (!words.empty()) {
				kv::execute({all, words, out, server.clients(), quit});
			}
			if (out.size() >= flush_at) {
				if (!c.write(std::exchange(out, {}))) {
					return;
				}
			}
		}
		if (!quit && what == resp::outcome::error) {
			resp::error(out, std::string("ERR Protocol error: ") + reader.error());
			quit = true;
		}
		in.keep_only(text);
		if (!out.empty() && !c.write(out)) {
			return;
		}
		out.clear();
		if (quit) {
			c.linger();
			return;
		}
		if (!text.empty() && late == serve::never) {
			late = serve::after(server.limits().timeout);
		}
		const auto [room, size] = in.room();
		std::error_code error;
		const std::size_t n = text.empty() ? c.read_next({room, size}, error) : c.read_rest({room, size}, error, late);
		if (n == 0) {
			return;
		}
		in.came(n);
	}
}

}  // namespace

int main(int argc, char **argv) {
	serve::settings settings;
	unsigned most_request = 1 << 20, most_memory = 0;
	serve::options options("kv", "[OPTIONS]", "Keys and values in memory, for clients of Redis, with one LWP for each connection.");
	options.add("max-request", "BYTES", "longest request, so longest value", &most_request);
	options.add("max-memory", "MIB", "for keys and values, about; 0: no limit", &most_memory);
	settings.add_to(options);
	settings.idle = 3600;
	int status = 0;
	if (!options.parse(argc, argv, &status)) {
		return status;
	}
	try {
		serve::server server(settings);
		kv::store all(std::size_t{most_memory} << 20);
		return server.run([&](serve::connection &c) { talk(server, all, {.request = most_request}, c); });
	} catch (const std::exception &e) {
		std::fprintf(stderr, "kv: %s\n", e.what());
		return 1;
	}
}
