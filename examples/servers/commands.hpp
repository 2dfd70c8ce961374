// SPDX-License-Identifier: BSD-2-Clause
//
// The commands of kv, as a table, and what each does.  They have the names, arguments and replies of Redis 7, whose documentation describes them; what is
// not in the table is an error, as there.  An MSET, MGET, DEL or EXISTS of several keys is one step.  Blocks only for the shards of its keys.
#pragma once

#include "resp.hpp"
#include "store.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <strings.h>
#include <unistd.h>

namespace kv {

/// What a command may look at and change.
struct call {
	store &all;
	const resp::words &words;  // the command's name first
	std::string &out;          // the reply is appended
	std::size_t clients;
	bool &quit;
};

namespace detail {

constexpr std::string_view not_an_integer = "ERR value is not an integer or out of range";
constexpr std::string_view bad_syntax = "ERR syntax error";
constexpr std::size_t longest_reply = 64 << 20;  // bytes
constexpr std::string_view no_room = "OOM command not allowed when used memory > 'maxmemory'.";

inline bool same(std::string_view a, const char *b) {
	return a.size() == std::char_traits<char>::length(b) && strncasecmp(a.data(), b, a.size()) == 0;
}

inline bool to_integer(std::string_view text, std::int64_t *out) {
	const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
	return error == std::errc() && end == text.data() + text.size();
}

/// A time `n` units of `unit` ms from now.  False: out of range.
inline bool deadline(std::int64_t n, std::int64_t unit, time_point *out) {
	constexpr std::int64_t most = 100LL * 365 * 24 * 3600 * 1000;  // ms: a century
	if (n > most / unit || n < -most / unit) {
		return false;
	}
	*out = clock::now() + std::chrono::milliseconds(n * unit);
	return true;
}

inline void get(const call &c) {
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	const std::string *value = c.all.find(k);
	value != nullptr ? resp::bulk(c.out, *value) : resp::null(c.out);
}

/// SET key value [NX | XX] [GET] [EX s | PX ms | KEEPTTL]
inline void set(const call &c) {
	bool nx = false, xx = false, give = false, keep = false;
	time_point when = never;
	for (std::size_t i = 3; i < c.words.size(); i++) {
		const std::string_view w = c.words[i];
		const bool seconds = same(w, "EX"), ms = same(w, "PX");
		if (seconds || ms) {
			std::int64_t n = 0;
			if (i + 1 == c.words.size() || when != never || keep) {
				return resp::error(c.out, bad_syntax);
			}
			if (!to_integer(c.words[++i], &n)) {
				return resp::error(c.out, not_an_integer);
			}
			if (n <= 0 || !deadline(n, seconds ? 1000 : 1, &when)) {
				return resp::error(c.out, "ERR invalid expire time in 'set' command");
			}
		} else if (bool *flag = same(w, "NX") ? &nx
		               : same(w, "XX")        ? &xx
		               : same(w, "GET")       ? &give
		               : same(w, "KEEPTTL")   ? &keep
		                                      : nullptr;
		           flag != nullptr) {
			*flag = true;
		} else {
			return resp::error(c.out, bad_syntax);
		}
	}
	if ((nx && xx) || (keep && when != never)) {
		return resp::error(c.out, bad_syntax);
	}
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	const std::string *old = nx || xx || give ? c.all.find(k) : nullptr;
	std::string reply;
	if (give) {
		old != nullptr ? resp::bulk(reply, *old) : resp::null(reply);
	}
	const bool does = !(nx && old != nullptr) && !(xx && old == nullptr);
	if (does && !c.all.set(k, c.words[2], when, keep)) {
		return resp::error(c.out, no_room);
	}
	give ? void(c.out += reply) : does ? resp::ok(c.out) : resp::null(c.out);
}

/// SETEX key seconds value
inline void setex(const call &c) {
	std::int64_t n = 0;
	time_point when;
	if (!to_integer(c.words[2], &n)) {
		return resp::error(c.out, not_an_integer);
	}
	if (n <= 0 || !deadline(n, 1000, &when)) {
		return resp::error(c.out, "ERR invalid expire time in 'setex' command");
	}
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	c.all.set(k, c.words[3], when) ? resp::ok(c.out) : resp::error(c.out, no_room);
}

inline std::span<const std::string_view> keys(const call &c) { return std::span(c.words).subspan(1); }

inline void del(const call &c) {
	const store::hold held(c.all, keys(c));
	resp::integer(c.out, std::ranges::count_if(keys(c), [&](std::string_view k) { return c.all.erase(k); }));
}
inline void exists(const call &c) {
	const store::hold held(c.all, keys(c));
	resp::integer(c.out, std::ranges::count_if(keys(c), [&](std::string_view k) { return c.all.find(k) != nullptr; }));
}

inline void add(const call &c, std::int64_t by) {
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	const std::string *old = c.all.find(k);
	std::int64_t n = 0;
	if (old != nullptr && !to_integer(*old, &n)) {
		return resp::error(c.out, not_an_integer);
	}
	if (__builtin_add_overflow(n, by, &n)) {
		return resp::error(c.out, "ERR increment or decrement would overflow");
	}
	c.all.set(k, std::to_string(n), never, true) ? resp::integer(c.out, n) : resp::error(c.out, no_room);
}
inline void incr(const call &c) { add(c, 1); }
inline void decr(const call &c) { add(c, -1); }
inline void incrby(const call &c) {
	std::int64_t n = 0;
	to_integer(c.words[2], &n) ? add(c, n) : resp::error(c.out, not_an_integer);
}

inline void expire_in(const call &c, std::int64_t unit) {
	std::int64_t n = 0;
	time_point when;
	if (!to_integer(c.words[2], &n)) {
		return resp::error(c.out, not_an_integer);
	}
	if (!deadline(n, unit, &when)) {
		return resp::error(c.out, "ERR invalid expire time in 'expire' command");
	}
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	resp::integer(c.out, c.all.expire(k, when) ? 1 : 0);
}
inline void expire(const call &c) { expire_in(c, 1000); }
inline void pexpire(const call &c) { expire_in(c, 1); }
inline void persist(const call &c) {
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	resp::integer(c.out, c.all.due(k) != never && c.all.expire(k, never) ? 1 : 0);
}

/// -2 no such key, -1 no deadline
inline void ttl_in(const call &c, std::int64_t unit) {
	const key k(c.words[1]);
	const store::hold held(c.all, k);
	if (c.all.find(k) == nullptr) {
		return resp::integer(c.out, -2);
	}
	const time_point when = c.all.due(k);
	const auto ms = std::chrono::ceil<std::chrono::milliseconds>(when - clock::now()).count();
	resp::integer(c.out, when == never ? -1 : (std::max<std::int64_t>(ms, 0) + unit / 2) / unit);
}
inline void ttl(const call &c) { ttl_in(c, 1000); }
inline void pttl(const call &c) { ttl_in(c, 1); }

inline void mget(const call &c) {
	const store::hold held(c.all, keys(c));
	const std::size_t before = c.out.size();
	resp::array(c.out, keys(c).size());
	for (const std::string_view k : keys(c)) {
		const std::string *value = c.all.find(k);
		value != nullptr ? resp::bulk(c.out, *value) : resp::null(c.out);
		if (c.out.size() - before > longest_reply) {  // one key may be named many times
			c.out.resize(before);
			return resp::error(c.out, "ERR reply too long");
		}
	}
}
inline void mset(const call &c) {
	const auto pairs = keys(c);
	if (pairs.size() % 2 != 0) {
		return resp::error(c.out, "ERR wrong number of arguments for 'mset' command");
	}
	const store::hold held(c.all, pairs, 2);
	for (std::size_t i = 0; i < pairs.size(); i += 2) {
		if (!c.all.set(pairs[i], pairs[i + 1])) {
			return resp::error(c.out, no_room);
		}
	}
	resp::ok(c.out);
}

inline void ping(const call &c) { c.words.size() > 1 ? resp::bulk(c.out, c.words[1]) : void(c.out += "+PONG\r\n"); }
inline void echo(const call &c) { resp::bulk(c.out, c.words[1]); }
inline void quit(const call &c) {
	c.quit = true;
	resp::ok(c.out);
}
inline void dbsize(const call &c) { resp::integer(c.out, c.all.size()); }
inline void flush(const call &c) {
	const store::hold held(c.all);
	c.all.clear();
	resp::ok(c.out);
}
inline void select(const call &c) { c.words[1] == "0" ? resp::ok(c.out) : resp::error(c.out, "ERR DB index is out of range"); }
inline void accept_it(const call &c) { resp::ok(c.out); }      // CLIENT SETNAME and the like: nothing depends on it
inline void command(const call &c) { resp::array(c.out, 0); }  // redis-cli asks for what it could complete
inline void config(const call &c) {
	if (!same(c.words[1], "GET") || c.words.size() < 3) {
		return resp::error(c.out, "ERR only CONFIG GET is known");
	}
	// redis-benchmark asks for "save" and "appendonly": nothing is saved.
	const std::string_view name = c.words[2];
	const bool known = same(name, "save") || same(name, "appendonly");
	resp::array(c.out, known ? 2 : 0);
	if (known) {
		resp::bulk(c.out, name);
		resp::bulk(c.out, same(name, "save") ? "" : "no");
	}
}
inline void info(const call &c) {
	std::string text = "# Server\r\nserver:lwp kv\r\nredis_mode:standalone\r\nprocess_id:" + std::to_string(getpid());
	text += "\r\n\r\n# Clients\r\nconnected_clients:" + std::to_string(c.clients);
	text += "\r\n\r\n# Memory\r\nused_memory:" + std::to_string(c.all.bytes());
	text += "\r\n\r\n# Keyspace\r\n";
	if (c.all.size() != 0) {
		text += "db0:keys=" + std::to_string(c.all.size()) + "\r\n";
	}
	resp::bulk(c.out, text);
}

inline constexpr std::size_t any = std::numeric_limits<std::size_t>::max();

struct command_row {
	const char *name;
	std::size_t least, most;  // words, with the name
	void (*run)(const call &);
};

constexpr command_row commands[] = {
    {"GET", 2, 2, get},
    {"SET", 3, any, set},
    {"DEL", 2, any, del},
    {"UNLINK", 2, any, del},
    {"EXISTS", 2, any, exists},
    {"INCR", 2, 2, incr},
    {"DECR", 2, 2, decr},
    {"INCRBY", 3, 3, incrby},
    {"MGET", 2, any, mget},
    {"MSET", 3, any, mset},
    {"SETEX", 4, 4, setex},
    {"EXPIRE", 3, 3, expire},
    {"PEXPIRE", 3, 3, pexpire},
    {"PERSIST", 2, 2, persist},
    {"TTL", 2, 2, ttl},
    {"PTTL", 2, 2, pttl},
    {"PING", 1, 2, ping},
    {"ECHO", 2, 2, echo},
    {"INFO", 1, any, info},
    {"DBSIZE", 1, 1, dbsize},
    {"FLUSHALL", 1, 2, flush},
    {"FLUSHDB", 1, 2, flush},
    {"SELECT", 2, 2, select},
    {"CONFIG", 2, any, config},
    {"COMMAND", 1, any, command},
    {"CLIENT", 2, any, accept_it},
    {"QUIT", 1, any, quit},
};

}  // namespace detail

/// Answers one request of at least one word.
inline void execute(const call &c) {
	for (const detail::command_row &row : detail::commands) {
		if (!detail::same(c.words[0], row.name)) {
			continue;
		}
		if (c.words.size() < row.least || c.words.size() > row.most) {
			std::string name(row.name);
			std::ranges::transform(name, name.begin(), [](char x) { return static_cast<char>(x | 32); });
			return resp::error(c.out, "ERR wrong number of arguments for '" + name + "' command");
		}
		return row.run(c);
	}
	std::string name(c.words[0].substr(0, 64));
	std::ranges::replace_if(
	    name, [](char x) { return x < ' ' || x > '~'; }, '?');  // a line end would end the reply
	resp::error(c.out, "ERR unknown command '" + name + "'");
}

}  // namespace kv
