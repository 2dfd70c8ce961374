/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What floor_read and lwp_read share, so that both do the same: the file and where in it they read, and what is counted.  C and C++.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { block = 4096, buckets = 1 << 16 }; /* a bucket for each microsecond, the last for all above */

struct subject {
	int fd;
	unsigned depth;
	double seconds;
	uint64_t blocks;
};

struct statistics {
	uint64_t first, last; /* what counts ends between */
	uint64_t total, longest, random;
	uint32_t *histogram;
};

static inline void die(const char *what, int error) {
	fprintf(stderr, "%s: %s\n", what, strerror(error));
	exit(1);
}

static inline uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* ARGV: a name, FILE DEPTH SECONDS [direct].  False: these are no such arguments. */
static inline bool subject_open(struct subject *s, int argc, char **argv) {
	if (argc < 4) {
		return false;
	}
	const bool direct = argc > 4 && strcmp(argv[4], "direct") == 0;
	struct stat status;
	s->depth = (unsigned)atoi(argv[2]);
	s->seconds = atof(argv[3]);
	s->fd = open(argv[1], O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (s->fd < 0 || fstat(s->fd, &status) != 0) {
		die(argv[1], errno);
	}
	s->blocks = (uint64_t)status.st_size / block;
	return s->depth > 0 && s->seconds > 0 && s->blocks > 0;
}

/* A multiple of the block size (xorshift64). */
static inline uint64_t somewhere(const struct subject *s, uint64_t *random) {
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random % s->blocks * block;
}

/* A quarter of the time again comes before what is counted. */
static inline struct statistics statistics_begin(const struct subject *s) {
	struct statistics st;
	memset(&st, 0, sizeof(st));
	st.random = 88172645463325252U;
	st.histogram = (uint32_t *)calloc(buckets, sizeof(uint32_t));
	if (st.histogram == NULL) {
		die("memory", ENOMEM);
	}
	st.first = now() + (uint64_t)(s->seconds * 0.25e9);
	st.last = st.first + (uint64_t)(s->seconds * 1e9);
	return st;
}

/* A read that began then has ended.  False: it is time to stop. */
static inline bool statistics_count(struct statistics *st, uint64_t begin) {
	const uint64_t t = now();
	if (t >= st->first && t < st->last) {
		const uint64_t us = (t - begin) / 1000;
		st->histogram[us < buckets ? us : buckets - 1]++;
		st->longest = us > st->longest ? us : st->longest;
		st->total++;
	}
	return t < st->last;
}

static inline unsigned statistics_percentile(const struct statistics *st, double part) {
	uint64_t seen = 0;
	unsigned us = 0;
	for (; us < buckets - 1; us++) {
		seen += st->histogram[us];
		if ((double)seen >= part * (double)st->total) {
			break;
		}
	}
	return us;
}

static inline void statistics_print(const struct statistics *st, const struct subject *s) {
	printf("%.0f %u %u %llu\n", (double)st->total / s->seconds, statistics_percentile(st, 0.5), statistics_percentile(st, 0.99),
	    (unsigned long long)st->longest);
}
