// SPDX-License-Identifier: BSD-2-Clause
//
// A lock is a byte: 0, or 1 + the process that holds it.  Taking one waits; giving one back asserts that it is ours.
#define LOCK(x) \
	atomic { (x) == 0->x = _pid + 1 }
#define UNLOCK(x)                \
	atomic {                     \
		assert((x) == _pid + 1); \
		x = 0                    \
	}
#define HELD(x) ((x) == _pid + 1)
