/* SPDX-License-Identifier: BSD-2-Clause
 *
 * floor_read: random reads of 4 KiB as fast as they can be made by hand on one io_uring, DEPTH of them in flight.  One kernel thread, no LWPs.
 *
 *   plain  the file by its descriptor, buffers by their address
 *   fixed  file and buffers registered with the ring
 *
 * Usage: floor_read plain|fixed FILE DEPTH SECONDS [direct].  With direct the page cache is passed by (O_DIRECT).
 * Prints "READS_PER_SECOND P50_US P99_US MAX_US".
 */
#include "../read/read.h"

#include <liburing.h>

struct reading {
	uint64_t begin;
	unsigned char *buffer;
};

static struct io_uring ring;
static bool fixed;

static void ask(struct reading *all, unsigned i, const struct subject *s, struct statistics *st) {
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring); /* there is room for DEPTH */
	all[i].begin = now();
	if (fixed) {
		io_uring_prep_read_fixed(sqe, 0, all[i].buffer, block, somewhere(s, &st->random), (int)i);
		sqe->flags |= IOSQE_FIXED_FILE;
	} else {
		io_uring_prep_read(sqe, s->fd, all[i].buffer, block, somewhere(s, &st->random));
	}
	sqe->user_data = i;
}

static void set_up(struct reading *all, const struct subject *s) {
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
	int error = io_uring_queue_init_params(s->depth, &ring, &params);
	if (error != 0) {
		die("io_uring_setup", -error);
	}
	io_uring_register_ring_fd(&ring);
	struct iovec *buffers = calloc(s->depth, sizeof(*buffers));
	for (unsigned i = 0; i < s->depth; i++) {
		all[i].buffer = aligned_alloc(block, block);
		if (buffers == NULL || all[i].buffer == NULL) {
			die("memory", ENOMEM);
		}
		memset(all[i].buffer, 0, block);
		buffers[i] = (struct iovec){all[i].buffer, block};
	}
	if (fixed &&
	    ((error = io_uring_register_files(&ring, &s->fd, 1)) != 0 || (error = io_uring_register_buffers(&ring, buffers, s->depth)) != 0)) {
		die("registering", -error);
	}
	free(buffers);
}

int main(int argc, char **argv) {
	struct subject s;
	if (argc < 2 || (strcmp(argv[1], "plain") != 0 && strcmp(argv[1], "fixed") != 0) || !subject_open(&s, argc - 1, argv + 1)) {
		fputs("usage: floor_read plain|fixed FILE DEPTH SECONDS [direct]\n", stderr);
		return 2;
	}
	fixed = strcmp(argv[1], "fixed") == 0;
	struct reading *all = calloc(s.depth, sizeof(*all));
	if (all == NULL) {
		die("memory", ENOMEM);
	}
	set_up(all, &s);
	struct statistics st = statistics_begin(&s);
	for (unsigned i = 0; i < s.depth; i++) {
		ask(all, i, &s, &st);
	}
	for (bool more = true; more;) {
		io_uring_submit_and_wait(&ring, 1);
		unsigned head, seen = 0;
		struct io_uring_cqe *cqe;
		io_uring_for_each_cqe(&ring, head, cqe) {
			struct reading *r = &all[cqe->user_data];
			if (cqe->res != block) {
				die("read", -cqe->res);
			}
			seen++;
			more = statistics_count(&st, r->begin);
			ask(all, (unsigned)cqe->user_data, &s, &st);
		}
		io_uring_cq_advance(&ring, seen);
	}
	statistics_print(&st, &s);
	return 0;
}
