#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Checks that the code in the documents compiles and that their links lead somewhere.

    check_snippets.py [--root ROOT] [FILE.md...]    default: README.md, ARCHITECTURE.md, CONTRIBUTING.md and docs/*.md of ROOT

Every block that begins with ```cpp or ```c is compiled alone against ROOT/include, with warnings as errors and without output.  A block
is a whole source file, unless the line before it says <!-- statements -->: then it is the body of a function, after whatever #include
lines it begins with and `#include <lwp/lwp.hpp>` (C: <lwp/lwp.h>).  Compilers: CXX and CC from the environment, else c++ and cc.
A link to a file of the tree, ](path), must name one that is there.  Exit status: 0; 1 something is wrong, all of it printed; 2 no
compiler, or no such document.
"""

import argparse
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
LANGUAGES = {
    "cpp": ("CXX", "c++", ".cpp", ["-std=c++20"], "#include <lwp/lwp.hpp>\n", "void snippet();\nvoid snippet()"),
    "c": ("CC", "cc", ".c", ["-std=gnu11"], "#include <lwp/lwp.h>\n", "void snippet(void);\nvoid snippet(void)"),
}


class Failure(Exception):
    """What keeps the check from being made."""


def blocks(text):
    """(line, language, code, is it statements) of every block in a language that is compiled."""
    for match in FENCE.finditer(text):
        if match[1] in LANGUAGES:
            before = text[:match.start()].rstrip("\n").rsplit("\n", 1)[-1].strip()
            yield text.count("\n", 0, match.start(2)) + 1, match[1], match[2], before == "<!-- statements -->"


def source(language, code, statements, name, line):
    """The file to compile; the compiler counts lines as the document does."""
    where = f'#line {line} "{name}"\n'
    if not statements:
        return where + code
    _, _, _, _, header, function = LANGUAGES[language]
    lines = code.splitlines(keepends=True)
    includes = 0
    while includes < len(lines) and (lines[includes].startswith("#include") or not lines[includes].strip()):
        includes += 1
    return f'{header}{where}{"".join(lines[:includes])}{function} {{\n#line {line + includes} "{name}"\n{"".join(lines[includes:])}}}\n'


def compile_block(root, folder, language, text):
    """What the compiler says; empty if it has nothing to say."""
    variable, default, suffix, options, _, _ = LANGUAGES[language]
    path = pathlib.Path(folder) / ("snippet" + suffix)
    path.write_text(text, encoding="utf-8")
    compiler = shlex.split(os.environ.get(variable) or default)
    try:
        done = subprocess.run([*compiler, *options, *WARNINGS, "-I", str(root / "include"), str(path)], capture_output=True, text=True)
    except OSError as error:
        raise Failure(f"cannot run {compiler[0]}: {error.strerror}") from error
    return "" if done.returncode == 0 else done.stderr or f"{compiler[0]}: exit status {done.returncode}\n"


def dead_links(document, text):
    """(line, target) of every link to a file that is not there."""
    prose = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in LINK.finditer(prose):
        target = match[1].split("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not (document.parent / target).exists():
            yield prose.count("\n", 0, match.start()) + 1, target


def check(root, documents):
    """Prints what is wrong; returns how many things are, and how many blocks were compiled."""
    wrong, compiled = 0, 0
    with tempfile.TemporaryDirectory(prefix="lwp_snippets.") as folder:
        for document in documents:
            try:
                text = document.read_text(encoding="utf-8")
            except OSError as error:
                raise Failure(f"{document}: {error.strerror}") from error
            name = os.path.relpath(document, root)
            for line, target in dead_links(document, text):
                print(f"{name}:{line}: there is no {target}")
                wrong += 1
            for line, language, code, statements in blocks(text):
                compiled += 1
                said = compile_block(root, folder, language, source(language, code, statements, name, line))
                if said:
                    print(f"{name}:{line}: this does not compile:\n{said}", end="")
                    wrong += 1
    return wrong, compiled


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent, metavar="ROOT")
    parser.add_argument("documents", nargs="*", type=pathlib.Path, metavar="FILE.md")
    options = parser.parse_args(argv)
    root = options.root.resolve()
    documents = options.documents or [
        root / "README.md", root / "ARCHITECTURE.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    try:
        wrong, compiled = check(root, documents)
    except Failure as failure:
        print(f"check_snippets.py: {failure}", file=sys.stderr)
        return 2
    print(f"{len(documents)} documents, {compiled} blocks compiled, {wrong} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
