#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Builds the programs of bench/peers and measures the same work on all of them, side by side.

    bench_peers.py --library liblwp.a [--quick] [--json FILE] [--rounds N] [--budget SECONDS] [FILTER]
    bench_peers.py --packages        the Debian packages that each peer needs, a line for each

What is measured is two tables: PEERS and ROWS.  All peers of a row run one after the other, confined to the same CPUs; when all rows have run,
the next round begins.  Ratios are taken inside one round, then their median over the rounds: what slows the machine for a while slows both sides.
A run beside which others used the CPUs is repeated; if that does not help it counts, and is marked.  Whatever is not measured is printed with
its reason.  Standard library only.
"""
import argparse
import array
import collections
import dataclasses
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PROGRAMS = os.path.join(ROOT, "bench", "peers")
OURS = "lwp"
FLOOR = ("yield:2/w1", "boost_context")  # the unit of "x floor": one resume of a bare context

# ---- the peers -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str  # its folder below bench/peers
    title: str
    packages: tuple = ()
    libraries: tuple = ()  # of a C++ program
    threads_most: int = 1_000_000  # rows that ask for more run with as many, and say so


PEERS = [
    Peer("lwp", "lwp", ("g++", "libboost-context-dev", "liburing-dev")),
    Peer("boost_context", "Boost.Context", ("g++", "libboost-context-dev"), ("-lboost_context",)),
    Peer("boost_fiber", "Boost.Fiber", ("g++", "libboost-fiber-dev"), ("-lboost_fiber", "-lboost_context", "-pthread"), 100_000),
    Peer("asio", "Asio spawn", ("g++", "libboost-dev", "libboost-coroutine-dev"), ("-lboost_coroutine", "-lboost_context", "-lboost_thread", "-pthread"), 100_000),
    Peer("go", "Go", ("golang-go",)),
    Peer("tokio", "tokio", ("cargo", "rustc", "librust-tokio-dev")),
    Peer("state_threads", "State Threads", ("g++", "libst-dev"), ("-lst",), 100_000),
    Peer("pth", "GNU Pth", ("g++", "libpth-dev"), ("-lpth",), 1_000),
    Peer("pthread", "pthreads", ("g++",), ("-pthread",), 10_000),
]

# ---- the rows --------------------------------------------------------------------------------------------------------------

NS, LATENCY = ("ns_per_op",), ("p50", "p99", "p99.9")
UNITS = {"ns_per_op": "ns", "p50": "ns", "p99": "ns", "p99.9": "ns", "bytes_per_thread": "B", "create_ns": "ns", "overshoot_ms": "ms", "cpu_ms": "ms"}


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    work: str  # the row of the programs
    title: str
    keys: tuple = ()  # of the programs, beside workers and ops
    workers: tuple = (1, 2)
    metrics: tuple = NS
    quick_threads: int = 0  # instead of the key threads, in a quick run
    bends: bool = False  # a figure for one thread: a peer that cannot have as many runs it with fewer
    ops_most: int = 1_000_000_000
    whole: bool = False  # not in a quick run, as what is part of a curve

    def measurements(self):
        return [(f"{self.name}/w{w}", w) for w in self.workers]


def rows_of_latency(name, work, title, metrics, ops_most):
    return [
        Row(name, work, title, (), (1, 2), metrics, ops_most=ops_most),
        Row(f"{name}_storm", work, f"{title}, 16 others yield", (("storm", 16),), (1, 2), metrics, ops_most=ops_most),
        Row(f"{name}_load", work, f"{title}, 4 others compute for 75 us between yields", (("storm", 4), ("burst", 75)), (1, 2), metrics, ops_most=ops_most,
            whole=True),
    ]


ROWS = [
    Row("yield:2", "yield", "yield, 2 threads", (("threads", 2),)),
    Row("yield:1000", "yield", "yield, 1,000 threads", (("threads", 1000),)),
    Row("park", "park", "hand-over by park and unpark"),
    Row("semaphore", "semaphore", "hand-over by a semaphore"),
    Row("condvar", "condvar", "hand-over by a condition variable"),
    Row("channel:0", "channel_rendezvous", "a value through a channel without buffer"),
    Row("channel:128", "channel_buffered", "a value through a channel of 128", (("capacity", 128),)),
    Row("create_join", "create_join", "create and join"),
    Row("create_detached:1", "create_detached", "create detached, one at a time", (("threads", 1),)),
    Row("create_detached:64", "create_detached", "create detached, 64 at a time", (("threads", 64),)),
    Row("skynet", "skynet", "skynet, 100,000 leaves with joins, per leaf", (("threads", 100_000),), quick_threads=10_000, bends=True),
    Row("mutex_alone", "mutex_alone", "mutex, lock and unlock, nobody else there", (), (1,)),
    Row("mutex:1000", "mutex", "mutex, 1,000 threads", (("threads", 1000),), (2,)),
    Row("mutex_yielding:1000", "mutex", "mutex, 1,000 threads, the owner yields in each 16th turn", (("threads", 1000), ("hold", 16))),
    Row("memory:100000", "memory", "memory of a blocked thread, of 100,000", (("threads", 100_000),), (1,), ("bytes_per_thread",), 10_000, True),
    Row("sleepers:100000", "sleepers", "100,000 sleep a second", (("threads", 100_000),), (1, 2), ("overshoot_ms", "p99", "cpu_ms"), 10_000),
    *rows_of_latency("handover", "handover_latency", "hand-over latency", LATENCY, 200_000),
    *rows_of_latency("wake", "wake_latency", "wake-up latency, the waker sleeps between", LATENCY, 20_000),
    *rows_of_latency("timer", "timer_latency", "lateness of a sleep of 1 ms", LATENCY[:2], 1_000),
    Row("sleepers:10000", "sleepers", "10,000 sleep a second", (("threads", 10_000),), (1, 2), ("overshoot_ms", "p99", "cpu_ms"), whole=True),
    *[Row(f"yield:{n}", "yield", f"yield, {n:,} threads", (("threads", n),), (1,), whole=True) for n in (10, 100, 10_000, 100_000)],
    *[Row(f"memory:{n}", "memory", f"memory of a blocked thread, of {n:,}", (("threads", n),), (1,), ("bytes_per_thread",), whole=True) for n in (1000, 10_000)],
]

# ---- arithmetic ------------------------------------------------------------------------------------------------------------

GRID = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999]  # of the latency plots


def quantile(ordered, q):
    """The smallest sample that at least the share q of the ordered samples does not exceed."""
    if not ordered:
        raise ValueError("no samples")
    rank = -(-len(ordered) * q // 1)  # ceil
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def spread(values):
    """(largest - smallest) / median; None of one value."""
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 and statistics.median(values) else None


def ratios(theirs, ours):
    """{round: value} twice -> the ratios of the rounds that both have."""
    return [theirs[r] / ours[r] for r in sorted(theirs) if r in ours and ours[r]]


def next_ops(ops, took, target, most):
    """Operations that take about the target, after `ops` took `took` seconds; never more than 100 times as many at once."""
    wanted = ops * min(100.0, target / max(took, 1e-6))
    return int(max(1, min(most, wanted)))


def parse_output(text):
    """The "name value unit" lines of a program."""
    values = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            values[words[0]] = float(words[1])
    return values


def parse_list(text):
    """What a program says that it can do: (workers, {row}, {row: why not}, {row: note})."""
    workers, rows, lacks, notes = 1, set(), {}, {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        name, _, what = rest.partition(" ")
        if word == "workers":
            workers = int(rest)
        elif word == "row":
            rows.add(rest)
        elif word == "lacks":
            lacks[name] = what
        elif word == "note":
            notes[name] = what
    return workers, rows, lacks, notes


# ---- one run ---------------------------------------------------------------------------------------------------------------

TICK = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """A program did not do its work; the text is the reason that is shown."""


def busy_seconds(cpus, text=None):
    """CPU time that these CPUs have spent on anything, the time that the hypervisor took included."""
    if text is None:
        with open("/proc/stat") as file:
            text = file.read()
    wanted = {f"cpu{cpu}" for cpu in cpus}
    total = 0
    for line in text.splitlines():
        fields = line.split()
        if fields and fields[0] in wanted:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
            total += user + nice + system + irq + softirq + steal
    return total / TICK


def disturbed(others, wall, cpus):
    """Whether `others` used too much of the CPUs: more than a twentieth, and more than what the kernel's ticks cannot tell from nothing."""
    return others > max(0.025, 0.05 * wall * cpus)


