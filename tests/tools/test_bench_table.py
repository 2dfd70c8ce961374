#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/bench_table.py: its arithmetic on three small runs (bench_run_*.json), and whole runs of it over a program that only
# pretends to be lwp_bench: it answers the same options and writes the same JSON, crashes, fails or hangs as told.
import contextlib
import importlib.util
import io
import json
import os
import stat
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "tools", "bench_table.py")
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("bench_table", SCRIPT)
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)

FLOOR = "BM_Floor/fiber_resume"
YIELD = "BM_Switch/yield/lwps:2/vcpus:1"
MEMORY = "BM_Memory/blocked:1000000/vcpus:1"


def recorded():
    runs = []
    for number in (1, 2, 3):
        with open(os.path.join(HERE, f"bench_run_{number}.json")) as file:
            runs.append(json.load(file))
    return runs


class Arithmetic(unittest.TestCase):
    def setUp(self):
        self.runs = recorded()
        self.rows, self.failures = table.collect(self.runs)

    def test_rows_keep_their_order_and_unit(self):
        self.assertEqual(list(self.rows), [FLOOR, YIELD, YIELD + "/pthread", MEMORY])
        self.assertEqual(self.rows[YIELD].times, {0: 8.0, 1: 20.0, 2: 9.0})
        self.assertTrue(self.rows[YIELD].is_operation)
        self.assertFalse(self.rows[MEMORY].is_operation)
        self.assertEqual(self.failures, [])

    def test_counters_are_what_is_not_a_standard_key(self):
        self.assertEqual(self.rows[MEMORY].counters, {"bytes_per_lwp": {0: 4400.0}})
        self.assertEqual(self.rows[YIELD].counters, {})

    def test_a_ratio_is_the_median_of_the_ratios_inside_the_runs(self):
        # 8/4, 20/8, 9/5: median 2.0.  The ratio of the medians would be 9/5 = 1.8.
        self.assertEqual(table.same_run_ratio(self.rows[YIELD].times, self.rows[FLOOR].times), 2.0)
        # 800/8, 1000/20, 720/9
        self.assertEqual(table.same_run_ratio(self.rows[YIELD + "/pthread"].times, self.rows[YIELD].times), 80.0)

    def test_a_ratio_uses_the_common_runs_only(self):
        self.assertEqual(table.same_run_ratio({0: 6.0, 1: 10.0}, {1: 2.0, 2: 1.0}), 5.0)
        self.assertIsNone(table.same_run_ratio({0: 6.0}, {1: 2.0}))

    def test_spread_is_relative_to_the_median(self):
        self.assertEqual(table.spread([8.0, 20.0, 10.0]), 1.2)
        self.assertIsNone(table.spread([8.0]))
        self.assertIsNone(table.spread([-1.0, 0.0, 1.0]))

    def test_the_table_shows_the_medians(self):
        lines = {line[0]: line[1:] for line in table.operations_table(self.rows)}
        self.assertEqual(lines[FLOOR], ["5.00", "80 %", "1.00", ""])
        self.assertEqual(lines[YIELD], ["9.00", "133 %", "2.00", "80.0"])
        self.assertEqual(lines[YIELD + "/pthread"], ["800", "35 %", "144", ""])
        self.assertNotIn(MEMORY, lines)
        self.assertEqual(table.counters_table(self.rows)[1:], [[MEMORY + "  bytes_per_lwp", "4,400", ""]])

    def test_columns_are_aligned(self):
        head, rule, *lines = table.aligned(table.operations_table(self.rows))
        self.assertEqual(set(rule), {"-", " "})
        self.assertEqual(len(lines), 3)
        end_of_ns = head.index(" ns ") + 3
        for line in lines:
            self.assertRegex(line[end_of_ns - 1] + line[end_of_ns], r"\d ")

    def test_numbers_have_three_digits(self):
        for value, text in ((0.123, "0.12"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234567.0, "1,234,567")):
            self.assertEqual(table.three_digits(value), text)


