// SPDX-License-Identifier: BSD-2-Clause
//
// process.hpp: a child is started on a helper thread, since posix_spawn(3) holds its kernel thread until the child has called exec, and is
// waited for by its pidfd, which becomes readable when it ends.  Nobody but its object collects it, so its number names it until then.
#include "api/deadline.h"
#include "api/io_call.h"
#include "base/sys.h"
#include "proc/lwp_life.h"

#include <lwp/process.hpp>
#include <lwp/thread.hpp>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

namespace lwp {

using namespace kern;

namespace {

constexpr std::chrono::milliseconds look_again{10};  // where the kernel has no pidfd

std::error_code errno_code(long negative) noexcept { return {static_cast<int>(-negative), std::generic_category()}; }

void checked(const std::error_code &error, const char *what) {
	if (error) {
		throw io_error(error, what);
	}
}

/// Its number above the child's first three, so that no dup2() for one of those hits another.  -errno; `fd` is closed.
long above_stdio(long fd) noexcept {
	if (fd < 0 || fd > 2) {
		return fd;
	}
	const long moved = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	(void)sys::call(SYS_close, fd);
	return moved;
}

bool has_nul(const std::vector<std::string> &strings) noexcept {
	return std::any_of(strings.begin(), strings.end(), [](const std::string &s) { return s.find('\0') != s.npos; });
}

std::vector<char *> pointers(const std::vector<std::string> &strings) {
	std::vector<char *> all;
	all.reserve(strings.size() + 1);
	for (const std::string &s : strings) {
		all.push_back(const_cast<char *>(s.c_str()));
	}
	all.push_back(nullptr);
	return all;
}

long collect(pid_t pid, int *status) noexcept { return sys::call(SYS_wait4, pid, reinterpret_cast<long>(status), WNOHANG, 0); }

}  // namespace

namespace detail {

/// posix_spawn(3)'s arguments as they are gathered, and what must be closed once the child has it.
struct process_start {
	process_start() noexcept {
		(void)::posix_spawn_file_actions_init(&actions);
		(void)::posix_spawnattr_init(&attributes);
	}
	~process_start() {
		(void)::posix_spawn_file_actions_destroy(&actions);
		(void)::posix_spawnattr_destroy(&attributes);
	}
	process_start(const process_start &) = delete;
	process_start &operator=(const process_start &) = delete;