def confine(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


def execute(command, cpus, limit):
    """Runs it; (stdout, seconds that others used of these CPUs meanwhile, wall seconds)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, begin = busy_seconds(cpus), time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, preexec_fn=confine(cpus))
        late = threading.Event()
        timer = threading.Timer(limit, lambda: (late.set(), child.kill()))
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        wall, busy = time.monotonic() - begin, busy_seconds(cpus) - before
        out.seek(0)
        err.seek(0)
        said = err.read().decode(errors="replace").strip().splitlines()
        if late.is_set():
            raise Failure(f"did not end in {limit:.0f} s")
        if child.returncode < 0:
            raise Failure(f"died of {signal.Signals(-child.returncode).name}")
        if child.returncode != 0:
            raise Failure(said[-1] if said else f"exit status {child.returncode}")
        return out.read().decode(), max(0.0, busy - usage.ru_utime - usage.ru_stime), wall


def sample_values(path):
    samples = array.array("Q")
    with open(path, "rb") as file:
        samples.frombytes(file.read())
    ordered = sorted(samples)
    if not ordered:
        return {}, []
    values = {"p50": quantile(ordered, 0.5), "max": ordered[-1], "samples": len(ordered)}
    # A quantile needs at least one sample beyond it.
    values.update({name: quantile(ordered, q) for name, q in (("p99", 0.99), ("p99.9", 0.999)) if len(ordered) * (1 - q) >= 0.999})
    return values, [quantile(ordered, q) for q in GRID]


# ---- a peer on a row -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Plan:
    """How a peer runs a row, and what came of it."""

    peer: Peer
    row: Row
    key: str  # row/wN
    workers: int
    threads: int  # 0: the row does not say
    bent: bool  # with fewer threads than the row says
    ops: int = 0
    reason: str = ""  # why there is no figure
    note: str = ""
    values: dict = dataclasses.field(default_factory=lambda: collections.defaultdict(dict))  # metric -> {round: value}
    curves: list = dataclasses.field(default_factory=list)  # of latencies, one for each round
    disturbed: set = dataclasses.field(default_factory=set)  # rounds


def make_plan(peer, row, key, workers, said, quick):
    """`said` is what the program answers to `list`, or the reason why there is none."""
    keys = dict(row.keys)
    threads = row.quick_threads if quick and row.quick_threads else keys.get("threads", 0)
    bent = threads > peer.threads_most
    plan = Plan(peer, row, key, workers, min(threads, peer.threads_most), bent)
    if isinstance(said, str):
        plan.reason = said
        return plan
    most, rows, lacks, notes = said
    plan.note = notes.get(row.work, "")
    if row.work not in rows:
        plan.reason = lacks.get(row.work, lacks.get("*", "does not do this"))
    elif workers > most:
        plan.reason = "uses one kernel thread"
    elif bent and not row.bends:
        plan.reason = f"not with more than {peer.threads_most:,} threads"
    if threads != keys.get("threads", 0) or bent:
        plan.note = "; ".join(filter(None, [plan.note, f"{plan.threads:,} threads"]))
    return plan


class Bench:
    def __init__(self, build, cpus, target, limit, tries, show):
        self.build, self.cpus, self.target, self.limit, self.tries, self.show = build, cpus, target, limit, tries, show
        self.repeated = 0

    def program(self, peer):
        return os.path.join(self.build, peer.name)

    def once(self, plan, ops):
        keys = {**dict(plan.row.keys), "workers": plan.workers, "ops": ops}
        if plan.threads:
            keys["threads"] = plan.threads
        with tempfile.TemporaryDirectory(prefix="lwp-peers-") as folder:
            samples = os.path.join(folder, "samples")
            if plan.row.metrics != NS:
                keys["samples"] = samples
            command = [self.program(plan.peer), "run", plan.row.work, *(f"{k}={v}" for k, v in keys.items())]
            cpus = self.cpus[: plan.workers]
            text, others, wall = execute(command, cpus, self.limit)
            values = parse_output(text)
            more, curve = sample_values(samples) if os.path.exists(samples) else ({}, [])
        values.update(more)
        if "seconds" not in values:
            raise Failure("printed no figures")
        return values, curve, disturbed(others, wall, len(cpus)), others / max(wall * len(cpus), 1e-9)

    def calibrate(self, plan):
        """Finds how many operations take about as long as they should; the runs warm the caches of the machine and are forgotten."""
        if plan.row.work in ("memory", "sleepers"):
            plan.ops = 1
            return
        least = 1 if plan.row.work == "skynet" else max(2, plan.threads)
        if plan.row.work == "yield":
            least *= 20  # else the time is that of the threads' ends: it holds those, too
        ops = least if plan.row.work == "skynet" else min(plan.row.ops_most, max(least, 100 if "latency" in plan.row.work else 1000))
        target = self.target * (3 if plan.row.work in ("wake_latency", "timer_latency") else 1)  # which need samples
        for _ in range(6):
            took = self.once(plan, ops)[0]["seconds"]
            enough = took > 0.3 * target
            better = max(least, next_ops(ops, took, target, plan.row.ops_most))
            if enough or better <= ops:
                ops = better
                break
            ops = better
        plan.ops = ops

    def measure(self, plan, number):
        """One value for a round: of several disturbed runs the least disturbed."""
        best = None
        for attempt in range(self.tries):
            self.repeated += attempt > 0
            values, curve, bad, share = self.once(plan, plan.ops)
            if best is None or share < best[3]:
                best = values, curve, bad, share
            if not bad:
                break
        values, curve, bad, _ = best
        for metric, value in values.items():
            plan.values[metric][number] = value
        if curve:
            plan.curves.append(curve)
        if bad:
            plan.disturbed.add(number)

    def round(self, plans, number, stop):
        """Measures all plans once; False if the time was over before the end."""
        for done, plan in enumerate(plans):
            if time.monotonic() > stop:
                return False
            self.show(f"round {number + 1}: {done + 1} of {len(plans)}, {plan.key} {plan.peer.title}")
            try:
                if not plan.ops:
                    self.calibrate(plan)
                self.measure(plan, number)
            except Failure as failure:
                plan.reason = str(failure)
        return True


# ---- build -----------------------------------------------------------------------------------------------------------------


def compile_command(peer, build, library):
    source, target = os.path.join(PROGRAMS, peer.name), os.path.join(build, peer.name)
    if peer.name == "go":
        return ["go", "build", "-o", target, os.path.join(source, "main.go")]
    if peer.name == "tokio":
        # By Debian's cargo and rustc, which its crates are for, whatever else is on PATH.  A copy is built: cargo writes its lock file beside it.
        return ["sh", "-c", 'set -e; PATH=/usr/bin:$PATH; rm -rf "$2/tokio-source"; cp -r "$1" "$2/tokio-source"; cargo build --quiet --release --offline '
                '--manifest-path "$2/tokio-source/Cargo.toml" --target-dir "$2/cargo" --config \'source.crates-io.replace-with="debian"\' '
                '--config \'source.debian.directory="/usr/share/cargo/registry"\'; cp "$2/cargo/release/tokio-peer" "$2/tokio"', "sh", source, build]
    libraries = list(peer.libraries)
    if peer.name == OURS:
        libraries = ["-I" + os.path.join(ROOT, "include"), library, "-lboost_context", "-luring", "-pthread"]
    compiler = os.environ.get("CXX", "c++").split()
    return [*compiler, "-std=c++20", "-O3", "-DNDEBUG", os.path.join(source, "main.cpp"), "-o", target, *libraries]


def sources_of(peer, library):
    folder = os.path.join(PROGRAMS, peer.name)
    found = [os.path.join(at, f) for at, _, files in os.walk(folder) for f in files]
    found += [os.path.join(PROGRAMS, f) for f in os.listdir(PROGRAMS) if f.endswith(".h")]
    if peer.name == OURS:
        found.append(library)
        found += [os.path.join(at, f) for at, _, files in os.walk(os.path.join(ROOT, "include")) for f in files]
    return found


def build_peer(peer, build, library):
    """What the program can do (parse_list), or the reason why there is none."""
    target = os.path.join(build, peer.name)
    if not os.path.exists(target) or os.path.getmtime(target) < max(map(os.path.getmtime, sources_of(peer, library))):
        environment = {**os.environ, "GOCACHE": os.path.join(build, "go-cache"), "CARGO_HOME": os.path.join(build, "cargo-home")}
        try:
            made = subprocess.run(compile_command(peer, build, library), capture_output=True, text=True, env=environment)
        except OSError as error:
            return f"not built: {error.filename} is not there"
        if made.returncode != 0:
            errors = [line for line in made.stderr.splitlines() if re.search(r"\berror\b|not found|cannot", line)] or made.stderr.splitlines()
            return f"not built: {errors[0].strip() if errors else 'no message'}"
    answer = subprocess.run([target, "list"], capture_output=True, text=True)
    return parse_list(answer.stdout) if answer.returncode == 0 else f"its program fails with {answer.returncode}"


def build_all(build, library, jobs, show):
    said, todo, lock = {}, list(PEERS), threading.Lock()

    def work():
        while True:
            with lock:
                if not todo:
                    return
                peer = todo.pop(0)
            show(f"building {peer.title}")
            said[peer.name] = build_peer(peer, build, library)

    workers = [threading.Thread(target=work) for _ in range(jobs)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return said


# ---- what is shown -----------------------------------------------------------------------------------------------------------


def number(value):
    if value >= 100_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cell(plan, ours, metric, ratio_only=False):
    """One peer's part of a row: "2.3x (21 ns)"; * a disturbed run is in it."""
    if plan.reason or metric not in plan.values:
        return "-"
    values = plan.values[metric]
    text = f"{number(statistics.median(values.values()))} {UNITS[metric]}" + ("*" if plan.disturbed else "")
    if plan is ours or ours is None or ours.reason or metric not in ours.values:
        return text
    relative = ratios(values, ours.values[metric])
    return f"{statistics.median(relative):.2f}x ({text})" if relative else text


def winner(plans, metric):
    """The peer with the least value, if it is less than ours by more than a twentieth; floors are not in the contest."""
    ours = next((p for p in plans if p.peer.name == OURS), None)
    if ours is None or ours.reason or metric not in ours.values:
        return None
    best = None
    for plan in plans:
        if plan is ours or plan.reason or metric not in plan.values or plan.peer.name == FLOOR[1]:
            continue
        relative = ratios(plan.values[metric], ours.values[metric])
        if relative and statistics.median(relative) < 0.95 and (best is None or statistics.median(relative) < best[1]):
            best = plan, statistics.median(relative)
    return best


def print_table(plans, out=None):
    out = out or sys.stdout
    rows = collections.OrderedDict()
    for plan in plans:
        rows.setdefault(plan.key, []).append(plan)
    print("\nEach peer's time as a multiple of ours in the same round, then its own; * others disturbed a run of it.", file=out)
    for key, group in rows.items():
        ours = next((p for p in group if p.peer.name == OURS), None)
        print(f"\n{group[0].row.title}, {group[0].workers} kernel thread{'s' if group[0].workers > 1 else ''}  [{key}]", file=out)
        for metric in group[0].row.metrics:
            label = f"  {metric}: " if len(group[0].row.metrics) > 1 else "  "
            cells = [f"{p.peer.title} {cell(p, ours, metric)}" for p in group if not p.reason]
            best = winner(group, metric)
            print(label + "; ".join(cells) + (f"   <- {best[0].peer.title} wins" if best else ""), file=out)
        for label, texts in (("in its own way", [(p, p.note) for p in group if p.note and not p.reason]), ("not there", [(p, p.reason) for p in group if p.reason])):
            if texts:
                print(f"  {label}: " + "; ".join(f"{p.peer.title}: {text}" for p, text in texts), file=out)


def machine():
    model = "unknown CPU"
    try:
        with open("/proc/cpuinfo") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release().split("-")[0], "arch": platform.machine()}


