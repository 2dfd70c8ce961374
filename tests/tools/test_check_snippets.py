#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# tools/check_snippets.py: the code in the tree's documents compiles and their links lead somewhere; and in documents written here every
# planted mistake is found at its line.
import contextlib
import importlib.util
import io
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("check_snippets", ROOT / "tools" / "check_snippets.py")
snippets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(snippets)


def run(*arguments):
    """Exit status and everything that was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = snippets.main([str(argument) for argument in arguments])
    return status, out.getvalue()


class Tree(unittest.TestCase):
    def test_every_document(self):
        status, said = run("--root", ROOT)
        self.assertEqual(status, 0, said)

    def test_the_guide_has_code(self):
        text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
        languages = {language for _, language, _, _ in snippets.blocks(text)}
        self.assertEqual(languages, {"cpp", "c"})


class Planted(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lwp_snippets.")
        self.addCleanup(folder.cleanup)
        self.document = pathlib.Path(folder.name) / "text.md"

    def check(self, text):
        self.document.write_text(text, encoding="utf-8")
        return run("--root", ROOT, self.document)

    def test_good_blocks_pass_and_are_counted(self):
        status, said = self.check("```cpp\n#include <lwp/thread.hpp>\nint main() { lwp::thread([] {}).join(); }\n```\n"
                                  "<!-- statements -->\n```cpp\n#include <vector>\nstd::vector<lwp::thread> v;\nv.clear();\n```\n"
                                  "<!-- statements -->\n```c\n(void)_lwp_self();\n```\n"
                                  "```sh\nthis is not compiled\n```\n")
        self.assertEqual(status, 0, said)
        self.assertIn("3 blocks compiled", said)

    def test_wrong_program_is_found_at_its_line(self):
        status, said = self.check("text\n\n```cpp\n#include <lwp/thread.hpp>\nint main() { lwp::thred t; }\n```\n")
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"text\.md:5:.*thred")

    def test_wrong_statement_is_found_at_its_line(self):
        status, said = self.check("<!-- statements -->\n```c\n#include <stdlib.h>\n\nint n = 1;\nshove(n);\n```\n")
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"text\.md:6:.*shove")

    def test_warning_is_an_error(self):
        status, said = self.check("<!-- statements -->\n```c\nint unused = 1;\n```\n")
        self.assertEqual(status, 1, said)
        self.assertIn("unused", said)

    def test_c_is_not_compiled_as_cpp(self):
        status, said = self.check("```c\n#include <stdlib.h>\nint *f(void);\nint *f(void) { return malloc(4); }\n```\n")
        self.assertEqual(status, 0, said)

    def test_dead_link_is_found(self):
        status, said = self.check("[here](text.md) [web](https://example.org/) [part](#x)\n\n[gone](missing.md#part)\n")
        self.assertEqual(status, 1, said)
        self.assertIn("text.md:3: there is no missing.md", said)
        self.assertIn(" 1 things wrong", said)

    def test_missing_document_is_an_error(self):
        status, said = run("--root", ROOT, self.document)
        self.assertEqual(status, 2, said)


if __name__ == "__main__":
    unittest.main()
