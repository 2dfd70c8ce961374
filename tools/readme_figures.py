#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Puts the figures of a whole run of tools/bench_peers.py into README.md, between its marks.

    readme_figures.py FILE.json [README.md]      rewrites what stands between the marks

The rows are those of ROWS; each has our time, how many resumes of a bare context that is, and the fastest of the others with how many times as
long it takes: below one, it wins.  Standard library only.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_report as report

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"

ROWS = [
    ("yield:2", "yield, 2 threads"),
    ("yield:1000", "yield, 1,000 threads"),
    ("park", "hand-over by park and unpark"),
    ("semaphore", "hand-over by a semaphore"),
    ("condvar", "hand-over by a condition variable"),
    ("channel:0", "a value through a channel without buffer"),
    ("create_join", "create and join"),
    ("create_detached:1", "create detached, run, exit"),
    ("skynet", "skynet, 100,000 leaves with joins, per leaf"),
    ("mutex_alone", "mutex, lock and unlock, nobody else there"),
    ("mutex:1000", "mutex, 1,000 threads"),
    ("memory:100000", "memory of a blocked thread, of 100,000"),
]


def cells(group, floor):
    """Our figure, floors, the best other: of one row on one number of kernel threads; all empty if we were not measured there."""
    ours = (group or {}).get(report.OURS)
    metric = ours["metrics"][0] if ours else None
    mine = report.median(ours, metric) if ours else None
    if mine is None:
        return ["", "", ""]
    others = {peer: report.ratio(entry, ours, metric) for peer, entry in group.items() if peer not in (report.OURS, report.FLOOR_PEER)}
    others = {peer: r for peer, r in others.items() if r is not None}
    best = min(others, key=others.get) if others else None
    over = report.ratio_to_floor(ours, floor) if metric == "ns_per_op" and floor else None
    unit = "" if metric == "ns_per_op" else " " + report.UNITS[metric]
    return [report.number(mine) + unit, "" if over is None else f"{over:.1f}", "" if best is None else f"{group[best]['peer_title']} {others[best]:.2f}"]


def text_of(data):
    groups = report.groups(data)
    floor = groups.get(report.FLOOR_KEY, {}).get(report.FLOOR_PEER)
    machine = data["machine"]
    bare = report.median(floor, "ns_per_op") if floor else None
    lines = [
        f"`{data['command']}`, {data['date']}, {machine['cpus']} CPUs ({machine['cpu']}, {machine['arch']}, kernel {machine['kernel']}), medians of {data['rounds']}.",
        f"The floor is a bare `boost::context::fiber` resume in the same run, {bare:.2f} ns there; \"next\" is the fastest of the others and how many",
        "times as long (or as much) it takes: below one, it wins. [docs/benchmarks.md](docs/benchmarks.md) has all rows, all peers, latencies and plots.", "",
        "| operation | one vCPU: ns | x floor | next | two vCPUs: ns | x floor | next |", "|---|---|---|---|---|---|---|",
    ]
    for name, title in ROWS:
        both = cells(groups.get(f"{name}/w1"), floor) + cells(groups.get(f"{name}/w2"), floor)
        if any(both):
            lines.append("| " + " | ".join([title, *both]) + " |")
    return "\n".join(lines) + "\n"


def replaced(readme, block):
    head, mark, rest = readme.partition(BEGIN + "\n")
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"no {BEGIN} ... {END}")
    return head + mark + block + end + tail


def main(argv):
    if len(argv) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    path = argv[1] if len(argv) == 2 else os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
    with open(argv[0]) as file:
        data = json.load(file)
    with open(path) as file:
        old = file.read()
    new = replaced(old, text_of(data))
    with open(path, "w") as file:
        file.write(new)
    print(f"{path}: {len(ROWS)} rows of {argv[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
