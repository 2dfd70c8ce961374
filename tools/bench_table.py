#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs lwp_bench several times and prints one table: the time of each operation, its ratio to the floor, its ratio to pthreads.
# Ratios are taken inside one run of the program, then their median over the runs: what slows the machine for a while slows both
# sides.  Needs nothing but Python's standard library.  Never interprets names beyond three rules:
#   BM_Floor/...     is always run; BM_Floor/fiber_resume is the unit
#   ROW/pthread      is what ROW is compared with; if there is none, the pthread row that differs in its sizes alone ("~")
#   a time in ns     is that of one operation; any other unit marks a whole run, of which only the counters are shown
import argparse
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

UNIT = "BM_Floor/fiber_resume"
FLOOR = "BM_Floor/"
QUICK = r"^BM_(Floor|Switch)/"
LONG = 3.0  # seconds; a whole-run row that takes longer is run once only

# What Google Benchmark itself says about a row; every other number is a counter.
STANDARD_KEYS = {
    "name", "run_name", "run_type", "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads",
    "thread_index", "iterations", "real_time", "cpu_time", "time_unit", "label", "error_occurred", "error_message",
    "aggregate_name", "aggregate_unit", "big_o", "rms",
}
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


class Failure(Exception):
    """The program could not be run, or did not end as it should."""


# ---- arithmetic ------------------------------------------------------------------------------------------------------


class Row:
    """One benchmark in all runs in which it ran: {run: value}."""

    def __init__(self, name, unit):
        self.name = name
        self.unit = unit
        self.times = {}
        self.counters = {}  # name of the counter -> {run: value}

    @property
    def is_operation(self):
        return self.unit == "ns"

    def seconds(self):
        return statistics.median(self.times.values()) * SECONDS[self.unit]


def collect(runs):
    """Rows by name, in the order of the first run, and the failures as (run, name, message)."""
    rows, failures = {}, []
    for number, run in enumerate(runs):
        for entry in run["benchmarks"]:
            if entry.get("run_type", "iteration") != "iteration":
                continue
            name = entry["name"]
            if entry.get("error_occurred"):
                failures.append((number, name, entry.get("error_message", "failed")))
                continue
            row = rows.setdefault(name, Row(name, entry["time_unit"]))
            row.times[number] = entry["real_time"]
            for key, value in entry.items():
                if key not in STANDARD_KEYS and isinstance(value, (int, float)):
                    row.counters.setdefault(key, {})[number] = value
    return rows, failures


def spread(values):
    """(largest - smallest) / median, or None if there is one value only."""
    values = list(values)
    middle = statistics.median(values)
    return (max(values) - min(values)) / abs(middle) if len(values) > 1 and middle else None


def same_run_ratio(above, below):
    """Median over the runs that have both of above / below, or None."""
    ratios = [value / below[run] for run, value in above.items() if below.get(run)]
    return statistics.median(ratios) if ratios else None


def pthread_row(row, rows):
    """The pthread row that `row` is compared with and whether it is exact; (None, False) if there is none."""
    if row.name.endswith("/pthread"):
        return None, False
    exact = rows.get(row.name + "/pthread")
    if exact is not None:
        return exact, True
    for other in rows.values():
        if other.name.endswith("/pthread") and without_sizes(other.name) == without_sizes(row.name + "/pthread"):
            return other, False
    return None, False


def without_sizes(name):
    """The name with every size but the number of CPUs taken out."""
    return re.sub(r"(?<!vcpus):\d+", ":", name)


# ---- the table -------------------------------------------------------------------------------------------------------


def three_digits(value):
    """1234567 -> 1,234,567; 123.4 -> 123; 12.34 -> 12.3; 1.234 -> 1.23"""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def percent(value):
    return "" if value is None else f"{100 * value:.0f} %"


