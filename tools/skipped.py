#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Says which tests of a run skipped what, and why.

    skipped.py REPORT...      what `ctest --output-junit REPORT --test-output-size-passed ...` wrote

A case that is skipped is told by its program only: ctest calls the program passed.  Understood are GoogleTest's cases, unittest's with -v, lines
"SKIPPED: reason", and what ctest itself did not run.  One line for each test and reason; prints nothing but "nothing" if there is none.
"""

import collections
import re
import sys
import xml.etree.ElementTree

# The reason is what stands between "file:line: Skipped" and the end of the case.
GTEST = re.compile(r"^[^\n]+:\d+: Skipped\n(.*?)\n*^\[  SKIPPED \] \S+ \(", re.MULTILINE | re.DOTALL)
UNITTEST = re.compile(r"\.\.\. skipped '(.*)'$", re.MULTILINE)
PLAIN = re.compile(r"^SKIPPED: (.*)$", re.MULTILINE)


def reasons(case):
    """One reason for each case that the test `case`, an element of the report, skipped."""
    text = case.findtext("system-out") or ""
    found = [" ".join(reason.split()) or "no reason given" for reason in GTEST.findall(text)]
    found += UNITTEST.findall(text) or PLAIN.findall(text)
    skipped = case.find("skipped")
    if skipped is not None or case.get("status") in ("notrun", "disabled"):
        found.append("ctest: " + ((skipped.get("message") if skipped is not None else "") or "not run"))
    return found


def lines(reports):
    """What is printed."""
    count = collections.Counter()
    tests = collections.defaultdict(list)
    for report in reports:
        for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
            name, _, variant = case.get("name").partition("@")
            for reason in reasons(case):
                count[name, reason] += 1
                if variant not in tests[name, reason]:
                    tests[name, reason].append(variant)
    for (name, reason), number in sorted(count.items()):
        at = f"@{','.join(tests[name, reason])}" if tests[name, reason] != [""] else ""
        yield f"{name}{at}: {number} {'case' if number == 1 else 'cases'}: {reason}"


if __name__ == "__main__":
    print("\n".join(lines(sys.argv[1:])) or "nothing")
