#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What of the library's rooms a build's tests have executed, from gcov's counts.

    coverage.py BUILD_DIR [--lines PERCENT] [--branches PERCENT] [--holes [ROOM]]

BUILD_DIR was configured with LWP_COVERAGE=ON, and its tests have run.  Prints a table of rooms and one line of figures; exit status 1 if one of the
rooms of the kernel (core, sched, sync, proc, io) is below a percentage.  --holes lists the lines that nobody has executed, and those with branches
that nobody has taken.

Branches: gcov counts each way out of a condition, and two ways out of each call that may throw: on, and by an exception.  The pairs of calls are
left out.  So are the branches of LWP_ASSERT(...): that one fails would be a bug, and no test may make one fail.  A function that is compiled into
several files (an inline one), several times (a template) or into several programs (the library and the explorer's copy of it) counts once, and a line or
a branch of it as executed if one of them is.
"""

import argparse
import collections
import gzip
import json
import math
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
KERNEL = ["core", "sched", "sync", "proc", "io"]
OTHERS = ["base", "ctx", "api"]
# The library; the same for the explorer and the model; tests with inline functions of the library in them.
OBJECTS = ["CMakeFiles/lwp_objects.dir", "tests/explore/CMakeFiles/explored.dir", "tests/CMakeFiles"]


def gcov(build):
    """gcov's report of each object of the library, as parsed JSON."""
    notes = sorted(path for objects in OBJECTS for path in (build / objects).rglob("*.gcno"))
    if not notes:
        sys.exit(f"coverage: nothing was counted in {build}: configure it with LWP_COVERAGE=ON")
    with tempfile.TemporaryDirectory() as scratch:
        for at in range(0, len(notes), 20):
            # Without counts (no .gcda) nothing of the object was executed, and that is reported, too.
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--hash-filenames", *map(str, notes[at : at + 20])],
                           cwd=scratch, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        for path in sorted(pathlib.Path(scratch).glob("*.gcov.json.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as f:
                yield json.load(f)


def without_throws(branches):
    """The counts of the ways out of conditions: pairs of which one is an exception's are calls."""
    counts = []
    at = 0
    while at < len(branches):
        pair = branches[at : at + 2]
        if len(pair) == 2 and (pair[0]["throw"] != pair[1]["throw"]):
            at += 2
            continue
        if not pair[0]["throw"]:
            counts.append(pair[0]["count"])
        at += 1
    return counts


def lines_of_asserts(text):
    """The numbers of the lines that an LWP_ASSERT(...) stands on, up to the one of its closing parenthesis."""
    numbers = set()
    depth = 0
    for number, line in enumerate(text, 1):
        rest = line
        if depth == 0:
            at = line.find("LWP_ASSERT(")
            if at < 0 or line.lstrip().startswith(("#", "//")):
                continue
            rest = line[at:]
        numbers.add(number)
        depth = max(depth + rest.count("(") - rest.count(")"), 0)
    return numbers


class Source:
    """What was executed of one file."""

    def __init__(self, path):
        self.path = path
        self.text = path.read_text(encoding="utf-8").splitlines()
        self.asserts = lines_of_asserts(self.text)
        self.lines = collections.Counter()
        self.branches = {}  # line -> function (where it begins in the file; None: it is part of another, inlined) -> how many -> counts

    def add(self, line, function=None):
        number = line["line_number"]
        if number > len(self.text):
            return
        self.lines[number] += line["count"]
        if number in self.asserts:
            return
        counts = without_throws(line["branches"])
        if counts:
            versions = self.branches.setdefault(number, {}).setdefault(function, {})
            before = versions.get(len(counts), [0] * len(counts))
            versions[len(counts)] = [a + b for a, b in zip(before, counts)]

    def ways(self, number):
        """How often each way out of a condition on the line was taken."""
        functions = dict(self.branches.get(number, {}))
        inlined = functions.pop(None, {})
        # Of versions with different ways out the longer one counts: in the other some are known when it is compiled.
        ways = [count for versions in functions.values() for count in versions[max(versions)]]
        if inlined:
            # Several times in one function, its ways come as often, one round after the other: they are folded onto one round.  Copies in which
            # something is known when it is compiled have shorter ones; then what all have in common is.
            once = math.gcd(*inlined, *([len(ways)] if ways else []))
            rounds = [list_[at : at + once] for list_ in [*inlined.values(), ways] for at in range(0, len(list_), once)]
            ways = [sum(column) for column in zip(*rounds)]
        return ways

    def figures(self):
        """Lines executed, lines, branches taken, branches."""
        ways = [count for number in self.branches for count in self.ways(number)]
        return (sum(1 for n in self.lines.values() if n), len(self.lines), sum(1 for n in ways if n), len(ways))


def read(build):
    """Path below src/ -> Source."""
    sources = {}
    for report in gcov(build):
        for file in report["files"]:
            path = pathlib.Path(file["file"])
            path = (pathlib.Path(report["current_working_directory"]) / path).resolve()
            if not path.is_relative_to(ROOT / "src"):
                continue
            name = str(path.relative_to(ROOT / "src"))
            source = sources.setdefault(name, Source(path))
            # By where it begins, all instances of a template are one function; a lambda on the same line is another.
            functions = {f["name"]: f for f in file["functions"]}
            for line in file["lines"]:
                f = functions.get(line.get("function_name"))
                own = f is not None and f["start_line"] <= line["line_number"] <= f["end_line"]
                source.add(line, (f["start_line"], f["start_column"]) if own else None)
    return sources


def sum_of(sources, rooms):
    figures = [source.figures() for name, source in sources.items() if name.split("/")[0] in rooms]
    return [sum(column) for column in zip(*figures)] if figures else [0, 0, 0, 0]


def rooms_below(sources, least_lines, least_branches):
    """Those of the kernel's rooms that are below a percentage."""
    below = []
    for room in KERNEL:
        hit, lines, taken, branches = sum_of(sources, [room])
        if percent(hit, lines) < least_lines or percent(taken, branches) < least_branches:
            below.append(room)
    return below


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def ranges(numbers):
    """[1, 2, 3, 7] as "1-3, 7"."""
    out = []
    for n in sorted(numbers):
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def print_holes(sources, rooms):
    for name, source in sorted(sources.items()):
        if name.split("/")[0] not in rooms:
            continue
        dark = [n for n, count in source.lines.items() if not count]
        half = [n for n in source.branches if n not in dark and not all(source.ways(n))]
        if dark or half:
            print(f"src/{name}: not executed: {ranges(dark) or '-'}; branches not taken: {ranges(half) or '-'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--lines", type=float, default=0)
    parser.add_argument("--branches", type=float, default=0)
    parser.add_argument("--holes", nargs="?", const="", metavar="ROOM")
    args = parser.parse_args()
    sources = read(args.build.resolve())
    if args.holes is not None:
        print_holes(sources, [args.holes] if args.holes else KERNEL)
    print(f"{'room':8} {'lines':>16} {'':>7} {'branches':>16}")
    for room in KERNEL + OTHERS:
        hit, lines, taken, branches = sum_of(sources, [room])
        print(f"{room:8} {hit:>7} of {lines:>5} {percent(hit, lines):6.1f}% {taken:>7} of {branches:>5} {percent(taken, branches):6.1f}%")
    hit, lines, taken, branches = sum_of(sources, KERNEL)
    below = rooms_below(sources, args.lines, args.branches)
    print(f"coverage: {percent(hit, lines):.1f} % of {lines} lines, {percent(taken, branches):.1f} % of {branches} branches of {', '.join(KERNEL)}")
    if below:
        print(f"coverage: below {args.lines:g} % of lines or {args.branches:g} % of branches: {', '.join(below)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
