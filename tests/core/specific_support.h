// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of LWP-specific data share: what stands for an LWP, and values that are counted.
#pragma once

#include "core/specific.h"

#include <gtest/gtest.h>

#include <atomic>

namespace lwp::kern {

struct lwp_like {
	specref ref;
	lwp_like() = default;
	~lwp_like() { exit(); }
	lwp_like(const lwp_like &) = delete;
	lwp_like &operator=(const lwp_like &) = delete;
	void exit() {
		specific_fini(ref);
		EXPECT_TRUE(specific_empty(ref));
	}
};

/// A value that counts how often it was destroyed.
struct counted {
	std::atomic<int> destroyed{0};
	static void destroy(void *p) { static_cast<counted *>(p)->destroyed++; }
};

/// The destructor of a key that has no values.
inline void destroy_wrongly(void *p) { static_cast<counted *>(p)->destroyed += 1000; }

inline unsigned key_with(void (*dtor)(void *)) {
	unsigned key = ~0U;
	EXPECT_EQ(specific_key_create(&key, dtor), 0);
	return key;
}

inline unsigned tss_with(void (*dtor)(void *)) {
	unsigned key = 0;
	EXPECT_EQ(tss_create(&key, dtor), 0);
	EXPECT_NE(key, 0U);
	return key;
}

}  // namespace lwp::kern
