#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# httpd under attack: what a client that means well notices of it.  The server has CPU 0 and one vCPU; that client and the attackers have CPU 1, where
# it comes first (they are SCHED_IDLE).  For each attack, beside the same client when the server has nothing else to do:
#
#   kept, new    microseconds (p99, and its ratio to the idle server's) of requests over one connection that is kept, and of requests over new ones
#   MiB          the server's resident memory at its highest
#   sockets      MiB that the kernel keeps for TCP at the highest, of both ends
#   recovers     seconds until every descriptor of the attack is free again and a new client is served, once the attackers have stopped
#
# Neither CPU ever sleeps, attack or not: something SCHED_IDLE runs on each.  Else it would be measured how long a CPU takes to wake up, which any attack
# improves.  Idle and attacked are measured in turn; ratios are taken within a round, then their median over the rounds.
#
# Status 1 if a ratio is above 3, memory above what the attack's connections may cost, or the server does not recover.
# With --nginx the server is nginx, for comparison, and only the table is shown.
#
# httpd does not linger before it halts (LWP_LINGER=0): whoever lingers has used its share of the CPU when others want it, and here a loop always does.
# Needs Python's standard library and taskset.
import argparse
import gc
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT = 60  # seconds for anything to start, to answer or to recover
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
QUIET = 3000  # microseconds: where the idle server's p99 is above, something else has these CPUs, and its figures say nothing
BASE = 48 << 20  # what the server may take without any connection