	/// What the child's descriptor `number` is; *parents becomes the parent's end of a pipe.  0 or an errno value.
	int give(const stdio &what, int number, int *parents) noexcept;
	int use(long fd, int number, descriptor *keep) noexcept;
	int set_up(const process_options &) noexcept;

	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	descriptor childs[3];
};

/// `fd` is ours until the child has it.
int process_start::use(long fd, int number, descriptor *keep) noexcept {
	fd = above_stdio(fd);
	if (fd < 0) {
		return static_cast<int>(-fd);
	}
	*keep = descriptor(static_cast<int>(fd));
	return ::posix_spawn_file_actions_adddup2(&actions, static_cast<int>(fd), number);
}

int process_start::give(const stdio &what, int number, int *parents) noexcept {
	switch (what.what_) {
	case stdio::what::inherit:
		return 0;
	case stdio::what::null:
		return ::posix_spawn_file_actions_addopen(&actions, number, "/dev/null", number == 0 ? O_RDONLY : O_WRONLY, 0);
	case stdio::what::out:
		return number == 2 ? ::posix_spawn_file_actions_adddup2(&actions, 1, 2) : EINVAL;
	case stdio::what::fd: {
		if (what.fd_ < 0) {
			return EBADF;
		}
		if (what.fd_ > 2) {
			return ::posix_spawn_file_actions_adddup2(&actions, what.fd_, number);
		}
		// One of the first three is overwritten in the child before it is looked at, perhaps: its copy is not.
		return use(sys::call(SYS_fcntl, what.fd_, F_DUPFD_CLOEXEC, 3), number, &childs[number]);
	}
	case stdio::what::pipe:
		break;
	}
	int fd[2];
	if (const long error = sys::call(SYS_pipe2, reinterpret_cast<long>(fd), O_CLOEXEC); error < 0) {
		return static_cast<int>(-error);
	}
	const long ours = above_stdio(fd[number == 0 ? 1 : 0]);
	const int error = use(fd[number == 0 ? 0 : 1], number, &childs[number]);
	if (ours < 0 || error != 0) {
		if (ours >= 0) {
			(void)sys::call(SYS_close, ours);
		}
		return ours < 0 ? static_cast<int>(-ours) : error;
	}
	*parents = static_cast<int>(ours);
	return 0;
}

int process_start::set_up(const process_options &options) noexcept {
	sigset_t none, defaults;
	::sigemptyset(&none);
	::sigemptyset(&defaults);
	::sigaddset(&defaults, SIGPIPE);
	const int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (options.new_group ? POSIX_SPAWN_SETPGROUP : 0);
	(void)::posix_spawnattr_setsigmask(&attributes, &none);
	(void)::posix_spawnattr_setsigdefault(&attributes, &defaults);
	(void)::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
	return options.directory.empty() ? 0 : ::posix_spawn_file_actions_addchdir_np(&actions, options.directory.c_str());
}

}  // namespace detail

// ---- its life ------------------------------------------------------------------------------------------------------

process::process(const std::vector<std::string> &argv, const process_options &o, std::error_code &error) noexcept {
	error.clear();
	if (argv.empty() || has_nul(argv) || (o.environment && has_nul(*o.environment)) || o.directory.find('\0') != o.directory.npos) {
		error = errno_code(-EINVAL);
		return;
	}
	try {
		const std::vector<char *> arguments = pointers(argv);
		const std::vector<char *> variables = o.environment ? pointers(*o.environment) : std::vector<char *>();
		detail::process_start start;
		int ends[3] = {-1, -1, -1};
		int result = start.give(o.in, 0, &ends[0]);
		result = result != 0 ? result : start.give(o.out, 1, &ends[1]);
		result = result != 0 ? result : start.give(o.error, 2, &ends[2]);
		in_ = pipe_write_end(ends[0]);
		out_ = pipe_read_end(ends[1]);
		error_ = pipe_read_end(ends[2]);
		result = result != 0 ? result : start.set_up(o);
		pid_t pid = 0;
		if (result == 0) {
			char *const *env = o.environment ? variables.data() : environ;
			const long done = io_helped([&]() noexcept -> long {
				const auto spawn = o.search_path ? &::posix_spawnp : &::posix_spawn;
				return -sys::library(SYS_clone, [&]() noexcept -> long {
					return -spawn(&pid, arguments[0], &start.actions, &start.attributes, arguments.data(), env);
				});
			});
			result = static_cast<int>(done < 0 ? -done : done);
		}
		if (result == 0) {
			pid_ = pid;
			const long fd = sys::call(SYS_pidfd_open, pid, 0);
			pidfd_ = descriptor(static_cast<int>(std::max(fd, -1L)));
			result = fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM ? static_cast<int>(-fd) : 0;
		}
		error = errno_code(-result);
	} catch (const std::bad_alloc &) {
		error = errno_code(-ENOMEM);
	}
	if (error) {
		end();
		*this = process();
	}
}

process::process(const std::vector<std::string> &argv, const process_options &options) {
	std::error_code error;
	*this = process(argv, options, error);
	checked(error, "process");
}

process::process(process &&other) noexcept
    : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)), status_(other.status_), in_(std::move(other.in_)),
      out_(std::move(other.out_)), error_(std::move(other.error_)) {}

