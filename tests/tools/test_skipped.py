#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/skipped.py: whatever a test does not do is told, with its reason."""

import pathlib
import sys
import tempfile
import unittest
from xml.sax.saxutils import escape

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import skipped  # noqa: E402

RAN = "[ RUN      ] A.Good\n[       OK ] A.Good (0 ms)\n"
SKIPPED = """[ RUN      ] A.Bad
../../tests/api/test_a.cpp:134: Skipped
it takes two
vCPUs

[  SKIPPED ] A.Bad (0 ms)
"""
END = "[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] A.Bad\n"


def case(name, text, status="run", inside=""):
    return f'<testcase name="{name}" status="{status}">{inside}<system-out>{escape(text)}</system-out></testcase>'


class Skipped(unittest.TestCase):
    def told(self, *cases):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "report.xml"
            path.write_text(f"<testsuite>{''.join(cases)}</testsuite>", encoding="utf-8")
            return list(skipped.lines([path]))

    def test_nothing(self):
        self.assertEqual(self.told(case("api_a", RAN)), [])

    def test_a_case_of_googletest(self):
        self.assertEqual(self.told(case("api_a", RAN + SKIPPED + RAN + END)), ["api_a: 1 case: it takes two vCPUs"])

    def test_two_cases_at_two_counts_are_one_line(self):
        self.assertEqual(self.told(case("api_a@1", SKIPPED + RAN + SKIPPED), case("api_a@8", SKIPPED)), ["api_a@1,8: 3 cases: it takes two vCPUs"])

    def test_cases_of_python(self):
        self.assertEqual(self.told(case("b", "test_x (A.test_x) ... skipped 'no wrk'\ntest_y (A.test_y) ... ok\n"), case("c", "SKIPPED: no curl\n")),
                         ["b: 1 case: no wrk", "c: 1 case: no curl"])  # fmt: skip

    def test_what_ctest_did_not_run(self):
        self.assertEqual(self.told(case("d", "", "notrun", '<skipped message="SKIP_RETURN_CODE=77"/>'), case("e", "", "disabled")),
                         ["d: 1 case: ctest: SKIP_RETURN_CODE=77", "e: 1 case: ctest: not run"])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
