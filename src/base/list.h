// SPDX-License-Identifier: BSD-2-Clause
//
// An intrusive doubly linked list: two pointers in the element, none owned, every operation O(1).  No locks.
#pragma once

#include "base/assert.h"

namespace lwp::kern {

template <class T>
struct list_link {
	T *next = nullptr;
	T *prev = nullptr;
};

template <class T, list_link<T> T::*Link>
class list {
public:
	[[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
	[[nodiscard]] T *front() const noexcept { return head_; }
	[[nodiscard]] T *back() const noexcept { return tail_; }
	[[nodiscard]] static T *next(const T *e) noexcept { return (e->*Link).next; }
	[[nodiscard]] static T *prev(const T *e) noexcept { return (e->*Link).prev; }

	LWP_ALWAYS_INLINE void push_back(T *e) noexcept {
		(e->*Link).next = nullptr;
		(e->*Link).prev = tail_;
		(tail_ != nullptr ? (tail_->*Link).next : head_) = e;
		tail_ = e;
	}
	LWP_ALWAYS_INLINE void push_front(T *e) noexcept {
		(e->*Link).prev = nullptr;
		(e->*Link).next = head_;
		(head_ != nullptr ? (head_->*Link).prev : tail_) = e;
		head_ = e;
	}
	/// Before `at`; at the end if that is null.
	void insert(T *at, T *e) noexcept {
		if (at == nullptr) {
			push_back(e);
		} else if (at == head_) {
			push_front(e);
		} else {
			(e->*Link).next = at;
			(e->*Link).prev = (at->*Link).prev;
			((at->*Link).prev->*Link).next = e;
			(at->*Link).prev = e;
		}
	}
	LWP_ALWAYS_INLINE void remove(T *e) noexcept {
		T *n = (e->*Link).next;
		T *p = (e->*Link).prev;
		LWP_ASSERT(p != nullptr ? (p->*Link).next == e : head_ == e);
		(p != nullptr ? (p->*Link).next : head_) = n;
		(n != nullptr ? (n->*Link).prev : tail_) = p;
	}
	LWP_ALWAYS_INLINE T *pop_front() noexcept {
		T *e = head_;
		if (e != nullptr) {
			remove(e);
		}
		return e;
	}

private:
	T *head_ = nullptr;
	T *tail_ = nullptr;
};

}  // namespace lwp::kern
