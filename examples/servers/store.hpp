// SPDX-License-Identifier: BSD-2-Clause
//
// Keys and values in memory, in shards; a key may have a time at which it goes.  Each shard is a map, a mutex, its deadlines in order, and an LWP
// that sleeps until the first of them.  A key that is past its time is never seen, also when that LWP is late.
// Whoever uses keys holds the shards of all of them (store::hold), so that what touches several keys is one step for everybody else.
// Shards are locked in the order of their numbers.
#pragma once

#include <lwp/condition_variable.hpp>
#include <lwp/mutex.hpp>
#include <lwp/thread.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kv {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
inline constexpr time_point never = time_point::max();

/// A key and its hash, which is wanted more than once: for the shard, and in it.
struct key {
	key(std::string_view t) : text(t), hash(std::hash<std::string_view>()(t)) {}
	std::string_view text;
	std::size_t hash;
};

class store {
	struct entry;
	struct by_text {
		using is_transparent = void;
		std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
		std::size_t operator()(const key &k) const { return k.hash; }
	};
	struct same_text {
		using is_transparent = void;
		bool operator()(std::string_view a, std::string_view b) const { return a == b; }
		bool operator()(const key &a, std::string_view b) const { return a.text == b; }
		bool operator()(std::string_view a, const key &b) const { return a == b.text; }
	};
	using map = std::unordered_map<std::string, entry, by_text, same_text>;
	using deadlines = std::multimap<time_point, const std::string *>;
	struct entry {
		std::string value;
		deadlines::iterator due;  // valid if `mortal`
		bool mortal = false;
	};
	struct alignas(64) shard {
		lwp::mutex lock;
		lwp::condition_variable_any first_changed;
		map entries;
		deadlines due;  // of the mortal ones; points to their keys in `entries`
		lwp::jthread janitor;
	};
	static constexpr std::size_t shards = 16;

public:
	/// `max_bytes`: what keys and values may take, about; 0 is no limit.
	explicit store(std::size_t max_bytes) : max_bytes_(max_bytes) {
		for (shard &s : shards_) {
			s.janitor = lwp::jthread({.name = "janitor"}, [this, &s](const std::stop_token &stop) { watch(s, stop); });
		}
	}

	/// Holds the shards of some keys, or all of them, for its life.
	class hold {
	public:
		hold(store &s, std::span<const std::string_view> keys, std::size_t step = 1) : store_(s) {
			for (std::size_t i = 0; i < keys.size(); i += step) {
				held_ |= 1U << shard_of(keys[i]);
			}
			lock();
		}
		hold(store &s, const key &k) : store_(s), held_(1U << shard_of(k)) { lock(); }
		explicit hold(store &s) : store_(s), held_((1U << shards) - 1) { lock(); }
		~hold() {
			for (unsigned left = held_; left != 0; left &= left - 1) {
				store_.shards_[static_cast<std::size_t>(std::countr_zero(left))].lock.unlock();
			}
		}
		hold(const hold &) = delete;
		hold &operator=(const hold &) = delete;

	private:
		void lock() {
			for (unsigned left = held_; left != 0; left &= left - 1) {  // the lowest first
				store_.shards_[static_cast<std::size_t>(std::countr_zero(left))].lock.lock();
			}
		}
		store &store_;
		unsigned held_ = 0;
	};

	// ---- for who holds the key's shard ----

	/// Null if there is none.  Valid while the shard is held and the key is not set or erased.
	const std::string *find(const key &k) {
		shard &s = at(k);
		const auto it = live(s, k);
		return it == s.entries.end() ? nullptr : &it->second.value;
	}

	/// The key's deadline stays as it is if `keep`, else becomes `when`.  False: no room.
	[[nodiscard]] bool set(const key &k, std::string_view value, time_point when = never, bool keep = false) {
		shard &s = at(k);
		auto it = live(s, k);
		const std::size_t before = it == s.entries.end() ? 0 : it->second.value.size();
		const std::size_t extra = it == s.entries.end() ? k.text.size() + overhead : 0;
		if (max_bytes_ != 0 && bytes_ + extra + value.size() > max_bytes_ + before) {
			return false;
		}
		if (it == s.entries.end()) {
			it = s.entries.emplace(k.text, entry{}).first;
			count_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
		}
		bytes_ += extra + value.size() - before;  // unsigned: it wraps to what is right
		it->second.value.assign(value);
		if (!keep) {
			set_due(s, *it, when);
		}
		return true;
	}

	bool erase(const key &k) {
		shard &s = at(k);
		const auto it = live(s, k);
		if (it == s.entries.end()) {
			return false;
		}
		drop(s, it);
		return true;
	}

	/// False: there is no such key.  A time that has passed erases it.
	bool expire(const key &k, time_point when) {
		shard &s = at(k);
		const auto it = live(s, k);
		if (it == s.entries.end()) {
			return false;
		}
		if (when <= clock::now()) {
			drop(s, it);
		} else {
			set_due(s, *it, when);
		}
		return true;
	}

	/// The deadline of a key that exists.
	time_point due(const key &k) {
		shard &s = at(k);
		const auto it = live(s, k);
		return it == s.entries.end() || !it->second.mortal ? never : it->second.due->first;
	}

	// ---- for who holds all ----

	void clear() {
		for (shard &s : shards_) {
			while (!s.entries.empty()) {
				drop(s, s.entries.begin());
			}
		}
	}

	// ---- for anybody ----

	[[nodiscard]] std::int64_t size() const { return count_; }
	[[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
	static std::size_t shard_of(const key &k) { return k.hash >> 7 & (shards - 1); }
	shard &at(const key &k) { return shards_[shard_of(k)]; }

	/// The key, if its time has not come.
	map::iterator live(shard &s, const key &k) {
		const auto it = s.entries.find(k);
		if (it != s.entries.end() && it->second.mortal && it->second.due->first <= clock::now()) {
			drop(s, it);
			return s.entries.end();
		}
		return it;
	}

	void set_due(shard &s, map::value_type &e, time_point when) {
		if (e.second.mortal) {
			s.due.erase(e.second.due);
		}
		e.second.mortal = when != never;
		if (!e.second.mortal) {
			return;
		}
		e.second.due = s.due.emplace(when, &e.first);
		if (e.second.due == s.due.begin()) {
			s.first_changed.notify_one();
		}
	}

	void drop(shard &s, map::iterator it) {
		if (it->second.mortal) {
			s.due.erase(it->second.due);
		}
		bytes_ -= it->first.size() + it->second.value.size() + overhead;
		count_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a statistic
		s.entries.erase(it);
	}

	/// The LWP of a shard: takes out what is due, then sleeps until the next is, or until one is due earlier.
	void watch(shard &s, const std::stop_token &stop) {
		std::unique_lock held(s.lock);
		while (!stop.stop_requested()) {
			while (!s.due.empty() && s.due.begin()->first <= clock::now()) {
				drop(s, s.entries.find(*s.due.begin()->second));
			}
			const time_point until = s.due.empty() ? never : s.due.begin()->first;
			const auto changed = [&] { return (s.due.empty() ? never : s.due.begin()->first) < until; };
			if (until == never) {
				s.first_changed.wait(held, stop, changed);
			} else {
				s.first_changed.wait_until(held, stop, until, changed);
			}
		}
	}

	static constexpr std::size_t overhead = 128;  // of a key beside its bytes, about

	const std::size_t max_bytes_;
	std::atomic<std::size_t> bytes_{0};
	std::atomic<std::int64_t> count_{0};
	std::array<shard, shards> shards_;  // last: the janitors end first
};

}  // namespace kv
