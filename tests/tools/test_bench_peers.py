#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/bench_peers.py: its arithmetic, its tables, and whole runs over programs that only pretend to be peers; tools/bench_report.py: the report
# that is made of what the other one writes.  No peer is installed or built, and nothing depends on how long anything takes.
import array
import contextlib
import importlib.util
import io
import json
import os
import stat
import sys
import tempfile
import unittest
import xml.dom.minidom

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True


def load(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(HERE, "..", "..", "tools", name + ".py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


peers = load("bench_peers")
report = load("bench_report")

EVERYTHING = (256, {row.work for row in peers.ROWS}, {}, {})


def peer(name):
    return next(p for p in peers.PEERS if p.name == name)


def row(name):
    return next(r for r in peers.ROWS if r.name == name)


def plan(name, values, metric="ns_per_op", of="park"):
    p = peers.make_plan(peer(name), row(of), f"{of}/w1", 1, EVERYTHING, False)
    p.values[metric] = values
    return p


class Arithmetic(unittest.TestCase):
    def test_a_quantile_is_a_sample_that_the_share_does_not_exceed(self):
        ordered = list(range(1, 101))
        self.assertEqual([peers.quantile(ordered, q) for q in (0.01, 0.5, 0.99, 0.999, 1.0)], [1, 50, 99, 100, 100])
        self.assertEqual(peers.quantile([7], 0.001), 7)
        self.assertRaises(ValueError, peers.quantile, [], 0.5)

    def test_a_ratio_is_taken_inside_a_round(self):
        self.assertEqual(peers.ratios({0: 8.0, 1: 20.0, 2: 9.0}, {0: 4.0, 1: 10.0}), [2.0, 2.0])
        self.assertEqual(peers.ratios({0: 8.0}, {1: 4.0}), [])
        self.assertEqual(peers.ratios({0: 8.0}, {0: 0.0}), [])

    def test_spread_is_relative_to_the_median(self):
        self.assertEqual(peers.spread([8.0, 20.0, 10.0]), 1.2)
        self.assertIsNone(peers.spread([8.0]))
        self.assertIsNone(peers.spread([0.0, 0.0]))

    def test_operations_grow_towards_the_target(self):
        self.assertEqual(peers.next_ops(1000, 0.001, 0.1, 10**9), 100_000)
        self.assertEqual(peers.next_ops(1000, 1e-9, 0.1, 10**9), 100_000)  # never more than 100 times
        self.assertEqual(peers.next_ops(1000, 10.0, 0.1, 10**9), 10)
        self.assertEqual(peers.next_ops(1000, 0.001, 0.1, 5_000), 5_000)
        self.assertEqual(peers.next_ops(1, 1000.0, 0.1, 10), 1)

    def test_others_count_beyond_what_ticks_can_tell(self):
        self.assertFalse(peers.disturbed(0.02, 0.1, 1))
        self.assertTrue(peers.disturbed(0.03, 0.1, 1))
        self.assertFalse(peers.disturbed(0.09, 1.0, 2))
        self.assertTrue(peers.disturbed(0.11, 1.0, 2))

    def test_busy_time_is_that_of_the_cpus_asked_for(self):
        text = "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 100 10 50 9999 9999 3 2 5 0 0\ncpu1 1 0 0 9 9 0 0 0 0 0\ncpu10 7 7 7 7 7 7 7 7 7 7\n"
        self.assertEqual(peers.busy_seconds([0], text), 170 / peers.TICK)
        self.assertEqual(peers.busy_seconds([0, 1], text), 171 / peers.TICK)


class Words(unittest.TestCase):
    def test_figures_are_three_words(self):
        self.assertEqual(peers.parse_output("ns_per_op 9.5 ns\n\nwarning: a b c\nseconds 1e-3 s\n"), {"ns_per_op": 9.5, "seconds": 0.001})

    def test_a_list_has_rows_reasons_and_notes(self):
        said = peers.parse_list("workers 2\nrow yield\nnote yield by another name\nlacks mutex has no mutex\n")
        self.assertEqual(said, (2, {"yield"}, {"mutex": "has no mutex"}, {"yield": "by another name"}))


class Tables(unittest.TestCase):
    def test_every_measurement_has_its_own_key(self):
        keys = [key for r in peers.ROWS for key, _ in r.measurements()]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertIn(peers.FLOOR[0], keys)

    def test_every_peer_has_a_program_and_packages(self):
        for p in peers.PEERS:
            self.assertTrue(os.path.isdir(os.path.join(peers.PROGRAMS, p.name)), p.name)
            self.assertTrue(p.packages, p.name)

    def test_every_metric_has_a_unit(self):
        for r in peers.ROWS:
            for metric in r.metrics:
                self.assertIn(metric, peers.UNITS)


class Plans(unittest.TestCase):
    def plan(self, name, of, workers=1, said=EVERYTHING, quick=False):
        return peers.make_plan(peer(name), row(of), "key", workers, said, quick)

    def test_a_peer_that_is_not_there_says_why(self):
        self.assertEqual(self.plan("go", "park", said="not built: go is not there").reason, "not built: go is not there")

    def test_a_row_that_a_peer_lacks_says_why(self):
        self.assertEqual(self.plan("go", "park", said=(256, {"yield"}, {"park": "has no park"}, {})).reason, "has no park")
        self.assertEqual(self.plan("go", "park", said=(256, {"yield"}, {"*": "no scheduler"}, {})).reason, "no scheduler")
        self.assertEqual(self.plan("go", "park", workers=2, said=(1, {"park"}, {}, {})).reason, "uses one kernel thread")

    def test_fewer_threads_are_said_or_refused(self):
        bent = self.plan("pth", "memory:100000")
        self.assertEqual((bent.threads, bent.reason, bent.note), (1000, "", "1,000 threads"))
        self.assertIn("not with more than 1,000", self.plan("pth", "yield:10000").reason)

    def test_quick_runs_have_fewer_threads(self):
        self.assertEqual(self.plan("lwp", "skynet").threads, 100_000)
        self.assertEqual(self.plan("lwp", "skynet", quick=True).threads, 10_000)


class Verdict(unittest.TestCase):
    def test_who_is_faster_by_more_than_a_twentieth_wins(self):
        ours = plan("lwp", {0: 10.0, 1: 10.0})
        self.assertIsNone(peers.winner([ours, plan("go", {0: 9.8, 1: 9.8})], "ns_per_op"))
        best = peers.winner([ours, plan("go", {0: 9.0, 1: 9.0}), plan("tokio", {0: 5.0, 1: 6.0})], "ns_per_op")
        self.assertEqual((best[0].peer.name, best[1]), ("tokio", 0.55))

    def test_the_floor_is_not_in_the_contest(self):
        self.assertIsNone(peers.winner([plan("lwp", {0: 10.0}), plan("boost_context", {0: 1.0})], "ns_per_op"))

    def test_a_cell_has_the_ratio_first_and_marks_disturbance(self):
        ours, theirs = plan("lwp", {0: 10.0}), plan("go", {0: 25.0})
        self.assertEqual(peers.cell(theirs, ours, "ns_per_op"), "2.50x (25 ns)")
        theirs.disturbed.add(0)
        self.assertEqual(peers.cell(theirs, ours, "ns_per_op"), "2.50x (25 ns*)")
        theirs.reason = "gone"
        self.assertEqual(peers.cell(theirs, ours, "ns_per_op"), "-")


# A second for whatever it is asked: the calibration is content at once.
PRETENDER = """#!/bin/sh
if [ "$1" = list ]; then
	printf 'workers 1\\nrow park\\nrow yield\\nrow handover_latency\\nrow mutex\\n'
	exit 0
fi
case {name}:$2 in
boost_fiber:yield) kill -SEGV $$ ;;
go:yield) echo "lost count" >&2; exit 1 ;;
esac
for word in "$@"; do
	case $word in
	samples=*) cp "{samples}" "${{word#samples=}}" ;;
	esac
done
printf 'ns_per_op {each} ns\\nseconds 1 s\\n'
"""


class WholeRuns(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.build = self.folder.name
        self.samples = os.path.join(self.build, "recorded")
        with open(self.samples, "wb") as file:
            array.array("Q", range(1000, 0, -1)).tofile(file)
        for p in peers.PEERS:
            if p.name != "tokio":
                self.pretend(p.name)
        self.library = os.path.join(self.build, "liblwp.a")
        open(self.library, "w").close()
        # What is there is newer than its sources and not built; what is not is built by nobody.
        self.commands, peers.compile_command = peers.compile_command, lambda p, build, library: ["/nonexistent/compiler"]
        self.addCleanup(setattr, peers, "compile_command", self.commands)
        self.others, peers.disturbed = peers.disturbed, lambda *_: False
        self.addCleanup(setattr, peers, "disturbed", self.others)

    def pretend(self, name):
        path = os.path.join(self.build, name)
        with open(path, "w") as file:
            file.write(PRETENDER.format(name=name, samples=self.samples, each={"lwp": 10, "boost_fiber": 20, "go": 5}.get(name, 40)))
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        os.utime(path, (2**32, 2**32))

    def run_bench(self, *more):
        out, self.json = io.StringIO(), os.path.join(self.build, "out.json")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            status = peers.main(["--library", self.library, "--build", self.build, "--json", self.json, "--budget", "600", *more])
        return status, out.getvalue()

    def test_rows_ratios_and_reasons(self):
        status, out = self.run_bench("--rounds", "2", "^(park|yield:2)/w1")
        self.assertEqual(status, 0)
        self.assertIn("lwp 10 ns; ", out)
        self.assertIn("Boost.Fiber 2.00x (20 ns)", out)
        self.assertIn("<- Go wins", out)
        self.assertIn("Boost.Fiber: died of SIGSEGV", out)
        self.assertIn("Go: lost count", out)
        self.assertIn("tokio: not built: /nonexistent/compiler is not there", out)
        self.assertIn("2 round(s)", out)

    def test_what_could_not_be_installed_says_so(self):
        _, out = self.run_bench("--quick", "--unavailable", "tokio=apt-get cannot install cargo", "^park/w1")
        self.assertIn("tokio: not installed: apt-get cannot install cargo", out)

    def test_two_kernel_threads_are_not_asked_of_a_peer_with_one(self):
        status, out = self.run_bench("--quick", "^park/w2")
        self.assertEqual(status, 1)  # nothing was measured
        self.assertIn("uses one kernel thread", out)

    def test_latencies_are_those_of_the_samples(self):
        self.run_bench("--quick", "^handover/w1")
        with open(self.json) as file:
            ours = next(r for r in json.load(file)["rows"] if r["peer"] == "lwp")
        self.assertEqual((ours["values"]["p50"]["0"], ours["values"]["p99"]["0"], ours["values"]["p99.9"]["0"]), (500, 990, 999))
        self.assertEqual(len(ours["curves"][0]), len(peers.GRID))

    def test_a_quantile_needs_a_sample_beyond_it(self):
        with open(self.samples, "wb") as file:
            array.array("Q", range(100)).tofile(file)
        values, _ = peers.sample_values(self.samples)
        self.assertIn("p99", values)
        self.assertNotIn("p99.9", values)

    def test_a_disturbed_run_is_repeated_and_marked(self):
        peers.disturbed = lambda *_: True
        _, out = self.run_bench("--quick", "^park/w1")
        self.assertIn("lwp 10 ns*", out)
        self.assertRegex(out, r"[1-9]\d* runs repeated because of others")

    def test_a_program_that_hangs_is_ended(self):
        path = os.path.join(self.build, "hang")
        with open(path, "w") as file:
            file.write(f"#!{sys.executable}\nimport signal\nwhile True: signal.pause()\n")
        os.chmod(path, 0o755)
        with self.assertRaisesRegex(peers.Failure, "did not end in 1 s"):
            peers.execute([path], sorted(os.sched_getaffinity(0))[:1], 1.0)

    def test_the_report_has_tables_winners_reasons_and_plots(self):
        self.run_bench("--rounds", "2", "^(park|yield:.*|handover)/w1")
        target = os.path.join(self.build, "docs")
        report.main([self.json, target])
        with open(os.path.join(target, "benchmarks.md")) as file:
            text = file.read()
        self.assertIn("| hand-over by park and unpark (**Go wins**) | 10 ns |", text)
        self.assertIn("died of SIGSEGV", text)
        pictures = os.listdir(os.path.join(target, "benchmarks"))
        self.assertIn("yield.svg", pictures)
        self.assertIn("handover.svg", pictures)
        for name in pictures:
            self.assertIn(f"benchmarks/{name}", text)
            xml.dom.minidom.parse(os.path.join(target, "benchmarks", name))


if __name__ == "__main__":
    unittest.main()
