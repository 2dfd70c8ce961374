#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/doxygen_filter.py: what Doxygen is told of headers and documents."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import doxygen_filter  # noqa: E402


def header(text):
    """The comments, each in one line, and the lines of code, without empty ones."""
    result, inside = [], None
    for line in doxygen_filter.header(text.split("\n")):
        if line.strip() == "/**":
            inside = []
        elif inside is not None and line.strip() == "*/":
            result.append("DOC " + " ".join(inside))
            inside = None
        elif inside is not None:
            inside.append(line.strip())
        elif line.strip():
            result.append(line.strip())
    return result


TOP = "// SPDX-License-Identifier: BSD-2-Clause\n//\n// A thing.\n"


class Headers(unittest.TestCase):
    def test_the_comment_at_the_top_is_the_files(self):
        self.assertEqual(header(TOP + "\nint a;\n"), ["DOC \\file  A thing.", "int a;"])
        self.assertEqual(header("/* SPDX-License-Identifier: BSD-2-Clause\n *\n * A thing.\n */\nint a;\n"), ["DOC \\file  A thing.", "int a;"])

    def test_a_comment_is_about_all_that_follow_it_directly(self):
        text = "class x {\n\t/// Says a.\n\tint a(int,\n\t    int);\n\tint b() {\n\t\treturn 1;\n\t}\n\n\tint c();\n\t/// Says d.\n\tint d();\n};\n"
        self.assertEqual(header(TOP + text)[1:], [
            "class x {", "DOC Says a.", "int a(int,", "int);", "DOC Says a.", "int b() {", "return 1;", "}", "int c();", "DOC Says d.", "int d();", "};"])

    def test_what_has_its_own_comment_keeps_it(self):
        self.assertEqual(header(TOP + "/// A.\nint a;\nint b;  ///< B.\n")[1:], ["DOC A.", "int a;", "int b;  ///< B."])

    def test_what_is_as_one_expects_needs_none(self):
        text = "class x {\n\tx(const x &) = delete;\n\tx(x &&other) noexcept;\n\tx &operator=(x &&) noexcept = default;\n\t~x();\n\tint f();\n};\n"
        lines = header(TOP + text)[1:]
        self.assertEqual(lines.count("DOC As one expects."), 4)
        self.assertNotEqual(lines[lines.index("int f();") - 1], "DOC As one expects.")

    def test_what_is_std_s_is_said_so(self):
        self.assertIn("DOC As `std`'s.", header(TOP.replace("A thing.", "std's <x> on LWPs.") + "class x {\n\tint f();\n};\n"))
        self.assertNotIn("DOC As `std`'s.", header(TOP + "class x {\n\tint f();\n};\n"))

    def test_the_inside_of_a_class_is_not_its_comment_s(self):
        self.assertEqual(header(TOP + "/// X.\nstruct x {\n\tint a;\n};\n")[1:], ["DOC X.", "struct x {", "int a;", "};"])

    def test_macros_share_one_too(self):
        self.assertEqual(header(TOP + "/** Both. */\n#define A 1\n#define B 2\n\n#define C 3\n")[1:], [
            "DOC Both.", "#define A 1", "DOC Both.", "#define B 2", "#define C 3"])

    def test_text_is_text(self):
        self.assertEqual(doxygen_filter.escaped("*x and <y>, `*z`"), "\\*x and \\<y\\>, `*z`")
        self.assertEqual(doxygen_filter.escaped("`a's`, b's, `c`"), "``a's``, b's, `c`")
        self.assertEqual(doxygen_filter.body(["a", "  b   c", "d"]), ["a", "\\verbatim", "  b   c", "\\endverbatim", "d"])


class Documents(unittest.TestCase):
    def document(self, text):
        return doxygen_filter.document(ROOT / "docs" / "guide.md", text)

    def test_headings_have_names(self):
        self.assertEqual(self.document("# A\n## B `c` d\n"), ["# A {#guide}", "## B `c` d {#guide--b-c-d}"])

    def test_links_lead_to_pages(self):
        self.assertEqual(self.document("[a](../ARCHITECTURE.md#b) [c](#d)"), ["[a](@ref architecture--b) [c](@ref guide--d)"])
        self.assertEqual(self.document("[a](https://b) ![c](d/e.svg)"), ["[a](https://b) ![c](e.svg)"])

    def test_and_to_files_by_name(self):
        self.assertEqual(self.document("[examples](../examples)"), ["`examples`"])

    def test_code_is_left_alone(self):
        self.assertEqual(self.document("```cpp\n[a](b)\n```\n    [c](d)"), ["~~~{.cpp}", "[a](b)", "~~~", "    [c](d)"])


if __name__ == "__main__":
    unittest.main()
