#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs an example and checks what it prints against its .expect file (the format is in examples/CMakeLists.txt).

Exit status: 0 it ended with 0 in time and every expression matched a line of its output; 1 otherwise.
"""

import argparse
import re
import shlex
import subprocess
import sys


def read_expect(path, sanitizer):
    """The arguments to run with, the seconds it may take (None: any), and the expressions."""
    arguments = {"": []}
    timeout = None
    expressions = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            option = None if expressions else re.fullmatch(r"(args|vcpus|timeout)(?:\[(\w+)\])?:\s*(.*)", line)
            if option is None:
                if line:
                    expressions.append(line)
            elif option[1] == "args":
                arguments[option[2] or ""] = shlex.split(option[3])
            elif option[1] == "timeout":
                timeout = float(option[3])
    return arguments.get(sanitizer, arguments[""]), timeout, expressions


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", default=".", help="where it runs")
    parser.add_argument("--sanitizer", default="")
    parser.add_argument("expect")
    parser.add_argument("program")
    options = parser.parse_args()

    arguments, timeout, expressions = read_expect(options.expect, options.sanitizer)
    if not expressions:
        sys.exit(f"{options.expect}: no expression, so nothing would be checked")
    command = [options.program] + arguments
    print("$", shlex.join(command), flush=True)
    try:
        run = subprocess.run(
            command, cwd=options.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"not done after {timeout:g} s")
    print(run.stdout, end="", flush=True)
    if run.returncode != 0:
        sys.exit(f"exit status {run.returncode}")
    lines = run.stdout.splitlines()
    missing = [expression for expression in expressions if not any(re.search(expression, line) for line in lines)]
    if missing:
        sys.exit("no line of the output matches: " + ", ".join(missing))


if __name__ == "__main__":
    main()
