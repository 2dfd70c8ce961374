#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Sees that every call in src/ that the kernel can refuse goes through base/sys.h, or stands below with a reason.

A reason that nothing needs any more is an error, too.  src/tls makes none; src/testing is
for programs that look for their own faults, and ends them when it is refused something.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SRC = ROOT / "src"

# Functions of the C library and of liburing that enter the kernel and may fail there.
NAMES = """mmap munmap mremap mprotect madvise pthread_create pthread_key_create pthread_setspecific pthread_getattr_np pthread_attr_init posix_spawn posix_spawnp
fork vfork execve open openat read write close pipe pipe2 dup dup2 socket bind listen accept connect send recv poll ppoll select epoll_create1 epoll_ctl epoll_wait
eventfd timerfd_create timer_create timer_settime timer_delete sigaltstack sched_getaffinity sched_setaffinity prctl fopen getaddrinfo io_uring_queue_init
io_uring_queue_init_params io_uring_queue_exit io_uring_register_ring_fd io_uring_ring_dontfork io_uring_submit io_uring_enter io_uring_get_probe syscall
fstat lseek kill wait4 waitpid getrlimit setrlimit""".split()

# (file, function): why it is not made to fail.
OUTSIDE = {
    ("base/sys.h", "mmap"): "sys::map()",
    ("base/sys.h", "munmap"): "gives back what sys::map() gave, whole: the kernel has nothing to refuse",
    ("base/sys.h", "pthread_create"): "sys::thread_create()",
    ("base/sys.h", "syscall"): "sys::raw() where the instruction is not known",
    ("base/assert.cpp", "write"): "last words: nothing can be done if they are not heard",
    ("ctx/guard.cpp", "sigaltstack"): "asks, or takes away what was set",
    ("io/uring.cpp", "io_uring_queue_init_params"): "inside sys::library()",
    ("io/uring.cpp", "io_uring_ring_dontfork"): "inside sys::library()",
    ("io/uring.cpp", "io_uring_register_ring_fd"): "inside sys::library()",
    ("io/uring.cpp", "io_uring_queue_exit"): "closes and unmaps: says nothing",
    ("io/helper.cpp", "pthread_attr_init"): "does not enter the kernel",
    ("proc/vcpus.cpp", "prctl"): "its result is not used: timers are less exact then",
    ("proc/runtime.cpp", "pthread_key_create"): "once in a process, LWP_CHECK",
    ("proc/runtime.cpp", "pthread_setspecific"): "does not enter the kernel for the first keys; LWP_CHECK",
    ("proc/stop.cpp", "pthread_getattr_np"): "then the stack of that kernel thread is shown as unknown",
    ("sched/ncpu.cpp", "sched_getaffinity"): "inside sys::library()",
    ("sched/ncpu.cpp", "fopen"): "a file that need not exist: without it there is no quota",
    ("api/process.cpp", "posix_spawn"): "inside sys::library()",
    ("api/process.cpp", "posix_spawnp"): "inside sys::library()",
    ("api/testing.cpp", "mmap"): "of lwp::testing: ends the program",
    ("proc/preempt.cpp", "pthread_getattr_np"): "then LWP 1 is not preempted",
    ("proc/report_names.cpp", "open"): "of a report: without the file names are missing",
    ("proc/report_names.cpp", "fstat"): "the same",
    ("proc/report_names.cpp", "mmap"): "the same",
    ("proc/report_names.cpp", "close"): "of a file that was only read",
    ("proc/report_names.cpp", "munmap"): "of all that was mapped",
    ("api/c_io.cpp", "getaddrinfo"): "the C library's own sockets; its errors are the caller's",
    ("api/resolve.cpp", "getaddrinfo"): "the same",
}

def code_of(path):
    """Without comments and strings, same lines and columns."""
    text = path.read_text()
    blank = lambda m: re.sub(r"[^\n]", " ", m[0])
    return re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text)


def sources():
    return [p for p in sorted(SRC.rglob("*")) if p.suffix in (".cpp", ".h") and not {"tls", "testing"} & set(p.relative_to(SRC).parts)]


def escapes():
    wrong = 0
    needed = set()
    for path in sources():
        name = str(path.relative_to(SRC))
        for match in re.finditer(r"(?<![\w.>:])(?:std)?::(" + "|".join(NAMES) + r")\(|&::(posix_spawnp?)\b|(?<![\w:.>])(io_uring_(?!prep)\w+)\(", code_of(path)):
            function = match[1] or match[2] or match[3]
            if function not in NAMES and not function.startswith("io_uring"):
                continue
            if re.search(r"\w$", code_of(path)[: match.start()]):
                continue  # a member of a class of ours
            if (name, function) not in OUTSIDE:
                line = code_of(path)[: match.start()].count("\n") + 1
                print(f"src/{name}:{line}: {function}() does not go through base/sys.h, and no reason is given")
                wrong += 1
            needed.add((name, function))
    for key in OUTSIDE.keys() - needed:
        print(f"{key}: a reason for what is not there")
        wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(1 if escapes() else 0)
