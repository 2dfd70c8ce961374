// SPDX-License-Identifier: BSD-2-Clause
//
// The C++ face from outside: a thread is started, gets its argument, and is joined.
#include <lwp/lwp.hpp>

#include <cstdio>

int main() {
	int sum = 0;
	lwp::thread t([&sum](int n) { sum += n; }, 42);
	t.join();
	std::printf("hello from C++: %d\n", sum);
	return sum == 42 ? 0 : 1;
}
