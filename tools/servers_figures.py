#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Puts the tables of a whole run of tools/bench_servers.py into docs/servers.md, between its marks.

    servers_figures.py FILE.json [servers.md]    rewrites what stands between the marks, and the plots in servers/ beside the page

A row of another server is bold where it beats both of ours by more than 5 %: in requests a second, or, where it is about memory, in bytes.  The
floors, which are written by hand and can do nothing else, are bold nowhere.  Standard library only.
"""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_report
import readme_figures

OURS, FLOORS = "lwp ", ("floor, ", "raw ")
MARGIN = 1.05
COLOURS = {"floor, one-shot": "#7f7f7f", "lwp echo, io_uring": "#d62728", "lwp echo, epoll": "#1f77b4", "Go net": "#17becf"}  # the lines of a plot
PICTURES = (("echo", "Echo of 64 bytes by number of connections", "requests a second", "rate"),
            ("echo_p99", "Echo of 64 bytes by number of connections: p99", "us", "p99_us"))


def beats(row, table):
    """Whether a row of another server beats all of ours."""
    ours = [other for other in table["rows"] if other["name"].startswith(OURS)]
    if not ours or row["name"].startswith((OURS, *FLOORS)):
        return False
    if "kib" in row:
        return all(row["kib"] * MARGIN < other["kib"] for other in ours)
    return all(row["rate"] > other["rate"] * MARGIN for other in ours)


def line(cells, bold):
    """`bold`: the name and what it wins by, which comes next."""
    return "| " + " | ".join(f"**{c}**" if bold and c and i < 3 else c for i, c in enumerate(cells)) + " |"


def table_of(table):
    rows = table["rows"]
    if "floors" not in table:
        yield from ("| " + table["title"] + " | KiB each |", "|---|---:|")
        for row in rows:
            yield line([row["name"], f"{row['kib']:.2f}"], beats(row, table))
        return
    cpu = any(row["cpu_us"] is not None for row in rows)
    yield f"| {table['title']} | requests/s | ratio | p50 us | p99 us |" + (" CPU us |" if cpu else "")
    yield "|---|---:|---:|---:|---:|" + ("---:|" if cpu else "")
    for row in rows:
        cells = [row["name"], f"{row['rate']:,.0f}", "" if row["ratio"] is None else f"{row['ratio']:.2f}", f"{row['p50_us']:,.0f}", f"{row['p99_us']:,.0f}"]
        yield line(cells + ([] if not cpu else ["" if row["cpu_us"] is None else f"{row['cpu_us']:.2f}"]), beats(row, table))


def plots(data):
    """(file's name, title, SVG): what the echo tables say, by number of connections."""
    tables = {int(found[1]): table for table in data["tables"] if (found := re.fullmatch(r"echo 64 B, (\d+) connections?", table["title"]))}
    if len(tables) < 2:
        return []
    done = []
    for name, title, axis, metric in PICTURES:
        points = {row: [] for row in COLOURS}
        for connections, table in sorted(tables.items()):
            for row in table["rows"]:
                if row["name"] in points:
                    points[row["name"]].append((connections, row[metric]))
        lines = [(row, COLOURS[row], line) for row, line in points.items() if line]
        done.append((name, title, bench_report.plot(title, "connections", axis, lines)))
    return done


def text_of(data):
    machine = data["machine"]
    lines = [
        f"`{data['command']}`, {data['date']}, {machine['cpus']} CPUs ({machine['cpu']}, {machine['arch']}, kernel {machine['kernel']}), medians of "
        f"{data['rounds']} rounds of {data['seconds']} s.",
        "Ratio: to the first row, or to the faster of one-shot and multishot where there are both. CPU us: what the server takes of its CPU for a request. **Bold: a",
        "peer that beats both of ours** by more than 5 %.", "",
    ]
    for table in data["tables"]:
        lines += [*table_of(table), ""]
        lines += [f"{name}: not measured: {reason}" for name, reason in table["missing"].items()]
        lines += [""] if table["missing"] else []
    lines += [line for name, title, _ in plots(data) for line in (f"![{title}](servers/{name}.svg)", "")]
    return "\n".join(lines[:-1]) + "\n"


def main(argv):
    if len(argv) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    path = argv[1] if len(argv) == 2 else os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "servers.md")
    with open(argv[0], encoding="utf-8") as file:
        data = json.load(file)
    with open(path, encoding="utf-8") as file:
        old = file.read()
    new = readme_figures.replaced(old, text_of(data))
    with open(path, "w", encoding="utf-8") as file:
        file.write(new)
    folder = os.path.splitext(path)[0]
    for name, _, svg in plots(data):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name + ".svg"), "w", encoding="utf-8") as file:
            file.write(svg)
    print(f"{path}: {len(data['tables'])} tables of {argv[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
