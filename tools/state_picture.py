#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the part of ARCHITECTURE.md that is made from the code: the states of an LWP, the edges between them, the lock order.

    state_picture.py [ROOT]           rewrites ROOT/ARCHITECTURE.md between its two markers, and nothing else
    state_picture.py --check [ROOT]   writes nothing; exit status 1 and the difference if the file is out of date

Reads the X-macro tables LWP_STATES and LWP_EDGES (src/core/lwp_state.h) and LWP_LOCK_RANKS (src/base/lockrank.h), the calls of
lwp_setstat() and the spin locks with a rank below src/.  Exit status 2: a table or a marker was not found, or says nonsense.
"""

import argparse
import difflib
import pathlib
import re
import sys

BEGIN = "<!-- made by tools/state_picture.py: begin -->"
END = "<!-- made by tools/state_picture.py: end -->"

STATES_FILE = "src/core/lwp_state.h"
RANKS_FILE = "src/base/lockrank.h"

SETSTAT = re.compile(r"\blwp_setstat\s*\([^;]*?\blwp_stat::(\w+)")
SPINLOCK = re.compile(r"\bspinlock\s+(\w+)\s*[({]\s*lock_rank::(\w+)")
ARGUMENT = re.compile(r'\s*(?:"(?P<string>(?:[^"\\]|\\.)*)"|(?P<word>\w+))\s*(?P<end>[,)])')


class Failure(Exception):
    """The sources do not have what is looked for."""


# ---- reading ---------------------------------------------------------------------------------------------------------


def table(text, name, columns):
    """The rows of the X-macro `name`: tuples of `columns` strings."""
    define = re.search(rf"^#define[ \t]+{name}\(X\)((?:[^\n]*\\\n)*[^\n]*)", text, re.MULTILINE)
    if define is None:
        raise Failure(f"there is no #define {name}(X)")
    body = define[1].replace("\\\n", "\n")
    rows, at = [], 0
    while (entry := re.compile(r"\s*X\(").match(body, at)) is not None:
        row, at, end = [], entry.end(), ","
        while end == ",":
            argument = ARGUMENT.match(body, at)
            if argument is None:
                raise Failure(f"{name}: cannot read the entry at {body[entry.start():].strip().splitlines()[0]!r}")
            row.append(argument["word"] if argument["string"] is None else argument["string"])
            at, end = argument.end(), argument["end"]
        if len(row) != columns:
            raise Failure(f"{name}: {row} has {len(row)} columns, not {columns}")
        rows.append(tuple(row))
    if not rows or body[at:].strip():
        raise Failure(f"{name}: cannot read {body[at:].strip()[:60]!r}")
    return rows


def read(root, name):
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}") from error


def sources(root):
    """(name below src/, text) of every source file, sorted."""
    for path in sorted((root / "src").rglob("*")):
        if path.suffix in (".h", ".cpp"):
            yield path.relative_to(root / "src").as_posix(), path.read_text(encoding="utf-8")


class Model:
    """What the pictures show, checked against itself."""

    def __init__(self, root):
        text = read(root, STATES_FILE)
        self.states = table(text, "LWP_STATES", 4)  # state, NetBSD's name, lock, other lock
        self.edges = table(text, "LWP_EDGES", 4)    # from, to, file, why
        self.ranks = table(read(root, RANKS_FILE), "LWP_LOCK_RANKS", 2)  # rank, what it covers
        self.name = {"none": "none", **{state: name for state, name, _, _ in self.states}}
        self.set_in = {state: [] for state, *_ in self.states}
        self.locks = {rank: [] for rank, _ in self.ranks}
        for file, code in sources(root):
            for state in dict.fromkeys(SETSTAT.findall(code)):
                self.set_in.setdefault(state, []).append(file)
            for lock, rank in SPINLOCK.findall(code):
                self.locks.setdefault(rank, []).append(lock)
        self.exists = {file: any((root / "src" / (file + suffix)).exists() for suffix in (".h", ".cpp")) for _, _, file, _ in self.edges}
        self.check()

    def check(self):
        ranks = {rank for rank, _ in self.ranks}
        for state, _, lock, other in self.states:
            if not {lock, other} <= ranks:
                raise Failure(f"LWP_STATES: {state} names a lock rank that LWP_LOCK_RANKS does not have")
        for start, to, _, _ in self.edges:
            if start not in self.name or to not in self.name:
                raise Failure(f"LWP_EDGES: {start} -> {to}: no such state")
        unknown = (set(self.set_in) - set(self.name)) | (set(self.locks) - ranks)
        if unknown:
            raise Failure(f"src/ uses states or lock ranks that no table has: {', '.join(sorted(unknown))}")


# ---- writing ---------------------------------------------------------------------------------------------------------


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def code(words):
    return ", ".join(f"`{word}`" for word in words)


def diagram(model):
    yield "```mermaid"
    yield "stateDiagram-v2"
    for start, to, file, why in model.edges:
        # A colon or a semicolon would end the label.
        label = re.sub(r"[:;]\s*", ", ", why) + ("" if model.exists[file] else " (later)")
        yield f"    {'[*]' if start == 'none' else model.name[start]} --> {model.name[to]} : {label}"
    yield "```"


def generated(model):
    """The text between the markers, which are not part of it."""
    lines = ["### The states and their edges", "", *diagram(model), ""]
    lines += markdown(
        ["from", "to", "why", "whose business"],
        [(model.name[start], model.name[to], why, f"`{file}`" if model.exists[file] else f"`{file}`: not in this version")
         for start, to, file, why in model.edges])
    lines += ["", "### Which lock covers which state", ""]
    lines += markdown(
        ["state", "its lock is of rank", "or of", "`lwp_setstat()` to it is called in"],
        [(name, f"`{lock}`", f"`{other}`" if other != lock else "", code(model.set_in[state]) or "nothing yet")
         for state, name, lock, other in model.states])
    lines += ["", "### Lock order, outermost first", ""]
    lines += markdown(
        ["", "rank", "what", "spin locks of this rank"],
        [(str(number), f"`{rank}`", what, code(dict.fromkeys(model.locks[rank])) or "none")
         for number, (rank, what) in enumerate(model.ranks, 1)])
    return "\n".join(lines)


def renewed(document, text):
    """`document` with `text` between its markers."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(END) < document.index(BEGIN):
        raise Failure(f"ARCHITECTURE.md must have one line {BEGIN!r} and, after it, one line {END!r}")
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def run(root, check):
    old = read(root, "ARCHITECTURE.md")
    new = renewed(old, generated(Model(root)))
    if old == new:
        return 0
    if not check:
        (root / "ARCHITECTURE.md").write_text(new, encoding="utf-8")
        return 0
    difference = difflib.unified_diff(old.splitlines(), new.splitlines(), "ARCHITECTURE.md", "what the code says", lineterm="", n=0)
    print(*difference, "", "ARCHITECTURE.md is out of date; renew it with: python3 tools/state_picture.py", sep="\n")
    return 1


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if the file is out of date")
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent, metavar="ROOT")
    options = parser.parse_args(argv)
    try:
        return run(options.root, options.check)
    except Failure as failure:
        print(f"state_picture.py: {failure}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
