#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The symbols of src/testing/calls.cpp are the library's: the linker says nothing about a --wrap of one that is not.

    check_calls.py LIBRARY      a static or shared library of this build
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    text = (ROOT / "src/testing/calls.cpp").read_text(encoding="utf-8")
    wanted = re.findall(r"^(?:MEMBER|FREE)\d?\(.*, (\w+)\)$", text, re.MULTILINE)
    assert len(wanted) > 40, "the table was not understood"
    nm = subprocess.run(["nm", "--defined-only", sys.argv[1]], capture_output=True, text=True, check=True)
    there = {line.split()[-1] for line in nm.stdout.splitlines() if line.split()}
    missing = [symbol for symbol in wanted if symbol not in there]
    for symbol in missing:
        print(f"calls.cpp wraps {symbol}, which {sys.argv[1]} does not have")
    return 1 if missing or len(set(wanted)) != len(wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
