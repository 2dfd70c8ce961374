// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::channel<T>: values go from those who send to those who receive, each to exactly one, in the order in which they were sent.  Who has to
// wait blocks its LWP only.  Any LWP and any kernel thread of the application may use either end, any number of them at once.
//
// Capacity 0, unbuffered: send() returns once a receiver has the value, which goes straight into the receiver's place.  Capacity n: up to n
// values wait in the channel, and send() returns at once while there is room.  Who waits is served first come first served.
//
// close() says that no more will be sent.  What is in the channel can still be received; then receive() says so by an empty optional.
//
//              open, can go on        has to wait           closed
//   send       sends                  blocks                system_error broken_pipe
//   try_send   true                   false                 system_error broken_pipe
//   receive    the value              blocks                what is left, then nullopt
//
// A value is never lost: a send that does not take place (closed, timeout, stop) has not touched the caller's value.
//
// T is moved once or twice on its way, never copied.  Its move constructor and destructor must not throw, and as those into and out of a
// buffer run under the channel's spin lock they must be short, must not block, and must not use the same channel.
#pragma once

#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace lwp {

/// Why a receive brought nothing.
enum class channel_status : unsigned char {
	success,  ///< it brought something
	empty,    ///< try_receive: a receive would have to wait
	closed,   ///< and nothing is left in it
	timeout,  ///< the time came first
	stopped,  ///< the stop request came first
};

/// A std::optional that says why it is empty.
template <class T>
class received : public std::optional<T> {
public:
	/// success, if there is a value.
	[[nodiscard]] channel_status status() const noexcept { return status_; }

private:
	template <class>
	friend class channel;
	channel_status status_ = channel_status::success;
};

namespace detail {

/// A T that is moved by copying it as one word has that many bytes; any other 0.
template <class T>
inline constexpr std::size_t word_of = std::is_trivially_copyable_v<T> && (sizeof(T) == 8 || sizeof(T) == 4) ? sizeof(T) : 0;

/// Where a receiver wants a T: its bytes, and behind them whether they are there.
template <class T>
struct word_place {
	alignas(T) unsigned char bytes[sizeof(T)];
	bool full = false;
	[[nodiscard]] T get() const noexcept { return std::bit_cast<T>(bytes); }
};
template <class T>
using place_of = std::conditional_t<word_of<T> != 0, word_place<T>, std::optional<T>>;

template <class T>
void deliver(void *place, T &&value) noexcept {
	if constexpr (word_of<T> != 0) {
		auto *p = static_cast<word_place<T> *>(place);
		std::memcpy(p->bytes, std::addressof(value), sizeof(T));
		p->full = true;
	} else {
		static_cast<std::optional<T> *>(place)->emplace(std::move(value));
	}
}

/// How the library moves a T that it does not know.  A place is a receiver's place_of<T>, a slot is memory for a T.
struct channel_type {
	std::size_t size;
	std::size_t word;                                 // word_of: put and take copy so many bytes, and nothing else
	void (*put)(void *slot, void *value) noexcept;    // moves the value into an empty slot
	void (*take)(void *place, void *slot) noexcept;   // moves it on; the slot is empty
	void (*hand)(void *place, void *value) noexcept;  // from the one to the other directly
	void (*drop)(void *slot) noexcept;                // destroys it; the slot is empty
};

template <class T>
inline constexpr channel_type channel_type_of = {
    sizeof(T),
    word_of<T>,
    [](void *slot, void *value) noexcept { ::new (slot) T(std::move(*static_cast<T *>(value))); },
    [](void *place, void *slot) noexcept {
	    deliver<T>(place, std::move(*std::launder(static_cast<T *>(slot))));
	    std::destroy_at(std::launder(static_cast<T *>(slot)));
    },
    [](void *place, void *value) noexcept { deliver<T>(place, std::move(*static_cast<T *>(value))); },
    [](void *slot) noexcept { std::destroy_at(std::launder(static_cast<T *>(slot))); },
};

/// A channel of a type that only its channel_type knows.  The ring belongs to the derived class.
class LWP_API channel_base {
public:
	channel_base(const channel_base &) = delete;
	channel_base &operator=(const channel_base &) = delete;

