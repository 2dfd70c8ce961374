#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes benchmarks.md and its plots of what tools/bench_peers.py wrote.

    bench_report.py FILE.json FOLDER     writes FOLDER/benchmarks.md and FOLDER/benchmarks/*.svg

Standard library only.  The plots are plain SVG with both colours of text, so that they can be read on white and on black.
"""
import html
import json
import math
import os
import statistics
import sys

COLOURS = {"lwp": "#d62728", "boost_context": "#7f7f7f", "boost_fiber": "#1f77b4", "asio": "#9467bd", "go": "#17becf", "tokio": "#ff7f0e",
           "state_threads": "#2ca02c", "pth": "#8c564b", "pthread": "#e377c2"}
FLOOR_KEY, FLOOR_PEER, OURS = "yield:2/w1", "boost_context", "lwp"
UNITS = {"ns_per_op": "ns", "p50": "ns", "p99": "ns", "p99.9": "ns", "bytes_per_thread": "B", "overshoot_ms": "ms", "cpu_ms": "ms"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 70, 150, 40, 50

# ---- plots -----------------------------------------------------------------------------------------------------------------


def decades(low, high):
    return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def short(value):
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def plot(title, x_title, y_title, lines, x_ticks=None):
    """SVG of lines [(label, colour, [(x, y)])] on logarithmic axes; x_ticks [(x, text)] replaces the powers of ten."""
    points = [point for _, _, line in lines for point in line]
    ys = decades(max(min(y for _, y in points), 1e-9), max(y for _, y in points))
    low_y, high_y = ys[0], ys[-1] if ys[-1] > ys[0] else ys[0] * 10
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    if high_x == low_x:
        high_x = low_x * 10
    x_ticks = x_ticks or [(x, short(x)) for x in decades(low_x, high_x) if low_x <= x <= high_x]

    def at_x(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / low_x) / math.log(high_x / low_x)

    def at_y(y):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(max(y, low_y) / low_y) / math.log(high_y / low_y)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{html.escape(title)}</text>',
           f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{html.escape(x_title)}</text>',
           f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">{html.escape(y_title)}</text>']
    for y in decades(low_y, high_y):
        out.append(f'<line x1="{LEFT}" y1="{at_y(y):.1f}" x2="{WIDTH - RIGHT}" y2="{at_y(y):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" text-anchor="end">{short(y)}</text>')
    for x, text in x_ticks:
        out.append(f'<line x1="{at_x(x):.1f}" y1="{TOP}" x2="{at_x(x):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>'
                   f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{html.escape(text)}</text>')
    below = TOP
    # From the top down, in the order in which the lines end, with room for each name.
    for label, colour, line in sorted(lines, key=lambda item: -item[2][-1][1]):
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        wide = 3 if label.startswith(OURS) else 1.5
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>')
        out.extend(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="{wide}" fill="{colour}"/>' for x, y in line)
        below = max(below + 15, at_y(line[-1][1]) + 4)
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{min(below, HEIGHT - 4):.1f}" fill="{colour}">{html.escape(label)}</text>')
    return "\n".join(out) + "\n</svg>\n"


# ---- what was measured -----------------------------------------------------------------------------------------------------


def median(entry, metric):
    values = entry["values"].get(metric)
    return statistics.median(values.values()) if values and not entry["reason"] else None


def ratio(theirs, ours, metric):
    """The median of the ratios inside the rounds that both have."""
    a, b = theirs["values"].get(metric, {}), ours["values"].get(metric, {})
    each = [a[r] / b[r] for r in a if b.get(r)]
    return statistics.median(each) if each and not theirs["reason"] and not ours["reason"] else None


def groups(data):
    """key -> {peer: entry}, in the order of the run."""
    found = {}
    for entry in data["rows"]:
        found.setdefault(entry["key"], {})[entry["peer"]] = entry
    return found


def curve_by_threads(data, work, metric):
    """Lines over the number of threads, of the rows work:N/w1 of all peers."""
    lines = {}
    for key, group in groups(data).items():
        name, _, workers = key.partition("/")
        head, _, size = name.partition(":")
        if head != work or workers != "w1" or not size.isdigit():
            continue
        for peer, entry in group.items():
            value = median(entry, metric)
            if value is not None and entry["threads"] == int(size):
                lines.setdefault((peer, entry["peer_title"]), []).append((int(size), value))
    return [(title, COLOURS.get(peer, "#000"), sorted(line)) for (peer, title), line in lines.items()]


def curve_of_latency(data, key):
    """Lines over the share of the samples: x is 1 / (1 - share), so that the tail has room."""
    lines = []
    for peer, entry in groups(data).get(key, {}).items():
        if entry["curves"] and not entry["reason"]:
            middle = [statistics.median(values) for values in zip(*entry["curves"])]
            line = [(1 / (1 - q), max(v, 1)) for q, v in zip(data["grid"], middle)]
            lines.append((entry["peer_title"], COLOURS.get(peer, "#000"), line))
    return lines


def plots(data):
    """[(file name, what it shows, svg)] of whatever was measured."""
    found = []
    for work, metric, title, y_title in (("yield", "ns_per_op", "A yield by number of threads, one kernel thread", "ns"),
                                         ("memory", "bytes_per_thread", "Memory of a blocked thread by number of threads", "bytes")):
        lines = curve_by_threads(data, work, metric)
        if lines:
            found.append((work, title, plot(title, "threads", y_title, lines)))
    ticks = [(1 / (1 - q), text) for q, text in ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"))]
    for key, group in groups(data).items():
        lines = curve_of_latency(data, key)
        if lines:
            entry = next(iter(group.values()))
            title = f"{entry['title'][0].upper()}{entry['title'][1:]}, {workers_text(entry['workers'])}"
            name = key.replace(":", "_").replace("/w1", "").replace("/", "_")
            found.append((name, title, plot(title, "share of the samples", "ns", lines, ticks)))
    return found


# ---- the text ----------------------------------------------------------------------------------------------------------------


def workers_text(workers):
    return "one kernel thread" if workers == 1 else f"{'two' if workers == 2 else workers} kernel threads"


def number(value):
    if value >= 100_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table_of(data, workers, metrics_wanted):
    """Lines of a table: a row for each measurement and metric, a column for each peer."""
    peers = []
    for entry in data["rows"]:
        if (entry["peer"], entry["peer_title"]) not in peers and entry["peer"] != OURS:
            peers.append((entry["peer"], entry["peer_title"]))
    floor = groups(data).get(FLOOR_KEY, {}).get(FLOOR_PEER)
    lines = ["| operation | lwp | spread | x floor | " + " | ".join(title for _, title in peers) + " |", "|---" * (4 + len(peers)) + "|"]
    for group in groups(data).values():
        ours = group.get(OURS)
        if ours is None or ours["workers"] != workers:
            continue
        for metric in ours["metrics"]:
            if not metrics_wanted(metric):
                continue
            mine = median(ours, metric)
            ratios = {peer: ratio(entry, ours, metric) for peer, entry in group.items() if peer not in (OURS,)}
            contest = {peer: r for peer, r in ratios.items() if r is not None and peer != FLOOR_PEER}
            best = min(contest, key=contest.get) if contest and min(contest.values()) < 0.95 else None
            name = ours["title"] + ("" if metric == "ns_per_op" or len(ours["metrics"]) == 1 else f": {metric.replace('_ms', '')}")
            wide = ours["spread"].get(metric)
            star = "*" if ours["disturbed_rounds"] else ""
            over = ratio_to_floor(ours, floor) if metric == "ns_per_op" else None
            cells = [name, "-" if mine is None else f"{number(mine)} {UNITS[metric]}{star}", "" if wide is None else f"{100 * wide:.0f} %", "" if over is None else f"{over:.1f}"]
            for peer, _ in peers:
                r = ratios.get(peer)
                star = "*" if r is not None and group[peer]["disturbed_rounds"] else ""
                text = "" if r is None else f"{r:.2f}{star}"
                cells.append(f"**{text}**" if peer in contest and r < 0.95 else text)
            if best:
                cells[0] += f" (**{group[best]['peer_title']} wins**)"
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def ratio_to_floor(ours, floor):
    return ratio(ours, floor, "ns_per_op") if floor else None


def reasons(data):
    """Lines: what is missing from a row and why, what is done in another way."""
    why, how = {}, {}
    for entry in data["rows"]:
        place = f"{entry['title']} ({workers_text(entry['workers'])})"
        if entry["reason"]:
            why.setdefault((entry["peer_title"], entry["reason"]), []).append(place)
        elif entry["note"]:
            how.setdefault((entry["peer_title"], entry["note"]), []).append(entry["title"])
    lines = [f"- {peer}: {reason}: {'everything else' if len(places) > 12 else '; '.join(places)}" for (peer, reason), places in why.items()]
    notes = [f"- {peer}: {'; '.join(sorted(set(places)))}: {note}" for (peer, note), places in how.items()]
    return lines, notes


def text_of(data, pictures):
    machine = data["machine"]
    missing, notes = reasons(data)
    versions = ", ".join(f"{name} {version}" for name, version in data.get("versions", {}).items())
    marked = sum(bool(entry["disturbed_rounds"]) for entry in data["rows"])
    lines = [
        "# This library and its peers", "",
        f"Made by `{data['command']}` on {data['date']}: {machine['cpus']} CPUs ({machine['cpu']}), {machine['arch']}, kernel {machine['kernel']}; "
        f"{data['rounds']} round{'s' if data['rounds'] != 1 else ''}, medians.  The same work on all, written once (`bench/peers/work.h`) where the language allows, stacks of 64 KiB where they can be chosen, "
        "confined to the same CPUs, one after the other in each round.", "",
        "The column lwp is the time of an operation here, spread is (largest - smallest) / median of the rounds, and \"x floor\" how many resumes of a bare "
        "`boost::context::fiber` in the same round that is.  The other columns are ratios in the same round: how many times as long (or as much) the peer takes.  "
        "**Bold: it beats us**, by more than 5 %; the row names the best.  "
        f"* others used the CPUs during a run, which repeating did not cure ({marked} of {len(data['rows'])} figures; {data['repeated_runs']} runs were repeated).  "
        "Compare ratios; times are those of this machine on that day.  [limits.md](limits.md) says what stands in the way where a peer wins.", "",
    ]
    if data.get("versions"):
        lines += [f"Versions: {versions}.", ""]
    is_latency = {"p50", "p99", "p99.9"}
    for workers in sorted({entry["workers"] for entry in data["rows"]}):
        lines += [f"## {workers_text(workers)[0].upper()}{workers_text(workers)[1:]}", ""]
        for title, wanted in (("", lambda m: m not in is_latency), ("Latencies: every one is measured, none averaged.", lambda m: m in is_latency)):
            table = table_of(data, workers, wanted)
            if len(table) > 2:
                lines += [title, ""] if title else []
                lines += table + [""]
    if pictures:
        lines += ["## Plots", ""]
        for name, title, _ in pictures:
            lines += [f"![{title}](benchmarks/{name}.svg)", ""]
    if missing:
        lines += ["## Not there, and why", ""] + missing + [""]
    if notes:
        lines += ["## Done in another way", ""] + notes + [""]
    return "\n".join(lines).rstrip() + "\n"


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[0]) as file:
        data = json.load(file)
    folder = os.path.join(argv[1], "benchmarks")
    os.makedirs(folder, exist_ok=True)
    pictures = plots(data)
    for old in os.listdir(folder):
        if old.endswith(".svg"):
            os.remove(os.path.join(folder, old))
    for name, _, svg in pictures:
        with open(os.path.join(folder, name + ".svg"), "w") as file:
            file.write(svg)
    path = os.path.join(argv[1], "benchmarks.md")
    with open(path, "w") as file:
        file.write(text_of(data, pictures))
    print(f"{path}: {len(pictures)} plots")
    return 0


if __name__ == "__main__":
    sys.exit(main())
