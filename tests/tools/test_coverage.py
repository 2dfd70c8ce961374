#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/coverage.py: what counts as a branch, and how files that are compiled several times are put together."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import coverage  # noqa: E402


def way(count, throw=False, fallthrough=False):
    return {"count": count, "throw": throw, "fallthrough": fallthrough}


class Branches(unittest.TestCase):
    def test_a_condition_has_two_ways_out(self):
        self.assertEqual(coverage.without_throws([way(3, fallthrough=True), way(0)]), [3, 0])

    def test_a_call_that_may_throw_has_none(self):
        self.assertEqual(coverage.without_throws([way(3, fallthrough=True), way(0, throw=True)]), [])
        self.assertEqual(coverage.without_throws([way(0, throw=True), way(3)]), [])

    def test_a_call_and_a_condition(self):
        self.assertEqual(coverage.without_throws([way(3), way(0, throw=True), way(1), way(2)]), [1, 2])

    def test_an_odd_number_of_ways(self):
        self.assertEqual(coverage.without_throws([way(1), way(2), way(0)]), [1, 2, 0])


class Sources(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        path = pathlib.Path(self.directory.name) / "a.h"
        path.write_text("one\n\tLWP_ASSERT(two);\nthree\n\tLWP_ASSERT(four(\n\tfive) ||\n\t\tsix);\nseven\n", encoding="utf-8")
        self.source = coverage.Source(path)

    def add(self, number, count, *branches, function=None):
        self.source.add({"line_number": number, "count": count, "branches": list(branches)}, function)

    def test_compiled_twice_counts_once(self):
        self.add(1, 0, way(0), way(0))
        self.add(1, 5, way(5), way(0))
        self.add(1, 1, way(0), way(1))
        self.assertEqual(self.source.figures(), (1, 1, 2, 2))

    def test_a_simplified_version_adds_no_branches(self):
        self.add(1, 1, way(1), way(0), way(1), way(1), function=(1, 1))
        self.add(1, 1, way(1), way(1), function=(1, 1))
        self.assertEqual(self.source.figures(), (1, 1, 3, 4))

    def test_asserts_have_no_branches(self):
        self.add(2, 7, way(7), way(0))
        self.assertEqual(self.source.figures(), (1, 1, 0, 0))

    def test_asserts_of_several_lines(self):
        self.assertEqual(self.source.asserts, {2, 4, 5, 6})

    def test_inlined_several_times_is_folded(self):
        self.add(1, 1, way(1), way(0), way(1), way(0))
        self.add(1, 1, way(0), way(0), way(0), way(0), way(1), way(0))
        self.assertEqual(self.source.figures(), (1, 1, 1, 2))
        self.add(1, 1, way(0), way(3), function=(1, 1))
        self.assertEqual(self.source.figures(), (1, 1, 2, 2))

    def test_two_functions_on_a_line_have_their_own_branches(self):
        self.add(1, 1, way(1), way(0), function=(1, 1))
        self.add(1, 1, way(0), way(1), function=(1, 9))
        self.assertEqual(self.source.figures(), (1, 1, 2, 4))

    def test_a_room_below_is_named(self):
        self.add(1, 0, way(0), way(0))
        self.add(3, 1)
        sources = {"sync/a.h": self.source}
        self.assertEqual(coverage.rooms_below(sources, 50, 0), [])
        self.assertEqual(coverage.rooms_below(sources, 51, 0), ["sync"])
        self.assertEqual(coverage.rooms_below(sources, 0, 1), ["sync"])

    def test_what_nobody_executed_is_a_hole(self):
        self.add(1, 0)
        self.add(3, 1)
        self.assertEqual(self.source.figures(), (1, 2, 0, 0))


class Text(unittest.TestCase):
    def test_ranges(self):
        self.assertEqual(coverage.ranges([7, 1, 2, 3]), "1-3, 7")

    def test_percent_of_nothing(self):
        self.assertEqual(coverage.percent(0, 0), 100)


if __name__ == "__main__":
    unittest.main()