process &process::operator=(process &&other) noexcept {
	if (this != &other) {
		end();
		pid_ = std::exchange(other.pid_, 0);
		pidfd_ = std::move(other.pidfd_);
		status_ = other.status_;
		in_ = std::move(other.in_);
		out_ = std::move(other.out_);
		error_ = std::move(other.error_);
	}
	return *this;
}

process::~process() { end(); }

void process::end() noexcept {
	if (pid_ > 0) {
		std::error_code ignored;
		kill(SIGKILL, ignored);
		collect_it();
	}
}

void process::collect_it() noexcept {
	std::error_code error;
	for (wait(error); pid_ > 0; wait(error)) {
		// Interrupted, or no descriptor or memory to wait with: it still has to be collected.
		(void)detail::sleep_until_stopped(std::chrono::steady_clock::now() + look_again, {});
	}
}

void process::detach() {
	if (pid_ <= 0) {
		return;
	}
	// Given over before the LWP exists, which may run at once; and taken back if it cannot be made.
	const auto child = std::make_shared<process>(std::move(*this));
	try {
		thread({.name = "process", .detached = true}, [child] {
			child->in_ = {};
			child->out_ = {};
			child->error_ = {};
			child->collect_it();
		});
	} catch (...) {
		*this = std::move(*child);
		throw;
	}
}

// ---- its end -------------------------------------------------------------------------------------------------------

std::optional<exit_status> process::try_wait(std::error_code &error) noexcept {
	error.clear();
	if (pid_ <= 0) {
		if (pid_ == 0) {
			error = errno_code(-ECHILD);
			return std::nullopt;
		}
		return status_;
	}
	int status = 0;
	const long result = collect(pid_, &status);
	if (result == 0) {
		return std::nullopt;
	}
	if (result < 0) {
		pid_ = 0;
		error = errno_code(result);
		return std::nullopt;
	}
	pid_ = -1;
	status_ = exit_status(status);
	return status_;
}

exit_status process::wait(std::error_code &error, const io_limit &limit) noexcept {
	const in_library l;
	for (;;) {
		if (const auto status = try_wait(error); status || error) {
			return status.value_or(exit_status());
		}
		long result;
		if (pidfd_.is_open()) {
			result = io_ready(l, pidfd_.native_handle(), POLLIN, limit);
		} else {
			(void)detail::sleep_until_stopped(std::min(limit.deadline, std::chrono::steady_clock::now() + look_again), limit.stop);
			result = io_limit_reached(limit);
		}
		if (result < 0) {
			error = errno_code(result);
			return {};
		}
	}
}

exit_status process::wait(const io_limit &limit) {
	std::error_code error;
	const exit_status status = wait(error, limit);
	checked(error, "wait");
	return status;
}

std::optional<exit_status> process::try_wait() {
	std::error_code error;
	const auto status = try_wait(error);
	checked(error, "try_wait");
	return status;
}

void process::kill(int signal, std::error_code &error) noexcept {
	long result = -ESRCH;
	if (pidfd_.is_open()) {
		result = sys::call(SYS_pidfd_send_signal, pidfd_.native_handle(), signal, 0, 0);
	}
	// No pidfd, or a filter that does not let it be used: until it is collected, by us alone, its number is as good.
	if (pid_ > 0 && (!pidfd_.is_open() || result == -EPERM || result == -ENOSYS)) {
		result = sys::call(SYS_kill, pid_, signal);
	}
	error = result < 0 ? errno_code(result) : std::error_code();
}

void process::kill(int signal) {
	std::error_code error;
	kill(signal, error);
	checked(error, "kill");
}

void process::kill_group(int signal, std::error_code &error) noexcept {
	const long result = pid_ > 0 ? sys::call(SYS_kill, -pid_, signal) : -ESRCH;
	error = result < 0 ? errno_code(result) : std::error_code();
}

void process::kill_group(int signal) {
	std::error_code error;
	kill_group(signal, error);
	checked(error, "kill_group");
}

}  // namespace lwp
