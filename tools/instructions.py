#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an operation of a row of bench/peers is made of: instructions, loads and stores, counted by Valgrind's cachegrind.

    instructions.py PROGRAM ROW [KEY=VALUE]...     e.g. build/peers/lwp channel_buffered capacity=128

The row is run with few operations and with more, and the difference is divided by theirs: what begins and ends a run falls out.  One kernel thread.
These counts are the same in each run, whatever else the machine does; they say nothing about how long one waits for memory or for another CPU.
Standard library only; needs valgrind.
"""
import re
import subprocess
import sys
import tempfile

FEW, MANY = 20_000, 60_000


def counts_of(text):
    """(instructions, loads, stores) of what cachegrind prints."""
    text = text.replace(",", "")
    instructions = re.search(r"I +refs: +(\d+)", text)
    data = re.search(r"D +refs: +\d+ +\( *(\d+) rd +\+ +(\d+) wr\)", text)
    if not instructions or not data:
        raise ValueError("no counts")
    return int(instructions[1]), int(data[1]), int(data[2])


def run(program, row, keys, ops):
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--cachegrind-out-file={out.name}", program, "run", row, "workers=1", f"ops={ops}", *keys],
                              capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"{program} fails with {done.returncode}")
    return counts_of(done.stderr)


def per_operation(few, many):
    return [(b - a) / (MANY - FEW) for a, b in zip(few, many)]


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) < 2 or argv[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    program, row, *keys = argv
    try:
        each = per_operation(run(program, row, keys, FEW), run(program, row, keys, MANY))
    except (OSError, ValueError) as error:
        print(f"instructions.py: {error}", file=sys.stderr)
        return 1
    print(" ".join([row, *keys]) + ": " + ", ".join(f"{n:.1f} {what}" for n, what in zip(each, ("instructions", "loads", "stores"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
