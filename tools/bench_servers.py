#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# Servers side by side: the example servers, floors written by hand, and what Debian has.  Prints tables of requests a second, ratios and latencies.
# The server has CPU 0 for itself and one worker, vCPU or thread; the load has CPU 1.  Rounds go over all servers of a table, so that what slows
# the machine for a while slows all of them; ratios are taken within a round, then their median over the rounds.
# Random reads of a file are measured the same way, and what an idle connection keeps resident.
# CPU us is what the server takes of its CPU for one request, by the kernel's account: where the load is what limits, as with a connection for each
# echo, it says more than the rate, to which a server that sleeps more often adds the load's work of waking it.
# A peer that is not installed is a line that says so.  Needs nothing but Python's standard library and taskset.
import argparse
import datetime
import glob
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from bench_peers import machine

HELLO = "hello, world\n"
LIMIT = 60  # seconds for anything to start or to end


class Missing(Exception):
    """A peer cannot be run; the text says why."""


def which(name, package):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed (Debian: {package})")
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Running:
    """A server on CPU 0.  `ready` is the port, if it does not print "listening on HOST:PORT" itself."""

    def __init__(self, command, env=None, ready=None):
        self.process = subprocess.Popen(["taskset", "-c", "0", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        try:
            self.port = ready or self.announced()
            self.wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def announced(self):
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise Missing(f"did not start: {line.strip()!r}")
        return int(line.rsplit(":", 1)[1])

    def wait_until_it_listens(self):
        end = time.monotonic() + LIMIT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Missing(f"did not start: {error}") from error
                time.sleep(0.05)

    def cpu_seconds(self):
        """So far, of all kernel threads of it and of its children, as nginx's worker is one; None where the kernel keeps no account."""
        try:
            pids, total = [self.process.pid], 0
            for path in glob.glob(f"/proc/{self.process.pid}/task/*/children"):
                with open(path, encoding="ascii") as f:
                    pids += f.read().split()
            for path in (path for pid in pids for path in glob.glob(f"/proc/{pid}/task/*/schedstat")):
                with open(path, encoding="ascii") as f:
                    total += int(f.read().split()[0])
            return total / 1e9 if total else None
        except OSError:
            return None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Nothing:
    """Where the load is all there is."""

    port = 0

    def cpu_seconds(self):
        return None

    def stop(self):
        pass


# ---- servers -----------------------------------------------------------------------------------------------------------


class Servers:
    def __init__(self, build, folder):
        self.build, self.folder = build, folder

    def example(self, name, kind):
        return lambda: Running([f"{self.build}/examples/{name}"], {"LWP_IO": kind})

    def floor(self, *modes):
        return lambda: Running([f"{self.build}/bench/floor_uring", *modes])

    def go_echo(self):
        binary = os.path.join(self.folder, "go_echo")
        if not os.path.exists(binary):
            go = which("go", "golang-go")
            source = os.path.join(HERE, "..", "bench", "peers", "echo", "main.go")
            subprocess.run([go, "build", "-o", binary, source], check=True, env={**os.environ, "GOCACHE": os.path.join(self.folder, "gocache")})
        return Running([binary], {"GOMAXPROCS": "1"})

    def nginx(self):
        nginx, port = which("nginx", "nginx-light"), free_port()
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"""daemon off; worker_processes 1; pid {self.folder}/nginx.pid; error_log /dev/null crit; worker_rlimit_nofile 20000;
                events {{ worker_connections 10000; }}
                http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {self.folder}; proxy_temp_path {self.folder};
                        fastcgi_temp_path {self.folder}; uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};
                        server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ default_type text/plain; return 200 "{HELLO[:-1]}\\n"; }} }} }}""")
        return Running([nginx, "-p", self.folder, "-c", path, "-e", "/dev/null"], ready=port)

    def redis(self):
        port = free_port()
        return Running([which("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
                        self.folder], ready=port)

    def memcached(self):
        port = free_port()
        return Running([which("memcached", "memcached"), "-u", "nobody", "-t", "1", "-p", str(port), "-U", "0", "-l", "127.0.0.1", "-c", "10000"], ready=port)


# ---- loads: (requests a second, p50 us, p99 us), measured from beginning to end of the call ----------------------------


def loaded(command, cpu=1):
    done = subprocess.run(["taskset", "-c", str(cpu), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
                          check=False)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Missing(f"{os.path.basename(command[0])} failed: {text.strip()}")
    return text


def round_trips(build, connections, seconds, request=None, reply=None):
    def measure(port):
        extra = [word for word in (request, str(reply) if reply else None) if word]
        words = loaded([f"{build}/bench/load", str(port), str(connections), str(seconds), *extra]).split()
        return tuple(float(w) for w in words[:3])

    return measure


def wrk(connections, seconds):
    def measure(port):
        text = loaded([which("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}", "--latency", f"http://127.0.0.1:{port}/"])
        units = {"us": 1.0, "ms": 1e3, "s": 1e6}

        def percentile(p):
            value, unit = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", text).groups()
            return float(value) * units[unit]

        return float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1]), percentile(50), percentile(99)

    return measure


def redis_benchmark(test, pipeline, connections, seconds):
    def measure(port):
        count = str(int(seconds * (100_000 if pipeline == 1 else 600_000)))
        text = loaded([which("redis-benchmark", "redis-tools"), "-p", str(port), "-c", str(connections), "-n", count, "-P", str(pipeline), "-d", "64", "-r",
                       "10000", "-t", test, "--csv"])
        cells = [c.strip('"') for c in text.strip().splitlines()[-1].split(",")]
        return float(cells[1]), float(cells[4]) * 1000, float(cells[6]) * 1000

    return measure


def random_reads(program, path, seconds, *mode):
    def measure(_):
        words = loaded([*program, path, "64", str(seconds), *mode], cpu=0).split()
        return tuple(float(w) for w in words[:3])

    return measure


VALUE = "v" * 64


def filled(start, command, answer):
    """A server with one key in it, for the GET rows."""
    def begin():
        server = start()
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(command)
            if not s.recv(100).startswith(answer):
                raise Missing("refused the key")
        return server

    return begin


def echo_title(connections):
    return f"echo 64 B, {connections} connection" + ("s" if connections > 1 else "")


# ---- tables ------------------------------------------------------------------------------------------------------------


def growth_tables(servers, build, seconds):
    """As tables(): the same echo for few connections and for many; with two of tables() it is a plot."""
    for connections in (1, 10, 100, 10_000):
        trips = round_trips(build, connections, seconds)
        yield echo_title(connections), ("floor, one-shot",), [
            ("floor, one-shot", servers.floor("oneshot"), trips),
            ("lwp echo, io_uring", servers.example("echo", "uring"), trips),
            ("lwp echo, epoll", servers.example("echo", "epoll"), trips),
            ("Go net", servers.go_echo, trips)]


def tables(servers, build, seconds):
    """(title, names of the floor, [(name, start, measure)])"""
    for connections in (64, 1000):
        trips = round_trips(build, connections, seconds)
        yield echo_title(connections), ("floor, one-shot", "floor, multishot"), [
            ("floor, one-shot", servers.floor("oneshot"), trips),
            ("floor, multishot", servers.floor("multishot"), trips),
            ("floor, one-shot, registered files", servers.floor("oneshot", "files"), trips),
            ("lwp echo, io_uring", servers.example("echo", "uring"), trips),
            ("lwp echo, epoll", servers.example("echo", "epoll"), trips),
            ("Go net", servers.go_echo, trips)]
    fresh = round_trips(build, 64, seconds, "fresh")
    yield "echo 64 B, a connection for each", ("floor, one-shot",), [
        ("floor, one-shot", servers.floor("oneshot"), fresh),
        ("floor, one-shot, accepts one by one", servers.floor("oneshot", "accept1"), fresh),
        ("floor, one-shot, registered files", servers.floor("oneshot", "files"), fresh),
        ("lwp echo, io_uring", servers.example("echo", "uring"), fresh),
        ("lwp echo, epoll", servers.example("echo", "epoll"), fresh),
        ("Go net", servers.go_echo, fresh)]
    for connections in (64, 1000):
        load = wrk(connections, seconds)
        yield f"http hello, {connections} connections (wrk)", ("nginx",), [
            ("nginx", servers.nginx, load),
            ("lwp httpd, io_uring", servers.example("httpd", "uring"), load),
            ("lwp httpd, epoll", servers.example("httpd", "epoll"), load)]
    for test in ("set", "get"):
        for pipeline in (1, 16):
            load = redis_benchmark(test, pipeline, 64, seconds)
            yield f"kv {test.upper()} 64 B, 64 connections, pipeline {pipeline} (redis-benchmark)", ("redis-server",), [
                ("redis-server", servers.redis, load),
                ("lwp kv, io_uring", servers.example("kv", "uring"), load),
                ("lwp kv, epoll", servers.example("kv", "epoll"), load)]
    resp = ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$64\r\n" + VALUE + "\r\n").encode()
    get = round_trips(build, 64, seconds, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 71)
    own = round_trips(build, 64, seconds, "get k\r\n", len(f"VALUE k 0 64\r\n{VALUE}\r\nEND\r\n"))
    yield "kv GET 64 B, 64 connections (one client program for all)", ("memcached",), [
        ("memcached", filled(servers.memcached, f"set k 0 0 64\r\n{VALUE}\r\n".encode(), b"STORED"), own),
        ("redis-server", filled(servers.redis, resp, b"+OK"), get),
        ("lwp kv, io_uring", filled(servers.example("kv", "uring"), resp, b"+OK"), get),
        ("lwp kv, epoll", filled(servers.example("kv", "epoll"), resp, b"+OK"), get)]


def read_tables(build, path, seconds):
    """As tables(): 4 KiB at random places of a file, 64 at once."""
    for title, mode in (("O_DIRECT", ("direct",)), ("in the page cache", ())):
        def row(*program, mode=mode):
            return random_reads(program, path, seconds, *mode)

        yield f"random reads of 4 KiB, depth 64, {title}", ("raw io_uring",), [
            ("raw io_uring", Nothing, row(f"{build}/bench/floor_read", "plain")),
            ("raw io_uring, registered", Nothing, row(f"{build}/bench/floor_read", "fixed")),
            ("lwp file, io_uring", Nothing, row("env", "LWP_IO=uring", f"{build}/bench/lwp_read")),
            ("lwp file, epoll", Nothing, row("env", "LWP_IO=epoll", f"{build}/bench/lwp_read"))]


def large_file(folder):
    """A file of 512 MiB that is no hole, on the disk."""
    path = os.path.join(folder, "random_read.data")
    if not os.path.exists(path) or os.path.getsize(path) != 512 << 20:
        piece = os.urandom(1 << 20)
        with open(path, "wb") as f:
            for _ in range(512):
                f.write(piece)
            os.fsync(f.fileno())
    return path


# ---- memory ------------------------------------------------------------------------------------------------------------


def resident(pid):
    """Bytes of pages and of the page tables that map them."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return 1024 * sum(int(line.split()[1]) for line in f if line.startswith(("VmRSS:", "VmPTE:")))


def idle_bytes(start, request, size, count):
    """Resident bytes for each of `count` connections that have been used once and are idle."""
    def use(port):
        s = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        s.sendall(request)
        got = 0
        while got < size:
            got += len(s.recv(size - got)) or sys.exit("the server ended a connection")
        return s

    server = start()
    everybody = []
    try:
        everybody.append(use(server.port))
        before = resident(server.process.pid)
        everybody.extend(use(server.port) for _ in range(count))
        return (resident(server.process.pid) - before) / count
    finally:
        for s in everybody:
            s.close()
        server.stop()


def memory_rows(servers):
    """(name, start, request, bytes of its reply)"""
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "floor, one-shot", servers.floor("oneshot"), VALUE.encode(), 64
    yield "floor, multishot", servers.floor("multishot"), VALUE.encode(), 64
    yield "Go net", servers.go_echo, VALUE.encode(), 64
    for kind in ("io_uring", "epoll"):
        yield f"lwp echo, {kind}", servers.example("echo", kind.removeprefix("io_")), VALUE.encode(), 64
        yield f"lwp kv, {kind}", servers.example("kv", kind.removeprefix("io_")), b"*1\r\n$4\r\nPING\r\n", 7
        yield f"lwp httpd, {kind}", servers.example("httpd", kind.removeprefix("io_")), get, 100


def memory_table(servers, title, count):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines, missing = [[title, "KiB each"]], []
    table = {"title": title, "rows": [], "missing": {}}
    for name, start, request, size in memory_rows(servers):
        try:
            lines.append([name, f"{idle_bytes(start, request, size, count) / 1024:.2f}"])
            table["rows"].append({"name": name, "kib": float(lines[-1][1])})
        except (Missing, subprocess.SubprocessError, OSError) as reason:
            missing.append(f"{name}: not measured: {reason}")
            table["missing"][name] = str(reason)
    print("\n".join([*aligned(lines), *missing]))
    print("resident pages and page tables of the server, without what the kernel keeps for a socket; each connection was used once\n", flush=True)
    return table


def aligned(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()


def with_cpu(server, load):
    """What load() says, and the server's CPU time in us for each request, or None."""
    before, begin = server.cpu_seconds(), time.monotonic()
    rate, p50, p99 = load(server.port)
    after, end = server.cpu_seconds(), time.monotonic()
    return rate, p50, p99, None if before is None or after is None or not rate else (after - before) * 1e6 / (rate * (end - begin))


def measure_table(rows, rounds):
    """{name: {round: result}}, and {name: why} of those that cannot be run."""
    results, missing = {name: {} for name, _, _ in rows}, {}
    for number in range(rounds):
        for name, start, load in rows:
            if name in missing:
                continue
            sys.stderr.write(f"  round {number + 1} of {rounds}: {name}\n")
            try:
                server = start()
                try:
                    results[name][number] = with_cpu(server, load)
                finally:
                    server.stop()
            except (Missing, subprocess.SubprocessError, OSError) as reason:
                missing[name] = str(reason)
    return results, missing


def summary(title, floors, results, missing):
    """A table as JSON has it: of each row the medians of its rounds."""
    best = {}
    for name in floors:
        for number, run in results[name].items():
            best[number] = max(run[0], best.get(number, 0))
    rows = []
    for name, runs in results.items():
        if not runs:
            continue
        rate, p50, p99, cpu = (statistics.median(values) if None not in values else None for values in zip(*runs.values()))
        ratios = [run[0] / best[number] for number, run in runs.items() if best.get(number)]
        rows.append({"name": name, "rate": rate, "ratio": statistics.median(ratios) if ratios else None, "p50_us": p50, "p99_us": p99, "cpu_us": cpu,
                     "runs": [list(runs[number]) for number in sorted(runs)]})
    return {"title": title, "floors": list(floors), "rows": rows, "missing": missing}


def show(table):
    with_cpu_column = any(row["cpu_us"] is not None for row in table["rows"])
    lines = [[table["title"], "requests/s", "ratio", "p50 us", "p99 us", *(["CPU us"] if with_cpu_column else [])]]
    for row in table["rows"]:
        cells = [row["name"], f"{row['rate']:,.0f}", "" if row["ratio"] is None else f"{row['ratio']:.2f}", f"{row['p50_us']:,.0f}", f"{row['p99_us']:,.0f}"]
        lines.append(cells + ([] if not with_cpu_column else ["" if row["cpu_us"] is None else f"{row['cpu_us']:.2f}"]))
    print("\n".join(aligned(lines)))
    for name, reason in table["missing"].items():
        print(f"{name}: not measured: {reason}")
    floors = table["floors"]
    print(f"ratio: to {' or '.join(floors)}, whichever was faster in the round\n" if len(floors) > 1 else f"ratio: to {floors[0]}\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Runs servers side by side and prints tables.")
    parser.add_argument("--build", required=True, help="the build directory")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement but those of growth, which take one (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of one second each")
    parser.add_argument("--json", help="a file that gets all of it, for tools/servers_figures.py")
    parser.add_argument("filter", nargs="?", default="", help="tables whose title matches this regular expression")
    options = parser.parse_args()
    if options.quick:
        options.seconds = options.rounds = 1
    if len(os.sched_getaffinity(0)) < 2:
        print("needs two CPUs: one for the server, one for the load")
        return 1
    done = []
    data = {"command": "./dev bench --peers servers" + (" --quick" if options.quick else "") + (f" {options.filter}" if options.filter else ""),
            "date": datetime.date.today().isoformat(), "machine": machine(), "rounds": options.rounds, "seconds": options.seconds, "tables": done}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        servers = Servers(options.build, folder)
        for title, floors, rows in itertools.chain(tables(servers, options.build, options.seconds), growth_tables(servers, options.build, 1)):
            if re.search(options.filter, title):
                done.append(summary(title, floors, *measure_table(rows, options.rounds)))
                show(done[-1])
        for title, floors, rows in read_tables(options.build, os.path.join(options.build, "random_read.data"), options.seconds):
            if re.search(options.filter, title):
                large_file(options.build)
                done.append(summary(title, floors, *measure_table(rows, options.rounds)))
                show(done[-1])
        title = "memory of 10,000 idle connections"
        if re.search(options.filter, title):
            done.append(memory_table(servers, title, 10_000))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
            f.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
