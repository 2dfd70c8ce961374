/* SPDX-License-Identifier: BSD-2-Clause
 *
 * load: keeps connections to a server busy.  Each sends a request, waits for the whole reply, and sends again, for SECONDS after a warm-up of
 * a quarter of that.  One kernel thread on epoll that never sleeps; every round trip's time is counted.
 *
 * Usage: load PORT CONNECTIONS SECONDS [fresh | REQUEST REPLY_SIZE].  Without a request it sends 64 bytes, and waits for 64 (echo); with fresh each
 * time over a new connection, which is then reset.
 * Prints "REQUESTS_PER_SECOND P50_US P99_US MAX_US".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { buckets = 1 << 17, max_reply = 65536 }; /* a bucket for each microsecond, the last for all above */

struct peer {
	int fd;
	size_t missing; /* of the reply */
	uint64_t begin;
};

static const char *request = "................................................................";
static size_t request_size = 64, reply_size = 64;
static bool fresh;
static struct sockaddr_in server = {.sin_family = AF_INET};

static void die(const char *what) {
	perror(what);
	exit(1);
}

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void ask(struct peer *p) {
	p->begin = now();
	p->missing = reply_size;
	/* One request is under way: it fits into the socket's buffers. */
	if (send(p->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) {
		die("send");
	}
}

/* True when the answer is complete. */
static bool hear(struct peer *p) {
	static char bytes[max_reply];
	const ssize_t n = recv(p->fd, bytes, p->missing, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		fputs("load: the server ended a connection\n", stderr);
		exit(1);
	}
	p->missing -= n > 0 ? (size_t)n : 0;
	return p->missing == 0;
}

static void connect_one(struct peer *p, int set) {
	const int one = 1;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = p};
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&server, sizeof(server)) != 0 ||
	    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 || epoll_ctl(set, EPOLL_CTL_ADD, p->fd, &e) != 0) {
		die("connect");
	}
}

/* By a reset, which leaves the port free. */
static void reconnect(struct peer *p, int set) {
	const struct linger hard = {.l_onoff = 1, .l_linger = 0};
	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(p->fd);
	connect_one(p, set);
}

static unsigned percentile(const uint32_t *histogram, uint64_t total, double part) {
	uint64_t seen = 0;
	unsigned us = 0;
	for (; us < buckets - 1; us++) {
		seen += histogram[us];
		if ((double)seen >= part * (double)total) {
			break;
		}
	}
	return us;
}

int main(int argc, char **argv) {
	if (argc < 4) {
		fputs("usage: load PORT CONNECTIONS SECONDS [fresh | REQUEST REPLY_SIZE]\n", stderr);
		return 2;
	}
	const long count = atol(argv[2]);
	const double seconds = atof(argv[3]);
	fresh = argc == 5 && strcmp(argv[4], "fresh") == 0;
	if (argc > 5) {
		request = argv[4];
		request_size = strlen(request);
		reply_size = (size_t)atol(argv[5]);
	}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	const int set = epoll_create1(EPOLL_CLOEXEC);
	struct peer *all = calloc((size_t)(count > 0 ? count : 1), sizeof(*all));
	uint32_t *histogram = calloc(buckets, sizeof(*histogram));
	if (count <= 0 || seconds <= 0 || request_size == 0 || reply_size == 0 || reply_size > max_reply || set < 0 || all == NULL ||
	    histogram == NULL) {
		fputs("load: wrong arguments\n", stderr);
		return 2;
	}
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server.sin_port = htons((uint16_t)atoi(argv[1]));
	for (long i = 0; i < count; i++) {
		connect_one(&all[i], set);
	}
	const uint64_t first = now() + (uint64_t)(seconds * 0.25e9), last = first + (uint64_t)(seconds * 1e9);
	for (long i = 0; i < count; i++) {
		ask(&all[i]);
	}
	uint64_t total = 0, longest = 0;
	struct epoll_event ready[256];
	for (uint64_t t = now(); t < last;) {
		const int n = epoll_wait(set, ready, 256, 0);
		for (int i = 0; i < n; i++) {
			struct peer *p = ready[i].data.ptr;
			if (!hear(p)) {
				continue;
			}
			t = now();
			if (t >= first) {
				const uint64_t us = (t - p->begin) / 1000;
				histogram[us < buckets ? us : buckets - 1]++;
				total++;
				longest = us > longest ? us : longest;
			}
			if (fresh) {
				reconnect(p, set);
			}
			ask(p);
		}
		if (n == 0) {
			t = now();
		}
	}
	printf("%.0f %u %u %llu\n", (double)total / seconds, percentile(histogram, total, 0.5), percentile(histogram, total, 0.99),
	    (unsigned long long)longest);
	return 0;
}
