/* SPDX-License-Identifier: BSD-2-Clause
 *
 * POSIX I/O that blocks only the LWP.
 *
 * Each call takes the arguments of the POSIX call of that name, gives its results and sets errno as it does; what differs is said here and at
 * the call.  Any LWP may call them, and any kernel thread of the process: one that the library does not know is adopted by its first call and
 * then waits by itself, in poll(2), since it has nothing else to run.
 *
 * A descriptor in blocking mode blocks the calling LWP, and its vCPU runs others.  One with O_NONBLOCK (or MSG_DONTWAIT) gives EAGAIN, as ever.
 * The library never leaves a descriptor in another mode than it found it in.  SO_RCVTIMEO and SO_SNDTIMEO are kept: EAGAIN at the timeout
 * (connect: EINPROGRESS), never early, some milliseconds late if the vCPU is busy or the mode or timeout was set a moment before.
 *
 * EINTR: when _lwp_wakeup() interrupts the LWP, or a handler without SA_RESTART that lwp_sigaction() has set (signal.h); then nothing was
 * transferred.  Signals of the OS with any other handler interrupt no call, and nothing interrupts one of an adopted kernel thread.
 * ECANCELED: lwp_close() closed the descriptor while the call was blocked on it.  ENOMEM besides POSIX's reasons: no room for a timer or the
 * vCPU's own descriptors; EMFILE and ENFILE: none left for those.
 * SIGPIPE: as POSIX; it is sent to the process's kernel thread that carries the call out, which may not be the one that made it.  A
 * server ignores it or says MSG_NOSIGNAL.
 * Memory handed to a call is the kernel's until the call returns, whatever ends it; a call that was asked to end early waits for that.
 * File offsets, locks and descriptors belong to the process, as ever.
 *
 * The calls are carried out by one io_uring for each vCPU that does I/O; where the kernel has none, forbids it, or lacks the memory, by
 * epoll and a few helper threads.  LWP_IO=uring or LWP_IO=epoll in the environment insists on one (the program ends with a message if there is no
 * io_uring); LWP_DEBUG=io prints which one is used, and why, on standard error.
 * The library's descriptors are all close-on-exec.  A forked child may make system calls, exec and _exit; it must not call the library, whose rings it does not
 * have.  Operations of the parent go on, whatever the child does.
 */
#ifndef LWP_IO_H
#define LWP_IO_H

#include <lwp/lwp.h>

#include <netdb.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- any descriptor -------------------------------------------------------------------------------- */

/** read(2), readv(2), pread(2).  Blocks. */
LWP_API ssize_t lwp_read(int fd, void *buffer, size_t size);
LWP_API ssize_t lwp_readv(int fd, const struct iovec *iov, int count);
LWP_API ssize_t lwp_pread(int fd, void *buffer, size_t size, off_t offset);

/**
 * write(2), writev(2), pwrite(2).  Blocks.  In blocking mode all of it is written unless an error or an interrupt comes between; then the
 * number of bytes written so far is returned, if there are any.
 */
LWP_API ssize_t lwp_write(int fd, const void *buffer, size_t size);
LWP_API ssize_t lwp_writev(int fd, const struct iovec *iov, int count);
LWP_API ssize_t lwp_pwrite(int fd, const void *buffer, size_t size, off_t offset);

/** fsync(2), fdatasync(2).  Blocks. */
LWP_API int lwp_fsync(int fd);
LWP_API int lwp_fdatasync(int fd);

/** openat(2); `mode` follows with O_CREAT and O_TMPFILE.  Blocks.  One end of a FIFO waits for the other on a helper thread of its own; nothing ends that wait. */
LWP_API int lwp_openat(int directory, const char *path, int flags, ...);

/**
 * close(2), and ends what other LWPs and adopted kernel threads wait for on this descriptor by calls of this header: they get ECANCELED, or their
 * result if it came first.  lwp_poll() gives POLLNVAL for it, alone or among others, and lwp_select() fails with EBADF.  The number is free again only
 * after all of them have ended, so none of them ever meets another file.  Blocks until then.  Calls begun meanwhile get EBADF.
 * close(2) itself also works, but those waits know nothing of it: they may last for ever, or meet the number's next file.
 * Errors: EBADF not open, or just being closed by another LWP; and close(2)'s.
 */
LWP_API int lwp_close(int fd);

/** poll(2): milliseconds, negative for ever.  Blocks.  EINTR as above. */
LWP_API int lwp_poll(struct pollfd *fds, nfds_t count, int timeout);
/** select(2).  The time left is stored in *timeout, as Linux does.  Blocks. */
LWP_API int lwp_select(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout);

/** sendfile(2), for any `out` and any `in` that can be read; copies through user space.  Blocks. */
LWP_API ssize_t lwp_sendfile(int out, int in, off_t *offset, size_t count);

/* ---- sockets --------------------------------------------------------------------------------------- */

/** accept4(2).  Blocks. */
LWP_API int lwp_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
/** connect(2).  Blocks.  A connect that was interrupted or timed out goes on in the background, as POSIX says. */
LWP_API int lwp_connect(int fd, const struct sockaddr *address, socklen_t length);

/** recv(2), recvfrom(2), recvmsg(2).  Blocks; not with MSG_OOB or MSG_ERRQUEUE, as ever.  With MSG_PEEK it gives what is there, also with MSG_WAITALL. */
LWP_API ssize_t lwp_recv(int fd, void *buffer, size_t size, int flags);
LWP_API ssize_t lwp_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *length);
LWP_API ssize_t lwp_recvmsg(int fd, struct msghdr *message, int flags);

/** send(2), sendto(2), sendmsg(2).  Blocks.  Of a stream in blocking mode all is sent, as by lwp_write(). */
LWP_API ssize_t lwp_send(int fd, const void *buffer, size_t size, int flags);
LWP_API ssize_t lwp_sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *address, socklen_t length);
LWP_API ssize_t lwp_sendmsg(int fd, const struct msghdr *message, int flags);

/* ---- other waits ----------------------------------------------------------------------------------- */

/**
 * nanosleep(2).  Blocks.  EINTR: _lwp_wakeup(), or a handler that lwp_sigaction() has set, also with SA_RESTART; then the time left is stored in
 * *left unless that is NULL.
 */
LWP_API int lwp_nanosleep(const struct timespec *time, struct timespec *left);

/**
 * waitpid(2).  Blocks.  For one child, without WUNTRACED and WCONTINUED, EINTR comes as above; otherwise a kernel thread of its own waits for each
 * call, and nothing interrupts it: EAGAIN if none could be started.
 */
LWP_API pid_t lwp_waitpid(pid_t pid, int *status, int options);

/** getaddrinfo(3), on a helper thread; nothing interrupts it.  EAI_SYSTEM with errno EAGAIN: no kernel thread could be started. */
LWP_API int lwp_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result);

#ifdef __cplusplus
}
#endif

#endif
