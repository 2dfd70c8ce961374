/* SPDX-License-Identifier: BSD-2-Clause
 *
 * floor_uring: an echo server as fast as one can be written by hand on one io_uring, to measure others by.  One kernel thread, no LWPs.
 *
 *   oneshot    each connection has its buffer; receive, send, receive, ...: one request in flight for each connection
 *   multishot  one receive for the life of each connection, buffers from a ring that all share, sent back from there
 *
 * With files, sockets are registered files of the ring and no descriptors; with accept1 each connection is accepted by a request of its own; with coop
 * completions come as the library has them come (COOP_TASKRUN), not when they are asked for (DEFER_TASKRUN).
 *
 * Usage: floor_uring oneshot|multishot [files] [accept1] [coop].  Prints "listening on 127.0.0.1:PORT", serves until it is killed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { max_fd = 65536, buffer_size = 1024, shared_buffers = 8192, group = 1 };

/* What a completion is of: in the upper half of its user data; the lower half is the descriptor, and of a multishot's send the buffer is above. */
enum { op_accept = 1, op_recv, op_send, op_close };

static struct io_uring ring;
static bool multishot, files, accept1, coop;
static char (*own)[buffer_size];    /* oneshot: by descriptor */
static char (*shared)[buffer_size]; /* multishot: by buffer number */
static struct io_uring_buf_ring *buffers;

static void die(const char *what, int error) {
	fprintf(stderr, "floor_uring: %s: %s\n", what, strerror(error));
	exit(1);
}

static struct io_uring_sqe *take(void) {
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	if (sqe == NULL) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	if (sqe == NULL) {
		die("no room in the ring", EBUSY);
	}
	return sqe;
}

/* After the request is prepared: that clears the user data. */
static void name(struct io_uring_sqe *sqe, int op, int fd, int buffer) {
	sqe->user_data = (uint64_t)op << 56 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static void ask_accept(int listener) {
	struct io_uring_sqe *sqe = take();
	if (files && accept1) {
		io_uring_prep_accept_direct(sqe, listener, NULL, NULL, 0, IORING_FILE_INDEX_ALLOC);
	} else if (files) {
		io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
	} else if (accept1) {
		io_uring_prep_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	} else {
		io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	}
	name(sqe, op_accept, listener, 0);
}

static void ask_recv(int fd) {
	struct io_uring_sqe *sqe = take();
	if (multishot) {
		io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = group;
	} else {
		io_uring_prep_recv(sqe, fd, own[fd], buffer_size, 0);
	}
	sqe->flags |= files ? IOSQE_FIXED_FILE : 0;
	name(sqe, op_recv, fd, 0);
}

static void ask_send(int fd, int buffer, const char *bytes, uint32_t size) {
	struct io_uring_sqe *sqe = take();
	io_uring_prep_send(sqe, fd, bytes, size, MSG_NOSIGNAL | MSG_WAITALL);
	sqe->flags |= files ? IOSQE_FIXED_FILE : 0;
	name(sqe, op_send, fd, buffer);
}

static void drop(int fd) {
	if (!files) {
		close(fd);
		return;
	}
	struct io_uring_sqe *sqe = take();
	io_uring_prep_close_direct(sqe, (unsigned)fd);
	name(sqe, op_close, fd, 0);
}

static void give_back(int buffer) {
	io_uring_buf_ring_add(buffers, shared[buffer], buffer_size, (unsigned short)buffer, io_uring_buf_ring_mask(shared_buffers), 0);
	io_uring_buf_ring_advance(buffers, 1);
}

static void handle(const struct io_uring_cqe *cqe) {
	const int op = (int)(cqe->user_data >> 56), fd = (int)(uint32_t)cqe->user_data, sent = (int)(cqe->user_data >> 32 & 0xffffff);
	if (op == op_accept) {
		if (cqe->res >= 0) {
			ask_recv(cqe->res);
		}
		if (!(cqe->flags & IORING_CQE_F_MORE)) {
			ask_accept(fd);
		}
	} else if (op == op_send) {
		if (multishot) {
			give_back(sent);
		}
		if (!multishot && cqe->res > 0) {
			ask_recv(fd);
		} else if (!multishot) {
			drop(fd);
		}
	} else if (op == op_close) {
		return;
	} else if (cqe->res == -ENOBUFS) {
		ask_recv(fd); /* sends will give some back */
	} else if (cqe->res <= 0) {
		drop(fd);
	} else if (multishot) {
		const int buffer = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
		ask_send(fd, buffer, shared[buffer], (uint32_t)cqe->res);
		if (!(cqe->flags & IORING_CQE_F_MORE)) {
			ask_recv(fd);
		}
	} else {
		ask_send(fd, 0, own[fd], (uint32_t)cqe->res);
	}
}

static int listen_somewhere(void) {
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(in);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) != 0 ||
	    listen(fd, 4096) != 0 || getsockname(fd, (struct sockaddr *)&in, &size) != 0) {
		die("listen", errno);
	}
	printf("listening on 127.0.0.1:%d\n", ntohs(in.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv) {
	bool wrong = argc < 2;
	for (int i = 1; i < argc; i++) {
		multishot = multishot || strcmp(argv[i], "multishot") == 0;
		files = files || strcmp(argv[i], "files") == 0;
		accept1 = accept1 || strcmp(argv[i], "accept1") == 0;
		coop = coop || strcmp(argv[i], "coop") == 0;
		wrong = wrong || strstr("oneshot multishot files accept1 coop", argv[i]) == NULL;
	}
	if (wrong) {
		fputs("usage: floor_uring oneshot|multishot [files] [accept1] [coop]\n", stderr);
		return 2;
	}
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < max_fd ? limit.rlim_max : max_fd; /* descriptors are indices of ours */
	setrlimit(RLIMIT_NOFILE, &limit);

	const unsigned mode =
	    coop ? IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	struct io_uring_params params = {.flags = mode | IORING_SETUP_CQSIZE, .cq_entries = 16384};
	int error = io_uring_queue_init_params(4096, &ring, &params);
	if (error != 0) {
		die("io_uring_setup", -error);
	}
	io_uring_register_ring_fd(&ring);
	if (files && (error = io_uring_register_files_sparse(&ring, (unsigned)limit.rlim_cur)) != 0) {
		die("io_uring_register_files", -error);
	}
	own = calloc(max_fd, sizeof(*own)); /* untouched pages cost nothing */
	shared = calloc(shared_buffers, sizeof(*shared));
	if (own == NULL || shared == NULL) {
		die("memory", ENOMEM);
	}
	if (multishot) {
		if (posix_memalign((void **)&buffers, 4096, shared_buffers * sizeof(struct io_uring_buf)) != 0) {
			die("memory", ENOMEM);
		}
		struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)buffers, .ring_entries = shared_buffers, .bgid = group};
		error = io_uring_register_buf_ring(&ring, &reg, 0);
		if (error != 0) {
			die("io_uring_register_buf_ring", -error);
		}
		io_uring_buf_ring_init(buffers);
		for (int i = 0; i < shared_buffers; i++) {
			give_back(i);
		}
	}
	ask_accept(listen_somewhere());
	for (;;) {
		io_uring_submit_and_wait(&ring, 1);
		unsigned head, seen = 0;
		struct io_uring_cqe *cqe;
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			handle(cqe);
		}
		io_uring_cq_advance(&ring, seen);
	}
}
