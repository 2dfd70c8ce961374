// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report_names.h"

#include "proc/report_text.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lwp::kern {

/// A file's symbol table (.symtab), as it is on the disk.  What is not there, or is no ELF file of ours, has no names.
class symbol_file {
public:
	symbol_file(const char *path, void *base) noexcept : base_(base) {
		const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
		struct stat st {};
		if (fd >= 0 && ::fstat(fd, &st) == 0 && st.st_size > 0) {
			void *at = ::mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
			if (at != MAP_FAILED) {
				bytes_ = static_cast<const char *>(at);
				size_ = static_cast<std::size_t>(st.st_size);
				find_tables();
			}
		}
		if (fd >= 0) {
			::close(fd);
		}
	}
	~symbol_file() {
		if (bytes_ != nullptr) {
			::munmap(const_cast<char *>(bytes_), size_);
		}
	}
	symbol_file(const symbol_file &) = delete;
	symbol_file &operator=(const symbol_file &) = delete;

	[[nodiscard]] const void *base() const noexcept { return base_; }

	/// The mangled name of the function that `address` is in; null: not known.
	[[nodiscard]] const char *name_at(const void *address) const noexcept {
		// A file that may be anywhere has the addresses of its symbols from its base on.
		const auto wanted = reinterpret_cast<std::uintptr_t>(address) - (moves_ ? reinterpret_cast<std::uintptr_t>(base_) : 0);
		for (std::size_t i = 0; i < count_; i++) {
			const ElfW(Sym) &s = symbols_[i];
			if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && s.st_value <= wanted && wanted - s.st_value < s.st_size &&
			    s.st_name < names_size_) {
				return names_ + s.st_name;
			}
		}
		return nullptr;
	}

private:
	template <class T>
	const T *part(std::size_t offset, std::size_t count) const noexcept {
		const bool inside = offset <= size_ && offset % alignof(T) == 0 && count <= (size_ - offset) / sizeof(T);
		return inside ? reinterpret_cast<const T *>(bytes_ + offset) : nullptr;
	}

	void find_tables() noexcept {
		const auto *head = part<ElfW(Ehdr)>(0, 1);
		if (head == nullptr || std::memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
		    head->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || head->e_shentsize != sizeof(ElfW(Shdr))) {
			return;
		}
		const auto *sections = part<ElfW(Shdr)>(head->e_shoff, head->e_shnum);
		for (std::size_t i = 0; sections != nullptr && i < head->e_shnum; i++) {
			const ElfW(Shdr) &table = sections[i];
			if (table.sh_type != SHT_SYMTAB || table.sh_link >= head->e_shnum) {
				continue;
			}
			const ElfW(Shdr) &text = sections[table.sh_link];
			const std::size_t count = table.sh_size / sizeof(ElfW(Sym));
			symbols_ = part<ElfW(Sym)>(table.sh_offset, count);
			names_ = part<char>(text.sh_offset, text.sh_size);
			if (symbols_ != nullptr && names_ != nullptr && text.sh_size != 0 && names_[text.sh_size - 1] == '\0') {
				count_ = count;
				names_size_ = text.sh_size;
			}
		}
		moves_ = head->e_type == ET_DYN;
	}

	void *base_;
	const char *bytes_ = nullptr;
	std::size_t size_ = 0;
	const ElfW(Sym) *symbols_ = nullptr;
	std::size_t count_ = 0;
	const char *names_ = nullptr;
	std::size_t names_size_ = 0;
	bool moves_ = false;
};

namespace {

/// The program itself may be known by a name that leads nowhere from here.
bool is_program(const void *base) noexcept {
	Dl_info info{};
	const auto headers = static_cast<std::uintptr_t>(::getauxval(AT_PHDR));
	return headers != 0 && ::dladdr(reinterpret_cast<void *>(headers), &info) != 0 && info.dli_fbase == base;
}

void add_function(std::string &out, const char *mangled) {
	int status = -1;
	char *plain = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
	out += status == 0 ? plain : mangled;
	std::free(plain);
	out += ' ';
}

}  // namespace

report_names::report_names() = default;
report_names::~report_names() = default;

const symbol_file &report_names::file_of(const char *path, void *base) {
	for (const auto &file : files_) {
		if (file->base() == base) {
			return *file;
		}
	}
	files_.push_back(std::make_unique<symbol_file>(is_program(base) ? "/proc/self/exe" : path, base));
	return *files_.back();
}

const std::string &report_names::at(void *address) {
	const auto found = known_.find(address);
	if (found != known_.end()) {
		return found->second;
	}
	std::string out;
	void *call = static_cast<char *>(address) - 1;  // a call that does not return may be a function's last instruction
	Dl_info info{};
	if (::dladdr(call, &info) == 0 || info.dli_fname == nullptr) {
		out += '?';
	} else {
		const char *name = file_of(info.dli_fname, info.dli_fbase).name_at(call);
		if (name == nullptr) {
			name = info.dli_sname;
		}
		if (name != nullptr) {
			add_function(out, name);
		}
		const char *slash = std::strrchr(info.dli_fname, '/');
		report_add(out, "(%s+0x%zx)", slash != nullptr ? slash + 1 : info.dli_fname,
		    static_cast<std::size_t>(static_cast<char *>(address) - static_cast<char *>(info.dli_fbase)));
	}
	return known_.emplace(address, std::move(out)).first->second;
}

}  // namespace lwp::kern
