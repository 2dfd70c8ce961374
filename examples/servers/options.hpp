// SPDX-License-Identifier: BSD-2-Clause
//
// Command lines of the example servers: --name VALUE or --name=VALUE, --help, and what is left over.
#pragma once

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace serve {

class options {
public:
	using place = std::variant<bool *, unsigned *, double *, std::string *>;

	/// `usage` is what follows the program's name in the first line, `about` what it does.
	options(const char *program, const char *usage, const char *about) : program_(program), usage_(usage), about_(about) {}

	/// An option stored in `where`, whose value is its default.  `argument` is null for a bool.
	void add(const char *name, const char *argument, const char *help, place where) { all_.push_back({name, argument, help, where}); }

	/// True to go on; else *status is the exit status.
	[[nodiscard]] bool parse(int argc, char **argv, int *status) {
		for (int i = 1; i < argc; i++) {
			std::string_view word = argv[i];
			if (word == "--help") {
				help(stdout);
				*status = 0;
				return false;
			}
			if (!word.starts_with("--")) {
				rest_.emplace_back(word);
				continue;
			}
			word.remove_prefix(2);
			const std::size_t equals = word.find('=');
			const option *o = find(word.substr(0, equals));
			const bool flag = o != nullptr && o->argument == nullptr;
			const char *value = equals != std::string_view::npos ? word.data() + equals + 1
			    : flag                                           ? ""
			    : i + 1 < argc                                   ? argv[++i]
			                                                     : nullptr;
			if (o == nullptr || value == nullptr || (flag && *value != '\0') || !store(*o, value)) {
				std::fprintf(stderr, "%s: cannot understand '%s'; --help lists the options\n", program_, argv[i]);
				*status = 2;
				return false;
			}
		}
		return true;
	}
	[[nodiscard]] const std::vector<std::string> &rest() const { return rest_; }
	[[nodiscard]] const char *program() const { return program_; }

	void help(std::FILE *to) const {
		std::fprintf(to, "usage: %s %s\n%s\n", program_, usage_, about_);
		for (const option &o : all_) {
			const std::string name = std::string(o.name) + (o.argument != nullptr ? std::string(" ") + o.argument : "");
			std::fprintf(to, "  --%-22s %s (%s)\n", name.c_str(), o.help, text(o.where).c_str());
		}
	}

private:
	struct option {
		const char *name, *argument, *help;
		place where;
	};

	const option *find(std::string_view name) const {
		for (const option &o : all_) {
			if (name == o.name) {
				return &o;
			}
		}
		return nullptr;
	}

	static bool store(const option &o, const char *value) {
		return std::visit(
		    [value](auto *p) {
			    using type = std::remove_pointer_t<decltype(p)>;
			    if constexpr (std::is_same_v<type, bool>) {
				    *p = true;
				    return true;
			    } else if constexpr (std::is_same_v<type, std::string>) {
				    *p = value;
				    return true;
			    } else {
				    const std::string_view v = value;
				    const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), *p);
				    return error == std::errc() && end == v.data() + v.size() && *p >= 0;
			    }
		    },
		    o.where);
	}

	static std::string text(const place &where) {
		return std::visit(
		    [](const auto *p) -> std::string {
			    using type = std::remove_cv_t<std::remove_pointer_t<decltype(p)>>;
			    if constexpr (std::is_same_v<type, bool>) {
				    return *p ? "on" : "off";
			    } else if constexpr (std::is_same_v<type, std::string>) {
				    return p->empty() ? "none" : *p;
			    } else if constexpr (std::is_same_v<type, double>) {
				    char buffer[32];
				    std::snprintf(buffer, sizeof(buffer), "%g", *p);
				    return buffer;
			    } else {
				    return std::to_string(*p);
			    }
		    },
		    where);
	}

	const char *program_, *usage_, *about_;
	std::vector<option> all_;
	std::vector<std::string> rest_;
};

}  // namespace serve
