#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Puts the tables of a whole run of tools/bench_servers.py into docs/servers.md, between its marks.

    servers_figures.py FILE.json [servers.md]    rewrites what stands between the marks

A row of another server is bold where it beats both of ours by more than 5 %: in requests a second, or, where it is about memory, in bytes.  The
floors, which are written by hand and can do nothing else, are bold nowhere.  Standard library only.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import readme_figures

OURS, FLOORS = "lwp ", ("floor, ", "raw ")
MARGIN = 1.05


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
    print(f"{path}: {len(data['tables'])} tables of {argv[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
