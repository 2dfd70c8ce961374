#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/instructions.py: what cachegrind prints, and what is left of two runs."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import instructions  # noqa: E402

PRINTED = """==1== I   refs:      16,957,520
==1== I1  misses:         3,088
==1== D   refs:       8,387,597  (5,654,063 rd   + 2,733,534 wr)
"""


class Counts(unittest.TestCase):
    def test_of_what_is_printed(self):
        self.assertEqual(instructions.counts_of(PRINTED), (16957520, 5654063, 2733534))

    def test_of_a_program_that_did_not_run(self):
        with self.assertRaises(ValueError):
            instructions.counts_of("valgrind: no such program\n")

    def test_begin_and_end_fall_out(self):
        few = (1000 + 5 * instructions.FEW, 7, 0)
        many = (1000 + 5 * instructions.MANY, 7, 2 * (instructions.MANY - instructions.FEW))
        self.assertEqual(instructions.per_operation(few, many), [5, 0, 2])


if __name__ == "__main__":
    unittest.main()
