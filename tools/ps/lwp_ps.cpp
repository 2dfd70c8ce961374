// SPDX-License-Identifier: BSD-2-Clause
//
// lwp-ps: the LWPs of a process, looked at from outside.
//
//     lwp-ps [-a] PID [ID | STATE | NAME]...
//
// Reads the memory of the process, which notices nothing, need not answer, and may be stopped or hang.  So it takes what ptrace(2) takes: the same user
// (where /proc/sys/kernel/yama/ptrace_scope is not above 0) or root.  An LWP struct stays one for the life of its process (core/lwp.h), so what is read
// while LWPs come and go is at worst of different moments: each line is of one.
//
// What is where is said by lwp_debug_info (proc/debugger.h), which is found by its magic number.
#include "proc/debugger.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fnmatch.h>
#include <map>
#include <optional>
#include <string>
#include <sys/uio.h>
#include <tuple>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace {

using lwp::kern::debug_info;
using lwp::kern::debug_word;
using address = std::uint64_t;

constexpr std::size_t listed_most = 200;  // more are counted, not listed, unless -a

[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *format, ...) {
	va_list args;
	va_start(args, format);
	std::fflush(stdout);
	std::fputs("lwp-ps: ", stderr);
	std::vfprintf(stderr, format, args);
	std::fputc('\n', stderr);
	va_end(args);
	std::exit(1);
}

// ---- the memory of the process ----------------------------------------------------------------------------------------------

class memory {
public:
	explicit memory(pid_t pid) : pid_(pid) {}

	/// False: not all of it is there.
	[[nodiscard]] bool read(address from, void *to, std::size_t size) const {
		iovec local{to, size};
		iovec remote{reinterpret_cast<void *>(from), size};
		const ssize_t n = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
		if (n < 0 && (errno == EPERM || errno == ESRCH)) {
			die("process %d: %s", pid_, std::strerror(errno));
		}
		return n == static_cast<ssize_t>(size);
	}
	template <class T>
	[[nodiscard]] T at(address from) const {
		T value{};
		return read(from, &value, sizeof value) ? value : T{};
	}
	[[nodiscard]] std::string text(address from, std::size_t most) const {
		std::string s(most, '\0');
		// A string may end just before memory that is not there.
		while (!s.empty() && !read(from, s.data(), s.size())) {
			s.resize(s.size() / 2);
		}
		s.resize(::strnlen(s.data(), s.size()));
		return s;
	}

	/// `size` bytes from each of these places; those that are not there are left out.  Calls fn(address, bytes).
	template <class Fn>
	void read_each(const std::vector<address> &from, std::size_t size, Fn fn) const {
		constexpr std::size_t at_once = IOV_MAX < 1024 ? IOV_MAX : 1024;
		std::vector<unsigned char> bytes(size * at_once);
		std::vector<iovec> remote;
		for (std::size_t done = 0; done < from.size();) {
			remote.clear();
			for (std::size_t i = done; i < from.size() && remote.size() < at_once; i++) {
				remote.push_back({reinterpret_cast<void *>(from[i]), size});
			}
			iovec local{bytes.data(), size * remote.size()};
			const ssize_t n = ::process_vm_readv(pid_, &local, 1, remote.data(), remote.size(), 0);
			const std::size_t whole = n > 0 ? static_cast<std::size_t>(n) / size : 0;
			for (std::size_t i = 0; i < whole; i++) {
				fn(from[done + i], bytes.data() + i * size);
			}
			done += whole < remote.size() ? whole + 1 : whole;  // the one that stopped it is not there
		}
	}

private:
	pid_t pid_;
};