	/// No more will be sent.  Wakes all who wait: receivers get nullopt, senders broken_pipe.  True for the call that closed it; others do
	/// nothing.  Never blocks.
	bool close() noexcept;
	/// What these say may be over by the time it is read.
	[[nodiscard]] bool closed() const noexcept;
	[[nodiscard]] std::size_t size() const noexcept;  ///< values in the buffer
	[[nodiscard]] std::size_t capacity() const noexcept;

protected:
	channel_base(const channel_type &, void *ring, std::size_t capacity) noexcept;
	~channel_base() = default;
	/// Destroys what is left in it, before its memory goes.  Ends the program if somebody waits in it.
	void drain() noexcept;

	channel_status try_send_from(void *value) noexcept;  // empty: no room
	channel_status send_from(void *value) noexcept;
	channel_status send_from(void *value, steady_time, const std::stop_token *) noexcept;
	channel_status try_receive_into(void *place) noexcept;
	channel_status receive_into(void *place) noexcept;
	channel_status receive_into(void *place, steady_time, const std::stop_token *) noexcept;
	[[noreturn]] static void throw_closed();  // system_error broken_pipe

private:
	friend struct channel_access;
	storage<128> kernel_;
};

}  // namespace detail

/// What the opening of this file says.  All calls may be made by any LWP and any kernel thread.
template <class T>
class channel : public detail::channel_base {
	static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T> && !std::is_volatile_v<T>,
	    "lwp::channel<T>: T is a plain object type; for a reference use a pointer");
	static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>,
	    "lwp::channel<T>: moving a T must not throw, else a value could be lost on its way; send a std::unique_ptr<T>");
	struct slot {
		alignas(T) unsigned char bytes[sizeof(T)];
	};
	using slots = std::allocator<slot>;

