#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/readme_figures.py: the table that it makes of a run, and where it puts it.
import importlib.util
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, "..", "..", "tools")
sys.dont_write_bytecode = True
sys.path.insert(0, TOOLS)
spec = importlib.util.spec_from_file_location("readme_figures", os.path.join(TOOLS, "readme_figures.py"))
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)


def entry(peer, key, values, metric="ns_per_op", reason=""):
    return {"key": key, "peer": peer, "peer_title": peer.title(), "metrics": [metric], "values": {metric: {str(r): v for r, v in enumerate(values)}}, "reason": reason}


def run(*rows):
    return {"rows": list(rows), "command": "./dev bench --peers", "date": "2026-01-01", "machine": {"cpus": 2, "cpu": "a CPU", "arch": "x86_64", "kernel": "6"}, "rounds": 3}


FLOOR = entry("boost_context", "yield:2/w1", [4, 5, 6])


def line(text, title):
    return next(row for row in text.splitlines() if row.startswith(f"| {title} |"))


class Table(unittest.TestCase):
    def test_a_row_has_our_median_the_floor_and_the_fastest_of_the_others(self):
        text = figures.text_of(run(FLOOR, entry("lwp", "yield:2/w1", [8, 10, 12]), entry("go", "yield:2/w1", [80, 50, 120]), entry("pth", "yield:2/w1", [16, 20, 24])))
        self.assertEqual(line(text, "yield, 2 threads"), "| yield, 2 threads | 10 | 2.0 | Pth 2.00 |  |  |  |")

    def test_the_floor_is_nobody_s_rival(self):
        text = figures.text_of(run(FLOOR, entry("lwp", "yield:2/w1", [8, 10, 12])))
        self.assertEqual(line(text, "yield, 2 threads"), "| yield, 2 threads | 10 | 2.0 |  |  |  |  |")

    def test_what_was_not_measured_has_no_row_and_a_peer_that_failed_no_part(self):
        text = figures.text_of(run(FLOOR, entry("lwp", "park/w2", [8, 8, 8]), entry("go", "park/w2", [1, 1, 1], reason="died"), entry("asio", "park/w2", [24, 24, 24])))
        self.assertNotIn("semaphore", text)
        self.assertEqual(line(text, "hand-over by park and unpark"), "| hand-over by park and unpark |  |  |  | 8 | 1.6 | Asio 3.00 |")

    def test_memory_is_in_bytes_and_has_no_floor(self):
        text = figures.text_of(run(FLOOR, entry("lwp", "memory:100000/w1", [4000, 4000, 4000], "bytes_per_thread")))
        self.assertEqual(line(text, "memory of a blocked thread, of 100,000"), "| memory of a blocked thread, of 100,000 | 4000 B |  |  |  |  |  |")


class Place(unittest.TestCase):
    def test_only_what_stands_between_the_marks_is_replaced(self):
        self.assertEqual(figures.replaced(f"a\n{figures.BEGIN}\nold\n\nold\n{figures.END}\nb\n", "new\n"), f"a\n{figures.BEGIN}\nnew\n{figures.END}\nb\n")

    def test_a_readme_without_marks_is_refused(self):
        with self.assertRaises(ValueError):
            figures.replaced("a\n", "new\n")


if __name__ == "__main__":
    unittest.main()