def versions():
    names = {package for peer in PEERS for package in peer.packages}
    try:
        text = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *sorted(names)], capture_output=True, text=True).stdout
    except OSError:
        return {}
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def as_json(plans, said, facts):
    rows = []
    for plan in plans:
        rows.append({
            "key": plan.key, "row": plan.row.name, "title": plan.row.title, "workers": plan.workers, "peer": plan.peer.name, "peer_title": plan.peer.title,
            "metrics": list(plan.row.metrics), "threads": plan.threads, "ops": plan.ops, "reason": plan.reason, "note": plan.note,
            "values": {m: {str(r): v for r, v in by_round.items()} for m, by_round in plan.values.items()},
            "spread": {m: spread(list(v.values())) for m, v in plan.values.items()},
            "curves": plan.curves, "disturbed_rounds": sorted(plan.disturbed),
        })
    return {**facts, "grid": GRID, "peers": {p.name: (said[p.name] if isinstance(said[p.name], str) else "") for p in PEERS}, "rows": rows}


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, out=sys.stderr):
        self.out, self.last, self.begin = out, 0.0, time.monotonic()

    def __call__(self, text):
        now = time.monotonic()
        line = f"[{now - self.begin:4.0f} s] {text}"
        if self.out.isatty():
            print("\r\033[K" + line, end="", file=self.out, flush=True)
        elif now - self.last >= 10:
            self.last = now
            print(line, file=self.out, flush=True)

    def end(self):
        if self.out.isatty():
            print("\r\033[K", end="", file=self.out, flush=True)