class Peers(unittest.TestCase):
    def rows(self, *names):
        return {name: table.Row(name, "ns") for name in names}

    def test_the_same_name_wins(self):
        rows = self.rows("A/n:9/vcpus:1/pthread", "A/n:10/vcpus:1", "A/n:10/vcpus:1/pthread")
        self.assertEqual(table.pthread_row(rows["A/n:10/vcpus:1"], rows), (rows["A/n:10/vcpus:1/pthread"], True))

    def test_another_size_stands_in(self):
        rows = self.rows("A/n:10/vcpus:1", "A/n:9/vcpus:1/pthread")
        self.assertEqual(table.pthread_row(rows["A/n:10/vcpus:1"], rows), (rows["A/n:9/vcpus:1/pthread"], False))

    def test_another_number_of_cpus_or_another_case_does_not(self):
        rows = self.rows("A/n:10/vcpus:2", "A/n:10/vcpus:1/pthread", "B/n:10/vcpus:2/pthread")
        self.assertEqual(table.pthread_row(rows["A/n:10/vcpus:2"], rows), (None, False))

    def test_a_pthread_row_has_none(self):
        rows = self.rows("A/pthread", "A/pthread/pthread")
        self.assertEqual(table.pthread_row(rows["A/pthread"], rows), (None, False))


class Json(unittest.TestCase):
    def test_runs_become_repetitions_with_their_median(self):
        runs = recorded()
        rows, _ = table.collect(runs)
        entries = table.merged(runs, rows)["benchmarks"]
        yields = [e for e in entries if e["run_name"] == YIELD]
        self.assertEqual([e["repetition_index"] for e in yields if e["run_type"] == "iteration"], [0, 1, 2])
        self.assertEqual({e["repetitions"] for e in yields}, {3})
        (median,) = [e for e in yields if e["run_type"] == "aggregate"]
        self.assertEqual((median["name"], median["aggregate_name"], median["real_time"]), (YIELD + "_median", "median", 9.0))
        (memory,) = [e for e in entries if e["name"] == MEMORY + "_median"]
        self.assertEqual(memory["bytes_per_lwp"], 4400.0)

    def test_what_was_written_can_be_read_again(self):
        runs = recorded()
        rows, _ = table.collect(runs)
        again, _ = table.collect([table.merged(runs, rows)])
        self.assertEqual(list(again), list(rows))


class Choice(unittest.TestCase):
    names = [FLOOR, "BM_Floor/spinlock", YIELD, "BM_Create/join/vcpus:1"]

    def test_the_floor_always_comes_along(self):
        self.assertEqual(table.choose(self.names, "join", False), [FLOOR, "BM_Floor/spinlock", "BM_Create/join/vcpus:1"])

    def test_quick_is_floor_and_switch(self):
        self.assertEqual(table.choose(self.names, "", True), self.names[:3])

    def test_nothing_to_run_is_an_error(self):
        for expression, quick in (("nonsense", False), ("join", True), ("(", False)):
            with self.subTest(expression), self.assertRaises(table.Failure):
                table.choose(self.names, expression, quick)