/// Looks for lwp_debug_info in what the process has mapped of files and may be read and not executed: the constants of its program and libraries.
std::optional<debug_info> find_info(const memory &m, pid_t pid) {
	const std::string name = "/proc/" + std::to_string(pid) + "/maps";
	std::FILE *maps = std::fopen(name.c_str(), "r");
	if (maps == nullptr) {
		die("process %d: %s", pid, std::strerror(errno));
	}
	std::optional<debug_info> found;
	char line[PATH_MAX + 128];
	std::vector<unsigned char> bytes;
	while (!found && std::fgets(line, sizeof line, maps) != nullptr) {
		address begin = 0, end = 0;
		char rights[5] = "";
		unsigned long inode = 0;
		if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %lu", &begin, &end, rights, &inode) != 4 || inode == 0 ||
		    rights[0] != 'r' || rights[2] == 'x' || rights[3] != 'p' || end - begin > (std::size_t{1} << 30)) {
			continue;
		}
		bytes.resize(end - begin);
		if (!m.read(begin, bytes.data(), bytes.size())) {
			continue;
		}
		for (std::size_t i = 0; !found && i + sizeof(debug_info) <= bytes.size(); i += alignof(debug_info)) {
			if (std::memcmp(bytes.data() + i, lwp::kern::debug_magic.data(), lwp::kern::debug_magic.size()) == 0) {
				debug_info info;
				std::memcpy(&info, bytes.data() + i, sizeof info);
				// The page of the file that it is in may be mapped once more, with the segment before: as it was before the loader wrote addresses into it.
				if (std::strcmp(m.at<debug_word>(reinterpret_cast<address>(info.di_word)).dw_name, "part.size") == 0) {
					found = info;
				}
			}
		}
	}
	std::fclose(maps);
	return found;
}

// ---- LWPs ----------------------------------------------------------------------------------------------------------------------

struct lwp_line {
	int id;
	const char *state;
	int priority;
	int vcpu;  // -1: a kernel thread's own
	std::uint64_t switches;
	std::uint64_t slept;  // since when, if it waits
	std::string name;
	std::string kind, why;  // what it waits for; empty: it does not
	address thing;
};

class looker {
public:
	looker(pid_t pid, const debug_info &info) : memory_(pid) {
		std::vector<debug_word> words(std::min<std::uint32_t>(info.di_words, 4096));
		if (!memory_.read(reinterpret_cast<address>(info.di_word), words.data(), words.size() * sizeof(debug_word))) {
			die("process %d cannot be read any more", pid);
		}
		for (const debug_word &w : words) {
			words_[std::string(w.dw_name, ::strnlen(w.dw_name, sizeof w.dw_name))] = w.dw_value;
		}
		parts_ = memory_.at<address>(reinterpret_cast<address>(info.di_parts));
		nparts_ = memory_.at<std::uint32_t>(reinterpret_cast<address>(info.di_nparts));
	}

	std::vector<lwp_line> all() {
		std::vector<address> wave = heads();
		std::unordered_set<address> met;
		std::vector<lwp_line> lines;
		const std::size_t size = word("lwp.size");
		// Chains are short; one that leads in a circle was changed while it was read.
		while (!wave.empty()) {
			std::vector<address> next;
			memory_.read_each(wave, size, [&](address from, const unsigned char *image) {
				if (!met.insert(from).second) {
					return;
				}
				if (const auto n = field<address>(image, "lwp.ln_next"); n != 0) {
					next.push_back(n);
				}
				lines.push_back(line_of(image));
			});
			wave = std::move(next);
		}
		// One that moved from chain to chain meanwhile is met twice.
		std::sort(lines.begin(), lines.end(), [](const lwp_line &a, const lwp_line &b) { return a.id < b.id; });
		lines.erase(
		    std::unique(lines.begin(), lines.end(), [](const lwp_line &a, const lwp_line &b) { return a.id == b.id; }), lines.end());
		return lines;
	}

private:
	std::uint64_t word(const char *name) const {
		const auto it = words_.find(name);
		if (it == words_.end()) {
			die("the process has another version of the library: it says nothing of %s", name);
		}
		return it->second;
	}
	template <class T>
	T field(const unsigned char *image, const char *name) const {
		T value;
		std::memcpy(&value, image + word(name), sizeof value);
		return value;
	}

