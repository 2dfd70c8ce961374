/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The C face from outside: an LWP is created, gets its argument, and is waited for.
 */
#include <lwp/lwp.h>

#include <stdio.h>

static void add(void *arg) {
	int *sum = arg;
	*sum += 42;
}

int main(void) {
	int sum = 0;
	ucontext_t context;
	lwpid_t lid = 0, departed = 0;
	_lwp_makecontext(&context, add, &sum, NULL, NULL, 0);
	if (_lwp_create(&context, 0, &lid) != 0) {
		perror("_lwp_create");
		return 1;
	}
	if (_lwp_wait(lid, &departed) != 0) {
		perror("_lwp_wait");
		return 1;
	}
	printf("hello from C: %d\n", sum);
	return sum == 42 && departed == lid ? 0 : 1;
}