def aligned(lines):
    """The first line is the head; the first column is text, the others are numbers."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    for line in [lines[0], rule, *lines[1:]]:
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))]
        yield "  ".join(cells).rstrip()


def operations_table(rows):
    floor = rows[UNIT].times if UNIT in rows else {}
    lines = [["operation", "ns", "spread", "x floor", "pthread / row"]]
    for row in rows.values():
        if not row.is_operation:
            continue
        to_floor = same_run_ratio(row.times, floor)
        peer, exact = pthread_row(row, rows)
        to_peer = same_run_ratio(peer.times, row.times) if peer is not None and peer.is_operation else None
        lines.append([
            row.name,
            three_digits(statistics.median(row.times.values())),
            percent(spread(row.times.values())),
            "" if to_floor is None else three_digits(to_floor),
            "" if to_peer is None else ("" if exact else "~") + three_digits(to_peer),
        ])
    return lines


def counters_table(rows):
    lines = [["counter", "value", "spread"]]
    for row in rows.values():
        for counter, values in row.counters.items():
            name = f"{row.name}  {counter}"
            lines.append([name, three_digits(statistics.median(values.values())), percent(spread(values.values()))])
    return lines


def report(rows, runs):
    """The whole text: both tables and what the columns mean."""
    lines = []
    if len(operations := operations_table(rows)) > 1:
        lines += aligned(operations)
    if len(counters := counters_table(rows)) > 1:
        lines += ["", *aligned(counters)]
    lines += [
        "",
        f"Medians of {runs} run(s) of the program; spread: (largest - smallest) / median; x floor: in units of {UNIT}",
        "of the same run; pthread / row: how many times as long the same takes with pthreads on as many CPUs (~: at other sizes).",
    ]
    return "\n".join(lines)


# ---- Google Benchmark's JSON -----------------------------------------------------------------------------------------


def merged(runs, rows):
    """All runs as the repetitions of one, with the medians behind them: what one run with --benchmark_repetitions would write."""
    entries = []
    for name in dict.fromkeys(entry["name"] for run in runs for entry in run["benchmarks"]):
        mine = [entry for run in runs for entry in run["benchmarks"] if entry["name"] == name]
        for index, entry in enumerate(mine):
            entries.append({**entry, "repetitions": len(mine), "repetition_index": index})
        row = rows.get(name)
        if row is None:
            continue
        first = next(entry for entry in mine if not entry.get("error_occurred"))
        same = ("family_index", "per_family_instance_index", "run_name", "threads", "time_unit")
        median = {key: first[key] for key in same if key in first}
        median |= {"name": name + "_median", "run_type": "aggregate", "aggregate_name": "median", "aggregate_unit": "time",
                   "repetitions": len(mine), "iterations": len(row.times), "real_time": statistics.median(row.times.values()),
                   "cpu_time": statistics.median(entry["cpu_time"] for entry in mine if not entry.get("error_occurred"))}
        median |= {counter: statistics.median(values.values()) for counter, values in row.counters.items()}
        entries.append(median)
    return {"context": runs[0]["context"], "benchmarks": entries}


# ---- running ---------------------------------------------------------------------------------------------------------


def list_rows(binary):
    try:
        done = subprocess.run([binary, "--benchmark_list_tests"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"cannot run {binary}: {error}") from error
    if done.returncode != 0:
        raise Failure(f"{binary} --benchmark_list_tests: {how_it_ended(done.returncode)}\n{done.stderr}")
    return done.stdout.split()


def choose(names, expression, quick):
    """The rows to run: those that match and the floor.  Raises Failure if nothing matches."""
    try:
        wanted = re.compile(expression)
    except re.error as error:
        raise Failure(f"'{expression}' is not a regular expression: {error}") from error
    matching = [name for name in names if wanted.search(name) and (not quick or re.search(QUICK, name))]
    if not matching:
        raise Failure(f"no benchmark matches '{expression}'")
    return [name for name in names if name in matching or name.startswith(FLOOR)]


def how_it_ended(status):
    return f"exit status {status}" if status >= 0 else f"killed by signal {-status}"


class Progress:
    """One line that is written over on a terminal; plain lines, not too many, elsewhere."""

    def __init__(self, stream):
        self.stream = stream
        self.terminal = stream.isatty()
        self.begin = time.monotonic()
        self.last = -1e9

    def show(self, text, important=False):
        now = time.monotonic()
        if self.terminal:
            try:
                width = os.get_terminal_size(self.stream.fileno()).columns
            except OSError:
                width = 80
            line = f"{now - self.begin:4.0f} s  {text}"
            self.stream.write("\r" + line[:width - 1].ljust(width - 1))
        elif important or now - self.last >= 5:
            self.last = now
            self.stream.write(f"{now - self.begin:4.0f} s  {text}\n")
        self.stream.flush()

    def clear(self):
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()


def run_once(binary, names, title, progress, timeout):
    """One run of the program over `names`: its JSON."""
    with tempfile.TemporaryDirectory(prefix="lwp_bench.") as folder:
        out = os.path.join(folder, "out.json")
        with open(os.path.join(folder, "err"), "w+") as errors:
            command = [binary, "--benchmark_filter=^(" + "|".join(map(re.escape, names)) + ")$", "--benchmark_color=false",
                       "--benchmark_out=" + out, "--benchmark_out_format=json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
                try:
                    done, timed_out = follow(process, names, title, progress, timeout)
                except BaseException:
                    process.kill()
                    raise
            errors.seek(0)
            said = errors.read()
        row = names[done] if done < len(names) else "the end"
        if timed_out:
            raise Failure(f"{title}: not done after {timeout:.0f} s, killed in {row}")
        try:
            with open(out) as file:
                result = json.load(file)
        except (OSError, ValueError) as error:
            raise Failure(f"{title}: {how_it_ended(process.returncode)} in {row}\n{said}") from error
        failed = any(entry.get("error_occurred") for entry in result["benchmarks"])
        missing = set(names) - {entry["name"] for entry in result["benchmarks"]}
        if missing or (process.returncode != 0 and not failed):
            without = ", ".join(sorted(missing)) or "none"
            raise Failure(f"{title}: {how_it_ended(process.returncode)}; rows without a result: {without}\n{said}")
        return result


def follow(process, names, title, progress, timeout):
    """Shows how far the program is until its output ends; returns the rows done and whether it had to be killed."""
    begin = time.monotonic()
    done, rest = 0, b""
    progress.show(f"{title}: {len(names)} rows", important=True)
    while True:
        if select.select([process.stdout], [], [], 1.0)[0]:
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return done, False
            *lines, rest = (rest + chunk).split(b"\n")
            done += sum(line.startswith(b"BM_") for line in lines)
        if time.monotonic() - begin > timeout:
            process.kill()
            return done, True
        if done < len(names):
            progress.show(f"{title}: {done}/{len(names)} {names[done]}")


def measure(binary, names, repetitions, progress, timeout):
    """Runs the program `repetitions` times; long whole-run rows in the first run only."""
    runs = []
    for number in range(repetitions):
        runs.append(run_once(binary, names, f"run {number + 1} of {repetitions}", progress, timeout))
        if number == 0:
            rows, _ = collect(runs)
            once = {name for name, row in rows.items() if not row.is_operation and row.seconds() > LONG}
            names = [name for name in names if name not in once]
    return runs


# ---- command line ----------------------------------------------------------------------------------------------------


def arguments(argv):
    def positive(text):
        value = int(text)
        if value < 1:
            raise ValueError
        return value

    parser = argparse.ArgumentParser(
        description="Runs lwp_bench and prints one table with ratios to the floor and to pthreads.",
        epilog="Every repetition is a run of the whole program, a process of its own, so that the repetitions of a row lie far apart in "
        f"time and differ in their address layout; the table shows medians over the runs.  Rows that are one run of more than {LONG:.0f} s "
        "(idle, a million blocked) run once.  The floor is always measured.  "
        "Exit status: 0; 1 a benchmark failed or crashed, or none matches; 2 wrong arguments.")
    parser.add_argument("--binary", required=True, metavar="PATH", help="the program lwp_bench")
    parser.add_argument("--json", metavar="FILE", help="also write all repetitions and medians as Google Benchmark's JSON")
    parser.add_argument("--repetitions", type=positive, metavar="N", help="runs of the program (default: 5, with --quick 3)")
    parser.add_argument("--quick", action="store_true", help="the floor and the switch rows only")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for one run (default: %(default)s)")
    parser.add_argument("filter", nargs="?", default="", metavar="FILTER", help="rows whose names match this Python regular expression")
    options = parser.parse_args(argv)
    options.repetitions = options.repetitions or (3 if options.quick else 5)
    return options


def main(argv=None):
    options = arguments(argv)
    progress = Progress(sys.stderr)
    try:
        names = choose(list_rows(options.binary), options.filter, options.quick)
        runs = measure(options.binary, names, options.repetitions, progress, options.timeout)
    except Failure as failure:
        progress.clear()
        print(f"bench_table: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.clear()
        return 130
    progress.clear()
    rows, failures = collect(runs)
    print(report(rows, len(runs)))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(merged(runs, rows), file, indent=1)
            file.write("\n")
    for number, name, message in failures:
        print(f"bench_table: run {number + 1}: {name}: {message}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