	/// The first of each chain of each part's id table.
	std::vector<address> heads() const {
		std::vector<address> found;
		const std::size_t first = std::size_t{1} << word("part.first_bits");
		for (std::uint32_t i = 0; i < nparts_; i++) {
			const address part = parts_ + i * word("part.size");
			const std::size_t buckets = memory_.at<std::uint32_t>(part + word("part.layout"));  // the lower half
			std::vector<address> table;
			for (std::size_t begin = 0, size = first, segment = 0; begin < buckets; segment++) {
				table.resize(std::min(size, buckets - begin));
				if (memory_.read(
				        memory_.at<address>(part + word("part.segment") + 8 * segment), table.data(), table.size() * sizeof(address))) {
					std::copy_if(table.begin(), table.end(), std::back_inserter(found), [](address a) { return a != 0; });
				}
				begin += table.size();
				size = first << segment;  // segment s > 0 is as large as all before it together
			}
		}
		return found;
	}

	lwp_line line_of(const unsigned char *image) {
		static constexpr const char *states[] = {"?", "idl", "run", "sleep", "stop", "zomb", "?", "onproc", "suspended"};
		lwp_line l{};
		l.id = field<int>(image, "lwp.ln_lid");
		const auto state = field<std::uint8_t>(image, "lwp.l_stat");
		l.state = states[state < std::size(states) ? state : 0];
		l.priority = field<std::int16_t>(image, "lwp.l_priority");
		l.switches = field<std::uint64_t>(image, "lwp.l_ncsw");
		const auto *name = reinterpret_cast<const char *>(image + word("lwp.l_name"));
		l.name.assign(name, ::strnlen(name, word("lwp.name_size")));
		l.vcpu = vcpu_index(field<address>(image, "lwp.l_cpu"));
		l.thing = field<address>(image, "lwp.l_wchan");
		if (l.thing != 0) {
			l.slept = field<std::uint64_t>(image, "lwp.l_slept");
			l.why = string_at(field<address>(image, "lwp.l_wmesg"));
			const auto object = field<address>(image, "lwp.l_syncobj");
			auto [it, fresh] = kinds_.try_emplace(object);
			if (fresh) {
				it->second = string_at(memory_.at<address>(object + word("syncobj.so_name")));
			}
			l.kind = it->second;
		}
		return l;
	}

	const std::string &string_at(address a) {
		auto [it, fresh] = strings_.try_emplace(a);
		if (fresh && a != 0) {
			it->second = memory_.text(a, 32);
		}
		return it->second;
	}
	int vcpu_index(address vcpu) {
		auto [it, fresh] = vcpus_.try_emplace(vcpu, -1);
		if (fresh && vcpu != 0) {
			it->second = memory_.at<std::int16_t>(vcpu + word("vcpu.vc_index"));
		}
		return it->second;
	}

	memory memory_;
	std::map<std::string, std::uint64_t, std::less<>> words_;
	address parts_;
	std::uint32_t nparts_;
	std::unordered_map<address, std::string> kinds_, strings_;
	std::unordered_map<address, int> vcpus_;
};

// ---- what is shown -----------------------------------------------------------------------------------------------------------

bool fits(const lwp_line &l, const std::string &wanted) {
	return wanted == std::to_string(l.id) || wanted == l.state || ::fnmatch(wanted.c_str(), l.name.c_str(), 0) == 0;
}

/// "mutex (why)", or "mutex" if the word says no more.
std::string what(const lwp_line &l, bool thing) {
	std::string s = l.kind;
	if (thing) {
		char text[24];
		std::snprintf(text, sizeof text, " 0x%" PRIx64, l.thing);
		s += text;
	}
	return l.why.empty() || l.why == l.kind ? s : s + " (" + l.why + ')';
}

