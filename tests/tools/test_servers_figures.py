#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/servers_figures.py and what tools/bench_servers.py gives it: medians and ratios of rounds, the tables made of them, and who is bold.
import importlib.util
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, "..", "..", "tools")
sys.dont_write_bytecode = True
sys.path.insert(0, TOOLS)


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(TOOLS, f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench, figures = load("bench_servers"), load("servers_figures")


def table(**rates):
    return bench.summary("echo", ("floor, one-shot",), {name.replace("_", " "): {0: (rate, 10, 20, 3.5)} for name, rate in {"floor,_one-shot": 1000, **rates}.items()}, {})


def run(*tables):
    return {"tables": list(tables), "command": "./dev bench --peers servers", "date": "2026-01-01",
            "machine": {"cpus": 2, "cpu": "a CPU", "arch": "x86_64", "kernel": "6"}, "rounds": 3, "seconds": 3}


def line(text, name):
    return next(row for row in text.splitlines() if name in row and row.startswith("|"))


class Summary(unittest.TestCase):
    def test_medians_of_rounds_and_ratios_within_each(self):
        rows = bench.summary("t", ("floor",), {"floor": {0: (100, 1, 2, 1.0), 1: (200, 1, 2, 1.0), 2: (300, 1, 2, 1.0)},
                                               "lwp": {0: (50, 3, 4, 2.0), 1: (200, 5, 6, 4.0), 2: (240, 7, 8, 6.0)}}, {})["rows"]
        self.assertEqual([rows[1][key] for key in ("rate", "ratio", "p50_us", "p99_us", "cpu_us")], [200, 0.8, 5, 6, 4.0])

    def test_the_faster_of_several_floors_counts(self):
        rows = bench.summary("t", ("a", "b"), {"a": {0: (100, 1, 2, None)}, "b": {0: (200, 1, 2, None)}, "lwp": {0: (100, 1, 2, None)}}, {})["rows"]
        self.assertEqual((rows[2]["ratio"], rows[2]["cpu_us"]), (0.5, None))

    def test_what_could_not_be_run_has_no_row(self):
        done = bench.summary("t", ("a",), {"a": {0: (100, 1, 2, None)}, "b": {}}, {"b": "not installed"})
        self.assertEqual([row["name"] for row in done["rows"]], ["a"])


class Figures(unittest.TestCase):
    def test_a_peer_is_bold_that_beats_both_of_ours(self):
        data = table(**{"lwp_io_uring": 100, "lwp_epoll": 90, "Go": 106, "nginx": 104})
        text = figures.text_of(run(data))
        self.assertEqual(line(text, "Go"), "| **Go** | **106** | **0.11** | 10 | 20 | 3.50 |")
        self.assertEqual(line(text, "nginx"), "| nginx | 104 | 0.10 | 10 | 20 | 3.50 |")
        self.assertNotIn("**", line(text, "floor,") + line(text, "lwp io uring"))

    def test_of_memory_less_is_better(self):
        memory = {"title": "memory", "rows": [{"name": "lwp echo", "kib": 4.0}, {"name": "Go", "kib": 3.0}, {"name": "floor, x", "kib": 1.0}], "missing": {}}
        text = figures.text_of(run(memory))
        self.assertEqual(line(text, "Go"), "| **Go** | **3.00** |")
        self.assertEqual(line(text, "floor"), "| floor, x | 1.00 |")

    def test_the_echo_tables_are_plots_by_connections(self):
        def echo(connections, rate):
            return bench.summary(bench.echo_title(connections), ("floor, one-shot",), {"floor, one-shot": {0: (1000, 1, 2, None)}, "lwp echo, epoll": {0: (rate, 1, 2, None)}}, {})

        data = run(echo(1, 900), echo(100, 800), echo(10000, 700))
        pictures = figures.plots(data)
        self.assertEqual([name for name, _, _ in pictures], ["echo", "echo_p99"])
        self.assertEqual(pictures[0][2].count("<circle"), 6)  # two servers, three numbers of connections
        self.assertIn("lwp echo, epoll", pictures[0][2])
        self.assertIn("](servers/echo.svg)", figures.text_of(data))
        self.assertEqual(figures.plots(run(echo(64, 900))), [])

    def test_it_says_where_when_and_what_is_missing(self):
        data = table(**{"lwp_echo": 100})
        data["missing"] = {"Go": "not installed"}
        text = figures.text_of(run(data))
        self.assertIn("`./dev bench --peers servers`, 2026-01-01, 2 CPUs (a CPU, x86_64, kernel 6), medians of 3 rounds of 3 s.", text)
        self.assertIn("\nGo: not measured: not installed\n", text)


if __name__ == "__main__":
    unittest.main()
