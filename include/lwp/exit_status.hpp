// SPDX-License-Identifier: BSD-2-Clause
//
// How a child process, or a proc, ended: waitpid(2)'s status as an object.
#pragma once

namespace lwp {

/// How a child ended.
class exit_status {
public:
	exit_status() noexcept = default;
	/// As waitpid(2) gives it.
	explicit exit_status(int status) noexcept : status_(status) {}

	/// Whether it ended by itself: exit(), or return from main().
	[[nodiscard]] bool exited() const noexcept { return (status_ & 0x7f) == 0; }
	/// exit()'s, 0 to 255; -1 if a signal ended it.
	[[nodiscard]] int code() const noexcept { return exited() ? (status_ >> 8) & 0xff : -1; }
	/// Whether a signal ended it.
	[[nodiscard]] bool signaled() const noexcept { return !exited(); }
	/// The signal that ended it; 0 if it exited.
	[[nodiscard]] int signal() const noexcept { return status_ & 0x7f; }
	/// Whether it left a core file.
	[[nodiscard]] bool core_dumped() const noexcept { return signaled() && (status_ & 0x80) != 0; }
	/// exit(0)
	[[nodiscard]] bool success() const noexcept { return status_ == 0; }
	/// As waitpid(2) gave it.
	[[nodiscard]] int native() const noexcept { return status_; }
	friend bool operator==(exit_status, exit_status) noexcept = default;

private:
	int status_ = 0;
};

}  // namespace lwp
