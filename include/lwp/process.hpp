// SPDX-License-Identifier: BSD-2-Clause
//
// Child processes as objects.  Read the opening of io.hpp first: limits and errors are as there.
//
//   lwp::process p({"sort", "-u"}, {.in = stdio::pipe(), .out = stdio::pipe()});
//   p.standard_input().write_all("b\na\n");
//   p.standard_input().close();                       // the end of its input
//   lwp::reader out(p.standard_output());
//   while (auto line = out.read_line()) { ... }
//   if (p.wait().code() != 0) { ... }
//
// No zombie is left: a child is collected by wait(), or by the destructor, which kills it first, or after detach() by the library.
// A child that writes to a pipe which nobody reads, and a parent that first waits and then reads, wait for each other: read first, or in another LWP.
// Two pipes of one child need two LWPs, as ever.
// Collecting needs SIGCHLD not to be ignored (ECHILD otherwise), and nobody else who waits for any child.
#pragma once

#include <lwp/exit_status.hpp>
#include <lwp/io.hpp>

#include <csignal>
#include <optional>
#include <string>
#include <sys/types.h>
#include <system_error>
#include <utility>
#include <vector>

namespace lwp {

namespace detail {
struct process_start;
}

/// What one of a child's first three descriptors is.
class stdio {
public:
	/// The parent's own.
	stdio() noexcept = default;
	[[nodiscard]] static stdio inherit() noexcept { return {}; }
	/// /dev/null
	[[nodiscard]] static stdio null() noexcept { return {what::null, -1}; }
	/// A new pipe to the parent: process::standard_input() and the others.
	[[nodiscard]] static stdio pipe() noexcept { return {what::pipe, -1}; }
	/// A descriptor of the parent, which stays the parent's.
	[[nodiscard]] static stdio from(int fd) noexcept { return {what::fd, fd}; }
	[[nodiscard]] static stdio from(const descriptor &d) noexcept { return from(d.native_handle()); }
	/// Of `error` only: where `out` goes.
	[[nodiscard]] static stdio to_out() noexcept { return {what::out, -1}; }

private:
	friend class process;
	friend struct detail::process_start;
	enum class what : unsigned char { inherit, null, pipe, fd, out };
	stdio(what w, int fd) noexcept : what_(w), fd_(fd) {}
	what what_ = what::inherit;
	int fd_ = -1;
};

/// How a child is started.
struct process_options {
	stdio in = {};                                             ///< its standard input,
	stdio out = {};                                            ///< standard output,
	stdio error = {};                                          ///< and standard error
	std::optional<std::vector<std::string>> environment = {};  ///< "NAME=value" each; no value: the parent's
	std::string directory = {};                                ///< where it starts; empty: the parent's
	bool search_path = true;                                   ///< an argv[0] without a slash is looked for in the parent's PATH
	bool new_group = false;                                    ///< leads a process group of its own; kill_group() reaches all of it
};

/// A child process.
class LWP_API process {
public:
	/// None.
	process() noexcept = default;
	/// Starts `argv[0]` with `argv`, by posix_spawn(3); blocks until it runs.  It gets the three descriptors and no others but those that are not close-on-exec,
	/// no blocked signals, and SIGPIPE as by default.
	/// Errors: ENOENT, EACCES and others of execve(2) | EINVAL `argv` is empty, or a string has a NUL in it | EAGAIN | ENOMEM | EMFILE.
	explicit process(const std::vector<std::string> &argv, const process_options &options = {});
	process(const std::vector<std::string> &argv, const process_options &options, std::error_code &error) noexcept;
	process(process &&other) noexcept;
	/// What was there before is killed and collected.
	process &operator=(process &&other) noexcept;
	/// A child that was not collected is killed (SIGKILL) and collected; blocks for that.
	~process();

	/// Whether there is a child that has not been collected.
	[[nodiscard]] bool is_open() const noexcept { return pid_ > 0; }
	explicit operator bool() const noexcept { return is_open(); }
	/// Its process id, 0 if there is none.  It names the child until that is collected.
	[[nodiscard]] pid_t id() const noexcept { return pid_ > 0 ? pid_ : 0; }

	/// The parent's ends of the pipes that were asked for; the others have no descriptor.
	[[nodiscard]] pipe_write_end &standard_input() noexcept { return in_; }
	[[nodiscard]] pipe_read_end &standard_output() noexcept { return out_; }
	[[nodiscard]] pipe_read_end &standard_error() noexcept { return error_; }

	/// Waits until it has ended and collects it; blocks.  Called again, says the same.  One LWP at a time.  At the limit it runs on, and wait() may be called again.
	/// Errors: ECHILD there is none, or somebody else has collected it; and those of every blocking call.
	exit_status wait(const io_limit &limit = {});
	exit_status wait(std::error_code &error, const io_limit &limit = {}) noexcept;
	/// Collects it if it has ended: how.  Never blocks.
	std::optional<exit_status> try_wait();
	std::optional<exit_status> try_wait(std::error_code &error) noexcept;

	/// Sends a signal; never blocks.  No other process can ever get it.  ESRCH it has been collected | EINVAL.
	void kill(int signal = SIGKILL);
	void kill(int signal, std::error_code &error) noexcept;
	/// kill(2) of its process group; it must have been started with new_group.
	void kill_group(int signal = SIGKILL);
	void kill_group(int signal, std::error_code &error) noexcept;

	/// Lets it go: the library collects it whenever it ends.  Its pipes are closed.  Throws std::system_error: EAGAIN, ENOMEM no LWP for that; then nothing has changed.
	void detach();

private:
	void end() noexcept;
	void collect_it() noexcept;

	pid_t pid_ = 0;  // 0 none, -1 collected
	descriptor pidfd_;
	exit_status status_;
	pipe_write_end in_;
	pipe_read_end out_, error_;
};

}  // namespace lwp
