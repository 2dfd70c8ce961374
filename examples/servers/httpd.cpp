// SPDX-License-Identifier: BSD-2-Clause
//
// A web server for HTTP/1.1, one LWP for each connection: keep-alive, pipelining, HEAD, static files with Last-Modified, limits and deadlines.
// Without --root every path is answered by one line of text.  With --tls-cert and --tls-key it speaks HTTPS.
#include "http.hpp"
#include "serve.hpp"
#if LWP_WITH_TLS
#include "secure.hpp"
#endif

#include <fcntl.h>
#include <span>
#include <sys/stat.h>

namespace {

constexpr std::string_view hello = "hello, world\n";
constexpr std::size_t piece = 64 * 1024;     // of a file, sent at once
constexpr std::size_t flush_at = 64 * 1024;  // answers to pipelined requests that are sent together
constexpr std::size_t first_buffer = 1024;   // on the stack: enough for most requests

struct site {
	std::string root;
	http::limits limits;
};

std::string_view type_of(std::string_view path) {
	static constexpr std::pair<std::string_view, std::string_view> types[] = {
	    {".html", "text/html; charset=utf-8"},
	    {".txt", "text/plain; charset=utf-8"},
	    {".css", "text/css"},
	    {".js", "text/javascript"},
	    {".json", "application/json"},
	    {".png", "image/png"},
	    {".jpg", "image/jpeg"},
	    {".svg", "image/svg+xml"},
	    {".wasm", "application/wasm"},
	};
	for (const auto &[end, type] : types) {
		if (path.ends_with(end)) {
			return type;
		}
	}
	return "application/octet-stream";
}

/// One connection.
class session {
public:
	session(serve::server &server, const site &where, serve::connection &c) : server_(server), site_(where), c_(c), reader_(where.limits) {}

	void run() {
		char buffer[first_buffer];
		std::string_view in;
		for (;;) {
			switch (reader_.take(in)) {
			case http::outcome::request:
				if (!answer()) {
					return;
				}
				if (!keep_) {
					finish();
					return;
				}
				break;
			case http::outcome::error:
				refuse(reader_.status());
				finish();
				return;
			case http::outcome::incomplete:
				if (!flush() || !read(buffer, in)) {
					return;
				}
			}
		}
	}

private:
	/// False: the connection is over.
	bool read(char *buffer, std::string_view &in) {
		const bool rest = reader_.begun();
		if (rest && late_ == serve::never) {
			late_ = serve::after(server_.limits().timeout);
		}
		std::error_code error;
		const std::size_t n = rest ? c_.read_rest({buffer, first_buffer}, error, late_) : c_.read_next({buffer, first_buffer}, error);
		if (n > 0) {
			in = {buffer, n};
			return true;
		}
		if (rest && error == std::errc::timed_out) {
			refuse(408);
			finish();
		}
		return false;
	}

	bool flush() {
		const bool sent = out_.empty() || c_.write(out_);
		out_.clear();
		return sent;
	}
	void finish() {
		if (flush()) {
			c_.linger();
		}
	}

	void begin(int status) {
		char line[64];
		out_.append(line, static_cast<std::size_t>(std::snprintf(line, sizeof(line), "HTTP/1.1 %d ", status)));
		out_.append(http::reason(status)).append("\r\nServer: lwp\r\nDate: ").append(date_.now()).append("\r\n");
	}
	void head(std::string_view type, std::uint64_t length) {
		out_.append("Content-Type: ").append(type).append("\r\nContent-Length: ").append(std::to_string(length)).append("\r\n");
		out_.append(keep_ ? "\r\n" : "Connection: close\r\n\r\n");
	}

	/// An answer that is no file.
	void plain(int status, std::string_view text, std::string_view more = {}) {
		begin(status);
		out_ += more;
		head("text/plain", text.size());
		if (!reader_.head()) {
			out_ += text;
		}
	}
	void refuse(int status) {
		keep_ = false;
		plain(status, std::string(http::reason(status)) + "\n");
	}

