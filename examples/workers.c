/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The C face: some worker LWPs take blocks of a file from a bounded queue and compute the CRC-32 of each; the sum of them is
 * compared with what main() computes alone.  Who wants something of the queue says so in a flag before it looks, and parks if it
 * finds nothing; who changes the queue takes the flags down and unparks their owners.
 */
#define _GNU_SOURCE
#include <lwp/lwp.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { max_workers = 64, queue_length = 16, block_size = 64 * 1024, max_size = 1 << 26 };

struct sleeper {
	lwpid_t lid;
	atomic_bool wants; /* it looks at the queue, or parks because it found nothing */
};

static struct sleeper boss, worker[max_workers];
static int workers = 4;
static const unsigned char *data;
static size_t size;
static _Atomic size_t queue[queue_length]; /* where blocks begin; filled from `head` to before `tail` by main() alone */
static _Atomic size_t head, tail;
static atomic_bool closed;
static _Atomic uint64_t sum;

static void fail(const char *what) {
	fprintf(stderr, "workers: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t crc32(size_t at) {
	uint32_t crc = ~UINT32_C(0);
	for (size_t end = size - at < block_size ? size : at + block_size; at < end; ++at) {
		crc ^= data[at];
		for (int bit = 0; bit < 8; ++bit) {
			crc = (crc >> 1) ^ (UINT32_C(0xedb88320) & (0 - (crc & 1)));
		}
	}
	return ~crc;
}

static void wait_once(void) { _lwp_park(CLOCK_MONOTONIC, 0, NULL, 0, NULL, NULL); }

static void wake(struct sleeper *s, int n) {
	for (int i = 0; i < n; ++i) {
		if (atomic_exchange(&s[i].wants, false)) {
			_lwp_unpark(s[i].lid, NULL);
		}
	}
}

static void put(size_t at) {
	for (atomic_store(&boss.wants, true); tail - head == queue_length; atomic_store(&boss.wants, true)) {
		wait_once();
	}
	queue[tail % queue_length] = at;
	++tail;
	wake(worker, workers);
}

/* 1 a block, 0 none just now, -1 none any more. */
static int try_get(size_t *at) {
	const bool last = closed; /* read first: nothing is put after it */
	size_t mine = head;
	do {
		if (mine == tail) {
			return last ? -1 : 0;
		}
		*at = queue[mine % queue_length]; /* of no use if another worker has taken it: then `head` has changed */
	} while (!atomic_compare_exchange_weak(&head, &mine, mine + 1));
	return 1;
}

static bool get(struct sleeper *self, size_t *at) {
	int found;
	for (atomic_store(&self->wants, true); (found = try_get(at)) == 0; atomic_store(&self->wants, true)) {
		wait_once();
	}
	wake(&boss, 1);
	return found == 1;
}

static void work(void *self) {
	size_t at;
	while (get(self, &at)) {
		sum += crc32(at);
	}
}

static void read_file(const char *path) {
	FILE *f = fopen(path, "rb");
	unsigned char *memory = malloc(max_size);
	if (f == NULL || memory == NULL) {
		fail(path);
	}
	size = fread(memory, 1, max_size, f);
	data = memory;
	fclose(f);
}

int main(int argc, char **argv) {
	const char *path = argc > 1 ? argv[1] : "/proc/self/exe";
	workers = argc > 2 ? atoi(argv[2]) : workers;
	if (strcmp(path, "--help") == 0 || argc > 3 || workers < 1 || workers > max_workers) {
		printf("usage: workers [FILE [WORKERS]]\nAdds up the CRC-32s of the 64 KiB blocks of FILE (of itself) with WORKERS (4, at most 64) "
		       "LWPs.\n");
		return argc == 2 ? 0 : 2;
	}
	read_file(path);
	boss.lid = _lwp_self();
	for (int i = 0; i < workers; ++i) {
		ucontext_t context;
		_lwp_makecontext(&context, work, &worker[i], NULL, NULL, 0);
		if (_lwp_create(&context, LWP_SUSPENDED, &worker[i].lid) != 0) {
			fail("_lwp_create");
		}
		_lwp_setname(worker[i].lid, "worker");
		_lwp_continue(worker[i].lid);
	}
	uint64_t expected = 0;
	for (size_t at = 0; at < size; at += block_size) {
		put(at);
		expected += crc32(at);
	}
	closed = true;
	wake(worker, workers);
	for (int i = 0; i < workers; ++i) {
		if (_lwp_wait(0, NULL) != 0) {
			fail("_lwp_wait");
		}
	}
	const bool right = sum == expected;
	printf("workers: %d LWPs, %zu blocks, sum %016llx, %s\n", workers, (size_t)tail, (unsigned long long)sum, right ? "right" : "WRONG");
	free((void *)(uintptr_t)data);
	return right ? 0 : 1;
}
