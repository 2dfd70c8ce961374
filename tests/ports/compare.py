#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a program and fails unless it ends with 0 and prints what a file holds.

    compare.py FILE PROGRAM [ARGUMENT...]
"""

import difflib
import pathlib
import subprocess
import sys


def main():
    wanted = pathlib.Path(sys.argv[1]).read_text()
    done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, text=True, errors="replace", check=False)
    sys.stdout.writelines(difflib.unified_diff(wanted.splitlines(True), done.stdout.splitlines(True), "wanted", "printed"))
    if done.returncode != 0:
        print(f"{sys.argv[2]} ended with {done.returncode}")
    return 0 if done.returncode == 0 and done.stdout == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