class Server:
    """httpd on CPU 0."""

    def __init__(self, build, root, kind, descriptors, timeout):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", "taskset", "-c", "0", f"{build}/examples/httpd", "--port=0", f"--root={root}",
             f"--timeout={timeout}", f"--idle={timeout}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, "LWP_IO": kind, "LWP_LINGER": "0"})
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on "):
            sys.exit(f"hostile: httpd said {line!r}")
        self.port = int(line.rsplit(":", 1)[1])
        self.pid = self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(LIMIT) != 0:
            sys.exit(f"hostile: httpd ended with {self.process.returncode}")
        self.process.stdout.close()

    def resident(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmRSS:"))

    @staticmethod
    def sockets():
        with open("/proc/net/sockstat", encoding="ascii") as f:
            return next(resource.getpagesize() * int(line.split()[-1]) for line in f if line.startswith("TCP:"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Nginx(Server):
    """nginx, with one worker, on CPU 0."""

    def __init__(self, root, descriptors, timeout):
        os.chmod(root, 0o755)
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        conf = os.path.join(self.folder.name, "nginx.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"""daemon off; worker_processes 1; pid {self.folder.name}/pid; error_log /dev/null crit; worker_rlimit_nofile {descriptors};
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout {timeout}; client_header_timeout {timeout}; send_timeout {timeout};
reset_timedout_connection on; server {{ listen 127.0.0.1:{self.port} backlog=4096; root {root}; }} }}
""")
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if nginx is None:
            sys.exit("hostile: nginx is not installed (Debian: nginx-light)")
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["taskset", "-c", "0", nginx, "-p", self.folder.name, "-c", conf, "-e", "/dev/null"])
        end = time.monotonic() + LIMIT
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        while time.monotonic() < end:
            try:
                with open(children, encoding="ascii") as f:
                    self.pid = int(f.read().split()[0])  # the worker
                connect(self.port).close()
                return
            except (IndexError, OSError):
                time.sleep(0.01)
        sys.exit("hostile: nginx did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT)
        self.folder.cleanup()


def connect(port, buffer=0, address=""):
    s = socket.socket()
    if address:
        s.bind((address, 0))
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.settimeout(LIMIT)
    s.connect(("127.0.0.1", port))
    return s


# ---- the client that means well ----------------------------------------------------------------------------------------


def ask(s):
    """One request over `s`; the whole answer comes at once, since it is small."""
    s.sendall(GET)
    if not s.recv(4096).startswith(b"HTTP/1.1 200"):
        raise OSError("no answer")


def well_meaning(port, seconds, fresh, pipe):
    """A request each millisecond, each other one over a new connection, measured once it is told to.  (kept: [us], new: [us])"""
    os.sched_setaffinity(0, {1})
    gc.disable()
    s = connect(port)
    ask(s)
    pipe.send("ready")
    while not pipe.poll(0.001):
        ask(s)
    kept, new = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for turn in range(2):
            time.sleep(0.001)
            begin = time.perf_counter_ns()
            if fresh and turn == 1:
                with connect(port) as one:
                    ask(one)
                new.append((time.perf_counter_ns() - begin) / 1000)
            else:
                ask(s)
                kept.append((time.perf_counter_ns() - begin) / 1000)
    pipe.send((kept, new))


def p99(values):
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0


# ---- attackers: each a process that goes on until it is killed, and never sleeps ------------------------------------------


def after_all_others(cpu):
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def awake(cpu):
    """Keeps a CPU from sleeping."""
    after_all_others(cpu)
    while True:
        pass


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def keep(count, port, begin, go_on, buffer=0):
    """`count` connections, each begun by begin(s) and kept alive by go_on(s); those that the server has cut are made anew."""
    everybody = [None] * count
    while True:
        for i, s in enumerate(everybody):
            try:
                if s is None:
                    everybody[i] = s = connect(port, buffer)
                    s.setblocking(False)
                    begin(s)
                else:
                    go_on(s)
            except BlockingIOError:
                pass
            except OSError:
                if s is not None:
                    s.close()
                everybody[i] = None
            if i % 10 == 9:
                spin(0.001)


def slowloris(port, count):
    keep(count, port, lambda s: s.send(b"GET / HTTP/1.1\r\nHost: x\r\n"), lambda s: s.send(b"X"))


def half_open(port, count):
    """Peers that vanish: no end of the stream ever comes.  Where that is not permitted they are silent."""
    everybody = []
    for i in range(count):
        # From another address: of a port that the server takes for a vanished peer's the kernel would have to convince it first, for whoever gets it next.
        s = connect(port, address="127.0.0.2")
        try:
            s.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: a close then sends nothing
            s.close()
        except OSError:
            everybody.append(s)
        if i % 10 == 9:
            spin(0.001)
    spin(float("inf"))


def resets(port, count):
    while True:
        for i in range(count):
            try:
                s = connect(port)
                s.send((b"", b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /")[i % 3])
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.close()
            except OSError:
                pass


def garbage(port, count):
    while True:
        for _ in range(count):
            try:
                with connect(port) as s:
                    s.send(os.urandom(2000))
                    s.recv(4096)
            except OSError:
                pass


def oversize(port, count):
    """Headers, lines and bodies without an end, until the server cuts them."""
    begins = (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET /", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000000\r\n\r\n",
              b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n")
    much = b"a" * 65536
    while True:
        for i in range(count):
            try:
                with connect(port) as s:
                    s.sendall(begins[i % len(begins)])
                    for _ in range(64):
                        s.sendall(much)
            except OSError:
                pass


def slow_readers(port, count):
    def sip(s):
        if not s.recv(100):
            raise OSError("cut")

    keep(count, port, lambda s: s.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 5), sip, buffer=4096)


# name, what it does, connections, descriptors of the server, whether new clients can come in, bytes that a connection may cost
ATTACKS = [
    ("slowloris", slowloris, 5000, 20000, True, 16 << 10),
    ("half-open", half_open, 5000, 20000, True, 16 << 10),
    ("resets", resets, 1000, 20000, True, 256 << 10),
    ("garbage", garbage, 1000, 20000, True, 64 << 10),
    ("oversize", oversize, 1000, 20000, True, 64 << 10),
    ("slow readers", slow_readers, 500, 20000, True, 256 << 10),
    ("no descriptors", slowloris, 1000, 256, False, 16 << 10),
]


def attacker(attack, port, count):
    after_all_others(1)
    attack(port, count)


class Beside:
    """A process that runs for as long as it is needed."""

    def __init__(self, what, *args):
        self.process = multiprocessing.Process(target=what, args=args)
        self.process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


# ---- one attack --------------------------------------------------------------------------------------------------------


def measure(server, seconds, fresh, warm_up, what, *args):
    """(times of kept, of new, the highest resident memory, the same of sockets); what(*args) runs beside the client that means well, and begins before."""
    ours, theirs = multiprocessing.Pipe()
    with Beside(well_meaning, server.port, seconds, fresh, theirs) as client:
        ours.recv()
        with Beside(what, *args):
            time.sleep(warm_up)
            ours.send("go")
            most = sockets = 0
            end = time.monotonic() + seconds + LIMIT
            answer = None
            while not isinstance(answer, tuple):
                if ours.poll(0.05):
                    answer = ours.recv()
                most, sockets = max(most, server.resident()), max(sockets, server.sockets())
                if time.monotonic() > end or (client.process.exitcode or 0) != 0:
                    sys.exit("hostile: the client that means well was not served")
    return *answer, most, sockets


def recovery(server, before):
    begin = time.monotonic()
    while time.monotonic() - begin < LIMIT:
        try:
            if server.descriptors() <= before:
                with connect(server.port) as s:
                    ask(s)
                return time.monotonic() - begin
        except OSError:
            pass
        time.sleep(0.05)
    return None


def one_round(attack, count, server, seconds, fresh):
    """(p99 of kept: idle, attacked; of new: idle, attacked), the most memory, the same of sockets, seconds to recover or None."""
    before = server.descriptors()
    with Beside(awake, 0):
        idle_kept, idle_new, _, _ = measure(server, seconds, fresh, 0.2, awake, 1)
        kept, new, most, sockets = measure(server, seconds, fresh, 2, attacker, attack, server.port, count)
        took = recovery(server, before)
    return tuple(p99(times) for times in (idle_kept, kept, idle_new, new)), most, sockets, took


def run(name, attack, count, server, options, fresh, each):
    """A line of the table, and what is wrong."""
    rounds = [one_round(attack, count, server, options.seconds, fresh) for _ in range(options.rounds)]
    idle_kept, kept, idle_new, new = (statistics.median(r[0][i] for r in rounds) for i in range(4))
    ratio_kept = statistics.median(r[0][1] / r[0][0] for r in rounds)
    ratio_new = statistics.median(r[0][3] / r[0][2] for r in rounds) if fresh else 0
    most, sockets = max(r[1] for r in rounds), max(r[2] for r in rounds)
    took = None if any(r[3] is None for r in rounds) else max(r[3] for r in rounds)
    wrong = []
    if idle_kept > QUIET:
        wrong.append(f"{name}: not measured, something else has these CPUs: the idle server's p99 is {idle_kept:,.0f} us")
    elif max(ratio_kept, ratio_new) > 3:
        wrong.append(f"{name}: p99 is more than 3 times the idle server's")
    if most > BASE + count * each:
        wrong.append(f"{name}: {most >> 20} MiB is more than {(BASE + count * each) >> 20}")
    if took is None:
        wrong.append(f"{name}: not recovered after {LIMIT} s")
    ratio = f"{ratio_new:.2f}" if fresh else "-"
    line = [name, str(count), f"{idle_kept:,.0f}", f"{kept:,.0f}", f"{ratio_kept:.2f}", f"{idle_new:,.0f}" if fresh else "-", f"{new:,.0f}" if fresh else "-",
            ratio, f"{most / (1 << 20):.1f}", f"{sockets / (1 << 20):.0f}", "never" if took is None else f"{took:.1f}"]
    return line, wrong


def show(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())


def main():
    parser = argparse.ArgumentParser(description="Attacks httpd and measures what another client notices.")
    parser.add_argument("--build", required=True, help="the build directory")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--io", default="uring", help="uring or epoll (default: %(default)s)")
    parser.add_argument("--nginx", action="store_true", help="attack nginx instead")
    parser.add_argument("filter", nargs="?", default="", help="only the attack of this name")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("needs two CPUs: one for the server, one for everybody else")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = [["attack", "connections", "kept: idle", "attacked", "ratio", "new: idle", "attacked", "ratio", "MiB", "sockets", "recovers"]]
    wrong = []
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, "index.html"), "wb") as f:
            f.write(b"<p>front page\n")
        with open(os.path.join(root, "large"), "wb") as f:
            f.write(os.urandom(3 << 20))
        for name, attack, count, descriptors, fresh, each in ATTACKS:
            if options.filter not in ("", name) or (options.nginx and not fresh):  # nginx without descriptors closes connections that are kept
                continue
            sys.stderr.write(f"  {name}\n")
            most = min(descriptors, hard)
            server = Nginx(root, most, timeout=5) if options.nginx else Server(options.build, root, options.io, most, timeout=5)
            try:
                line, bad = run(name, attack, count, server, options, fresh, each)
            finally:
                server.stop()
            lines.append(line)
            wrong += bad
    show(lines)
    if options.nginx:
        return 0
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
