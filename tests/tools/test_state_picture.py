#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/state_picture.py: the tree's ARCHITECTURE.md is what the code says; and in a copy of the tree every planted change is found,
# named, and gone after a rewrite.
import contextlib
import importlib.util
import io
import pathlib
import shutil
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("state_picture", ROOT / "tools" / "state_picture.py")
picture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(picture)


def run(*arguments):
    """Exit status and everything that was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = picture.main([str(argument) for argument in arguments])
    return status, out.getvalue()


class Tree(unittest.TestCase):
    def test_architecture_says_what_the_code_says(self):
        status, said = run("--check", ROOT)
        self.assertEqual(status, 0, said)

    def test_every_row_of_the_tables_is_shown(self):
        model = picture.Model(ROOT)
        text = picture.generated(model)
        self.assertEqual([name for _, name, _, _ in model.states],
                         ["LSIDL", "LSRUN", "LSONPROC", "LSSLEEP", "LSSTOP", "LSSUSPENDED", "LSZOMB"])
        self.assertEqual(text.count(" --> "), len(model.edges))
        for start, to, _, why in model.edges:
            self.assertIn(f"| {model.name[start]} | {model.name[to]} | {why} |", text)
        for number, (rank, what) in enumerate(model.ranks, 1):
            self.assertIn(f"| {number} | `{rank}` | {what} |", text)


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lwp_picture.")
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        shutil.copytree(ROOT / "src", self.root / "src")
        shutil.copy(ROOT / "ARCHITECTURE.md", self.root)
        self.assertEqual(run(self.root)[0], 0)  # whatever the tree's state: from here on it is up to date

    def replace(self, file, old, new):
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def is_found(self, *words):
        before = (self.root / "ARCHITECTURE.md").read_text(encoding="utf-8")
        status, said = run("--check", self.root)
        self.assertEqual(status, 1, said)
        for word in words:
            self.assertIn(word, said)
        self.assertEqual((self.root / "ARCHITECTURE.md").read_text(encoding="utf-8"), before, "--check wrote")
        self.assertEqual(run(self.root)[0], 0)
        self.assertEqual(run("--check", self.root)[0], 0)

    def test_reason_of_an_edge(self):
        self.replace(picture.STATES_FILE, '"blocked"', '"went to bed"')
        self.is_found("went to bed")

    def test_new_edge(self):
        self.replace(picture.STATES_FILE, "X(run, run,", 'X(run, zomb, "proc/exit", "struck by lightning") X(run, run,')
        self.is_found("LSRUN --> LSZOMB : struck by lightning")

    def test_lock_of_a_state(self):
        self.replace(picture.STATES_FILE, '"LSIDL", vcpu_lwp, vcpu_lwp', '"LSIDL", run_queue, run_queue')
        self.is_found("| LSIDL | `run_queue` |")

    def test_order_of_locks(self):
        self.replace(picture.RANKS_FILE, "X(runtime,", "X(shiny,\"new\") X(runtime,")
        self.is_found("| 1 | `shiny` | new | none |")

    def test_another_file_that_sets_a_state(self):
        (self.root / "src/proc/odd.cpp").write_text("void f(lwp_t *l) { lwp_setstat(l, lwp_stat::stop, &l->l_cpu->vc_lwplock); }\n",
                                                    encoding="utf-8")
        self.is_found("proc/odd.cpp")

    def test_hand_edited_picture(self):
        self.replace("ARCHITECTURE.md", "LSRUN --> LSONPROC", "LSRUN --> LSSTOP")
        self.is_found("LSRUN --> LSONPROC")

    def test_what_stands_outside_the_markers_stays(self):
        self.replace("ARCHITECTURE.md", picture.BEGIN, "kept before\n" + picture.BEGIN)
        self.replace("ARCHITECTURE.md", picture.END, picture.END + "\nkept after")
        self.replace(picture.STATES_FILE, '"blocked"', '"went to bed"')
        self.assertEqual(run(self.root)[0], 0)
        text = (self.root / "ARCHITECTURE.md").read_text(encoding="utf-8")
        self.assertIn("kept before\n" + picture.BEGIN, text)
        self.assertIn(picture.END + "\nkept after", text)

    def test_what_cannot_be_read_is_an_error(self):
        for file, old, new in [
                ("ARCHITECTURE.md", picture.END, ""),
                (picture.STATES_FILE, "#define LWP_EDGES(X)", "#define EDGES(X)"),
                (picture.STATES_FILE, "X(run, run,", "X(run, nowhere,"),
                (picture.STATES_FILE, '"LSIDL", vcpu_lwp, vcpu_lwp', '"LSIDL", vcpu_lwp, padlock'),
                (picture.STATES_FILE, '"dispatched")', '"dispatched", 3)'),
                (picture.RANKS_FILE, "X(leaf,", "Y(leaf,"),
        ]:
            with self.subTest(old=old, new=new):
                path = self.root / file
                text = path.read_text(encoding="utf-8")
                self.replace(file, old, new)
                status, said = run("--check", self.root)
                self.assertEqual(status, 2, said)
                self.assertIn("state_picture.py: ", said)
                path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    unittest.main()