# ---- main ----------------------------------------------------------------------------------------------------------------------


def arguments(argv):
    parser = argparse.ArgumentParser(description="The same work on this library and its peers, side by side.")
    parser.add_argument("--library", help="liblwp.a of a release build")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "peers"), help="where the programs are built")
    parser.add_argument("--packages", action="store_true", help="print the packages of each peer and end")
    parser.add_argument("--quick", action="store_true", help="one short round without the curves: under three minutes")
    parser.add_argument("--rounds", type=int, default=5, help="at most; fewer if the budget is used up")
    parser.add_argument("--budget", type=float, help="seconds for the measurements (default 1020, quick 120)")
    parser.add_argument("--json", help="write all values there")
    parser.add_argument("--unavailable", action="append", default=[], metavar="PEER=REASON", help="a peer that could not be installed")
    parser.add_argument("filter", nargs="?", default="", help="only rows whose key (as yield:2/w1) matches")
    return parser.parse_args(argv)


def main(argv=None):
    asked = arguments(argv)
    if asked.packages:
        for peer in PEERS:
            print(peer.name, *peer.packages)
        return 0
    if not asked.library or not os.path.exists(asked.library):
        print("bench_peers: --library is not there", file=sys.stderr)
        return 2
    os.makedirs(asked.build, exist_ok=True)
    cpus = sorted(os.sched_getaffinity(0))
    show = Progress()
    missing = dict(word.split("=", 1) for word in asked.unavailable)
    said = build_all(asked.build, asked.library, len(cpus), show)
    said.update({name: f"not installed: {why}" for name, why in missing.items() if isinstance(said.get(name), str)})

    chosen = [r for r in ROWS if not (asked.quick and r.whole)]
    plans = [make_plan(peer, row, key, workers, said[peer.name], asked.quick)
             for row in chosen for key, workers in row.measurements() if re.search(asked.filter, key) for peer in PEERS]
    for plan in plans:
        if plan.workers > len(cpus) and not plan.reason:
            plan.reason = f"this machine gives {len(cpus)} CPU"
    show.end()
    for name, text in said.items():
        if isinstance(text, str):
            print(f"{name}: {text}")

    bench = Bench(asked.build, cpus, 0.06 if asked.quick else 0.2, 8 if asked.quick else 20, 2 if asked.quick else 3, show)
    begin = time.monotonic()
    budget = asked.budget or (120 if asked.quick else 1020)
    rounds, longest = 0, 0.0
    for at in range(1 if asked.quick else asked.rounds):
        started = time.monotonic()
        if at > 0 and started + longest > begin + budget:
            break  # a round that cannot end in time would measure the first rows only
        live = [p for p in plans if not p.reason]
        if not bench.round(live, at, begin + budget):
            for plan in live:
                if not plan.reason and not plan.values:
                    plan.reason = "the budget was used up"
            break
        rounds += 1
        longest = max(longest, time.monotonic() - started)
    show.end()
    facts = {"date": datetime.date.today().isoformat(), "machine": machine(), "versions": versions(), "command": "./dev bench --peers threads" + (" --quick" if asked.quick else ""),
             "rounds": rounds, "repeated_runs": bench.repeated, "seconds": time.monotonic() - begin}
    print_table(plans)
    marked = sum(bool(p.disturbed) for p in plans)
    print(f"\n{rounds} round(s) in {facts['seconds']:.0f} s; {bench.repeated} runs repeated because of others, {marked} of {len(plans)} figures still disturbed")
    if asked.json:
        os.makedirs(os.path.dirname(os.path.abspath(asked.json)), exist_ok=True)
        with open(asked.json, "w") as file:
            json.dump(as_json(plans, said, facts), file, indent=1)
        print(f"all values: {asked.json}")
    return 0 if any(p.values for p in plans) else 1


if __name__ == "__main__":
    sys.exit(main())