public:
	using value_type = T;
	class iterator;

	/// Capacity 0: unbuffered.  Throws std::bad_alloc, std::bad_array_new_length.
	explicit channel(std::size_t capacity = 0) : channel(capacity == 0 ? nullptr : slots().allocate(capacity), capacity) {}
	/// Destroys what is left in it.  Whoever has received the last value or seen it closed may destroy it, even if the other side's call has
	/// not returned yet (a select that named it in one more case must have).  That somebody still waits in it ends the program.
	~channel() {
		drain();
		if (ring_ != nullptr) {
			slots().deallocate(ring_, capacity());
		}
	}

	/// Blocks until the value is received or in the buffer.  Throws std::system_error: broken_pipe, closed; the value is as it was.
	void send(T &&value) { must(send_from(std::addressof(value))); }
	void send(const T &value) requires std::is_copy_constructible_v<T> {
		T copy(value);
		send(std::move(copy));
	}

	/// The same unless it would have to wait.  Returns whether it was sent.  Throws as send().
	[[nodiscard]] bool try_send(T &&value) { return must(try_send_from(std::addressof(value))); }
	[[nodiscard]] bool try_send(const T &value) requires std::is_copy_constructible_v<T> {
		T copy(value);
		return try_send(std::move(copy));
	}

	/// The same, for `duration` at most.  Returns whether it was sent.  Throws as send().
	template <class U, class Rep, class Period>
		requires std::is_same_v<std::remove_cvref_t<U>, T>
	[[nodiscard]] bool send_for(U &&value, const std::chrono::duration<Rep, Period> &duration) {
		return send_until(std::forward<U>(value), detail::deadline_after(duration));
	}
	/// The same, until `deadline` at most.
	template <class U, class Clock, class Duration>
		requires std::is_same_v<std::remove_cvref_t<U>, T>
	[[nodiscard]] bool send_until(U &&value, const std::chrono::time_point<Clock, Duration> &deadline) {
		if constexpr (std::is_same_v<U, T>) {
			return detail::attempt_until(
			    deadline, [&](detail::steady_time t) { return must(send_from(std::addressof(value), t, nullptr)); });
		} else {
			T copy(value);
			return send_until(std::move(copy), deadline);
		}
	}

	/// The same, until a stop is requested; one that was requested before goes first.  Returns whether it was sent.  Throws as send().
	[[nodiscard]] bool send(T &&value, const std::stop_token &stop) {
		return must(send_from(std::addressof(value), detail::steady_time::max(), &stop));
	}
	[[nodiscard]] bool send(const T &value, const std::stop_token &stop) requires std::is_copy_constructible_v<T> {
		T copy(value);
		return send(std::move(copy), stop);
	}

	/// Blocks until there is a value; empty: closed, and nothing is left.
	[[nodiscard]] std::optional<T> receive() {
		std::optional<T> value;
		(void)fill(value, [&](void *place) { return receive_into(place); });
		return value;
	}
	/// The same unless it would have to wait.
	[[nodiscard]] received<T> try_receive() {
		received<T> value;
		value.status_ = fill(value, [&](void *place) { return try_receive_into(place); });
		return value;
	}
	/// The same, for `duration` at most.
	template <class Rep, class Period>
	[[nodiscard]] received<T> receive_for(const std::chrono::duration<Rep, Period> &duration) {
		return receive_until(detail::deadline_after(duration));
	}
	/// The same, until `deadline` at most.
	template <class Clock, class Duration>
	[[nodiscard]] received<T> receive_until(const std::chrono::time_point<Clock, Duration> &deadline) {
		received<T> value;
		(void)detail::attempt_until(deadline, [&](detail::steady_time t) {
			value.status_ = fill(value, [&](void *place) { return receive_into(place, t, nullptr); });
			return value.status_ != channel_status::timeout;
		});
		return value;
	}
	/// The same, until a stop is requested; one that was requested before goes first.
	[[nodiscard]] received<T> receive(const std::stop_token &stop) {
		received<T> value;
		value.status_ = fill(value, [&](void *place) { return receive_into(place, detail::steady_time::max(), &stop); });
		return value;
	}

	/// for (auto &&v : ch): receives until the channel is closed and nothing is left.  An iterator of the input kind: begin() and ++ receive.
	[[nodiscard]] iterator begin() { return iterator(this); }
	/// What an iterator is equal to once the channel is closed and nothing is left.
	[[nodiscard]] std::default_sentinel_t end() noexcept { return std::default_sentinel; }

private:
	channel(slot *ring, std::size_t capacity) noexcept : detail::channel_base(detail::channel_type_of<T>, ring, capacity), ring_(ring) {}
	template <class Into>
	static channel_status fill(std::optional<T> &value, const Into &into) {
		if constexpr (detail::word_of<T> != 0) {
			detail::word_place<T> place;
			const channel_status status = into(std::addressof(place));
			if (place.full) {
				value.emplace(place.get());
			}
			return status;
		} else {
			return into(std::addressof(value));
		}
	}
	static bool must(channel_status status) {
		if (status == channel_status::closed) {
			throw_closed();
		}
		return status == channel_status::success;
	}
	slot *const ring_;
};

/// What begin() gives: each step receives, and blocks until it has a value or the channel is closed and empty.
template <class T>
class channel<T>::iterator {
public:
	using value_type = T;
	using difference_type = std::ptrdiff_t;
	using iterator_concept = std::input_iterator_tag;

	/// Receives the first value.
	explicit iterator(channel *from) : from_(from), value_(from->receive()) {}
	/// The value that was received last; it may be moved from.
	[[nodiscard]] T &operator*() const noexcept { return *value_; }
	/// Receives the next one.
	iterator &operator++() {
		value_ = std::nullopt;
		value_ = from_->receive();
		return *this;
	}
	/// The same; there is no way back.
	void operator++(int) { ++*this; }
	[[nodiscard]] friend bool operator==(const iterator &i, std::default_sentinel_t) noexcept { return !i.value_.has_value(); }

private:
	channel *from_;
	mutable std::optional<T> value_;
};

}  // namespace lwp
