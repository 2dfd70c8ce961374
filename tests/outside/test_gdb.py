#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/gdb/lwp.py in gdb on target.cpp: stopped at a breakpoint, as a core file, and without debug information.

    test_gdb.py PROGRAM     exit status 77: gdb is not there, or may not debug
"""

import glob
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "gdb" / "lwp.py"
PROGRAM = ""
SKIPPED = 77

ENVIRONMENT = {**os.environ, "LWP_VCPUS": "2", "DEBUGINFOD_URLS": ""}


def gdb(*arguments, commands):
    """What gdb prints at these commands."""
    line = ["gdb", "--nx", "--batch", "-ex", "set width 0", "-ex", "set style enabled off"]
    for command in commands:
        line += ["-ex", command]
    done = subprocess.run(line + list(arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False)
    return done.stdout


def at_breakpoint(*commands, program=None):
    begin = [f"source {SCRIPT}", "break everybody_is_there", "run"]
    return gdb(program or PROGRAM, commands=[*begin, *commands])


def rows(text):
    """name -> (id, state, the rest) of `info lwps`."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"[* ] +(\d+)  (\w+) +(\w+) *(.*)", line)
        if match:
            found[match[3]] = (int(match[1]), match[2], match[4])
    return found


class Looks(unittest.TestCase):
    """What every way to look must show; `look` runs commands where the program stands."""

    def check_list(self, text):
        found = rows(text)
        self.assertEqual(set(found), {"first", "sleeper", "waiter", "hog", "still", "outside"}, text)
        self.assertRegex(found["sleeper"][2], r"^nanosleep 0x[0-9a-f]+")
        self.assertRegex(found["waiter"][2], r"^mutex 0x[0-9a-f]+$")
        self.assertRegex(found["hog"][2], r"^vCPU \d+, thread \d+$")
        self.assertRegex(found["outside"][2], r"thread \d+$")
        states = {name: row[1] for name, row in found.items()}
        wanted = {"sleeper": "sleep", "waiter": "sleep", "hog": "onproc", "still": "suspended", "outside": "sleep"}
        self.assertEqual({name: states[name] for name in wanted}, wanted, text)
        return found

    def check_stacks(self, text):
        """Of `lwp apply all bt`."""
        parts = dict(re.findall(r"^LWP \d+ '(\w+)' \(\w+\):\n((?:.+\n?)*)", text, re.MULTILINE))
        for name, functions in {
            "sleeper": ["deepest", "deep", "deep", "deep", "deep", "context_begin"],
            "waiter": ["wants_mutex", "context_begin"],
            "hog": ["computes", "context_begin"],
            "still": ["context_begin"],
            "outside": ["lwp_sleep_until"],  # the C library may have no names here
        }.items():
            names = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(?:\w+::|\(anonymous namespace\)::)*(\w+)", parts.get(name, ""), re.MULTILINE)
            rest = iter(names)
            for function in functions:
                self.assertTrue(any(n.startswith(function) for n in rest), f"{name}: no {function}, in this order\n{text}")
            self.assertNotIn("everybody_is_there", names)

    def test_of_a_program_that_stands(self):
        text = at_breakpoint("info lwps", "lwp apply all bt", "info lwps hog", "info lwps still sleep", "kill")
        listed, _, rest = text.partition("\n\nLWP ")
        self.check_list(listed)
        self.check_stacks("LWP " + rest)

    def test_choosing_one(self):
        ids = self.check_list(at_breakpoint("info lwps", "kill"))
        text = at_breakpoint(
            f"lwp {ids['sleeper'][0]}", "print mark", "up", "print depth", "lwp", "info lwps", "lwp off", "bt", "lwp", f"print $lwp({ids['waiter'][0]})", "kill"
        )
        chosen, _, off = text.partition("* ")  # the mark of the chosen one in the list
        self.assertIn("'sleeper' (sleep)", chosen)
        self.assertRegex(chosen, r"#\d+ .*deepest \(depth=")
        self.assertIn("$1 = 1003", chosen)
        self.assertIn("$2 = 3", chosen)
        self.assertRegex(off, r"\A +\d+  sleep +sleeper")
        self.assertRegex(off, r"#0 .*everybody_is_there")
        self.assertIn("'first' (onproc)", off)
        self.assertRegex(off, r"\$3 = \(.*\) 0x[0-9a-f]+")

    def test_of_a_core_file(self):
        with tempfile.TemporaryDirectory() as directory:
            def with_core():
                resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            try:
                subprocess.run([PROGRAM], cwd=directory, env=ENVIRONMENT, preexec_fn=with_core, stderr=subprocess.DEVNULL, timeout=200, check=False)
            except subprocess.SubprocessError:
                self.skipTest("core files are not allowed here")
            cores = glob.glob(os.path.join(directory, "core*"))
            if not cores:
                self.skipTest("core files go elsewhere here (/proc/sys/kernel/core_pattern)")
            text = gdb(PROGRAM, cores[0], commands=[f"source {SCRIPT}", "info lwps", "lwp apply all bt"])
            listed, _, rest = text.partition("\n\nLWP ")
            self.check_list(listed)
            self.check_stacks("LWP " + rest)

    def test_without_debug_information(self):
        with tempfile.TemporaryDirectory() as directory:
            stripped = os.path.join(directory, "stripped")
            shutil.copy(PROGRAM, stripped)
            subprocess.run(["strip", "--strip-debug", stripped], check=True)
            text = at_breakpoint("info lwps", "lwp apply all bt", "kill", program=stripped)
            listed, _, rest = text.partition("\n\nLWP ")
            self.check_list(listed)
            self.check_stacks("LWP " + rest)

    def test_what_cannot_be(self):
        text = at_breakpoint("lwp 123456", "kill")
        self.assertIn("there is no LWP 123456", text)
        text = at_breakpoint("lwp hog", "kill")
        self.assertIn("'hog' is no id", text)
        text = at_breakpoint("lwp apply bt", "kill")
        self.assertIn("which LWPs, and which command?", text)
        text = at_breakpoint("info lwps nobody", "kill")
        self.assertIn("No such LWPs.", text)
        text = gdb(PROGRAM, commands=[f"source {SCRIPT}", "info lwps"])
        self.assertIn("No LWPs.", text)
        text = gdb("/bin/true", commands=[f"source {SCRIPT}", "info lwps"])
        self.assertIn("the program does not have the library", text)


def may_debug():
    """None, or why not."""
    if shutil.which("gdb") is None:
        return "gdb is not installed"
    text = gdb("/bin/true", commands=["python print('py' + 'thon')", "run"])
    if "python" not in text:
        return "this gdb has no Python"
    if "exited normally" not in text:
        return "gdb may not run programs here: " + text.strip().splitlines()[-1]
    return None


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    reason = may_debug()
    if reason is not None:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    unittest.main()
