#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/ps/lwp_ps.cpp on target.cpp.

    test_ps.py LWP_PS PROGRAM     exit status 77: processes may not read each other here
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

PS = PROGRAM = ""
SKIPPED = 77


def ps(*arguments):
    return subprocess.run([PS, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100, check=False)


def started(program):
    """The program, once everybody is there."""
    process = subprocess.Popen([program, "wait"], stdout=subprocess.PIPE, text=True, env={**os.environ, "LWP_VCPUS": "2"})
    if process.stdout.readline() != "ready\n":
        raise AssertionError("the program did not come as far")
    return process


def ended(process):
    process.kill()
    process.wait()
    process.stdout.close()


class Ps(unittest.TestCase):
    def check_all(self, text):
        rows = {}
        for line in text.splitlines()[1:]:
            match = re.fullmatch(r" *(\d+) (\w+) +(\d+) +(\d+|-) +(\d+) +([\d.]*) +(\w+) *(.*)", line)
            self.assertIsNotNone(match, line)
            rows[match[7]] = match
        self.assertEqual(set(rows), {"first", "sleeper", "waiter", "hog", "still", "outside"}, text)
        states = {name: match[2] for name, match in rows.items()}
        self.assertEqual(
            states, {"first": "sleep", "sleeper": "sleep", "waiter": "sleep", "hog": "onproc", "still": "suspended", "outside": "sleep"}
        )
        self.assertRegex(rows["waiter"][8], r"^mutex 0x[0-9a-f]+$")
        self.assertRegex(rows["sleeper"][8], r"^nanosleep 0x[0-9a-f]+")
        self.assertEqual(rows["outside"][4], "-")
        self.assertIn(rows["hog"][4], ("0", "1"))
        self.assertGreater(float(rows["waiter"][6]), 0)
        self.assertEqual(rows["hog"][6], "")
        self.assertEqual({match[3] for match in rows.values()}, {"31"})
        return rows

    def test_of_one_that_runs_and_of_one_that_stands(self):
        process = started(PROGRAM)
        try:
            for _ in range(1000):  # it said so before it slept
                if "sleep" in ps(process.pid, "first").stdout:
                    break
            running = ps(process.pid)
            self.assertEqual(running.returncode, 0, running.stderr)
            self.check_all(running.stdout)
            process.send_signal(signal.SIGSTOP)
            stopped = ps("-a", process.pid)
            rows = self.check_all(stopped.stdout)
            one = ps(process.pid, rows["hog"][1], "still")
            self.assertEqual([line.split()[0] for line in one.stdout.splitlines()[1:]], sorted([rows["hog"][1], rows["still"][1]], key=int))
            nobody = ps(process.pid, "nobody")
            self.assertEqual((nobody.returncode, len(nobody.stdout.splitlines())), (1, 1))
        finally:
            ended(process)

    def test_without_symbols(self):
        with tempfile.TemporaryDirectory() as directory:
            stripped = os.path.join(directory, "stripped")
            shutil.copy(PROGRAM, stripped)
            subprocess.run(["strip", stripped], check=True)
            process = started(stripped)
            try:
                self.assertIn("waiter", ps(process.pid).stdout)
            finally:
                ended(process)

    def test_what_cannot_be(self):
        for arguments in [[], ["-x", 1], ["none"], ["0"], ["12x"]]:
            wrong = ps(*arguments)
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("usage:", wrong.stderr)
        self.assertEqual(ps("--help").returncode, 0)
        gone = subprocess.Popen(["true"])
        gone.wait()
        none = ps(gone.pid)
        self.assertEqual((none.returncode, none.stdout), (1, ""))
        self.assertRegex(none.stderr, "^lwp-ps: process [0-9]+: ")
        another = subprocess.Popen(["sleep", "100"])
        try:
            none = ps(another.pid)
            self.assertEqual(none.returncode, 1)
            self.assertIn("does not have the library", none.stderr)
        finally:
            another.kill()
            another.wait()


def may_read():
    another = subprocess.Popen(["sleep", "100"])
    try:
        return "Operation not permitted" not in ps(another.pid).stderr
    finally:
        another.kill()
        another.wait()


if __name__ == "__main__":
    PS, PROGRAM = map(os.path.abspath, sys.argv[1:3])
    del sys.argv[1:3]
    if not may_read():
        print("skipped: processes may not read each other here")
        sys.exit(SKIPPED)
    unittest.main()
