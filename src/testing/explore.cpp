// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::testing::explore(): one process for each schedule, so that each begins from the same memory at the same addresses, and whatever becomes of one is its
// own matter.  Here is also the clock that this program reads.
#include <lwp/testing.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <time.h>
#include <unistd.h>

#include <csignal>

namespace {

std::atomic<std::uint64_t> explored_clock{0};  // relaxed, always: a schedule has one kernel thread

}  // namespace

// The executable's definition comes before libc's for the program and all of its libraries.  Not instrumented: sanitizers call it before they are ready.
extern "C" __attribute__((visibility("default"), no_sanitize("address", "thread", "undefined"))) int clock_gettime(
    clockid_t id, timespec *ts) noexcept {
	const std::uint64_t t = explored_clock.load(std::memory_order_relaxed);
	if (__builtin_expect(t == 0, 1)) {
		using function = int (*)(clockid_t, timespec *);
		static std::atomic<function> next{nullptr};
		function real = next.load(std::memory_order_relaxed);
		if (real == nullptr) {
			real = reinterpret_cast<function>(::dlsym(RTLD_NEXT, "clock_gettime"));
			if (real == nullptr) {
				return static_cast<int>(::syscall(SYS_clock_gettime, id, ts));
			}
			next.store(real, std::memory_order_relaxed);
		}
		return real(id, ts);
	}
	const bool cpu = id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID;  // nobody is charged
	*ts = cpu ? timespec{0, 0} : timespec{static_cast<time_t>(t / 1'000'000'000), static_cast<long>(t % 1'000'000'000)};
	return 0;
}

namespace lwp::testing {
namespace {

using detail::ending;
using detail::schedule;

constexpr std::size_t text_most = 1 << 16;

[[noreturn]] void fail(int error, const char *what) { throw std::system_error(error, std::generic_category(), what); }

class descriptor {
public:
	explicit descriptor(int fd, const char *what) : fd_(fd) {
		if (fd < 0) {
			fail(errno, what);
		}
	}
	~descriptor() { reset(); }
	descriptor(const descriptor &) = delete;
	descriptor &operator=(const descriptor &) = delete;
	void reset() {
		if (fd_ >= 0) {
			::close(fd_);
		}
		fd_ = -1;
	}
	[[nodiscard]] int get() const { return fd_; }

private:
	int fd_;
};

/// What schedules leave, and what they say.
struct common {
	common() : said(::memfd_create("lwp-explore", MFD_CLOEXEC), "memfd_create") {
		void *memory = ::mmap(nullptr, sizeof(ending), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED) {
			fail(errno, "mmap");
		}
		end = new (memory) ending{};
	}
	~common() { ::munmap(end, sizeof(ending)); }
	common(const common &) = delete;
	common &operator=(const common &) = delete;

	[[nodiscard]] std::string text() const {
		std::string out(text_most, '\0');
		const ssize_t n = ::pread(said.get(), out.data(), out.size(), 0);
		out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
		return out;
	}

	ending *end;
	descriptor said;
};

[[noreturn]] void child(const schedule &sc, int said) {
	::prctl(PR_SET_PDEATHSIG, SIGKILL);
	::dup2(said, STDERR_FILENO);
	detail::play(sc);
}

/// Runs one schedule to its end.
outcome run(const schedule &sc, const common &c, std::chrono::seconds patience) {
	c.end->how = outcome::died;
	c.end->steps = 0;
	c.end->hash = 0;
	if (::ftruncate(c.said.get(), 0) != 0 || ::lseek(c.said.get(), 0, SEEK_SET) != 0) {
		fail(errno, "ftruncate");
	}
	int ends[2];
	if (::pipe2(ends, O_CLOEXEC) != 0) {
		fail(errno, "pipe2");
	}
	descriptor alive(ends[0], "");
	descriptor lives(ends[1], "");
	(void)std::fflush(nullptr);  // else both have what is in the buffers
	const pid_t pid = ::fork();
	if (pid < 0) {
		fail(errno, "fork");
	}
	if (pid == 0) {
		child(sc, c.said.get());
	}
	lives.reset();
	// Readable at its end, when the last descriptor of the other side is closed.
	pollfd ended{alive.get(), POLLIN, 0};
	const auto limit = std::chrono::steady_clock::now() + patience;
	int ready;
	do {
		const auto left = std::chrono::ceil<std::chrono::milliseconds>(limit - std::chrono::steady_clock::now());
		ready = ::poll(&ended, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000)));
	} while (ready < 0 && errno == EINTR);
	if (ready == 0) {
		::kill(pid, SIGKILL);
	}
	int status = 0;
	while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	if (ready == 0) {
		return outcome::hung;
	}
	// Only a process that came to its end there has said how it ended; one that passed may still have died on its way out.
	const outcome how = c.end->how;
	const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	return how == outcome::passed && !well ? outcome::died : how;
}