PRETENDER = """#!{python}
import json, os, re, sys, time
here = os.path.dirname(os.path.abspath(__file__))
names = ["BM_Floor/fiber_resume", "BM_Floor/spinlock", "BM_Create/join/vcpus:1", "BM_Idle/vcpus:2"]
options = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
if "--benchmark_list_tests" in sys.argv:
    print("\\n".join(names))
    sys.exit()
names = [n for n in names if re.search(options["--benchmark_filter"], n)]
with open(os.path.join(here, "log"), "a") as log:
    log.write(" ".join(names) + "\\n")
results, mode = [], {mode!r}
for n in names:
    entry = dict(name=n, run_name=n, run_type="iteration", repetitions=1, threads=1, iterations=1,
                 real_time=2.0, cpu_time=2.0, time_unit="ns")
    if "Idle" in n:
        entry.update(real_time=5.0, time_unit="s", cpu_percent=0.5)
    if "join" in n:
        entry["real_time"] = 30.0
        if mode == "crash":
            os.abort()
        if mode == "hang":
            time.sleep(600)
        if mode == "fail":
            entry.update(error_occurred=True, error_message="not every LWP ran")
        if mode == "forget":
            continue
    results.append(entry)
    print(n, flush=True)
with open(options["--benchmark_out"], "w") as out:
    json.dump(dict(context=dict(executable="x"), benchmarks=results), out)
sys.exit(dict(fail=1, status=3).get(mode, 0))
"""


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_table(self, mode, *options):
        """(exit status, stdout, stderr, the rows of each run of the program)"""
        binary = os.path.join(self.folder, "bench")
        with open(binary, "w") as file:
            file.write(PRETENDER.format(python=sys.executable, mode=mode))
        os.chmod(binary, stat.S_IRWXU)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = table.main(["--binary", binary, *options])
        log = os.path.join(self.folder, "log")
        runs = []
        if os.path.exists(log):
            with open(log) as file:
                runs = [line.split() for line in file]
        return status, out.getvalue(), err.getvalue(), runs

    def test_a_good_run(self):
        out_file = os.path.join(self.folder, "out.json")
        status, out, err, runs = self.run_table("good", "--repetitions", "2", "--json", out_file)
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"(?m)^BM_Create/join/vcpus:1 +30\.0 +0 % +15\.0$")
        self.assertRegex(out, r"(?m)^BM_Idle/vcpus:2  cpu_percent +0\.50$")
        self.assertIn("run 2 of 2", err)
        with open(out_file) as file:
            self.assertEqual(len(json.load(file)["benchmarks"]), 2 * 3 + 1 + 4)
        self.assertEqual([len(run) for run in runs], [4, 3], "a long whole run is not repeated")

    def test_a_filter_keeps_the_floor(self):
        status, out, _, runs = self.run_table("good", "--repetitions", "1", "Create")
        self.assertEqual(status, 0)
        self.assertEqual(runs, [["BM_Floor/fiber_resume", "BM_Floor/spinlock", "BM_Create/join/vcpus:1"]])
        self.assertNotIn("Idle", out)

    def test_a_failed_row_fails_the_whole_and_shows_the_rest(self):
        status, out, err, _ = self.run_table("fail", "--repetitions", "1")
        self.assertEqual(status, 1)
        self.assertIn("BM_Create/join/vcpus:1: not every LWP ran", err)
        self.assertIn(FLOOR, out)
        self.assertNotIn("BM_Create", out)

    def test_a_crash_names_the_row(self):
        status, out, err, _ = self.run_table("crash", "--repetitions", "1")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("killed by signal 6 in BM_Create/join/vcpus:1", err)

    def test_a_hang_is_ended_and_names_the_row(self):
        status, _, err, _ = self.run_table("hang", "--repetitions", "1", "--timeout", "2")
        self.assertEqual(status, 1)
        self.assertIn("killed in BM_Create/join/vcpus:1", err)

    def test_a_row_without_result_fails(self):
        status, _, err, _ = self.run_table("forget", "--repetitions", "1")
        self.assertEqual(status, 1)
        self.assertIn("rows without a result: BM_Create/join/vcpus:1", err)

    def test_a_bad_exit_status_fails(self):
        status, _, err, _ = self.run_table("status", "--repetitions", "1")
        self.assertEqual(status, 1)
        self.assertIn("exit status 3", err)

    def test_no_such_program(self):
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            self.assertEqual(table.main(["--binary", os.path.join(self.folder, "none")]), 1)
        self.assertIn("cannot run", err.getvalue())


if __name__ == "__main__":
    unittest.main()