	/// False: the peer is gone, or what it was promised cannot be kept.
	bool answer() {
		late_ = serve::never;
		keep_ = reader_.keep_alive() && !server_.ending();
		if (!reader_.get()) {
			plain(405, "Method Not Allowed\n", "Allow: GET, HEAD\r\n");
		} else if (site_.root.empty()) {
			plain(200, hello);
		} else if (!answer_file()) {
			return false;
		}
		return out_.size() < flush_at || flush();
	}

	bool answer_file() {
		std::string path = http::path_of(reader_.target());
		if (path.empty()) {
			plain(400, "Bad Request\n");
			return true;
		}
		if (path.ends_with('/')) {
			path += "index.html";
		}
		std::error_code error;
		lwp::file f(site_.root + path, {.flags = O_NONBLOCK}, error);
		struct stat status {};
		if (error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system ||
		    error == std::errc::not_enough_memory) {
			plain(503, "Service Unavailable\n");
		} else if (error == std::errc::permission_denied) {
			plain(403, "Forbidden\n");
		} else if (error || fstat(f.native_handle(), &status) != 0 || !S_ISREG(status.st_mode)) {
			plain(404, "Not Found\n");
		} else {
			return send_file(f, status, path);
		}
		return true;
	}

	bool send_file(lwp::file &f, const struct stat &status, std::string_view path) {
		char modified[32];
		http::date::format(status.st_mtime, modified, sizeof(modified));
		const bool same = reader_.if_modified_since() == modified;
		begin(same ? 304 : 200);
		out_.append("Last-Modified: ").append(modified).append("\r\n");
		auto left = static_cast<std::size_t>(status.st_size);
		head(type_of(path), left);
		if (same || reader_.head()) {
			return true;
		}
		for (std::int64_t at = 0; left != 0;) {
			const std::size_t before = out_.size(), now = std::min(left, piece);
			out_.resize(before + now);
			std::error_code error;
			if (f.read_exactly_at(at, std::span(out_).subspan(before), error) != now) {
				return false;  // it has become shorter than we said: end the connection, so that the client knows
			}
			at += static_cast<std::int64_t>(now);
			left -= now;
			if (left != 0 && !flush()) {
				return false;
			}
		}
		return true;
	}

	serve::server &server_;
	const site &site_;
	serve::connection &c_;
	http::reader reader_;
	http::date date_;
	bool keep_ = true;
	serve::time_point late_ = serve::never;  // when the request that has begun must be there
	std::string out_;                        // answers not sent yet
};

}  // namespace

int main(int argc, char **argv) {
	serve::settings settings;
	site where;
	unsigned most_head = 8192, most_body = 1024 * 1024;
	serve::options options("httpd", "[OPTIONS]", "Serves files over HTTP/1.1, with one LWP for each connection.");
	options.add("root", "DIRECTORY", "serve the files under it; none: answer everything with one line", &where.root);
	options.add("max-head", "BYTES", "longest request line and headers", &most_head);
	options.add("max-body", "BYTES", "longest body of a request", &most_body);
#if LWP_WITH_TLS
	serve::identity identity;
	identity.add_to(options);
#endif
	settings.add_to(options);
	int status = 0;
	if (!options.parse(argc, argv, &status)) {
		return status;
	}
	where.limits = {most_head, most_body};
	http_parser_set_max_header_size(most_head + 4096);  // ours is the one that counts
	try {
		serve::server server(settings);
#if LWP_WITH_TLS
		if (!identity.certificate.empty()) {
			const serve::secure_context context(identity);
			return server.run([&](serve::connection &c) {
				if (context.shake_hands(c, settings.timeout)) {
					session(server, where, c).run();
					std::error_code ignored;
					c.end(ignored);
				}
			});
		}
#endif
		return server.run([&](serve::connection &c) { session(server, where, c).run(); });
	} catch (const std::exception &e) {
		std::fprintf(stderr, "httpd: %s\n", e.what());
		return 1;
	}
}