void add(std::string &out, const char *format, auto... values) {
	char line[256];
	(void)std::snprintf(line, sizeof line, format, values...);
	out += line;
}

/// The failing one once more: whether it does the same; with its steps in the text.
void repeat(schedule sc, const common &c, const options &o, result &r) {
	const std::uint64_t hash = c.end->hash;
	const std::uint64_t steps = c.end->steps;
	std::string first = c.text();
	sc.trace = true;
	const outcome again = run(sc, c, o.patience);
	r.repeated = again == r.how && c.end->hash == hash && c.end->steps == steps;
	r.text = r.repeated ? c.text() : std::move(first);
	if (!r.text.empty() && r.text.back() != '\n') {
		r.text += '\n';
	}
}

void say(const result &r) {
	std::string out;
	add(out, "lwp::testing::explore: schedule %llu fails: %s; its seed is %llu\n", static_cast<unsigned long long>(r.schedules),
	    to_string(r.how), static_cast<unsigned long long>(r.seed));
	out += r.text;
	out += r.repeated ? "lwp::testing::explore: run again it did the same"
	                  : "lwp::testing::explore: run again it did something else: the body depends on more than the schedule";
	add(out, "; LWP_EXPLORE_SEED=%llu runs only that one\n", static_cast<unsigned long long>(r.seed));
	(void)std::fwrite(out.data(), 1, out.size(), stderr);
}

std::uint64_t mixed(std::uint64_t all, std::uint64_t one) { return (all ^ one) * 0x9e3779b97f4a7c15U + (all >> 32); }

}  // namespace

result explore(const std::function<void()> &body, const options &o) {
	if (detail::busy()) {
		fail(EBUSY, "lwp::testing::explore: a runtime exists");
	}
	const common c;
	result r;
	void *frames[1];
	(void)::backtrace(frames, 1);  // loads what it needs here, not in each of the processes
	std::uint64_t first = o.seed;
	std::uint64_t count = o.schedules;
	if (const char *text = std::getenv("LWP_EXPLORE_SEED")) {
		first = std::strtoull(text, nullptr, 0);
		count = 1;
	}
	const auto began = std::chrono::steady_clock::now();
	schedule sc{first, o.steps, static_cast<std::uint64_t>(std::chrono::nanoseconds(o.time).count()), false, &explored_clock, c.end, &body,
	    &o.failed};
	for (std::uint64_t i = 0; i < count; i++) {
		if (i != 0 && o.budget.count() != 0 && std::chrono::steady_clock::now() - began >= o.budget) {
			break;
		}
		sc.seed = first + i;
		r.seed = sc.seed;
		r.how = run(sc, c, o.patience);
		r.schedules++;
		r.steps += c.end->steps;
		r.hash = mixed(r.hash, c.end->hash);
		if (r.how != outcome::passed) {
			repeat(sc, c, o, r);
			if (!o.quiet) {
				say(r);
			}
			break;
		}
	}
	return r;
}

void check(bool ok, const char *what, const char *file, int line) noexcept {
	if (ok) {
		return;
	}
	(void)std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
	detail::end_if_played(outcome::check);
	std::abort();
}

const char *to_string(outcome how) noexcept {
	switch (how) {
	case outcome::passed:
		return "passed";
	case outcome::deadlock:
		return "deadlock";
	case outcome::livelock:
		return "livelock";
	case outcome::exception:
		return "exception";
	case outcome::check:
		return "check";
	case outcome::died:
		return "died";
	case outcome::hung:
		return "hung";
	case outcome::unsupported:
		return "unsupported";
	}
	return "?";
}

}  // namespace lwp::testing
