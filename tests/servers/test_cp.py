#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""cp: files and trees arrive as they are; what cannot be copied is named."""

import filecmp
import os
import subprocess
import tempfile
import unittest

from harness import LIMIT, PROGRAMS, HelpCase, main, run

CP = os.path.join(PROGRAMS, "cp")


class Cp(HelpCase, unittest.TestCase):
    name = "cp"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.addCleanup(folder.cleanup)
        self.root = folder.name

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def write(self, content, *parts):
        os.makedirs(os.path.dirname(self.path(*parts)), exist_ok=True)
        with open(self.path(*parts), "wb") as f:
            f.write(content)
        return self.path(*parts)

    def assert_same(self, one, two):
        compared = filecmp.dircmp(one, two)
        self.assertEqual((compared.left_only, compared.right_only), ([], []))
        self.assertEqual(filecmp.cmpfiles(one, two, compared.common_files, shallow=False)[1:], ([], []))
        for name in compared.common_dirs:
            self.assert_same(os.path.join(one, name), os.path.join(two, name))

    def test_one_file(self):
        for size in (0, 1, 262_143, 262_144, 262_145, 5_000_000):
            source = self.write(os.urandom(size), "source")
            os.chmod(source, 0o640)
            run(CP, source, self.path("target"))
            self.assertTrue(filecmp.cmp(source, self.path("target"), shallow=False))
            os.remove(self.path("target"))

    def test_a_tree_with_a_bar(self):
        for i in range(50):
            self.write(os.urandom(i * 1000), "tree", f"folder{i % 7}", f"file{i}")
        os.makedirs(self.path("tree", "empty"))
        said = run(CP, "--progress", self.path("tree"), self.path("new"))
        self.assertIn(b"100 %", said)
        self.assertIn(b"50 files", said)
        self.assert_same(self.path("tree"), self.path("new"))
        os.makedirs(self.path("there"))
        run(CP, "--workers=1", self.path("tree"), self.path("there"))
        self.assert_same(self.path("tree"), self.path("there", "tree"))

    def test_what_cannot_be_copied_is_named_and_the_rest_copied(self):
        good = self.write(b"good", "good")
        os.makedirs(self.path("target"))
        done = subprocess.run([CP, self.path("none"), good, self.path("target")], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"none: No such file", done.stderr)
        self.assertTrue(filecmp.cmp(good, self.path("target", "good"), shallow=False))

    def test_not_onto_itself(self):
        source = self.write(b"content", "source")
        self.assertEqual(subprocess.run([CP, source, source], stderr=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode, 1)
        with open(source, "rb") as f:
            self.assertEqual(f.read(), b"content")


if __name__ == "__main__":
    main()