void list(const std::vector<lwp_line> &lines) {
	timespec ts;
	::clock_gettime(CLOCK_MONOTONIC, &ts);
	const std::uint64_t now = static_cast<std::uint64_t>(ts.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(ts.tv_nsec);
	std::printf("%7s %-9s %3s %4s %10s %10s  %-15s %s\n", "ID", "STATE", "PRI", "VCPU", "SWITCHES", "WAITS", "NAME", "FOR");
	for (const lwp_line &l : lines) {
		char waits[16] = "", vcpu[16] = "-";
		if (l.thing != 0) {
			std::snprintf(waits, sizeof waits, "%.3f", now > l.slept ? static_cast<double>(now - l.slept) * 1e-9 : 0.0);
		}
		if (l.vcpu >= 0) {
			std::snprintf(vcpu, sizeof vcpu, "%d", l.vcpu);
		}
		std::printf("%7d %-9s %3d %4s %10" PRIu64 " %10s  ", l.id, l.state, l.priority, vcpu, l.switches, waits);
		l.thing != 0 ? std::printf("%-15s %s\n", l.name.c_str(), what(l, true).c_str()) : std::printf("%s\n", l.name.c_str());
	}
}

void count(const std::vector<lwp_line> &lines) {
	std::map<std::tuple<std::string, std::string>, std::size_t> groups;
	for (const lwp_line &l : lines) {
		groups[{l.state, l.thing != 0 ? what(l, false) : ""}]++;
	}
	std::vector<std::pair<std::size_t, std::tuple<std::string, std::string>>> sorted;
	for (const auto &[key, n] : groups) {
		sorted.emplace_back(n, key);
	}
	std::sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) { return a.first > b.first; });
	std::printf("%zu LWPs\n", lines.size());
	for (const auto &[n, key] : sorted) {
		std::printf("%8zu %-9s %s\n", n, std::get<0>(key).c_str(), std::get<1>(key).c_str());
	}
}

}  // namespace

int main(int argc, char **argv) {
	bool every = false;
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (std::strcmp(argv[i], "-a") != 0) {
			std::fputs("usage: lwp-ps [-a] PID [ID | STATE | NAME]...\n"
			           "The LWPs of a process that uses liblwp, read from outside.  More than 200 are counted by\n"
			           "what they wait for, unless -a.  WAITS is in seconds; PRI is what counts now.\n",
			    std::strcmp(argv[i], "--help") == 0 ? stdout : stderr);
			return std::strcmp(argv[i], "--help") == 0 ? 0 : 2;
		}
		every = true;
	}
	char *end = nullptr;
	const long pid = i < argc ? std::strtol(argv[i], &end, 10) : 0;
	if (pid <= 0 || pid > INT_MAX || *end != '\0') {
		std::fputs("usage: lwp-ps [-a] PID [ID | STATE | NAME]...\n", stderr);
		return 2;
	}
	const std::vector<std::string> wanted(argv + i + 1, argv + argc);

	const std::optional<debug_info> info = find_info(memory(static_cast<pid_t>(pid)), static_cast<pid_t>(pid));
	if (!info) {
		die("process %ld does not have the library, or an older one", pid);
	}
	if (info->di_version != lwp::kern::debug_version) {
		die("process %ld has version %u of lwp_debug_info, not %u", pid, info->di_version, lwp::kern::debug_version);
	}
	std::vector<lwp_line> lines = looker(static_cast<pid_t>(pid), *info).all();
	if (!wanted.empty()) {
		std::erase_if(lines, [&](const lwp_line &l) {
			return std::none_of(wanted.begin(), wanted.end(), [&](const std::string &w) { return fits(l, w); });
		});
	}
	if (lines.size() > listed_most && !every) {
		count(lines);
	} else {
		list(lines);
	}
	return lines.empty() ? 1 : 0;  // as ps(1)
}
